"""What differs between databases: URLs and drivers, engines and their deadlines, the table.

A URL names the database; its options ``table``, ``schema`` and ``pool_size`` are ours, all others
are the driver's. An engine that is made from a URL commits by itself, waits for nothing longer than
it may, and closes what it gave up waiting for: an answer that comes late must not be taken for that
of the next command. `sql` has the verbs.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.util import await_only, greenlet_spawn

from ..exceptions import ConfigurationError
from . import sql_pushes
from .base import TOKEN_BYTES, TOKENS_KEPT
from .sql_errors import OURS
from .waiting import alook_up, bounded, deadline, look_up

Dict = dict[str, Any]  # Any: keyword arguments of many types
TABLE = "sharedsession"
SQLITE_CONNECTIONS = 128
SERVER_CONNECTIONS = 10  # of one process: a server of PostgreSQL has a hundred for everybody
LONGEST_WAIT = 60.0  # seconds for a lock on an SQLite file, outside of a call with a deadline
SPARE_KEPT = 5.0  # seconds that a connection which came too late waits for somebody else
RENEWED = 30  # seconds after which a connection is replaced: its server may not be the primary now
SERVER_SHARE = 0.8  # of the timeout, after which the server itself ends a statement
DRIVERS = {  # by the scheme of a URL: the sync and the async dialect
    "sqlite": ("sqlite", None),
    "postgres": ("postgresql+psycopg", "postgresql+psycopg"),
    "postgresql": ("postgresql+psycopg", "postgresql+psycopg"),
    "postgresql+psycopg": ("postgresql+psycopg", "postgresql+psycopg"),
    "postgresql+asyncpg": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mysql": ("mysql+pymysql", "mysql+asyncmy"),
    "mysql+pymysql": ("mysql+pymysql", "mysql+asyncmy"),
    "mysql+asyncmy": ("mysql+pymysql", "mysql+asyncmy"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
    "mariadb+pymysql": ("mariadb+pymysql", "mariadb+asyncmy"),
    "mariadb+asyncmy": ("mariadb+pymysql", "mariadb+asyncmy"),
}


# --- URLs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A database, as one driver is told of it, and what of it is ours."""

    url: sa.URL
    table: str = TABLE
    schema: str | None = None
    connections: int | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file, not a server."""
        return self.url.get_backend_name() == "sqlite"


def find(url: str, *, asynchronous: bool = False) -> Place:
    """Read a URL for a driver of that colour, or say what is wrong with it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read: postgresql://user:password@host:5432/database is "
            "its form. In a password write %2F, %23, %3A and %40 for / # : and @."
        ) from None
    driver = DRIVERS.get(parsed.drivername, (None, None))[asynchronous]
    if driver is None:
        raise ConfigurationError(
            f"{parsed.drivername}:// is not known here: name no driver, "
            f"{parsed.get_backend_name()}://…, or make an engine with the one "
            "you want: SQLStore(engine), AsyncSQLStore(engine)."
        )
    ours = {name: _single(parsed, name) for name in ("table", "schema", "pool_size")}
    parsed = parsed.difference_update_query(ours).set(drivername=driver)
    _check(parsed, ours)
    size = ours["pool_size"]
    return Place(parsed, ours["table"] or TABLE, ours["schema"], int(size) if size else None)


def _single(url: sa.URL, name: str) -> str | None:
    value = url.query.get(name)
    return value if isinstance(value, str) else None


def _check(url: sa.URL, ours: dict[str, str | None]) -> None:
    refuse_memory(url)
    backend = url.get_backend_name()
    size = ours["pool_size"]
    if size is not None and not (size.isdecimal() and 0 < int(size) <= 1000):
        raise ConfigurationError("pool_size is the number of connections of a process, 1 to 1000.")
    if backend == "sqlite" and ours["schema"]:
        raise ConfigurationError("SQLite has no schemas: take ?schema=… out of the URL.")
    if backend in ("mysql", "mariadb") and not url.database:
        raise ConfigurationError(f"Name the database: {backend}://user:password@host/database.")


def refuse_memory(url: sa.URL) -> None:
    """Refuse a SQLite database that each connection has to itself."""
    database = url.database or ":memory:"
    if url.get_backend_name() == "sqlite" and (
        ":memory:" in database or url.query.get("mode") == "memory"
    ):
        raise ConfigurationError(
            "A SQLite database in memory is a different one on each connection, so sessions would "
            "be lost: name a file, sqlite:///sessions.db, or choose the memory store, memory://."
        )


