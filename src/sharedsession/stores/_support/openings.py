"""The connections of one process, or event loop, to one place: at most so many, each for a while.

A caller takes the one that was given back last. When there is none, one is opened, where there is
room; and the caller takes the next that is ready, whichever caller had it opened. At most ``most``
are open or being opened at a time, however many callers wait and give up: an opening has a time of
its own, for a distant server that has just come back may need longer than a caller has. While one
is under way for too long, one more is allowed: its server may be dead, and the next one alive.

Connections have an age, so that a process that only reads notices that a name leads elsewhere: an
old primary that was replaced may go on to answer reads, where ended sessions would be found.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from ..._core.runtime import threads_run
from . import ages
from .deadline import deadline, within
from .per_loop import Tasks
from .verbs import Flow, arun, call, run

OVERDUE = 0.1  # seconds after which an opening hangs, perhaps, and another one is tried beside it

C = TypeVar("C")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Held(Generic[C]):
    """A connection in use."""

    connection: C
    renewal: int  # the latest one when it was opened


@dataclass(slots=True, eq=False)
class _Opening:
    """An opening that is under way: for whom it was begun, who is told when it fails."""

    waiter: Waiter
    since: float = field(default_factory=time.monotonic)

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() - self.since > OVERDUE


# A caller that waits: both kinds of future have the methods that are used here.
Waiter = Any  # Future[Held[C]] | asyncio.Future[Held[C]]


class _Book(Generic[C]):
    """What is open, being opened and waited for; the same for threads and for an event loop."""

    def __init__(
        self, most: int, close: Callable[[C], object], elsewhere: Callable[[], int]
    ) -> None:
        self._most, self._close, self._elsewhere = most, close, elsewhere
        self._lock = threading.RLock()  # the collector may close a store at any moment
        self._idle: list[Held[C]] = []
        self._in_use = 0
        self._waiting: dict[Waiter, None] = {}  # in the order in which they came
        self._under_way: set[_Opening] = set()
        self._renewal, self._closings = 0, 0
        self._renew_at = time.monotonic() + ages.CONNECTION_AGE

    def give_back(self, held: Held[C]) -> None:
        """Leave a connection to the next caller; it must be in step."""
        with self._lock:
            if held.renewal == self._renewal:
                self._in_use -= 1
                self._offer(held)
                return
        self.discard(held)

    def hand_over(self, held: Held[C]) -> None:
        """Leave a connection to another pool, which counts it among those that are elsewhere."""
        with self._lock:
            self._in_use -= 1

    def discard(self, held: Held[C]) -> None:
        """Close a connection of which it is not known what it would answer next."""
        try:
            self._close(held.connection)  # before there is room for another one
        finally:
            with self._lock:
                self._in_use -= 1
                wanted = self._wanted()
            self._begin(wanted)

    def renew(self) -> None:
        """Make every connection that is open by now anew, at its next use."""
        with self._lock:
            self._renewal += 1
            self._renew_at = time.monotonic() + ages.CONNECTION_AGE

    def close(self) -> None:
        """Close what is idle, and whatever is in use or under way as soon as it is not."""
        with self._lock:
            self.renew()
            self._closings += 1
            idle, self._idle = self._idle, []
        for held in idle:
            self._close(held.connection)

    def _use(
        self,
        take: Callable[[], object],
        work: Callable[[C], object],
        broken: tuple[type[Exception], ...],
        repeated: Callable[[], object],
    ) -> Flow[Any]:
        """What both kinds of `use` do; it yields calls."""
        for is_last in (False, True):
            held: Held[C] = yield take
            try:
                answer = yield partial(work, held.connection)
            except BaseException as error:
                self.discard(held)
                if is_last or not isinstance(error, broken):
                    raise
            else:
                self.give_back(held)
                return answer
            self.renew()
            repeated()
        raise AssertionError  # the last time it returns, or raises

    def _idle_one(self) -> Held[C] | None:
        """Return a connection that is idle and not too old."""
        if time.monotonic() >= self._renew_at:
            self.renew()
        while self._idle:
            held = self._idle.pop()
            if held.renewal == self._renewal:
                self._in_use += 1
                return held
            self._close(held.connection)
        return None

    def _offer(self, held: Held[C]) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                del self._waiting[waiter]
                self._in_use += 1
                waiter.set_result(held)
                return
        self._idle.append(held)

    def _wanted(self) -> list[_Opening]:
        """Note and return the openings that are to begin now.

        The callers that wait longest take what is on its way already: what was begun for a caller
        that waits still, or for one that does not, unless that hangs.
        """
        on_the_way = sum(
            each.waiter in self._waiting or not each.is_overdue for each in self._under_way
        )
        wanted = []
        for waiter in list(self._waiting)[on_the_way:]:
            if self._has_room():
                wanted.append(_Opening(waiter))
                self._under_way.add(wanted[-1])
        return wanted

    def _has_room(self) -> bool:
        most = self._most + any(each.is_overdue for each in self._under_way)
        return self._open() + len(self._under_way) < most

    def _open(self) -> int:
        return len(self._idle) + self._in_use + self._elsewhere()

    def _ready(self, opening: _Opening, connection: C, closings: int) -> list[_Opening]:
        """An opening has succeeded; return those that are to begin now."""
        with self._lock:
            try:
                waits = any(not each.done() for each in self._waiting)
                is_wanted = closings == self._closings and (waits or self._open() < self._most)
                if not is_wanted:
                    self._close(connection)  # before there is room for another one
            finally:
                self._under_way.discard(opening)
            if is_wanted:
                self._offer(Held(connection, self._renewal))
            return self._wanted()

    def _failed(self, opening: _Opening, error: BaseException) -> list[_Opening]:
        """An opening has failed; return those that are to begin now."""
        with self._lock:
            self._under_way.discard(opening)
            if opening.waiter in self._waiting:
                del self._waiting[opening.waiter]
                if not opening.waiter.done():
                    opening.waiter.set_exception(error)
            return self._wanted()

    def _leave(self, waiter: Waiter) -> None:
        """A caller does not wait any longer; what it was given at that moment is the next one's."""
        with self._lock:
            self._waiting.pop(waiter, None)
            given = waiter.done() and not waiter.cancelled() and waiter.exception() is None
        if given:
            self.give_back(waiter.result())

    def _open_more(self) -> None:
        with self._lock:
            wanted = self._wanted()
        self._begin(wanted)

    def _begin(self, wanted: list[_Opening]) -> None:
        raise NotImplementedError


