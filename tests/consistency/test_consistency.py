"""A short run of every mode, with faults; `python -m tests.consistency` goes on for longer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .controls import CONTROLS
from .running import Run, run
from .world import MODES

SHORT = Run(operations=1000, seconds=4.0)
CAUGHT = Run(operations=100_000, seconds=90.0, enough=1)  # faults come by chance


@pytest.mark.parametrize("mode", list(MODES))
def test_every_answer_is_allowed(mode: str) -> None:
    """Whatever clients do and servers and store suffer, no answer contradicts an earlier one."""
    report = run(MODES[mode], SHORT)

    assert report.violations == [], report.told()
    assert report.outcomes["ACKNOWLEDGED"] > 50, report
    assert sum(report.faults.values()) > 0, report
    if MODES[mode].bound:
        assert report.loads["copy"] + report.loads["replica"] > 0, report


@pytest.mark.parametrize("control", list(CONTROLS))
def test_a_control_is_caught(control: str) -> None:
    """The same clients see at once that a broken variant is broken, most often without a fault."""
    how = replace(CAUGHT, faults=CONTROLS[control].faults)
    report = run(MODES[CONTROLS[control].mode], how, control)

    assert report.violations, report
