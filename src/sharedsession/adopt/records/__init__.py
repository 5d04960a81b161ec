"""The records of another package, in Redis, Memcached or an SQL database: bytes under a key.

A client library is imported only where a source needs it. What comes from a URL keeps to the
source's timeout; a client or an engine of the user's own is used as it was configured.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Protocol

from ..._core.extras import missing
from ..._core.settings import LONGEST_CALL
from ...exceptions import ConfigurationError, StoreUnavailable

CHOICES = {
    "redis": "redis://host:6379/0, rediss://…, unix:///run/redis.sock, valkey://…, a redis.Redis",
    "memcached": "memcached://host1:11211,host2:11211",
    "sql": "postgresql://user@host/name, mysql://…, sqlite:///file.db, an SQLAlchemy engine",
}
SCHEMES = {
    "redis": re.compile("(?:redis|valkey)s?|unix", re.IGNORECASE),
    "memcached": re.compile("memcached", re.IGNORECASE),
    "sql": re.compile(r"(?:sqlite|postgres|postgresql|mysql|mariadb)(?:\+\w+)?", re.IGNORECASE),
}
CLIENTS = {"redis": "redis", "sqlalchemy": "sql"}  # of the user's own, by their library
LIBRARIES = ("redis", "pymemcache", "sqlalchemy", "psycopg", "pymysql")


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


class NoRecords:
    """What a package has that keeps none."""

    def load(self, key: str, now: float) -> Raw | None:
        """Find nothing."""

    def delete(self, key: str) -> None:
        """Do nothing."""

    def keys(self, prefix: str) -> Iterator[str]:
        """List none."""
        return iter(())

    def close(self) -> None:
        """Do nothing."""


def open_records(
    store: object, timeout: float, kinds: Collection[str], table: Table | None = None
) -> Records:
    """Return the records in a store: a URL, or a client or an engine of the user's own.

    ``kinds`` are those of `CHOICES` in which the old package keeps its sessions; ``table`` is where
    they are in an SQL database.

    Raises:
        ConfigurationError: the URL is none, or one of a store of another kind; the timeout is none.
        TypeError: it is neither a URL nor a client of one of these kinds.
        ModuleNotFoundError: the client library is not installed; the message names the extra.
    """
    if isinstance(timeout, bool) or not 0 < timeout <= LONGEST_CALL:
        raise ConfigurationError(
            f"timeout must be above 0 and at most {LONGEST_CALL} seconds, got {timeout!r}."
        )
    kind = _kind_of(store)
    if kind is None or kind not in kinds:
        raise _refusal(store, kinds)
    try:
        if kind == "redis":
            from .redis import RedisRecords

            return RedisRecords(store, timeout)
        if kind == "memcached":
            from .memcached import MemcachedRecords

            return MemcachedRecords(str(store), timeout)
        from .sql import SQLRecords

        assert table is not None
        return SQLRecords(store, table, timeout)
    except ModuleNotFoundError as error:
        raise missing(error, _extra(store, kind), *LIBRARIES) from error


def _kind_of(store: object) -> str | None:
    if isinstance(store, str):
        scheme, found, _ = store.partition("://")
        known = [kind for kind, schemes in SCHEMES.items() if schemes.fullmatch(scheme)]
        return known[0] if found and known else None
    libraries = (base.__module__.partition(".")[0] for base in type(store).__mro__)
    return next((CLIENTS[library] for library in libraries if library in CLIENTS), None)


def _refusal(store: object, kinds: Collection[str]) -> Exception:
    """Return the error for a store; a URL is not shown, for it may hold a password."""
    choices = ", or ".join(CHOICES[kind] for kind in kinds)
    must = f"The store of these old sessions must be {choices}"
    if isinstance(store, str):
        sentinels = " For Sentinels or a cluster pass a client." if "redis" in kinds else ""
        return ConfigurationError(f"{must}.{sentinels}")
    return TypeError(f"{must}; got {type(store).__module__}.{type(store).__name__}.")


def _extra(store: object, kind: str) -> str:
    scheme = store.partition(":")[0].lower() if isinstance(store, str) else ""
    for backend, extra in {"postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}.items():
        if scheme.startswith(backend):
            return extra
    return kind


def outage(place: str, reason: str) -> StoreUnavailable:
    """Return the outage of an old store."""
    return StoreUnavailable(f"The old session store ({place}) failed: {reason}.")
