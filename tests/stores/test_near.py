"""Copies in a server's memory: which of them may answer, for how long, and what ends them."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from sharedsession._core.settings import NearCache
from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import near, open_store, open_with_copies
from sharedsession.stores.base import (
    ABSENT,
    ALL,
    FRESHEST,
    READY,
    AsyncStore,
    Entry,
    Event,
    StorePair,
)
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.near import AsyncNearStore, NearStore, invalidation, with_copies
from sharedsession.stores.near.copies import OVERHEAD, Copies
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import (
    AsyncStoreConformance,
    Clock,
    LoopThread,
    StoreConformance,
    new_key,
)


class Time:
    """The module ``time``, as far as copies need it; it passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Stand in for the clock; no threads run."""
    fake = Time()
    monkeypatch.setattr(near, "time", fake)
    monkeypatch.setattr("sharedsession.stores.near.copies.time", fake)
    monkeypatch.setattr(invalidation, "time", fake)
    monkeypatch.setattr(invalidation.Worker, "_start", lambda worker: None)
    return fake


class Tells:
    """A store that could push, if anybody listened."""

    pushes = True

    def heartbeat(self, listener: str, number: int) -> None:
        """Go nowhere."""

    def listen(self, listener: str) -> Iterator[Event]:
        return iter(())


def entry(version: int = 1, data: bytes = b"data", expires: float | None = None) -> Entry:
    return Entry(data, version, expires, b"token")


def keep(
    copies: Copies, key: str, found: Entry, *, as_of: float | None = None, told: bool = True
) -> None:
    """Ask, and have the answer at once."""
    asking = copies.ask(key)
    copies.keep(key, asking, found, near.time.monotonic() if as_of is None else as_of, told=told)
    copies.leave(key, asking)


# --- which copy may answer ------------------------------------------------------------------------


def test_a_copy_older_than_the_clients_version_does_not_answer(passing: Time) -> None:
    """The version in the cookie is a floor: a copy at it or above may answer, none below."""
    copies = Copies(NearCache())
    keep(copies, "key", entry(5))
    assert copies.get("key", 0) == copies.get("key", 5) == entry(5)
    assert copies.get("key", 6) is None
    assert copies.get("key", FRESHEST) is None
    assert copies.get("another", 0) is None


def test_a_copy_answers_for_less_than_its_lease(passing: Time) -> None:
    """The lease begins when the store was asked, not when it answered."""
    copies = Copies(NearCache(lease=2.0))
    begun = passing.now
    passing.now += 1.5  # what the answer took
    keep(copies, "key", entry(), as_of=begun)
    passing.now = begun + 1.99
    assert copies.get("key", 0) is not None
    passing.now = begun + 2.0
    assert copies.get("key", 0) is None


def pushed(passing: Time, **limits: Any) -> Copies:
    """Return copies that listen, from now on, to a store that tells."""
    copies = Copies(NearCache(**limits), Tells())
    copies.invalidations.receive(READY)
    return copies


def heartbeat(copies: Copies) -> None:
    """A heartbeat is sent, and comes back at once."""
    copies.invalidations.receive(Event(heartbeat=copies.invalidations.sender.next()))


def test_a_copy_lives_longer_while_heartbeats_come_back(passing: Time) -> None:
    """The long lease holds while a heartbeat younger than the short one has come back."""
    copies = pushed(passing)
    keep(copies, "key", entry())
    for _ in range(100):
        passing.now += 0.5
        heartbeat(copies)
    passing.now += 0.99
    assert copies.get("key", 0) is not None
    passing.now += 0.01
    assert copies.get("key", 0) is None
    heartbeat(copies)
    assert copies.get("key", 0) is not None


def test_the_age_of_a_heartbeat_counts_from_when_it_was_sent(passing: Time) -> None:
    """A heartbeat that took two seconds says nothing about these two seconds."""
    copies = pushed(passing)
    keep(copies, "key", entry())
    number = copies.invalidations.sender.next()
    passing.now += 2
    copies.invalidations.receive(Event(heartbeat=number))
    assert copies.get("key", 0) is None


def test_the_lease_with_push_ends_as_well(passing: Time) -> None:
    """Even with heartbeats, a copy is loaded anew once its longer lease is over."""
    copies = pushed(passing, lease_with_push=10.0)
    keep(copies, "key", entry())
    passing.now += 9.9
    heartbeat(copies)
    assert copies.get("key", 0) is not None
    passing.now += 0.1
    heartbeat(copies)
    assert copies.get("key", 0) is None


def test_what_was_loaded_before_the_subscription_has_the_short_lease(passing: Time) -> None:
    """What happened between the load and the subscription was told to nobody."""
    copies = Copies(NearCache(), Tells())
    keep(copies, "before", entry())
    passing.now += 0.5
    copies.invalidations.receive(READY)
    keep(copies, "after", entry())
    passing.now += 0.5
    heartbeat(copies)
    assert copies.get("before", 0) is None
    assert copies.get("after", 0) is not None


def test_a_new_subscription_makes_older_copies_what_they_were_without_it(passing: Time) -> None:
    """Between two connections something may have been told to nobody."""
    copies = pushed(passing)
    keep(copies, "key", entry())
    passing.now += 1.5
    heartbeat(copies)
    assert copies.get("key", 0) is not None
    copies.invalidations.receive(READY)
    heartbeat(copies)
    assert copies.get("key", 0) is None


def test_what_a_replica_answered_has_the_short_lease(passing: Time) -> None:
    """Pushes tell of what is written from now on, and the replica may be behind that."""
    copies = pushed(passing)
    keep(copies, "key", entry(), told=False)
    passing.now += 0.99
    heartbeat(copies)
    assert copies.get("key", 0) is not None
    passing.now += 0.01
    assert copies.get("key", 0) is None


def test_a_store_that_tells_nothing_new_is_not_listened_to(passing: Time) -> None:
    """With lease_with_push=0 nobody listens, and the store is never asked to tell."""
    copies = Copies(NearCache(lease_with_push=0), Tells())
    assert copies.invalidations.store is None
    copies.invalidations.receive(READY)
    keep(copies, "key", entry())
    passing.now += 1
    heartbeat(copies)
    assert copies.get("key", 0) is None


def test_a_copy_does_not_outlive_its_session(passing: Time) -> None:
    """A copy of a session that has expired meanwhile is none, also in an outage."""
    clock = Clock(0.0)
    copies = Copies(NearCache(), None, clock)
    keep(copies, "key", entry(expires=5.0))
    clock.advance(4.9)
    assert copies.get("key", 0) is not None
    assert copies.outdated("key", 0, 60) is not None
    clock.advance(0.1)
    assert copies.get("key", 0) is None
    assert copies.outdated("key", 0, 60) is None


# --- in an outage ---------------------------------------------------------------------------------


def test_an_outdated_copy_answers_for_as_long_as_it_was_told(passing: Time) -> None:
    """In an outage copies answer by their age, and never below the client's version."""
    copies = Copies(NearCache())
    keep(copies, "key", entry(3))
    passing.now += 29.9
    assert copies.outdated("key", 3, 30.0) is not None
    assert copies.outdated("key", 4, 30.0) is None
    passing.now += 0.1
    assert copies.outdated("key", 3, 30.0) is None


