"""Records in an SQL database: rows, which nothing expires."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ..._core.per_process import PerProcess
from ...stores._support.deadline import deadline, within
from ...stores.sql import errors
from ...stores.sql.dialects import find, make_engine
from . import Raw, Table, outage

T = TypeVar("T")
BATCH = 1000  # rows


class SQLRecords:
    """The rows of a table, by a URL or an engine of the user's own."""

    def __init__(self, store: object, table: Table, timeout: float) -> None:
        self._timeout: float | None = None
        if isinstance(store, str):
            url = store
            self._engines = PerProcess(lambda: _open(url, timeout))
            self._timeout = timeout
        elif isinstance(store, sa.Engine) and not store.dialect.is_async:
            engine = store
            self._engines = PerProcess(lambda: engine)
        else:
            raise TypeError(
                "The old sessions are read by an ordinary SQLAlchemy engine, not "
                f"{type(store).__module__}.{type(store).__name__}: make one with "
                "sqlalchemy.create_engine, or pass the URL."
            )
        self._place = errors.place_of(self._engines.own().url)
        # Only the key has a type: what the others hold is looked at as the driver gives it.
        self._key = sa.column(table.key, sa.String)
        columns: list[sa.ColumnClause[Any]]
        columns = [self._key, sa.column(table.data), sa.column(table.expires)]
        self._table = sa.table(table.name, *columns, schema=table.schema)
        self._row = sa.select(*columns).where(self._key == sa.bindparam("key"))

    def load(self, key: str, now: float) -> Raw | None:
        rows = self._ask(lambda c: c.execute(self._row, {"key": key}).fetchall())
        # Not all databases tell small letters from capitals; each spelling would be one more ID.
        # A row without an end counts as one that has expired, as it does for Flask-Session.
        found = (Raw(data, end or 0.0) for each, data, end in rows if each == key)
        return next(found, None)

    def delete(self, key: str) -> None:
        gone = sa.delete(self._table).where(self._key == key)
        self._ask(lambda c: c.execute(gone))

    def keys(self, prefix: str) -> Iterator[str]:
        last = ""
        while True:
            page = sa.select(self._key).where(self._key > last).order_by(self._key).limit(BATCH)
            found = self._ask(partial(_texts, page))
            yield from (key for key in found if key.startswith(prefix))
            if len(found) < BATCH:
                return
            last = found[-1]

    def close(self) -> None:
        if self._timeout is not None and (engine := self._engines.known()) is not None:
            engine.dispose()

    def _ask(self, ask: Callable[[sa.Connection], T]) -> T:
        repeated = False
        with within(self._timeout):
            while True:
                try:
                    with self._engines.own().begin() as connection:
                        return ask(connection)
                except (SQLAlchemyError, OSError) as error:
                    # A connection that was idle does not notice that the server has restarted.
                    useless = not repeated and errors.kind_of(error) in ("lost", "refused")
                    repeated = repeated or useless
                    if not (useless or self._may_wait(error)):
                        raise outage(self._place, _reason(error)) from errors.cause(error)

    def _may_wait(self, error: Exception) -> bool:
        """Whether all connections were in use, and there is time left: the pool is not fair."""
        in_use = isinstance(error, sa.exc.TimeoutError) and self._timeout is not None
        return in_use and deadline.left() > 0


def _texts(page: sa.Select[Any], connection: sa.Connection) -> list[str]:
    return [*connection.execute(page).scalars()]


def _open(url: str, timeout: float) -> sa.Engine:
    place = find(url)
    if place.is_sqlite:  # the file is another package's: its journal stays what it is
        engine = sa.create_engine(place.url, connect_args={"timeout": timeout})
        sa.event.listen(engine, "do_connect", partial(_require, place.url.database))
        return engine
    engine = make_engine(place, timeout)
    sa.event.listen(engine, "handle_error", errors.suspect_connections)
    return engine


def _require(file: str | None, *_: object) -> None:
    """Refuse a file that is not there: SQLite would make an empty one."""
    if file and not file.startswith(("file:", ":memory:")) and not Path(file).exists():
        raise FileNotFoundError("there is no such file")


def _reason(error: Exception) -> str:
    return errors.reason(error).partition(" (")[0]  # the advice is about a table of our own
