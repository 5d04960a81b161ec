"""A store without room refuses writes, says that nothing was written, and still ends sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pymemcache
import pytest
import redis
import redis.asyncio

from sharedsession.exceptions import StoreFull
from sharedsession.stores import open_store
from sharedsession.stores.base import Store
from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import Awaited, LoopThread, found, new_key, race, stored
from tests.support.memcached_servers import MemcachedServer
from tests.support.redis_servers import SixNodes, Watched, replicated, until
from tests.support.servers import RedisServer, binaries

PATIENT = 10.0
LARGE = 1000  # bytes
Opened = Iterator[tuple[Store, Callable[[], None]]]  # a store, and what fills its server


def starve(admins: list[Any]) -> None:
    """Let servers have less room than they have used."""
    for admin in admins:
        admin.config_set("maxmemory", 1)


@contextmanager
def redis_by(binary: str, way: str) -> Opened:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(binaries()[binary]))
        admin = stack.enter_context(redis.Redis(port=server.port))
        loop = stack.enter_context(LoopThread())
        store: Store
        if way == "client":
            store = RedisStore(stack.enter_context(redis.Redis(port=server.port)))
        elif way == "async client":
            client = redis.asyncio.Redis(port=server.port)
            stack.callback(lambda: loop.run(client.aclose()))
            store = Awaited(AsyncRedisStore(client), loop)
        elif way == "async":
            store = Awaited(AsyncRedisStore.from_url(server.url, PATIENT), loop)
        else:
            store = RedisStore.from_url(server.url, PATIENT)
            stack.callback(store.close)
        yield store, lambda: starve([admin])


@contextmanager
def confirmed(way: str) -> Opened:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        following = RedisServer(server.binary, "--replicaof", f"127.0.0.1 {server.port}")
        admin = stack.enter_context(redis.Redis(port=server.port))
        admin.config_set("repl-diskless-sync-delay", "0")
        stack.enter_context(following)
        until(lambda: replicated(admin), "the replica follows")
        store = stack.enter_context(by_url(f"{server.url}?wait_replicas=1", way))
        yield store, lambda: starve([admin])


@contextmanager
def by_url(url: str, way: str) -> Iterator[Store]:
    pair = open_store(url, PATIENT)
    with LoopThread() as loop:
        if way == "async":
            assert pair.asynchronous is not None
            yield Awaited(pair.asynchronous, loop)
        else:
            assert pair.sync is not None
            yield pair.sync
    pair.sync.close()  # type: ignore[union-attr]  # not None, and has it


@contextmanager
def sentinel(way: str) -> Opened:
    with Watched(None) as watched, by_url(watched.url, way) as store:
        yield store, lambda: starve([watched.admin(watched.primary)])


@contextmanager
def cluster(way: str) -> Opened:
    with SixNodes() as nodes, by_url(nodes.url, way) as store:
        yield store, lambda: starve([nodes.admin(each) for each in nodes.primaries()])


@contextmanager
def memcached(way: str) -> Opened:
    with MemcachedServer("-M", "-m", "2") as server, LoopThread() as loop:
        store: Store
        if way == "async":
            store = Awaited(AsyncMemcachedStore.from_url(server.url, PATIENT), loop)
        elif way == "client":
            client = pymemcache.PooledClient(("127.0.0.1", server.port), key_prefix="theirs:")
            store = MemcachedStore(client)
        else:
            store = MemcachedStore.from_url(server.url, PATIENT)
        yield store, lambda: fill_memcached(store)
        if way == "client":
            client.close()
        elif isinstance(store, MemcachedStore):
            store.close()


def fill_memcached(store: Store) -> None:
    """Store sessions until there is room for none of their sizes."""
    for size in (LARGE, len(b"small")):
        try:
            while True:
                stored(store, new_key(), bytes(size), 600)
        except StoreFull:
            pass


STORES: dict[str, Callable[[], Any]] = {
    **{
        f"{binary}, {way}": lambda binary=binary, way=way: redis_by(binary, way)  # type: ignore[misc]
        for binary in binaries()
        for way in ("sync", "async", "client", "async client")
    },
    **{
        f"{name}, {way}": lambda make=make, way=way: make(way)  # type: ignore[misc]
        for name, make in {
            "wait_replicas": confirmed,
            "sentinel": sentinel,
            "cluster": cluster,
            "memcached": memcached,
        }.items()
        for way in ("sync", "async")
    },
    "memcached, client": lambda: memcached("client"),
}


@pytest.mark.parametrize("name", STORES)
def test_a_full_store_ends_sessions(name: str) -> None:
    """Create and replace are StoreFull and change nothing; load, touch and delete go on."""
    with STORES[name]() as (store, fill):
        keys = [new_key() for _ in range(8)]
        entries = [stored(store, key, b"small", 600) for key in keys]
        stale = entries[0]
        replaced = store.replace(keys[0], stale, b"newer", 600)
        assert replaced is not None
        entries[0] = replaced
        fill()

        def refused(key: str, entry: Any) -> None:
            with pytest.raises(StoreFull, match="is full"):
                store.replace(key, entry, bytes(LARGE), 600)
            with pytest.raises(StoreFull, match="is full"):
                store.create(new_key(), bytes(LARGE), 600)

        refused(keys[0], entries[0])
        race([lambda k=k, e=e: refused(k, e) for k, e in zip(keys, entries, strict=True)])  # type: ignore[misc]
        assert [found(store, key) for key in keys] == entries
        assert store.touch(keys[0], 900) is True
        assert store.delete(keys[0], stale) is False
        assert store.delete(keys[0], entries[0]) is True
        assert store.delete(keys[0], entries[0]) is False
        assert store.delete(keys[1]) is True
        assert store.delete(keys[1]) is True
        several = zip(keys[2:], entries[2:], strict=True)
        assert all(race([lambda k=k, e=e: store.delete(k, e) for k, e in several]))  # type: ignore[misc]
        assert [store.load(key) for key in keys] == [None] * len(keys)