def test_an_outdated_copy_counts_from_the_last_heartbeat(passing: Time) -> None:
    """While heartbeats came back it was the current one: its age begins with the last of them."""
    copies = Copies(NearCache(), Tells())
    keep(copies, "before", entry())
    passing.now += 1
    copies.invalidations.receive(READY)
    keep(copies, "told", entry())
    keep(copies, "of a replica", entry(), told=False)
    passing.now += 40
    heartbeat(copies)
    passing.now += 29
    assert copies.outdated("told", 0, 30.0) is not None
    assert copies.outdated("of a replica", 0, 30.0) is None
    assert copies.outdated("before", 0, 30.0) is None
    passing.now += 1
    assert copies.outdated("told", 0, 30.0) is None


# --- what ends a copy -----------------------------------------------------------------------------


@pytest.mark.parametrize("event", [Event(key="key"), ALL], ids=["the key", "everything"])
def test_what_is_told_of_is_dropped(passing: Time, event: Event) -> None:
    """A push of a key ends its copy, one of everything ends all."""
    copies = pushed(passing)
    keep(copies, "key", entry())
    keep(copies, "another", entry())
    copies.invalidations.receive(event)
    assert copies.get("key", 0) is None
    assert (copies.get("another", 0) is None) == (event is ALL)
    assert copies.bytes == sum(each.size for each in copies._copies.values())


