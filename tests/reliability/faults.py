"""What can happen to a store, one entry for each, with requests running all the while.

A fault is a function of the place that makes it happen, lets it last, ends it, and notes in the
`Span` what the server itself may have forgotten.
"""

from __future__ import annotations

import random
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
import sqlalchemy as sa

from tests.reliability.harness import Run, Span, Tally
from tests.reliability.places import Keeps, ProxiedStore
from tests.support.proxy import Fate
from tests.support.redis_servers import until
from tests.support.servers import RedisServer

DAY = 24 * 60 * 60
CHANCE = 0.15  # share of the answers that something becomes of


@dataclass(frozen=True)
class Moment:
    """Where and how long something happens."""

    place: ProxiedStore
    span: Span
    lasts: float
    timeout: float

    def last(self) -> None:
        time.sleep(self.lasts)

    def forgotten(self, since: float = 0.0) -> None:
        """The server has forgotten what it acknowledged from then to now."""
        self.span.since, self.span.until = since, time.monotonic()


Happening = Callable[[Moment], None]


@dataclass(frozen=True)
class Fault:
    """One kind of fault, in the words of the table."""

    name: str
    happen: Happening
    where: Callable[[ProxiedStore], bool]
    settings: dict[str, Any] = field(default_factory=dict)
    clocks: Callable[[int], Callable[[], float]] | None = None


def run(fault: Fault, place: ProxiedStore, timeout: float, lasts: float, clients: int) -> Tally:
    """Let it happen among so many clients."""
    servers = place.servers(timeout, fault.clocks, **fault.settings)
    try:
        going = Run(servers, clients)
        return going.go(lambda span: fault.happen(Moment(place, span, lasts, timeout)))
    finally:
        for server in servers.values():
            server.close()
        place.held = None


# --- the server -----------------------------------------------------------------------------------


def killed(moment: Moment) -> None:
    place = moment.place
    kept = 0.0
    if place.keeps is Keeps.SNAPSHOT:
        kept = time.monotonic()
        with redis.Redis(port=place.server.port) as admin:
            admin.save()
        time.sleep(moment.lasts / 2)  # for what it is about to forget
    place.server.kill()
    moment.last()
    place.server.start()
    if place.keeps is not Keeps.ALL:
        moment.forgotten(kept)


def hangs(moment: Moment) -> None:
    moment.place.server.pause()
    try:
        moment.last()
    finally:
        moment.place.server.resume()


def _apart(number: int) -> Callable[[], float]:
    return lambda: time.time() + 5 * number


def reset_once(moment: Moment) -> None:
    assert moment.place.proxy is not None
    moment.place.proxy.reset()


def emptied(moment: Moment) -> None:
    with redis.Redis(port=moment.place.server.port) as admin:
        admin.flushall()
    moment.forgotten()
    moment.last()


def restarted(moment: Moment) -> None:
    moment.place.server.restart()


def no_connections(moment: Moment) -> None:
    """The database accepts no more connections of this user, and those of now are ended."""
    server = moment.place.server
    server.execute("ALTER ROLE app CONNECTION LIMIT 0")
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    moment.last()
    server.execute("ALTER ROLE app CONNECTION LIMIT -1")


# --- the network ----------------------------------------------------------------------------------


def _outage(begin: str) -> Happening:
    def happen(moment: Moment) -> None:
        assert moment.place.proxy is not None
        getattr(moment.place.proxy, begin)()
        moment.last()
        moment.place.proxy.restore()

    return happen


def _fated(fate: Fate, *, writes: bool = False) -> Happening:
    """Some answers do not arrive as they should."""

    def happen(moment: Moment) -> None:
        proxy, chance = moment.place.proxy, random.Random(4)
        assert proxy is not None
        words = moment.place.words if writes else (b"",)

        def decide(asked: bytes) -> Fate:
            concerned = any(word in asked for word in words)
            return fate if concerned and chance.random() < CHANCE else Fate.ARRIVES

        proxy.fate = decide
        moment.last()
        proxy.fate = lambda asked: Fate.ARRIVES
        assert proxy.fates, "nothing was to be decided"
        proxy.fates.clear()

    return happen


def delayed(moment: Moment) -> None:
    assert moment.place.proxy is not None
    moment.place.proxy.delay = 2 * moment.timeout
    moment.last()
    moment.place.proxy.delay = 0.0


def _unresolved(seconds: float) -> Happening:
    """The name server fails, or answers only after so long; connections are lost."""

    def happen(moment: Moment) -> None:
        assert moment.place.proxy is not None
        with resolver(seconds):
            moment.place.proxy.reset()
            moment.last()

    return happen


@contextmanager
def resolver(seconds: float) -> Iterator[None]:
    usual = socket.getaddrinfo

    def failing(host: Any, *words: Any, **more: Any) -> Any:
        if host not in {"localhost", b"localhost"}:
            return usual(host, *words, **more)
        time.sleep(seconds)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    socket.getaddrinfo = failing
    try:
        yield
    finally:
        socket.getaddrinfo = usual


# --- a file ---------------------------------------------------------------------------------------


