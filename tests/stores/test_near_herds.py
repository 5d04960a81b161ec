"""Copies and herds: what many callers of one process, at the same time, cost the store."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from sharedsession._core.settings import NearCache
from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.base import ABSENT, FRESHEST, Entry, StorePair
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.near import copies, with_copies

HERD = 20
LIMIT = 30.0
SETTINGS = NearCache(lease=0.5, lease_with_push=0)
LASTING = NearCache(lease=30.0, lease_with_push=0)


class Held:
    """A store of threads whose loads wait until they are let go."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.calls: Counter[str] = Counter()
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.fails = False
        self.blocking = True

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        self.calls["load"] += 1
        entry = self.memory.load(key)
        self.begun.release()
        assert self.go.wait(LIMIT)
        if self.fails:
            raise StoreUnavailable("as the test says")
        return entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


class HeldAwaited:
    """The same for tasks."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.calls: Counter[str] = Counter()
        self.go = asyncio.Event()
        self.fails = False

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        self.calls["load"] += 1
        entry = self.memory.load(key)
        await self.go.wait()
        if self.fails:
            raise StoreUnavailable("as the test says")
        return entry

    async def create(self, *arguments: Any) -> Entry | None:
        return self.memory.create(*arguments)

    async def replace(self, *arguments: Any) -> Entry | None:
        return self.memory.replace(*arguments)

    async def touch(self, *arguments: Any) -> bool:
        return self.memory.touch(*arguments)

    async def delete(self, *arguments: Any) -> bool:
        return self.memory.delete(*arguments)


Outcome = tuple[list[Any], Counter[str]]
# What the test does while the first caller waits: given the store, and the copies before it.
Meanwhile = Callable[[Any, Any], Any]


def nothing(held: Any, near: Any) -> None:
    """Let it be."""


def fails(held: Any, near: Any) -> None:
    held.fails = True


def writes(held: Any, near: Any) -> Any:
    """Write by the way of the copies, as a request of the same process does."""
    entry = held.memory.load("key")
    assert entry is not None
    return near.replace("key", entry, b"newer", 60)


def by_threads(at_least: list[int], meanwhile: Meanwhile, *, exists: bool = True) -> Outcome:
    """Load by so many threads, all while the first of them waits for its answer."""
    held = Held()
    if exists:
        held.memory.create("key", b"data", 60)
    near: Any = with_copies(StorePair(held, None), LASTING, None).sync
    with ThreadPoolExecutor(len(at_least)) as threads:
        first: Future[Any] = threads.submit(near.load, "key", at_least[0])
        assert held.begun.acquire(timeout=LIMIT)
        others = [threads.submit(near.load, "key", each) for each in at_least[1:]]
        askers = sum(each >= FRESHEST for each in at_least[1:])
        assert all(held.begun.acquire(timeout=LIMIT) for _ in range(askers))
        while threads._work_queue.qsize():
            pass
        meanwhile(held, near)
        held.go.set()
        futures = [first, *others]
        return [each.exception(LIMIT) or each.result() for each in futures], held.calls


def by_tasks(at_least: list[int], meanwhile: Meanwhile, *, exists: bool = True) -> Outcome:
    """The same by tasks of one event loop."""

    async def main() -> Outcome:
        held = HeldAwaited()
        if exists:
            held.memory.create("key", b"data", 60)
        near: Any = with_copies(StorePair(None, held), LASTING, None).asynchronous
        tasks = []
        for each in at_least:
            tasks.append(asyncio.create_task(near.load("key", each)))
            await asyncio.sleep(0)
        if (done := meanwhile(held, near)) is not None:
            await done
        held.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return list(found), held.calls

    return asyncio.run(main())


@pytest.fixture(params=[by_threads, by_tasks], ids=["threads", "tasks"])
def herd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Callers of both kinds, who have time: a machine may be slow."""
    monkeypatch.setattr(copies, "OVERDUE", LIMIT)
    run: Callable[..., Outcome] = request.param
    return run


def data(found: list[Any]) -> list[bytes | None]:
    return [None if each is None else each.data for each in found]


def test_who_asks_at_the_same_time_costs_one_load(herd: Callable[..., Outcome]) -> None:
    """Where copies may answer, all of them have what the first one hears."""
    found, calls = herd([1] * HERD, nothing)
    assert data(found) == [b"data"] * HERD
    assert calls["load"] == 1


def test_who_must_not_be_answered_by_a_copy_asks_for_itself(herd: Callable[..., Outcome]) -> None:
    """A moment after a write, for one, or in reload()."""
    found, calls = herd([1, FRESHEST, FRESHEST], nothing)
    assert data(found) == [b"data"] * 3
    assert calls["load"] == 3


def test_who_has_seen_a_newer_version_asks_for_itself(herd: Callable[..., Outcome]) -> None:
    """What the first one hears may be older than that."""
    found, calls = herd([1, 7], nothing)
    assert data(found) == [b"data"] * 2
    assert calls["load"] == 2


def test_what_is_written_meanwhile_is_asked_for_again(herd: Callable[..., Outcome]) -> None:
    """The answer that was on its way is an older one: only who asked for it has it."""
    found, calls = herd([1, 1, 1], writes)
    assert data(found)[0] == b"data"
    assert data(found)[1:] == [b"newer"] * 2
    assert calls["load"] > 1


def test_a_load_that_fails_leaves_the_others_theirs(herd: Callable[..., Outcome]) -> None:
    """Each of them asks, and finds out for itself; none waits for ever."""
    found, calls = herd([1] * 3, fails)
    assert all(isinstance(each, StoreUnavailable) for each in found)
    assert calls["load"] == 3


