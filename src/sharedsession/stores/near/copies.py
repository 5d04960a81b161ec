"""Copies of sessions in this process's memory: how many, and for how long each may answer.

A copy answers while it is no older than what the client has seen, was the current one less than a
lease ago, and its session lives. `near` says when that is believed; `invalidation` receives what
ends a copy.

That a key was absent is remembered as well, for a client whose cookie has seen it there: a dead
cookie before the living one would cost a load at each request. The short lease holds for that.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ..._core.settings import NearCache
from ..base import ABSENT, FRESHEST, Entry, Event, Pushing
from .invalidation import InvalidationListener

OVERHEAD = 640  # bytes that a copy takes beside its data
OVERDUE = 0.1  # seconds for which others wait for what one caller hears
REMIND = 0.1  # seconds, far less than the listener goes on without


@dataclass(slots=True, eq=False)
class _Copy:
    entry: Entry  # or ABSENT
    as_of: float  # monotonic: it shows whatever was stored before
    told: bool  # invalidations show what was stored since; not so of what a replica answered
    size: int


class Copies:
    """Copies of entries, the most recently used ones, within bounds."""

    def __init__(
        self,
        limits: NearCache,
        pushing: Pushing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._most_bytes: float = limits.max_bytes
        listens = limits.lease_with_push > limits.lease
        self.invalidations = InvalidationListener(
            pushing if listens else None, limits.lease, _teller(self)
        )
        self._clock = clock
        self._remind_at = 0.0  # when the listener is next told that it is needed, monotonic
        self._copies: OrderedDict[str, _Copy] = OrderedDict()
        self._asking: dict[str, Asking] = {}
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._copies)

    def get(self, key: str, at_least: int) -> Entry | None:
        """Return a copy that is new enough, and was the current one less than a lease ago."""
        copy = self._copies.get(key)
        if copy is None or not satisfies(copy.entry, at_least):
            return None
        now, limits = time.monotonic(), self._limits
        age = now - copy.as_of
        if now >= self._remind_at:
            self._remind_at = now + REMIND
            self.invalidations.need(now)
        if age >= limits.lease and not (
            copy.told
            and copy.entry is not ABSENT
            and age < limits.lease_with_push
            and self.invalidations.covers(copy.as_of, now)
        ):
            return None
        return self._use(key, copy)

    def outdated(self, key: str, at_least: int, seconds: float) -> Entry | None:
        """Return a copy that was the current one so many seconds ago, or less."""
        copy = self._copies.get(key)
        if copy is None or copy.entry is ABSENT or copy.entry.version < at_least:
            return None
        known = self.invalidations.known(copy.as_of) if copy.told else copy.as_of
        return self._use(key, copy) if time.monotonic() - known < seconds else None

    def _use(self, key: str, copy: _Copy) -> Entry | None:
        expires = copy.entry.expires
        if expires is not None and expires <= self._clock():
            return None
        try:
            self._copies.move_to_end(key)
        except KeyError:  # it has just been pushed out
            return None
        return copy.entry

    def join(self, key: str) -> tuple[Future[Answer], float] | None:
        """Return what gives the answer to those who ask the store already, and how long to wait.

        None where there are none, or their answer is overdue: their connection may be dead, and
        what they hear would be older than a lease.
        """
        with self._lock:
            asking = self._asking.get(key)
            if asking is None or (left := self._left(asking)) <= 0:
                return None
            if asking.answer is None:
                asking.answer = Future()
                asking.answer.set_running_or_notify_cancel()  # one who gives up takes it from none
            return asking.answer, left

    def _left(self, asking: Asking) -> float:
        """Return the seconds for which others may wait for what is heard there."""
        return asking.began + min(OVERDUE, self._limits.lease) - time.monotonic()

    def ask(self, key: str) -> Asking:
        """Note that the store is about to be asked; `keep` what it answers, then `leave`."""
        self.invalidations.need(time.monotonic())
        with self._lock:
            asking = self._asking.get(key)
            if asking is not None and self._left(asking) <= 0:
                asking.is_void = True  # it is not told of writes from now on, so nothing is kept
                asking = None
            if asking is None:
                asking = self._asking[key] = Asking(time.monotonic())
            asking.number += 1
        return asking

    def keep(self, key: str, asking: Asking, entry: Entry, as_of: float, *, told: bool) -> None:
        """Keep an answer, unless something has happened to the key since it was asked for.

        Of two answers that overtook each other it is not known which is the older one: versions
        tell, but can come twice after a failover. So an answer below the copy at hand ends both.
        """
        with self._lock:
            if asking.is_void:
                return
            known = self._remove(key)
            if known is not None and known.entry.version > entry.version:
                return
            size = OVERHEAD + len(key) + 2 * len(entry.data)  # as stored, and decoded
            if size > self._most_bytes:
                return
            self._copies[key] = _Copy(entry, as_of, told, size)
            self.bytes += size
            while self.bytes > self._most_bytes or len(self._copies) > self._limits.max_entries:
                _, oldest = self._copies.popitem(last=False)
                self.bytes -= oldest.size

    def leave(self, key: str, asking: Asking, entry: Entry | None = None) -> None:
        """The caller that asked has an answer, `ABSENT` perhaps, or none."""
        with self._lock:
            asking.number -= 1
            if asking.number == 0 and self._asking.get(key) is asking:
                del self._asking[key]
            if asking.is_void:
                entry = None
            elif entry is None and asking.number:
                return  # another one may still have it
            answer, asking.answer = asking.answer, None
        if answer is not None:
            answer.set_result(entry)

    def forget(self, key: str) -> None:
        """The key has been written, or may have been: also what is being answered is no copy."""
        with self._lock:
            self._remove(key)
            asking = self._asking.pop(key, None)
            if asking is not None:
                asking.is_void = True

    def clear(self) -> None:
        """Every key may have been written."""
        with self._lock:
            self._copies.clear()
            self.bytes = 0
            for asking in self._asking.values():
                asking.is_void = True
            self._asking.clear()

    def _remove(self, key: str) -> _Copy | None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self.bytes -= copy.size
        return copy


def _teller(copies: Copies) -> Callable[[Event], None]:
    """Return what is told of writes; it does not keep the copies from being dropped."""
    reference = weakref.ref(copies)

    def tell(event: Event) -> None:
        told = reference()
        if told is not None and event.key is not None:
            told.forget(event.key)
        elif told is not None:
            told.clear()

    return tell


Answer = Entry | None  # ABSENT, where there is nothing; None: ask the store


class Asking:
    """Those who ask the store for a key at the same time, and those who wait for what they hear."""

    __slots__ = ("answer", "began", "is_void", "number")

    def __init__(self, began: float) -> None:
        self.began = began  # when the first of them asked, monotonic
        self.number = 0
        self.is_void = False  # the key was written meanwhile
        self.answer: Future[Answer] | None = None


def satisfies(entry: Entry, at_least: int) -> bool:
    """Say whether a copy will do for a client that has seen this version; of nothing, 1 or more."""
    return 1 <= at_least < FRESHEST if entry is ABSENT else entry.version >= at_least
