"""Where the sessions are: real stores, and what can befall each of them.

A fault is a function that makes something happen, lets it last for so many seconds, and ends it; it
blocks, so it is called in a thread. Stores are hurt only in ways in which they keep their data.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.databases import MariaDB, PgBouncer, PostgreSQL, Standby
from tests.memcached_servers import MemcachedServer
from tests.redis_servers import SixNodes, Watched, until
from tests.reliability.proxy import Fate, Proxy
from tests.servers import RedisServer

PATIENCE = 60.0  # seconds that a lock may take to be had
DOWN_AFTER = 600  # milliseconds of silence after which a Redis node is taken for dead
CONNECTIONS = "max_connections=60"
LAGS = (0.05, 1.5)  # seconds by which what follows a store is late, shorter and longer than a lease
LOST = 0.1  # share of the store's answers that are lost, while they are

Fault = Callable[[float], None]


@dataclass
class Place:
    """A store, and what can happen to it. ``read_from``: the URL of its replica."""

    url: str
    faults: Mapping[str, Fault] = field(default_factory=dict)
    read_from: str = ""


def store_faults(server: Any) -> dict[str, Fault]:
    """What can happen to a server that keeps its data: of several kinds, with the same verbs."""

    def killed(seconds: float) -> None:
        server.kill()
        time.sleep(seconds)
        server.start()

    def hangs(seconds: float) -> None:
        try:
            server.pause()
            time.sleep(seconds)
        finally:
            server.resume()

    return {"store killed": killed, "store hangs": hangs}


@contextmanager
def memory() -> Iterator[Place]:
    yield Place("memory://")


@contextmanager
def sqlite() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sessions.db"

        def locked(seconds: float) -> None:
            with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                connection.rollback()

        yield Place(f"sqlite:///{file}", {"file locked": locked})


@contextmanager
def redis() -> Iterator[Place]:
    with RedisServer(None, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield Place(server.url, store_faults(server))


@contextmanager
def redis_replica() -> Iterator[Place]:
    """A server and a replica, which reads may go to."""
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
    with RedisServer(None, *durable) as server, Proxy(server.port) as link:
        follow = ("--replicaof", f"127.0.0.1 {link.port}", "--repl-timeout", "5")
        with RedisServer(None, *follow) as replica:
            faults = store_faults(server) | replica_faults(replica, link)
            yield Place(server.url, faults, replica.url)


@contextmanager
def redis_sentinel() -> Iterator[Place]:
    """A service that fails over. What is acknowledged has been confirmed by the replica."""
    with Watched(down_after=DOWN_AFTER) as service:

        def failover(seconds: float) -> None:
            old = service.primary
            old.kill()
            service.swap()
            time.sleep(seconds)
            old.start("--replicaof", f"127.0.0.1 {service.primary.port}")
            service.follow()

        yield Place(f"{service.url}?wait_replicas=1", {"failover": failover})


@contextmanager
def redis_cluster() -> Iterator[Place]:
    """A cluster of three shards, each of which can fail over."""
    with SixNodes() as cluster:
        cluster.node_timeout(DOWN_AFTER)
        chance = Random(cluster.servers[0].port)

        def failover(seconds: float) -> None:
            old = chance.choice(cluster.primaries())
            old.kill()
            until(lambda: len(cluster.primaries_but(old)) == 3, "a replica takes over")
            time.sleep(seconds)
            old.start()
            cluster.ready()

        yield Place(f"{cluster.url}?wait_replicas=1", {"failover": failover})


@contextmanager
def mariadb() -> Iterator[Place]:
    with MariaDB() as server:
        yield Place(server.url, store_faults(server))


@contextmanager
def memcached() -> Iterator[Place]:
    with MemcachedServer() as server:
        # Killed, it would forget everything.
        yield Place(server.url, {"store hangs": store_faults(server)["store hangs"]})


@contextmanager
def postgresql() -> Iterator[Place]:
    with PostgreSQL(CONNECTIONS) as server:
        yield Place(server.url, store_faults(server))


@contextmanager
def postgresql_pooled() -> Iterator[Place]:
    """A pooler before the server, which drops what a session of its own would keep."""
    with PostgreSQL(CONNECTIONS) as server, PgBouncer(server) as pooler:
        yield Place(pooler.url, store_faults(server))


@contextmanager
def postgresql_replica() -> Iterator[Place]:
    """A server and a replica, which reads may go to."""
    with PostgreSQL(CONNECTIONS) as server, Proxy(server.port) as link:
        with Standby(link.port, CONNECTIONS) as replica:
            faults = store_faults(server) | replica_faults(replica, link)
            yield Place(server.url, faults, replica.url)


def replica_faults(replica: Any, link: Proxy) -> dict[str, Fault]:
    """What can happen to a replica, and to the link over which it follows its primary."""
    chance = Random(link.port)

    def lags(seconds: float) -> None:
        link.delay = chance.uniform(*LAGS)
        time.sleep(2 * seconds)
        link.delay = 0.0

    def stalls(seconds: float) -> None:
        link.hold()
        time.sleep(2 * seconds)
        link.release()

    def is_cut_off(seconds: float) -> None:
        link.refuse()
        time.sleep(2 * seconds)
        link.restore()

    happens = {
        name.replace("store", "replica"): fault for name, fault in store_faults(replica).items()
    }
    return happens | {"replica lags": lags, "replica stalls": stalls, "replica cut off": is_cut_off}


@contextmanager
def unsteady(
    open_place: Callable[[], AbstractContextManager[Place]], pushes: bool = False
) -> Iterator[Place]:
    """The same store behind a network that loses answers of what was done, and connections.

    ``pushes``: it also delays and loses those of changes, which near caches wait for.
    """
    with open_place() as place:
        port = urlsplit(place.url).port
        assert port is not None
        with Proxy(port) as proxy:
            chance = Random(port)

            def answers_lost(seconds: float) -> None:
                proxy.fate = lambda asked: Fate.LOST if chance.random() < LOST else Fate.ARRIVES
                time.sleep(seconds)
                proxy.fate = lambda asked: Fate.ARRIVES

            def connections_lost(seconds: float) -> None:
                proxy.reset()

            def silence(seconds: float) -> None:
                proxy.silence()
                time.sleep(seconds)
                proxy.restore()

            faults = {
                "answers lost": answers_lost,
                "connections lost": connections_lost,
                "silence": silence,
            }
            if pushes:
                faults |= push_faults(proxy, chance)
            yield Place(place.url.replace(f":{port}", f":{proxy.port}"), faults)


def push_faults(proxy: Proxy, chance: Random) -> dict[str, Fault]:
    """What can happen to pushes alone, while reads and writes go on."""

    def late(seconds: float) -> None:
        proxy.push_delay = chance.uniform(*LAGS)
        time.sleep(2 * seconds)
        proxy.push_delay = 0.0

    def swallowed(seconds: float) -> None:
        proxy.silence_pushes()
        time.sleep(seconds)

    def cut(seconds: float) -> None:
        proxy.reset_pushes()

    return {"pushes late": late, "pushes swallowed": swallowed, "pushes cut": cut}
