"""Stores, and the way from a URL to one.

A client library is imported only when a URL asks for it. A scheme that is not ours may belong to
another package, which names it in the entry-point group ``sharedsession.stores``.

Two calls with the same URL return the same pair for as long as a caller holds that pair, so two
middlewares of one process share a connection pool and, with ``memory://``, their sessions. No
message here repeats a URL: it may carry a password.
"""

from __future__ import annotations

import threading
import weakref
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, NoReturn

from ..exceptions import ConfigurationError
from ._support.addresses import take_apart, unknown_option
from .base import StorePair

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .._core.settings import NearCache

CHOICES = """\
Choose one of these stores:
  memory://                       this process's own memory: tests, or one single server process
  sqlite:///sessions.db           a file, for all processes of one machine
  postgresql://user@host/name     PostgreSQL, for any number of machines; postgresql+asyncpg://…
  mysql://user@host/name          MySQL, and mariadb://… MariaDB, in the same way
  redis://localhost:6379/0        Redis, for any number of machines; rediss://… with TLS,
                                  unix:///run/redis.sock by a socket
  redis+sentinel://h1,h2,h3/name  the primary of a service that Sentinels watch
  redis+cluster://h1,h2,h3        Redis Cluster
  valkey://localhost:6379/0       Valkey, in the same ways; valkeys://… with TLS
  memcached://h1:11211,h2:11211   Memcached, spread over several servers"""


GROUP = "sharedsession.stores"  # of entry points: the name is a URL's scheme
REDIS = {"unix"} | {
    server + shape
    for server in ("redis", "rediss", "valkey", "valkeys")
    for shape in ("", "+sentinel", "+cluster")
}
SQL_SERVERS = {  # what installs the drivers, by the first part of a URL's scheme
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}


REPLICA_SHARE = 4  # a replica that hangs may cost this fraction of the timeout

__all__ = ["StorePair", "open_store", "open_with_copies", "table_definition"]

_pairs: weakref.WeakValueDictionary[tuple[Any, ...], StorePair] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def open_store(url: str, timeout: float = 1.0) -> StorePair:
    """Return the store at ``url``; its calls end, or fail, within ``timeout`` seconds."""
    scheme = url.partition(":")[0].lower()
    # A memory never waits, so two middlewares with different deadlines share it all the same.
    key = (url, None if scheme == "memory" else timeout)
    with _lock:
        pair = _pairs.get(key)
        if pair is None:
            pair = _pairs[key] = _open(url, scheme, timeout)
    return pair


def open_with_copies(
    url: str,
    timeout: float,
    near_cache: NearCache | None,
    replica_url: str | None,
    stale_if_error: float,
) -> StorePair:
    """Return the store at ``url`` with copies before it, which are shared in the same way."""
    from .near import with_copies

    key = (url, timeout, near_cache, replica_url, stale_if_error)
    primary = open_store(url, timeout)
    replica = None if replica_url is None else open_store(replica_url, timeout / REPLICA_SHARE)
    with _lock:
        pair = _pairs.get(key)
        if pair is None:
            pair = with_copies(primary, near_cache, replica, stale_if_error, timeout=timeout)
            _pairs[key] = pair
    return pair


def table_definition(url: str, *, near_cache: bool = False) -> str | None:
    """Return the SQL that makes the table of the store at ``url``; None where it needs none."""
    scheme = url.partition(":")[0].lower()
    if scheme != "sqlite" and scheme.partition("+")[0] not in SQL_SERVERS:
        return None
    try:
        from .sql.dialects import definition
    except ModuleNotFoundError as error:
        _missing(error, scheme)
    return definition(url, near_cache=near_cache)


