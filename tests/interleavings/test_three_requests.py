"""The same with three requests that left the browser together."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import pytest

from . import world
from .orders import ALL, ENDS, LOST, SOME, THREE, count
from .world import Fault, Kind, World, explore


@pytest.mark.parametrize("first", THREE, ids=lambda kind: kind.name)
def test_three_requests_in_every_order(first: Kind) -> None:
    """Three requests that left the browser together keep the guarantees in every order."""
    for others in combinations_with_replacement(THREE[THREE.index(first) :], 2):
        count(explore(lambda: World([first, *others]), at_once=True))


@pytest.mark.parametrize(
    ("first", "others"),
    LOST,
    ids=lambda each: each.name if isinstance(each, Kind) else f"{each[0].name}, {each[1].name}",
)
def test_three_requests_and_a_lost_answer(first: Kind, others: tuple[Kind, Kind]) -> None:
    """The same, with the answer of one of the first one's writes lost."""
    for what, write in product(("repeated", "unknown"), (1, 2)):
        fault = Fault(1, write, what)
        count(explore(lambda: World([first, *others], fault=fault), at_once=True))


@pytest.mark.parametrize(
    "first", SOME if ALL else [world.SET_X, world.DESTROY], ids=lambda kind: kind.name
)
def test_three_requests_that_copies_may_answer(first: Kind) -> None:
    """Three requests, of which each may see a copy of any state that another has left behind."""
    for others in combinations_with_replacement(ENDS, 2) if ALL else [(world.SET_Y, world.DESTROY)]:
        count(explore(lambda: World([first, *others], copies=True), at_once=True))


@pytest.mark.parametrize("second", SOME, ids=lambda kind: kind.name)
def test_three_requests_and_an_end_of_time(second: Kind) -> None:
    """The same, when the session expires somewhere in between."""
    for third in THREE:
        count(explore(lambda: World([world.EXPIRE, second, third]), at_once=True))
