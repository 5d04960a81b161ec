"""A write whose answer was lost, repeated when others have written: done once, or not known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pymemcache
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from sharedsession.exceptions import StoreFull, StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores.base import TOKENS_KEPT, Store
from sharedsession.stores.memcached import MemcachedStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import Awaited, LoopThread, found, new_key, stored
from tests.support.losing import LosingRelay
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer, binaries


class Between:
    """Two stores on one server; the network of the first can lose an answer."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        kind, _, way = name.partition(", ")
        self.is_redis = kind != "memcached"
        self.server: Any = RedisServer(binaries()[kind]) if self.is_redis else MemcachedServer()
        stack.enter_context(self.server)
        self.relay = stack.enter_context(LosingRelay(self.server.port))
        # In Memcached a server has one name, or there would be two lists of servers.
        port = self.server.port if self.is_redis else self.relay.port
        self.direct = self._by_url(port, "sync", stack)
        self.store = self._open(way, stack)

    def _open(self, way: str, stack: ExitStack) -> Store:
        port = self.relay.port
        if not way.endswith("client"):
            return self._by_url(port, way, stack)
        if not self.is_redis:
            pool = pymemcache.PooledClient(("127.0.0.1", port))
            stack.callback(pool.close)
            return MemcachedStore(pool)
        if way == "client":
            retry = Retry(NoBackoff(), 5)
            return RedisStore(stack.enter_context(redis.Redis(port=port, retry=retry)))
        loop = stack.enter_context(LoopThread())
        client = redis.asyncio.Redis(port=port, retry=AsyncRetry(NoBackoff(), 1))
        stack.callback(lambda: loop.run(client.aclose()))
        return Awaited(AsyncRedisStore(client), loop)

    def _by_url(self, port: int, way: str, stack: ExitStack) -> Any:
        loop = stack.enter_context(LoopThread())
        pair: Any = open_store(
            f"{'redis' if self.is_redis else 'memcached'}://127.0.0.1:{port}", 10
        )
        stack.callback(pair.sync.close)
        return Awaited(pair.asynchronous, loop) if way == "async" else pair.sync

    def loses(self, verb: str, others: Callable[[], object]) -> None:
        """Lose the answer to the next write, done before others act."""
        word = b"EVALSHA" if self.is_redis else {"create": b"add ", "replace": b"cas "}[verb]
        self.relay.lose(word, others)

    def write(self, key: str, times: int) -> None:
        """Let others write, as often as that."""
        for _ in range(times):
            entry = found(self.direct, key)
            assert self.direct.replace(key, entry, b"%d" % (int(entry.data) + 1), 60)


REDIS = [
    *(f"{name}, {way}" for name in binaries() for way in ("sync", "async")),
    *(f"{next(iter(binaries()))}, {way}" for way in ("client", "async client")),
]


@pytest.fixture(params=[*REDIS, *(f"memcached, {way}" for way in ("sync", "async", "client"))])
def between(request: pytest.FixtureRequest) -> Iterator[Between]:
    with ExitStack() as stack:
        yield Between(request.param, stack)


@pytest.mark.parametrize("others", range(TOKENS_KEPT + 2))
def test_a_replace_is_done_once_however_many_write_before_it_is_repeated(
    between: Between, others: int
) -> None:
    """While its token is kept it finds itself; after that it cannot know, and says so."""
    store, key = between.store, new_key()
    stored(store, new_key(), b"")  # the server knows the script
    entry = stored(store, key, b"0")
    between.write(key, 3)
    entry = found(store, key)
    between.loses("replace", lambda: between.write(key, others))
    if others < TOKENS_KEPT:
        written = store.replace(key, entry, b"4", 60)
        assert written is not None
        assert written.repeated
    else:
        with pytest.raises(StoreUnavailable, match="an answer was lost") as caught:
            store.replace(key, entry, b"4", 60)
        assert not isinstance(caught.value, StoreFull)
    assert between.relay.lost == 1
    assert found(between.direct, key).data == b"%d" % (4 + others)


@pytest.mark.parametrize("others", range(TOKENS_KEPT + 2))
def test_a_create_knows_itself_as_well(between: Between, others: int) -> None:
    """Its key can be learnt by others only from its answer; but a wait may be long."""
    store, key = between.store, new_key()
    stored(store, new_key(), b"")
    between.loses("create", lambda: between.write(key, others))
    if others < TOKENS_KEPT:
        created = store.create(key, b"0", 60)
        assert created is not None
        assert created.repeated
    else:
        with pytest.raises(StoreUnavailable, match="an answer was lost"):
            store.create(key, b"0", 60)
    assert between.relay.lost == 1
    assert found(between.direct, key).data == b"%d" % others


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_another_write_came_first(between: Between, writes: int) -> None:
    """Repeated or not: while the tokens are there to tell, a write that lost is one that lost."""
    store, key = between.store, new_key()
    entry = stored(store, key, b"0")
    between.write(key, 1)
    if between.is_redis:  # Memcached's is refused before anything is sent
        between.loses("replace", lambda: between.write(key, writes))
    assert store.replace(key, entry, b"mine", 60) is None
    taken = new_key()
    stored(between.direct, taken, b"theirs")
    between.loses("create", lambda: None)
    assert store.create(taken, b"mine", 60) is None
    assert found(between.direct, taken).data == b"theirs"
    assert found(between.direct, key).data == b"%d" % (1 + (writes if between.is_redis else 0))


def test_many_writes_by_others_are_no_outage(between: Between) -> None:
    """Nothing was repeated: a write that lost, however much it missed."""
    store, key = between.store, new_key()
    entry = stored(store, key, b"0")
    between.write(key, 2 * TOKENS_KEPT)
    assert store.replace(key, entry, b"mine", 60) is None
    assert store.create(key, b"mine", 60) is None


def test_a_restart_is_no_repetition_that_matters(between: Between) -> None:
    """Idle connections that broke are found at their first use, and no write is in doubt."""
    store = between.store
    for _ in range(3):
        entry = stored(store, new_key(), b"0")
        between.server.restart()
        assert store.create(new_key(), b"", 60) is not None
        between.server.restart()
        assert store.replace(new_key(), entry, b"", 60) is None


@pytest.mark.parametrize("between", REDIS, indirect=True)
def test_a_full_store_says_so_only_of_what_was_not_repeated(between: Between) -> None:
    """The first time, whose answer was lost, may have had room."""
    store, key = between.store, new_key()
    entry = stored(store, key, b"0")
    with redis.Redis(port=between.server.port) as admin:
        between.loses("replace", lambda: admin.config_set("maxmemory", 1))
        with pytest.raises(StoreUnavailable) as caught:
            store.replace(key, entry, b"1", 60)
        assert not isinstance(caught.value, StoreFull)
        with pytest.raises(StoreFull):
            store.replace(key, found(store, key), b"2", 60)
    assert found(store, key).data == b"1"
