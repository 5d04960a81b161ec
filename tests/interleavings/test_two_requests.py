"""G1, G2, G3 and G5, in every order in which two overlapping requests can take their steps."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from . import world
from .orders import ALL, ENDS, count
from .world import INITIAL, KINDS, Kind, World, explore


@pytest.mark.parametrize("before", ["nobody", "signed in before"])
@pytest.mark.parametrize("first", KINDS, ids=lambda kind: kind.name)
def test_two_requests_in_every_order(first: Kind, before: str) -> None:
    """Two requests of one session keep G1, G2, G3 and G5 in every order of their store calls."""
    initial = INITIAL if before == "nobody" else {**INITIAL, "user_id": 9}
    for second in [*KINDS[KINDS.index(first) :], world.EXPIRE]:
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
