"""Sessions in one table of an SQL database, through SQLAlchemy Core.

Every verb is a single statement that holds its own conditions, so nothing rests on a transaction's
isolation: a replacement is ``UPDATE … WHERE key = … AND tokens = … AND expires > now``, and the
count of rows says whether it took place. When it did not, one look at the row's tokens tells a
command that was repeated from one that lost. The column ``tokens`` holds the tokens of the last few
writes, newest first, and is compared whole; it is the `Entry.token`.

The table is created on first use. Time is the clock's of this process: servers that share a table
need clocks that agree to within a second or so, as they do for everything else.

The verbs stand once, as plain functions. An async store runs them as SQLAlchemy's own asyncio does:
in a greenlet, which steps aside wherever the driver awaits. Each call is a task of its own: whoever
is cancelled leaves it a moment for its end, so that the connection stays in step and need not be
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from ..exceptions import StoreFull, StoreUnavailable
from . import sql_errors, sql_pushes
from .base import TOKEN_BYTES, Entry, Event, fate_of, new_token, with_token
from .loops import Loops
from .sql_dialects import (
    SERVER_CONNECTIONS,
    TABLE,
    Place,
    Statements,
    find,
    hang_up,
    left_to_the_parent,
    make_async_engine,
    make_engine,
    refuse_memory,
)
from .waiting import deadline, within

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Result = CursorResult[Any]  # Any: a row's columns differ from statement to statement
Clock = Callable[[], float]
CREATES_PER_SWEEP = 100
SWEPT_AT_ONCE = 250
ABANDONED = 0.25  # seconds for an awaited call to come to its end when nobody waits any more
LONGEST_CALL = 60.0  # seconds, of an awaited call by an engine of the user's own
ROLLED_BACK = 10  # tries of a statement that the database itself undoes, for another's sake
ALL_IN_USE = "all connections of this process were in use (raise ?pool_size=… in the store's URL)"
UNKNOWN = "a write's answer was lost, and after what others wrote since its outcome is unknown"


class _Verbs:
    """The verbs and their way to the database, in a thread or in a greenlet."""

    def __init__(self, engine: sa.Engine, statements: Statements, clock: Clock) -> None:
        self._engine = engine
        self._statements = statements
        self._clock = clock
        self._timeout: float | None = None  # of a call; None for an engine that is the user's own
        self._ready = False
        sa.event.listen(engine, "handle_error", sql_errors.suspect_connections)

    @property
    def ours(self) -> bool:
        """Whether the engine was made here, from a URL; else it is the user's own."""
        return self._timeout is not None

    @property
    def _delete_expired(self) -> sa.Executable:
        return self._statements.delete_expired

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        with self._in_time():
            return self._load(key, self._clock())

    def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `base.Replicated`."""
        with self._in_time():
            values = {"keys": list(keys), "now": self._clock()}
            rows = self._run(self._statements.select_all, values, _all_rows)
            found = {row[0]: Entry(row[3], row[1], row[4], row[2]) for row in rows}
            return [found.get(key) for key in keys]

    def beat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        with self._in_time():
            self._run(
                sql_pushes.BEAT,
                sql_pushes.beat_values(self._statements, listener, number),
                _row_count,
            )

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        with self._in_time():
            now, tokens = self._clock(), with_token(self._new_token())
            created = Entry(data, 1, now + ttl, tokens)
            values = {**_values(created, owner), "the_key": key, "now": now}
            inserted, repeated = self._attempt(partial(self._insert, values))
            if not inserted:
                return self._found(key, created, b"", repeated, now)
            if random.random() * CREATES_PER_SWEEP < 1:
                self._sweep_soon()
            return created

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        with self._in_time():
            now, earlier = self._clock(), _tokens(entry)
            tokens = with_token(self._new_token(), earlier)
            replaced = Entry(data, max(entry.version, at_least) + 1, now + ttl, tokens)
            conditions = {"the_key": key, "now": now, "old_tokens": earlier}
            values = {**_values(replaced, owner), **conditions}
            swap = partial(self._execute, self._statements.swap, values, _row_count)
            swapped, repeated = self._attempt(swap)
            if swapped:
                return replaced
            return self._found(key, replaced, earlier, repeated, now)

    def touch(self, key: str, ttl: int) -> bool:
        with self._in_time():
            now = self._clock()
            values = {"the_key": key, "now": now, "new_expires": now + ttl}
            return self._run(self._statements.prolong, values, _row_count) > 0

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        """See `base.Store`; repeated after a lost answer, it says of an absent key False as well.

        Who removed it is not known then, and the caller that looks again finds it gone.
        """
        with self._in_time():
            if entry is None:
                self._run(self._statements.delete, {"the_key": key}, _row_count)
                return True
            values = {"the_key": key, "now": self._clock(), "old_tokens": _tokens(entry)}
            return self._run(self._statements.delete_entry, values, _row_count) > 0

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired rows."""
        with self._in_time():
            return self._sweep(limit)

    def create_table(self) -> None:
        """Make the table and its indices, where they are not yet."""
        with self._in_time():
            self._attempt(partial(self._statements.create, self._engine, complete=True))

    def create_trigger(self) -> None:
        """Make what tells of writes, where it is not yet; PostgreSQL only."""
        with self._in_time():
            self._attempt(partial(sql_pushes.create, self._engine, self._statements))

    def _sweep(self, limit: int) -> int:
        most = min(limit, 10_000)  # databases bound the number of values in a statement
        known, when = self._statements, {"now": self._clock()}
        if known.sweep is not None:
            return self._run(known.sweep, {**when, "limit": most}, _row_count)
        keys = self._run(known.expired, {**when, "limit": most}, _first_column)
        if not keys:
            return 0
        return self._run(self._delete_expired, {**when, "keys": keys}, _row_count)

    def _new_token(self) -> bytes:
        return new_token()

    def _load(self, key: str, now: float) -> Entry | None:
        row = self._run(self._statements.select, {"the_key": key, "now": now}, _first_row)
        return None if row is None else Entry(row[2], row[0], row[3], row[1])

    def _insert(self, values: dict[str, object]) -> int:
        try:
            return self._execute(self._statements.insert, values, _row_count)
        except IntegrityError:
            return self._execute(self._statements.take_over, values, _row_count)

    def _found(
        self, key: str, written: Entry, compared: bytes, repeated: bool, now: float
    ) -> Entry | None:
        """Look at the row that a write has not changed: an earlier try of it may have."""
        entry = self._load(key, now)
        if entry is None:
            return None
        own = _tokens(written)[:TOKEN_BYTES]
        fate = fate_of(_tokens(entry), own, compared, repeated=repeated)
        if fate == "unknown":
            raise self._outage(UNKNOWN)
        return dataclasses.replace(written, repeated=True) if fate == "written" else None

    def _sweep_soon(self) -> None:
        # The session that was created does not depend on it, and has its own answer to give.
        if self._timeout is None or deadline.left() > self._timeout / 2:
            with contextlib.suppress(StoreUnavailable):
                self._sweep(SWEPT_AT_ONCE)

    def _in_time(self) -> contextlib.AbstractContextManager[None]:
        """Return what a call is made in, so that it ends in time."""
        return within(self._timeout)

    def _run(
        self, statement: sa.Executable, values: Mapping[str, object], take: Callable[[Result], T]
    ) -> T:
        return self._attempt(partial(self._execute, statement, values, take))[0]

    def _execute(
        self, statement: sa.Executable, values: Mapping[str, object], take: Callable[[Result], T]
    ) -> T:
        if not self._ready:
            self._statements.create(self._engine)
            self._ready = True
        with self._connect() as connection:
            return take(connection.execute(statement, values))

    def _connect(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Return a connection that has committed when it is given back.

        One of an engine that was made from a URL commits by itself, and to say so costs MySQL a
        round trip.
        """
        return self._engine.connect() if self.ours else self._engine.begin()

    def _attempt(self, step: Callable[[], T]) -> tuple[T, bool]:
        """Take a step that talks to the database; again when its connection was of no use.

        After such a connection all that were idle are suspect, and replaced by SQLAlchemy. What
        the database has undone itself, it has not done: that may be said again more often. Return
        with the answer whether the step was repeated, and may have been done before.
        """
        left = {"lost": 1, "refused": 1, "undone": ROLLED_BACK}
        repeated = False
        while True:
            try:
                return step(), repeated
            except (SQLAlchemyError, OSError) as error:
                kind = sql_errors.kind_of(error)
                self._ready = False  # the table may have gone with its file
                if kind is None or not left.get(kind) or not self._has_time(kind):
                    full = kind == "full" and not repeated
                    outage = self._outage(sql_errors.reason(error), full=full)
                    raise outage from sql_errors.cause(error)
                left[kind] -= 1
                repeated = repeated or kind == "lost"

    def _has_time(self, kind: sql_errors.Kind) -> bool:
        """Whether it may be tried again; a new connection, and what is said on it, take some."""
        if self._timeout is None:
            return True
        return deadline.left() > (0 if kind == "undone" else self._timeout / 2)

    def _outage(self, reason: str, *, full: bool = False) -> StoreUnavailable:
        url = self._engine.url
        place = f"SQLite file {url.database}"
        if url.get_backend_name() != "sqlite":
            where = f" at {url.host}:{url.port}" if url.host and url.port else f" at {url.host}"
            name = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
            backend = url.get_backend_name()
            place = (
                f"{name.get(backend, backend)} database {url.database}{where if url.host else ''}"
            )
        kind = StoreFull if full else StoreUnavailable
        return kind(f"The session store ({place}) failed: {reason}.")


class SQLStore(_Verbs):
    """A store in an SQL database; ``engine`` is an ordinary (not an async) SQLAlchemy engine."""

    blocking = True

    def __init__(
        self,
        engine: sa.Engine,
        table: str = TABLE,
        clock: Clock = time.time,
        *,
        schema: str | None = None,
    ) -> None:
        if not isinstance(engine, sa.Engine) or engine.dialect.is_async:
            awaited = type(engine).__name__ == "AsyncEngine" or isinstance(engine, sa.Engine)
            advice = " For an async engine there is AsyncSQLStore." if awaited else ""
            raise TypeError(
                f"SQLStore needs an ordinary SQLAlchemy engine, not {type(engine).__name__}: make "
                f"one with sqlalchemy.create_engine. Under ASGI it is called in threads.{advice}"
            )
        refuse_memory(engine.url)
        super().__init__(
            _for_us(engine),
            Statements(table, schema, engine.dialect),
            clock,
        )
        self._process = [os.getpid()]  # whose connections these are; the finalizer asks as well
        self._forked = threading.Lock()

    @classmethod
    def from_url(
        cls, url: str, timeout: float = 1.0, table: str | None = None, clock: Clock = time.time
    ) -> SQLStore:
        """Return a store with an engine of its own, whose calls end within ``timeout`` seconds.

        SQLite waits for a lock up to ``timeout``, in each of the statements of a call.
        """
        place = find(url)
        engine = make_engine(place, timeout)
        store = cls(engine, table or place.table, clock, schema=place.schema)
        store._engine = engine  # commits by itself; the option would be set anew on every call
        store._timeout = timeout
        weakref.finalize(store, _dispose, engine, store._process)
        return store

    @property
    def pushes(self) -> bool:
        """PostgreSQL does, if its driver is psycopg."""
        return sql_pushes.are_heard(self._engine)

    def listen(self, listener: str) -> Iterator[Event]:
        """See `base.Pushing`."""
        if self._process[0] != os.getpid():
            self._forget_connections()
        return sql_pushes.listen(self._engine, self._statements, listener)

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self.ours:
            _dispose(self._engine, self._process)

    def _attempt(self, step: Callable[[], T]) -> tuple[T, bool]:
        if self._process[0] != os.getpid():  # not every server runs Python's fork hooks
            self._forget_connections()
        return super()._attempt(step)

    def _forget_connections(self) -> None:
        with self._forked:
            if self._process[0] != os.getpid():
                _dispose(self._engine, self._process)
                self._process[0] = os.getpid()


class AsyncSQLStore:
    """A store in an SQL database for asyncio; ``engine`` is an `AsyncEngine`, used as it is."""

    def __init__(
        self,
        engine: AsyncEngine,
        table: str = TABLE,
        clock: Clock = time.time,
        *,
        schema: str | None = None,
    ) -> None:
        inner = getattr(engine, "sync_engine", None)
        if not isinstance(inner, sa.Engine):
            advice = " Use SQLStore for an ordinary one." if isinstance(engine, sa.Engine) else ""
            raise TypeError(
                "AsyncSQLStore needs an async SQLAlchemy engine, not "
                f"{type(engine).__name__}: make one with "
                f"sqlalchemy.ext.asyncio.create_async_engine.{advice}"
            )
        refuse_memory(inner.url)
        verbs = _TaskVerbs(
            _for_us(inner),
            Statements(table, schema, inner.dialect),
            clock,
        )
        # Its pool counts its connections itself; a call of a request ends long before the limit.
        self._lines = Loops(lambda: _Line(verbs, LONGEST_CALL, sys.maxsize))

    @classmethod
    def from_url(
        cls, url: str, timeout: float = 1.0, table: str | None = None, clock: Clock = time.time
    ) -> AsyncSQLStore:
        """Return a store that makes one engine for each event loop it is used on."""
        place = find(url, asynchronous=True)
        make_async_engine(place, timeout)  # what is wrong with the URL shows now
        store = cls.__new__(cls)
        store._lines = Loops(partial(_make_line, place, timeout, table or place.table, clock))
        return store

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        return await self._call(_Verbs.load, key, at_least)

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        return await self._call(_Verbs.create, key, data, ttl, owner)

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return await self._call(_Verbs.replace, key, entry, data, ttl, owner, at_least)

    async def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `base.Replicated`."""
        return await self._call(_Verbs.load_all, keys)

    async def beat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        await self._call(_Verbs.beat, listener, number)

    async def touch(self, key: str, ttl: int) -> bool:
        return await self._call(_Verbs.touch, key, ttl)

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        return await self._call(_Verbs.delete, key, entry)

    async def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired rows."""
        return await self._call(_Verbs.sweep, limit)

    async def create_table(self) -> None:
        """Make the table and its indices, where they are not yet."""
        await self._call(_Verbs.create_table)

    async def _call(self, verb: Callable[..., T], *arguments: object) -> T:
        line = await self._lines.here()
        return await line.run(partial(verb, line.verbs, *arguments))


class _TaskVerbs(_Verbs):
    """The verbs in a greenlet of a task, whose deadline is the task's."""

    def __init__(self, engine: sa.Engine, statements: Statements, clock: Clock) -> None:
        super().__init__(engine, statements, clock)
        self._start: Callable[[Callable[[], object]], object] = lambda _: None

    def _in_time(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _has_time(self, kind: sql_errors.Kind) -> bool:
        return True

    def _sweep_soon(self) -> None:
        self._start(partial(self._sweep, SWEPT_AT_ONCE))


class _Line:
    """One event loop's way to the database."""

    def __init__(self, verbs: _TaskVerbs, limit: float, connections: int) -> None:
        self.verbs = verbs
        self.limit = limit  # of a call, in seconds
        # Who goes away while waiting for a connection is gone at once, and holds up nobody.
        self._free = asyncio.Semaphore(connections)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connections = weakref.WeakSet[ConnectionPoolEntry]()
        verbs._start = self.start
        if verbs.ours:
            sa.event.listen(verbs._engine, "connect", self._connected)

    def _connected(self, _: object, record: ConnectionPoolEntry) -> None:
        self._connections.add(record)

    async def run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limit
        try:
            async with asyncio.timeout_at(end):
                await self._free.acquire()
        except TimeoutError as error:
            raise self.verbs._outage(ALL_IN_USE) from error
        task = self.start(call)
        task.add_done_callback(lambda _: self._free.release())
        try:
            await asyncio.wait([task], timeout=max(end - loop.time(), 0))
        except asyncio.CancelledError:
            loop.call_later(ABANDONED, _cut, task)
            raise
        if task.done() and not task.cancelled():
            return task.result()
        raise self.verbs._outage("no answer in time")

    def start(self, call: Callable[[], T]) -> asyncio.Task[T]:
        """Run a call to its end or its limit, whether or not somebody waits for it."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(greenlet_spawn(call))
        self._tasks.add(task)
        limit = loop.call_later(self.limit, _cut, task)
        task.add_done_callback(partial(self._ended, limit))
        return task

    def _ended(self, limit: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        limit.cancel()
        if not task.cancelled():
            task.exception()  # told to whoever waited, if anybody did

    async def close(self) -> None:
        """End what is under way, and the connections that were made for this loop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.verbs.ours:
            with contextlib.suppress(TimeoutError, SQLAlchemyError, OSError):
                async with asyncio.timeout(self.limit):
                    await greenlet_spawn(self.verbs._engine.dispose)

    def hang_up(self) -> None:
        """Cut the connections that were made for this loop."""
        for task in self._tasks:
            task.cancel()
        for record in list(self._connections):
            if record.dbapi_connection is not None:
                hang_up(record.dbapi_connection)
        if self.verbs.ours:
            self.verbs._engine.dispose(close=False)


def _cut(task: asyncio.Task[Any]) -> None:
    """Cancel a call until it has ended.

    At the first time psycopg would ask the server to cancel the statement, and wait for seconds.
    """
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_later(ABANDONED, _cut, task)


def _make_line(place: Place, timeout: float, table: str, clock: Clock) -> _Line:
    engine: sa.Engine = make_async_engine(place, timeout).sync_engine
    verbs = _TaskVerbs(engine, Statements(table, place.schema, engine.dialect), clock)
    verbs._timeout = timeout
    return _Line(verbs, timeout, place.connections or SERVER_CONNECTIONS)


def _for_us(engine: sa.Engine) -> sa.Engine:
    """Return an engine of the user's own as our calls use it."""
    options: dict[str, object] = {sql_errors.OURS: True}
    if engine.dialect.name not in ("mysql", "mariadb"):
        # There it takes two round trips, of which SQLAlchemy does not see that they fail.
        options["isolation_level"] = "AUTOCOMMIT"
    return engine.execution_options(**options)


def _tokens(entry: Entry) -> bytes:
    return entry.token if isinstance(entry.token, bytes) else b""


def _values(entry: Entry, owner: str | None) -> dict[str, object]:
    return {
        "new_version": entry.version,
        "new_tokens": entry.token,
        "new_data": entry.data,
        "new_expires": entry.expires,
        "new_owner": owner,
    }


def _first_row(result: Result) -> tuple[int, bytes, bytes, float] | None:
    return cast("tuple[int, bytes, bytes, float] | None", result.first())


def _all_rows(result: Result) -> Sequence[Any]:
    return result.all()


def _first_column(result: Result) -> Sequence[object]:
    return result.scalars().all()


def _row_count(result: Result) -> int:
    return result.rowcount


def _dispose(engine: sa.Engine, process: list[int]) -> None:
    own, pool = process[0] == os.getpid(), engine.pool
    if not own:
        left_to_the_parent.append(pool)
    engine.dispose(close=own)
    # A connection in use comes back to the old pool, which nobody will look into any more.
    sa.event.listen(pool, "checkin", lambda _, record: record.invalidate())
