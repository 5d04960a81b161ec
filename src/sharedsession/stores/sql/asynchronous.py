"""What an async store has for each event loop: an engine, and the calls that are under way.

A flow runs as SQLAlchemy's own asyncio does it: in a greenlet, which steps aside wherever the
driver awaits. Each is a task of its own. A caller that is cancelled leaves it a moment for its end,
so that the connection stays in step and need not be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from .._support.per_loop import Tasks
from .._support.verbs import Flow, run
from .database import Database
from .dialects import SERVER_CONNECTIONS, Place, Statements, hang_up, make_async_engine
from .errors import outage

T = TypeVar("T")
ABANDONED = 0.25  # seconds for a flow to come to its end when its caller is gone
ALL_IN_USE = "all connections of this process were in use (raise ?pool_size=… in the store's URL)"


class Line:
    """One event loop's way to the database."""

    def __init__(self, database: Database, limit: float, connections: int) -> None:
        self.database = database
        self.limit = limit  # of a flow, in seconds
        # A caller cancelled while it waits for a connection is gone at once, and holds up no other.
        self._free = asyncio.Semaphore(connections)
        self._tasks = Tasks()
        self._connections = weakref.WeakSet[ConnectionPoolEntry]()
        if database.is_ours:
            sa.event.listen(database.engine, "connect", self._connected)

    def _connected(self, _: object, record: ConnectionPoolEntry) -> None:
        self._connections.add(record)

    async def run(self, flow: Flow[T]) -> T:
        """Return what a flow returns, in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limit
        try:
            async with asyncio.timeout_at(end):
                await self._free.acquire()
        except TimeoutError as error:
            raise outage(self.database.place, ALL_IN_USE) from error
        task = self.start(flow)
        task.add_done_callback(lambda _: self._free.release())
        try:
            await asyncio.wait([task], timeout=max(end - loop.time(), 0))
        except asyncio.CancelledError:
            loop.call_later(ABANDONED, _cut, task)
            raise
        if task.done() and not task.cancelled():
            return task.result()
        raise outage(self.database.place, "no answer in time")

    def start(self, flow: Flow[T]) -> asyncio.Task[T]:
        """Run a flow to its end or its limit, whether or not its caller still waits."""
        loop = asyncio.get_running_loop()
        task: asyncio.Task[T] = self._tasks.start(greenlet_spawn(run, flow, self.database.ask))
        limit = loop.call_later(self.limit, _cut, task)
        task.add_done_callback(partial(_ended, limit))
        return task

    async def close(self) -> None:
        """End what is under way, and the connections that were made for this loop."""
        await self._tasks.close()
        if self.database.is_ours:
            with contextlib.suppress(TimeoutError, SQLAlchemyError, OSError):
                async with asyncio.timeout(self.limit):
                    await greenlet_spawn(self.database.engine.dispose)

    def hang_up(self) -> None:
        """Cut the connections that were made for this loop."""
        self._tasks.hang_up()
        for record in list(self._connections):
            if record.dbapi_connection is not None:
                hang_up(record.dbapi_connection)
        if self.database.is_ours:
            self.database.engine.dispose(close=False)


def make_line(place: Place, statements: Statements, timeout: float) -> Line:
    """Return what is made for an event loop from a URL."""
    engine: sa.Engine = make_async_engine(place, timeout).sync_engine
    database = Database(engine, statements, timeout)
    return Line(database, timeout, place.connections or SERVER_CONNECTIONS)


def _ended(limit: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
    limit.cancel()
    if not task.cancelled():
        task.exception()  # raised to the caller, if one still waited


def _cut(task: asyncio.Task[Any]) -> None:
    """Cancel a flow until it has ended.

    At the first time psycopg would ask the server to cancel the statement, and wait for seconds.
    """
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_later(ABANDONED, _cut, task)
