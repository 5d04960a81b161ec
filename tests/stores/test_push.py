"""Heartbeats and invalidations: when they are believed, when given up, who works for them."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sharedsession._core.settings import NearCache
from sharedsession.stores import near
from sharedsession.stores.base import QUIET, READY, Entry, Event, NoPush, StorePair
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.near import NearStore, invalidation, with_copies
from sharedsession.stores.near.invalidation import (
    DEAF,
    HEARTBEATS,
    HeartbeatSender,
    InvalidationListener,
    Worker,
)
from tests.stores.test_near import Tells, Time, passing

__all__ = ["passing"]  # the fixture

LIMIT = 10.0


def until(condition: Callable[[], object], what: str = "it takes too long") -> None:
    """Wait for what threads do in their own time."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.005)


def ours() -> list[str]:
    """Return the names of the threads that listen and heartbeat."""
    names = ("sharedsession-heartbeat", "sharedsession-listener")
    return [each.name for each in threading.enumerate() if each.name in names]


@pytest.fixture(autouse=True)
def _rested() -> Iterator[None]:
    """No test leaves a thread behind, or meets one of another's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invalidation, "IDLE", 5.0)
        gc.collect()
        until(lambda: not ours(), "threads of another test")
        yield
        gc.collect()
        until(lambda: not ours(), "threads that do not end")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads rest, and give up, sooner than they would."""
    monkeypatch.setattr(invalidation, "IDLE", 0.3)
    monkeypatch.setattr(invalidation, "DEAF", 0.5)
    monkeypatch.setattr(invalidation, "SHORTEST_PAUSE", 0.02)
    monkeypatch.setattr(invalidation, "LONGEST_PAUSE", 0.05)


class Telling(MemoryStore):
    """A memory that publishes invalidations, on connections that the test can spoil."""

    pushes = True

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[queue.Queue[Event | Exception]] = []
        self.connections = 0
        self.closed = 0
        self.heartbeats = 0
        self.half_open = False  # what is told arrives nowhere, and nobody is told that
        self.refuses: Exception | None = None
        self.unsent: Exception | None = None

    def tell(self, event: Event | Exception) -> None:
        if not self.half_open:
            for line in list(self.lines):
                line.put(event)

    def heartbeat(self, listener: str, number: int) -> None:
        self.heartbeats += 1
        if self.unsent is not None:
            raise self.unsent
        self.tell(Event(heartbeat=number))

    def listen(self, listener: str) -> Iterator[Event]:
        line: queue.Queue[Event | Exception] = queue.Queue()
        self.connections += 1
        try:
            if self.refuses is not None:
                raise self.refuses
            self.lines.append(line)
            yield READY
            while True:
                try:
                    event = line.get(timeout=0.05)
                except queue.Empty:
                    event = QUIET
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1
            if line in self.lines:
                self.lines.remove(line)

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        found = super().delete(key, entry)
        self.tell(Event(key=key))
        return found


def copies_of(store: MemoryStore, **limits: Any) -> NearStore:
    found = with_copies(StorePair(store, None), NearCache(**limits), None, 0.0).sync
    assert isinstance(found, NearStore)
    return found


def invalidations_of(store: NearStore) -> InvalidationListener:
    copies = store._shared.state().copies
    assert copies is not None
    return copies.invalidations


def listening(store: NearStore) -> InvalidationListener:
    """Use a store until what it is told is believed."""
    invalidations = invalidations_of(store)

    def covered() -> bool:
        store.load("nobody")
        now = time.monotonic()
        return invalidations.covers(now, now)

    until(covered, "the store is not listened to")
    return invalidations


def rest(store: NearStore) -> None:
    """Let the threads end, and with them what they hold open."""
    invalidations = invalidations_of(store)
    invalidations._needed_at = invalidations.sender._needed_at = -math.inf
    until(lambda: not invalidations._runs and not invalidations.sender._runs)
    until(lambda: not ours())


# --- what is believed -----------------------------------------------------------------------------


def heard(passing: Time, lease: float = 1.0) -> InvalidationListener:
    """Return a invalidations that has begun to listen, and has nobody to tell."""
    invalidations = InvalidationListener(Tells(), lease, lambda event: None)
    invalidations.receive(READY)
    return invalidations


def test_nothing_is_believed_before_a_heartbeat_has_come_back(passing: Time) -> None:
    """A connection on which nothing happens is no proof that nothing has happened."""
    invalidations = heard(passing)
    assert not invalidations.covers(passing.now, passing.now)
    invalidations.receive(Event(heartbeat=invalidations.sender.next()))
    assert invalidations.covers(passing.now, passing.now)


