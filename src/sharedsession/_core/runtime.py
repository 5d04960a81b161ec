"""What asyncio and trio do differently: deadlines, pauses, and calls in threads.

The core depends on neither anyio nor sniffio; trio and anyio are used only where they run already.
"""

from __future__ import annotations

import asyncio
import atexit
import queue
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .per_process import PerProcess

T = TypeVar("T")
Work = tuple[Future[Any], Callable[[], Any]]  # Any: whatever the call returns

# Store calls of one middleware that may wait at the same time: those that were abandoned as well,
# so that the first request after an outage finds a thread that is free.
THREADS = 128
TICK = 0.01  # seconds between two looks at the deadlines of an event loop
LAST_CALLS = 1.0  # seconds that the exit of the process leaves to store calls that still run


class OwnThreads:
    """Threads for the store calls of one middleware, for which the exit of a process never waits.

    Those of ``concurrent.futures`` are joined at exit, however long a store hangs. These are
    daemons: at exit they end when they have nothing to do, because an embedded interpreter must be
    left without threads, and calls that still run have `LAST_CALLS`. A child of the process has
    threads of its own.
    """

    def __init__(self) -> None:
        self._workers = PerProcess(_Workers)
        weakref.finalize(self, _end, self._workers).atexit = False

    @property
    def threads(self) -> set[threading.Thread]:
        """Those that run."""
        return self._workers.own().threads

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Make a call as soon as a thread is free; not, when its future is cancelled before."""
        return self._workers.own().submit(call)

    def run(self, call: Callable[[], T], seconds: float) -> T:
        """Make a call, and wait for it so long; where no threads run, as long as it takes.

        Raises:
            DeadlinePassed: it took longer, and goes on without its caller.
        """
        if not threads_run():
            return call()
        future = self.submit(call)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # it was the call's own
                raise
            future.cancel()
            raise DeadlinePassed from None

    def shutdown(self) -> None:
        """Wait until all calls are done, and the threads have ended."""
        workers = self._workers.own()
        workers.end()
        workers.join(threading.TIMEOUT_MAX)


class _Workers:
    """The threads themselves, which do not hold on to their `OwnThreads`."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # the collector may call `end` at any moment
        self._free = 0  # threads that wait for work, and have none on its way
        self._backlog = 0  # calls that no thread was free for, and none could be started
        _everyones.own().add(self)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
            elif len(self.threads) < THREADS:
                self._start()
            else:
                self._backlog += 1
            self._waiting.put((future, call))
        return future

    def end(self) -> None:
        """Let the threads end when they have done what there is."""
        with self._lock:
            self._free = 0
            for _ in self.threads:
                self._waiting.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the end of the threads, but not for longer."""
        deadline = time.monotonic() + seconds
        for thread in list(self.threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self) -> None:
        name = f"sharedsession_{len(self.threads)}"
        try:
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
        except RuntimeError:  # an isolated interpreter allows no daemons
            thread = threading.Thread(target=self._work, name=name, daemon=False)
            thread.start()
        self.threads.add(thread)

    def _work(self) -> None:
        work = self._waiting.get()
        while work is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - the caller's to judge
                    future.set_exception(error)
            del work, future, call  # a thread that waits holds on to nothing
            work = self._next()
        with self._lock:
            self.threads.discard(threading.current_thread())

    def _next(self) -> Work | None:
        """Return what is waiting, or wait for it: one call of ``get`` for each piece of work."""
        with self._lock:
            if self._backlog:
                self._backlog -= 1
            elif threading.current_thread().daemon:
                self._free += 1
            else:  # the exit would wait for it
                return None
        return self._waiting.get()


_everyones: PerProcess[weakref.WeakSet[_Workers]] = PerProcess(weakref.WeakSet)


def _end(workers: PerProcess[_Workers]) -> None:
    if (own := workers.known()) is not None:
        own.end()


@atexit.register
def _end_all() -> None:
    deadline = time.monotonic() + LAST_CALLS
    own = list(_everyones.own())
    for workers in own:
        workers.end()
    for workers in own:
        workers.join(deadline - time.monotonic())


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

    async def in_thread(self, pool: OwnThreads, call: Callable[[], T]) -> T:
        """Run ``call`` in a thread. Cancelled: not run if it has not begun, else abandoned."""

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Await ``work``, and let it come to its end in spite of a cancellation."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A task that waits until a deadline, on its loop's clock."""

    task: asyncio.Task[Any]
    until: float
    expired: bool = False


class _Deadlines:
    """Those of one event loop, with one timer for all.

    One for each, as `asyncio.timeout` has it, is the largest part of what a call costs. A deadline
    may be noticed `TICK` late.
    """

    def __init__(self) -> None:
        self.waiting: set[_Waiting] = set()
        self._ticks = False

    def add(self, waiting: _Waiting, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting.add(waiting)
        if not self._ticks:
            self._tick(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._ticks = bool(self.waiting)
        if self._ticks:  # before what may raise; in a context that is no request's
            loop.call_later(TICK, self._tick, loop, context=Context())
        for each in list(self.waiting):
            if each.until <= now and not each.expired:
                each.expired = True
                each.task.cancel()


class _Asyncio:
    def __init__(self) -> None:
        # They live by those who wait, and by the timer: a loop that is closed leaves nothing here.
        self._deadlines: _PerLoop = weakref.WeakKeyDictionary()

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        known = self._deadlines.get(loop)
        deadlines = None if known is None else known()
        if deadlines is None:
            deadlines = _Deadlines()
            self._deadlines[loop] = weakref.ref(deadlines)
        cancelled, waiting = task.cancelling(), _Waiting(task, loop.time() + seconds)
        deadlines.add(waiting, loop)
        try:
            return await work
        except asyncio.CancelledError:
            # Told from a cancellation by others that came as well, as asyncio.timeout does it.
            if waiting.expired and task.cancelling() - 1 <= cancelled:
                raise DeadlinePassed from None
            raise
        finally:
            deadlines.waiting.discard(waiting)
            if waiting.expired:
                task.uncancel()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def in_thread(self, pool: OwnThreads, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(pool.submit(call))

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        cancelled = None
        # A scope of anyio cancels on each turn of the loop until its task ends, but for a shield.
        anyio: Any = sys.modules.get("anyio")  # Any: it is no dependency
        with nullcontext() if anyio is None else anyio.CancelScope(shield=True):
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

    async def in_thread(self, pool: OwnThreads, call: Callable[[], T]) -> T:
        import trio

        token, done = trio.lowlevel.current_trio_token(), trio.Event()

        def wake(_: Future[Any]) -> None:
            with suppress(trio.RunFinishedError):  # no caller waits any more
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


_PerLoop = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_Deadlines]]
ASYNCIO: Runtime = _Asyncio()
TRIO: Runtime = _Trio()


def current() -> Runtime:
    """Return the runtime of the running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if "trio" in sys.modules:
            return TRIO
        raise RuntimeError("sharedsession is awaited on asyncio and on trio only.") from None
    return ASYNCIO
