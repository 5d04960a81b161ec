"""A name that leads to another primary, while the old one goes on, or goes on refusing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio

from sharedsession._core.settings import NearCache
from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores import StorePair
from sharedsession.stores._support import ages
from sharedsession.stores.base import FRESHEST
from sharedsession.stores.near import with_copies
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import Awaited, LoopThread, new_key, race, stored
from tests.stores.test_push import rest
from tests.support.proxy import Proxy
from tests.support.redis_servers import until
from tests.support.servers import RedisServer, binaries

PATIENT = 5.0
WAYS = ["sync", "async", "the user's client", "the user's async client"]
Demote = Callable[[RedisServer, Any], object]


def cut_off(server: RedisServer, admin: redis.Redis) -> None:
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", 1)


def without_disk(server: RedisServer, admin: redis.Redis) -> None:
    shutil.rmtree(server.unix_socket.parent)
    admin.bgsave()
    until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "it fails")


DEMOTIONS: dict[str, Demote] = {
    "READONLY": lambda server, admin: admin.replicaof("127.0.0.1", 1),
    "MASTERDOWN": cut_off,
    "NOREPLICAS": lambda server, admin: admin.config_set("min-replicas-to-write", 1),
    "MISCONF": without_disk,
}
REFUSE_READS = {"MASTERDOWN"}
LEASE = 0.5


class Pair:
    """Two servers, and the name that leads to the first."""

    def __init__(self, binary: str, enter: Callable[[Any], Any]) -> None:
        self.old: RedisServer = enter(RedisServer(binaries()[binary]))
        self.new: RedisServer = enter(RedisServer(binaries()[binary]))
        self.name: Proxy = enter(Proxy(self.old.port))
        self.url = f"redis://127.0.0.1:{self.name.port}/0"
        self.admin: redis.Redis = enter(redis.Redis(port=self.old.port))
        self.other: redis.Redis = enter(redis.Redis(port=self.new.port))

    def switch(self, demote: Demote) -> None:
        """Let the new one have what the old one has, and the name lead to it."""
        for key in self.admin.scan_iter():
            self.other.set(key, self.admin.get(key) or b"", ex=600)
        demote(self.old, self.admin)
        self.name.target = self.new.port


@pytest.fixture(params=list(binaries()))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(request.param, stack.enter_context)


@pytest.fixture(params=WAYS)
def store(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Any]:
    """A store by the name, in every way in which one can be made."""
    with LoopThread() as loop:
        if request.param == "sync":
            store = RedisStore.from_url(pair.url, PATIENT)
            yield store
            store.close()
        elif request.param == "async":
            yield Awaited(AsyncRedisStore.from_url(pair.url, PATIENT), loop)
        elif request.param == "the user's client":
            with redis.Redis.from_url(pair.url) as client:
                yield RedisStore(client)
        else:
            theirs = redis.asyncio.Redis.from_url(pair.url)
            yield Awaited(AsyncRedisStore(theirs), loop)
            loop.run(theirs.aclose())


def in_use(store: Any) -> list[str]:
    """Let the store have several connections; return the keys that it has created."""
    keys = [new_key() for _ in range(8)]
    race([lambda key=key: stored(store, key, key.encode(), 600) for key in keys])  # type: ignore[misc]
    return keys


@pytest.mark.parametrize("code", DEMOTIONS)
def test_a_primary_that_refuses_is_left_at_once(pair: Pair, store: Any, code: str) -> None:
    """The very first call goes where the name leads by now, and so does every later one."""
    keys = in_use(store)
    pair.switch(DEMOTIONS[code])
    assert store.create(new_key(), b"", 600) is not None
    for key in keys:
        assert store.load(key).data == key.encode()
    race([lambda: stored(store, new_key())] * 8)
    assert pair.other.dbsize() == 2 * len(keys) + 1


@pytest.mark.parametrize("code", ["MASTERDOWN", "NOREPLICAS"])
def test_writes_at_once_leave_it_too(pair: Pair, store: Any, code: str) -> None:
    """Those that are under way together are served, each of them."""
    in_use(store)
    pair.switch(DEMOTIONS[code])
    assert all(race([lambda: store.create(new_key(), b"", 600) is not None] * 16))


AGE = 0.5


@pytest.fixture
def _connections_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ages, "CONNECTION_AGE", AGE)


@pytest.mark.usefixtures("_connections_grow_old")
def test_who_only_reads_notices(pair: Pair, store: Any) -> None:
    """An old primary that still answers is asked for no longer than a connection may be old."""
    key = in_use(store)[0]
    pair.switch(DEMOTIONS["READONLY"])
    pair.other.delete(f"sharedsession:{key}")  # a sign-out, by another process
    began = time.monotonic()
    until(lambda: not any(race([lambda: store.load(key)] * 8)), "it is not signed in any more")
    assert time.monotonic() - began < AGE + 1.0
    # Those eight may have missed an old connection, that others take: not at that age.
    time.sleep(max(0.0, began + AGE - time.monotonic()))
    assert not any(race([lambda: store.load(key)] * 8))


@pytest.mark.parametrize("code", ["READONLY", *REFUSE_READS, "NOREPLICAS"])
def test_copies_follow(pair: Pair, code: str) -> None:
    """With a near cache: the listener too finds the new primary, and copies live for long again."""
    sync, asynchronous = (RedisStore.from_url(pair.url), AsyncRedisStore.from_url(pair.url))
    near: Any = with_copies(StorePair(sync, asynchronous), NearCache(lease=LEASE), None).sync
    key = new_key()
    stored(near, key, b"data", 600)

    def long() -> bool:
        """Whether a copy is believed for longer than its lease."""
        try:
            assert near.load(key, FRESHEST)
        except StoreUnavailable:
            return False
        end = time.monotonic() + 1.6 * LEASE
        until(lambda: near.peek(key) is None or time.monotonic() > end, "either")
        return near.peek(key) is not None

    until(long, "pushes arrive")
    pair.switch(DEMOTIONS[code])
    until(long, "pushes arrive from the new primary")
    pair.other.delete(f"sharedsession:{key}")
    until(lambda: near.peek(key) is None, "the push of the end")
    assert near.load(key) is None
    rest(near)  # a thread that still listens would be taken for one of the next test's
    sync.close()
