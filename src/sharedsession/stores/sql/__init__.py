"""Sessions in one table of an SQL database, through SQLAlchemy Core.

Every verb is a single statement that holds its own conditions, so nothing rests on a transaction's
isolation: a replacement is ``UPDATE … WHERE key = … AND tokens = … AND expires > now``, and the
count of rows says whether it took place. The column ``tokens`` holds the tokens of the last few
writes, newest first, and is compared whole; it is the `Entry.token`.

The table is created on first use. Time is the database's: it computes when a row expires, and it
compares. Only a database whose clock is not known here is given this process's.

`steps` has the verbs as flows, `database` does what they yield, in the caller's thread or, for an
async store, in greenlets (`asynchronous`). `dialects` makes engines, and knows what differs between
databases; `errors` knows what their errors mean.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..._core.extras import missing

try:
    import sqlalchemy as sa
except ModuleNotFoundError as error:
    raise missing(error, "sql", "sqlalchemy") from error

from ..._core.per_process import PerProcess, left_to_the_parents
from ...exceptions import StoreUnavailable
from .._support.deadline import deadline, within
from .._support.per_loop import Loops
from .._support.verbs import AwaitedVerbs, Flow, PlainVerbs, awaited, plain, run
from ..base import Event, Finding, Pushing, Replicated
from . import checks, errors, invalidation
from .asynchronous import Line, make_line
from .database import Action, Database, Query
from .dialects import (
    TABLE,
    find,
    make_async_engine,
    make_engine,
    metadata,
    refuse_memory,
)
from .steps import Clock, Sweep, Verbs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncSQLStore", "SQLStore", "metadata"]

T = TypeVar("T")
LONGEST_CALL = 60.0  # seconds, of an awaited call by an engine of the user's own


class SQLStore(Verbs, PlainVerbs):
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
        super().__init__(engine, table, schema, clock)
        self._timeout: float | None = None  # of a call; None for an engine that is the user's own
        self._databases = _per_process(Database(_for_us(engine), self._statements))

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
        # The engine commits by itself; the option would be set anew on every call.
        store._databases = _per_process(Database(engine, store._statements, timeout))
        store._timeout = timeout
        weakref.finalize(store, _dispose, store._databases)
        return store

    load_all = plain(Replicated.load_all)
    heartbeat = plain(Pushing.heartbeat)

    @property
    def pushes(self) -> bool:
        """PostgreSQL does, if its driver is psycopg."""
        return invalidation.are_heard(self._engine)

    def listen(self, listener: str) -> Iterator[Event]:
        """See `base.Pushing`."""
        return invalidation.listen(self._engine, self._statements, listener)

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`."""
        return checks.findings(self._place, self._engine, self._statements, self._question)

    def _question(self, question: Callable[[sa.Connection], T]) -> T:
        """Put a question that is not a verb's, and makes no table."""

        def put(database: Database) -> T:
            with database.connect() as connection:
                return question(connection)

        answer: T = self._run(self._do(put))
        return answer

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired rows; fewer when the whole table has no more.

        Each chunk is a statement of its own, with the store's timeout to itself.
        """
        sweep = Sweep(limit)
        while not sweep.is_over:
            self._run(self._sweep_chunk(sweep))
        return sweep.removed

    def create_table(self) -> None:
        """Make the table, where it is not yet."""
        self._run(self._do(Database.make_table))

    def create_trigger(self) -> None:
        """Make what publishes invalidations, where it is not yet; PostgreSQL only."""
        self._run(self._do(lambda _: invalidation.create(self._engine, self._statements)))

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._timeout is not None:
            _dispose(self._databases)

    def _run(self, flow: Flow[T]) -> T:
        with within(self._timeout):
            return run(flow, self._ask)

    def _ask(self, asked: Query | Action) -> Any:
        return self._databases.own().ask(asked)

    def _beside(self, flow: Flow[None]) -> None:
        # The session that was created does not depend on it, and has its own answer to give.
        if self._timeout is None or deadline.left() > self._timeout / 2:
            with contextlib.suppress(StoreUnavailable):
                self._run(flow)

    @property
    def _engine(self) -> sa.Engine:
        return self._databases.own().engine


class AsyncSQLStore(Verbs, AwaitedVerbs):
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
        super().__init__(inner, table, schema, clock)
        database = Database(_for_us(inner), self._statements)
        # Its pool counts its connections itself; a call of a request ends long before the limit.
        self._lines = Loops(lambda: Line(database, LONGEST_CALL, sys.maxsize))

    @classmethod
    def from_url(
        cls, url: str, timeout: float = 1.0, table: str | None = None, clock: Clock | None = None
    ) -> AsyncSQLStore:
        """Return a store that makes one engine for each event loop it is used on."""
        place = find(url, asynchronous=True)
        store: AsyncSQLStore = cls.__new__(cls)
        engine = make_async_engine(place, timeout)  # what is wrong with the URL shows now
        Verbs.__init__(store, engine.sync_engine, table or place.table, place.schema, clock)
        store._lines = Loops(partial(make_line, place, store._statements, timeout))
        return store

    load_all = awaited(Replicated.load_all)
    heartbeat = awaited(Pushing.heartbeat)

    async def sweep(self, limit: int) -> int:
        """See `SQLStore.sweep`."""
        sweep = Sweep(limit)
        while not sweep.is_over:
            await self._run(self._sweep_chunk(sweep))
        return sweep.removed

    async def create_table(self) -> None:
        """Make the table, where it is not yet."""
        await self._run(self._do(Database.make_table))

    async def _run(self, flow: Flow[T]) -> T:
        line = self._lines.known() or await self._lines.here()
        return await line.run(flow)

    def _beside(self, flow: Flow[None]) -> None:
        line = self._lines.known()
        if line is not None:
            line.start(flow)


def _for_us(engine: sa.Engine) -> sa.Engine:
    """Return an engine of the user's own as our calls use it."""
    options: dict[str, object] = {errors.OURS: True}
    if engine.dialect.name not in ("mysql", "mariadb"):
        # There it takes two round trips, of which SQLAlchemy does not see that they fail.
        options["isolation_level"] = "AUTOCOMMIT"
    return engine.execution_options(**options)


def _per_process(database: Database) -> PerProcess[Database]:
    """Have a child of the process open connections of its own."""

    def reopen() -> Database:
        left_to_the_parents.append(database.engine.pool)
        database.engine.dispose(close=False)
        return database

    return PerProcess(reopen, database)


def _dispose(databases: PerProcess[Database]) -> None:
    engine = databases.own().engine
    pool = engine.pool
    engine.dispose()
    # A connection in use comes back to the old pool, which is no longer used.
    sa.event.listen(pool, "checkin", lambda _, record: record.invalidate())
