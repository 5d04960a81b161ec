"""Sessions in this process's own memory: for tests, and for a server that is a single process.

The lifetime is looked at when an entry is used, so an expired one is gone at once; what no request
asks for any more is removed in slices. Every key stands once in a ring, and each few writes look
at the next few keys of it, so no single write walks everything. `delete` only lets the entry
expire: the ring then finds it like any other, and the keys of the ring and of the entries never
differ (a full store forgets its oldest entry at once; the ring drops such a key when it comes by).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import TypeVar

from ..exceptions import ConfigurationError
from ._support.verbs import Flow, PlainVerbs, outcome
from .base import Entry, Finding

__all__ = ["MemoryStore"]

T = TypeVar("T")
SLICE = 32
WRITES_PER_SLICE = 16
SERVERS = {"uvicorn", "gunicorn", "hypercorn", "granian", "fastapi"}
ENDED = Entry(data=b"", version=0, expires=-math.inf, token=b"")


class MemoryStore(PlainVerbs):
    """A store in a dict; `max_entries` (default: no bound) forgets the least recently written.

    `clock` tells the time in epoch seconds, to the store and to the sessions in it.
    """

    blocking = False

    def __init__(
        self, max_entries: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        if max_entries is not None and (not isinstance(max_entries, int) or max_entries < 1):
            raise ConfigurationError(
                "max_entries of a memory store must be a number, at least 1, or None, not "
                f"{max_entries!r}."
            )
        self._max_entries = max_entries
        self.clock = clock
        # Only an OrderedDict finds its oldest key without stepping over all that were removed.
        self._entries: dict[str, Entry] = {} if max_entries is None else OrderedDict()
        self._ring: deque[str] = deque()
        self._writes = 0
        self._lock = threading.Lock()
        _warn_of_workers(sys.argv, os.environ)

    def _ask(self, asked: Callable[[], T]) -> T:
        with self._lock:
            return asked()

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._alive(key, self.clock())  # no flow: it is one look, and the lock would cost

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        now = self.clock()
        written = self._after(old, data, at_least, now + ttl)
        current: Entry | None = yield partial(self._swap, key, old, written, now)
        if current is None or current is written:
            return current
        return outcome(written, current.token, old, "memory", repeated=False)

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        lives: bool = yield partial(self._prolong, key, ttl, self.clock())
        return lives

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        ended: bool = yield partial(self._end, key, entry, self.clock())
        return ended

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired entries, holding the others up for a slice at a time."""
        now, removed, unseen = self.clock(), 0, len(self._ring)
        while unseen > 0 and removed < limit:
            count = min(SLICE, unseen, limit - removed)
            with self._lock:
                removed += self._sweep_slice(count, now)
            unseen -= count
        return removed

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`."""
        yield Finding(
            "warning",
            "Sessions are in the memory of one process: another one does not find them, and a "
            "restart ends them all. Choose another store where there are several servers.",
        )

    def _alive(self, key: str, now: float) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and (entry.expires or 0.0) > now else None

    def _swap(self, key: str, old: Entry | None, new: Entry, now: float) -> Entry | None:
        """Put a new entry in the place of an old one, or of none; return what the key holds."""
        current = self._alive(key, now)
        if (old and old.token) != (current and current.token):
            return current
        self._put(key, new, now)
        return new

    def _prolong(self, key: str, ttl: int, now: float) -> bool:
        current = self._alive(key, now)
        if current is not None:
            self._put(key, Entry(current.data, current.version, now + ttl, current.token), now)
        return current is not None

    def _end(self, key: str, entry: Entry | None, now: float) -> bool:
        current = self._alive(key, now)
        if entry is not None and (current is None or current.token != entry.token):
            return False
        if key in self._entries:
            self._put(key, ENDED, now)
        return True

    def _put(self, key: str, entry: Entry, now: float) -> None:
        if key not in self._entries:
            self._ring.append(key)
        self._entries[key] = entry
        if isinstance(self._entries, OrderedDict):
            self._entries.move_to_end(key, last=entry is not ENDED)
            if len(self._entries) > (self._max_entries or 0):
                self._entries.popitem(last=False)
        self._writes += 1
        if self._writes % WRITES_PER_SLICE == 0:
            self._sweep_slice(SLICE, now)

    def _sweep_slice(self, count: int, now: float) -> int:
        removed = 0
        for _ in range(min(count, len(self._ring))):
            key = self._ring.popleft()
            entry = self._entries.get(key)
            if entry is None:
                continue
            if (entry.expires or 0.0) > now:
                self._ring.append(key)
            else:
                del self._entries[key]
                removed += entry is not ENDED
        return removed


def _warn_of_workers(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    if workers_of(arguments, environment) > 1:
        warnings.warn(
            "A memory store was created in one of several worker processes: each of them has a "
            "memory of its own, so users are signed out whenever another worker answers. Choose "
            "a store that the workers share: store='sqlite:///sessions.db' on one machine, "
            "store='redis://localhost:6379/0' on several.",
            RuntimeWarning,
            stacklevel=3,
        )


def workers_of(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return how many workers the command line or the environment asks for; 1 when neither does.

    Spawned workers carry their parent's ``sys.argv``, so the answer is the same in all of them.
    """
    program = PurePath(arguments[0] if arguments else "")
    found = environment.get("WEB_CONCURRENCY", "")
    if program.stem in SERVERS or (program.stem == "__main__" and program.parent.name in SERVERS):
        more = environment.get("GUNICORN_CMD_ARGS", "") if "gunicorn" in program.parts[-1] else ""
        words = [*more.split(), *arguments[1:]]
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word in ("-w", "--workers"):
                found = following
            elif word.startswith(("-w", "--workers=")):
                found = word.removeprefix("--workers").removeprefix("-w").removeprefix("=")
    return int(found) if found.isdecimal() else 1
