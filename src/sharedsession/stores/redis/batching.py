"""Commands of one event loop that wait at the same time travel together.

With nothing in flight a command goes directly, in its caller's own task; whatever arrives meanwhile
gathers, and goes next, all at once, in a task of its own, which no caller's cancellation ends. In a
cluster each node has a line of its own, so that one that hangs holds up no other; and so have
writes that replicas must confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextvars import Context

from .._support.per_loop import Tasks
from .cluster import AsyncCluster
from .rights import Rights
from .servers import Answers, AsyncClientServer, AsyncServer, Request, Wait

OVERDUE = 0.1  # seconds after which a flight is stuck, perhaps, and holds no caller up any more
MOST_COMMANDS = 128
MOST_BYTES = 2**20

Way = AsyncServer | AsyncClientServer | AsyncCluster
Waiting = tuple[Request, asyncio.Future[object]]


class Lines:
    """One event loop's way to the server, or to a cluster's nodes, and its lines to each."""

    def __init__(self, way: Way, limit: float | None, rights: Rights) -> None:
        self.way = way
        self._rights = rights
        self.limit = limit  # of a flight, in seconds; None for a client that is the user's own
        self._lines: dict[tuple[str, Wait | None], Line] = {}
        self._beside = Tasks()  # what no request waits for

    def line(self, key: str, wait: Wait | None) -> Line:
        """Return the line in which what goes to the key's node travels together."""
        name = self.way.node(key), wait
        if name not in self._lines:
            self._lines[name] = Line(self.way, wait, self.limit, self._rights)
        return self._lines[name]

    def start(self, work: Coroutine[None, None, bool]) -> asyncio.Task[bool]:
        """Do something that no request waits for, until the loop ends."""
        return self._beside.start(work, Context())

    async def close(self) -> None:
        """End what is in flight, and the client that was made for this loop."""
        await self._beside.close()
        for line in self._lines.values():
            await line.flights.close()
        if self.limit is not None:
            await self.way.close()

    def hang_up(self) -> None:
        """Cut the connections that were made for this loop."""
        self._beside.hang_up()
        for line in self._lines.values():
            line.flights.hang_up()
        if self.limit is not None:
            self.way.hang_up()


class Line:
    """One flight of commands at a time, the next gathers."""

    def __init__(
        self,
        way: Way,
        wait: Wait | None,
        limit: float | None,
        rights: Rights,
    ) -> None:
        self._way, self._wait, self._limit, self._rights = way, wait, limit, rights
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._gathered: list[Waiting] = []  # what the flight carries that is in a task of its own
        self._in_flight = False
        self._since = 0.0  # when the latest flight began, on the loop's clock
        self.flights = Tasks()

    @property
    def busy(self) -> bool:
        """Whether who comes now must wait.

        Not for a flight that all its own have given up, nor for one that takes long: its connection
        may be dead, and the next one alive.
        """
        if not self._in_flight:
            return False
        abandoned = self._gathered and all(answer.done() for _, answer in self._gathered)
        return not abandoned and self._loop.time() - self._since < OVERDUE

    def run(self, request: Request) -> Awaitable[object]:
        """Return what gives the answer; an error that others have received too is one."""
        if not self.busy:
            return self._run_alone(request)
        answer: asyncio.Future[object] = self._loop.create_future()
        self._waiting.append((request, answer))
        return answer

    async def _run_alone(self, request: Request) -> object:
        return (await self.run_first([request]))[0]

    async def run_first(self, requests: list[Request]) -> Answers:
        """Send requests in the caller's own task, which `busy` has allowed."""
        self._in_flight, self._since = True, self._loop.time()
        try:
            async with asyncio.timeout(self._limit):
                return await self._send(requests)
        finally:
            self._in_flight = bool(self._waiting)
            if self._waiting:
                self.flights.start(self._fly())

    async def _fly(self) -> None:
        gathered: list[Waiting] = []
        try:
            while self._waiting:
                # Who was cancelled while waiting no longer wants the command to be run.
                gathered = [waiting for waiting in self._waiting if not waiting[1].done()]
                self._waiting, self._gathered = [], gathered
                self._since = self._loop.time()
                flights = [self._answer(batch) for batch in batches(gathered)]
                await (flights[0] if len(flights) == 1 else asyncio.gather(*flights))
        finally:
            self._in_flight = False
            self._gathered = []
            # No caller is left without an answer when the loop's shutdown ends a flight.
            left, self._waiting = [*gathered, *self._waiting], []
            _settle(left, [ConnectionError("the event loop is closing")] * len(left))

    async def _answer(self, batch: list[Waiting]) -> None:
        answers: Sequence[object]
        try:
            async with asyncio.timeout(self._limit):
                answers = await self._send([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - those who wait must learn of it
            answers = [error] * len(batch)
        _settle(batch, answers)

    async def _send(self, requests: list[Request]) -> Answers:
        for request in requests:
            self._rights.apply(request)
        answers: list[object] = [None] * len(requests)
        left = list(range(len(requests)))
        while left:
            sent = [requests[n] for n in left]
            for n, answer in zip(left, await self._way.send(sent, self._wait), strict=True):
                answers[n] = answer
            left = [n for n in left if self._rights.do_without(requests[n], answers[n])]
        return answers


def batches(waiting: list[Waiting]) -> list[list[Waiting]]:
    """Split what waits so that no batch is too long, or has too many bytes, to share one fate."""
    split: list[list[Waiting]] = []
    size = 0
    for one in waiting:
        length = sum([len(part) for part in one[0].command if isinstance(part, bytes)])
        if not split or len(split[-1]) == MOST_COMMANDS or size + length > MOST_BYTES:
            split.append([])
            size = 0
        split[-1].append(one)
        size += length
    return split


def _settle(batch: list[Waiting], answers: Sequence[object]) -> None:
    for (_, waiting), answer in zip(batch, answers, strict=True):
        if not waiting.done():
            waiting.set_result(answer)
