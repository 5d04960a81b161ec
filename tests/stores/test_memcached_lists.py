"""Memcached: which server keeps a session, and what a changed list of servers does to sessions.

Each store object stands for one application server with a list of its own. What is signed out is
never seen again, though its old copy is still there: the tests look whether it is.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pymemcache
import pytest

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.base import Entry, Store
from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.stores.memcached.ring import LISTS_KEPT, History, Ring, agreed
from sharedsession.stores.memcached.steps import HISTORY
from sharedsession.testing.stores import Awaited, LoopThread, found, new_key, stored
from tests.support.memcached_servers import MemcachedServer, memcached_servers, url_of

Open = Callable[[list[MemcachedServer]], Store]
KEYS = 60
SIGNED_OUT = b"an end mark"


@pytest.fixture(scope="module")
def running() -> Iterator[list[MemcachedServer]]:
    with memcached_servers(4) as servers:
        yield servers


@pytest.fixture
def four(running: list[MemcachedServer]) -> list[MemcachedServer]:
    """Four servers with nothing in them."""
    for server in running:
        server.restart()
    return running


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the store of one more application server, in either colour."""
    stores: list[MemcachedStore] = []
    with LoopThread() as loop:

        def opened(servers: list[MemcachedServer]) -> Store:
            if request.param == "async":
                return Awaited(AsyncMemcachedStore.from_url(url_of(servers), 1.0), loop)
            stores.append(MemcachedStore.from_url(url_of(servers), 1.0))
            return stores[-1]

        yield opened
    for store in stores:
        store.close()


def sessions(store: Store) -> dict[str, Entry]:
    return {key: stored(store, key, key.encode(), 600) for key in (new_key() for _ in range(KEYS))}


def alive(store: Store, keys: object) -> set[str]:
    assert isinstance(keys, dict | set)
    seen = {key: store.load(key) for key in keys}
    for key, entry in seen.items():
        assert entry is None or entry.data in {key.encode(), SIGNED_OUT}
    return {key for key, entry in seen.items() if entry is not None and entry.data != SIGNED_OUT}


def sign_out(store: Store, keys: dict[str, Entry] | set[str]) -> None:
    """As the middleware does: an end mark in the place of what is found; else there is no more."""
    for key in keys:
        entry = store.load(key)
        if entry is not None:
            assert store.replace(key, entry, SIGNED_OUT, 300)


def home(key: str, servers: list[MemcachedServer]) -> MemcachedServer:
    name = Ring([server.name for server in servers]).home(key)
    return next(server for server in servers if server.name == name)


# which server keeps what


def test_both_colours_place_a_thousand_keys_alike(four: list[MemcachedServer]) -> None:
    """What one has stored the other finds, wherever it is, and in whatever order servers stand."""
    three = four[:3]
    store = MemcachedStore.from_url(url_of(three), 5.0)
    backwards = AsyncMemcachedStore.from_url(url_of(three[::-1]), 5.0)
    keys = [new_key() for _ in range(1000)]
    for key in keys:
        stored(store, key, key.encode())
    with LoopThread() as loop:
        for key in keys:
            assert found(Awaited(backwards, loop), key).data == key.encode()
    on = [{key for key in keys if home(key, three) is server} for server in three]
    for server, expected in zip(three, on, strict=True):
        assert expected <= server.listed()
        assert 250 < len(expected) < 420
    store.close()


def test_clients_of_the_users_are_placed_by_the_same_names(four: list[MemcachedServer]) -> None:
    """A store around clients finds what a store from a URL has stored."""
    store = MemcachedStore.from_url(url_of(four), 5.0)
    clients = [pymemcache.PooledClient(("127.0.0.1", each.port)) for each in four]
    keys = sessions(store)
    assert alive(MemcachedStore(clients[::-1]), keys) == set(keys)
    for client in clients:
        client.close()
    store.close()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_a_new_server_takes_its_share_and_nothing_else_moves(count: int) -> None:
    """Of n servers the new one takes about one key in n, and takes it from all others."""
    names = [f"cache{number}.example.org:11211" for number in range(count + 1)]
    before, after = Ring(names[:-1]), Ring(names)
    keys = [secrets.token_hex(32) for _ in range(2000)]
    moved = [key for key in keys if before.home(key) != after.home(key)]
    assert {after.home(key) for key in moved} == {names[-1]}
    assert 0.7 < len(moved) * (count + 1) / len(keys) < 1.3
    assert {before.home(key) for key in moved} == set(names[:-1])


# lists that change, and change back


