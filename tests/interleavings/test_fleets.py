"""G1 and G15 in mixed fleets: no client reads what is older than an answer that it has received."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from typing import Any

import pytest

from sharedsession._core import decide, exchange
from sharedsession._core.cookie import Cookie
from sharedsession._core.manager import CLOCKS_APART, Manager
from sharedsession._core.state import State

from .fleets import LAG, Fleet, Sort

# Minutes instead of seconds: INTERLEAVINGS=all
ALL = os.environ.get("INTERLEAVINGS") == "all"
WITHIN = LAG / 2  # a copy of before is still good
WINDOW = LAG + CLOCKS_APART  # no cookie of before is new any more, and no copy good
PAIRS = list(combinations_with_replacement((False, True), 2))
SINGLE = [(False,), (True,)]


def fleets(*writing_and_reading: Sequence[tuple[bool, ...]]) -> list[list[Sort]]:
    """Which of so many requests that write, and of those that read, meet a server with copies."""
    return [
        [
            Sort(writes, copies)
            for writes, each in zip((True, False), both, strict=True)
            for copies in each
        ]
        for both in product(*writing_and_reading)
    ]


FOUR = fleets(PAIRS, PAIRS)
THREE = [*fleets(PAIRS, SINGLE), *fleets(SINGLE, PAIRS)]
ids = pytest.mark.parametrize("versions", [False, True], ids=["without", "with versions"])


def named(sorts: list[Sort]) -> str:
    return " ".join("rw"[each.writes] + ("+" if each.copies else "") for each in sorts)


def explore(sorts: list[Sort], *pauses: float, versions: bool) -> Fleet:
    fleet = Fleet(sorts, versions, pauses)
    fleet.explore()
    return fleet


@ids
@pytest.mark.parametrize("sorts", FOUR, ids=named)
def test_four_requests_in_every_order(sorts: list[Sort], versions: bool) -> None:
    """Two writes and two reads, servers with copies and without, answers in any order.

    The one exception, stated: with versions, a cookie that an overtaken answer has set back.
    """
    for pauses in [(), (WITHIN,), (WINDOW,)] if ALL else [()]:
        fleet = explore(sorts, *pauses, versions=versions)
        assert versions or not (fleet.by_copies or fleet.set_back)


@ids
@pytest.mark.parametrize("sorts", THREE, ids=named)
def test_three_requests_while_time_passes(sorts: list[Sort], versions: bool) -> None:
    """The same for longer than any lease, and any cookie's first seconds."""
    fleet = explore(sorts, *([WITHIN, WINDOW, WITHIN][: 3 if ALL else 2]), versions=versions)
    if not versions:
        assert not fleet.by_copies


def test_copies_do_answer() -> None:
    """Where the ID has versions: what is tried above are not only orders of the store's answers."""
    reads = [Sort(writes=False, copies=True)] * 2
    fleet = explore([Sort(writes=True, copies=True), *reads], versions=True)
    assert fleet.by_copies > 0


# --- controls -------------------------------------------------------------------------------------

MIXED = [Sort(writes=True, copies=False), Sort(writes=True, copies=True)]
READS = [Sort(writes=False, copies=True)] * 2


def test_a_server_that_adds_a_version_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parallel write by a server without copies was sent before, and hands none out."""

    def issue(state: State, timestamp: float | None = None) -> None:
        assert state.cookie is not None
        assert state.entry is not None
        seconds = state.cookie.timestamp  # even one that copies may answer at once
        version = state.entry.version if state.cookie.version or state.manager.process.lag else 0
        state.cookie = state.reply = Cookie(state.cookie.id, version, seconds)

    def inform(state: State, **more: Any) -> None:
        assert state.cookie is not None
        if state.cookie.version or state.manager.process.lag:
            issue(state)

    explore([*MIXED, *READS], versions=False)
    monkeypatch.setattr(State, "issue", issue)
    monkeypatch.setattr(State, "inform", inform)
    with pytest.raises(AssertionError, match="G15"):
        explore([*MIXED, *READS], versions=False)


def test_a_copy_for_a_cookie_without_a_version_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of what the client has seen."""
    monkeypatch.setattr(Manager, "floor", lambda manager, cookie, **more: cookie.version)
    with pytest.raises(AssertionError, match="G15"):
        explore([*MIXED, *READS], versions=False)


def test_a_server_that_drops_the_version_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write by a server without copies that hands out no version, of an ID that has them."""
    inform = State.inform

    def only_with_copies(state: State, **more: Any) -> None:
        if state.manager.process.lag:
            inform(state, **more)

    monkeypatch.setattr(State, "inform", only_with_copies)
    with pytest.raises(AssertionError, match="G15"):
        explore([*MIXED, *READS], versions=True)


def test_a_read_that_hands_out_no_newer_version_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was read once is below no floor then, and a copy may show less the next time."""
    upkeep = decide.upkeep

    def silent(state: State, **more: Any) -> decide.Action:
        action = upkeep(state, **more)
        return decide.Action.NOTHING if action is decide.Action.REISSUE else action

    monkeypatch.setattr(decide, "upkeep", silent)
    monkeypatch.setattr(exchange, "upkeep", silent)
    with pytest.raises(AssertionError, match="G15"):
        explore([MIXED[0], *READS], versions=True)