@pytest.mark.parametrize("by", ["forget", "clear"])
def test_an_answer_asked_for_before_a_write_is_not_kept(passing: Time, by: str) -> None:
    """Of an answer on its way while the key was written nobody knows which state it shows."""
    copies = Copies(NearCache())
    first, second = copies.ask("key"), copies.ask("key")
    assert first is second
    if by == "forget":
        copies.forget("key")
    else:
        copies.clear()
    later = copies.ask("key")
    copies.keep("key", later, entry(2), passing.now, told=True)
    copies.leave("key", later)
    copies.keep("key", first, entry(1), passing.now, told=True)
    copies.leave("key", first)
    copies.keep("key", second, entry(3), passing.now, told=True)
    copies.leave("key", second)
    assert copies.get("key", 0) == entry(2)
    assert not copies._asking


def test_an_answer_below_the_copy_ends_both(passing: Time) -> None:
    """Of two answers that overtook each other nobody knows which is the older one."""
    copies = Copies(NearCache())
    keep(copies, "key", entry(7))
    keep(copies, "key", entry(6))
    assert copies.get("key", 0) is None
    keep(copies, "key", entry(6))
    assert copies.get("key", 0) == entry(6)
    keep(copies, "key", entry(6, b"other"))
    assert copies.get("key", 0) == entry(6, b"other")
    keep(copies, "key", ABSENT)
    assert copies.get("key", 0) is None
    assert copies.bytes == 0


# --- bounds ---------------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_goes_first(passing: Time) -> None:
    """A copy that is read stays; of those that are not, the oldest makes room."""
    copies = Copies(NearCache(max_entries=3))
    for key in ("a", "b", "c"):
        keep(copies, key, entry())
    assert copies.get("a", 0) is not None
    assert copies.outdated("b", 0, 60) is not None
    keep(copies, "d", entry())
    assert [key for key in "abcd" if copies.get(key, 0)] == ["a", "b", "d"]


def test_bytes_are_bounded(passing: Time) -> None:
    """Large copies push out small ones; what is larger than all room is not kept."""
    room = 3 * (OVERHEAD + 201)  # as stored, and decoded
    copies = Copies(NearCache(max_bytes=room))
    for key in ("a", "b", "c"):
        keep(copies, key, entry(data=bytes(100)))
    assert (len(copies), copies.bytes) == (3, room)
    keep(copies, "d", entry(data=bytes(101)))
    assert [key for key in "abcd" if copies.get(key, 0)] == ["c", "d"]
    keep(copies, "e", entry(data=bytes(room)))
    assert [key for key in "abcde" if copies.get(key, 0)] == ["c", "d"]
    keep(copies, "d", entry(2, data=bytes(room)))  # nor is what it had before
    assert [key for key in "abcde" if copies.get(key, 0)] == ["c"]


@pytest.mark.parametrize("max_bytes", [float("inf"), 10**400, 0])
def test_any_bound_of_memory_will_do(passing: Time, max_bytes: float) -> None:
    """No bound at all, and no room at all, are bounds like any other."""
    copies = Copies(NearCache(max_bytes=max_bytes))
    keep(copies, "key", entry())
    assert len(copies) == (1 if max_bytes else 0)


KEYS = st.sampled_from("abcdef")
ENTRIES, ROOM = 4, 4 * OVERHEAD