def definition(url: str, *, near_cache: bool = False) -> str:
    """Return the statements that make the table, for the database of ``url``; asks nobody.

    ``near_cache``: also what tells of writes, in a database that can.
    """
    place = find(url)
    dialect = place.url.get_dialect()()
    known = Statements(place.table, place.schema, dialect)
    table = known.table
    statements: list[sa.schema.ExecutableDDLElement] = [CreateTable(table)]
    statements += [CreateIndex(index) for index in _indices(table)]
    texts = [str(statement.compile(dialect=dialect)) for statement in statements]
    if near_cache and dialect.name == "postgresql":
        texts += sql_pushes.definition(known)
    lines = [[line.rstrip() for line in text.strip().splitlines()] for text in texts]
    return "".join("\n".join(each) + ";\n" for each in lines)


# --- the table ------------------------------------------------------------------------------------


class Statements:
    """The table and all statements, built once; SQLAlchemy keeps what it compiles of them.

    Each holds its own conditions, so nothing rests on a transaction.
    """

    def __init__(self, name: str, schema: str | None, dialect: Dialect) -> None:
        self.dialect = dialect
        self.table = _table(name, schema)
        self._column = self.table.c
        self._now = sa.bindparam("now", type_=self._column.expires.type)
        self._this_key = self._column.key == sa.bindparam("the_key")
        self._new = {
            name: sa.bindparam(f"new_{name}", type_=self._column[name].type)
            for name in ("version", "tokens", "data", "expires", "owner")
        }
        column, now, this_key, new = self._column, self._now, self._this_key, self._new
        alive = sa.and_(this_key, column.expires > now)
        self.select = sa.select(column.version, column.tokens, column.data, column.expires).where(
            alive
        )
        keys = sa.bindparam("keys", type_=column.key.type, expanding=True)
        self.select_all = sa.select(
            column.key, column.version, column.tokens, column.data, column.expires
        ).where(column.key.in_(keys), column.expires > now)
        self.insert = self._insert(dialect)
        self.take_over = sa.update(self.table).where(this_key, column.expires <= now).values(**new)
        old_tokens = sa.bindparam("old_tokens", type_=column.tokens.type)
        as_loaded = sa.and_(alive, column.tokens == old_tokens)
        self.swap = sa.update(self.table).where(as_loaded).values(**new)
        self.delete_entry = sa.delete(self.table).where(as_loaded)
        self.prolong = sa.update(self.table).where(alive).values(expires=new["expires"])
        self.delete = sa.delete(self.table).where(this_key)
        limit = sa.bindparam("limit", type_=sa.Integer)
        self.expired = sa.select(column.key).where(column.expires <= now)
        self.expired = self.expired.order_by(column.expires).limit(limit)
        self.delete_expired = sa.delete(self.table).where(
            column.key.in_(keys), column.expires <= now
        )
        self.sweep = self._sweep(dialect)

    def create(self, engine: sa.Engine, *, complete: bool = False) -> None:
        """Make the table where it is not yet; ``complete`` looks for its indices as well."""
        try:
            self.table.create(engine, checkfirst=True)
        except sa.exc.DBAPIError:
            self.table.create(engine, checkfirst=True)  # another process created it meanwhile
        if complete:
            for index in _indices(self.table):
                index.create(engine, checkfirst=True)

    def _insert(self, dialect: Dialect) -> sa.Executable:
        """Insert, or take over an expired row; of a row that lives, no row is counted.

        MySQL counts a row that stays as it is as one that was inserted, so there, and in databases
        that are not known here, a key that is taken is an error, after which `take_over` is tried.
        """
        values = {"key": sa.bindparam("the_key"), **self._new}
        insert: sqlite.Insert | postgresql.Insert
        if dialect.name == "sqlite":
            insert = sqlite.insert(self.table)
        elif dialect.name == "postgresql":
            insert = postgresql.insert(self.table)
        else:
            return sa.insert(self.table).values(values).inline()
        return (
            insert.values(values)
            .on_conflict_do_update(
                index_elements=[self._column.key],
                set_=self._new,
                where=self._column.expires <= self._now,
            )
            .inline()
            .execution_options(preserve_rowcount=True)
        )

    def _sweep(self, dialect: Dialect) -> sa.Executable | None:
        """Remove expired rows, passing by those that somebody else removes or takes over."""
        if dialect.name != "postgresql":
            return None
        # As a common table expression it is evaluated once, whatever plan is chosen.
        swept = self.expired.with_for_update(skip_locked=True).cte("swept")
        return sa.delete(self.table).where(self._column.key.in_(sa.select(swept.c.key)))


