"""The records of another package, in Redis, Memcached or an SQL database: bytes under a key.

A client library is imported only where a source needs it. What comes from a URL keeps to the
source's timeout; a client or an engine of the user's own is used as it was configured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from ..._core.extras import missing
from ...exceptions import ConfigurationError, StoreUnavailable

REDIS = re.compile(r"(?:redis|valkey)s?|unix", re.IGNORECASE)
SQL = re.compile(r"(?:sqlite|postgres|postgresql|mysql|mariadb)(?:\+\w+)?", re.IGNORECASE)
KINDS = {"redis", "memcached", "sql"}
CLIENTS = {"redis": "redis", "sqlalchemy": "sql"}  # of the user's own, by their library
CHOICES = (
    "redis://host:6379/0, rediss://…, unix:///run/redis.sock, valkey://…, "
    "memcached://host1:11211,host2:11211, postgresql://user@host/name, mysql://user@host/name, "
    "sqlite:///file.db, or a redis.Redis client or an SQLAlchemy engine"
)


class Raw(NamedTuple):
    """A record: what is stored, and when it expires, in epoch seconds, or as a database has it.

    None: the server does not say.
    """

    data: Any  # bytes or text, or whatever else a column holds
    expires: Any


class Table(NamedTuple):
    """A table of sessions, and its columns, one of which holds the whole key."""

    name: str
    key: str
    data: str
    expires: str
    schema: str | None = None


class Records(Protocol):
    """Where another package keeps its sessions. Each call raises `StoreUnavailable` for outages."""

    def load(self, key: str, now: float) -> Raw | None:
        """Return what is under exactly that key, also an SQL row that has expired."""

    def delete(self, key: str) -> None:
        """Remove it; absent is fine."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys that begin so, in batches, some perhaps twice.

        Raises:
            TypeError: the store cannot list its keys.
        """

    def close(self) -> None:
        """Close the connections that were made from a URL."""


def open_records(store: object, timeout: float, table: Table | None = None) -> Records:
    """Return the records in a store: a URL, or a client or an engine of the user's own.

    ``table`` is where they are in an SQL database; None: they are in none.

    Raises:
        ConfigurationError: the URL is none, or of a store that the old package does not use.
        TypeError: it is neither a URL nor a client that is known.
        ModuleNotFoundError: the client library is not installed; the message names the extra.
    """
    kind = _kind_of(store)
    try:
        if kind == "redis":
            from .redis import RedisRecords

            return RedisRecords(store, timeout)
        if kind == "memcached":
            from .memcached import MemcachedRecords

            return MemcachedRecords(str(store), timeout)
        if table is not None:
            from .sql import SQLRecords

            return SQLRecords(store, table, timeout)
    except ModuleNotFoundError as error:
        raise missing(error, _extra(store, kind), *LIBRARIES) from error
    raise ConfigurationError(
        "These sessions are not in an SQL database: pass the store that the old package used."
    )


LIBRARIES = ("redis", "pymemcache", "sqlalchemy", "psycopg", "pymysql")


def _kind_of(store: object) -> str:
    if isinstance(store, str):
        scheme, found, _ = store.partition("://")
        kind = "redis" if REDIS.fullmatch(scheme) else "sql" if SQL.fullmatch(scheme) else scheme
        if found and kind.lower() in KINDS:
            return kind.lower()
        raise ConfigurationError(  # it is not shown: it may hold a password
            f"The old session store must be one of these: {CHOICES}. For Sentinels or a cluster "
            "pass a client."
        )
    for base in type(store).__mro__:
        library = base.__module__.partition(".")[0]
        if library in CLIENTS:
            return CLIENTS[library]
    raise TypeError(
        f"The old session store must be one of these: {CHOICES}; got "
        f"{type(store).__module__}.{type(store).__name__}."
    )


def _extra(store: object, kind: str) -> str:
    scheme = store.partition(":")[0].lower() if isinstance(store, str) else ""
    for backend, extra in {"postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}.items():
        if scheme.startswith(backend):
            return extra
    return kind


def outage(place: str, reason: str) -> StoreUnavailable:
    """Return the outage of an old store."""
    return StoreUnavailable(f"The old session store ({place}) failed: {reason}.")