class Bounded(RuleBasedStateMachine):
    """Whatever is done in whatever order: the bounds hold, and the count of bytes is right."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Copies(NearCache(max_entries=ENTRIES, max_bytes=ROOM, lease=1.0))
        self.asked: list[tuple[str, Any, bool]] = []
        self.written = 0

    @rule(key=KEYS)
    def ask(self, key: str) -> None:
        self.asked.append((key, self.copies.ask(key), False))

    @rule(
        data=st.data(), version=st.integers(1, 5), size=st.integers(0, 2 * ROOM), told=st.booleans()
    )
    def answer(self, data: st.DataObject, version: int, size: int, told: bool) -> None:
        if not self.asked:
            return
        chosen = data.draw(st.integers(0, len(self.asked) - 1))
        key, asking, void = self.asked.pop(chosen)
        before = self.copies._copies.get(key)
        found = ABSENT if size > 1.5 * ROOM else entry(version, bytes(size))
        self.copies.keep(key, asking, found, near.time.monotonic(), told=told)
        self.copies.leave(key, asking)
        if void:
            assert self.copies._copies.get(key) is before
        elif before is not None and found.version < before.entry.version:
            assert key not in self.copies._copies
        elif OVERHEAD + 1 + 2 * len(found.data) <= ROOM:
            assert self.copies._copies[key].entry is found

    @rule(key=KEYS)
    def leave_without(self, key: str) -> None:
        for each in self.asked:
            if each[0] == key:
                self.asked.remove(each)
                self.copies.leave(key, each[1])
                break

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.copies.forget(key)
        self.asked = [(name, each, void or name == key) for name, each, void in self.asked]
        assert self.copies.get(key, 0) is None

    @rule()
    def clear(self) -> None:
        self.copies.clear()
        self.asked = [(name, each, True) for name, each, _ in self.asked]
        assert len(self.copies) == 0

    @rule(key=KEYS, floor=st.integers(0, 6))
    def get(self, key: str, floor: int) -> None:
        known = self.copies._copies.get(key)
        found = self.copies.get(key, floor)
        assert found is None or (known is not None and found is known.entry)
        assert found is None or found.version >= floor or (found is ABSENT and floor >= 1)

    @invariant()
    def bounds_hold(self) -> None:
        copies = self.copies
        assert copies.bytes == sum(each.size for each in copies._copies.values())
        assert len(copies) <= ENTRIES
        assert copies.bytes <= ROOM
        waiting = {key for key, _, void in self.asked if not void}
        assert set(copies._asking) == waiting
        assert all(not each.is_void for each in copies._asking.values())


def test_bounds_hold_and_bytes_are_counted_whatever_happens() -> None:
    """Any sequence of questions, answers, writes and reads keeps the bounds and the count."""
    run_state_machine_as_test(
        Bounded, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )


# --- the contract ---------------------------------------------------------------------------------


class Awaits:
    """An ordinary store that is awaited; each call lets others run in between."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        await asyncio.sleep(0)
        return self.store.load(key, at_least)

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        await asyncio.sleep(0)
        return self.store.create(key, data, ttl, owner)

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        await asyncio.sleep(0)
        return self.store.replace(key, entry, data, ttl, owner, at_least)

    async def touch(self, key: str, ttl: int) -> bool:
        await asyncio.sleep(0)
        return self.store.touch(key, ttl)

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        await asyncio.sleep(0)
        return self.store.delete(key, entry)


LIMITS = NearCache(lease=60.0)  # copies answer whenever they may


def plain(store: Any, clock: Callable[[], float] = near.time.time, **more: Any) -> NearStore:
    """Return a store with copies before it."""
    found = with_copies(StorePair(store, None), more.pop("limits", LIMITS), None, 0.0, clock).sync
    assert isinstance(found, NearStore)
    return found


def awaited(store: AsyncStore, clock: Callable[[], float] = near.time.time) -> AsyncNearStore:
    """Return an async store with copies before it."""
    found = with_copies(StorePair(None, store), LIMITS, None, 0.0, clock).asynchronous
    assert isinstance(found, AsyncNearStore)
    return found


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock) -> NearStore:
        return plain(MemoryStore(clock=clock), clock)


class TestFewCopies(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock) -> NearStore:
        return plain(MemoryStore(clock=clock), clock, limits=NearCache(max_entries=2))


class TestSQLite(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Iterator[NearStore]:
        store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 10.0, clock=clock)
        yield plain(store, clock)
        store.close()


class TestAwaitedMemory(AsyncStoreConformance):
    @pytest.fixture
    def store(self, clock: Clock) -> AsyncNearStore:
        return awaited(Awaits(MemoryStore(clock=clock)), clock)


