"""A service that three Sentinels watch: the contract, and what a failover does not lose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores.redis import AsyncRedisStore, RedisStore, connections
from sharedsession.stores.redis.url import read_url
from sharedsession.testing.stores import (
    AsyncStoreConformance,
    Awaited,
    LoopThread,
    StoreConformance,
    new_key,
)
from tests.stores.sharing import assert_shared
from tests.support.redis_servers import SERVICE, Watched, advance, until

PATIENT = 10.0
TIMEOUT = 2.0  # of which replicas have a fifth, on a machine that may be busy
PASSWORD = "sentinels@own"


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """One service for all tests of this file."""
    with Watched(PASSWORD) as watched:
        yield watched


@pytest.fixture
def advance_service(watched: Watched) -> Callable[[float], None]:
    watched.ready()
    admin = watched.admin(watched.primary)
    admin.flushall()
    return partial(advance, [admin])


def sentinels(watched: Watched, library: Any) -> Any:
    return library.Sentinel(watched.addresses, sentinel_kwargs={"password": PASSWORD})


class TestSentinel(StoreConformance):
    @pytest.fixture
    def store(self, watched: Watched) -> Iterator[RedisStore]:
        store = RedisStore.from_url(watched.url, PATIENT)
        yield store
        store.close()

    @pytest.fixture
    def advance(self, advance_service: Callable[[float], None]) -> Callable[[float], None]:
        return advance_service


class TestAsyncSentinel(AsyncStoreConformance):
    @pytest.fixture
    def store(self, watched: Watched) -> AsyncRedisStore:
        return AsyncRedisStore.from_url(watched.url, PATIENT)

    @pytest.fixture
    def advance(self, advance_service: Callable[[float], None]) -> Callable[[float], None]:
        return advance_service


class TestTheUsersSentinelClient(TestSentinel):
    @pytest.fixture
    def store(self, watched: Watched) -> Iterator[RedisStore]:
        found = sentinels(watched, redis.sentinel)
        with found.master_for(SERVICE) as client:
            yield RedisStore(client)
        for each in found.sentinels:
            each.close()


class TestTheUsersAsyncSentinelClient(TestAsyncSentinel):
    @pytest.fixture
    def store(self, watched: Watched, loop: LoopThread) -> Iterator[AsyncRedisStore]:
        async def close() -> None:
            await client.aclose()
            for each in known:
                await each.aclose()

        found = sentinels(watched, redis.asyncio.sentinel)
        known = list(found.sentinels)  # calls at the same time may lose one of them (redis-py 8.1)
        client = found.master_for(SERVICE)
        yield AsyncRedisStore(client)
        loop.run(close())


def test_both_colours_share_sessions(watched: Watched) -> None:
    """A WSGI and an ASGI application on one service see each other's changes."""
    assert_shared(watched.url)


def test_a_replicas_client_is_refused(watched: Watched) -> None:
    """A client that is connected to replicas cannot write; the sentence says how to make one."""
    found = sentinels(watched, redis.sentinel)
    with pytest.raises(ConfigurationError, match="master_for"):
        RedisStore(found.slave_for(SERVICE))
    with pytest.raises(TypeError, match=r"Pass the client that its master_for"):
        RedisStore(found)
    for each in found.sentinels:
        each.close()


def test_an_outage_names_the_service_and_no_password(watched: Watched) -> None:
    """Sentinels that do not know the name, or refuse the password: the sentence says it."""
    for url, words in (
        (watched.url.replace("/sessions/", "/others/"), "knows a primary of that name"),
        (watched.url.replace("%40own", "wrong"), "sentinel_password"),
    ):
        with both(url) as stores:
            for store in stores:
                with pytest.raises(StoreUnavailable, match=words) as caught:
                    store.load("key")
                assert f"Redis service {'others' if 'others' in url else 'sessions'!r}" in str(
                    caught.value
                )
                assert "sentinels@" not in str(caught.value)
                assert "sentinelswrong" not in str(caught.value)


def test_sentinels_that_are_gone_are_an_outage() -> None:
    """With all Sentinels gone there is a sentence; one that is left is enough."""
    with Watched() as watched:
        for each in watched.sentinels[:2]:
            each.kill()
        with both(watched.url) as stores:
            for store in stores:
                assert store.create(new_key(), b"data", 60)
        watched.sentinels[2].kill()
        with both(watched.url, 1.1) as stores:
            for store in stores:
                with pytest.raises(StoreUnavailable, match="no sentinel that answers"):
                    store.load("key")


