"""What only the Redis stores promise; the servers are real, and are killed and paused."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores.base import Entry, new_token
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.redis.batching import MOST_BYTES, OVERDUE, batches
from sharedsession.stores.redis.cluster import Request
from sharedsession.testing.stores import new_key
from tests.support.losing import LosingRelay
from tests.support.redis_servers import replicated, until
from tests.support.servers import RedisServer, binaries

BRIEF = 2.0  # replicas have a fifth of it
PATIENT = 10.0  # for tests that are not about time, on a machine that may be busy


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    store = RedisStore.from_url(server.url)
    yield store
    store.close()


@pytest.fixture
def async_store(server: RedisServer) -> AsyncRedisStore:
    return AsyncRedisStore.from_url(server.url, PATIENT)


def calls(admin: redis.Redis) -> dict[str, int]:
    """How often the server was given each command since the last count, but for its settings.

    Those a store asks for beside its calls, some time after the first.
    """
    counted = {
        name.removeprefix("cmdstat_"): int(figures["calls"])
        for name, figures in admin.info("commandstats").items()
    }
    admin.config_resetstat()
    for name in ("info", "config|resetstat", "config", "config|get"):
        counted.pop(name, None)
    return counted


def connections(admin: redis.Redis) -> int:
    """How many connections the server holds, besides the one that asks."""
    return len(admin.client_list()) - 1


def all_closed(admin: redis.Redis) -> bool:
    """Whether none is left; the server may learn of a closed socket a moment later."""
    limit = time.monotonic() + 5
    while connections(admin) and time.monotonic() < limit:
        time.sleep(0.001)
    return connections(admin) == 0


async def settled(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return condition()


async def fill(store: AsyncRedisStore, count: int) -> list[tuple[str, Entry]]:
    keys = [new_key() for _ in range(count)]
    entries = await asyncio.gather(*(store.create(key, key.encode(), 600) for key in keys))
    assert all(entries)
    return [(key, entry) for key, entry in zip(keys, entries, strict=True) if entry is not None]


async def assert_in_step(store: AsyncRedisStore, keys: list[str]) -> None:
    """Every load, alone or among others, returns its own key's data."""

    async def own(key: str) -> None:
        entry = await store.load(key)
        assert entry is not None
        assert entry.data == key.encode()

    await asyncio.gather(*(own(key) for key in keys))
    for key in keys[:50]:
        await own(key)


# commands that wait at the same time travel together


def test_a_lone_command_goes_directly(async_store: AsyncRedisStore, admin: redis.Redis) -> None:
    """With nothing in flight there is no batch, and no task but the caller's own."""

    async def scenario() -> None:
        key, entry = (await fill(async_store, 1))[0]
        assert await settled(lambda: len(asyncio.all_tasks()) == 1)  # the settings were asked for
        calls(admin)
        for _ in range(5):
            assert await async_store.load(key)
            assert len(asyncio.all_tasks()) == 1
        assert await async_store.replace(key, entry, b"new", 60)
        assert calls(admin)["get"] == 5

    asyncio.run(scenario())


def test_loads_that_wait_are_one_command(async_store: AsyncRedisStore, admin: redis.Redis) -> None:
    """Of many loads at once the first goes alone and the others as one MGET, for each its own."""

    async def scenario() -> None:
        keys = [key for key, _ in await fill(async_store, 100)]
        calls(admin)
        await assert_in_step(async_store, [*keys, *keys[:20]])
        counted = calls(admin)
        assert counted["mget"] == 1
        assert counted["get"] == 1 + 50
        assert await asyncio.gather(*(async_store.load(new_key()) for _ in range(9))) == [None] * 9

    asyncio.run(scenario())


