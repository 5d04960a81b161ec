"""Sessions in one table of an SQL database, through SQLAlchemy Core.

Every verb is a single statement that holds its own conditions, so nothing rests on a transaction's
isolation: a replacement is ``UPDATE … WHERE key = … AND tokens = … AND expires > now``, and the
count of rows says whether it took place. When it did not, one look at the row's tokens tells a
command that was repeated from one that lost. The column ``tokens`` holds the tokens of the last few
writes, newest first, and is compared whole; it is the `Entry.token`.

The table is created on first use. Time is the clock's of this process: servers that share a table
need clocks that agree to within a second or so, as they do for everything else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from ..exceptions import ConfigurationError, StoreUnavailable
from .base import TOKEN_BYTES, TOKENS_KEPT, Entry, holds_token, new_token, with_token

T = TypeVar("T")
Result = CursorResult[Any]  # Any: a row's columns differ from statement to statement
CREATES_PER_SWEEP = 100
SWEPT_AT_ONCE = 250
CONNECTIONS = 32
LARGEST = 2**24 - 1  # MySQL chooses the smallest column type with this much room: MEDIUMBLOB
HINTS = {
    "unable to open database file": "check that its folder exists and that it may be written",
    "readonly database": "the file or its folder is read-only",
    "database is locked": "another process held the file's write lock for too long",
    "no such table": "the file was removed or replaced while in use; it is set up anew",
}


class SQLStore:
    """A store in an SQL database; ``engine`` is an ordinary (not an async) SQLAlchemy engine."""

    blocking = True

    def __init__(
        self,
        engine: sa.Engine,
        table: str = "sharedsession",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(engine, sa.Engine) or engine.dialect.is_async:
            raise TypeError(
                f"SQLStore needs an ordinary SQLAlchemy engine, not {type(engine).__name__}: make "
                "one with sqlalchemy.create_engine. Under ASGI it is called in threads."
            )
        _refuse_memory(engine.url)
        # One statement at a time, so a transaction around it would only cost round trips.
        self._engine: sa.Engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = clock
        self._owned = False
        self._ready = False
        self._process = [os.getpid()]  # whose connections these are; the finalizer asks as well
        self._forked = threading.Lock()
        self._state(table)

    @classmethod
    def from_url(
        cls,
        url: str,
        timeout: float = 1.0,
        table: str = "sharedsession",
        clock: Callable[[], float] = time.time,
    ) -> SQLStore:
        """Return a store with an engine of its own; SQLite waits for locks up to ``timeout``."""
        parsed = make_url(url)
        _refuse_memory(parsed)
        engine = sa.create_engine(
            parsed,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=timeout,
            pool_use_lifo=True,
            connect_args={"timeout": timeout},
        )
        sa.event.listen(engine, "connect", _sqlite_set_up(timeout))
        sa.event.listen(engine, "checkout", _sqlite_check_out)
        store = cls(engine, table, clock)
        store._engine = engine  # commits by itself; the option would be set anew on every call
        store._owned = True
        weakref.finalize(store, _dispose, engine, store._process)
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._owned:
            _dispose(self._engine, self._process)

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        row = self._run(self._select, {"the_key": key, "now": self._clock()}, _first_row)
        return None if row is None else Entry(row[2], row[0], row[3], row[1])

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        now, tokens = self._clock(), with_token(self._new_token())
        created = Entry(data, 1, now + ttl, tokens)
        if random.random() * CREATES_PER_SWEEP < 1:
            self._sweep_quietly()
        values = {**_values(created, owner), "the_key": key}
        try:
            self._run(self._insert, values, _row_count)
        except IntegrityError:
            if not self._run(self._take_over, {**values, "now": now}, _row_count):
                return self._repeated(key, created, now)
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
        now, earlier = self._clock(), _tokens(entry)
        tokens = with_token(self._new_token(), earlier)
        replaced = Entry(data, max(entry.version, at_least) + 1, now + ttl, tokens)
        conditions = {"the_key": key, "now": now, "old_tokens": earlier}
        values = {**_values(replaced, owner), **conditions}
        if self._run(self._swap, values, _row_count):
            return replaced
        return self._repeated(key, replaced, now)

    def touch(self, key: str, ttl: int) -> bool:
        now = self._clock()
        values = {"the_key": key, "now": now, "new_expires": now + ttl}
        return self._run(self._prolong, values, _row_count) > 0

    def delete(self, key: str) -> None:
        self._run(self._delete, {"the_key": key}, _row_count)

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired rows."""
        now = self._clock()
        most = min(limit, 10_000)  # databases bound the number of values in a statement
        keys = self._run(self._expired, {"now": now, "limit": most}, _first_column)
        if not keys:
            return 0
        return self._run(self._delete_expired, {"now": now, "keys": keys}, _row_count)

    def _new_token(self) -> bytes:
        return new_token()

    def _repeated(self, key: str, written: Entry, now: float) -> Entry | None:
        """Return ``written`` when the row holds its token: an earlier try took place."""
        row = self._run(self._select, {"the_key": key, "now": now}, _first_row)
        if row is None or not holds_token(row[1], _tokens(written)[:TOKEN_BYTES]):
            return None
        return dataclasses.replace(written, repeated=True)

    def _sweep_quietly(self) -> None:
        # The session that is being created does not depend on it, and has its own answer to give.
        with contextlib.suppress(StoreUnavailable):
            self.sweep(SWEPT_AT_ONCE)

    def _run(
        self,
        statement: sa.Executable,
        values: Mapping[str, object],
        take: Callable[[Result], T],
        last_try: bool = False,
    ) -> T:
        if self._process[0] != os.getpid():  # not every server runs Python's fork hooks
            self._forget_connections()
        try:
            self._create_table()
            with self._engine.begin() as connection:
                return take(connection.execute(statement, values))
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            self._ready = False  # the table may have gone with its file
            if isinstance(error, DBAPIError) and error.connection_invalidated and not last_try:
                return self._run(statement, values, take, last_try=True)
            # Not from SQLAlchemy's own error: its text may show the parameters, a session's data.
            cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
            raise self._outage(cause) from cause

    def _forget_connections(self) -> None:
        with self._forked:
            if self._process[0] != os.getpid():
                _dispose(self._engine, self._process)
                self._process[0] = os.getpid()

    def _create_table(self) -> None:
        if self._ready:
            return
        try:
            self._metadata.create_all(self._engine)
        except DBAPIError:
            self._metadata.create_all(self._engine)  # another process created it meanwhile
        self._ready = True

    def _outage(self, error: BaseException) -> StoreUnavailable:
        cause = str(error.args[0] if error.args else error).rstrip(".")
        hint = next((hint for words, hint in HINTS.items() if words in cause), "")
        url = self._engine.url
        place = f"SQLite file {url.database}"
        if url.get_backend_name() != "sqlite":
            place = f"{url.get_backend_name()} database {url.database} at {url.host}:{url.port}"
        return StoreUnavailable(
            f"The session store ({place}) failed: {cause}{hint and f' ({hint})'}."
        )

    def _state(self, name: str) -> None:
        """Build the table and the statements once; SQLAlchemy keeps what it compiles of them."""
        self._metadata = sa.MetaData()
        table = sa.Table(
            name,
            self._metadata,
            sa.Column("key", sa.String(64), primary_key=True),
            sa.Column("version", sa.BigInteger, nullable=False),
            sa.Column("tokens", sa.LargeBinary(TOKEN_BYTES * TOKENS_KEPT), nullable=False),
            sa.Column("data", sa.LargeBinary(LARGEST), nullable=False),
            sa.Column("expires", sa.Double, nullable=False, index=True),
            sa.Column("owner", sa.String(255), nullable=True, index=True),
        )
        column = table.c
        now = sa.bindparam("now", type_=column.expires.type)
        this_key = column.key == sa.bindparam("the_key")
        alive = sa.and_(this_key, column.expires > now)
        new = {
            name: sa.bindparam(f"new_{name}", type_=column[name].type)
            for name in ("version", "tokens", "data", "expires", "owner")
        }
        self._select = sa.select(column.version, column.tokens, column.data, column.expires).where(
            alive
        )
        self._insert = sa.insert(table).values(key=sa.bindparam("the_key"), **new).inline()
        self._take_over = sa.update(table).where(this_key, column.expires <= now).values(**new)
        old_tokens = sa.bindparam("old_tokens", type_=column.tokens.type)
        self._swap = sa.update(table).where(alive, column.tokens == old_tokens).values(**new)
        self._prolong = sa.update(table).where(alive).values(expires=new["expires"])
        self._delete = sa.delete(table).where(this_key)
        limit = sa.bindparam("limit", type_=sa.Integer)
        self._expired = sa.select(column.key).where(column.expires <= now).limit(limit)
        keys = sa.bindparam("keys", type_=column.key.type, expanding=True)
        self._delete_expired = sa.delete(table).where(column.key.in_(keys), column.expires <= now)


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


