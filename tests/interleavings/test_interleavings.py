"""G1, G2, G3 and G5, in every order in which overlapping requests can take their steps."""

from __future__ import annotations

import os
from itertools import combinations_with_replacement, product

import pytest

from . import world
from .world import INITIAL, KINDS, Fault, Kind, World, explore

# Minutes instead of seconds: SHAREDSESSION_INTERLEAVINGS=all
ALL = os.environ.get("SHAREDSESSION_INTERLEAVINGS") == "all"
ENDS = [world.DESTROY, world.RENEW, world.SIGN_IN]
FAULTS = ("repeated", "unknown", "refused")


def count(runs: int) -> None:
    world.RUNS["runs"] += runs


@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_two_requests_in_every_order(first: Kind) -> None:
    """Two requests of one session keep G1, G2, G3 and G5 in every order of their store calls."""
    for second in [*KINDS[KINDS.index(first) :], world.EXPIRE]:
        for initial in (INITIAL, {**INITIAL, "user_id": 9}):
            count(explore(lambda: World([first, second], initial=initial)))


@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_two_requests_of_an_older_cookie_in_every_order(first: Kind) -> None:
    """The same when the touch is due: a touch or its cookie never brings an ended session back."""
    for second in [world.READ, world.SET_SAME, world.SIGN_IN, world.RENEW, world.DESTROY]:
        count(explore(lambda: World([first, second], cookie_age=world.IDLE * 0.2)))


@pytest.mark.parametrize("first", [world.READ, world.SET_SAME], ids=lambda kind: kind.name)
def test_requests_that_repeat_their_cookie_in_every_order(first: Kind) -> None:
    """A cookie that is only set again, as Flask does, displaces no sign-in and revives nothing."""
    for second in [*KINDS, world.EXPIRE]:
        count(explore(lambda: World([first, second], repeat=True)))
    if ALL:
        for others in combinations_with_replacement(ENDS, 2):
            count(explore(lambda: World([first, *others], repeat=True), at_once=True))


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_a_lost_answer_at_each_write(first: Kind, what: str) -> None:
    """A write whose answer is lost, at any place of any order, breaks none of the guarantees."""
    for second in KINDS:
        for write in (1, 2, 3):
            fault = Fault(1, write, what)
            count(explore(lambda: World([first, second], fault=fault), at_once=True))


@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_two_requests_that_copies_may_answer_in_every_order(first: Kind) -> None:
    """A first load answered by a copy of any earlier state breaks none of the guarantees."""
    before = world.RUNS["copies"]
    for second in [*KINDS[KINDS.index(first) :], world.EXPIRE]:
        for initial in (INITIAL, {**INITIAL, "user_id": 9}):
            count(explore(lambda: World([first, second], initial=initial, copies=True)))
    assert world.RUNS["copies"] > before


@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_copies_answer_requests_whose_cookie_is_prolonged_or_repeated(first: Kind) -> None:
    """The same when the touch is due, and where the cookie is only set again."""
    for second in [world.READ, world.SET_SAME, world.SIGN_IN, world.RENEW, world.DESTROY]:
        count(
            explore(
                lambda: World([first, second], cookie_age=world.IDLE * 0.2, copies=True),
                at_once=True,
            )
        )
        count(explore(lambda: World([first, second], repeat=True, copies=True), at_once=True))


SOME = [world.SET_X, world.MUTATE, world.EMPTY_KEYS, world.DESTROY, world.RENEW, world.SIGN_IN]
THREE = KINDS if ALL else SOME
LOST = (
    list(product(SOME, combinations_with_replacement(ENDS, 2)))
    if ALL
    else [
        (world.SET_X, (world.RENEW, world.SIGN_IN)),
        (world.SET_X, (world.DESTROY, world.SIGN_IN)),
        (world.SIGN_IN, (world.SIGN_IN, world.SIGN_IN)),
        (world.DESTROY, (world.RENEW, world.SIGN_IN)),
    ]
)


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


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("first", SOME, ids=lambda kind: kind.name)
def test_a_lost_answer_after_a_copy(first: Kind, what: str) -> None:
    """A write based on a copy, whose answer is lost, breaks none of the guarantees either."""
    for second, write in product(ENDS, (1, 2)):
        fault = Fault(1, write, what)
        count(explore(lambda: World([first, second], fault=fault, copies=True), at_once=True))


@pytest.mark.parametrize("second", SOME, ids=lambda kind: kind.name)
def test_three_requests_and_an_end_of_time(second: Kind) -> None:
    """The same, when the session expires somewhere in between."""
    for third in THREE:
        count(explore(lambda: World([world.EXPIRE, second, third]), at_once=True))
