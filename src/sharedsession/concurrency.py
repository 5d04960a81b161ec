"""What asyncio and trio do differently: deadlines, pauses, and calls in threads.

The core depends on neither anyio nor sniffio; trio is imported only where it runs already.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# Store calls of one middleware that may wait at the same time: those that were abandoned as well,
# so that the first request after an outage finds a thread that is free.
THREADS = 128


class OwnThreads(ThreadPoolExecutor):
    """Threads for the store calls of one middleware. No thread survives a fork, so after one the
    pool begins anew: a child must not wait for those of its parent."""

    def __init__(self) -> None:
        super().__init__(THREADS, "sharedsession")
        self._process = os.getpid()

    def submit(self, *arguments: Any, **more: Any) -> Future[Any]:
        if self._process != os.getpid():
            OwnThreads.__init__(self)
        return super().submit(*arguments, **more)


class DeadlinePassed(Exception):
    """The work took longer than it might; no TimeoutError, which the work itself may raise."""


def threads_run() -> bool:
    """Say whether threads get to run at all: uWSGI holds them back unless it is told otherwise."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is None or bool({"enable-threads", "threads"} & set(getattr(uwsgi, "opt", ())))


class Runtime(Protocol):
    """The event loop that a request runs on."""

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """Await ``work``; raise `DeadlinePassed` and abandon it when it takes longer."""

    async def pause(self, seconds: float) -> None:
        """Let others run for a while."""

    async def in_thread(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        """Run ``call`` in a thread. Cancelled: not run if it has not begun, else abandoned."""

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Await ``work``, and let it come to its end in spite of a cancellation."""


class _Asyncio:
    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await work
        except TimeoutError:
            if deadline.expired():
                raise DeadlinePassed from None
            raise

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def in_thread(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(pool.submit(call))

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        cancelled = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None and task.exception() is None:
            raise cancelled
        task.result()


class _Trio:
    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        import trio

        try:
            with trio.fail_after(seconds):
                return await work
        except trio.TooSlowError:
            raise DeadlinePassed from None

    async def pause(self, seconds: float) -> None:
        import trio

        await trio.sleep(seconds)

    async def in_thread(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        import trio

        token, done = trio.lowlevel.current_trio_token(), trio.Event()

        def wake(_: Future[Any]) -> None:
            with suppress(trio.RunFinishedError):  # nobody waits any more
                token.run_sync_soon(done.set)

        future = pool.submit(call)
        future.add_done_callback(wake)
        try:
            await done.wait()
        finally:
            future.cancel()
        return future.result()

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        import trio

        with trio.CancelScope(shield=True):
            await work


ASYNCIO: Runtime = _Asyncio()
TRIO: Runtime = _Trio()


def current() -> Runtime:
    """Return the runtime of the running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if "trio" in sys.modules:
            return TRIO
        raise RuntimeError("sharedsession serves ASGI on asyncio and on trio only.") from None
    return ASYNCIO