def _first_column(result: Result) -> Sequence[object]:
    return result.scalars().all()


def _row_count(result: Result) -> int:
    return result.rowcount


def _refuse_memory(url: sa.URL) -> None:
    database = url.database or ":memory:"
    if url.get_backend_name() == "sqlite" and (
        ":memory:" in database or url.query.get("mode") == "memory"
    ):
        raise ConfigurationError(
            "A SQLite database in memory is a different one on each connection, so sessions would "
            "be lost: name a file, sqlite:///sessions.db, or choose the memory store, memory://."
        )


def _sqlite_set_up(timeout: float) -> Callable[[sqlite3.Connection, ConnectionPoolEntry], None]:
    def set_up(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        """Turn on the write-ahead log: readers and a writer no longer wait for each other."""
        deadline = time.monotonic() + timeout
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                # Two first openings at once collide, and the busy timeout does not cover this.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        # With the log, a crash of the process loses nothing; a power failure the last moments.
        connection.execute("PRAGMA synchronous = NORMAL")
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        record.info["file"] = path, _identity(path)

    return set_up


def _sqlite_check_out(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Let go of a file that was removed or replaced; writes to it would still seem to succeed."""
    path, identity = record.info["file"]
    if _identity(path) != identity:
        raise InvalidatePoolError


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - on every call, and a Path costs as much again
    except OSError:
        return None
    return status.st_dev, status.st_ino


# A connection must not be used, nor even closed, by a child of the process that opened it.
_left_to_the_parent: list[object] = []


def _dispose(engine: sa.Engine, process: list[int]) -> None:
    own = process[0] == os.getpid()
    if not own:
        _left_to_the_parent.append(engine.pool)
    engine.dispose(close=own)
