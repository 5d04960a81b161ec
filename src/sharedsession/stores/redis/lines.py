"""Commands of one event loop that wait at the same time travel together.

With nothing in flight a command goes directly, in its caller's own task; whatever arrives meanwhile
gathers, and goes next, all at once, in a task of its own, which nobody's cancellation ends. In a
cluster each node has a line of its own, so that one that hangs holds up no other; and so have
writes that replicas must confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import redis.asyncio
from redis.exceptions import NoScriptError

from .clients import AsyncClient, NotedConnection
from .routes import Answers, AsyncCluster, AsyncServer, Request, Wait
from .scripts import bring_script

OVERDUE = 0.1  # seconds after which a flight is stuck, perhaps, and holds nobody up any more
MOST_COMMANDS = 128
MOST_BYTES = 2**20

Waiting = tuple[Request, asyncio.Future[object]]


class Lines:
    """One event loop's client, and its lines to it."""

    def __init__(
        self,
        client: AsyncClient,
        limit: float | None,
        opened: Iterable[NotedConnection] = (),
    ) -> None:
        self.client = client
        self.way = _way(client)
        self._opened = opened  # connections that were made for this loop
        self.limit = limit  # of a flight, in seconds; None for a client that is the user's own
        self._lines: dict[tuple[str, Wait | None], Line] = {}

    def line(self, key: str, wait: Wait | None) -> Line:
        """Return the line in which what goes to the key's node travels together."""
        name = self.way.node(key), wait
        if name not in self._lines:
            self._lines[name] = Line(self.way, wait, self.limit)
        return self._lines[name]

    async def close(self) -> None:
        """End what is in flight, and the client that was made for this loop."""
        for line in self._lines.values():
            await line.close()
        if self.limit is not None:
            await self.way.close()

    def hang_up(self) -> None:
        """Cut the connections that were made for this loop."""
        for line in self._lines.values():
            line.hang_up()
        for connection in list(self._opened):
            connection.abort()
        if self.limit is not None:
            self.way.hang_up()


class Line:
    """One flight of commands at a time, the next gathers."""

    def __init__(
        self, way: AsyncServer | AsyncCluster, wait: Wait | None, limit: float | None
    ) -> None:
        self._way, self._wait, self._limit = way, wait, limit
        self._waiting: list[Waiting] = []
        self._gathered: list[Waiting] = []  # what the flight carries that is in a task of its own
        self._in_flight = False
        self._since = 0.0  # when the latest flight began, on the loop's clock
        self._flights: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether who comes now must wait.

        Not for a flight that all its own have given up, nor for one that takes long: its connection
        may be dead, and the next one alive.
        """
        if not self._in_flight:
            return False
        abandoned = self._gathered and all(answer.done() for _, answer in self._gathered)
        return not abandoned and asyncio.get_running_loop().time() - self._since < OVERDUE

    async def run(self, request: Request) -> object:
        """Return the answer; an error that others have received as well is returned too."""
        if self.busy:
            answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, answer))
            return await answer
        return (await self.run_first([request]))[0]

    async def run_first(self, requests: list[Request]) -> Answers:
        """Send requests in the caller's own task, which `busy` has allowed."""
        loop = asyncio.get_running_loop()
        self._in_flight, self._since = True, loop.time()
        try:
            async with asyncio.timeout(self._limit):
                return await self._send(requests)
        finally:
            self._in_flight = bool(self._waiting)
            if self._waiting:
                flight = loop.create_task(self._fly())
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)

    async def close(self) -> None:
        """End what is in flight."""
        self.hang_up()
        if self._flights:
            await asyncio.wait(self._flights)

    def hang_up(self) -> None:
        """The same, without waiting for it."""
        for flight in self._flights:
            flight.cancel()

    async def _fly(self) -> None:
        gathered: list[Waiting] = []
        try:
            while self._waiting:
                # Who was cancelled while waiting no longer wants the command to be run.
                gathered = [waiting for waiting in self._waiting if not waiting[1].done()]
                self._waiting, self._gathered = [], gathered
                self._since = asyncio.get_running_loop().time()
                flights = [self._answer(batch) for batch in batches(gathered)]
                await (flights[0] if len(flights) == 1 else asyncio.gather(*flights))
        finally:
            self._in_flight = False
            self._gathered = []
            # Nobody is left without an answer when the loop's shutdown ends a flight.
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
        answers = await self._way.send(requests, self._wait)
        unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            scripts = [requests[n] for n in unknown]
            for request in scripts:
                bring_script(request)
            for n, answer in zip(unknown, await self._way.send(scripts, self._wait), strict=True):
                answers[n] = answer
        return answers


def _way(client: AsyncClient) -> AsyncServer | AsyncCluster:
    if isinstance(client, redis.asyncio.RedisCluster):
        return AsyncCluster(client)
    return AsyncServer(client)


def batches(waiting: list[Waiting]) -> list[list[Waiting]]:
    """Split what waits so that no batch is too long, or has too many bytes, to share one fate."""
    split: list[list[Waiting]] = []
    size = 0
    for one in waiting:
        length = sum(len(part) for part in one[0].command if isinstance(part, bytes))
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
