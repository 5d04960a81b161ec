"""A cluster of six nodes: the contract, redirections, a node that fails, slots that move."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.crc import key_slot

from sharedsession._core.settings import NearCache
from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores.near import AsyncNearStore, NearStore, with_copies
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import (
    AsyncStoreConformance,
    Awaited,
    LoopThread,
    StoreConformance,
    new_key,
)
from tests.stores.sharing import assert_shared
from tests.support.redis_servers import SixNodes, advance, until
from tests.support.servers import RedisServer

PATIENT = 10.0
TIMEOUT = 2.0  # of which replicas have a fifth, on a machine that may be busy


@pytest.fixture(scope="module")
def cluster() -> Iterator[SixNodes]:
    """One cluster for all tests of this file; who changes its shape waits until it is whole."""
    with SixNodes() as cluster:
        yield cluster


@pytest.fixture
def advance_cluster(cluster: SixNodes) -> Callable[[float], None]:
    cluster.empty()
    return partial(advance, [cluster.admin(each) for each in cluster.primaries()])


class TestCluster(StoreConformance):
    @pytest.fixture
    def store(self, cluster: SixNodes) -> Iterator[RedisStore]:
        store = RedisStore.from_url(cluster.url, PATIENT)
        yield store
        store.close()

    @pytest.fixture
    def advance(self, advance_cluster: Callable[[float], None]) -> Callable[[float], None]:
        return advance_cluster


class TestAsyncCluster(AsyncStoreConformance):
    @pytest.fixture
    def store(self, cluster: SixNodes) -> AsyncRedisStore:
        return AsyncRedisStore.from_url(cluster.url, PATIENT)

    @pytest.fixture
    def advance(self, advance_cluster: Callable[[float], None]) -> Callable[[float], None]:
        return advance_cluster


class TestTheUsersClusterClient(TestCluster):
    @pytest.fixture
    def store(self, cluster: SixNodes) -> Iterator[RedisStore]:
        with redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
            yield RedisStore(client, wait_replicas=1)


class TestTheUsersAsyncClusterClient(TestAsyncCluster):
    @pytest.fixture
    def store(self, cluster: SixNodes, loop: LoopThread) -> Iterator[AsyncRedisStore]:
        async def make() -> redis.asyncio.RedisCluster:
            return redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port)

        client = loop.run(make())
        yield AsyncRedisStore(client, wait_replicas=1)
        loop.run(client.aclose())


def test_both_colours_share_sessions(cluster: SixNodes) -> None:
    """A WSGI and an ASGI application on one cluster see each other's changes."""
    assert_shared(cluster.url)


@contextmanager
def both(url: str, timeout: float = 1.0) -> Iterator[list[Any]]:
    """Both colours of the store at a URL, the async one as an ordinary one."""
    pair = open_store(url, timeout)
    with LoopThread() as loop:
        yield [pair.sync, Awaited(pair.asynchronous, loop)]  # type: ignore[arg-type]  # not None
    pair.sync.close()  # type: ignore[union-attr]  # not None, and has it


def slot_of(key: str) -> int:
    return key_slot(f"sharedsession:{key}".encode())


def key_on(cluster: SixNodes, server: RedisServer) -> str:
    while True:
        key = new_key()
        if cluster.owner(slot_of(key)) is server:
            return key


def calls(cluster: SixNodes) -> dict[str, int]:
    """How often the primaries were given each command since the last count."""
    counted: dict[str, int] = {}
    for server in cluster.primaries():
        for name, figures in cluster.admin(server).info("commandstats").items():
            command = name.removeprefix("cmdstat_")
            counted[command] = counted.get(command, 0) + figures["calls"]
        cluster.admin(server).config_resetstat()
    return counted


def test_copies_of_a_clusters_sessions(cluster: SixNodes) -> None:
    """Copies answer for the short lease; nobody listens, for each node would have to tell."""
    pair = open_store(cluster.url, PATIENT)
    near = with_copies(pair, NearCache(lease=30), None, 0.0)
    assert isinstance(near.sync, NearStore)
    assert isinstance(near.asynchronous, AsyncNearStore)
    before = threading.active_count()
    with LoopThread() as loop:
        for _ in range(10):  # on several nodes
            key = new_key()
            created = near.sync.create(key, b"data", 60)
            loaded = loop.run(near.asynchronous.load(key))
            assert created is not None
            assert loaded is not None
            assert (loaded.data, loaded.token) == (created.data, created.token)
            assert loaded.expires is not None
            assert near.sync.peek(key) == loaded
            near.sync.delete(key)
            assert loop.run(near.asynchronous.load(key)) is None
    assert threading.active_count() <= before
    assert isinstance(pair.sync, RedisStore)
    pair.sync.close()


