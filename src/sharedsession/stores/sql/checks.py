"""What a check asks a database, and what its answers mean.

The table is looked for before anything is stored: the first use would make it, and a check changes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sqlalchemy as sa

from ...exceptions import StoreUnavailable
from .._support.checking import clock_finding, transport_finding
from ..base import Finding
from . import invalidation
from .dialects import CLOCKS

if TYPE_CHECKING:
    from .dialects import Statements

T = TypeVar("T")


class Ask(Protocol):
    """Puts a question on a connection and returns the answer; `StoreUnavailable` without one."""

    def __call__(self, question: Callable[[sa.Connection], T]) -> T: ...


TLS = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value <> '' FROM {schema}.session_status "
    "WHERE variable_name = 'Ssl_cipher'",
}
MYSQL = ("mysql", "mariadb")  # there an index is dropped by its table
STATUS = {"mariadb": "information_schema", "mysql": "performance_schema"}
# What makes a server forget what it has acknowledged, when its machine fails: the question, the
# answers that are well, and the setting in a sentence.
DURABLE = {
    "postgresql": (
        ("SHOW fsync", ("on",), "fsync = on"),
        ("SHOW synchronous_commit", ("on", "remote_write", "remote_apply"), "synchronous_commit"),
    ),
    "mysql": (
        (
            "SELECT @@innodb_flush_log_at_trx_commit",
            ("1",),
            "innodb_flush_log_at_trx_commit = 1",
        ),
    ),
}
SAFE = {"synchronous_commit": "synchronous_commit = on"}


def findings(place: str, engine: sa.Engine, statements: Statements, ask: Ask) -> Iterator[Finding]:
    """Yield what is found out about a database, up to the first error."""
    kind = "mysql" if engine.dialect.name == "mariadb" else engine.dialect.name
    file = engine.url.database
    if kind == "sqlite" and file and not Path(file).exists():
        folder = Path(file).absolute().parent
        missing = "" if folder.is_dir() else f" Neither is its folder, {folder}: make it."
        yield Finding(
            "error", f"{place} is not there yet: run sharedsession create-table.{missing}"
        )
        return
    version = ask(lambda connection: connection.dialect.server_version_info)
    shown = ".".join(map(str, version or ()))
    yield Finding("ok", f"{place} answers{f', version {shown}' if shown else ''}.")
    table = _table(statements, ask)
    yield table
    if table.level == "error":
        return
    yield from _server(kind, engine, statements, ask)


def _table(statements: Statements, ask: Ask) -> Finding:
    table = statements.table
    name, schema = table.name, table.schema
    if not ask(lambda connection: sa.inspect(connection).has_table(name, schema)):
        return Finding(
            "error",
            f"It has no table {table.fullname} yet, or this user may not see it: let a user who "
            "may create tables run sharedsession create-table.",
        )
    columns = ask(lambda connection: sa.inspect(connection).get_columns(name, schema))
    lacking = {column.name for column in table.columns} - {each["name"] for each in columns}
    if lacking:
        return Finding(
            "error",
            f"Its table {table.fullname} has no {_and(lacking)}: another release has made it. "
            "Remove it, which signs everybody out, and run sharedsession create-table.",
        )
    indices = ask(lambda connection: sa.inspect(connection).get_indexes(name, schema))
    unread = [
        str(each["name"]) for each in indices if {"expires", "owner"} & {*each["column_names"]}
    ]
    if unread:
        quote = statements.dialect.identifier_preparer
        before = f"{quote.quote_schema(schema)}." if schema else ""
        after = f" ON {quote.format_table(table)}" if quote.dialect.name in MYSQL else ""
        drop = "; ".join(f"DROP INDEX {before}{quote.quote(str(each))}{after}" for each in unread)
        return Finding(
            "warning",
            f"Its table {table.fullname} has indices of an earlier release, which are not read and "
            f"make each write and touch dearer: {drop}.",
        )
    return Finding("ok", f"Its table {table.fullname} is there.")


def _and(names: set[str]) -> str:
    return " and ".join(sorted(names))


def _server(kind: str, engine: sa.Engine, statements: Statements, ask: Ask) -> Iterator[Finding]:
    def value(statement: str) -> Any:  # whatever the database answers; None: it may not be asked
        try:
            return ask(lambda connection: connection.exec_driver_sql(statement).scalar())
        except StoreUnavailable:
            return None

    if kind not in DURABLE:
        yield Finding("ok", "It keeps what it has acknowledged; no other machine can use it.")
        yield Finding("ok", "It pushes no writes: near_cache keeps copies for a second.")
        return
    yield _durability(kind, value)
    before, now = time.time(), value(f"SELECT {CLOCKS[kind]}")
    if now is not None:
        yield clock_finding(float(now) - (before + time.time()) / 2)
    named = str(engine.url.query.get("unix_socket") or engine.url.host or "")
    encrypted = value(TLS[kind].format(schema=STATUS.get(engine.dialect.name, "")))
    advice = "?sslmode=verify-full" if kind == "postgresql" else "?ssl_ca=/etc/ssl/ca.pem"
    yield transport_finding(
        encrypted=bool(encrypted),
        hosts=[each.strip() for each in named.split(",")],
        advice=f"Add {advice} to the URL.",
    )
    yield _pushes(kind, statements, ask)


def _durability(kind: str, value: Callable[[str], Any]) -> Finding:
    for question, well, setting in DURABLE[kind]:
        found = value(question)
        if found is not None and str(found) not in well:
            return Finding(
                "warning",
                "When its machine fails it forgets what it has acknowledged, sign-outs among it: "
                f"set {SAFE.get(setting, setting)}.",
            )
    return Finding("ok", "It keeps what it has acknowledged, and removes nothing by itself.")


def _pushes(kind: str, statements: Statements, ask: Ask) -> Finding:
    if kind != "postgresql":
        return Finding("ok", "It pushes no writes: near_cache keeps copies for a second.")
    if ask(lambda connection: invalidation.are_there(connection, statements)):
        return Finding("ok", "It pushes writes: near_cache may keep copies longer.")
    return Finding(
        "ok",
        "It has no triggers that push writes, so near_cache would keep copies for a second: "
        "sharedsession create-table --near-cache makes them.",
    )