class Openings(_Book[C]):
    """Connections for threads; a caller waits for one until the `deadline` of its thread.

    Args:
        open_one: opens a connection; its waits end by the deadline of the thread it is called in.
        close: closes one, whatever its state, without waiting.
        most: how many there may be.
        limit: seconds that an opening may take.
        elsewhere: how many there are of those that were handed over; default none.
    """

    def __init__(
        self,
        open_one: Callable[[], C],
        close: Callable[[C], object],
        most: int,
        limit: float,
        elsewhere: Callable[[], int] = int,
    ) -> None:
        super().__init__(most, close, elsewhere)
        self._open_one, self._limit = open_one, limit

    def take(self) -> Held[C]:
        """Return a connection that is the caller's until it gives it back or discards it.

        Raises:
            TimeoutError: none was ready in time.
            Exception: whatever ``open_one`` raised.
        """
        with self._lock:
            held = self._idle_one()
            if held is not None:
                return held
            waiter: Future[Held[C]] = Future()
            self._waiting[waiter] = None
        try:
            self._open_more()
            while not waiter.done():
                left = deadline.left()
                if left <= 0:
                    raise TimeoutError("no connection in time")
                self._wait(waiter, min(left, OVERDUE))
                self._open_more()  # openings that hang may be overdue by now
        except BaseException:
            self._leave(waiter)
            raise
        return waiter.result()

    def use(
        self,
        work: Callable[[C], T],
        broken: tuple[type[Exception], ...],
        repeated: Callable[[], object],
    ) -> T:
        """Work with a connection; once more with another one, when that was ``broken``.

        A server that was restarted has closed all that were idle, and does not say so before. So
        all are made anew then, and ``repeated`` is called: the server may have done it.
        """
        answer: T = run(self._use(self.take, work, broken, repeated), call)
        return answer

    def _wait(self, waiter: Future[Held[C]], seconds: float) -> None:
        with suppress(TimeoutError):
            waiter.exception(seconds)

    def _begin(self, wanted: list[_Opening]) -> None:
        for opening in wanted:
            if not (threads_run() and self._start(opening)):
                self._run(opening)

    def _start(self, opening: _Opening) -> bool:
        try:
            threading.Thread(
                target=self._run, args=[opening], name="sharedsession-connect", daemon=True
            ).start()
        except RuntimeError:  # there are too many, or the interpreter is about to end
            return False
        return True

    def _run(self, opening: _Opening | None) -> None:
        while opening is not None:
            closings = self._closings
            try:
                with within(self._limit):
                    connection = self._open_one()
            except BaseException as error:  # noqa: BLE001 - raised to the caller that waits
                wanted = self._failed(opening, error)
            else:
                wanted = self._ready(opening, connection, closings)
            opening = wanted.pop() if wanted else None  # in this thread, which is free
            self._begin(wanted)


class AsyncOpenings(_Book[C]):
    """The same for one event loop; a caller waits until it is cancelled."""

    def __init__(
        self,
        open_one: Callable[[], Awaitable[C]],
        close: Callable[[C], object],
        most: int,
        limit: float,
        elsewhere: Callable[[], int] = int,
    ) -> None:
        super().__init__(most, close, elsewhere)
        self._open_one, self._limit = open_one, limit
        self.tasks = Tasks()  # the openings that are under way, to be ended with their loop

    async def take(self) -> Held[C]:
        """See `Openings.take`."""
        held = self._idle_one()
        if held is not None:
            return held
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Held[C]] = loop.create_future()
        self._waiting[waiter] = None
        try:
            while not waiter.done():
                self._open_more()
                await asyncio.wait([waiter], timeout=OVERDUE)
        except BaseException:
            self._leave(waiter)
            raise
        return waiter.result()

    async def use(
        self,
        work: Callable[[C], Awaitable[T]],
        broken: tuple[type[Exception], ...],
        repeated: Callable[[], object],
    ) -> T:
        """See `Openings.use`."""
        answer: T = await arun(self._use(self.take, work, broken, repeated), call)
        return answer

    def _begin(self, wanted: list[_Opening]) -> None:
        for opening in wanted:
            self.tasks.start(self._run(opening), Context())

    async def _run(self, opening: _Opening) -> None:
        closings = self._closings
        try:
            async with asyncio.timeout(self._limit):
                connection = await self._open_one()
        except asyncio.CancelledError:
            never_begun = self._failed(opening, ConnectionError("the event loop is closing"))
            self._under_way.difference_update(never_begun)
            raise
        except BaseException as error:  # noqa: BLE001 - raised to the caller that waits
            self._begin(self._failed(opening, error))
        else:
            self._begin(self._ready(opening, connection, closings))
