"""What differs between databases: URLs and drivers, engines and their deadlines, the table.

A URL names the database; its options ``table``, ``schema`` and ``pool_size`` are ours, all others
are the driver's. An engine that is made from a URL commits by itself, waits for nothing longer than
it may, and closes what it gave up waiting for: an answer that comes late must not be taken for that
of the next command. `sql` has the verbs.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import re
import secrets
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateTable
from sqlalchemy.util import await_only, greenlet_spawn

from ..._core.per_process import PerProcess
from ...exceptions import ConfigurationError
from .._support.addresses import ENCODED, host_and_port, options_of
from .._support.deadline import alook_up, deadline, look_up, within
from .._support.openings import AsyncOpenings, Held, Openings
from ..base import TOKEN_BYTES, TOKENS_KEPT
from . import invalidation
from .errors import OURS
from .options import of_mysql, of_postgresql, of_sqlite

Dict = dict[str, Any]  # Any: keyword arguments of many types
TABLE = "sharedsession"
FORM = "postgresql://user:password@host:5432/database"
OURS_IN_A_URL = ("table", "schema", "pool_size")
SQLITE_CONNECTIONS = 128
SERVER_CONNECTIONS = 10  # of one process: a server of PostgreSQL has a hundred for everybody
LONGEST_WAIT = 60.0  # seconds for a lock on an SQLite file, outside of a call with a deadline
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

    url: sa.URL  # without options, but for those of a SQLite file and a list of hosts
    table: str = TABLE
    schema: str | None = None
    connections: int | None = None
    options: Dict = field(default_factory=dict)  # of the driver, by its own names

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file, not a server."""
        return self.url.get_backend_name() == "sqlite"


def find(url: str, *, asynchronous: bool = False) -> Place:
    """Read a URL for a driver of that kind, or say what is wrong with it."""
    _check_hosts(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read: postgresql://user:password@host:5432/database is "
            "its form. In a password write %2F, %23, %3A and %40 for / # : and @."
        ) from None
    scheme = parsed.drivername
    driver = DRIVERS.get(scheme, (None, None))[asynchronous]
    if driver is None:
        raise ConfigurationError(
            f"{scheme}:// is not known here: name no driver, "
            f"{parsed.get_backend_name()}://…, or make an engine with the one "
            "you want: SQLStore(engine), AsyncSQLStore(engine)."
        )
    parsed = parsed.set(drivername=driver)
    backend = parsed.get_backend_name()
    hosts = {"host", "port"} if backend == "postgresql" else set()
    pairs = [(name, each) for name in parsed.query for each in _all(parsed.query[name])]
    options = options_of([pair for pair in pairs if pair[0] not in hosts], FORM)
    ours = {name: options.pop(name, None) for name in OURS_IN_A_URL}
    _check(parsed, ours)
    if backend == "sqlite":
        of_sqlite(options)
        return Place(parsed.difference_update_query(OURS_IN_A_URL), ours["table"] or TABLE)
    translate = of_postgresql if backend == "postgresql" else of_mysql
    size = ours["pool_size"]
    return Place(
        parsed.difference_update_query(options.keys() | set(OURS_IN_A_URL)),
        ours["table"] or TABLE,
        ours["schema"],
        int(size) if size else None,
        translate(options, scheme, parsed.get_driver_name()),
    )