# failovers


class Writer:
    """Counts up in one session; knows the last count that the store has acknowledged."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.key = new_key()
        self.acknowledged = 0
        self.outage = ""
        self.longest = 0.0
        assert store.create(self.key, b"0", 600)

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


@contextmanager
def both(url: str, timeout: float = 1.0) -> Iterator[list[Any]]:
    """Both colours of the store at a URL, the async one as an ordinary one."""
    pair = open_store(url, timeout)
    with LoopThread() as loop:
        yield [pair.sync, Awaited(pair.asynchronous, loop)]  # type: ignore[arg-type]  # not None
    pair.sync.close()  # type: ignore[union-attr]  # not None, and has it


@pytest.fixture
def failing() -> Iterator[Watched]:
    """A service of the test's own, whose primary is taken for dead within a moment."""
    with Watched(down_after=300) as watched:
        yield watched


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_failover_loses_nothing_that_a_replica_confirmed(failing: Watched, fault: str) -> None:
    """Killed or hanging, the old primary is given up; the same stores go on with the new one."""
    old = failing.primary
    with both(failing.url + "?wait_replicas=1", TIMEOUT) as stores:
        writers = [Writer(store) for store in stores]
        assert all(writer.step() for writer in writers * 5)
        old.kill() if fault == "kill" else old.pause()
        failing.swap()
        for writer in writers:
            # The new primary has no replica yet: nobody but itself would know of a write.
            until(lambda: not writer.step() and "0 of 1 replicas" in writer.outage, "it is found")
        old.start() if fault == "kill" else old.resume()
        failing.follow()
        for writer in writers:
            until(writer.step, "a write that is confirmed")
        assert all(writer.step() for writer in writers * 5)
        assert all(writer.longest < 2 * TIMEOUT + 0.5 for writer in writers)


def test_a_failover_needs_no_restart_of_the_application(failing: Watched) -> None:
    """Without wait_replicas, too, the stores find the new primary as soon as it is one."""
    with both(failing.url, TIMEOUT) as stores:
        writers = [Writer(store) for store in stores]
        until(failing.settle, "the replica has everything")
        failing.primary.kill()
        assert not any(writer.step() for writer in writers)
        failing.swap()
        for writer in writers:
            until(writer.step, "a write after the failover")
            assert writer.longest < 2 * TIMEOUT + 0.5


def test_who_was_demoted_is_given_up(failing: Watched) -> None:
    """An idle connection to a primary that is a replica by now: its write goes to the new one."""
    with both(failing.url, PATIENT) as stores:
        writers = [Writer(store) for store in stores]
        until(failing.settle, "the replica has everything")
        ask = failing.admin(failing.sentinels[0])
        ask.execute_command("SENTINEL", "FAILOVER", SERVICE)
        failing.swap()
        failing.follow()
        assert all(writer.step() for writer in writers * 2)
        for writer in writers:
            stored = failing.admin(failing.primary).get(f"sharedsession:{writer.key}")
            assert stored.endswith(b"2")


class Named:
    """A connection to whom the sentinels have named; meanwhile they name another one."""

    made: ClassVar[list[Named]] = []
    meanwhile: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, host: str, **_: object) -> None:
        self.host, self.is_open = host, True
        self.made.append(self)

    def connect(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop()()

    def disconnect(self) -> None:
        self.is_open = False

    def send_command(self, *_: object) -> None:
        pass

    def read_response(self) -> list[bytes]:
        return [b"master"]


def test_a_connection_that_was_overtaken_by_a_failover_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is opened to whom another opening was told of; who was named first answers reads still."""
    named = iter([("old", 1), ("new", 1), ("new", 1)])
    monkeypatch.setattr(redis.sentinel.Sentinel, "discover_master", lambda *_: next(named))
    monkeypatch.setattr(connections, "keeping", lambda *_, **__: Named)
    moved: list[bool] = []
    place = read_url("redis+sentinel://host/service")
    opener = connections.Opener(place, 1.0, lambda: moved.append(True))
    Named.made, Named.meanwhile = [], [opener]
    assert opener().host == "new"
    assert [(each.host, each.is_open) for each in Named.made] == [
        ("old", False),
        ("new", True),
        ("new", True),
    ]
    assert len(moved) == 2