class OnTheServersClock:
    """A server that keeps the time: copies know the end of a session, and that moves as well."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(near.time.time())

    @pytest.fixture
    def advance(
        self, clock: Clock, advance_redis: Callable[[float], None]
    ) -> Callable[[float], None]:
        def let_pass(seconds: float) -> None:
            clock.advance(seconds)
            advance_redis(seconds)

        return let_pass


class TestRedis(OnTheServersClock, StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock, redis_url: str) -> Iterator[NearStore]:
        store = RedisStore.from_url(redis_url, 10.0)
        yield plain(store, clock)
        store.close()


class TestAsyncRedis(OnTheServersClock, AsyncStoreConformance):
    @pytest.fixture
    def store(self, clock: Clock, redis_url: str) -> AsyncNearStore:
        return awaited(AsyncRedisStore.from_url(redis_url, 10.0), clock)


# --- writes ---------------------------------------------------------------------------------------


class Lost(MemoryStore):
    """A memory that does its work and fails all the same, when it is told to."""

    failure: BaseException | None = None

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def create(self, *arguments: Any, **more: Any) -> Entry | None:
        found = super().create(*arguments, **more)
        self._fail()
        return found

    def replace(self, *arguments: Any, **more: Any) -> Entry | None:
        found = super().replace(*arguments, **more)
        self._fail()
        return found

    def touch(self, *arguments: Any, **more: Any) -> bool:
        found = super().touch(*arguments, **more)
        self._fail()
        return found

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        found = super().delete(key, entry)
        self._fail()
        return found


WRITES: dict[str, Callable[[Any, Entry], Any]] = {
    "create": lambda store, loaded: store.create("key", b"new", 60),
    "replace": lambda store, loaded: store.replace("key", loaded, b"new", 60),
    "replace that loses": lambda store, loaded: store.replace(
        "key", Entry(b"", 9, None, b"not mine"), b"new", 60
    ),
    "touch": lambda store, loaded: store.touch("key", 60),
    "delete": lambda store, loaded: store.delete("key"),
    "delete of what is held": lambda store, loaded: store.delete("key", loaded),
    "delete that loses": lambda store, loaded: store.delete("key", Entry(b"", 9, None, b"others")),
}


@pytest.mark.parametrize("fails", [False, True], ids=["done", "its answer lost"])
@pytest.mark.parametrize("write", WRITES)
def test_any_write_ends_the_copy(write: str, fails: bool) -> None:
    """Done, refused or unknown: after a write of this server no copy of the session is left."""
    memory = Lost()
    store = plain(memory)
    memory.create("key", b"old", 60)
    loaded = store.load("key")
    assert loaded is not None
    assert store.peek("key") == loaded
    memory.failure = StoreUnavailable("lost") if fails else None
    if fails:
        with pytest.raises(StoreUnavailable):
            WRITES[write](store, loaded)
    else:
        WRITES[write](store, loaded)
    assert store.peek("key") is None
    assert store.load("key") == memory.load("key")


@pytest.mark.parametrize("how", ["done", "its answer lost", "cancelled"])
@pytest.mark.parametrize("write", WRITES)
def test_any_awaited_write_ends_the_copy(write: str, how: str) -> None:
    """The same where it is awaited, also for whoever is cancelled while waiting."""

    async def main() -> None:
        memory = Lost()
        store = awaited(Awaits(memory))
        memory.create("key", b"old", 60)
        loaded = await store.load("key")
        assert loaded is not None
        assert store.peek("key") == loaded
        memory.failure = StoreUnavailable("lost") if how == "its answer lost" else None
        task = asyncio.ensure_future(WRITES[write](store, loaded))
        await asyncio.sleep(0)
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancelled")
        if not task.cancelled():
            assert (task.exception() is None) == (how == "done")
        assert store.peek("key") is None

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_load_without_an_answer_leaves_nothing_behind(how: str) -> None:
    """A question that failed, or whose asker went away, keeps nothing and is forgotten."""

    class Silent(Awaits):
        async def load(self, key: str, at_least: int = 0) -> Entry | None:
            if how == "fails":
                raise StoreUnavailable("down")
            await asyncio.sleep(60)
            return None

    async def main() -> None:
        store = awaited(Silent(MemoryStore()))
        task = asyncio.ensure_future(store.load("key"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        copies = store._shared.state().copies
        assert copies is not None
        assert not copies._asking
        assert len(copies) == 0

    asyncio.run(main())


def test_a_load_that_overlaps_a_write_is_not_kept() -> None:
    """An answer that left the store before a write, and arrives after it, is no copy."""
    answered, may_arrive = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def load(self, key: str, at_least: int = 0) -> Entry | None:
            found = super().load(key, at_least)
            if threading.current_thread() is not threading.main_thread():
                answered.set()
                assert may_arrive.wait(10)
            return found

    memory = Slow()
    created = memory.create("key", b"old", 60)
    assert created is not None
    store = plain(memory)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(store.load, "key")
        assert answered.wait(10)
        replaced = store.replace("key", created, b"new", 60)
        may_arrive.set()
        assert late.result(10) == created
    assert store.peek("key") is None
    assert store.load("key") == store.peek("key") == replaced


def test_eight_threads_read_their_own_writes_and_leave_the_count_right() -> None:
    """Loads, writes and pushes of eight threads: no own write is missed, no byte is miscounted."""
    memory = MemoryStore()
    store = plain(memory, limits=NearCache(max_entries=8, max_bytes=8 * (OVERHEAD + 80)))
    keys = [new_key() for _ in range(12)]
    for key in keys:
        memory.create(key, b"0", 600)
    copies = store._shared.state().copies
    assert copies is not None

    def work(number: int) -> None:
        chance = random.Random(number)
        seen = dict.fromkeys(keys, 0)
        for _ in range(1500):
            key = chance.choice(keys)
            found = store.load(key, seen[key])
            assert found is not None
            assert found.version >= seen[key]
            seen[key] = found.version
            if chance.random() < 0.3:
                written = store.replace(key, found, bytes(chance.randrange(60)), 600)
                if written is not None:
                    seen[key] = written.version
            elif chance.random() < 0.1:
                copies.forget(key)
            elif chance.random() < 0.01:
                copies.clear()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(60)
    assert not copies._asking
    assert copies.bytes == sum(each.size for each in copies._copies.values())
    assert len(copies) <= 8
    assert store.counts["copy"] > 100
    for key in keys:
        assert store.peek(key) in (None, memory.load(key))


# --- processes, loops and middlewares -------------------------------------------------------------


def in_a_child(work: Callable[[], bytes]) -> bytes:
    """Return what a child of this process says."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that run, since 3.12
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, work())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_a_child_begins_with_no_copies() -> None:
    """Copies and what is listened to belong to one process; the parent's stay as they are."""
    store = plain(MemoryStore())
    store.create("key", b"data", 60)
    store.load("key")
    parents = store._shared.state()
    assert parents.copies is not None
    with parents.copies._lock:  # held by another thread of the parent, which is not in the child

        def child() -> bytes:
            before = store.peek("key")
            counts = store.counts
            store.load("key")
            return repr((before, counts, store.peek("key") is not None)).encode()

        assert in_a_child(child) == b"(None, {}, True)"
    assert store.peek("key") is not None


