"""Reads from a replica: which of its answers count, and what happens when it falls behind or dies.

A real replica of Redis and of PostgreSQL, which follows its primary through a proxy of the test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sharedsession._core.settings import NearCache
from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import open_store, open_with_copies
from sharedsession.stores.base import FRESHEST, Entry, StorePair
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.near import LEASE, AsyncNearStore, Following, NearStore, with_copies
from sharedsession.testing.stores import LoopThread, new_key
from tests.stores.test_push import ours, until
from tests.support.databases import PostgreSQL, Standby
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer

TIMEOUT = 2.0


@dataclass
class Pair:
    """A primary, its replica, the link that one follows the other by, and the way to the replica.

    ``plain`` is the primary's store, ``near`` and ``awaited`` read from the replica as well.
    """

    plain: Any
    replica: Any
    near: NearStore
    awaited: AsyncNearStore
    link: Proxy
    way: Proxy

    def follows(self) -> None:
        """Wait until the replica answers, and shows what was written to the primary."""

        def answered() -> bool:
            before = self.near.counts.get("replica", 0)
            key = self.written()
            self.near.load(key)
            time.sleep(0.05)
            self.near.load(key)
            return self.near.counts.get("replica", 0) > before

        until(answered, "the replica does not follow")

    def written(self) -> str:
        """Return a session that is in both by the time it is asked for."""
        key = new_key()
        assert self.plain.create(key, b"data", 600) is not None
        limit = time.monotonic() + 1
        while self.replica.load(key) is None and time.monotonic() < limit:
            time.sleep(0.01)
        return key

    def asked(self, work: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
        """Return what it comes to, and how many loads were answered by whom."""
        before = self.near.counts
        answer = work()
        after = self.near.counts
        return answer, {name: after[name] - before.get(name, 0) for name in after}


def paired(primary: Any, replica: Any, link: Proxy) -> Iterator[Pair]:
    """Stores of both, of which the one to the replica goes through a proxy of its own."""
    with Proxy(replica.port) as way:
        url = replica.url.replace(f":{replica.port}/", f":{way.port}/")
        pair = open_with_copies(primary.url, TIMEOUT, None, url, 0.0)
        plain, behind = open_store(primary.url, TIMEOUT).sync, open_store(replica.url, TIMEOUT).sync
        assert isinstance(pair.sync, NearStore)
        assert isinstance(pair.asynchronous, AsyncNearStore)
        yield Pair(plain, behind, pair.sync, pair.asynchronous, link, way)
        following = pair.sync._shared.state().following
        assert following is not None
        following.sender._needed_at = float("-inf")
        until(lambda: not ours())


@pytest.fixture(scope="module")
def redis_pair() -> Iterator[Pair]:
    with RedisServer() as primary, Proxy(primary.port) as link:
        follow = ("--replicaof", f"127.0.0.1 {link.port}", "--repl-timeout", "60")
        with RedisServer(primary.binary, *follow) as replica:
            yield from paired(primary, replica, link)


@pytest.fixture(scope="module")
def postgresql_pair(postgresql: PostgreSQL) -> Iterator[Pair]:
    with Proxy(postgresql.port) as link, Standby(link.port) as replica:
        yield from paired(postgresql, replica, link)


@pytest.fixture(params=["redis", "postgresql"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(f"{request.param}_pair")
    found.follows()
    return found


def test_a_replica_answers(pair: Pair) -> None:
    """What it shows beside a young heartbeat counts, for both colours, and knows its end."""
    key = pair.written()
    found, asked = pair.asked(lambda: pair.near.load(key))
    assert found is not None
    assert found.data == b"data"
    assert found.expires is not None
    assert found.found_in == "replica"
    assert asked["replica"] == 1
    with LoopThread() as loop:

        def awaited() -> bool:
            found, asked = pair.asked(lambda: loop.run(pair.awaited.load(key)))
            assert found is not None
            assert found.data == b"data"
            return asked["replica"] == 1

        until(awaited)
    pair.follows()


def test_an_entry_of_the_replica_can_be_replaced(pair: Pair) -> None:
    """It carries the same token as the primary's own."""
    key = pair.written()
    found, asked = pair.asked(lambda: pair.near.load(key))
    assert asked["replica"] == 1
    assert found is not None
    assert pair.near.replace(key, found, b"new", 600) is not None


def test_absent_on_the_replica_is_never_final(pair: Pair) -> None:
    """A session that the replica does not have yet, or never will, is asked of the primary."""
    pair.link.hold()
    key = new_key()
    created = pair.plain.create(key, b"data", 600)
    found = pair.near.load(key)
    pair.link.release()
    assert found is not None
    assert created is not None
    assert found.data == created.data
    pair.follows()
    _, asked = pair.asked(lambda: pair.near.load(new_key()))
    assert asked["store"] == 1