def locked(moment: Moment) -> None:
    with closing(sqlite3.connect(str(moment.place.file), isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        moment.last()
        file.execute("ROLLBACK")


def removed(moment: Moment) -> None:
    file = moment.place.file
    assert file is not None
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()
    moment.forgotten()
    moment.last()
    moment.forgotten()


def _pragma(during: str, after: str) -> Happening:
    """Every connection that the stores take from their pool is given a setting."""

    def happen(moment: Moment) -> None:
        engine = moment.place.held.sync._engine
        current = during

        def check_out(connection: Any, *_: object) -> None:
            connection.execute(current).close()

        sa.event.listen(engine, "checkout", check_out)  # for as long as the engine lives
        moment.last()
        current = after

    return happen


# --- several servers ------------------------------------------------------------------------------


def sentinel_failover(moment: Moment) -> None:
    """The primary is killed; the Sentinels make the replica the primary."""
    watched = moment.place.server
    admin = watched.admin(watched.primary)
    admin.wait(1, 1000)
    since = time.monotonic()  # what is written from now on may not have arrived at the replica
    dead = watched.primary
    dead.kill()
    watched.swap()
    moment.forgotten(since)
    dead.start()
    watched.follow()


def cluster_failover(moment: Moment) -> None:
    """One primary of three is killed; its replica takes its slots."""
    nodes = moment.place.server
    nodes.node_timeout(1000)
    dead = nodes.primaries()[0]
    nodes.admin(dead).wait(1, 1000)
    since = time.monotonic()
    dead.kill()
    alive = [each for each in nodes.servers if each is not dead]
    until(
        lambda: (
            sum(nodes.admin(each).role()[0] in (b"master", "master") for each in alive) == 3
            and all(b"cluster_state:ok" in nodes._raw(each, "CLUSTER", "INFO") for each in alive)
        ),
        "the replica has taken over",
    )
    moment.forgotten(since)
    moment.span.over = time.monotonic()
    dead.start()
    nodes.ready()
    nodes.node_timeout(15000)


def slots_move(moment: Moment) -> None:
    """Every slot of one primary that holds a session goes to another, while the clients go on."""
    nodes = moment.place.server
    source, target = nodes.primaries()[:2]
    sender, receiver = nodes.admin(source), nodes.admin(target)
    here, there = (each.execute_command("CLUSTER", "MYID") for each in (sender, receiver))
    for slot in sorted({sender.cluster("KEYSLOT", key) for key in sender.scan_iter(count=1000)}):
        receiver.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        sender.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        while keys := nodes._raw(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "100"):
            words = ["MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys]
            sender.execute_command(*words)
        for admin in (receiver, sender, *map(nodes.admin, nodes.primaries())):
            admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)


# --- nothing at all -------------------------------------------------------------------------------


def nothing(moment: Moment) -> None:
    """Only the settings are special."""
    moment.last()


# --- the table ------------------------------------------------------------------------------------


def _behind_proxy(place: ProxiedStore) -> bool:
    return place.proxy is not None


def _has_server(place: ProxiedStore) -> bool:
    return hasattr(place.server, "pause")


def _is_file(place: ProxiedStore) -> bool:
    return place.file is not None


def _everywhere(place: ProxiedStore) -> bool:
    return True


def is_sql_server(place: ProxiedStore) -> bool:
    return place.url.startswith(("postgresql", "mariadb"))


def _url(*schemes: str) -> Callable[[ProxiedStore], bool]:
    return lambda place: place.url.startswith(schemes)


EVERY = [
    Fault("kill -9, then a restart", killed, _has_server),
    Fault("hangs (SIGSTOP), goes on (SIGCONT)", hangs, _has_server),
    Fault("an orderly restart", restarted, is_sql_server),
    Fault("out of connections", no_connections, _url("postgresql")),
    Fault("connections refused", _outage("refuse"), _behind_proxy),
    Fault("connections reset, once", reset_once, _behind_proxy),
    Fault("the network swallows everything", _outage("silence"), _behind_proxy),
    Fault("the address leads nowhere", _outage("vanish"), _behind_proxy),
    Fault("the name does not resolve", _unresolved(0.0), _behind_proxy),
    Fault("the name server hangs", _unresolved(5.0), _behind_proxy),
    Fault("answers cut in the middle", _fated(Fate.CUT), _behind_proxy),
    Fault("answers lost after a write was done", _fated(Fate.LOST, writes=True), _behind_proxy),
    Fault("connections go dead", _fated(Fate.SWALLOWED), _behind_proxy),
    Fault("answers later than the deadline", delayed, _behind_proxy),
    Fault("FLUSHALL", emptied, lambda place: isinstance(place.server, RedisServer)),
    Fault("Sentinel failover", sentinel_failover, _url("redis+sentinel")),
    Fault("Cluster failover", cluster_failover, _url("redis+cluster")),
    Fault("slots move", slots_move, _url("redis+cluster")),
    Fault("write lock held", locked, _is_file),
    Fault("file removed", removed, _is_file),
    Fault(
        "disk full",
        _pragma("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"),
        _is_file,
    ),
    Fault("read-only", _pragma("PRAGMA query_only = ON", "PRAGMA query_only = OFF"), _is_file),
    Fault("lifetime of 31 days", nothing, _everywhere, {"max_age": 31 * DAY}),
    Fault("lifetime of 400 days", nothing, _everywhere, {"max_age": 400 * DAY}),
    Fault("clocks 5 s apart", nothing, _everywhere, clocks=_apart),
]

FAULTS = {fault.name: fault for fault in EVERY}