def _all(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _check_hosts(url: str) -> None:
    """Look at the hosts of a server's URL, whose errors SQLAlchemy tells less of."""
    scheme, _, rest = url.partition("://")
    if scheme.lower().startswith("sqlite"):
        return
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest.partition("?")[0] and "@" not in netloc:
        raise ConfigurationError(f"The database URL cannot be read: {FORM} is its form. {ENCODED}")
    hosts = netloc.rpartition("@")[2]
    for host in hosts.split(",") if hosts else ():
        host_and_port(host, 5432, form=FORM)


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
    """Return the statements that make the table, for the database of ``url``; connects to nothing.

    ``near_cache``: also what publishes invalidations, in a database that can.
    """
    place = find(url)
    dialect = place.url.get_dialect()()
    known = Statements(place.table, place.schema, dialect, timed=True)
    texts = [str(CreateTable(known.table).compile(dialect=dialect))]
    if near_cache and dialect.name == "postgresql":
        texts += invalidation.definition(known)
    lines = [[line.rstrip() for line in text.strip().splitlines()] for text in texts]
    return "".join("\n".join(each) + ";\n" for each in lines)


# --- the table ------------------------------------------------------------------------------------

FILLFACTOR = (
    80  # percent of a page of PostgreSQL, so that a row's next version finds room beside it
)
# SQLAlchemy before 2.1 cannot say it: there the table is made without.
_TAKES_OPTIONS = "with" in dict(postgresql.dialect.construct_arguments or ())[sa.Table]
CHUNK_BLOCKS, CHUNK_ROWS = 128, 1000  # that a sweep looks at in one statement
SURELY_TAKEN, BESIDE_DATA = 2**14, 2**12  # bytes of data, and at most of a statement beside it
CLOCKS = {  # of servers, in epoch seconds as DOUBLE; local time comes twice in an hour of autumn
    "postgresql": "date_part('epoch', statement_timestamp())",
    "mysql": "timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6",
    # Looked at when the lock is held: a process that was paused before would take a lifetime back.
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
CLOCKS["mariadb"] = CLOCKS["mysql"]


class Statements:
    """The table and all statements, built once; SQLAlchemy keeps what it compiles of them.

    Each holds its own conditions, so nothing rests on a transaction. ``timed`` says whose clock
    counts: the parameter ``now``, or else the server's own.
    """

    def __init__(self, name: str, schema: str | None, dialect: Dialect, *, timed: bool) -> None:
        self.dialect = dialect
        self.table = _table(name, schema)
        self._column = column = self.table.c
        moment: sa.ColumnElement[float] = sa.bindparam("now", type_=sa.Double)
        self.now = moment if timed else sa.literal_column(CLOCKS[dialect.name], sa.Double)
        self._expired = column.expires <= self.now
        this_key = column.key == sa.bindparam("the_key")
        self._new: dict[str, sa.ColumnElement[Any]] = {
            name: sa.bindparam(f"new_{name}", type_=column[name].type)
            for name in ("version", "tokens", "data", "owner")
        }
        self._new["expires"] = self.now + sa.bindparam("ttl", type_=sa.Double)
        new = self._new
        alive = sa.and_(this_key, column.expires > self.now)
        self.select = sa.select(column.version, column.tokens, column.data, column.expires).where(
            alive
        )
        self._keys = sa.bindparam("keys", type_=column.key.type, expanding=True)
        self.select_all = sa.select(
            column.key, column.version, column.tokens, column.data, column.expires
        ).where(column.key.in_(self._keys), column.expires > self.now)
        self.insert = self._insert(dialect)
        self.take_over = sa.update(self.table).where(this_key, self._expired).values(**new)
        old_tokens = sa.bindparam("old_tokens", type_=column.tokens.type)
        as_loaded = sa.and_(alive, column.tokens == old_tokens)
        swap = sa.update(self.table).where(as_loaded).values(**new)
        self.swap: sa.Executable = swap
        if dialect.name == "postgresql":
            self.swap = swap.returning(column.expires)
        self.delete_entry = sa.delete(self.table).where(as_loaded)
        self.prolong = sa.update(self.table).where(alive).values(expires=new["expires"])
        self.delete = sa.delete(self.table).where(this_key)
        self.delete_expired = sa.delete(self.table).where(column.key.in_(self._keys), self._expired)
        self._sweep_by_blocks() if dialect.name == "postgresql" else self._sweep_by_keys()

    def create(self, engine: sa.Engine) -> None:
        """Make the table where it is not yet."""
        try:
            self.table.create(engine, checkfirst=True)
        except sa.exc.DBAPIError:
            self.table.create(engine, checkfirst=True)  # another process created it meanwhile

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
        insert = insert.values(values).on_conflict_do_update(
            index_elements=[self._column.key], set_=self._new, where=self._expired
        )
        if dialect.name == "postgresql":
            return insert.returning(self._column.expires)
        return insert.inline().execution_options(preserve_rowcount=True)

    def _sweep_by_keys(self) -> None:
        """Look at the rows after a key, a chunk of them; any key will do, since keys are random."""
        key, position = self._column.key, sa.bindparam("position", type_=self._column.key.type)
        following = sa.select(key).where(key > position).order_by(key).limit(CHUNK_ROWS).subquery()
        self.sweep: sa.Executable | None = None
        self.start: object = ""
        self.somewhere: sa.Executable = sa.select(sa.literal(secrets.token_urlsafe(32), key.type))
        self.chunk_end: sa.Executable = sa.select(sa.func.max(following.c.key))
        self.expired = (
            sa.select(key)
            .where(key > position, key <= sa.bindparam("end", type_=key.type), self._expired)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )

    def _sweep_by_blocks(self) -> None:
        """Look at a range of blocks, passing by the rows that another statement holds.

        Before PostgreSQL 14 such a range is found by reading the whole table.
        """
        position = sa.bindparam("position", type_=sa.BigInteger)
        name = self.dialect.identifier_preparer.format_table(self.table)
        size = sa.func.pg_relation_size(sa.func.to_regclass(name), type_=sa.BigInteger)
        blocks = size // sa.cast(sa.func.current_setting("block_size"), sa.BigInteger)
        where = sa.literal_column("ctid", _TID())
        found = (
            sa.select(where)
            .select_from(self.table)
            .where(where >= _tid(position), where < _tid(sa.bindparam("end", type_=sa.BigInteger)))
            .where(self._expired)
            .limit(sa.bindparam("limit", type_=sa.Integer))
            .with_for_update(skip_locked=True)
        )
        # As an array it is found once, whatever plan is chosen.
        once = sa.any_(sa.func.array(found.scalar_subquery()))
        self.sweep = sa.delete(self.table).where(where == once, self._expired)
        self.start = 0
        self.somewhere = sa.select(sa.cast(sa.func.floor(sa.func.random() * blocks), sa.BigInteger))
        self.chunk_end = sa.select(position + CHUNK_BLOCKS).where(position < blocks)


def largest(connection: sa.Connection) -> tuple[int, str]:
    """Return how many bytes of data a connection can write into a row, and what says so."""
    match connection.dialect.name:
        case "mysql" | "mariadb":  # as hexadecimal digits, see `_AsHex`
            packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
            column, digits = 2**24 - 1, (int(packet) - BESIDE_DATA) // 2
            return min((column, "MEDIUMBLOB"), (digits, f"max_allowed_packet = {packet}"))
        case "sqlite":
            driver: Any = connection.connection.driver_connection  # sqlite3.Connection
            ask = getattr(driver, "getlimit", lambda _: 10**9)  # aiosqlite has none
            return ask(sqlite3.SQLITE_LIMIT_LENGTH) - BESIDE_DATA, "SQLITE_LIMIT_LENGTH"
        case "postgresql":
            return 2**30 - BESIDE_DATA, "a message of a gigabyte"
    return sys.maxsize, ""


class _TID(sa.types.UserDefinedType[str]):
    """Where PostgreSQL keeps a row: its block, and which of the rows there it is."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "TID"


def _tid(block: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """Return the place before the first row of a block."""
    return sa.cast(sa.cast(sa.func.concat("(", block, ",0)"), sa.Text), _TID())


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


def metadata(table: str = TABLE, *, schema: str | None = None) -> sa.MetaData:
    """Return a MetaData that has the store's table, for a tool that writes migrations.

    With Alembic: ``target_metadata = [models.metadata, metadata()]``. The store itself needs none.

    Args:
        table: the table's name, as in the store's URL; default ``sharedsession``.
        schema: its schema, as in the store's URL (PostgreSQL); default the search path's.
    """
    known = sa.MetaData()
    _table(table, schema, known, plain=True)
    return known


def _table(
    name: str, schema: str | None, known: sa.MetaData | None = None, *, plain: bool = False
) -> sa.Table:
    """Return the table; ``plain``: with MySQL's own types only, which a migration can name."""
    # MySQL compares text without regard to case, and gives a BLOB 64 KB, unless told otherwise.
    ascii_text = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")
    any_text = mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    tokens = TOKEN_BYTES * TOKENS_KEPT

    def on_mysql(usual: Any, column: Any, charset: str | None = None) -> Any:
        sent = column if plain else _AsHex(column, charset)
        return usual.with_variant(sent, "mysql", "mariadb")

    table = sa.Table(
        name,
        sa.MetaData() if known is None else known,
        sa.Column("key", on_mysql(sa.String(64), ascii_text, "ascii"), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        # No index: each touch changes it, and to PostgreSQL what is indexed is no HOT update.
        # Before the data, whose unchanged end PostgreSQL then leaves out of its WAL.
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column(
            "tokens", on_mysql(sa.LargeBinary(tokens), mysql.VARBINARY(tokens)), nullable=False
        ),
        sa.Column("data", on_mysql(sa.LargeBinary(), mysql.MEDIUMBLOB()), nullable=False),
        sa.Column("owner", on_mysql(sa.String(255), any_text, "utf8mb4")),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    if _TAKES_OPTIONS:
        table.dialect_options["postgresql"]["with"] = {"fillfactor": FILLFACTOR}
    return table


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
    engine = sa.create_engine(
        place.url,
        connect_args=_connect_arguments(place, timeout),
        pool_timeout=timeout / 4,
        **_pool(place, SERVER_CONNECTIONS),
        **_without_rollbacks(),
    )
    _listen(engine, Connecting(place, timeout))
    return engine


def make_async_engine(
    place: Place, timeout: float
) -> Any:  # AsyncEngine, imported where it is used
    """Return an engine for one event loop; the caller sets the deadline."""
    # SQLAlchemy's own error would not say so that a program can read it.
    importlib.import_module("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        place.url,
        connect_args=_connect_arguments(place, timeout),
        pool_timeout=timeout,
        **_pool(place, SERVER_CONNECTIONS),
        **_without_rollbacks(),
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


def _without_rollbacks() -> Dict:
    """Return what spares a round trip where SQLAlchemy can (2.0.43)."""
    known = inspect.signature(DefaultDialect.__init__).parameters
    return dict.fromkeys({"skip_autocommit_rollback"} & known.keys(), True)


def _connect_arguments(place: Place, timeout: float) -> Dict:
    """Return the arguments for the driver: those of the URL, and what the store sets itself."""
    given = dict(place.options)
    # Nothing is cut off in silence to make it fit, whatever the server's own mode.
    mysql_settings = (
        f"SET innodb_lock_wait_timeout = {max(1, int(timeout))}, sql_mode = 'STRICT_ALL_TABLES'"
    )
    milliseconds = max(1, int(timeout * SERVER_SHARE * 1000))
    match place.url.get_driver_name():
        case "psycopg":
            limit = f"-c statement_timeout={milliseconds}"
            return {
                **given,
                # A pooler may give the next statement to another connection of the server.
                "prepare_threshold": None,
                "connect_timeout": max(2, int(timeout)),
                "options": f"{given.get('options', '')} {limit}".strip(),
            }
        case "asyncpg":
            settings = {
                **given.pop("server_settings", {}),
                "statement_timeout": str(milliseconds),
            }
            return {**given, "timeout": timeout, "server_settings": settings}
        case "pymysql":
            half = timeout / 2
            waits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), half)
            return {**given, **waits, "init_command": mysql_settings}
    return {**given, "connect_timeout": timeout, "init_command": mysql_settings}


def _listen(engine: sa.Engine, connecting: Connecting) -> None:
    sa.event.listen(engine, "do_connect", connecting)
    sa.event.listen(engine, "invalidate", connecting.suspect)
    sa.event.listen(engine, "detach", connecting.detached)
    sa.event.listen(engine, "engine_disposed", connecting.close)


class Connecting:
    """How connections to a server are made; the listener for SQLAlchemy's ``do_connect``.

    SQLAlchemy's pool keeps them, and asks for one whenever it has room. A caller waits for it as
    long as it may, and that can be a tenth of a second. What comes too late is kept for the next
    one, or a database that needs longer than that, a distant or a busy one, would not come back
    after an outage. `Openings` bounds how many are under way meanwhile.
    """

    def __init__(self, place: Place, timeout: float) -> None:
        self._host, self._port = place.url.host or "", place.url.port or 0
        self._timeout = timeout
        self._pooled = False  # behind a pooler that takes no settings of a connection
        self._given: WeakSet[Any] = WeakSet()  # the drivers' connections that the pool was given
        self._counting = threading.Lock()
        self._how: tuple[Dialect, tuple[Any, ...], Dict] | None = None
        most = place.connections or SERVER_CONNECTIONS
        self._openings = PerProcess(
            lambda: Openings(self._open, _close, most, timeout, self._given_and_open)
        )
        self._awaited = AsyncOpenings(self._aopen, _close, most, timeout, self._given_and_open)

    def __call__(
        self, dialect: Dialect, _record: object, arguments: tuple[Any, ...], settings: Dict
    ) -> Any:  # what the driver calls a connection
        # Some versions of SQLAlchemy pass one dictionary for all connections.
        self._how = dialect, arguments, dict(settings)
        openings: Openings[Any] | AsyncOpenings[Any]
        openings = self._awaited if dialect.is_async else self._openings.own()
        while not _is_open(_driven((held := self._take(openings, dialect)).connection)):
            openings.discard(held)  # it came too late for another caller, and was closed since
        with self._counting:
            self._given.add(_driven(held.connection))
        openings.hand_over(held)
        return held.connection

    def _take(self, openings: Openings[Any] | AsyncOpenings[Any], dialect: Dialect) -> Held[Any]:
        if isinstance(openings, AsyncOpenings):
            taken: Held[Any] = await_only(openings.take())
            return taken
        # What is said on it takes some time as well.
        kept = self._timeout / 2 if dialect.driver == "pymysql" else 0
        with within(max(deadline.left() - kept, self._timeout / 10)):
            return openings.take()

    def _open(self) -> Any:
        if self._is_named:
            look_up(self._host, self._port, deadline.left())
        return self._connect()

    async def _aopen(self) -> Any:
        if self._is_named:
            await alook_up(self._host, self._port)
        return await greenlet_spawn(self._connect)

    @property
    def _is_named(self) -> bool:
        return bool(self._host) and "," not in self._host  # a list is the driver's

    def _connect(self) -> Any:
        assert self._how is not None
        dialect, arguments, given = self._how
        settings = _without_settings(given) if self._pooled else dict(given)
        try:
            return _opener(dialect, settings)(*arguments, **settings)
        except Exception as error:
            if self._pooled or "startup parameter" not in str(error):
                raise
        self._pooled = True
        settings = _without_settings(given)
        return _opener(dialect, settings)(*arguments, **settings)

    def _given_and_open(self) -> int:
        with self._counting:
            given = list(self._given)
        return sum(map(_is_open, given))

    def suspect(self, *_: object) -> None:
        """Use none that is open by now: one of the pool's was of no use, or leads elsewhere."""
        self._awaited.renew()
        if (openings := self._openings.known()) is not None:
            openings.renew()

    def detached(self, connection: Any, _record: object) -> None:
        """Count a connection no more that has left the pool: a listener has it to itself."""
        with self._counting:
            self._given.discard(_driven(connection))

    def close(self, _: object) -> None:
        """Close what no caller has taken, when the engine lets go of its connections.

        In a child it lets go of its parent's, which do not count any more.
        """
        with self._counting:
            self._given = WeakSet()
        self._awaited.tasks.hang_up()
        self._awaited.close()
        if (openings := self._openings.known()) is not None:
            openings.close()


def _driven(connection: Any) -> Any:  # Any: the driver's, or SQLAlchemy's around an awaited one
    return getattr(connection, "driver_connection", connection)


def _is_open(driven: Any) -> bool:  # Any: a connection of one of four drivers
    match driven:
        case _ if hasattr(driven, "pgconn"):  # psycopg
            return not driven.closed
        case _ if hasattr(driven, "is_closed"):  # asyncpg
            return not driven.is_closed()
        case _ if hasattr(driven, "connected"):  # asyncmy
            return bool(driven.connected)
    return bool(driven.open)  # PyMySQL


def _opener(dialect: Dialect, settings: Dict) -> Callable[..., Any]:
    """Return what opens a connection; of the settings, change what is better done otherwise."""
    if dialect.driver == "psycopg":
        from .psycopg import BoundedAsyncConnection, BoundedConnection

        if not dialect.is_async:
            return BoundedConnection.connect
        settings["async_creator_fn"] = BoundedAsyncConnection.connect
    elif dialect.driver in ("pymysql", "asyncmy"):
        from .mysql import BoundedConnection as BoundedMySQL
        from .mysql import context

        if "ssl" in settings:
            settings["ssl"] = context(settings["ssl"])
        if not dialect.is_async:
            return BoundedMySQL
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
