"""Says at the end how many orders were run."""

from __future__ import annotations

import pytest

from .world import RUNS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RUNS["runs"]:
        terminalreporter.write_line(f"interleavings: {RUNS['runs']:,} orders of requests were run")
