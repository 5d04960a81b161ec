"""What the flows yield, and the way to one database, by which it is done.

`Database.ask` is the same for both kinds of store: in a thread it waits, and in a greenlet it steps
aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import SQLAlchemyError

from ...exceptions import TooLarge
from .._support.deadline import deadline
from . import errors
from .dialects import SURELY_TAKEN, Statements, largest

Result = CursorResult[Any]  # Any: a row's columns differ from statement to statement
Errors = tuple[type[Exception], ...]
# How often something is asked again. What the database has undone itself, for another's sake, it
# has not done: that may be said more often.
AGAIN: dict[errors.Kind | None, int] = {"lost": 1, "refused": 1, "undone": 10}


@dataclass(slots=True, eq=False)
class Query:
    """A statement and its parameters; ``take`` makes the answer of its result.

    Errors that are ``expected`` are the flow's to judge, any other is an outage.
    ``is_repeated``: it was sent before, and the answer to that was lost.
    """

    statement: sa.Executable
    values: Mapping[str, Any]
    take: Callable[[Result], Any]
    expected: Errors = ()
    is_repeated: bool = False

    def on(self, database: Database) -> Any:  # what `take` makes of it
        """Execute it; where the table is not yet, it is made first."""
        with database.connect_to_table() as connection:
            data = self.values.get("new_data")
            if data is not None and len(data) > SURELY_TAKEN:
                _refuse_too_large(connection, len(data), database.place)
            return self.take(connection.execute(self.statement, self.values))


@dataclass(slots=True, eq=False)
class Action:
    """What else is done with a database; no table is made for it."""

    on: Callable[[Database], Any]
    expected: Errors = ()
    is_repeated: bool = False


class Database:
    """The way to a database by one engine; ``timeout`` is None for an engine of the user's own."""

    def __init__(
        self, engine: sa.Engine, statements: Statements, timeout: float | None = None
    ) -> None:
        self.engine = engine
        self.place = errors.place_of(engine.url)
        self.is_ours = timeout is not None
        self._statements = statements
        self._timeout = timeout
        self._has_table = False
        sa.event.listen(engine, "handle_error", errors.suspect_connections)

    def ask(self, asked: Query | Action) -> Any:
        """Do what a flow has asked for; again when its connection was of no use.

        After such a connection all that were idle are suspect, and replaced by SQLAlchemy.
        """
        failed: list[errors.Kind | None] = []
        while True:
            try:
                return asked.on(self)
            except asked.expected:
                raise
            except (SQLAlchemyError, OSError) as error:
                kind = errors.kind_of(error)
                self._has_table = False  # it may have gone with its file
                if failed.count(kind) >= AGAIN.get(kind, 0) or not self._has_time(kind):
                    full = kind == "full" and not asked.is_repeated
                    outage = errors.outage(self.place, errors.reason(error), full=full)
                    raise outage from errors.cause(error)
                failed.append(kind)
                asked.is_repeated = asked.is_repeated or kind == "lost"

    def _has_time(self, kind: errors.Kind | None) -> bool:
        """Whether it may be tried again; a new connection, and what is said on it, take some."""
        if self._timeout is None:
            return True
        return deadline.left() > (0 if kind == "undone" else self._timeout / 2)

    def make_table(self) -> None:
        """Make the table, where it is not yet."""
        self._statements.create(self.engine)

    def connect_to_table(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection to a database that has the table."""
        if not self._has_table:
            self.make_table()
            self._has_table = True
        return self.connect()

    def connect(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection that has committed when it is given back.

        One of an engine that was made from a URL commits by itself, and to say so costs MySQL a
        round trip.
        """
        return self.engine.connect() if self.is_ours else self.engine.begin()


def _refuse_too_large(connection: sa.Connection, size: int, place: str) -> None:
    """Look before sending: a server may hang up on what is too large, as if it had failed."""
    limit, reason = largest(connection)
    if size > limit:
        raise TooLarge(
            f"The session takes {size} bytes, and the session store ({place}) takes at "
            f"most {limit} ({reason}): keep less in the session.",
            size,
            limit,
        )
