"""Ways to get it wrong on purpose, inside the servers: each of them must be caught.

A new one is a function that takes the store's URL and returns what the middleware is given, and a
line in `CONTROLS`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sharedsession import StoreUnavailable, flows
from sharedsession.stores import ages, copies, near
from sharedsession.stores.base import FRESHEST, Entry
from sharedsession.stores.push import Hearing
from sharedsession.stores.sql import SQLStore

NEAR: Any = near  # what is broken here
TELLING: Any = copies
COPIES: Any = copies.Copies
HEARING: Any = Hearing
MANAGER: Any = flows.Manager
VISIT: Any = flows.Visit
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


def create_then_delete(visit: flows.Visit, key: str, entry: Entry, mark: object) -> Any:
    """The renewal that seems obvious: create the new session, delete the old one."""
    yield "delete", key
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
    """Beats come back, and what is told beside them goes unheard."""
    TELLING._teller = lambda these: lambda event: None
    return url


def silence_believed(url: str) -> Any:
    """Whoever hears nothing believes that nothing has happened."""
    HEARING.covers = lambda hearing, as_of, now: as_of >= hearing._since
    return url


def replica_without_floor(url: str) -> Any:
    """A replica answers whatever version the client has seen."""
    take = near._Question.take

    def whatever(question: near._Question, answers: Sequence[Entry | None]) -> None:
        question._at_least = 0
        take(question, answers)

    NEAR._Question.take = whatever
    return url


def replica_without_beats(url: str) -> Any:
    """A replica answers however long ago it has heard of its primary."""
    NEAR.Following.as_of = lambda following, beat: time.monotonic()
    return url


def commits_again(url: str) -> Any:
    """A request whose write was lost sight of commits once more, as if nothing had happened."""

    def keep(visit: flows.Visit, error: Exception | None) -> None:
        visit.__dict__["known"] = None if isinstance(error, StoreUnavailable) else error

    VISIT.trouble = property(lambda visit: visit.__dict__.get("known"), keep)
    return url


class Slow(SQLStore):
    """A store that takes its time, which is nothing wrong."""

    def replace(self, *arguments: Any, **more: Any) -> Entry | None:
        time.sleep(0.02)
        return super().replace(*arguments, **more)


def looks_only(url: str) -> Any:
    """reload() reads, and believes what it finds: a lost write may land after it."""

    def look(visit: flows.Visit) -> flows.Flow[None]:
        yield from (flows.opening(visit) if visit.entry is None else FLOWS._look_again(visit))

    FLOWS._resolve = look
    return Slow.from_url(url)


def whose_data_unasked(url: str) -> Any:
    """What one user has left in a session passes to the next."""
    FLOWS.passes_to_another_user = lambda record, data, settings: False
    return url


def ends_one_of_two(url: str) -> Any:
    """A sign-out ends one session, though the client has shown two."""

    def none(*those: Any) -> flows.Flow[None]:
        return
        yield

    FLOWS._end_others = none
    return url


def ends_need_room(url: str) -> Any:
    """Who cannot write a tombstone cannot sign out."""

    def entomb(visit: flows.Visit, key: str, entry: Entry, mark: Any) -> Any:
        stored = flows.encode_record(mark)
        kept = flows.MARK_KEPT
        return (yield "replace", key, entry, stored, kept, None, visit.floor)

    FLOWS._entomb = entomb
    return url


def versions_added(url: str) -> Any:
    """A server with copies gives a version to the cookie that had none."""

    def issue(visit: flows.Visit, timestamp: float | None = None) -> None:
        assert visit.cookie is not None
        assert visit.entry is not None
        seconds = visit.cookie.timestamp if timestamp is None else int(timestamp)
        version = visit.entry.version if visit.manager.lag else visit.cookie.version
        visit.cookie = visit.answer = flows.Cookie(visit.cookie.id, version, seconds)
        visit.removed = False

    upkeep = flows.upkeep

    def whichever(visit: flows.Visit, *, repeat: bool = False) -> flows.Action:
        return upkeep(visit, repeat=repeat or visit.manager.lag > 0)

    VISIT.issue, FLOWS.upkeep = issue, whichever
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
    "replica without beats": Control(replica_without_beats, "redis-replica", faults=True),
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