def _open(url: str, scheme: str, timeout: float) -> StorePair:
    if "://" not in url:
        scheme = ""
    try:
        match scheme:
            case "memory":
                return _memory(url)
            case "sqlite":
                return _sqlite(url, timeout)
            case _ if scheme.partition("+")[0] in SQL_SERVERS:
                return _sql(url, timeout)
            case _ if scheme in REDIS:
                return _redis(scheme.replace("valkey", "redis") + url[len(scheme) :], timeout)
            case "memcached":
                return _memcached(url, timeout)
    except ModuleNotFoundError as error:
        _missing(error, scheme)
    from importlib.metadata import entry_points  # which loads forty modules

    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme in others:
        return _from_a_package(others[scheme], url, timeout)
    named = f"{scheme}://" if scheme else "a store without '://' in its URL"
    more = "".join(f"\n  {each}://" for each in sorted(others))
    raise ConfigurationError(f"Nothing is known about {named}.\n{CHOICES}{more}")


def _from_a_package(entry: EntryPoint, url: str, timeout: float) -> StorePair:
    """Ask another package for its store: ``function(url, timeout)``, a store or a pair of them."""
    origin = f"{entry.name}:// comes from {entry.value}"
    try:
        opened = entry.load()(url, timeout)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{origin}, which failed: {type(error).__name__}.") from error
    if isinstance(opened, StorePair):
        return opened
    if not callable(getattr(opened, "load", None)):
        raise ConfigurationError(f"{origin}, which gave no store, but {type(opened).__name__}.")
    return StorePair(None, opened) if iscoroutinefunction(opened.load) else StorePair(opened, None)


def _missing(error: ModuleNotFoundError, scheme: str) -> NoReturn:
    """Say what to install for a scheme; an error of another kind stays what it is."""
    library = error.name or ""
    extra = {"sqlalchemy": "sql", "redis": "redis", "pymemcache": "memcached"}.get(library)
    if library in ("sqlalchemy", "greenlet", "psycopg", "pymysql", "asyncmy"):
        extra = SQL_SERVERS.get(scheme.partition("+")[0], extra)
    if extra is None and library != "asyncpg":
        raise error
    what = f"'sharedsession[{extra}]'" if extra else library
    raise ConfigurationError(
        f"A {scheme}:// store needs the package {library}, which is not installed: "
        f"pip install {what}."
    ) from error


def _memory(url: str) -> StorePair:
    from .memory import MemoryStore

    parts = take_apart(url, form="memory://name?max_entries=1000")
    for name in parts.options:
        if name != "max_entries":
            unknown_option(name, ["max_entries"], "A memory:// URL")
    entries = parts.options.get("max_entries")
    valid = entries is None or (entries.isdecimal() and int(entries) >= 1)
    if parts.path not in ("", "/") or not valid:
        raise ConfigurationError(
            "A memory store is memory://, or memory://name for one of its own, either with "
            "?max_entries=N, N being at least 1; nothing else can be set in its URL."
        )
    return StorePair(MemoryStore(None if entries is None else int(entries)), None)


def _sqlite(url: str, timeout: float) -> StorePair:
    from .sql import SQLStore

    if not url.partition("://")[2].startswith(("/", "?")) and url.lower() != "sqlite://":
        raise ConfigurationError(
            "A SQLite URL names a file after three slashes, sqlite:///sessions.db, or after four "
            "when its path is absolute, sqlite:////var/lib/app/sessions.db."
        )
    return StorePair(SQLStore.from_url(url, timeout), None)


def _sql(url: str, timeout: float) -> StorePair:
    from .sql import AsyncSQLStore, SQLStore

    asynchronous = AsyncSQLStore.from_url(url, timeout)
    try:
        return StorePair(SQLStore.from_url(url, timeout), asynchronous)
    except ModuleNotFoundError as error:
        if error.name != "psycopg" or not url.lower().startswith("postgresql+asyncpg:"):
            raise
        return StorePair(None, asynchronous)  # who chose asyncpg need not have the other one


def _redis(url: str, timeout: float) -> StorePair:
    from .redis import AsyncRedisStore, RedisStore

    return StorePair(RedisStore.from_url(url, timeout), AsyncRedisStore.from_url(url, timeout))


def _memcached(url: str, timeout: float) -> StorePair:
    from .memcached import AsyncMemcachedStore, MemcachedStore

    return StorePair(
        MemcachedStore.from_url(url, timeout), AsyncMemcachedStore.from_url(url, timeout)
    )
