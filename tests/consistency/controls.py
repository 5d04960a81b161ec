"""Ways to get it wrong on purpose, inside the servers: each of them must be caught.

A new one is a function that takes the store's URL and returns what the middleware is given, and a
line in `CONTROLS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sharedsession import flows
from sharedsession.stores import copies, near
from sharedsession.stores.base import FRESHEST, Entry
from sharedsession.stores.push import Hearing
from sharedsession.stores.sql import SQLStore

NEAR: Any = near  # what is broken here
TELLING: Any = copies
COPIES: Any = copies.Copies
HEARING: Any = Hearing
MANAGER: Any = flows.Manager


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
    flows._entomb = create_then_delete
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
    MANAGER.floor = lambda manager, cookie: cookie.version
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
    "touches in vain": Control(touches_in_vain, "sqlite-expiring"),
    "never expires": Control(never_expires, "sqlite-expiring"),
}


def store(url: str, control: str | None) -> Any:
    """Return what the middleware is given as its store."""
    return url if not control else CONTROLS[control].broken(url)