def test_what_waits_travels_together_to_each_node(cluster: SixNodes) -> None:
    """Loads and writes at once go as a pipeline to each node; each has its own answer."""
    store = AsyncRedisStore.from_url(cluster.url, PATIENT)

    async def scenario() -> None:
        keys = [new_key() for _ in range(60)]
        entries = await asyncio.gather(*(store.create(key, key.encode(), 60) for key in keys))
        calls(cluster)
        before = reads()
        loaded = await asyncio.gather(*(store.load(key) for key in keys))
        trips = reads() - before
        assert [entry and entry.data for entry in loaded] == [key.encode() for key in keys]
        counted = calls(cluster)
        assert counted["get"] == 60
        assert trips < 60 / 2
        writes = [store.replace(k, e, b"new", 60) for k, e in zip(keys, entries, strict=True) if e]
        assert all(await asyncio.gather(*writes))

    def reads() -> int:
        return sum(
            cluster.admin(each).info("stats")["total_reads_processed"]
            for each in cluster.primaries()
        )

    asyncio.run(scenario())


def test_a_script_is_brought_to_each_node(cluster: SixNodes) -> None:
    """A node that does not know a script is given it, in a batch as well."""
    store = AsyncRedisStore.from_url(cluster.url + "?wait_replicas=1", PATIENT)

    async def scenario() -> None:
        for each in cluster.primaries():
            cluster.admin(each).script_flush()
        keys = [new_key() for _ in range(40)]
        assert all(await asyncio.gather(*(store.create(key, b"data", 60) for key in keys)))
        for each in cluster.primaries():
            cluster.admin(each).script_flush()
        await asyncio.gather(*(store.delete(key) for key in keys))
        assert await asyncio.gather(*(store.load(key) for key in keys)) == [None] * 40

    asyncio.run(scenario())


@pytest.mark.newest
def test_reads_go_to_primaries(cluster: SixNodes) -> None:
    """A client that reads from replicas is not followed there: they may be behind."""
    client = redis.RedisCluster(
        host="127.0.0.1",
        port=cluster.servers[0].port,
        load_balancing_strategy=redis.cluster.LoadBalancingStrategy.ROUND_ROBIN_REPLICAS,
    )
    replicas = [each for each in cluster.servers if each not in cluster.primaries()]
    for each in replicas:
        cluster.admin(each).config_resetstat()
    with client:
        store = RedisStore(client)
        key = new_key()
        assert store.create(key, b"data", 60)
        for _ in range(10):
            assert store.load(key)
    for each in replicas:
        assert "cmdstat_get" not in cluster.admin(each).info("commandstats")


def move(cluster: SixNodes, slot: int, target: RedisServer) -> Iterator[str]:
    """Move a slot with its keys to another node, step by step."""
    source = cluster.owner(slot)
    ask, tell = cluster.admin(source), cluster.admin(target)
    there = tell.execute_command("CLUSTER", "MYID").decode()
    here = ask.execute_command("CLUSTER", "MYID").decode()
    tell.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
    ask.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
    yield "begun"
    for key in ask.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
        ask.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    yield "keys moved"
    for admin in (tell, ask):
        admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)
    yield "done"


def test_a_slot_moves_while_its_session_is_used(cluster: SixNodes) -> None:
    """At every step of a move all verbs work, also with replicas that must confirm."""
    first, second, *_ = cluster.primaries()
    for options in ("", "?wait_replicas=1"):
        with both(cluster.url + options, PATIENT) as stores:
            for store in stores:
                key = key_on(cluster, first)
                entry = store.create(key, b"data", 60)
                spare_connections(store, key)
                for _ in move(cluster, slot_of(key), second):
                    assert store.load(key).data == entry.data
                    replaced = store.replace(key, entry, entry.data + b".", 60)
                    assert replaced is not None
                    assert not replaced.repeated
                    assert store.replace(key, entry, b"stale", 60) is None
                    assert store.touch(key, 60) is True
                    entry = replaced
                assert entry.data == b"data..."
                store.delete(key)
                assert store.load(key) is None
                for _ in move(cluster, slot_of(key), first):
                    pass


def spare_connections(store: Any, key: str) -> None:
    """Let the client have several connections to each node: ASKING must go on the right one."""
    if isinstance(store, Awaited):
        inner = store._store

        async def at_once() -> None:
            await asyncio.gather(*(inner.load(new_key()) for _ in range(30)))
            writes = [inner.create(new_key(), b"", 1) for _ in range(30)]
            await asyncio.gather(*writes, *(inner.load(new_key()) for _ in range(30)))

        store._loop.run(at_once())