def test_a_heartbeat_is_believed_for_less_than_a_lease(passing: Time) -> None:
    """A half-open connection, a paused process: the latest heartbeat grows old by itself."""
    invalidations, begun = heard(passing), passing.now
    invalidations.receive(Event(heartbeat=invalidations.sender.next()))
    passing.now += 0.99
    assert invalidations.covers(begun, passing.now)
    passing.now += 0.01
    assert not invalidations.covers(begun, passing.now)
    passing.now += 3600  # the process was paused
    assert not invalidations.covers(passing.now, passing.now)


def test_a_heartbeat_nobody_sent_says_nothing(passing: Time) -> None:
    """Heartbeats of another listener, and those of long ago, are not believed."""
    invalidations = heard(passing)
    invalidations.receive(Event(heartbeat=12345))
    assert not invalidations.covers(passing.now, passing.now)
    old = invalidations.sender.next()
    for _ in range(150):
        invalidations.sender.next()
    invalidations.receive(Event(heartbeat=old))
    assert not invalidations.covers(passing.now, passing.now)


def test_heartbeats_out_of_order_do_not_make_it_older(passing: Time) -> None:
    """The latest heartbeat counts, whichever comes last: Redis also tells of one that expires."""
    invalidations = heard(passing)
    first = invalidations.sender.next()
    passing.now += 0.9
    invalidations.receive(Event(heartbeat=invalidations.sender.next()))
    invalidations.receive(Event(heartbeat=first))
    passing.now += 0.9
    assert invalidations.covers(passing.now, passing.now)


def test_a_new_connection_begins_anew(passing: Time) -> None:
    """What was so before it listened is not covered, and heartbeats have to come back again."""
    invalidations, begun = heard(passing), passing.now
    invalidations.receive(Event(heartbeat=invalidations.sender.next()))
    passing.now += 0.1
    invalidations.receive(READY)
    assert not invalidations.covers(passing.now, passing.now)
    invalidations.receive(Event(heartbeat=invalidations.sender.next()))
    assert not invalidations.covers(begun, passing.now)
    assert invalidations.covers(passing.now, passing.now)
    assert invalidations.known(begun) == begun
    assert invalidations.known(passing.now) == passing.now


def test_a_connection_without_heartbeats_is_given_up(passing: Time) -> None:
    """Something between may drop subscriptions: after some seconds another one is opened."""
    invalidations = heard(passing)
    passing.now += DEAF
    invalidations.receive(QUIET)
    passing.now += 0.01
    with pytest.raises(NoPush, match="no heartbeat has come back"):
        invalidations.receive(QUIET)


@pytest.mark.parametrize("lease", [0.001, 0.1, 1.0, 12.0, 60.0])
def test_heartbeats_are_sent_often_enough_and_not_too_often(passing: Time, lease: float) -> None:
    """However long or short the lease, a connection that works is not taken for a broken one."""
    invalidations = heard(passing, lease)
    assert 0.05 <= invalidations.sender.every <= DEAF / 2
    assert invalidations.sender.every <= max(lease / HEARTBEATS, 0.1)
    for _ in range(100):
        number = invalidations.sender.next()
        passing.now += invalidations.sender.every
        invalidations.receive(QUIET)
        invalidations.receive(Event(heartbeat=number))


def test_a_sender_remembers_its_latest_heartbeats_only(passing: Time) -> None:
    """A server that runs for years holds no more heartbeats than one that has just begun."""
    sender = HeartbeatSender(1.0)
    for _ in range(1000):
        sender.next()
    assert len(sender._sent) == 100


# --- threads that listen --------------------------------------------------------------------------


def test_a_write_by_another_server_is_heard() -> None:
    """A push ends the copy at once; without one it lives far longer than the short lease."""
    memory = Telling()
    store = copies_of(memory, lease=0.4)
    invalidations = listening(store)
    memory.create("key", b"data", 600)
    store.load("key")
    before = store.counts["store"]
    begun = time.monotonic()
    while time.monotonic() < begun + 0.8:
        assert store.load("key") is not None
        time.sleep(0.01)
    assert store.counts["store"] == before
    memory.delete("key")
    until(lambda: store.peek("key") is None)
    assert time.monotonic() < begun + 1.5
    assert invalidations.covers(begun, time.monotonic())


