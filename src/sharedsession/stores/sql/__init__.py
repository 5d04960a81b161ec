"""Sessions in one table of an SQL database, through SQLAlchemy Core.

Every verb is a single statement that holds its own conditions, so nothing rests on a transaction's
isolation: a replacement is ``UPDATE … WHERE key = … AND tokens = … AND expires > now``, and the
count of rows says whether it took place. When it did not, one look at the row's tokens tells a
command that was repeated from one that lost. The column ``tokens`` holds the tokens of the last few
writes, newest first, and is compared whole; it is the `Entry.token`.

The table is created on first use. Time is the database's: it computes when a row expires, and it
compares. Only a database whose clock is not known here is given this process's.

The verbs stand once, as plain functions. An async store runs them as SQLAlchemy's own asyncio does:
in a greenlet, which steps aside wherever the driver awaits. Each call is a task of its own. A
caller that is cancelled leaves it a moment for its end, so that the connection stays in step and
need not be closed.
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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..._core.extras import missing

try:
    import sqlalchemy as sa
except ModuleNotFoundError as error:
    raise missing(error, "sql", "sqlalchemy") from error
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from ...exceptions import StoreFull, StoreUnavailable, TooLarge
from .._support.deadline import deadline, within
from .._support.per_loop import Loops
from ..base import TOKEN_BYTES, Entry, Event, Finding, fate_of, new_token, with_token
from . import checks, errors, invalidation
from .dialects import (
    CLOCKS,
    SERVER_CONNECTIONS,
    SURELY_TAKEN,
    TABLE,
    Place,
    Statements,
    find,
    hang_up,
    largest,
    left_to_the_parent,
    make_async_engine,
    make_engine,
    metadata,
    refuse_memory,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncSQLStore", "SQLStore", "metadata"]

T = TypeVar("T")
Result = CursorResult[Any]  # Any: a row's columns differ from statement to statement
Clock = Callable[[], float]  # tests put one in the place of the database's
Written = tuple[bool, float | None]
CREATES_PER_SWEEP = 100
SWEPT_AT_ONCE = 250
MOST_SWEPT = 10_000  # databases bound the number of values in a statement
ABANDONED = 0.25  # seconds for an awaited call to come to its end when its caller is gone
LONGEST_CALL = 60.0  # seconds, of an awaited call by an engine of the user's own
ROLLED_BACK = 10  # tries of a statement that the database itself undoes, for another's sake
ALL_IN_USE = "all connections of this process were in use (raise ?pool_size=… in the store's URL)"
UNKNOWN = "a write's answer was lost, and after what others wrote since its outcome is unknown"


@dataclass
class _Sweep:
    """What one sweep has come to; it is over at its limit, or when it has seen the whole table."""

    limit: int
    removed: int = 0
    whole: bool = False  # it has seen the table's beginning
    ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        return self.ended or self.removed >= self.limit


class _Verbs:
    """The verbs and their way to the database, in a thread or in a greenlet."""

    def __init__(
        self, engine: sa.Engine, table: str, schema: str | None, clock: Clock | None
    ) -> None:
        self._engine = engine
        dialect = engine.dialect
        self._clock = clock or (None if dialect.name in CLOCKS else time.time)
        self._statements = Statements(table, schema, dialect, timed=self._clock is not None)
        self._timeout: float | None = None  # of a call; None for an engine that is the user's own
        self._ready = False
        self._swept_to: object = None  # where the next chunk of a sweep begins
        sa.event.listen(engine, "handle_error", errors.suspect_connections)

    @property
    def ours(self) -> bool:
        """Whether the engine was made here, from a URL; else it is the user's own."""
        return self._timeout is not None

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        with self._in_time():
            return self._load({"the_key": key, **self._now()})

    def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `base.Replicated`."""
        with self._in_time():
            values = {"keys": list(keys), **self._now()}
            rows = self._run(self._statements.select_all, values, _all_rows)
            found = {row[0]: Entry(row[3], row[1], row[4], row[2]) for row in rows}
            return [found.get(key) for key in keys]

    def heartbeat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        with self._in_time():
            self._run(
                invalidation.HEARTBEAT,
                invalidation.heartbeat_values(self._statements, listener, number),
                _row_count,
            )

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        with self._in_time():
            created = Entry(data, 1, None, with_token(self._new_token()))
            written = self._write(self._insert, key, created, b"", ttl, owner)
            if written is not None and random.random() * CREATES_PER_SWEEP < 1:
                self._sweep_soon()
            return written

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
            earlier = entry.token
            tokens = with_token(self._new_token(), earlier)
            replaced = Entry(data, max(entry.version, at_least) + 1, None, tokens)
            swap = partial(self._execute, self._statements.swap, take=_written)
            return self._write(swap, key, replaced, earlier, ttl, owner)

    def touch(self, key: str, ttl: int) -> bool:
        with self._in_time():
            values = {"the_key": key, "ttl": ttl, **self._now()}
            return self._run(self._statements.prolong, values, _row_count) > 0

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        """See `base.Store`; repeated after a lost answer, it says of an absent key False as well.

        Who removed it is not known then, and the caller that looks again finds it gone.
        """
        with self._in_time():
            if entry is None:
                self._run(self._statements.delete, {"the_key": key}, _row_count)
                return True
            values = {"the_key": key, "old_tokens": entry.token, **self._now()}
            return self._run(self._statements.delete_entry, values, _row_count) > 0

    def create_table(self) -> None:
        """Make the table, where it is not yet."""
        with self._in_time():
            self._attempt(partial(self._statements.create, self._engine))

    def create_trigger(self) -> None:
        """Make what publishes invalidations, where it is not yet; PostgreSQL only."""
        with self._in_time():
            self._attempt(partial(invalidation.create, self._engine, self._statements))

    def sweep_chunk(self, sweep: _Sweep) -> None:
        """Remove what has expired in the next chunk; it is next again if it may have more.

        A store begins anywhere: else processes that live shortly would all sweep the same chunk.
        """
        with self._in_time():
            known, now = self._statements, self._now()
            if self._swept_to is None:
                self._swept_to = self._run(known.somewhere, {}, _scalar) or known.start
            sweep.whole |= self._swept_to == known.start
            begin = {"position": self._swept_to, **now}
            end = self._run(known.chunk_end, begin, _scalar)
            if end is None:
                self._swept_to, sweep.ended = known.start, sweep.whole
                return
            limit = min(sweep.limit - sweep.removed, MOST_SWEPT)
            found, removed = self._remove({**begin, "end": end, "limit": limit})
            sweep.removed += removed
            if found < limit:
                self._swept_to = end

    def _remove(self, chunk: dict[str, object]) -> tuple[int, int]:
        """Return how many rows of a chunk were found to have expired, and were removed."""
        known = self._statements
        if known.sweep is not None:
            removed = self._run(known.sweep, chunk, _row_count)
            return removed, removed
        keys = self._run(known.expired, chunk, _first_column)
        values = {**chunk, "keys": keys}
        return len(keys), self._run(known.delete_expired, values, _row_count) if keys else 0

    def _now(self) -> dict[str, object]:
        """Return the moment as a parameter, where it is not the server that knows it."""
        return {} if self._clock is None else {"now": self._clock()}

    def _new_token(self) -> bytes:
        return new_token()

    def _load(self, values: Mapping[str, object]) -> Entry | None:
        row = self._run(self._statements.select, values, _first_row)
        return None if row is None else Entry(row[2], row[0], row[3], row[1])

    def _insert(self, values: dict[str, object]) -> Written:
        try:
            return self._execute(self._statements.insert, values, _written)
        except IntegrityError:
            return self._execute(self._statements.take_over, values, _written)

    def _write(
        self,
        step: Callable[[dict[str, object]], Written],
        key: str,
        entry: Entry,
        compared: bytes,
        ttl: int,
        owner: str | None,
    ) -> Entry | None:
        """Make a write; when it has changed no row, look at that: an earlier try of it may have."""
        now = self._now()
        values = {
            "the_key": key,
            "new_version": entry.version,
            "new_tokens": entry.token,
            "new_data": entry.data,
            "new_owner": owner,
            "old_tokens": compared,
            "ttl": ttl,
            **now,
        }
        (written, expires), repeated = self._attempt(partial(step, values))
        if written:
            if self._clock is not None:
                expires = cast("float", now["now"]) + ttl
            return dataclasses.replace(entry, expires=expires)
        found = self._load({"the_key": key, **now})
        if found is None:
            return None
        own = entry.token[:TOKEN_BYTES]
        fate = fate_of(found.token, own, compared, repeated=repeated)
        if fate == "unknown":
            raise self._outage(UNKNOWN)
        if fate != "written":
            return None
        return dataclasses.replace(entry, expires=found.expires, repeated=True)

    def _sweep_soon(self) -> None:
        # The session that was created does not depend on it, and has its own answer to give.
        if self._timeout is None or deadline.left() > self._timeout / 2:
            with contextlib.suppress(StoreUnavailable):
                self.sweep_chunk(_Sweep(SWEPT_AT_ONCE))

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
            if len(cast("bytes", values.get("new_data", b""))) > SURELY_TAKEN:
                self._refuse_too_large(connection, len(cast("bytes", values["new_data"])))
            return take(connection.execute(statement, values))

    def _refuse_too_large(self, connection: sa.Connection, size: int) -> None:
        """Look before sending: a server may hang up on what is too large, as if it had failed."""
        limit, reason = largest(connection)
        if size > limit:
            raise TooLarge(
                f"The session takes {size} bytes, and the session store ({self._place}) takes at "
                f"most {limit} ({reason}): keep less in the session.",
                size,
                limit,
            )

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
                kind = errors.kind_of(error)
                self._ready = False  # the table may have gone with its file
                if kind is None or not left.get(kind) or not self._has_time(kind):
                    full = kind == "full" and not repeated
                    outage = self._outage(errors.reason(error), full=full)
                    raise outage from errors.cause(error)
                left[kind] -= 1
                repeated = repeated or kind == "lost"

    def _has_time(self, kind: errors.Kind) -> bool:
        """Whether it may be tried again; a new connection, and what is said on it, take some."""
        if self._timeout is None:
            return True
        return deadline.left() > (0 if kind == "undone" else self._timeout / 2)

    @property
    def _place(self) -> str:
        """The database in a sentence, without a password."""
        url = self._engine.url
        if url.get_backend_name() == "sqlite":
            return f"SQLite file {url.database}"
        where = f" at {url.host}:{url.port}" if url.host and url.port else f" at {url.host}"
        name = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
        backend = url.get_backend_name()
        return f"{name.get(backend, backend)} database {url.database}{where if url.host else ''}"

    def _outage(self, reason: str, *, full: bool = False) -> StoreUnavailable:
        kind = StoreFull if full else StoreUnavailable
        return kind(f"The session store ({self._place}) failed: {reason}.")


class SQLStore(_Verbs):
    """A store in an SQL database; ``engine`` is an ordinary (not an async) SQLAlchemy engine."""

    blocking = True

    def __init__(
        self,
        engine: sa.Engine,
        table: str = TABLE,
        clock: Clock | None = None,
        *,
        schema: str | None = None,
    ) -> None:
        if not isinstance(engine, sa.Engine) or engine.dialect.is_async:
            awaited = type(engine).__name__ == "AsyncEngine" or isinstance(engine, sa.Engine)
            advice = " For an async engine there is AsyncSQLStore." if awaited else ""
            if isinstance(engine, str | sa.URL):
                advice = " From a URL SQLStore.from_url(url) makes one."
            raise TypeError(
                f"SQLStore needs an ordinary SQLAlchemy engine, not {type(engine).__name__}: make "
                f"one with sqlalchemy.create_engine. Under ASGI it is called in threads.{advice}"
            )
        refuse_memory(engine.url)
        super().__init__(_for_us(engine), table, schema, clock)
        self._process = [os.getpid()]  # whose connections these are; the finalizer asks as well
        self._forked = threading.Lock()

    @classmethod
    def from_url(
        cls, url: str, timeout: float = 1.0, table: str | None = None, clock: Clock | None = None
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
        return invalidation.are_heard(self._engine)

    def listen(self, listener: str) -> Iterator[Event]:
        """See `base.Pushing`."""
        if self._process[0] != os.getpid():
            self._forget_connections()
        return invalidation.listen(self._engine, self._statements, listener)

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`."""
        return checks.findings(self._place, self._engine, self._statements, self._ask)

    def _ask(self, question: Callable[[sa.Connection], T]) -> T:
        """Put a question that is not a verb's, and makes no table."""

        def put() -> T:
            with self._connect() as connection:
                return question(connection)

        with self._in_time():
            return self._attempt(put)[0]

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired rows; fewer when the whole table has no more.

        Each chunk is a statement of its own, with the store's timeout to itself.
        """
        sweep = _Sweep(limit)
        while not sweep.is_over:
            self.sweep_chunk(sweep)
        return sweep.removed

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
        clock: Clock | None = None,
        *,
        schema: str | None = None,
    ) -> None:
        inner = getattr(engine, "sync_engine", None)
        if not isinstance(inner, sa.Engine):
            advice = " Use SQLStore for an ordinary one." if isinstance(engine, sa.Engine) else ""
            if isinstance(engine, str | sa.URL):
                advice = " From a URL AsyncSQLStore.from_url(url) makes one."
            raise TypeError(
                "AsyncSQLStore needs an async SQLAlchemy engine, not "
                f"{type(engine).__name__}: make one with "
                f"sqlalchemy.ext.asyncio.create_async_engine.{advice}"
            )
        refuse_memory(inner.url)
        verbs = _TaskVerbs(_for_us(inner), table, schema, clock)
        # Its pool counts its connections itself; a call of a request ends long before the limit.
        self._lines = Loops(lambda: _Line(verbs, LONGEST_CALL, sys.maxsize))

    @classmethod
    def from_url(
        cls, url: str, timeout: float = 1.0, table: str | None = None, clock: Clock | None = None
    ) -> AsyncSQLStore:
        """Return a store that makes one engine for each event loop it is used on."""
        place = find(url, asynchronous=True)
        make_async_engine(place, timeout)  # what is wrong with the URL shows now
        store: AsyncSQLStore = cls.__new__(cls)
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

    async def heartbeat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        await self._call(_Verbs.heartbeat, listener, number)

    async def touch(self, key: str, ttl: int) -> bool:
        return await self._call(_Verbs.touch, key, ttl)

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        return await self._call(_Verbs.delete, key, entry)

    async def sweep(self, limit: int) -> int:
        """See `SQLStore.sweep`."""
        sweep = _Sweep(limit)
        while not sweep.is_over:
            await self._call(_Verbs.sweep_chunk, sweep)
        return sweep.removed

    async def create_table(self) -> None:
        """Make the table, where it is not yet."""
        await self._call(_Verbs.create_table)

    async def _call(self, verb: Callable[..., T], *arguments: object) -> T:
        line = await self._lines.here()
        return await line.run(partial(verb, line.verbs, *arguments))


class _TaskVerbs(_Verbs):
    """The verbs in a greenlet of a task, whose deadline is the task's."""

    def __init__(
        self,
        engine: sa.Engine,
        table: str,
        schema: str | None,
        clock: Clock | None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(engine, table, schema, clock)
        self._timeout = timeout
        self.start: Callable[[Callable[[], object]], object] = lambda _: None

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def outage(self, reason: str) -> StoreUnavailable:
        return self._outage(reason)

    def _in_time(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _has_time(self, kind: errors.Kind) -> bool:
        return True

    def _sweep_soon(self) -> None:
        self.start(partial(self.sweep_chunk, _Sweep(SWEPT_AT_ONCE)))


class _Line:
    """One event loop's way to the database."""

    def __init__(self, verbs: _TaskVerbs, limit: float, connections: int) -> None:
        self.verbs = verbs
        self.limit = limit  # of a call, in seconds
        # A caller cancelled while it waits for a connection is gone at once, and holds up no other.
        self._free = asyncio.Semaphore(connections)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connections = weakref.WeakSet[ConnectionPoolEntry]()
        verbs.start = self.start
        if verbs.ours:
            sa.event.listen(verbs.engine, "connect", self._connected)

    def _connected(self, _: object, record: ConnectionPoolEntry) -> None:
        self._connections.add(record)

    async def run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limit
        try:
            async with asyncio.timeout_at(end):
                await self._free.acquire()
        except TimeoutError as error:
            raise self.verbs.outage(ALL_IN_USE) from error
        task = self.start(call)
        task.add_done_callback(lambda _: self._free.release())
        try:
            await asyncio.wait([task], timeout=max(end - loop.time(), 0))
        except asyncio.CancelledError:
            loop.call_later(ABANDONED, _cut, task)
            raise
        if task.done() and not task.cancelled():
            return task.result()
        raise self.verbs.outage("no answer in time")

    def start(self, call: Callable[[], T]) -> asyncio.Task[T]:
        """Run a call to its end or its limit, whether or not its caller still waits."""
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
            task.exception()  # raised to the caller, if one still waited

    async def close(self) -> None:
        """End what is under way, and the connections that were made for this loop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.verbs.ours:
            with contextlib.suppress(TimeoutError, SQLAlchemyError, OSError):
                async with asyncio.timeout(self.limit):
                    await greenlet_spawn(self.verbs.engine.dispose)

    def hang_up(self) -> None:
        """Cut the connections that were made for this loop."""
        for task in self._tasks:
            task.cancel()
        for record in list(self._connections):
            if record.dbapi_connection is not None:
                hang_up(record.dbapi_connection)
        if self.verbs.ours:
            self.verbs.engine.dispose(close=False)


def _cut(task: asyncio.Task[Any]) -> None:
    """Cancel a call until it has ended.

    At the first time psycopg would ask the server to cancel the statement, and wait for seconds.
    """
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_later(ABANDONED, _cut, task)


def _make_line(place: Place, timeout: float, table: str, clock: Clock | None) -> _Line:
    engine: sa.Engine = make_async_engine(place, timeout).sync_engine
    verbs = _TaskVerbs(engine, table, place.schema, clock, timeout)
    return _Line(verbs, timeout, place.connections or SERVER_CONNECTIONS)


def _for_us(engine: sa.Engine) -> sa.Engine:
    """Return an engine of the user's own as our calls use it."""
    options: dict[str, object] = {errors.OURS: True}
    if engine.dialect.name not in ("mysql", "mariadb"):
        # There it takes two round trips, of which SQLAlchemy does not see that they fail.
        options["isolation_level"] = "AUTOCOMMIT"
    return engine.execution_options(**options)


def _first_row(result: Result) -> tuple[int, bytes, bytes, float] | None:
    return cast("tuple[int, bytes, bytes, float] | None", result.first())


def _all_rows(result: Result) -> Sequence[Any]:
    return result.all()


def _first_column(result: Result) -> Sequence[object]:
    return result.scalars().all()


def _scalar(result: Result) -> object:
    return result.scalar()


def _row_count(result: Result) -> int:
    return result.rowcount


def _written(result: Result) -> Written:
    """Return whether a row was written, and when it expires, where the server says so."""
    if not result.returns_rows:
        return result.rowcount > 0, None
    row = result.first()
    return row is not None, row and row[0]


def _dispose(engine: sa.Engine, process: list[int]) -> None:
    own, pool = process[0] == os.getpid(), engine.pool
    if not own:
        left_to_the_parent.append(pool)
    engine.dispose(close=own)
    # A connection in use comes back to the old pool, which is no longer used.
    sa.event.listen(pool, "checkin", lambda _, record: record.invalidate())