def test_below_the_floor_the_primary_answers(pair: Pair) -> None:
    """A client never reads older than its cookie, and the freshest is the primary's alone."""
    key = pair.written()
    pair.link.hold()
    old = pair.plain.load(key)
    new = pair.plain.replace(key, old, b"new", 600)
    assert new is not None
    found = pair.near.load(key, new.version)
    pair.link.release()
    assert found is not None
    assert found.data == b"new"
    pair.follows()
    _, asked = pair.asked(lambda: pair.near.load(key, FRESHEST))
    assert asked["store"] == 1
    assert asked["replica"] == 0


def test_a_replica_that_stands_still_answers_for_a_lease_at_most(pair: Pair) -> None:
    """Nothing tells of a broken link but heartbeats: within a second the primary answers alone."""
    key = pair.written()
    pair.link.silence()
    try:
        pair.plain.delete(key)
        begun = time.monotonic()
        until(lambda: pair.near.load(key) is None)
        assert time.monotonic() - begun < LEASE + 0.3
        _, asked = pair.asked(lambda: [pair.near.load(new_key()) for _ in range(20)])
        assert asked["store"] == 20
    finally:
        pair.link.restore()
        pair.link.reset()
    pair.follows()


OUTAGES: dict[str, Callable[[Proxy], object]] = {
    "refuses": Proxy.refuse,
    "hangs": Proxy.silence,
    "vanishes": Proxy.vanish,
}


@pytest.mark.parametrize("how", OUTAGES)
@pytest.mark.parametrize("colour", ["plain", "awaited"])
def test_a_replica_that_fails_costs_little(pair: Pair, how: str, colour: str) -> None:
    """The primary answers in the replica's place, well within the deadline, and mostly at once."""
    key = pair.written()
    with LoopThread() as loop:

        def load() -> Entry | None:
            return loop.run(pair.awaited.load(key)) if colour == "awaited" else pair.near.load(key)

        load()
        OUTAGES[how](pair.way)
        try:
            begun, took = time.monotonic(), []
            while time.monotonic() < begun + 2:
                before = time.monotonic()
                found = load()
                assert found is not None
                assert found.data == b"data"
                took.append(time.monotonic() - before)
                time.sleep(0.005)
        finally:
            pair.way.restore()
        assert max(took) < TIMEOUT / 2 + 0.2
        assert sorted(took)[len(took) * 3 // 4] < 0.1
    pair.follows()


# --- without servers ------------------------------------------------------------------------------


class Hanging(MemoryStore):
    """A replica whose every call hangs, in both colours."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def load_all(self, keys: Any) -> list[Entry | None]:
        self.calls += 1
        await asyncio.sleep(60)
        return []


def test_a_replica_that_used_up_the_time_of_a_request_is_left_alone() -> None:
    """A replica handed over without a timeout costs one request its deadline, not each of them."""

    class Awaited(MemoryStore):
        async def load(self, key: str, at_least: int = 0) -> Entry | None:  # type: ignore[override]
            return super().load(key, at_least)

        async def create(self, *arguments: Any) -> Entry | None:  # type: ignore[override]
            return super().create(*arguments)

        async def replace(self, *arguments: Any) -> Entry | None:  # type: ignore[override]
            return super().replace(*arguments)

    async def main() -> None:
        primary, replica = Awaited(), Hanging()
        MemoryStore.create(primary, "key", b"data", 60)
        pairs: list[Any] = [StorePair(None, each) for each in (primary, replica)]  # type: ignore[arg-type]
        near = with_copies(pairs[0], None, pairs[1], 0.0).asynchronous
        assert near is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await near.load("key")
        for _ in range(5):
            async with asyncio.timeout(0.05):
                assert await near.load("key") is not None
        assert replica.calls == 1

    asyncio.run(main())


@pytest.mark.parametrize("url", ["redis+cluster://h", "valkeys+cluster://h1,h2", "memory://"])
def test_what_is_no_replica_is_refused(url: str) -> None:
    """A cluster, of which no node has everything, and a store that cannot be read as a replica."""
    with pytest.raises(ConfigurationError, match="replica names"):
        open_with_copies("memory://", 1.0, None, url, 0.0)


def test_a_replica_is_not_asked_for_a_while_after_it_failed() -> None:
    """Half a lease without it, then it has another chance."""
    following = Following()
    assert following.may_answer(0)
    assert not following.may_answer(FRESHEST)
    following.rest()
    assert not following.may_answer(0)
    assert following._rests_until <= time.monotonic() + LEASE


def test_a_failing_replica_fails_nobody() -> None:
    """Whatever it raises, the primary answers."""

    class Fails(MemoryStore):
        def load_all(self, keys: Any) -> list[Entry | None]:
            raise StoreUnavailable("down")

    memory = MemoryStore()
    memory.create("key", b"data", 60)
    pair = with_copies(StorePair(memory, None), NearCache(), StorePair(Fails(), None), 0.0)
    assert pair.sync is not None
    assert pair.sync.load("key") == memory.load("key")
