"""The contract of a store as tests, for the stores here and for one of your own.

A store that takes a clock joins with one fixture::

    from sharedsession.testing.stores import Clock, StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, clock: Clock) -> MyStore:
            return MyStore(clock=clock)

An async store joins `AsyncStoreConformance` in the same way. All its calls run on one event loop,
in a thread of its own; where the store must be made on that loop, its fixture takes the fixture
``loop`` and uses ``loop.run(coroutine)``. A store whose server keeps the time overrides the fixture
``advance`` too, with a function that lets the given number of seconds pass there.

What happens when the store cannot be reached is a class of its own, `OutageConformance` and
`AsyncOutageConformance`, with one fixture more: ``outage``, a function that returns a context
manager in whose ``with`` block the store is unreachable; nothing is lost by that. The fixture
``timeout`` says in how many seconds each call must have failed then, by default six.

Each row of the contract is written once: an async store is called through `Awaited`, so threads
that race on an ordinary store become tasks that race on one loop. Keys are new in every test, so
a store may keep what earlier tests left. For plain ``assert`` statements to explain themselves, put
``pytest.register_assert_rewrite("sharedsession.testing.stores")`` into ``conftest.py``.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from .._core.cookie import new_id, store_key
from ..exceptions import StoreUnavailable, TooLarge
from ..stores.base import AsyncStore, Entry, Store, Sweeper
from ._clock import Clock

__all__ = [
    "AsyncOutageConformance",
    "AsyncStoreConformance",
    "Awaited",
    "Clock",
    "LoopThread",
    "OutageConformance",
    "StoreConformance",
]

T = TypeVar("T")
RACERS = 8
DAY = 24 * 60 * 60
LONGEST = 100 * 365 * DAY  # of the lifetimes that can be set
LONGEST_CALL = 30.0


class LoopThread:
    """An event loop that runs in a thread of its own while the ``with`` block lasts."""

    def __enter__(self) -> LoopThread:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=[self._live(started)])
        self._thread.start()
        self._loop = started.result(LONGEST_CALL)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what ``coroutine`` returns on the loop; Any: it yields only to the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LONGEST_CALL)

    async def _live(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        self._end = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._end.wait()


class Awaited:
    """An async store as an ordinary one, whose every call is a task on the given loop."""

    blocking = True

    def __init__(self, store: AsyncStore, loop: LoopThread) -> None:
        self._store, self._loop = store, loop

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._loop.run(self._store.load(key, at_least))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        return self._loop.run(self._store.create(key, data, ttl, owner))

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return self._loop.run(self._store.replace(key, entry, data, ttl, owner, at_least))

    def touch(self, key: str, ttl: int) -> bool:
        return self._loop.run(self._store.touch(key, ttl))

    def __getattr__(self, name: str) -> Any:  # an ability beyond the five verbs, if there is one
        awaited = getattr(self._store, name)
        return lambda *arguments: self._loop.run(awaited(*arguments))

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        return self._loop.run(self._store.delete(key, entry))


def new_key() -> str:
    """Return a key as the core makes them: 43 characters of URL-safe base64."""
    return store_key(new_id(), "")


def race(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at once and return the answers in the order of the calls."""
    barrier = threading.Barrier(len(calls))

    def at_once(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(at_once, calls))


def stored(store: Store, key: str, data: bytes = b"data", ttl: int = 60) -> Entry:
    """Return the entry of a session that has just been created."""
    entry = store.create(key, data, ttl)
    assert entry is not None, "a free key was called taken"
    return entry


def found(store: Store, key: str) -> Entry:
    """Return the entry that is there."""
    entry = store.load(key)
    assert entry is not None, "the store lost an entry"
    return entry