class _AsHex(sa.types.TypeDecorator[Any]):  # Any: bytes or text
    """A column of MySQL whose values reach a statement as hexadecimal digits, and nothing else.

    These drivers write values into the statement themselves. Not all of them ask the server how:
    asyncmy escapes bytes by backslashes where sql_mode gives a backslash no meaning, and what a
    visitor has typed would end the quotes. Digits mean the same under every mode and charset.
    """

    impl = sa.types.LargeBinary
    cache_ok = True

    def __init__(self, column: Any, charset: str | None = None) -> None:  # Any: a type of MySQL's
        super().__init__()
        self.impl = self.column = column
        self.charset = charset  # of text; None for bytes

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        def digits(value: str | bytes | None) -> str | None:
            if isinstance(value, str):
                value = value.encode()
            return None if value is None else value.hex()

        return digits

    def bind_expression(self, bindparam: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        value = sa.func.unhex(bindparam)
        if self.charset is None:
            return value
        return sa.func.convert(value.op("USING")(sa.literal_column(self.charset)))


def _table(name: str, schema: str | None) -> sa.Table:
    # MySQL compares text without regard to case, and gives a BLOB 64 KB, unless told otherwise.
    ascii_text = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")
    any_text = mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    tokens = TOKEN_BYTES * TOKENS_KEPT

    def on_mysql(usual: Any, column: Any, charset: str | None = None) -> Any:
        return usual.with_variant(_AsHex(column, charset), "mysql", "mariadb")

    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("key", on_mysql(sa.String(64), ascii_text, "ascii"), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column(
            "tokens", on_mysql(sa.LargeBinary(tokens), mysql.VARBINARY(tokens)), nullable=False
        ),
        sa.Column("data", on_mysql(sa.LargeBinary(), mysql.MEDIUMBLOB()), nullable=False),
        sa.Column("expires", sa.Double, nullable=False, index=True),
        sa.Column("owner", on_mysql(sa.String(255), any_text, "utf8mb4"), index=True),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )


def _indices(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))


# --- engines --------------------------------------------------------------------------------------


def make_engine(place: Place, timeout: float) -> sa.Engine:
    """Return an engine for threads, whose calls end in time while `deadline` is set."""
    if place.is_sqlite:
        engine = sa.create_engine(
            place.url,
            connect_args={"timeout": timeout / 2},
            pool_timeout=timeout / 2,
            **_pool(place, SQLITE_CONNECTIONS),
        )
        sa.event.listen(engine, "connect", _sqlite_set_up)
        sa.event.listen(engine, "checkout", _sqlite_check_out)
        return engine
    url, arguments = _connect_arguments(place.url, timeout)
    engine = sa.create_engine(
        url,
        connect_args=arguments,
        pool_timeout=timeout / 4,
        skip_autocommit_rollback=True,
        **_pool(place, SERVER_CONNECTIONS),
    )
    _listen(engine, Connecting(place, timeout))
    return engine


