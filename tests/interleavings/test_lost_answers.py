"""The same when a write's answer is lost."""

from __future__ import annotations

from itertools import product

import pytest

from .orders import ENDS, FAULTS, SOME, count
from .world import KINDS, Fault, Kind, World, explore


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_a_lost_answer_at_each_write(first: Kind, what: str) -> None:
    """A write whose answer is lost, at any place of any order, breaks none of the guarantees."""
    for second in KINDS:
        for write in (1, 2, 3):
            fault = Fault(1, write, what)
            count(explore(lambda: World([first, second], fault=fault), at_once=True))


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("first", SOME, ids=lambda kind: kind.name)
def test_a_lost_answer_after_a_copy(first: Kind, what: str) -> None:
    """A write based on a copy, whose answer is lost, breaks none of the guarantees either."""
    for second, write in product(ENDS, (1, 2)):
        fault = Fault(1, write, what)
        count(explore(lambda: World([first, second], fault=fault, copies=True), at_once=True))
