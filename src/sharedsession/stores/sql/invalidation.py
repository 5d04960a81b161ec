"""The invalidations of PostgreSQL: a trigger notifies, and a connection of its own listens.

Triggers publish every write of a session, by any client: an older version of the application, an
operator, a sweep. A notification sent by our own statements would miss those. What only prolongs a
session is not told, nor is the end of what expired long ago. Heartbeats go by the way of writes and
look whether the triggers are there; they change no row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from .._support.deadline import within
from ..base import ALL, QUIET, READY, Event, NoPush

if TYPE_CHECKING:
    from .dialects import Statements

POLL_INTERVAL = 0.25  # seconds without anything, after which that is said
LONG_AGO = 600  # seconds, far more than clocks differ
NAME = "sharedsession_tell"
CHANNEL = "sharedsession_"  # and the table's number

HEARTBEAT = sa.text(
    "SELECT pg_notify(:channel, :number) FROM pg_trigger WHERE tgrelid = to_regclass(:table) "
    "AND tgname LIKE :triggers AND tgenabled IN ('O', 'A') HAVING count(*) = :number_of_them "
    "AND current_setting('transaction_read_only') = 'off'"  # else writes go to another server
)
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {{function}}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM pg_notify('{CHANNEL}' || TG_RELID, '');
  ELSE
    PERFORM pg_notify('{CHANNEL}' || TG_RELID, OLD.key);
  END IF;
  RETURN NULL;
END $$"""
_LIVED = f"OLD.expires > extract(epoch FROM clock_timestamp()) - {LONG_AGO}"
_TRIGGERS = {
    f"{NAME}_update": "AFTER UPDATE ON {table} FOR EACH ROW WHEN (" + _LIVED + " AND "
    "(NEW.tokens <> OLD.tokens OR NEW.expires < OLD.expires OR NEW.data <> OLD.data))",
    f"{NAME}_delete": "AFTER DELETE ON {table} FOR EACH ROW WHEN (" + _LIVED + ")",
    f"{NAME}_truncate": "AFTER TRUNCATE ON {table} FOR EACH STATEMENT",
}
_THERE = sa.text("SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(:table)")
_NUMBER = sa.text("SELECT CAST(CAST(to_regclass(:table) AS oid) AS bigint)")


def are_heard(engine: sa.Engine) -> bool:
    """Say whether this database tells, and this driver hears it."""
    return engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg"


def heartbeat_values(statements: Statements, listener: str, number: int) -> dict[str, object]:
    """Return the parameters of `HEARTBEAT`."""
    return {
        "channel": CHANNEL + listener,
        "number": str(number),
        "table": _names(statements)["table"],
        "triggers": f"{NAME}%",
        "number_of_them": len(_TRIGGERS),
    }


def definition(statements: Statements) -> list[str]:
    """Return the statements that make the function and its triggers."""
    run = "\nEXECUTE FUNCTION {function}()"
    triggers = [f"CREATE TRIGGER {name} {when}{run}" for name, when in _TRIGGERS.items()]
    return [text.strip().format(**_names(statements)) for text in (_FUNCTION, *triggers)]


def are_there(connection: sa.Connection, statements: Statements) -> bool:
    """Say whether all triggers are."""
    return set(_TRIGGERS) <= set(connection.execute(_THERE, _names(statements)).scalars())


def create(engine: sa.Engine, statements: Statements) -> None:
    """Make the function and its triggers, where they are not yet."""
    statements.create(engine)
    function, *triggers = definition(statements)
    with engine.connect() as connection, connection.begin():
        there = connection.execute(_THERE, _names(statements)).scalars().all()
        missing = [
            trigger for name, trigger in zip(_TRIGGERS, triggers, strict=True) if name not in there
        ]
        for statement in [function, *missing] if missing else []:
            connection.exec_driver_sql(statement)


def listen(engine: sa.Engine, statements: Statements, listener: str) -> Iterator[Event]:
    """Yield what the database tells, on a connection of its own."""
    try:
        create(engine, statements)
    except sa.exc.OperationalError:
        raise  # the database is away
    except sa.exc.DBAPIError as error:
        # Another process may have made them at this moment; then the next try finds them.
        raise NoPush(
            "its table has no trigger that notifies, and it could not be made: let a user who may "
            f"run 'sharedsession create-table --near-cache' ({str(error.orig).strip()})"
        ) from None
    own, names = CHANNEL + listener, _names(statements)
    with engine.connect() as connection:
        table = CHANNEL + str(connection.execute(_NUMBER, names).scalar())
    raw = engine.raw_connection()
    driver: Any = raw.driver_connection  # psycopg.Connection
    raw.detach()
    from .psycopg import BoundedConnection, ignore

    if isinstance(driver, BoundedConnection):
        driver.remove_notify_handler(ignore)
    try:
        driver.rollback()
        driver.autocommit = True  # LISTEN counts from its commit, and an engine may leave that out
        driver.execute(f'LISTEN "{table}"')
        driver.execute(f'LISTEN "{own}"')
        yield READY
        while True:
            told = False
            for notice in driver.notifies(timeout=POLL_INTERVAL, stop_after=1):
                told = True
                if notice.channel == own:
                    yield Event(heartbeat=int(notice.payload))
                else:
                    yield Event(key=notice.payload) if notice.payload else ALL
            if not told:
                yield QUIET
    finally:
        with contextlib.suppress(Exception), within(POLL_INTERVAL):
            driver.execute("UNLISTEN *")  # behind a pooler the server's connection stays
        driver.close()


def _names(statements: Statements) -> dict[str, str]:
    table = statements.table
    quote = statements.dialect.identifier_preparer
    schema = f"{quote.quote_schema(table.schema)}." if table.schema else ""
    return {"table": quote.format_table(table), "function": schema + NAME}