def test_two_middlewares_with_the_same_settings_share_copies(tmp_path: Path) -> None:
    """One URL and the same settings are one place of copies, for as long as somebody holds it."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    one = open_with_copies(url, 1.0, NearCache(), None, 0.0)
    two = open_with_copies(url, 1.0, NearCache(), None, 0.0)
    other = open_with_copies(url, 1.0, NearCache(lease=2.0), None, 0.0)
    assert one is two
    assert one is not other
    assert isinstance(one.sync, NearStore)
    assert isinstance(other.sync, NearStore)
    plain_pair = open_store(url, 1.0)
    assert one.sync._primary is other.sync._primary is plain_pair.sync
    one.sync.create("key", b"data", 60)
    one.sync.load("key")
    assert one.sync.peek("key") is not None
    assert other.sync.peek("key") is None
    gone = weakref.ref(one)
    del one, two
    gc.collect()
    assert gone() is None


def test_both_colours_share_copies() -> None:
    """What one colour loaded, the other one finds; what one writes, the other one forgets."""
    memory = MemoryStore()
    pair = with_copies(StorePair(memory, Awaits(memory)), LIMITS, None, 0.0)
    sync, asynchronous = pair.sync, pair.asynchronous
    assert isinstance(sync, NearStore)
    assert isinstance(asynchronous, AsyncNearStore)
    memory.create("key", b"data", 60)
    with LoopThread() as loop:
        loaded = loop.run(asynchronous.load("key"))
        assert sync.peek("key") == loaded
        sync.touch("key", 60)
        assert asynchronous.peek("key") is None
        sync.load("key")
        loop.run(asynchronous.delete("key"))
    assert sync.peek("key") is None


def test_counts_and_entries_say_who_answered() -> None:
    """Each load is counted by who answered, a copy or the store itself, and its entry says so."""
    store = plain(MemoryStore())
    store.create("key", b"data", 60)
    found = [store.load("key", at_least) for at_least in (0, 0, 0, FRESHEST)]
    assert store.counts == {"store": 2, "copy": 2}
    assert [entry and entry.found_in for entry in found] == ["store", "copy", "copy", "store"]


def test_copies_hold_until_when_a_session_lives(redis_url: str) -> None:
    """A copy knows the end of its session, where a plain load would not say it."""
    bare = RedisStore.from_url(redis_url, 10.0)
    store, key = plain(bare), new_key()
    store.create(key, b"data", 100)
    loaded = store.load(key)
    assert loaded is not None
    assert loaded.expires is not None
    assert 90 < loaded.expires - near.time.time() <= 100
    bare.close()


def test_a_replica_must_be_one() -> None:
    """What cannot be read as a replica is refused at start-up, with a sentence."""

    class Alone:
        blocking = False

    pair = StorePair(MemoryStore(), None)
    with pytest.raises(ConfigurationError, match="Alone cannot do that"):
        with_copies(pair, None, StorePair(Alone(), None), 0.0)  # type: ignore[arg-type]
