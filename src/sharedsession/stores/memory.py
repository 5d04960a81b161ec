"""Sessions in this process's own memory: for tests, and for a server that is a single process.

The lifetime is looked at when an entry is used, so an expired one is gone at once; what no request
asks for any more is removed in slices. Every key stands once in a ring, and each few writes look
at the next few keys of it, so no single write walks everything. `delete` only lets the entry
expire: the ring then finds it like any other, and the keys of the ring and of the entries never
differ (a full store forgets its oldest entry at once; the ring drops such a key when it comes by).
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

from ..exceptions import ConfigurationError
from .base import Entry, Finding, holds_token, new_token, with_token

__all__ = ["MemoryStore"]

SLICE = 32
WRITES_PER_SLICE = 16
SERVERS = {"uvicorn", "gunicorn", "hypercorn", "granian", "fastapi"}
ENDED = Entry(data=b"", version=0, expires=-math.inf, token=b"")


class MemoryStore:
    """A store in a dict; `max_entries` (default: no bound) forgets the least recently written."""

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
        self._clock = clock
        # Only an OrderedDict finds its oldest key without stepping over all that were removed.
        self._entries: dict[str, Entry] = {} if max_entries is None else OrderedDict()
        self._ring: deque[str] = deque()
        self._writes = 0
        self._lock = threading.Lock()
        _warn_of_workers(sys.argv, os.environ)

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._alive(key, self._clock())

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        now, token = self._clock(), self._new_token()
        created = Entry(data, 1, now + ttl, with_token(token))
        with self._lock:
            current = self._alive(key, now)
            if current is None:
                self._write(key, created, now)
                return created
        return _repeated(created, current, token)

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        now, token = self._clock(), self._new_token()
        with self._lock:
            current = self._alive(key, now)
            if current is None:
                return None
            version = max(entry.version, at_least) + 1
            replaced = Entry(data, version, now + ttl, with_token(token, entry.token))
            if current.token == entry.token:
                self._write(key, replaced, now)
                return replaced
        return _repeated(replaced, current, token)

    def touch(self, key: str, ttl: int) -> bool:
        now = self._clock()
        with self._lock:
            current = self._alive(key, now)
            if current is None:
                return False
            touched = Entry(current.data, current.version, now + ttl, current.token)
            self._write(key, touched, now)
        return True

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        now = self._clock()
        with self._lock:
            if entry is not None:
                current = self._alive(key, now)
                if current is None or current.token != entry.token:
                    return False
            if key in self._entries:
                self._write(key, ENDED, now)
        return True

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired entries, holding the others up for a slice at a time."""
        now, removed, unseen = self._clock(), 0, len(self._ring)
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

    def _new_token(self) -> bytes:
        return new_token()

    def _alive(self, key: str, now: float) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and (entry.expires or 0.0) > now else None

    def _write(self, key: str, entry: Entry, now: float) -> None:
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


def _repeated(written: Entry, current: Entry, token: bytes) -> Entry | None:
    """Return what was written when the write is found to have taken place before, else None."""
    if not holds_token(current.token, token):
        return None
    return dataclasses.replace(written, repeated=True)


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
