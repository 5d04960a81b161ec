"""A store in memory that fails when a test wants it to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..exceptions import StoreUnavailable
from ..stores.base import Entry
from ..stores.memory import MemoryStore

__all__ = ["FailingStore"]


class FailingStore(MemoryStore):
    """A store in memory that fails when a test wants it to; it takes what `MemoryStore` takes."""

    _left: float = 0  # calls that are still to fail

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Let each call raise `StoreUnavailable` in the ``with`` block; nothing is lost by it."""
        before, self._left = self._left, float("inf")
        try:
            yield
        finally:
            self._left = before

    def fail_next(self, calls: int = 1) -> None:
        """Let so many calls raise `StoreUnavailable`, by default one, and those after them work.

        A request that changes its session makes two calls, one that reads it makes one.
        """
        self._left = calls

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        self._reach()
        return super().load(key, at_least)

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        self._reach()
        return super().create(key, data, ttl, owner)

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        self._reach()
        return super().replace(key, entry, data, ttl, owner, at_least)

    def touch(self, key: str, ttl: int) -> bool:
        self._reach()
        return super().touch(key, ttl)

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        self._reach()
        return super().delete(key, entry)

    def _reach(self) -> None:
        if self._left > 0:
            self._left -= 1
            raise StoreUnavailable("The store fails because the test wants it to.")
