"""The same when copies may answer the first load."""

from __future__ import annotations

import pytest

from . import world
from .orders import count
from .world import INITIAL, KINDS, Kind, World, explore


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