def test_a_half_open_connection_is_noticed(short: None, caplog: pytest.LogCaptureFixture) -> None:
    """Without heartbeats the long lease ends within the short one; then it reconnects."""
    memory = Telling()
    store = copies_of(memory, lease=0.2)
    listening(store)
    memory.create("key", b"data", 600)
    store.load("key")
    memory.half_open = True
    begun = time.monotonic()
    Telling.delete(memory, "key")
    until(lambda: store.peek("key") is None)
    assert time.monotonic() - begun < 0.5
    connections = memory.connections

    def reconnected() -> bool:
        store.load("nobody")
        return memory.connections > connections + 1

    until(reconnected)
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.getMessage().partition(":")[0] for each in warnings] == [
        "The session store publishes no invalidations, so copies are used for 0.2 s only"
    ]
    assert "no heartbeat has come back" in caplog.text
    memory.half_open = False
    listening(store)


def test_a_broken_connection_is_opened_anew(short: None, caplog: pytest.LogCaptureFixture) -> None:
    """It had worked, and works again in a moment: no warning, but copies loaded before are old."""
    caplog.set_level(logging.INFO)
    memory = Telling()
    store = copies_of(memory, lease=0.2)
    listening(store)
    memory.create("key", b"data", 600)
    store.load("key")
    for _ in range(3):
        memory.tell(ConnectionError("reset by peer"))
        connections = memory.connections
        until(lambda: memory.connections > connections)
        memory.lines and listening(store)
    told = [each.levelno for each in caplog.records if "reset by peer" in each.message]
    assert told == [logging.INFO] * 3
    assert memory.closed >= 3


