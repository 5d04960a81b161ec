"""What an async store has for each event loop: made on its first use there, closed by its end.

A client of asyncio belongs to the loop that made it, and a loop may live for one request. An async
generator that was started on a loop is closed by that loop's own shutdown, so one keeps the client,
and no application has to close anything.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Generic, Protocol, TypeVar


class Kept(Protocol):
    """One event loop's connections."""

    async def close(self) -> None:
        """End what is under way, and close what is open; both may be nothing."""

    def hang_up(self) -> None:
        """Do the same at once: nothing may be awaited any more."""


K = TypeVar("K", bound=Kept)
T = TypeVar("T")
Keeper = AsyncGenerator[K, None]
PerLoop = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[K, Keeper[K]]]


class Tasks:
    """What is under way on an event loop, in no request's own task."""

    def __init__(self) -> None:
        self._all: set[asyncio.Task[Any]] = set()

    def start(
        self, work: Coroutine[Any, Any, T], context: Context | None = None
    ) -> asyncio.Task[T]:
        """Begin some work, by default in the context of the caller."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._all.add(task)
        task.add_done_callback(self._all.discard)
        return task

    async def close(self) -> None:
        """End all of it."""
        self.hang_up()
        if self._all:
            await asyncio.wait(self._all)

    def hang_up(self) -> None:
        """The same, without waiting for it."""
        for task in list(self._all):
            task.cancel()


class Loops(Generic[K]):
    """Who is kept for which loop.

    When the store is gone, what is left is hung up: its loop may be about to end as well, and then
    leaves no time to close in order.
    """

    def __init__(self, make: Callable[[], K]) -> None:
        self._make = make
        self._all: PerLoop[K] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        weakref.finalize(self, _leave, self._all).atexit = False

    def __len__(self) -> int:
        return len(self._all)

    def known(self) -> K | None:
        """Return what is kept for the running loop already."""
        kept = self._all.get(asyncio.get_running_loop())
        return None if kept is None else kept[0]

    async def here(self) -> K:
        """Return what is kept for the running loop."""
        kept = self.known()
        return (await self._open(asyncio.get_running_loop()))[0] if kept is None else kept

    async def _open(self, loop: asyncio.AbstractEventLoop) -> tuple[K, Keeper[K]]:
        keeper = _keep(self._make(), self._all, self._lock)
        kept = (await anext(keeper), keeper)
        with self._lock:
            for other in list(self._all):
                if other.is_closed():  # without its shutdown, which would have closed the keeper
                    del self._all[other]
            self._all[loop] = kept
        return kept


class _Left(BaseException):
    """Thrown into a keeper whose store is gone."""


async def _keep(made: K, everything: PerLoop[K], lock: threading.Lock) -> Keeper[K]:
    try:
        yield made
    except _Left:
        made.hang_up()
    except BaseException:
        with lock:
            everything.pop(asyncio.get_running_loop(), None)
        try:
            await made.close()
        finally:
            made.hang_up()  # where a cancellation came between
        raise


def _leave(everything: PerLoop[K]) -> None:
    for loop, (_, keeper) in list(everything.items()):
        with suppress(RuntimeError):  # the loop has been closed, with its connections
            loop.call_soon_threadsafe(_end, keeper)


def _end(keeper: Keeper[K]) -> None:
    with suppress(StopAsyncIteration, RuntimeError):  # ended, or just being closed by the loop
        keeper.athrow(_Left()).send(None)