class StoreConformance:
    """What every store keeps to. Join by a subclass with a fixture ``store``."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock to give to the store."""
        return Clock()

    @pytest.fixture
    def advance(self, clock: Clock) -> Callable[[float], None]:
        """Let time pass for the store; for one that takes no clock, override this."""
        return clock.advance

    @pytest.fixture
    def subject(self, store: Store) -> Store:
        """The store as the tests call it."""
        return store

    @pytest.fixture
    def key(self) -> str:
        """A key that no test has used."""
        return new_key()

    @pytest.fixture(params=["absent", "expired", "deleted"])
    def gone(
        self,
        request: pytest.FixtureRequest,
        subject: Store,
        key: str,
        advance: Callable[[float], None],
    ) -> Entry:
        """In each way in which ``key`` can be gone: the entry it had (absent: another key's)."""
        entry = stored(subject, new_key() if request.param == "absent" else key, b"old", 60)
        if request.param == "expired":
            advance(60)
        elif request.param == "deleted":
            subject.delete(key)
        return entry

    # gone is gone, in every verb

    def test_load_of_a_gone_key_is_none(self, subject: Store, key: str, gone: Entry) -> None:
        """Absent, expired and deleted look the same, whatever version the caller asks for."""
        assert subject.load(key) is None
        assert subject.load(key, at_least=5) is None

    def test_a_gone_key_is_free(self, subject: Store, key: str, gone: Entry) -> None:
        """`create` takes the place of what is gone, swept or not, and begins at version 1."""
        created = stored(subject, key, b"new")
        assert (created.data, created.version) == (b"new", 1)
        assert found(subject, key).data == b"new"

    def test_replace_does_not_revive(self, subject: Store, key: str, gone: Entry) -> None:
        """`replace` of what is gone is refused, and stores nothing."""
        assert subject.replace(key, gone, b"revived", 60) is None
        assert subject.load(key) is None

    def test_touch_does_not_revive(self, subject: Store, key: str, gone: Entry) -> None:
        """`touch` of what is gone says so, and brings nothing back."""
        assert subject.touch(key, 600) is False
        assert subject.load(key) is None

    def test_delete_of_a_gone_key_is_fine(self, subject: Store, key: str, gone: Entry) -> None:
        """`delete` may be repeated; only with an entry it tells that there is nothing to remove."""
        assert subject.delete(key) is True
        assert subject.delete(key, gone) is False
        assert subject.load(key) is None

    def test_an_entry_does_not_outlive_its_session(
        self, subject: Store, key: str, gone: Entry
    ) -> None:
        """Under a key that was taken anew the old entry fits no more, though the version does."""
        created = stored(subject, key, b"new")
        assert created.version == gone.version
        assert subject.replace(key, gone, b"old again", 60) is None
        assert subject.delete(key, gone) is False
        assert found(subject, key).data == b"new"

    # create and load

    def test_created_is_found(self, subject: Store, key: str) -> None:
        """What `create` returns is what `load` finds: data, version 1, the same token."""
        created = stored(subject, key, b"data")
        loaded = found(subject, key)
        assert (loaded.data, loaded.version) == (b"data", 1)
        assert (created.data, created.version, created.token) == (b"data", 1, loaded.token)

    def test_create_does_not_overwrite(self, subject: Store, key: str) -> None:
        """A key that is taken stays as it is: data, version, token, lifetime."""
        first = stored(subject, key, b"first")
        assert subject.create(key, b"second", 60) is None
        assert subject.create(key, b"first", 60) is None
        loaded = found(subject, key)
        assert (loaded.data, loaded.version, loaded.token) == (b"first", 1, first.token)

    def test_a_refused_create_prolongs_nothing(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """The lifetime of a key that is taken is its own."""
        stored(subject, key, ttl=60)
        assert subject.create(key, b"second", 6000) is None
        advance(60)
        assert subject.load(key) is None

    def test_one_of_many_creates_wins(self, subject: Store, key: str) -> None:
        """Of creates that race, one succeeds, and its data is what is stored."""
        calls = [partial(subject.create, key, b"%d" % n, 60) for n in range(RACERS)]
        winners = [entry for entry in race(calls) if entry is not None]
        assert len(winners) == 1
        assert found(subject, key).data == winners[0].data

    def test_the_store_has_the_last_word_on_versions(self, subject: Store, key: str) -> None:
        """A floor that the store itself does not reach is no reason to find nothing."""
        stored(subject, key)
        loaded = subject.load(key, at_least=1000)
        assert loaded is not None
        assert loaded.version == 1

    # replace

    def test_replaced_is_found(self, subject: Store, key: str) -> None:
        """What `replace` returns is what `load` finds: the new data, the next version."""
        created = stored(subject, key, b"one")
        replaced = subject.replace(key, found(subject, key), b"two", 60)
        loaded = found(subject, key)
        assert replaced is not None
        assert (loaded.data, loaded.version) == (b"two", 2)
        assert (replaced.data, replaced.version, replaced.token) == (b"two", 2, loaded.token)
        assert loaded.token != created.token

    def test_what_a_write_returned_can_be_replaced(self, subject: Store, key: str) -> None:
        """The entry of a write needs no load before the next one, however many there are."""
        entry = stored(subject, key)
        for count in range(2, 12):
            replaced = subject.replace(key, entry, b"%d" % count, 60)
            assert replaced is not None
            assert replaced.version == count
            entry = replaced
        assert found(subject, key).data == b"11"

    def test_a_stale_entry_is_refused(self, subject: Store, key: str) -> None:
        """Another write came first: `replace` answers None and changes nothing, however late."""
        stale = stored(subject, key, b"0")
        entry: Entry | None = stale
        for count in range(1, 8):
            assert entry is not None
            entry = subject.replace(key, entry, b"%d" % count, 60)
            assert subject.replace(key, stale, b"late", 60) is None
            loaded = found(subject, key)
            assert (loaded.data, loaded.version) == (b"%d" % count, count + 1)

    def test_the_same_data_is_a_write_too(self, subject: Store, key: str) -> None:
        """Data that is equal does not make an entry fit: the token does."""
        stale = stored(subject, key, b"same")
        assert subject.replace(key, stale, b"same", 60) is not None
        assert subject.replace(key, stale, b"same", 60) is None

    def test_an_entry_of_another_key_is_refused(self, subject: Store, key: str) -> None:
        """An entry belongs to the key under which it was found."""
        stored(subject, key, b"mine")
        other = stored(subject, new_key(), b"mine")
        assert subject.replace(key, other, b"theirs", 60) is None
        assert found(subject, key).data == b"mine"

    @pytest.mark.parametrize(
        ("at_least", "version"), [(0, 2), (1, 2), (2, 3), (41, 42), (2**40, 2**40 + 1)]
    )
    def test_a_version_goes_above_the_floor(
        self, subject: Store, key: str, at_least: int, version: int
    ) -> None:
        """The version after a replace is one above the larger of the entry's and the floor."""
        replaced = subject.replace(key, stored(subject, key), b"new", 60, at_least=at_least)
        assert replaced is not None
        assert replaced.version == version
        assert found(subject, key).version == version

    def test_a_floor_does_not_lower_the_version(self, subject: Store, key: str) -> None:
        """Versions of one session only grow."""
        high = subject.replace(key, stored(subject, key), b"new", 60, at_least=9)
        assert high is not None
        higher = subject.replace(key, high, b"newer", 60, at_least=3)
        assert higher is not None
        assert higher.version == 11

    @pytest.mark.parametrize("ttl", [10, 1000], ids=["shorter", "longer"])
    def test_replace_gives_its_own_lifetime(
        self, subject: Store, key: str, advance: Callable[[float], None], ttl: int
    ) -> None:
        """After a replace its lifetime counts, shorter or longer than the one before."""
        replaced = subject.replace(key, stored(subject, key, ttl=100), b"new", ttl)
        advance(ttl - 5)
        assert found(subject, key).data == b"new"
        advance(5)
        assert replaced is not None
        assert subject.load(key) is None

    def test_a_refused_replace_prolongs_nothing(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """A write that lost leaves the lifetime alone too."""
        stale = stored(subject, key)
        assert subject.replace(key, stale, b"new", 60) is not None
        assert subject.replace(key, stale, b"late", 6000) is None
        advance(60)
        assert subject.load(key) is None

    def test_one_of_many_replaces_wins(self, subject: Store, key: str) -> None:
        """Of replaces that race from the same entry, one succeeds, and its data is stored."""
        entry = stored(subject, key)
        for _ in range(5):
            calls = [partial(subject.replace, key, entry, b"%d" % n, 60) for n in range(RACERS)]
            winners = [replaced for replaced in race(calls) if replaced is not None]
            assert len(winners) == 1
            entry = found(subject, key)
            assert entry.data == winners[0].data

    def test_increments_add_up(self, subject: Store, key: str) -> None:
        """Load, replace, and again when another write came first: no increment is lost."""
        stored(subject, key, b"0")

        def increment() -> None:
            for _ in range(5):
                while True:
                    entry = found(subject, key)
                    if subject.replace(key, entry, b"%d" % (int(entry.data) + 1), 60):
                        break

        race([increment] * RACERS)
        assert found(subject, key).data == b"%d" % (5 * RACERS)
        assert found(subject, key).version == 5 * RACERS + 1

    # touch and delete

    def test_touch_changes_the_lifetime_alone(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """Data, version and token stay; the entry lives as long as the touch says."""
        stored(subject, key, b"data", 60)
        before = found(subject, key)
        advance(50)
        assert subject.touch(key, 100) is True
        advance(90)
        after = found(subject, key)
        assert (after.data, after.version, after.token) == (b"data", 1, before.token)
        advance(10)
        assert subject.load(key) is None

    def test_touch_can_shorten(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """A touch sets the lifetime, it does not only prolong it."""
        stored(subject, key, ttl=600)
        assert subject.touch(key, 10) is True
        advance(10)
        assert subject.load(key) is None

    def test_touch_is_no_conflict(self, subject: Store, key: str) -> None:
        """An entry that was loaded before a touch can still be replaced."""
        entry = stored(subject, key)
        assert subject.touch(key, 100) is True
        assert subject.replace(key, entry, b"new", 60) is not None

    def test_deleted_is_gone_for_good(self, subject: Store, key: str) -> None:
        """After `delete`, neither the entry of before nor a touch brings anything back."""
        entry = stored(subject, key)
        other = new_key()
        stored(subject, other, b"other")
        assert subject.delete(key) is True
        assert subject.replace(key, entry, b"late", 60) is None
        assert subject.touch(key, 60) is False
        assert subject.load(key) is None
        assert found(subject, other).data == b"other"

    @pytest.mark.parametrize("as_", ["created", "replaced", "loaded", "loaded before a touch"])
    def test_an_entry_that_is_held_is_deleted(self, subject: Store, key: str, as_: str) -> None:
        """`delete` with what a verb returned removes it for good; a touch is no write."""
        other = new_key()
        stored(subject, other, b"other")
        entry: Entry | None = stored(subject, key)
        if as_ == "replaced":
            assert entry is not None
            entry = subject.replace(key, entry, b"new", 60)
        elif as_ != "created":
            entry = found(subject, key)
        if as_ == "loaded before a touch":
            assert subject.touch(key, 100) is True
        assert entry is not None
        assert subject.delete(key, entry) is True
        assert subject.load(key) is None
        assert subject.replace(key, entry, b"late", 60) is None
        assert subject.touch(key, 60) is False
        assert subject.delete(key, entry) is False
        assert found(subject, other).data == b"other"

    def test_what_was_overtaken_is_not_deleted(self, subject: Store, key: str) -> None:
        """Another write came first: `delete` with an entry is False and removes nothing."""
        stale = stored(subject, key, b"same")
        other = stored(subject, new_key(), b"same")
        entry: Entry | None = stale
        for _ in range(7):
            assert entry is not None
            entry = subject.replace(key, entry, b"same", 60)
            assert subject.delete(key, stale) is False
            assert subject.delete(key, other) is False
            assert found(subject, key).data == b"same"
        assert entry is not None
        assert subject.delete(key, entry) is True

    def test_either_the_delete_or_the_replace_wins(self, subject: Store) -> None:
        """Of a delete and a replace of one entry that race, one succeeds; what it says is so."""
        for number in range(10):
            key = new_key()
            entry = stored(subject, key)
            calls: list[Callable[[], object]] = [
                partial(subject.delete, key, entry),
                partial(subject.replace, key, entry, b"new", 60),
            ]
            turn = 1 if number % 2 else -1  # who arrives last at the start often goes first
            deleted, replaced = race(calls[::turn])[::turn]
            assert deleted is (replaced is None)
            assert (subject.load(key) is None) is deleted

    def test_delete_wins_over_a_replace_in_flight(self, subject: Store) -> None:
        """Whichever of a delete and a replace is first, nothing is left of the session."""
        for number in range(10):
            key = new_key()
            entry = stored(subject, key)
            calls: list[Callable[[], object]] = [
                partial(subject.delete, key),
                partial(subject.replace, key, entry, b"late", 60),
                partial(subject.touch, key, 60),
            ]
            race(calls[:: 1 if number % 2 else -1])
            assert subject.load(key) is None

    # values

    @pytest.mark.parametrize(
        "data",
        [b"", bytes(range(256)), bytes(100), b"\xff" * 100, b"0", b" \r\n data \r\n ", None],
        ids=["empty", "every byte", "zeros", "ones", "a digit", "white space", "1 MiB"],
    )
    def test_bytes_come_back_as_they_were(
        self, subject: Store, key: str, data: bytes | None
    ) -> None:
        """Data is opaque: any bytes, none of them, or a mebibyte, created or replaced."""
        expected = secrets.token_bytes(2**20) if data is None else data
        created = stored(subject, key, expected)
        loaded = found(subject, key)
        assert loaded.data == expected
        assert type(loaded.data) is bytes
        assert subject.replace(key, created, expected[::-1], 60) is not None
        assert found(subject, key).data == expected[::-1]

    def test_keys_do_not_meet(self, subject: Store) -> None:
        """Keys that differ in one character, in its case or in length are different sessions."""
        base = new_key()[:-2]
        keys = [base, base + "a", base + "A", base + "aa", base + "-", base + "_"]
        entries = [stored(subject, key, key.encode()) for key in keys]
        assert subject.replace(keys[1], entries[1], b"new", 60) is not None
        subject.delete(keys[2])
        after = [subject.load(key) for key in keys]
        expected = [keys[0].encode(), b"new", None, *(key.encode() for key in keys[3:])]
        assert [entry and entry.data for entry in after] == expected

    def test_data_that_is_too_large_is_refused_whole(self, subject: Store, key: str) -> None:
        """Data of 6 MiB is stored as it is, or refused by `TooLarge`, which changes nothing."""
        entry, large = stored(subject, key, b"small"), bytes(6 * 2**20)
        try:
            replaced = subject.replace(key, entry, large, 60)
        except TooLarge:
            assert found(subject, key) == entry
        else:
            assert replaced is not None
            assert found(subject, key).data == large

    @pytest.mark.parametrize("days", [29, 31, 400])
    def test_long_lifetimes_are_lifetimes(
        self, subject: Store, key: str, advance: Callable[[float], None], days: int
    ) -> None:
        """Weeks or years are no moment in the past, in any verb that takes a lifetime."""
        ttl = days * DAY
        entry = stored(subject, key, b"long", ttl)
        assert found(subject, key).data == b"long"
        assert subject.replace(key, entry, b"longer", ttl) is not None
        assert found(subject, key).data == b"longer"
        assert subject.touch(key, ttl) is True
        advance(ttl - 60)
        assert found(subject, key).data == b"longer"
        advance(60)
        assert subject.load(key) is None

    def test_the_longest_lifetime_is_a_hundred_years(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """No moment in the past, in any verb; a store may end it earlier, but not in a year."""
        entry = stored(subject, key, b"long", LONGEST)
        assert found(subject, key).data == b"long"
        assert subject.replace(key, entry, b"longer", LONGEST) is not None
        assert found(subject, key).data == b"longer"
        assert subject.touch(key, LONGEST) is True
        advance(400 * DAY)
        assert found(subject, key).data == b"longer"

    def test_the_shortest_lifetime_is_one_second(
        self, subject: Store, key: str, advance: Callable[[float], None]
    ) -> None:
        """A lifetime of one second is neither refused nor without an end."""
        stored(subject, key, ttl=1)
        advance(1)
        assert subject.load(key) is None

    def test_the_expiry_is_known_or_none(self, subject: Store, key: str) -> None:
        """Where a store tells when an entry expires, all verbs tell the same."""
        created, loaded = stored(subject, key, ttl=60), found(subject, key)
        assert created.expires is None or created.expires == loaded.expires
        replaced = subject.replace(key, loaded, b"new", 600)
        assert replaced is not None
        if replaced.expires is not None and loaded.expires is not None:
            assert 500 < replaced.expires - loaded.expires < 600

    @pytest.mark.parametrize(
        "owner", [None, "", "42", "Zoë Müller 山田 🦜", "o'; DROP TABLE sharedsession; --"]
    )
    def test_any_owner_is_taken(self, subject: Store, key: str, owner: str | None) -> None:
        """The owner is text of any script, or none, and may change with each write."""
        created = subject.create(key, b"data", 60, owner)
        assert created is not None
        replaced = subject.replace(key, created, b"new", 60, owner and owner[::-1])
        assert replaced is not None
        assert subject.replace(key, replaced, b"newer", 60, owner=None) is not None

    def test_entries_are_values(self, subject: Store, key: str) -> None:
        """An entry is frozen, and the token is something that can be kept and compared."""
        entry = stored(subject, key)
        assert type(entry.version) is int
        assert isinstance(entry.token, bytes)
        with pytest.raises(AttributeError):
            entry.version = 2  # type: ignore[misc]  # this is what is refused
        assert found(subject, key) == found(subject, key)

    # many at once, and sweeping

    def test_calls_at_once_do_not_mix(self, subject: Store) -> None:
        """Each caller sees the data of its own key, whatever the others do meanwhile."""

        def live(name: bytes) -> None:
            key = new_key()
            entry = stored(subject, key, name)
            for count in range(8):
                assert found(subject, key).data == entry.data
                replaced = subject.replace(key, entry, name * count, 60)
                assert replaced is not None
                assert subject.touch(key, 90)
                entry = replaced
            subject.delete(key)
            assert subject.load(key) is None

        race([partial(live, b"caller %d " % n) for n in range(RACERS)])

    def test_several_are_loaded_as_one_is(
        self, subject: Store, advance: Callable[[float], None]
    ) -> None:
        """Where a store can load several at once: each as `load` has it, in the order asked for."""
        load_all = getattr(subject, "load_all", None)
        if load_all is None:
            return
        short, long, ended, absent = (new_key() for _ in range(4))
        stored(subject, short, ttl=10)
        stored(subject, long, ttl=600)
        stored(subject, ended, ttl=600)
        subject.delete(ended)
        keys = [absent, long, ended, short, long]
        before = [subject.load(key) for key in keys]
        assert [each and replace(each, expires=None) for each in load_all(keys)] == [
            each and replace(each, expires=None) for each in before
        ]
        advance(10)
        assert [each is not None for each in load_all(keys)] == [False, True, False, False, True]

    def test_a_sweep_takes_expired_entries_alone(
        self, subject: Store, advance: Callable[[float], None]
    ) -> None:
        """Where a store can sweep: at most as many as it may, all in the end, never a live one."""
        if not isinstance(subject, Sweeper):
            return
        for _ in range(7):
            stored(subject, new_key(), ttl=10)
        alive = [new_key() for _ in range(3)]
        for key in alive:
            stored(subject, key, ttl=600)
        advance(10)
        swept = [subject.sweep(2) for _ in range(7)]
        assert max(swept) == 2
        assert sum(swept) >= 7
        assert subject.sweep(0) == 0
        assert all(found(subject, key) for key in alive)


class _OnALoop:
    """How the tests call an async store."""

    @pytest.fixture
    def loop(self) -> Iterator[LoopThread]:
        """The event loop on which the store is called."""
        with LoopThread() as loop:
            yield loop

    @pytest.fixture
    def subject(self, store: AsyncStore, loop: LoopThread) -> Store:
        """The store as the tests call it."""
        return Awaited(store, loop)


class AsyncStoreConformance(_OnALoop, StoreConformance):
    """The same for an async store. Join by a subclass with a fixture ``store``."""

    # cancellation: a request that ends leaves the store usable, and the others their answers

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20])
    def test_cancelled_loads_mix_up_nothing(
        self, store: AsyncStore, loop: LoopThread, turns: int
    ) -> None:
        """Whichever call is cancelled, and when: all others, and later ones, see their own data."""

        async def scenario() -> None:
            keys = await _filled(store, RACERS)
            for first in (0, 1, 0):
                loads = [asyncio.ensure_future(store.load(key)) for key in keys]
                await _turns(turns)
                for each in loads[first::2]:
                    each.cancel()
                for key, load in zip(keys, loads, strict=True):
                    _assert_own(key, await _ended(load))
                for key in keys:
                    _assert_own(key, await _ended(asyncio.ensure_future(store.load(key))))

        loop.run(scenario())

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20])
    def test_a_cancelled_write_is_made_whole_or_not_at_all(
        self, store: AsyncStore, loop: LoopThread, turns: int
    ) -> None:
        """The session goes on as it was before, or after; others' sessions are as they were."""

        async def scenario() -> None:
            keys = await _filled(store, RACERS)
            for round_ in range(3):
                entries = [await store.load(key) for key in keys]
                new = [key.encode() + b" %d" % round_ for key in keys]
                writes = [
                    asyncio.ensure_future(store.replace(key, entry, data, 60))
                    for key, entry, data in zip(keys, entries, new, strict=True)
                    if entry is not None
                ]
                await _turns(turns)
                for each in writes[::2]:
                    each.cancel()
                for write, data in zip(writes, new, strict=True):
                    replaced = await _ended(write)
                    assert isinstance(replaced, asyncio.CancelledError) or replaced.data == data
                for key in keys:
                    await _go_on(store, key)

        loop.run(scenario())


async def _filled(store: AsyncStore, count: int) -> list[str]:
    keys = [new_key() for _ in range(count)]
    for key in keys:
        assert await store.create(key, key.encode(), 60) is not None
    return keys


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _ended(call: asyncio.Future[Any]) -> Any:  # what it returned, or that it was cancelled
    await asyncio.wait([call], timeout=LONGEST_CALL)
    assert call.done(), "a call of the store did not end"
    return asyncio.CancelledError() if call.cancelled() else call.result()


def _assert_own(key: str, answer: Any) -> None:
    if isinstance(answer, asyncio.CancelledError):
        return
    assert answer is not None, "the store lost an entry"
    assert answer.data.startswith(key.encode()), "a call was given the answer of another one"


async def _go_on(store: AsyncStore, key: str) -> None:
    """Write once more; a write that was cancelled may still be on its way, and come first."""
    for _ in range(3):
        entry = await _ended(asyncio.ensure_future(store.load(key)))
        _assert_own(key, entry)
        if await store.replace(key, entry, key.encode(), 60) is not None:
            return
    raise AssertionError("a session could not be written to after a cancelled write")


class OutageConformance:
    """What every store keeps to when it cannot be reached.

    Join by a subclass with the fixtures ``store`` and ``outage``.
    """

    @pytest.fixture
    def timeout(self) -> float:
        """In how many seconds a call has ended: the store's own, and some for a busy machine."""
        return 6.0

    @pytest.fixture
    def subject(self, store: Store) -> Store:
        """The store as the tests call it."""
        return store

    @pytest.mark.parametrize("verb", ["load", "create", "replace", "touch", "delete", "delete it"])
    def test_an_outage_is_no_answer(
        self, subject: Store, outage: Outage, timeout: float, verb: str
    ) -> None:
        """Every verb raises `StoreUnavailable` in time, and nothing else; then works at once."""
        key, free = new_key(), new_key()
        entry = stored(subject, key, b"before", 600)
        calls: dict[str, Callable[[], object]] = {
            "load": lambda: subject.load(key),
            "create": lambda: subject.create(free, b"after", 60),
            "replace": lambda: subject.replace(key, entry, b"after", 600),
            "touch": lambda: subject.touch(key, 600),
            "delete": lambda: subject.delete(key),
            "delete it": lambda: subject.delete(key, entry),
        }
        with outage():
            for _ in range(2):
                raises_in_time(calls[verb], timeout)
        loaded = subject.load(key)
        if loaded is None:  # whether a write was made is not known
            assert verb.startswith("delete")
        elif verb == "replace":
            assert loaded.data in (b"before", b"after")
        else:  # a touch may have been made
            assert replace(loaded, expires=None) == replace(entry, expires=None)
        if loaded is not None:
            assert subject.replace(key, loaded, b"later", 60) is not None
            assert found(subject, key).data == b"later"

    def test_many_calls_in_an_outage_mix_up_nothing(
        self, subject: Store, outage: Outage, timeout: float
    ) -> None:
        """All that wait are told in time; afterwards each call has the answer that is its own."""
        keys = [new_key() for _ in range(RACERS)]
        for key in keys:
            stored(subject, key, key.encode(), 600)
        with outage():
            race([partial(raises_in_time, partial(subject.load, key), timeout) for key in keys])
        answers = race([partial(subject.load, key) for key in reversed(keys)])
        assert [entry and entry.data.decode() for entry in answers] == keys[::-1]
        for key in keys:
            assert found(subject, key).data == key.encode()

    def test_an_outage_revives_nothing(self, subject: Store, outage: Outage) -> None:
        """What was removed before an outage is gone after it."""
        key = new_key()
        entry = stored(subject, key, b"before", 600)
        subject.delete(key)
        with outage():
            pass
        assert subject.load(key) is None
        assert subject.replace(key, entry, b"late", 60) is None


class AsyncOutageConformance(_OnALoop, OutageConformance):
    """The same for an async store."""


Outage = Callable[[], AbstractContextManager[object]]


def raises_in_time(call: Callable[[], object], timeout: float) -> None:
    """Make a call that must end in a `StoreUnavailable` before it has taken too long."""
    ended: Future[object] = Future()

    def work() -> None:
        try:
            ended.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            ended.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        error = ended.exception(timeout)
    except TimeoutError:
        raise AssertionError(f"a call in an outage did not end within {timeout} s") from None
    assert error is not None, f"a call in an outage was answered: {ended.result()!r}"
    assert isinstance(error, StoreUnavailable), f"a call in an outage raised {error!r}"
