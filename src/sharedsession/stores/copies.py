"""Copies of sessions in this process's memory: how many, and for how long each may answer.

A copy answers while it is no older than what the client has seen, was the current one less than a
lease ago, and its session lives. `near` says when that is believed; `push` hears what ends a copy.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..settings import NearCache
from .base import Entry, Event, Pushing
from .push import Hearing

OVERHEAD = 640  # bytes that a copy takes beside its data
REMIND = 0.1  # seconds, far less than the listener goes on without


@dataclass(slots=True, eq=False)
class _Copy:
    entry: Entry
    as_of: float  # monotonic: it shows whatever was stored before
    told: bool  # pushes tell of what was stored since; not so of what a replica answered
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
        self._most_bytes: float = limits.megabytes * 2**20
        listens = limits.pushed_lease > limits.lease
        self.hearing = Hearing(pushing if listens else None, limits.lease, _teller(self))
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
        if copy is None or copy.entry.version < at_least:
            return None
        now, limits = time.monotonic(), self._limits
        age = now - copy.as_of
        if now >= self._remind_at:
            self._remind_at = now + REMIND
            self.hearing.need(now)
        if age >= limits.lease and not (
            copy.told and age < limits.pushed_lease and self.hearing.covers(copy.as_of, now)
        ):
            return None
        return self._use(key, copy)

    def outdated(self, key: str, at_least: int, seconds: float) -> Entry | None:
        """Return a copy that was the current one so many seconds ago, or less."""
        copy = self._copies.get(key)
        if copy is None or copy.entry.version < at_least:
            return None
        known = self.hearing.known(copy.as_of) if copy.told else copy.as_of
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

    def ask(self, key: str) -> Asking:
        """Note that the store is about to be asked; `keep` what it answers, then `leave`."""
        self.hearing.need(time.monotonic())
        with self._lock:
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = Asking()
            asking.number += 1
        return asking

    def keep(
        self, key: str, asking: Asking, entry: Entry | None, as_of: float, *, told: bool
    ) -> None:
        """Keep an answer, unless something has happened to the key since it was asked for.

        Of two answers that overtook each other it is not known which is the older one: versions
        tell, but can come twice after a failover. So an answer below the copy at hand ends both.
        """
        with self._lock:
            if asking.is_void:
                return
            known = self._remove(key)
            if entry is None or (known is not None and known.entry.version > entry.version):
                return
            size = OVERHEAD + len(key) + 2 * len(entry.data)  # as stored, and decoded
            if size > self._most_bytes:
                return
            self._copies[key] = _Copy(entry, as_of, told, size)
            self.bytes += size
            while self.bytes > self._most_bytes or len(self._copies) > self._limits.entries:
                _, oldest = self._copies.popitem(last=False)
                self.bytes -= oldest.size

    def leave(self, key: str, asking: Asking) -> None:
        """Whoever asked has an answer, or none."""
        with self._lock:
            asking.number -= 1
            if asking.number == 0 and self._asking.get(key) is asking:
                del self._asking[key]

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


class Asking:
    """Those who ask the store for a key at the same time."""

    __slots__ = ("is_void", "number")

    def __init__(self) -> None:
        self.number = 0
        self.is_void = False  # the key was written meanwhile
