"""What docs/stores/operating.md says of robots: its figures are measured anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import robots

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "stores" / "operating.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| (\d+) \|$", PAGE, re.MULTILINE)
SHOWN = {name: int(size) for name, size in ROWS}
FEWER = 5000  # than for the page, so that it takes seconds
APART = 0.25  # share; servers round up what they set aside


@pytest.mark.parametrize("store", robots.STORES)
def test_a_robot_costs_what_the_page_says(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has nothing but the way back takes about so many bytes in each store."""
    monkeypatch.setattr(robots, "ROBOTS", FEWER)
    assert robots.STORES[store]() == pytest.approx(SHOWN[store], rel=APART)
