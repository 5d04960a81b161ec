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
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from tests.support.databases import Database, MariaDB, PgBouncer, PostgreSQL, Standby
from tests.support.memcached_servers import MemcachedServer
from tests.support.proxy import Fate, Proxy
from tests.support.redis_servers import SixNodes, Watched, until
from tests.support.servers import RedisServer

from .history import Kind, Period

PATIENCE = 60.0  # seconds that a lock may take to be had
DOWN_AFTER = 600  # milliseconds of silence after which a Redis node is taken for dead
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
SYNC = ("--repl-diskless-sync-delay", "0")
CONNECTIONS = "max_connections=60"
LAGS = (0.05, 1.5)  # seconds by which what follows a store is late, shorter and longer than a lease
LOST = 0.1  # share of the store's answers that are lost, while they are

BETWEEN = 5.0  # seconds after that time before the next switch-over
LONGEST_MOVE = 60.0  # seconds that a switch-over may take
BOUND = 1.0  # seconds after a switch-over that servers which write may take to notice
AGES = {"redis": 10.0, "sql": 30.0}  # seconds for which a connection may lead to an old primary
ALL = frozenset(Kind)

Fault = Callable[[float], bool | None]  # False: it cannot happen now


@dataclass
class HurtStore:
    """A store, and what can happen to it. ``replica``: the URL of its replica.

    ``periods`` is what was, or will be, so for a while; faults add to it.
    """

    url: str
    faults: Mapping[str, Fault] = field(default_factory=dict)
    replica: str = ""
    periods: list[Period] = field(default_factory=list)


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
def memory() -> Iterator[HurtStore]:
    yield HurtStore("memory://")


@contextmanager
def sqlite() -> Iterator[HurtStore]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sessions.db"

        def locked(seconds: float) -> None:
            with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                connection.rollback()

        yield HurtStore(f"sqlite:///{file}", {"file locked": locked})


@contextmanager
def redis() -> Iterator[HurtStore]:
    with RedisServer(None, *DURABLE) as server:
        yield HurtStore(server.url, store_faults(server))


@contextmanager
def redis_full() -> Iterator[HurtStore]:
    """A server that has no room for anything, once in a while."""
    with RedisServer(None, *DURABLE) as server, Redis(port=server.port) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        place = HurtStore(server.url)

        def full(seconds: float) -> None:
            admin.config_set("maxmemory", "1")
            begin = time.monotonic()
            time.sleep(seconds)
            signs_out = frozenset({Kind.SIGN_OUT, Kind.READ})
            place.periods.append(Period(begin, time.monotonic(), answered=signs_out))
            admin.config_set("maxmemory", "0")

        place.faults = {"store full": full}
        yield place


@contextmanager
def redis_replica() -> Iterator[HurtStore]:
    """A server and a replica, which reads may go to."""
    with RedisServer(None, *DURABLE, *SYNC) as server, Proxy(server.port) as link:
        follow = ("--replicaof", f"127.0.0.1 {link.port}", "--repl-timeout", "5")
        with RedisServer(None, *follow) as replica:
            faults = store_faults(server) | replica_faults(replica, link)
            yield HurtStore(server.url, faults, replica.url)


@contextmanager
def redis_sentinel() -> Iterator[HurtStore]:
    """A service that fails over. What is acknowledged has been confirmed by the replica."""
    with Watched(down_after=DOWN_AFTER) as service:

        def failover(seconds: float) -> None:
            old = service.primary
            old.kill()
            service.swap()
            time.sleep(seconds)
            old.start("--replicaof", f"127.0.0.1 {service.primary.port}")
            service.follow()

        yield HurtStore(f"{service.url}?wait_replicas=1", {"failover": failover})


@contextmanager
def redis_cluster() -> Iterator[HurtStore]:
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

        yield HurtStore(f"{cluster.url}?wait_replicas=1", {"failover": failover})


@contextmanager
def mariadb() -> Iterator[HurtStore]:
    with MariaDB() as server:
        yield HurtStore(server.url, store_faults(server))


@contextmanager
def memcached() -> Iterator[HurtStore]:
    with MemcachedServer() as server:
        # Killed, it would forget everything.
        yield HurtStore(server.url, {"store hangs": store_faults(server)["store hangs"]})


@contextmanager
def postgresql() -> Iterator[HurtStore]:
    with PostgreSQL(CONNECTIONS) as server:
        yield HurtStore(server.url, store_faults(server))


@contextmanager
def postgresql_pooled() -> Iterator[HurtStore]:
    """A pooler before the server, which drops what a session of its own would keep."""
    with PostgreSQL(CONNECTIONS) as server, PgBouncer(server) as pooler:
        yield HurtStore(pooler.url, store_faults(server))


@contextmanager
def postgresql_replica() -> Iterator[HurtStore]:
    """A server and a replica, which reads may go to."""
    with PostgreSQL(CONNECTIONS) as server, Proxy(server.port) as link:
        with Standby(link.port, CONNECTIONS) as replica:
            faults = store_faults(server) | replica_faults(replica, link)
            yield HurtStore(server.url, faults, replica.url)


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


# --- planned switch-overs -------------------------------------------------------------------------

# The old primary goes on with its connections open: it refuses writes and answers reads, as the
# servers of an operator do who moves a service to another machine behind one name.


