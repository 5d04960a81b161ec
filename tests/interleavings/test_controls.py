"""Controls: three well-known ways to get it wrong, each of which the checks must catch."""

from __future__ import annotations

from typing import Any

import pytest

from sharedsession._core import flows
from sharedsession._core.record import Record
from sharedsession._core.state import State
from sharedsession._core.steps import Load, Pause, Touch
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore
from tests.consistency.controls import create_then_delete

from . import world
from .world import Fault, World, explore


class LastWriterWins(MemoryStore):
    """A store whose replace does not compare."""

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        current = self.load(key)
        return None if current is None else super().replace(key, current, *arguments, **more)


def test_a_last_writer_wins_store_is_caught() -> None:
    """Without the comparison, an update is lost, and the checks say so."""
    with pytest.raises(AssertionError, match="G2"):
        explore(lambda: World([world.SET_X, world.SET_Y], store_class=LastWriterWins))


def test_a_last_writer_wins_store_that_revives_is_caught() -> None:
    """Without the comparison, a request in flight brings a signed-out session back."""
    with pytest.raises(AssertionError, match="G3"):
        explore(lambda: World([world.SET_X, world.DESTROY], store_class=LastWriterWins))


@pytest.mark.parametrize(
    ("kinds", "guarantee"),
    [
        ([world.SET_X, world.RENEW], "G2"),
        ([world.RENEW, world.RENEW], "G5"),
        ([world.DESTROY, world.RENEW], "G5"),
    ],
    ids=["a write is lost", "one becomes two", "alive after its end"],
)
def test_create_then_delete_is_caught(
    kinds: list[world.Kind], guarantee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal without the end mark loses a write, makes two of one, and outlives a sign-out."""
    monkeypatch.setattr(flows, "_entomb", create_then_delete)
    explore(lambda: World(kinds[-1:]))  # alone, it does what it should
    with pytest.raises(AssertionError, match=guarantee):
        explore(lambda: World(kinds))


def test_a_removal_cookie_for_a_session_gone_meanwhile_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Removing the cookie of a session found ended signs out whoever has just signed in."""
    lose = State.lose

    def lose_and_remove(state: State, found: object = None) -> None:
        lose(state, found)
        state.removed = True

    monkeypatch.setattr(State, "lose", lose_and_remove)
    with pytest.raises(AssertionError, match=r"G[15]"):
        explore(lambda: World([world.SET_X, world.SIGN_IN]))


def test_a_touch_without_a_look_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing out a cookie after a touch, without looking, displaces a fresh sign-in."""

    def prolong(state: State, *, touch: bool) -> Any:
        if touch and (yield Touch(state.key or "", world.IDLE)):
            state.issue(state.manager.clock())

    monkeypatch.setattr(flows, "_prolong", prolong)
    with pytest.raises(AssertionError, match=r"G[15]"):
        explore(lambda: World([world.READ, world.SIGN_IN], cookie_age=world.IDLE * 0.2))


def test_a_cookie_repeated_without_a_look_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the cookie again from what was loaded, without looking, displaces a sign-in."""

    def prolong(state: State, *, touch: bool) -> Any:
        state.issue()
        yield Pause(0)

    monkeypatch.setattr(flows, "_prolong", prolong)
    with pytest.raises(AssertionError, match=r"G[15]"):
        explore(lambda: World([world.READ, world.SIGN_IN], repeat=True))


def test_looking_again_at_a_copy_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that a copy may answer takes an ended session for one that is alive."""

    def look_again(state: State) -> Any:
        entry = yield Load(state.key or "", state.floor)
        found = state.look(state.key or "", entry)
        if isinstance(found, Record):
            state.entry, state.record = entry, found
        else:
            state.lose(found)

    monkeypatch.setattr(flows, "_look_again", look_again)
    explore(lambda: World([world.SET_X, world.SIGN_IN]))  # without copies it does what it should
    fault = Fault(1, 1, "repeated")
    explore(lambda: World([world.SET_X, world.SIGN_IN], fault=fault), at_once=True)
    with pytest.raises(AssertionError, match=r"G[15]"):
        explore(lambda: World([world.SET_X, world.SIGN_IN], fault=fault, copies=True))


def test_a_cookie_prolonged_by_a_copy_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A touch that looks at a copy hands out a cookie that displaces a fresh sign-in."""

    def prolong(state: State, *, touch: bool) -> Any:
        if touch and not (yield Touch(state.key or "", world.IDLE)):
            state.lose()
            return
        entry = yield Load(state.key or "", state.floor)
        found = state.look(state.key or "", entry)
        if isinstance(found, Record):
            state.issue(state.manager.clock() if touch else None)
        else:
            state.lose(found)

    monkeypatch.setattr(flows, "_prolong", prolong)
    for old, again in ((world.IDLE * 0.2, False), (0, True)):

        def make(*, copies: bool) -> World:
            kinds = [world.READ, world.SIGN_IN]
            return World(kinds, cookie_age=old, repeat=again, copies=copies)

        explore(lambda: make(copies=False))
        with pytest.raises(AssertionError, match=r"G[15]"):
            explore(lambda: make(copies=True))
