"""Where sessions are kept: real servers behind a `Proxy`, one entry for each kind.

A place knows what its server keeps when it is killed: everything it acknowledged, what it had at
its last snapshot, or nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

from sharedsession.stores import open_store
from sharedsession.stores.sql import SQLStore
from tests.guarantees.asgi import AsgiAdapter, bare, starlette
from tests.guarantees.driver import Adapter, Server
from tests.guarantees.wsgi import FlaskAdapter, WsgiAdapter, plain
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.memcached_servers import MemcachedServer
from tests.support.proxy import Proxy
from tests.support.redis_servers import SixNodes, Watched
from tests.support.servers import RedisServer, binaries

ADAPTERS: dict[str, Adapter] = {
    "ASGI": AsgiAdapter(bare),
    "Starlette": AsgiAdapter(starlette),
    "WSGI": WsgiAdapter(plain),
    "Flask": FlaskAdapter(SESSION_REFRESH_EACH_REQUEST=False),
}
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Keeps(Enum):
    """What a server still knows after kill -9 and a restart."""

    ALL = auto()
    SNAPSHOT = auto()
    NOTHING = auto()


@dataclass
class ProxiedStore:
    """One store, as applications reach it, and the server behind it."""

    name: str
    url: str
    server: Any = None  # of several kinds: kill, start, pause and resume are common to them
    proxy: Proxy | None = None
    keeps: Keeps = Keeps.ALL
    adapters: tuple[str, ...] = ("ASGI", "WSGI", "Flask")
    file: Path | None = None
    words: tuple[bytes, ...] = ()  # one of these is in each command that writes
    held: Any = None  # the pair of stores that all servers share

    def servers(
        self,
        timeout: float,
        clocks: Callable[[int], Callable[[], float]] | None = None,
        **settings: Any,
    ) -> dict[str, Server]:
        """Start one server of each adapter, each with a clock of its own where there are any."""
        self.held = open_store(self.url, timeout)
        started: dict[str, Server] = {}
        for number, name in enumerate(self.adapters):
            adapter, given, store = ADAPTERS[name], dict(settings), self._store
            if clocks is not None:
                given["clock"] = clocks(number)
                store = partial(self._store_with_clock, given["clock"])
            started[name] = adapter(
                store(adapter.asynchronous, timeout), store_timeout=timeout, **given
            )
        return started

    def _store(self, asynchronous: bool, timeout: float) -> Any:
        return self.url

    def _store_with_clock(
        self, clock: Callable[[], float], asynchronous: bool, timeout: float
    ) -> Any:
        if not self.url.startswith("sqlite"):
            return self.url  # the server's own clock is the only one
        return SQLStore.from_url(self.url, timeout, clock=clock)


def _redis(name: str, keeps: Keeps, kind: str = "redis") -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[ProxiedStore]:
        if keeps is not Keeps.ALL:  # to the network it is all the same
            with RedisServer(binaries()[kind]) as server:
                yield ProxiedStore(name, server.url, server, keeps=keeps)
            return
        with RedisServer(binaries()[kind], *ALWAYS) as server, Proxy(server.port) as proxy:
            url = f"{kind}://localhost:{proxy.port}/0"
            yield ProxiedStore(name, url, server, proxy, words=(b"EVAL",))

    return opened


@contextmanager
def _sqlite() -> Iterator[ProxiedStore]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sessions.db"
        yield ProxiedStore("SQLite", f"sqlite:///{file}", file=file)


def _database(name: str, driver: str, *adapters: str) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[ProxiedStore]:
        # MariaDB, in these tests, writes its log once a second otherwise.
        server = (
            MariaDB("--innodb-flush-log-at-trx-commit=2")
            if driver == "mariadb"
            else PostgreSQL("max_connections=60")
        )
        with server, Proxy(server.port) as proxy:
            url = server.url.replace(f"127.0.0.1:{server.port}", f"localhost:{proxy.port}")
            url = url.replace(url.partition(":")[0], driver, 1)
            chosen = adapters or ("ASGI", "WSGI", "Flask")
            # What asyncpg has prepared is named, not repeated.
            words = (b"",) if driver.endswith("asyncpg") else (b"UPDATE", b"INSERT")
            yield ProxiedStore(name, url, server, proxy, adapters=chosen, words=words)

    return opened


def _memcached(name: str, count: int) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[ProxiedStore]:
        with ExitStack() as stack:
            servers = [stack.enter_context(MemcachedServer()) for _ in range(count)]
            proxy = stack.enter_context(Proxy(servers[0].port))
            first = f"localhost:{proxy.port}"
            url = ",".join([f"memcached://{first}", *(each.name for each in servers[1:])])
            words = (b"add ", b"cas ")
            yield ProxiedStore(name, url, servers[0], proxy, Keeps.NOTHING, words=words)

    return opened


@contextmanager
def _sentinel() -> Iterator[ProxiedStore]:
    with Watched(down_after=1000) as watched:
        yield ProxiedStore("Redis by Sentinel", watched.url, watched)


@contextmanager
def _cluster() -> Iterator[ProxiedStore]:
    with SixNodes() as nodes:
        yield ProxiedStore("Redis Cluster", nodes.url, nodes)


PLACES: dict[str, Callable[[], AbstractContextManager[ProxiedStore]]] = {
    "Redis": _redis("Redis, appendfsync always", Keeps.ALL),
    "Redis, snapshots": _redis("Redis, a snapshot", Keeps.SNAPSHOT),
    "Redis, in memory": _redis("Redis, nothing on disk", Keeps.NOTHING),
    "Valkey": _redis("Valkey, appendfsync always", Keeps.ALL, "valkey"),
    "Sentinel": _sentinel,
    "Cluster": _cluster,
    "Memcached": _memcached("Memcached, one node", 1),
    "Memcached, three nodes": _memcached("Memcached, three nodes", 3),
    "SQLite": _sqlite,
    "PostgreSQL": _database("PostgreSQL, psycopg", "postgresql"),
    "PostgreSQL, asyncpg": _database(
        "PostgreSQL, asyncpg", "postgresql+asyncpg", "ASGI", "Starlette"
    ),
    "MariaDB": _database("MariaDB, PyMySQL and asyncmy", "mariadb"),
}