def test_a_list_changed_and_changed_back_revives_nothing(
    four: list[MemcachedServer], opened: Open
) -> None:
    """A server is added, users sign out, the server is taken away again: they stay signed out."""
    three = four[:3]
    first = opened(three)
    keys = sessions(first)
    stayed = {key for key in keys if home(key, three) is home(key, four)}
    moved = set(keys) - stayed
    assert moved
    assert stayed

    second = opened(four)
    assert alive(second, keys) == stayed
    ended = set(random.sample(sorted(stayed), 5))
    sign_out(second, moved | ended)
    for key in moved:
        assert key in home(key, three).listed()  # the old copy is still there

    third = opened(three)
    assert alive(third, keys) == stayed - ended
    # Not even for an application server that has never heard of the change.
    assert alive(first, keys) == stayed - ended
    # Nor is it found by any other verb; its key is free.
    for key in moved:
        assert third.replace(key, keys[key], b"revived", 600) is None
        assert third.touch(key, 600) is False
    key = moved.pop()
    assert stored(third, key, key.encode()).version == 1
    assert alive(third, {key}) == {key}


def test_a_server_that_returns_with_old_copies_revives_nothing(
    four: list[MemcachedServer], opened: Open
) -> None:
    """Cut off, taken from the list, and put back with all it had in its memory."""
    keys = sessions(opened(four))
    lost = four[1]
    left = [server for server in four if server is not lost]
    lost.pause()
    during = opened(left)
    here = {key for key in keys if home(key, four) is not lost}
    assert alive(during, keys) == here
    sign_out(during, keys)
    lost.resume()
    assert lost.listed() & set(keys) == set(keys) - here
    after = opened(four)
    assert alive(after, keys) == set()
    again = sessions(after)
    assert alive(opened(four), again) == set(again)


def test_a_process_that_saw_the_change_needs_no_witness(
    four: list[MemcachedServer], opened: Open
) -> None:
    """It knows by itself that a copy is an old one, though no server that could tell answers."""
    keys = sessions(opened(four))
    name = f"sharedsession:{HISTORY}"
    before = four[0].tell(f"get {name}")[1]
    four[0].pause()
    assert alive(opened(four[1:]), keys)
    four[0].resume()
    store = opened(four[1:])
    store.load(new_key())
    back = opened(four)
    moved = {key for key in keys if home(key, four) is four[0]}
    assert not alive(back, moved)
    # Even if the returned server were to come back once more as it was.
    four[0].tell(f"set {name} 0 0 {len(before)}\r\n{before}", end="STORED\r\n")
    for server in four[1:]:
        server.kill()
    assert not alive(back, moved)


def test_a_start_while_servers_hang(four: list[MemcachedServer], opened: Open) -> None:
    """Who begins while two of four hang serves the others' sessions after a try or two."""
    keys = sessions(opened(four))
    for server in four[:2]:
        server.pause()
    here = {key for key in keys if home(key, four) in four[2:]}
    store = opened(four)
    failed = 0
    while failed < 3:
        try:
            assert alive(store, here) == here
            break
        except StoreUnavailable:
            failed += 1
    assert failed < 3
    for server in four[:2]:
        server.resume()
    assert alive(store, keys) == set(keys)


@pytest.mark.parametrize("seed", range(12))
def test_processes_that_begin_at_once_agree(four: list[MemcachedServer], seed: int) -> None:
    """In whatever order their steps fall, all have one history, and the first loses nothing."""
    order, url = random.Random(seed), url_of(four[:2])
    stores = [MemcachedStore.from_url(url, 5.0) for _ in range(3)]
    flows: dict[MemcachedStore, tuple[Any, Any]] = {
        store: (store._agree(), None) for store in stores
    }
    key, entry = new_key(), None
    while flows:
        store = order.choice([*flows])
        flow, answer = flows[store]
        try:
            step = flow.send(answer)
            flows[store] = flow, store._ask(step)
        except StopIteration:
            del flows[store]
            entry = entry or stored(store, key, b"first")
    texts = {store._history and store._history.text for store in stores}
    assert len(texts) == 1
    assert {store.load(key) for store in stores} == {entry}
    for store in stores:
        store.close()


def test_a_server_that_is_away_for_a_while_loses_nothing(
    four: list[MemcachedServer], opened: Open
) -> None:
    """With the list unchanged its keys are an outage, and all of them are there afterwards."""
    store = opened(four)
    keys = sessions(store)
    four[2].pause()
    away = {key for key in keys if home(key, four) is four[2]}
    assert alive(store, set(keys) - away) == set(keys) - away
    assert alive(opened(four), set(keys) - away) == set(keys) - away
    for each in (store, opened(four)):
        with pytest.raises(StoreUnavailable, match=four[2].name):
            each.load(next(iter(away)))
    four[2].resume()
    assert alive(store, keys) == set(keys)


def test_different_lists_at_the_same_time(four: list[MemcachedServer], opened: Open) -> None:
    """What was signed out under one list is gone under all, once all have the same again."""
    three = four[1:]
    old, new = opened(four), opened(three)
    keys = sessions(old)
    moved = {key for key in keys if home(key, four) is four[0]}
    for _ in range(4):
        assert not alive(new, moved)
        alive(old, keys)
        alive(new, keys)
    sign_out(new, keys)
    for store in (opened(four), old, opened(four)):
        assert alive(store, keys) == set()
    again = sessions(old)
    assert alive(opened(four), again) == set(again)