def make_async_engine(
    place: Place, timeout: float
) -> Any:  # AsyncEngine, imported where it is used
    """Return an engine for one event loop; whoever calls it sets the deadline."""
    # SQLAlchemy's own error would not say so that a program can read it.
    importlib.import_module("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    url, arguments = _connect_arguments(place.url, timeout)
    engine = create_async_engine(
        url,
        connect_args=arguments,
        pool_timeout=timeout,
        skip_autocommit_rollback=True,
        **_pool(place, SERVER_CONNECTIONS),
    )
    _listen(engine.sync_engine, Connecting(place, timeout))
    sa.event.listen(engine.sync_engine, "handle_error", _suspect_all)
    sa.event.listen(engine.sync_engine, "invalidate", hang_up)
    if engine.dialect.driver == "asyncpg":  # the others' goodbye waits for no answer
        sa.event.listen(engine.sync_engine, "close", hang_up)
    return engine


def _pool(place: Place, connections: int) -> Dict:
    # One statement at a time, so a transaction around it would only cost round trips.
    return {
        "isolation_level": "AUTOCOMMIT",
        "pool_reset_on_return": None,
        "pool_size": place.connections or connections,
        "max_overflow": 0,
        "pool_use_lifo": True,
        "pool_recycle": RENEWED,
        "execution_options": {OURS: True},
    }


def _connect_arguments(url: sa.URL, timeout: float) -> tuple[sa.URL, Dict]:
    """Return the URL and the arguments for its driver, whose names for things differ."""
    # Nothing is cut off in silence to make it fit, whatever the server's own mode.
    mysql_settings = (
        f"SET innodb_lock_wait_timeout = {max(1, int(timeout))}, sql_mode = 'STRICT_ALL_TABLES'"
    )
    milliseconds = max(1, int(timeout * SERVER_SHARE * 1000))
    match url.get_driver_name():
        case "psycopg":
            options = _single(url, "options") or ""
            return url.difference_update_query(["options"]), {
                # A pooler may give the next statement to another connection of the server.
                "prepare_threshold": None,
                "connect_timeout": max(2, int(timeout)),
                "options": f"{options} -c statement_timeout={milliseconds}".strip(),
            }
        case "asyncpg":
            settings = {"statement_timeout": str(milliseconds)}
            if name := _single(url, "application_name"):
                settings["application_name"] = name
            plain = url.difference_update_query(["application_name", "sslmode"])
            if mode := _single(url, "sslmode"):  # so that one URL serves both drivers
                plain = plain.update_query_dict({"ssl": mode})
            return plain, {"timeout": timeout, "server_settings": settings}
        case "pymysql":
            half = timeout / 2
            waits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), half)
            return url, {**waits, "init_command": mysql_settings}
    return url, {"connect_timeout": timeout, "init_command": mysql_settings}


def _listen(engine: sa.Engine, connecting: Connecting) -> None:
    sa.event.listen(engine, "do_connect", connecting)
    sa.event.listen(engine, "engine_disposed", connecting.close)


class Connecting:
    """How connections to a server are made; the listener for SQLAlchemy's ``do_connect``.

    Whoever asks for one waits for as long as it may, and that can be a tenth of a second. What
    comes too late is kept for the next one, or a database that needs longer than that, a distant or
    a busy one, would not come back after an outage.

    Plain connections are made in threads, because neither several addresses of a name nor every
    server's hanging is bounded by the drivers; awaited ones in tasks.
    """

    def __init__(self, place: Place, timeout: float) -> None:
        self._host, self._port = place.url.host or "", place.url.port or 0
        self._timeout = timeout
        self._most = place.connections or SERVER_CONNECTIONS
        self._pooled = False  # behind a pooler that takes no settings of a connection
        self._closed = 0  # how often
        self._spare: list[tuple[int, float, Any]] = []  # the process, when it came, the connection
        self._opening: set[asyncio.Task[Any]] = set()

    def __call__(
        self, dialect: Dialect, _record: object, arguments: tuple[Any, ...], settings: Dict
    ) -> Any:  # what the driver calls a connection
        spare = self._take()
        if spare is not None:
            return spare
        if self._pooled:
            settings = _without_settings(settings)
        try:
            return self._connect(dialect, arguments, settings)
        except Exception as error:
            if self._pooled or "startup parameter" not in str(error):
                raise
        self._pooled = True
        return self._connect(dialect, arguments, _without_settings(settings))

    def _connect(self, dialect: Dialect, arguments: tuple[Any, ...], settings: Dict) -> Any:
        connect = partial(_opener(dialect, settings), *arguments, **settings)
        keep = partial(self._keep, self._closed)
        named = bool(self._host) and "," not in self._host  # a list is the driver's
        if dialect.is_async:
            if named:
                await_only(alook_up(self._host, self._port))
            return await_only(self._in_a_task(connect, keep))
        if named:
            look_up(self._host, self._port, deadline.left())
        # What is said on it takes some time as well.
        kept = self._timeout / 2 if dialect.driver == "pymysql" else 0
        left = max(deadline.left() - kept, self._timeout / 10)
        return bounded(min(left, self._timeout), connect, keep)

    async def _in_a_task(self, connect: Callable[[], Any], keep: Callable[[Any], None]) -> Any:
        async def open_it() -> Any:
            async with asyncio.timeout(self._timeout):
                return await greenlet_spawn(connect)

        def came_late(opening: asyncio.Task[Any]) -> None:
            if not opening.cancelled() and opening.exception() is None:
                keep(opening.result())

        opening = asyncio.create_task(open_it())
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        try:
            await asyncio.wait([opening])
        except asyncio.CancelledError:
            opening.add_done_callback(came_late)
            raise
        return opening.result()

    def _keep(self, closed: int, connection: Any) -> None:
        if closed == self._closed and len(self._spare) < self._most:
            self._spare.append((os.getpid(), time.monotonic(), connection))
        else:
            _close(connection)

    def _take(self) -> Any:  # a connection that came too late for somebody else, or None
        while self._spare:
            process, came, connection = self._spare.pop()
            if process != os.getpid():
                left_to_the_parent.append(connection)
            elif time.monotonic() - came < SPARE_KEPT:
                return connection
            else:
                _close(connection)
        return None

    def close(self, _: object) -> None:
        """Close what nobody has taken, when the engine lets go of its connections."""
        self._closed += 1
        for opening in self._opening:
            opening.cancel()
        while (spare := self._take()) is not None:
            _close(spare)