def switch_over(name: Proxy, periods: list[Period], age: float, move: Callable[[], int]) -> Fault:
    """A fault in which ``move`` makes another server the primary and returns its port."""

    def switched(seconds: float) -> bool:
        begin = time.monotonic()
        if any(each.end + BETWEEN > begin for each in periods if each.behind):
            time.sleep(seconds)  # who only reads has yet to be seen to notice the last one
            return False
        # Noted beforehand: histories are judged meanwhile.
        periods.append(Period(begin, begin + LONGEST_MOVE + age, behind=True))
        name.target = move()
        led = time.monotonic()
        # Who writes notices at the first write that an old connection takes, and is refused.
        periods[-1] = Period(begin, led + BOUND, behind=True)
        periods.append(Period(begin, led + age, behind=True, of_readers=True))
        time.sleep(BOUND + seconds)
        periods.append(Period(led + BOUND, time.monotonic(), answered=ALL))
        return True

    return switched


@contextmanager
def redis_switched() -> Iterator[HurtStore]:
    with ExitStack() as stack:
        old = stack.enter_context(RedisServer(None, *DURABLE, *SYNC))
        follow = ("--replicaof", f"127.0.0.1 {old.port}")
        new = stack.enter_context(RedisServer(None, *DURABLE, *SYNC, *follow))
        admins = {each: stack.enter_context(Redis(port=each.port)) for each in (old, new)}
        name = stack.enter_context(Proxy(old.port))
        # What the old one answers from then on; the first still shows what was so by then.
        fates = cycle(["NOREPLICAS", "MASTERDOWN", "READONLY"])
        pair = [old, new]
        place = HurtStore(f"redis://127.0.0.1:{name.port}/0")

        def move() -> int:
            primary, other = pair
            was, becomes = admins[primary], admins[other]
            was.config_set("min-replicas-to-write", 0)
            was.config_set("replica-serve-stale-data", "yes")
            becomes.config_set("min-replicas-to-write", 0)
            becomes.config_set("replica-serve-stale-data", "yes")
            becomes.replicaof("127.0.0.1", primary.port)
            until(lambda: becomes.info("replication")["master_link_status"] == "up", "it follows")
            until(lambda: was.wait(1, 100) == 1, "it has everything")
            was.execute_command("FAILOVER", "TO", "127.0.0.1", other.port)
            until(lambda: becomes.role()[0] == b"master", "the other one is the primary")
            match next(fates):
                case "MASTERDOWN":
                    was.config_set("replica-serve-stale-data", "no")
                    was.replicaof("127.0.0.1", 1)
                case "NOREPLICAS":
                    was.config_set("min-replicas-to-write", 1)
                    was.replicaof("NO", "ONE")
            pair.reverse()
            return other.port

        place.faults = {"switched over": switch_over(name, place.periods, AGES["redis"], move)}
        yield place


@contextmanager
def postgresql_switched() -> Iterator[HurtStore]:
    """A replica of it is promoted, and followed by another one later."""
    with ExitStack() as stack:
        servers = [stack.enter_context(PostgreSQL(CONNECTIONS))]
        name = stack.enter_context(Proxy(servers[0].port))

        def move() -> int:
            old = servers[-1]
            new = stack.enter_context(Standby(old.port, CONNECTIONS))
            old.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            old.execute("SELECT pg_reload_conf()")
            until(lambda: _stands_still(old), "nothing is written any more")
            [[end]] = old.execute("SELECT pg_current_wal_lsn()")
            arrived = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
            until(lambda: new.execute(arrived)[0][0], "the replica has everything")
            new.execute("SELECT pg_promote()")
            servers.append(new)
            for each in servers[:-2]:
                each.kill()  # an old one goes on until there is another
            return new.port

        place = _named(servers[0], name)
        place.faults = {"switched over": switch_over(name, place.periods, AGES["sql"], move)}
        yield place


def _stands_still(server: PostgreSQL) -> bool:
    """Whether connections of before know by now that they only read."""
    busy = "SELECT pg_current_wal_lsn(), count(*) FROM pg_stat_activity WHERE state <> 'idle'"
    before = server.execute(busy)
    time.sleep(0.1)
    return server.execute(busy) == before


@contextmanager
def mariadb_switched() -> Iterator[HurtStore]:
    """Its table is copied to the other server while nothing is written."""
    with ExitStack() as stack:
        pair: list[Database] = [stack.enter_context(MariaDB()) for _ in range(2)]
        name = stack.enter_context(Proxy(pair[0].port))

        def move() -> int:
            old, new = pair
            old.execute("SET GLOBAL read_only = 1")
            [[_, made]] = old.execute("SHOW CREATE TABLE app.sharedsession")
            new.execute(made.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS app.", 1))
            rows = old.execute("SELECT * FROM app.sharedsession")
            with contextlib.closing(new.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("START TRANSACTION")
                cursor.execute("DELETE FROM app.sharedsession")
                if rows:
                    values = ", ".join(["%s"] * len(rows[0]))
                    cursor.executemany(f"INSERT INTO app.sharedsession VALUES ({values})", rows)
                cursor.execute("COMMIT")
            new.execute("SET GLOBAL read_only = 0")
            pair.reverse()
            return new.port

        place = _named(pair[0], name)
        place.faults = {"switched over": switch_over(name, place.periods, AGES["sql"], move)}
        yield place


def _named(server: Any, name: Proxy) -> HurtStore:
    return HurtStore(server.url.replace(f":{server.port}", f":{name.port}"))


@contextmanager
def unsteady(
    open_place: Callable[[], AbstractContextManager[HurtStore]], pushes: bool = False
) -> Iterator[HurtStore]:
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
            yield HurtStore(place.url.replace(f":{port}", f":{proxy.port}"), faults)


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
