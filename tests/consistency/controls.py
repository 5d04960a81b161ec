"""Ways to get it wrong on purpose, inside the servers: each of them must be caught.

A new one is a function that takes the store's URL and returns what the middleware is given, and a
line in `CONTROLS`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sharedsession._core import decide, exchange, flows
from sharedsession._core.cookie import Cookie
from sharedsession._core.manager import Manager
from sharedsession._core.state import State
from sharedsession._core.steps import Delete, Flow, Replace
from sharedsession.stores import near
from sharedsession.stores._support import ages
from sharedsession.stores.base import FRESHEST, Entry
from sharedsession.stores.near import copies
from sharedsession.stores.near.invalidation import InvalidationListener
from sharedsession.stores.sql import SQLStore

NEAR: Any = near  # what is broken here
TELLING: Any = copies
COPIES: Any = copies.Copies
INVALIDATIONS: Any = InvalidationListener
MANAGER: Any = Manager
STATE: Any = State
DECISIONS: Any = decide
EXCHANGES: Any = exchange
FLOWS: Any = flows


class LastWriterWins(SQLStore):
    """A store whose replace does not compare."""

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        while (current := self.load(key)) is not None:
            replaced = super().replace(key, current, *arguments, **more)
            if replaced is not None:
                return replaced
        return None


def last_writer_wins(url: str) -> Any:
    return LastWriterWins.from_url(url)


def create_then_delete(state: State, key: str, entry: Entry, mark: object) -> Any:
    """The renewal that seems obvious: create the new session, delete the old one."""
    yield Delete(key)
    return entry


def obvious_renewal(url: str) -> Any:
    FLOWS._entomb = create_then_delete
    return url


def copies_without_floor(url: str) -> Any:
    """Copies answer whatever version the client has seen."""
    get = COPIES.get

    def whatever(these: copies.Copies, key: str, at_least: int) -> Entry | None:
        return get(these, key, at_least if at_least == FRESHEST else 0)

    COPIES.get = whatever
    return url


def copies_without_window(url: str) -> Any:
    """Copies answer under a cookie that has just been written."""
    MANAGER.floor = lambda manager, cookie, **how: cookie.version
    return url


def copies_for_too_long(url: str) -> Any:
    """Copies answer for three times as long as is stated, which may be after a sign-out."""
    keep = COPIES.keep

    def longer(these: copies.Copies, key: str, *those: Any, told: bool) -> None:
        asking, entry, as_of = those
        keep(these, key, asking, entry, as_of + 2 * near.LEASE, told=told)

    COPIES.keep = longer
    return url


def pushes_unheard(url: str) -> Any:
    """Heartbeats come back, and what is told beside them goes unheard."""
    TELLING._teller = lambda these: lambda event: None
    return url


def silence_believed(url: str) -> Any:
    """Whoever hears nothing believes that nothing has happened."""
    INVALIDATIONS.covers = lambda invalidations, as_of, now: as_of >= invalidations._since
    return url


def replica_without_floor(url: str) -> Any:
    """A replica answers whatever version the client has seen."""
    ask = near._Near._ask_replica

    def asked(store: near._Near, state: near.ProcessState, key: str, at_least: int) -> Flow[Any]:
        return ask(store, state, key, 0 if at_least < FRESHEST else at_least)

    NEAR._Near._ask_replica = asked
    return url


def replica_without_heartbeats(url: str) -> Any:
    """A replica answers however long ago it has heard of its primary."""
    NEAR.Following.as_of = lambda following, heartbeat: time.monotonic()
    return url


def commits_again(url: str) -> Any:
    """A request whose write was lost sight of commits once more, as if nothing had happened."""
    STATE.doubt = lambda state, error, key: None
    return url


class Slow(SQLStore):
    """A store that takes its time, which is nothing wrong."""

    def replace(self, *arguments: Any, **more: Any) -> Entry | None:
        time.sleep(0.02)
        return super().replace(*arguments, **more)


def looks_only(url: str) -> Any:
    """reload() reads, and believes what it finds: a lost write may land after it."""

    def look(state: State) -> Flow[None]:
        yield from (flows.opening(state) if state.entry is None else FLOWS._look_again(state))

    FLOWS._resolve = look
    return Slow.from_url(url)


def whose_data_unasked(url: str) -> Any:
    """What one user has left in a session passes to the next."""
    DECISIONS.passes_to_another_user = lambda record, outcome, settings: False
    return url


def ends_one_of_two(url: str) -> Any:
    """A sign-out ends one session, though the client has shown two."""

    def none(*those: Any) -> Flow[None]:
        return
        yield

    FLOWS._end_others = none
    return url


def ends_need_room(url: str) -> Any:
    """Who cannot write a tombstone cannot sign out."""

    def entomb(state: State, key: str, entry: Entry, mark: Any) -> Any:
        stored = flows.encode_record(mark)
        return (yield Replace(key, entry, stored, flows.TOMBSTONE_KEPT, None, state.floor))

    FLOWS._entomb = entomb
    return url


def versions_added(url: str) -> Any:
    """A server with copies gives a version to the cookie that had none."""

    def issue(state: State, timestamp: float | None = None) -> None:
        assert state.cookie is not None
        assert state.entry is not None
        seconds = state.cookie.timestamp if timestamp is None else int(timestamp)
        version = state.entry.version if state.manager.process.lag else state.cookie.version
        state.cookie = state.reply = Cookie(state.cookie.id, version, seconds)
        state.removed = False

    upkeep = decide.upkeep

    def whichever(state: State, *, late: bool, repeat: bool = False) -> decide.Action:
        return upkeep(state, late=late, repeat=repeat or state.manager.process.lag > 0)

    STATE.issue, DECISIONS.upkeep, EXCHANGES.upkeep = issue, whichever, whichever
    return url


def connections_for_ever(url: str) -> Any:
    """Who only reads stays connected to the primary of before."""
    ages.CONNECTION_AGE = math.inf
    return url


class TouchesInVain(SQLStore):
    """A store that says it has prolonged a session, and has not."""

    def touch(self, key: str, ttl: int) -> bool:
        return super().load(key) is not None


def touches_in_vain(url: str) -> Any:
    return TouchesInVain.from_url(url)


class NeverExpires(SQLStore):
    """A store that keeps what nobody uses."""

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        return super().create(key, data, ttl * 1000, owner)

    def touch(self, key: str, ttl: int) -> bool:
        return super().load(key) is not None


def never_expires(url: str) -> Any:
    return NeverExpires.from_url(url)


@dataclass(frozen=True)
class Control:
    """What makes the middleware's store of its URL, and the mode in which it must be caught.

    ``faults``: it is wrong only where something happens.
    """

    broken: Callable[[str], Any]
    mode: str = "sqlite"
    faults: bool = False


CONTROLS = {
    "last writer wins": Control(last_writer_wins),
    "create, then delete": Control(obvious_renewal),
    "copies without the floor": Control(copies_without_floor, "sqlite-near"),
    "copies without the window": Control(copies_without_window, "sqlite-near"),
    "copies for too long": Control(copies_for_too_long, "sqlite-near"),
    "pushes unheard": Control(pushes_unheard, "redis-near"),
    "silence believed": Control(silence_believed, "redis-near-unsteady", faults=True),
    "replica without the floor": Control(replica_without_floor, "redis-replica", faults=True),
    "replica without heartbeats": Control(replica_without_heartbeats, "redis-replica", faults=True),
    "commits again after a failure": Control(commits_again),
    "reload only looks": Control(looks_only),
    "one user's data passes to the next": Control(whose_data_unasked),
    "a sign-out ends one of two": Control(ends_one_of_two),
    "an end needs room": Control(ends_need_room, "redis-full", faults=True),
    "connections for ever": Control(connections_for_ever, "redis-switched", faults=True),
    "a version is added": Control(versions_added, "sqlite-mixed"),
    "touches in vain": Control(touches_in_vain, "sqlite-expiring"),
    "never expires": Control(never_expires, "sqlite-expiring"),
}


def store(url: str, control: str | None) -> Any:
    """Return what the middleware is given as its store."""
    return url if not control else CONTROLS[control].broken(url)