def test_a_restarted_server_takes_only_its_own_sessions_along(
    four: list[MemcachedServer], opened: Open
) -> None:
    """What it had is lost; nobody else's session is, for those who know it and for new ones."""
    store = opened(four)
    keys = sessions(store)
    four[3].restart()
    left = {key for key in keys if home(key, four) is not four[3]}
    assert alive(store, keys) == left
    assert alive(opened(four), keys) == left
    more = sessions(store)
    assert alive(opened(four), more) == set(more)


def test_lists_without_a_server_in_common_need_another_prefix(
    four: list[MemcachedServer], opened: Open
) -> None:
    """Where no server can tell of the list in between, only a new prefix can: as documented."""
    keys = sessions(opened(four[:1]))
    other = opened(four[1:2])
    assert alive(other, keys) == set()
    back = opened(four[:1])
    assert alive(back, keys) == set(keys)
    url = url_of(four[:1]) + "?prefix=later:"
    fresh = MemcachedStore.from_url(url)
    assert alive(fresh, keys) == set()
    fresh.close()


def test_a_changed_list_is_told(
    four: list[MemcachedServer], opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, by the first that comes with the new list; not at a start, nor at a restart."""
    caplog.set_level(logging.WARNING, "sharedsession")
    for servers in (four[:2], four[:2], four[:2][::-1]):
        sessions(opened(servers))
    four[0].restart()
    opened(four[:2]).load(new_key())
    assert caplog.text == ""
    for servers in (four[:3], four[:3]):
        sessions(opened(servers))
    assert caplog.text.count("list of Memcached servers has changed") == 1


def test_applications_with_lists_of_their_own_keep_apart_by_prefix(
    four: list[MemcachedServer], caplog: pytest.LogCaptureFixture
) -> None:
    """Each with its prefix, they share a server without losing each other's sessions."""
    shop = MemcachedStore.from_url(url_of(four[:3]) + "?prefix=shop:")
    blog = MemcachedStore.from_url(url_of(four[2:]) + "?prefix=blog:")
    theirs, ours = sessions(shop), sessions(blog)
    assert alive(shop, theirs) == set(theirs)
    assert alive(blog, ours) == set(ours)
    assert alive(blog, theirs) == set()
    assert caplog.text == ""
    shop.close()
    blog.close()


# the history


def test_histories_that_differ_only_in_length_are_one() -> None:
    """The longest counts, wherever it is found; the same findings make the same next history."""
    first = agreed([], ("a", "b"))
    second = agreed([first.text], ("a", "b", "c"))
    third = agreed([second.text, first.text], ("a", "b"))
    assert third.text == agreed([first.text, second.text, first.text], ("a", "b")).text
    assert agreed([third.text, first.text], ("a", "b")).text == third.text
    assert len({first.epoch, second.epoch, third.epoch}) == 3
    assert agreed([], ("a", "b")).epoch != first.epoch


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"{}",
        b"[]",
        b"[[],[]]",
        b"no history",
        b'[[["zz",["a"]]],[]]',
        b'[[["0123456789abcdef",["a"]]],[]]',
    ],
)
def test_histories_that_contradict_each_other_end_all(other: bytes) -> None:
    """Where nothing tells which one is right, or it cannot be read, no copy counts any more."""
    first = agreed([], ("a", "b"))
    mixed = agreed([first.text, other], ("a", "b"))
    assert not mixed.counts(first.epoch, "key", "a")
    assert mixed.text == agreed([other, first.text], ("a", "b")).text
    assert History.read(mixed.text) is not None
    # Who comes by while it is being written everywhere goes on from it, and ends nothing more.
    for half in ([mixed.text, other], [first.text, mixed.text], [mixed.text]):
        assert agreed(half, ("a", "b")).text == mixed.text


def test_what_a_process_knows_matters_where_it_goes_on() -> None:
    """A copy of an old history does not undo a change that this process has seen; another can."""
    first = agreed([], ("a", "b"))
    second = agreed([first.text], ("a",))
    back = agreed([second.text], ("a", "b"))
    assert agreed([first.text], ("a", "b"), back).text == back.text
    assert agreed([], ("a", "b"), back).text == back.text
    other = agreed([], ("a", "b"))
    assert agreed([other.text], ("a", "b"), back).text == other.text


def test_only_the_latest_lists_are_kept() -> None:
    """The history is bounded; a record from before its beginning counts no more."""
    first = history = agreed([], ("a", "b"))
    for number in range(2 * LISTS_KEPT):
        history = agreed([history.text], ("a",) if number % 2 else ("a", "c"))
    assert len(history.text) < 1000
    assert not history.counts(first.epoch, "key", "a")