class Writer:
    """Counts up in one session; knows the last count that the store has acknowledged."""

    def __init__(self, store: Any, key: str) -> None:
        self.store, self.key = store, key
        self.acknowledged = 0
        self.outage = ""
        self.longest = 0.0
        assert store.create(key, b"0", 600)

    def step(self) -> bool:
        """Add one; say whether the store has acknowledged it."""
        began = time.monotonic()
        try:
            entry = self.store.load(self.key)
            assert entry is not None, "an acknowledged session is gone"
            count = int(entry.data)
            assert count >= self.acknowledged, "an acknowledged write is lost"
            if self.store.replace(self.key, entry, b"%d" % (count + 1), 600) is None:
                return False
            self.acknowledged = count + 1
        except StoreUnavailable as outage:
            self.outage = str(outage)
            return False
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        return True


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_node_that_fails_is_replaced(cluster: SixNodes, fault: str) -> None:
    """Its replica takes over, nothing confirmed is lost; the other nodes are served meanwhile."""
    failing, healthy, *_ = cluster.primaries()
    with both(cluster.url + "?wait_replicas=1", TIMEOUT) as stores:
        keys = [key_on(cluster, failing) for _ in stores]
        writers = [Writer(store, key) for store, key in zip(stores, keys, strict=True)]
        others = [Writer(store, key_on(cluster, healthy)) for store in stores]
        assert all(writer.step() for writer in writers * 5)
        cluster.node_timeout(1000)
        failing.kill() if fault == "kill" else failing.pause()
        for writer in writers:
            assert not writer.step()
            assert not writer.step()
        assert all(other.step() for other in others * 3)
        # Whoever has taken over has no replica until the old node is back, as one.
        until(lambda: len(cluster.primaries_but(failing)) == 3, "a replica takes over")
        for writer in writers:
            until(lambda: not writer.step() and "0 of 1 replicas" in writer.outage, "it is found")
        failing.start() if fault == "kill" else failing.resume()
        cluster.ready()
        for writer in writers:
            until(writer.step, "a write that is confirmed")
        assert all(writer.step() for writer in [*writers, *others] * 5)
        assert all(writer.longest < 2 * TIMEOUT + 0.5 for writer in [*writers, *others])
    cluster.node_timeout(15000)


def test_an_outage_ends_within_the_timeout() -> None:
    """A cluster whose nodes all hang, or that is not there, is an outage in time, and it ends."""
    timeout = 0.6
    with SixNodes() as cluster, both(cluster.url, timeout) as stores:
        for store in stores:
            until(lambda: store.load(new_key()) is None, "it works")
        for each in cluster.servers:
            each.pause()
        with both(cluster.url, timeout + 0.01) as fresh:
            for store in [*stores, *fresh]:
                began = time.monotonic()
                with pytest.raises(StoreUnavailable, match="Redis Cluster at 127"):
                    store.load(new_key())
                assert time.monotonic() - began < 2 * timeout
            for each in cluster.servers:
                each.resume()
            for store in [*stores, *fresh]:
                until(lambda: store.load(new_key()) is None, "it works again")


def test_what_no_cluster_has_is_refused() -> None:
    """A database, or a client of the wrong colour or kind: the sentence names the right one."""
    with pytest.raises(ConfigurationError, match="no databases"):
        open_store("redis+cluster://127.0.0.1:7000/1")
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=1)
    with pytest.raises(TypeError, match="Use AsyncRedisStore"):
        RedisStore(client)  # type: ignore[arg-type]  # this is what is refused
    with pytest.raises(TypeError, match="the client that made it"):
        AsyncRedisStore(client.pipeline())  # type: ignore[arg-type]  # this is what is refused
    decoding = redis.asyncio.RedisCluster(host="127.0.0.1", port=1, decode_responses=True)
    with pytest.raises(ConfigurationError, match="decode_responses"):
        AsyncRedisStore(decoding)


def test_a_store_that_is_dropped_as_its_loop_ends(cluster: SixNodes) -> None:
    """The loop has a few turns left, and no time to say goodbye: the sockets are closed in them."""

    async def scenario() -> None:
        store = AsyncRedisStore.from_url(cluster.url, PATIENT)
        await asyncio.gather(*(store.load(new_key()) for _ in range(10)))

    for _ in range(3):
        asyncio.run(scenario())
        gc.collect()  # what was left open would warn