def test_every_kind_of_command_shares_a_batch(
    async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """Loads, writes, touches and deletes of one batch take one trip; each has its own answer."""

    async def scenario() -> None:
        (a, first), (b, second), (c, _), (d, _) = await fill(async_store, 4)
        assert await settled(lambda: len(asyncio.all_tasks()) == 1)  # the settings were asked for
        before = admin.info("stats")["total_reads_processed"]
        answers = await asyncio.gather(
            async_store.load(a),
            async_store.replace(a, first, b"new", 60),
            async_store.load(c),
            async_store.replace(b, first, b"stale", 60),
            async_store.touch(c, 60),
            async_store.touch("nobody", 60),
            async_store.create(b, b"taken", 60),
            async_store.create("free", b"created", 60),
            async_store.delete(d),
            async_store.load("nobody"),
        )
        trips = admin.info("stats")["total_reads_processed"] - before - 1
        found = [
            answer.data if isinstance(answer, Entry) else answer
            for answer in answers  # a touch and a delete answer a bool
        ]
        assert found == [
            *(a.encode(), b"new", c.encode(), None, True, False, None, b"created", True, None),
        ]
        assert trips == 2
        assert await async_store.load(d) is None
        assert await async_store.load(b) == second

    asyncio.run(scenario())


def test_batches_are_bounded_in_count_and_bytes(
    async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """No batch has more than 128 commands, nor more than a mebibyte unless one command has."""

    async def scenario() -> None:
        keys = [key for key, _ in await fill(async_store, 50)] * 6
        calls(admin)
        await asyncio.gather(*(async_store.load(key) for key in keys))
        assert calls(admin) == {"get": 1, "mget": 3}
        future = asyncio.get_running_loop().create_future()
        sizes = [1, MOST_BYTES // 2, MOST_BYTES // 2, 2 * MOST_BYTES, 5, 5]
        split = batches([(Request("key", ("EVALSHA", bytes(size))), future) for size in sizes])
        assert [len(batch) for batch in split] == [2, 1, 1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_an_unknown_script_is_sent_along(
    async_store: AsyncRedisStore, admin: redis.Redis, count: int
) -> None:
    """A server that has forgotten the script is given it: alone, in a batch, in a batch of one."""

    async def scenario() -> None:
        entries = await fill(async_store, count)
        admin.script_flush()
        replaced = await async_store.replace(*entries[0], b"new", 60)
        assert replaced is not None
        entries[0] = entries[0][0], replaced
        admin.script_flush()
        # The load goes first, and alone; it brings no script along.
        answers = await asyncio.gather(
            async_store.load("nobody"),
            *(async_store.replace(key, entry, key.encode(), 60) for key, entry in entries),
            *(async_store.load(key) for key, _ in entries[1:]),
        )
        assert answers[0] is None
        assert all(answers[1:])
        await assert_in_step(async_store, [key for key, _ in entries])

    asyncio.run(scenario())


# cancellation


def test_one_cancelled_request_ends_no_other(async_store: AsyncRedisStore) -> None:
    """Whoever is cancelled, the one in flight or those who wait: the others have their answers."""

    async def scenario() -> None:
        keys = [key for key, _ in await fill(async_store, 20)]
        for cancelled in ([0], [1], [5, 6, 19], [0, 1, 2], range(20)):
            loads = [asyncio.create_task(async_store.load(key)) for key in keys]
            await asyncio.sleep(0)
            for number in cancelled:
                loads[number].cancel()
            answers = await asyncio.gather(*loads, return_exceptions=True)
            for number, (key, answer) in enumerate(zip(keys, answers, strict=True)):
                if number in cancelled:
                    assert isinstance(answer, asyncio.CancelledError)
                else:
                    assert isinstance(answer, Entry)
                    assert answer.data == key.encode()
        await assert_in_step(async_store, keys)

    asyncio.run(scenario())


def test_a_write_that_is_cancelled_while_it_waits_is_not_made(
    async_store: AsyncRedisStore,
) -> None:
    """What has not left for the server when its request ends does not leave any more."""

    async def scenario() -> None:
        key, _ = (await fill(async_store, 1))[0]
        first = asyncio.create_task(async_store.load(key))
        second = asyncio.create_task(async_store.delete(key))
        await asyncio.sleep(0)
        second.cancel()
        assert await first
        assert await async_store.load(key)

    asyncio.run(scenario())


def test_two_thousand_cancelled_requests_leave_every_connection_in_step(
    async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """Loads and writes that are cancelled at random moments mix up nothing for those after them."""

    async def scenario() -> None:
        chance = random.Random(2000)
        keys = [key for key, _ in await fill(async_store, 100)]
        done = 0

        async def request(key: str) -> None:
            nonlocal done
            entry = await async_store.load(key)
            assert entry is not None
            assert entry.data == key.encode()
            if chance.random() < 0.5:
                await async_store.replace(key, entry, key.encode(), 600)
            done += 1

        for _ in range(100):
            requests = [asyncio.create_task(request(key)) for key in chance.sample(keys, 20)]
            for one in requests:
                await asyncio.sleep(chance.random() * 0.0004)
                one.cancel()
            for answer in await asyncio.gather(*requests, return_exceptions=True):
                assert answer is None or isinstance(answer, asyncio.CancelledError)
            await assert_in_step(async_store, keys[:5])
        assert 0 < done < 2000
        await assert_in_step(async_store, keys)
        assert connections(admin) <= 3

    asyncio.run(scenario())


# event loops


def test_loops_come_and_go_and_leave_nothing(
    async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """A loop for each request, without any lifespan: each one's sockets close with it."""
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def request() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await async_store.load("nobody") is None
        assert len(await fill(async_store, 10)) == 10
        assert await settled(lambda: connections(admin) == 1)

    for _ in range(20):
        asyncio.run(request())
        assert all_closed(admin)
    gc.collect()
    assert not any(loop() for loop in loops)
    assert not async_store._loops


def test_loops_in_several_threads_share_a_store(async_store: AsyncRedisStore) -> None:
    """Each loop has its own client, also at the same time."""

    async def scenario() -> None:
        for _ in range(10):
            await assert_in_step(async_store, [key for key, _ in await fill(async_store, 20)])

    failures: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(3):
                asyncio.run(scenario())
        except BaseException as error:  # noqa: BLE001 - the thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_loop_that_was_closed_without_its_shutdown_is_let_go(
    async_store: AsyncRedisStore,
) -> None:
    """The next loop's first call drops what such a loop left behind."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(async_store.load("nobody"))
    loop.run_until_complete(settled(lambda: len(asyncio.all_tasks()) == 1))
    (lines, _) = async_store._loops._all[loop]
    loop.run_until_complete(lines.close())  # the sockets alone
    loop.close()
    asyncio.run(_load(async_store))
    assert not async_store._loops


def test_a_store_that_is_dropped_closes_its_sockets(
    server: RedisServer, admin: redis.Redis
) -> None:
    """On a loop that goes on, a store that nobody holds any more holds no connection either."""

    async def scenario() -> None:
        stores = [AsyncRedisStore.from_url(server.url, PATIENT) for _ in range(3)]
        cycle: list[Any] = [stores]
        cycle.append(cycle)
        await asyncio.gather(*(fill(store, 3) for store in stores))
        assert await settled(lambda: connections(admin) == 3)
        del stores, cycle
        gc.collect()
        assert await settled(lambda: connections(admin) == 0)

    asyncio.run(scenario())


def test_a_store_that_is_dropped_as_its_loop_ends(server: RedisServer, admin: redis.Redis) -> None:
    """The loop has a few turns left, and no time to say goodbye: the sockets are closed in them."""

    async def scenario() -> None:
        store = AsyncRedisStore.from_url(server.url, PATIENT)
        await fill(store, 3)

    for _ in range(5):
        asyncio.run(scenario())
        gc.collect()  # what was left open would warn
        assert all_closed(admin)


@pytest.mark.parametrize("own", [True, False], ids=["ours", "the user's client"])
def test_the_end_of_a_loop_ends_its_last_batch(
    server: RedisServer, caplog: pytest.LogCaptureFixture, own: bool
) -> None:
    """Requests that nobody waits for any more leave neither a task nor a warning behind."""

    async def leave(cancel: bool) -> None:
        client = redis.asyncio.Redis.from_url(server.url)
        store = AsyncRedisStore.from_url(server.url, 2.0) if own else AsyncRedisStore(client)
        stores.append(store)
        clients.append(client)
        await fill(store, 3)
        server.pause()
        requests = [asyncio.create_task(store.load("nobody")) for _ in range(5)]
        await asyncio.sleep(0.02)
        requests[0].cancel()  # the direct one: the others' batch takes off
        await asyncio.sleep(0.02)
        for request in requests if cancel else []:
            request.cancel()
        await asyncio.sleep(0)

    stores: list[AsyncRedisStore] = []
    clients: list[redis.asyncio.Redis] = []
    began = time.monotonic()
    for cancel in (False, True):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave(cancel))
        if not cancel:  # as asyncio.run does it
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(clients[-1].aclose())
        loop.close()
        server.resume()
    stores.clear()
    gc.collect()
    assert time.monotonic() - began < 2.0
    assert caplog.text == ""


def test_the_users_own_client_is_used_as_it_is(server: RedisServer, admin: redis.Redis) -> None:
    """A client that the user made is neither replaced nor closed."""

    async def scenario() -> None:
        client = redis.asyncio.Redis.from_url(server.url)
        store = AsyncRedisStore(client, prefix="theirs:")
        await assert_in_step(store, [key for key, _ in await fill(store, 20)])
        assert all(key.startswith(b"theirs:") for key in await client.keys())
        del store
        gc.collect()
        assert await settled(lambda: connections(admin) == 1)
        await client.aclose()

    asyncio.run(scenario())
    with redis.Redis.from_url(server.url) as client:
        store = RedisStore(client)
        assert store.create("key", b"data", 60)
        store.close()
        until(lambda: connections(admin) == 1, "only the user's own connection is left")


# outages

Act = Callable[[RedisStore], object]
VERBS: dict[str, Act] = {
    "load": lambda store: store.load("key"),
    "create": lambda store: store.create("key", b"data", 60),
    "replace": lambda store: store.replace("key", Entry(b"", 1, None, bytes(32)), b"data", 60),
    "touch": lambda store: store.touch("key", 60),
    "delete": lambda store: store.delete("key"),
}


def test_an_idle_connection_survives_a_restart(
    server: RedisServer, store: RedisStore, async_store: AsyncRedisStore
) -> None:
    """The first command after a restart of the server is answered, alone or in a batch."""

    async def scenario() -> None:
        await fill(async_store, 5)
        for verb in VERBS.values():
            server.restart()
            await _awaited(async_store, verb)
            await fill(async_store, 5)
        server.restart()
        await fill(async_store, 5)
        # The batch, too, may be what finds the connection broken.
        direct = asyncio.create_task(async_store.load("nobody"))
        others = [asyncio.create_task(async_store.load("nobody")) for _ in range(5)]
        await direct
        server.restart()
        assert await asyncio.gather(*others) == [None] * 5

    asyncio.run(scenario())
    for verb in VERBS.values():
        verb(store)
        server.restart()
        verb(store)


async def _awaited(store: AsyncRedisStore, verb: Act) -> Any:
    answer: Any = verb(store)  # type: ignore[arg-type]  # the same verbs, to be awaited
    return await answer


@pytest.mark.parametrize("verb", VERBS)
def test_a_dead_server_is_an_outage_at_once(verb: str) -> None:
    """Every verb says so, within a moment, naming the server but no password."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"redis://somebody:secret@127.0.0.1:{port}/0"

    async def scenario() -> None:
        store = AsyncRedisStore.from_url(url)
        answers = await asyncio.gather(
            *(_awaited(store, VERBS[verb]) for _ in range(30)), return_exceptions=True
        )
        for answer in answers:
            _assert_outage(answer, port)
        assert len({id(answer) for answer in answers}) == 30

    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        VERBS[verb](RedisStore.from_url(url))
    _assert_outage(caught.value, port)
    asyncio.run(scenario())
    assert time.monotonic() - began < 1.5  # ten tries would take longer


def _assert_outage(error: object, port: int) -> None:
    assert isinstance(error, StoreUnavailable)
    assert f"127.0.0.1:{port}" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a_hanging_server_is_an_outage_within_the_timeout(
    server: RedisServer, store: RedisStore, verb: str
) -> None:
    """Every verb, alone or in a batch, ends within the timeout; afterwards nothing is mixed up."""
    timeout = 0.6
    impatient = RedisStore.from_url(server.url, timeout)
    asynchronous = AsyncRedisStore.from_url(server.url, timeout)

    async def scenario() -> None:
        keys = [key for key, _ in await fill(asynchronous, 50)]
        server.pause()
        began = time.monotonic()
        answers = await asyncio.gather(
            *(_awaited(asynchronous, VERBS[verb]) for _ in range(300)), return_exceptions=True
        )
        assert time.monotonic() - began < 2 * timeout
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert len({id(answer) for answer in answers}) == 300
        server.resume()
        await assert_in_step(asynchronous, keys)

    asyncio.run(scenario())
    store.create("mine", b"mine", 60)
    assert impatient.load("mine")
    server.pause()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}"):
        VERBS[verb](impatient)
    assert time.monotonic() - began < 2 * timeout
    server.resume()
    entry = impatient.load("mine")
    assert entry is not None
    assert entry.data == b"mine"
    impatient.close()


def test_a_server_that_refuses_is_an_outage(
    store: RedisStore, async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """Full, read-only or holding another kind of value: no answer of the store's, an outage."""

    async def refused() -> None:
        answers = await asyncio.gather(
            *(async_store.create(new_key(), b"data", 60) for _ in range(5)),
            return_exceptions=True,
        )
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)

    admin.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="memory"):
        store.create("key", b"data", 60)
    asyncio.run(refused())
    admin.config_set("maxmemory", "0")
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="replica"):
        store.create("key", b"data", 60)
    admin.replicaof("NO", "ONE")
    admin.hset("sharedsession:foreign", "field", "value")
    with pytest.raises(StoreUnavailable, match="wrong kind of value"):
        store.load("foreign")
    assert store.create("key", b"data", 60)


def test_an_outage_does_not_quote_the_session() -> None:
    """What a server says of a command it does not know is cut before the arguments."""

    async def together(store: AsyncRedisStore) -> list[object]:
        creates = (store.create(new_key(), b"private data", 60) for _ in range(3))
        return list(await asyncio.gather(*creates, return_exceptions=True))

    hidden = ("--rename-command", "EVALSHA", "HIDDEN", "--rename-command", "EVAL", "HIDDEN2")
    with RedisServer(None, *hidden) as server:
        store = RedisStore.from_url(server.url)
        with pytest.raises(StoreUnavailable) as caught:
            store.create("key-of-somebody", b"private data", 60)
        errors = asyncio.run(together(AsyncRedisStore.from_url(server.url)))
        store.close()
    for error in [caught.value, *errors]:
        assert isinstance(error, StoreUnavailable)
        assert "unknown command" in str(error)
        assert "somebody" not in str(error)
        assert "private" not in str(error)


# what is stored


def test_one_string_with_a_lifetime_holds_everything(store: RedisStore, admin: redis.Redis) -> None:
    """The value is a byte for the head's length, version, tokens, data; its key expires."""
    entry = store.create("key", b"data", 60)
    assert entry is not None
    assert admin.get("sharedsession:key") == b"\x04\x01" + entry.token + b"data"
    assert 59_000 < admin.pttl("sharedsession:key") <= 60_000
    assert store.replace("key", entry, b"new", 600, at_least=300)
    assert bytes(admin.getrange("sharedsession:key", 0, 2)) == b"\x09" + (301).to_bytes(2, "big")
    assert store.touch("key", 6000)
    assert 5_999_000 < admin.pttl("sharedsession:key") <= 6_000_000
    assert admin.keys() == [b"sharedsession:key"]


def test_bytes_too_short_are_an_entry_that_does_not_decode(
    store: RedisStore, async_store: AsyncRedisStore, admin: redis.Redis
) -> None:
    """A foreign value is handed up as it is, not raised about, nor overwritten by `create`."""

    async def scenario() -> None:
        loads = [async_store.load("short") for _ in range(3)]
        assert await asyncio.gather(*loads) == [Entry(b"short", 0, None, b"")] * 3
        assert await async_store.create("short", b"data", 60) is None

    admin.set("sharedsession:short", b"short")
    admin.set("sharedsession:empty", b"")
    assert store.load("short") == Entry(b"short", 0, None, b"")
    assert store.load("empty") == Entry(b"", 0, None, b"")
    assert store.create("short", b"data", 60) is None
    assert store.create("empty", b"data", 60) is None
    assert store.replace("gone", Entry(b"", 0, None, b""), b"data", 60) is None
    asyncio.run(scenario())


def test_a_write_whose_answer_was_lost_knows_itself(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that breaks after the server has written: the repetition finds its token."""
    entry = store.create("key", b"data", 60)
    assert entry is not None
    relay = LosingRelay(server.port).start()
    lossy = RedisStore.from_url(f"redis://127.0.0.1:{relay.port}/0", PATIENT)
    assert lossy.load("key")
    relay.lose(answer=b":")  # a write's
    replaced = lossy.replace("key", entry, b"new", 60)
    relay.lose(answer=b":")  # a write's
    created = lossy.create("other", b"other", 60)
    assert replaced is not None
    assert replaced.repeated
    assert created is not None
    assert created.repeated
    after = store.load("key")
    assert after is not None
    assert (after.data, after.version, after.token) == (b"new", 2, replaced.token)
    assert relay.lost == 2
    token = new_token()
    monkeypatch.setattr(lossy, "_new_token", lambda: token)
    relay.lose(answer=b":")  # a write's
    assert lossy.replace("key", entry, b"stale", 60) is None
    lossy.close()
    relay.close()


class _HangsUp(LosingRelay):
    """A relay that cuts the connection when somebody asks for settings."""

    def hangs_up(self, asked: bytes) -> bool:
        about_settings = b"CONFIG" in asked or b"\nINFO\r" in asked
        self.lost += about_settings
        return about_settings


class _Swallows(_HangsUp):
    """A relay that keeps such a connection, and lets it wait."""

    def __init__(self, server_port: int) -> None:
        self._ended = threading.Event()
        super().__init__(server_port)

    def hangs_up(self, asked: bytes) -> bool:
        return super().hangs_up(asked) and self._ended.wait()

    def close(self) -> None:
        self._ended.set()
        super().close()


# construction


def test_a_client_of_the_wrong_colour_is_refused() -> None:
    """The sentence names the class that takes such a client."""
    with pytest.raises(TypeError, match=r"redis\.Redis.*Use AsyncRedisStore"):
        RedisStore(redis.asyncio.Redis())  # type: ignore[arg-type]  # this is what is refused
    with pytest.raises(TypeError, match=r"redis\.asyncio\.Redis.*Use RedisStore"):
        AsyncRedisStore(redis.Redis())  # type: ignore[arg-type]  # this is what is refused
    with pytest.raises(TypeError, match=r"not builtins\.str"):
        RedisStore("redis://localhost")  # type: ignore[arg-type]  # this is what is refused


def test_a_client_that_decodes_is_refused() -> None:
    """Sessions are bytes: a client that makes text of them is of no use."""
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisStore(redis.Redis(decode_responses=True))
    with pytest.raises(ConfigurationError, match="decode_responses"):
        AsyncRedisStore(redis.asyncio.Redis(decode_responses=True))
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisStore.from_url("redis://localhost/0?decode_responses=yes")


def test_no_more_connections_than_its_bound(server: RedisServer, admin: redis.Redis) -> None:
    """More threads than connections wait for one; nobody is turned away."""
    store = RedisStore.from_url(server.url + "?max_connections=4", PATIENT)
    failures: list[object] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert store.create(new_key(), b"data", 60)
        except Exception as error:  # noqa: BLE001 - the thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert connections(admin) <= 4
    store.close()
    assert all_closed(admin)


def test_a_new_connection_asks_nothing_of_the_server(shared_server: RedisServer) -> None:
    """No client name, no library name, no health check."""
    store = RedisStore.from_url(shared_server.url)
    async_store = AsyncRedisStore.from_url(shared_server.url)
    with redis.Redis.from_url(shared_server.url) as admin:
        calls(admin)
        for _ in range(2):
            store.load("nobody")
            asyncio.run(_load(async_store))
            assert calls(admin) == {"get": 2}
            store.close()
    store.close()


def _load(store: AsyncRedisStore) -> Coroutine[Any, Any, Entry | None]:
    return store.load("nobody")


def test_nobody_waits_long_behind_what_is_stuck(redis_url: str) -> None:
    """A flight whose answer does not come holds up who comes at once, and no one after that."""

    async def scenario() -> None:
        store = AsyncRedisStore.from_url(redis_url, 8.0)
        key = new_key()
        assert await store.create(key, b"data", 60) is not None
        (lines, _) = store._loops._all[asyncio.get_running_loop()]
        nowhere = new_key()
        stuck = asyncio.create_task(lines.line(key, None).run(Request(key, ("BLPOP", nowhere, 3))))
        await asyncio.sleep(2 * OVERDUE)
        begun = time.monotonic()
        several = await asyncio.gather(*(store.load(key) for _ in range(20)))
        assert time.monotonic() - begun < 3
        assert {entry and entry.data for entry in several} == {b"data"}
        assert not stuck.done()
        with redis.Redis.from_url(redis_url) as other:
            other.rpush(nowhere, b"on its way at last")
        assert await stuck == [nowhere.encode(), b"on its way at last"]
        assert await store.touch(key, 60)

    asyncio.run(scenario())


# replicas that must confirm


@pytest.fixture
def replica(server: RedisServer) -> Iterator[RedisServer]:
    """A replica of the test's own server."""
    with following(server) as replica:
        yield replica


@contextmanager
def following(server: RedisServer) -> Iterator[RedisServer]:
    with (
        RedisServer(server.binary, "--replicaof", f"127.0.0.1 {server.port}") as replica,
        redis.Redis.from_url(server.url) as admin,
    ):
        admin.config_set("repl-diskless-sync-delay", "0")
        until(lambda: replicated(admin), "the replica follows")
        yield replica


def test_each_write_is_confirmed_by_a_replica(
    server: RedisServer, replica: RedisServer, admin: redis.Redis
) -> None:
    """Create, replace and delete wait for it, loads and touches do not."""
    url = f"{server.url}?wait_replicas=1"
    store, async_store = RedisStore.from_url(url, BRIEF), AsyncRedisStore.from_url(url, PATIENT)
    store.create("first", b"data", 60)  # the server learns the scripts
    store.delete("first")
    calls(admin)
    entry = store.create("key", b"data", 60)
    assert entry is not None
    assert store.load("key") == entry
    assert store.touch("key", 60)
    assert store.replace("key", entry, b"new", 60)
    store.delete("key")
    assert calls(admin)["wait"] == 3

    async def scenario() -> None:
        entries = await fill(async_store, 50)
        await asyncio.gather(*(async_store.load(key) for key, _ in entries))
        await asyncio.gather(*(async_store.delete(key) for key, _ in entries))

    asyncio.run(scenario())
    assert calls(admin)["wait"] == 4  # the first alone, then all others at once
    with redis.Redis.from_url(replica.url) as other:
        assert other.keys() == []


def test_too_few_replicas_are_an_outage(server: RedisServer, replica: RedisServer) -> None:
    """It says how many confirmed the write; what only reads is served as ever."""
    client = redis.Redis.from_url(server.url)
    clients = RedisStore(client, wait_replicas=2)
    ours = RedisStore.from_url(f"{server.url}?wait_replicas=2")
    entry = RedisStore.from_url(server.url).create("key", b"data", 60)
    assert entry is not None
    for store in (ours, clients):
        for write in (
            lambda: store.create(new_key(), b"data", 60),
            lambda: store.delete("nobody"),
            lambda: store.replace("key", store.load("key") or entry, b"data", 60),
        ):
            with pytest.raises(StoreUnavailable, match="1 of 2 replicas confirmed"):
                write()
        assert store.load("key")
        assert store.create("key", b"taken", 60) is None
        assert store.touch("key", 60)
        store.close()
    client.close()
    for number in ("-1", "two", ""):
        with pytest.raises(ConfigurationError, match="wait_replicas is the number"):
            RedisStore.from_url(f"{server.url}?wait_replicas={number}")


def test_loads_do_not_wait_behind_confirmations(server: RedisServer) -> None:
    """While writes wait for a replica that does not answer, loads are answered at once."""
    store = AsyncRedisStore.from_url(f"{server.url}?wait_replicas=1", BRIEF)

    ready = RedisStore.from_url(server.url)
    assert ready.create("first", b"", 60)  # the server learns the script
    ready.close()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        await store.load("nobody")
        writes = [asyncio.create_task(store.create(new_key(), b"", 60)) for _ in range(5)]
        await asyncio.sleep(0.05)
        began = loop.time()
        await asyncio.gather(*(store.load("nobody") for _ in range(5)))
        assert loop.time() - began < 1.0
        assert not any(write.done() for write in writes)
        for answer in await asyncio.gather(*writes, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
            assert "0 of 1 replicas" in str(answer)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", binaries())
def test_a_write_that_was_repeated_is_confirmed_as_well(name: str) -> None:
    """WAIT looks at its own connection's writes (Valkey 9), and the repetition is on another."""
    with RedisServer(binaries()[name]) as server, following(server) as replica:
        relay = LosingRelay(server.port).start()
        store = RedisStore.from_url(f"redis://127.0.0.1:{relay.port}/0?wait_replicas=1", BRIEF)
        entry = store.create("key", b"data", 60)
        assert entry is not None
        replica.pause()
        for write in (
            lambda: store.replace("key", entry, b"new", 60),
            lambda: store.delete("key"),
        ):
            relay.lose(answer=b":")  # a write's
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                write()
        assert relay.lost == 2
        replica.resume()
        store.close()
        relay.close()


# settings that sign people out


def test_settings_that_sign_people_out_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Eviction, and nothing on disk: one sentence each at the first call, that says what to set."""
    options = ("--save", "", "--maxmemory-policy", "allkeys-lru")
    with RedisServer(None, *options) as server:
        stores = RedisStore.from_url(server.url), AsyncRedisStore.from_url(server.url)
        assert caplog.messages == []  # nothing has been asked

        async def scenario() -> None:
            await asyncio.gather(*(stores[1].load("nobody") for _ in range(5)))

        async def asked() -> None:
            await scenario()
            assert await settled(lambda: len(caplog.records) == 4)

        stores[0].load("nobody")
        until(lambda: len(caplog.records) == 2, "the settings are known")
        asyncio.run(asked())
        stores[0].load("nobody")
        asyncio.run(scenario())
        stores[0].close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    for text in (caplog.messages[:2], caplog.messages[2:]):
        assert "set maxmemory-policy noeviction (it is allkeys-lru)" in text[0]
        assert "set appendonly yes" in text[1]
        assert all(f"Redis at 127.0.0.1:{server.port}" in line for line in text)


@pytest.mark.parametrize("kept", [("--save", "", "--appendonly", "yes"), ("--save", "60 1")])
def test_what_is_set_well_is_not_warned_of(
    kept: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A log or snapshots, and noeviction, which is the default."""
    with RedisServer(None, *kept) as server, redis.Redis.from_url(server.url) as admin:
        store = RedisStore.from_url(server.url)
        store.load("nobody")
        until(lambda: "cmdstat_info" in admin.info("commandstats"), "the settings were asked for")
        until(lambda: connections(admin) == 1, "who asked has hung up")
        store.close()
    assert caplog.messages == []


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_where_config_is_forbidden_info_shows_the_policy(
    caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """CONFIG is unknown, as with many hosts: calls work, and eviction is warned of all the same."""
    options = ("--save", "", "--rename-command", "CONFIG", "", "--maxmemory-policy", policy)
    told = 0 if policy == "noeviction" else 1

    async def scenario() -> None:
        assert await async_store.load("nobody") is None
        assert await settled(lambda: len(asyncio.all_tasks()) == 1)

    with RedisServer(None, *options) as server, redis.Redis.from_url(server.url) as admin:
        store, async_store = RedisStore.from_url(server.url), AsyncRedisStore.from_url(server.url)
        assert store.create("key", b"data", 60)
        until(lambda: "cmdstat_info" in admin.info("commandstats"), "the settings were asked for")
        until(lambda: connections(admin) == 1 and len(caplog.messages) == told, "it was warned of")
        asyncio.run(scenario())
        store.close()
    assert len(caplog.messages) == 2 * told
    assert all(f"it is {policy}" in message for message in caplog.messages)


def test_who_hangs_up_on_questions_costs_no_call(server: RedisServer) -> None:
    """A proxy that closes the connection at CONFIG and INFO: no call of an application is lost.

    Nor is one of a client that the application made, which repeats nothing.
    """
    relay = _HangsUp(server.port).start()
    url = f"redis://127.0.0.1:{relay.port}/0"

    async def scenario() -> None:
        client = redis.asyncio.Redis.from_url(url)
        for store in (AsyncRedisStore.from_url(url), AsyncRedisStore(client)):
            for _ in range(8):
                assert all(await asyncio.gather(*(_create(store) for _ in range(3))))
            assert await settled(lambda: len(asyncio.all_tasks()) == 1)
        await client.aclose()

    with redis.Redis.from_url(url) as client:
        for store in (RedisStore.from_url(url), RedisStore(client)):
            for _ in range(8):
                assert store.create(new_key(), b"data", 60)
            store.close()
    asyncio.run(scenario())
    until(lambda: relay.lost >= 8, "each store has asked")
    relay.close()


def test_a_question_that_hangs_costs_no_call(server: RedisServer) -> None:
    """A proxy that never answers to CONFIG and INFO: no call waits for it, nor does the end."""
    relay = _Swallows(server.port).start()
    url = f"redis://127.0.0.1:{relay.port}/0?max_connections=1"
    store, async_store = RedisStore.from_url(url, 2.0), AsyncRedisStore.from_url(url, 2.0)

    async def scenario() -> None:
        for _ in range(20):
            assert await _create(async_store)
        assert await settled(lambda: relay.lost >= 2)

    for _ in range(20):
        assert store.create(new_key(), b"data", 60)
    asyncio.run(scenario())
    store.close()
    relay.close()


async def _create(store: AsyncRedisStore) -> Entry | None:
    return await store.create(new_key(), b"data", 60)


# clients of the user's own


def test_an_async_client_belongs_to_its_loop(server: RedisServer) -> None:
    """Used on another loop, it would break: there is a sentence instead."""
    client = redis.asyncio.Redis.from_url(server.url)
    store = AsyncRedisStore(client)

    async def first() -> None:
        assert await store.load("nobody") is None
        await client.aclose()

    asyncio.run(first())
    with pytest.raises(ConfigurationError, match="belongs to the event loop"):
        asyncio.run(_load(store))


def test_what_is_no_client_is_refused(server: RedisServer) -> None:
    """A pipeline: the sentence says what to pass."""
    with redis.Redis.from_url(server.url) as client:
        with pytest.raises(TypeError, match="Pass the client that made it"):
            RedisStore(client.pipeline())
    with pytest.raises(TypeError, match="Pass the client that made it"):
        AsyncRedisStore(redis.asyncio.Redis().pipeline())


@pytest.mark.newest
def test_a_client_that_answers_from_a_cache_is_refused() -> None:
    """It would not see what other servers have just written."""
    import redis.cache

    cached = redis.Redis(protocol=3, cache_config=redis.cache.CacheConfig())
    with pytest.raises(ConfigurationError, match="cache"):
        RedisStore(cached)


def test_a_client_that_meets_a_replica_looks_again(server: RedisServer, admin: redis.Redis) -> None:
    """READONLY is an outage, after which new connections are made: the name may lead elsewhere."""
    with redis.Redis.from_url(server.url) as client:
        store = RedisStore(client)
        assert store.create("key", b"data", 60)
        before = {each["id"] for each in admin.client_list(_type="normal")}
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="replica"):
            store.create("another", b"data", 60)
        admin.replicaof("NO", "ONE")
        assert store.create("another", b"data", 60)
        after = {each["id"] for each in admin.client_list(_type="normal")}
        assert len(after - before) == 1