@pytest.mark.parametrize("failure", [NoPush("not allowed"), OSError("refused"), ValueError()])
def test_a_store_that_cannot_tell_is_lamented_once(
    short: None, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    """One warning says why copies live for the short lease; requests go on as without pushes."""
    memory = Telling()
    memory.refuses = failure
    store = copies_of(memory, lease=0.2)
    memory.create("key", b"data", 600)

    def often() -> bool:
        assert store.load("key") is not None
        return memory.connections > 3

    until(often)
    assert store.counts["copy"] > 0
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert (str(failure) or "ValueError") in warnings[0]


def test_a_store_whose_listen_raises_at_once_is_asked_again(
    short: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A store of somebody else's may fail before it has an iterator to return."""

    class Fails(Telling):
        def listen(self, listener: str) -> Iterator[Event]:
            self.connections += 1
            if self.connections < 3:
                raise OSError("not now")
            return super().listen(listener)

    listening(copies_of(Fails(), lease=0.2))
    assert "not now" in caplog.text


def test_heartbeats_that_cannot_be_sent_are_no_error(
    short: None, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store is down heartbeats fail, without noise, and come back when it does."""
    memory = Telling()
    store = copies_of(memory, lease=0.2)
    invalidations = listening(store)
    memory.unsent = OSError("down")
    until(lambda: not invalidations.covers(time.monotonic(), time.monotonic()))
    sent = memory.heartbeats

    def more() -> bool:
        store.load("nobody")
        return memory.heartbeats > sent + 5

    until(more)
    memory.unsent = None
    listening(store)
    messages = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(messages) <= 1


# --- whose threads these are ----------------------------------------------------------------------


def test_nobody_works_before_the_first_load() -> None:
    """A middleware that serves no session starts no thread and opens no connection."""
    memory = Telling()
    store = copies_of(memory)
    store.create("key", b"data", 60)
    assert store.peek("another") is None
    assert not ours()
    assert memory.connections == memory.heartbeats == 0


@pytest.mark.parametrize(
    ("kind", "limits"),
    [(MemoryStore, {}), (Telling, {"lease_with_push": 0}), (Telling, {"lease_with_push": 1.0})],
)
def test_nobody_works_where_pushes_are_not_used(
    kind: type[MemoryStore], limits: dict[str, float]
) -> None:
    """A store without invalidations, or copies that need not be told: no thread, no connection."""
    memory = kind()
    store = copies_of(memory, **limits)
    memory.create("key", b"data", 60)
    for _ in range(10):
        store.load("key")
    assert not ours()
    assert getattr(memory, "connections", 0) == 0


def test_a_store_that_says_it_does_not_push_is_not_listened_to() -> None:
    """``pushes`` is asked: not every server and every client library can."""
    memory = Telling()
    memory.pushes = False
    store = copies_of(memory)
    store.load("key")
    assert invalidations_of(store).store is None
    assert not ours()


def test_threads_rest_when_nobody_needs_them(short: None) -> None:
    """After a while without sessions they end, and the next load starts them again."""
    memory = Telling()
    store = copies_of(memory, lease=0.2)
    listening(store)
    assert sorted(ours()) == ["sharedsession-heartbeat", "sharedsession-listener"]
    until(lambda: not ours())
    assert memory.closed == memory.connections == 1
    store.load("nobody")
    until(lambda: memory.connections == 2)
    assert sorted(ours()) == ["sharedsession-heartbeat", "sharedsession-listener"]


def test_threads_end_with_their_store() -> None:
    """A store that is dropped takes its threads and its connection along, however busy it was."""
    memory = Telling()
    store = copies_of(memory)
    listening(store)
    copies, primary = weakref.ref(store._shared.state().copies), weakref.ref(memory)  # type: ignore[arg-type]
    gc.disable()  # no cycle keeps the copies until somebody looks for cycles
    try:
        del store
        until(lambda: copies() is None)
    finally:
        gc.enable()
    until(lambda: not ours())
    assert memory.closed == 1
    del memory
    gc.collect()
    assert primary() is None


def test_many_threads_that_need_it_start_it_once(short: None) -> None:
    """Requests that come at the same time do not start a thread each."""
    started: list[int] = []
    barrier = threading.Barrier(8)

    def run(reference: weakref.ref[Worker]) -> None:
        started.append(1)
        while (worker := reference()) is not None and not worker.may_rest():
            del worker
            time.sleep(0.01)

    worker = Worker("sender", run)

    def need() -> None:
        barrier.wait(5)
        worker.need(time.monotonic())

    threads = [threading.Thread(target=need) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(started) == 1


def test_a_thread_that_cannot_be_started_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many threads, or an interpreter that is about to end: the short lease, and no error."""
    refusing = [True]
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if refusing[0] and thread.name.startswith("sharedsession-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    memory = Telling()
    store = copies_of(memory)
    created = memory.create("key", b"data", 60)
    assert store.load("key") == store.load("key") == created
    assert not ours()
    refusing[0] = False
    listening(store)


def test_no_threads_where_none_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under uWSGI without threads nothing is started, and copies have the short lease."""
    monkeypatch.setattr(invalidation, "threads_run", lambda: False)
    memory = Telling()
    store = copies_of(memory, lease=0.1)
    memory.create("key", b"data", 60)
    store.load("key")
    assert store.peek("key") is not None
    until(lambda: store.peek("key") is None)
    assert not ours()


def test_what_is_heard_while_it_loads_is_not_kept(short: None) -> None:
    """An answer that left the store before a write by another server is no copy."""
    memory = Telling()
    store = copies_of(memory)
    listening(store)
    memory.create("key", b"old", 600)
    load = memory.load_all if hasattr(memory, "load_all") else memory.load

    def slow(key: Any, *more: Any) -> Any:
        found = load(key, *more)
        if "key" in key:
            Telling.delete(memory, "key")
            until(lambda: not store._shared.state().copies._asking)  # type: ignore[union-attr]
        return found

    setattr(memory, load.__name__, slow)
    found = store.load("key")
    assert isinstance(found, Entry)
    assert store.peek("key") is None
    rest(store)  # which the memory holds by now


def test_no_heartbeat_begins_on_a_loop_that_is_about_to_end() -> None:
    """A loop may live for one request: what its shutdown has closed is not opened again."""

    class Awaited(Telling):
        opened = late = 0
        over = False

        async def load(self, key: str, at_least: int = 0) -> Entry | None:  # type: ignore[override]
            return super().load(key, at_least)

        async def heartbeat(self, listener: str, number: int) -> None:  # type: ignore[override]
            self.opened += 1
            self.late += self.over
            sent.set()
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        near = with_copies(StorePair(Telling(), memory), NearCache(), None, 0.0)  # type: ignore[arg-type]
        pairs.append(near)
        assert near.asynchronous is not None
        await near.asynchronous.load("key")
        heartbeats.append(near.asynchronous._shared.state().copies.invalidations.sender)  # type: ignore[attr-defined]
        await asyncio.wait_for(sent.wait(), LIMIT)

        async def ends() -> Any:
            try:
                yield
            finally:  # as the store's own connections are closed
                memory.over = True
                for number in range(10):
                    await asyncio.sleep(0)
                    heartbeats[0].send(number)
                await asyncio.sleep(0.05)

        kept.append(ends())
        await anext(kept[0])

    memory, pairs, heartbeats, kept = Awaited(), list[Any](), list[Any](), list[Any]()
    sent = asyncio.Event()
    asyncio.run(main())
    assert memory.over
    assert memory.opened >= 1
    assert memory.late == 0
    for number in range(10):
        heartbeats[0].send(number)  # the loop is closed


def test_near_and_push_share_one_clock() -> None:
    """The tests' clock stands in for both."""
    assert near.time is invalidation.time is time