def test_an_absent_session_costs_one_load_as_well(herd: Callable[..., Outcome]) -> None:
    """For those whose cookie has seen it; one that names no version is asked for by each."""
    found, calls = herd([1] * HERD, nothing, exists=False)
    assert found == [None] * HERD
    assert calls["load"] == 1
    _, calls = herd([1, 0, 0], nothing, exists=False)
    assert calls["load"] == 3


def test_who_is_cancelled_leaves_the_others_theirs() -> None:
    """Neither the one who asks, nor one of those who wait, takes the answer from the others."""

    async def main() -> None:
        for victim in (0, 1):
            held = HeldAwaited()
            held.memory.create("key", b"data", 60)
            near: Any = with_copies(StorePair(None, held), SETTINGS, None).asynchronous
            tasks = []
            for _ in range(4):
                tasks.append(asyncio.create_task(near.load("key", 1)))
                await asyncio.sleep(0)
            tasks[victim].cancel()
            await asyncio.sleep(0.01)
            held.go.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found.pop(victim), asyncio.CancelledError)
            assert data(found) == [b"data"] * 3

    asyncio.run(main())


# --- what is absent -------------------------------------------------------------------------------


@pytest.fixture
def kept() -> tuple[Any, Counter[str]]:
    """A store with copies, and what it is asked."""
    held = Held()
    held.go.set()
    return with_copies(StorePair(held, None), LASTING, None).sync, held.calls


def test_an_absent_key_is_remembered_for_a_lease(kept: tuple[Any, Counter[str]]) -> None:
    """So that a dead cookie, shown with each request, costs no load at each."""
    near, calls = kept
    assert [near.load("key", 1) for _ in range(5)] == [None] * 5
    assert near.peek("key", 1) is ABSENT
    assert calls["load"] == 1


@pytest.mark.parametrize("at_least", [0, FRESHEST])
def test_it_is_remembered_for_those_alone_whose_cookie_has_seen_it(
    kept: tuple[Any, Counter[str]], at_least: int
) -> None:
    """Without a version there is no floor; and where no copy will do, this one will not."""
    near, calls = kept
    near.load("key", 1)
    assert near.peek("key", at_least) is None
    assert near.load("key", at_least) is None
    assert calls["load"] == 2


def test_what_is_created_is_absent_no_more(kept: tuple[Any, Counter[str]]) -> None:
    """By this process: at once."""
    near, _ = kept
    near.load("key", 1)
    near.create("key", b"data", 60)
    assert near.load("key", 1).data == b"data"


def test_an_outage_shows_nothing_as_absent(kept: tuple[Any, Counter[str]]) -> None:
    """Absent is an answer of the store: what a copy remembers of it is none in an outage."""
    near, _ = kept
    near.load("key", 1)
    assert near.outdated("key", 1) is None


# --- a caller that hangs --------------------------------------------------------------------------


def test_a_load_that_hangs_holds_nobody_up() -> None:
    """Its connection may be dead, and the next one alive: others wait for a moment, and then ask
    for themselves; and what was asked for then counts for those who come later."""
    held = Held()
    held.memory.create("key", b"data", 60)
    near: Any = with_copies(StorePair(held, None), SETTINGS, None).sync
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(near.load, "key", 1)
        assert held.begun.acquire(timeout=LIMIT)
        held.load = held.memory.load  # type: ignore[method-assign]  # what hangs goes on to
        for _ in range(3):
            assert near.load("key", 1).data == b"data"
        assert not hanging.done()
        held.go.set()
        assert hanging.result(LIMIT).data == b"data"


def test_an_answer_that_is_overdue_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have asked since, and the session may have been written: it is not told of that."""
    monkeypatch.setattr(copies, "OVERDUE", 0.0)
    held = Held()
    held.memory.create("key", b"data", 60)
    near: Any = with_copies(StorePair(held, None), LASTING, None).sync
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(near.load, "key", 1)
        assert held.begun.acquire(timeout=LIMIT)
        held.load = held.memory.load  # type: ignore[method-assign]
        entry = near.load("key", 1)
        assert near.replace("key", entry, b"newer", 60) is not None
        held.go.set()
        assert slow.result(LIMIT).data == b"data"
        assert near.load("key", 1).data == b"newer"


def test_nobody_is_given_an_answer_older_than_a_lease() -> None:
    """One that was asked for before an end of the session, and takes long to arrive."""

    async def main() -> None:
        held = HeldAwaited()
        entry = held.memory.create("key", b"data", 60)
        near: Any = with_copies(StorePair(None, held), SETTINGS, None).asynchronous
        slow = asyncio.create_task(near.load("key", 1))
        await asyncio.sleep(0.01)
        held.memory.delete("key", entry)  # by another server
        await asyncio.sleep(SETTINGS.lease)
        later = asyncio.create_task(near.load("key", 1))
        await asyncio.sleep(0.01)
        held.go.set()
        assert (await slow).data == b"data"
        assert await later is None

    asyncio.run(main())


def test_who_waits_on_another_loop_is_not_left_alone() -> None:
    """A loop that is closed in the middle of a load takes nothing with it."""
    held = HeldAwaited()
    held.memory.create("key", b"data", 60)
    near: Any = with_copies(StorePair(None, held), SETTINGS, None).asynchronous
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)

    async def leave() -> None:
        asyncio.get_running_loop().create_task(near.load("key", 1))
        await asyncio.sleep(0.01)

    loop.run_until_complete(leave())
    loop.close()

    async def later() -> Entry | None:
        held.go = asyncio.Event()
        held.go.set()
        found: Entry | None = await near.load("key", 1)
        return found

    entry = asyncio.run(later())
    assert entry is not None
    assert entry.data == b"data"