# A connection must not be used, nor even closed, by a child of the process that opened it.
left_to_the_parent: list[object] = []


def _opener(dialect: Dialect, settings: Dict) -> Callable[..., Any]:
    """Return what opens a connection; of the settings, change what is better done otherwise."""
    if dialect.driver == "psycopg":
        from .sql_psycopg import BoundedAsyncConnection, BoundedConnection

        if not dialect.is_async:
            return BoundedConnection.connect
        settings["async_creator_fn"] = BoundedAsyncConnection.connect
    elif dialect.driver in ("pymysql", "asyncmy"):
        from . import sql_mysql

        if not dialect.is_async:
            return sql_mysql.BoundedConnection
        if settings.get("ssl"):
            settings["ssl"] = sql_mysql.context(settings["ssl"])
    return dialect.connect


def _close(connection: Any) -> None:  # Any: the driver's, or SQLAlchemy's around an awaited one
    with suppress(Exception):
        if hasattr(connection, "driver_connection"):
            hang_up(connection)
        else:
            connection.close()


def _suspect_all(context: sa.ExceptionContext) -> None:
    """After a call that had no answer in time all connections are suspect, not the one alone."""
    if isinstance(context.original_exception, asyncio.CancelledError):
        context.invalidate_pool_on_disconnect = True


def hang_up(connection: Any, *_: object) -> None:  # Any: SQLAlchemy's, around an awaited one
    """Close at once what is given up: a goodbye would wait for a server that does not answer."""
    driver = connection.driver_connection
    if hasattr(driver, "pgconn"):  # psycopg
        driver.pgconn.finish()
    elif hasattr(driver, "terminate"):  # asyncpg
        driver.terminate()
    else:  # asyncmy
        driver.close()


def _without_settings(settings: Dict) -> Dict:
    kept = {name: value for name, value in settings.items() if name != "server_settings"}
    if "options" in kept:
        kept["options"] = kept["options"].rpartition("-c statement_timeout=")[0].strip()
    return kept


# --- SQLite ---------------------------------------------------------------------------------------


def _sqlite_set_up(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    """Turn on the write-ahead log: readers and a writer no longer wait for each other."""
    _wait_only_so_long(connection)
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            # Two first openings at once collide, and the busy timeout does not cover this.
            if deadline.left() <= 0:
                raise
            time.sleep(0.01)
    # With the log, a crash of the process loses nothing; a power failure the last moments.
    connection.execute("PRAGMA synchronous = NORMAL")
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path, _identity(path)


def _sqlite_check_out(
    connection: sqlite3.Connection, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Let go of a file that was removed or replaced; writes to it would still seem to succeed."""
    path, identity = record.info["file"]
    if _identity(path) != identity:
        raise InvalidatePoolError
    _wait_only_so_long(connection)


def _wait_only_so_long(connection: sqlite3.Connection) -> None:
    """Wait for another's lock for what is left of the call's time, which may be its second wait."""
    seconds = min(max(deadline.left(), 0.001), LONGEST_WAIT)
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - on every call, and a Path costs as much again
    except OSError:
        return None
    return status.st_dev, status.st_ino
