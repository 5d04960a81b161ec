"""What only the Memcached stores promise; the servers are real, and are killed and paused."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import pymemcache
import pytest

from sharedsession import TooLarge
from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores._support import ages
from sharedsession.stores.base import Entry, Store
from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore, protocol
from sharedsession.stores.memcached.addresses import parse
from sharedsession.testing.stores import Awaited, LoopThread, found, new_key, race, stored
from tests.support.losing import LosingRelay
from tests.support.memcached_servers import MemcachedServer, memcached_servers, url_of
from tests.support.proxy import Proxy
from tests.support.redis_servers import until

PATIENT = 10.0  # for tests that are not about time, on a machine that may be busy
Open = Callable[..., Store]


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a store from a URL, in either colour; what it wraps is its ``own``."""
    stores: list[MemcachedStore] = []
    with LoopThread() as loop:

        def opened(url: str, timeout: float = PATIENT) -> Store:
            if request.param == "async":
                return Awaited(AsyncMemcachedStore.from_url(url, timeout), loop)
            stores.append(MemcachedStore.from_url(url, timeout))
            return stores[-1]

        yield opened
    for store in stores:
        store.close()


def connections(server: MemcachedServer) -> int:
    """How many connections the server holds, besides the one that asks."""
    limit = time.monotonic() + 5
    while True:
        # The server may learn of a closed socket a moment later.
        count = int(server.stats()["curr_connections"]) - 1
        if count <= 0 or time.monotonic() > limit:
            return count
        time.sleep(0.005)


# outages

Act = Callable[[Store], object]
VERBS: dict[str, Act] = {
    "load": lambda store: store.load("key"),
    "create": lambda store: store.create(new_key(), b"data", 60),
    "replace": lambda store: store.replace("key", Entry(b"", 1, None, bytes(32)), b"data", 60),
    "touch": lambda store: store.touch("key", 60),
    "delete": lambda store: store.delete("key"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_idle_connection_survives_a_restart(
    server: MemcachedServer, opened: Open, verb: str
) -> None:
    """The first command after a restart is answered, however many connections have broken."""
    store = opened(server.url)
    race([lambda: stored(store, new_key(), b"data", 60)] * 8)
    server.restart()
    VERBS[verb](store)
    assert store.load("key") is None


@pytest.mark.parametrize("verb", VERBS)
def test_a_dead_server_is_an_outage_at_once(opened: Open, verb: str) -> None:
    """Every verb says so, within a moment, naming the server; nobody else takes its place."""
    with MemcachedServer() as alive, MemcachedServer() as dead:
        store = opened(url_of([alive, dead]), 1.0)
        keys = [new_key() for _ in range(40)]
        for key in keys:
            stored(store, key, key.encode())
        theirs = [key for key in keys if key in dead.listed()]
        dead.kill()
        began = time.monotonic()
        for key in keys:
            if key in theirs:
                with pytest.raises(StoreUnavailable, match=f"Memcached at {dead.name}"):
                    store.load(key)
            else:
                assert found(store, key).data == key.encode()
        answers = {}
        for key in theirs[:4]:
            act = {
                "load": lambda key=key: store.load(key),
                "create": lambda key=key: store.create(key, b"", 60),
                "replace": lambda key=key: store.replace(key, Entry(b"", 1, None, b""), b"", 60),
                "touch": lambda key=key: store.touch(key, 60),
                "delete": lambda key=key: store.delete(key),
            }[verb]
            with pytest.raises(StoreUnavailable) as caught:
                act()
            answers[key] = caught.value
        assert answers
        assert not any(key[:12] in str(error) for key, error in answers.items())
        assert time.monotonic() - began < 2.0
        dead.start()
        for key in keys:
            entry = store.load(key)
            assert (entry is None) == (key in theirs)


@pytest.mark.parametrize("verb", VERBS)
def test_a_hanging_server_is_an_outage_within_the_timeout(
    server: MemcachedServer, opened: Open, verb: str
) -> None:
    """Every verb ends in time, also when many are made at once; the next ones are in step."""
    timeout = 0.4
    store = opened(server.url, timeout)
    keys = [new_key() for _ in range(20)]
    for key in keys:
        stored(store, key, key.encode(), 600)

    def act() -> object:
        began = time.monotonic()
        try:
            return VERBS[verb](store)
        except StoreUnavailable as error:
            assert "no answer in time" in str(error)  # noqa: PT017 - others are failures
            return time.monotonic() - began

    server.pause()
    seconds = race([act] * 16)
    assert all(isinstance(each, float) and each < 2 * timeout for each in seconds)
    server.resume()
    for key in keys:
        assert found(store, key).data == key.encode()


def test_a_network_that_went_silent_is_left_behind(server: MemcachedServer, opened: Open) -> None:
    """Connections that stay dead when the network is back hold nobody up a second time."""
    with Proxy(server.port) as relay:
        store = opened(f"memcached://127.0.0.1:{relay.port}", 0.4)
        key = new_key()
        stored(store, key, b"data", 600)
        relay.silence()
        with pytest.raises(StoreUnavailable):
            store.load(key)
        relay.restore()
        assert found(store, key).data == b"data"
        del store


def test_a_request_that_gave_up_leaves_no_dead_connection_to_others(
    server: MemcachedServer,
) -> None:
    """Nobody waits behind an answer that does not come, and that nobody wants any more."""

    async def scenario() -> None:
        with Proxy(server.port) as relay:
            store = AsyncMemcachedStore.from_url(f"memcached://127.0.0.1:{relay.port}", 5.0)
            assert await store.create("key", b"data", 60)
            relay.silence()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.load("key"), 0.1)
            relay.restore()
            began = time.monotonic()
            assert await store.load("key")
            assert time.monotonic() - began < 2.0

    asyncio.run(scenario())


@pytest.fixture
def _connections_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ages, "CONNECTION_AGE", 0.5)


@pytest.mark.usefixtures("_connections_grow_old")
def test_a_name_that_leads_elsewhere_is_followed(server: MemcachedServer, opened: Open) -> None:
    """The old server lives on and answers, but for no longer than a connection may be old."""
    with MemcachedServer() as other, Proxy(server.port) as name:
        store, key = opened(f"memcached://127.0.0.1:{name.port}"), new_key()
        stored(store, key, b"data", 600)
        race([lambda: found(store, key)] * 8)
        name.target = other.port
        began = time.monotonic()
        until(lambda: not any(race([lambda: store.load(key)] * 8)), "the other server is asked")
        assert time.monotonic() - began < 0.5 + 1.0
        assert not any(race([lambda: store.load(key)] * 8))
        stored(store, key, b"new", 600)
        assert connections(server) == 0


def test_a_name_that_leads_nowhere_is_an_outage(opened: Open) -> None:
    """An address that nobody has, or a socket that is not there."""
    for url in ("memcached://sharedsession.invalid", "memcached:///no/such/socket"):
        with pytest.raises(StoreUnavailable, match="Memcached at"):
            opened(url, 5.0).load("key")


def test_a_name_with_several_addresses_is_tried_at_each(
    server: MemcachedServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` may be ::1 first, where the server does not listen."""
    real = socket.getaddrinfo

    def both(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host != "localhost":
            return real(host, port, *rest, **named)
        return [
            *real("127.0.0.2", port, *rest, **named),
            *real("127.0.0.1", port, *rest, **named),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    stored(opened(f"memcached://localhost:{server.port}"), new_key())


# repeated commands


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_a_write_whose_answer_was_lost_knows_itself(
    server: MemcachedServer, opened: Open, verb: str
) -> None:
    """A connection that breaks after the server has written: the repetition finds its token."""
    proxy = LosingRelay(server.port).start()
    direct, store = opened(server.url), opened(f"memcached://127.0.0.1:{proxy.port}")
    # For both the server has one name only, or they would be two lists of servers.
    store = opened(f"memcached://127.0.0.1:{proxy.port}?prefix=proxy:")
    direct = opened(f"memcached://127.0.0.1:{proxy.port}?prefix=proxy:")
    key = new_key()
    entry = stored(store, key, b"one", 600)
    if verb == "create":
        key = new_key()
        proxy.lose(answer=b"STORED")
        written = store.create(key, b"data", 60)
        expected = 1
    else:
        proxy.lose(answer=b"STORED")
        written = store.replace(key, entry, b"data", 60)
        expected = 2
    assert written is not None
    assert written.repeated
    after = found(direct, key)
    assert (after.data, after.version, after.token) == (b"data", expected, written.token)
    assert proxy.lost == 1
    proxy.close()


# what is stored


def test_one_item_with_a_lifetime_holds_everything(server: MemcachedServer, opened: Open) -> None:
    """Seconds up to thirty days, a point in time above; the history alone lives for ever."""
    store, now = opened(server.url), time.time()
    for days in (1, 30, 31, 400):
        stored(store, f"{days}", b"data", days * 86400)
    assert store.touch("1", 31 * 86400)
    stored(store, "moment", b"", 0)
    expiries = {key.rpartition(":")[2]: value for key, value in server.expiries().items()}
    assert expiries.pop("servers!") == -1
    # In whole seconds, of a clock that ticks once in each; perhaps it is gone already.
    assert -1 <= expiries.pop("moment", int(now)) - int(now) < 5
    days = {key: round((expiry - now) / 86400, 3) for key, expiry in expiries.items()}
    assert days == {"1": 31, "30": 30, "31": 31, "400": 400}


def test_a_write_is_one_look_and_one_compare_and_set(server: MemcachedServer, opened: Open) -> None:
    """With what was loaded, also after a touch; what was just written is looked at once more."""
    store, asked = opened(server.url), ("cmd_get", "cmd_set")
    stored(store, "key", b"one", 60)

    def commands(act: Callable[[], object]) -> tuple[int, ...]:
        before = server.stats()
        assert act()
        after = server.stats()
        return tuple(int(after[name]) - int(before[name]) for name in asked)

    loaded = found(store, "key")
    assert store.touch("key", 100)
    written = None

    def replaces() -> object:
        nonlocal written
        written = store.replace("key", loaded, b"two", 60)
        return written

    assert commands(lambda: store.load("key")) == (2, 0)  # the history as well
    assert commands(replaces) == (0, 1)
    assert written is not None
    assert commands(lambda: store.replace("key", cast(Entry, written), b"three", 60)) == (2, 1)
    assert store.replace("key", loaded, b"late", 60) is None
    assert found(store, "key").data == b"three"


def test_bytes_too_short_are_an_entry_that_does_not_decode(
    server: MemcachedServer, opened: Open
) -> None:
    """A foreign value is handed up as it is, not raised about, nor overwritten by `create`."""
    store = opened(server.url)
    server.tell("set sharedsession:short 0 600 5\r\nshort", end="STORED\r\n")
    assert store.load("short") == Entry(b"short", 0, None, b"")
    assert store.create("short", b"data", 60) is None


def test_any_key_is_a_key_of_its_own(server: MemcachedServer, opened: Open) -> None:
    """Spaces, line ends, letters of any script and what they are written as do not meet."""
    store = opened(server.url)
    keys = ["a b", "a%20b", "a\r\nb", "żółw", "%C5%BC", "\0", "a", "A", "", "servers!"]
    for key in keys:
        stored(store, key, key.encode())
    for key in keys:
        assert found(store, key).data == key.encode()
    with pytest.raises(ValueError, match="250"):
        store.load("x" * 250)


def test_what_is_too_large_is_said_with_its_size(opened: Open) -> None:
    """Neither an outage nor a loss: the error has both numbers, and what was stored stays."""
    with MemcachedServer("-I", "512k") as server:
        store = opened(server.url)
        entry = stored(store, "key", b"small", 60)
        for data in (bytes(600_000), bytes(524_288), os.urandom(524_240)):
            for act in (
                lambda data=data: store.create("other", data, 60),
                lambda data=data: store.replace("key", entry, data, 60),
            ):
                with pytest.raises(TooLarge, match=r"takes \d+ bytes.*keeps at most 524288 ") as e:
                    act()
                assert e.value.limit == 524288
                assert e.value.size > max(len(data), e.value.limit)
        assert found(store, "key") == entry
        assert store.load("other") is None
        assert store.replace("key", entry, bytes(500_000), 60)


def test_eviction_signs_out_and_mixes_nothing_up(opened: Open) -> None:
    """A server without room forgets what was not used for long; who is found is found whole."""
    with MemcachedServer("-m", "8") as server:
        store = opened(server.url)
        keys = [new_key() for _ in range(600)]
        for key in keys:
            stored(store, key, key.encode() * 500, 600)
        assert int(server.stats()["evictions"]) > 0
        seen = [store.load(key) for key in keys]
        left = [key for key, entry in zip(keys, seen, strict=True) if entry is not None]
        assert 20 < len(left) < len(keys)
        for key, entry in zip(keys, seen, strict=True):
            assert entry is None or entry.data == key.encode() * 500
            if entry is None:
                assert store.touch(key, 60) is False


# answers that come in pieces


TRICKY = [
    b"END\r\n",
    b"\r\nEND\r\n",
    b"THE END\r\nVALUE sharedsession:b 0 3 7\r\nbad\r\nEND\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"\r\n" * 20,
    b"END",
    b"",
]


@pytest.mark.parametrize("value", TRICKY)
def test_a_value_is_read_by_its_length_wherever_it_is_cut(value: bytes) -> None:
    """Words of the protocol within a value are data, whatever arrives together."""
    whole = b"VALUE a 0 %d 12\r\n%b\r\nVALUE b 0 1 13\r\nx\r\nEND\r\n" % (len(value), value)
    stream = whole + b"STORED\r\n"

    async def scenario(size: int) -> None:
        connection, transport = protocol.Connection(), _Transport()
        connection.connection_made(transport)
        first = connection.ask(b"gets a b\r\n", protocol.items(("a", "b")))
        second = connection.ask(b"add a\r\n", protocol.one_of(STORED=True, NOT_STORED=False))
        for start in range(0, len(stream), size):
            assert first.done() == (start >= len(whole))
            connection.data_received(stream[start : start + size])
        assert first.result() == {"a": (value, 12), "b": (b"x", 13)}
        assert second.result() is True
        assert not transport.aborted

    for size in (*range(1, 12), len(whole), len(stream)):
        asyncio.run(scenario(size))


@pytest.mark.parametrize(
    "answer",
    [
        b"VALUE other 0 1 12\r\nx\r\nEND\r\n",
        b"VALUE a 0 2 12\r\nx\r\nEND\r\n",
        b"VALUE a 0 x 12\r\nx\r\nEND\r\n",
        b"VALUE a 0 1\r\nx\r\nEND\r\n",
        b"STORED\r\n",
        b"ERROR\r\n",
        b"CLIENT_ERROR bad data chunk\r\nERROR\r\n",
        b"\xff\xfe\r\n",
        b"END\r\nEND\r\n",
        b"x" * 10_000,
    ],
)
def test_what_is_not_understood_ends_the_connection(answer: bytes) -> None:
    """Whoever waits is told of an outage; never is it taken for an answer, or for absence."""

    async def scenario() -> None:
        connection, transport = protocol.Connection(), _Transport()
        connection.connection_made(transport)
        waiting = [connection.ask(b"gets a\r\n", protocol.items(("a",)))]
        waiting += [connection.ask(b"delete a\r\n", protocol.one_of(DELETED=True, NOT_FOUND=False))]
        connection.data_received(answer)
        if transport.aborted:
            connection.connection_lost(None)
            for each in waiting:
                assert each.done()
                if each.exception() is None:  # the one that came before what was not understood
                    assert each.result() == {}
            assert isinstance(waiting[1].exception(), ConnectionError)
            assert not connection.is_open
        else:
            # 10,000 bytes may go on; they are no line, nor will they be one.
            assert not any(each.done() for each in waiting)

    asyncio.run(scenario())


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


# cancellation


def test_ten_thousand_cancelled_requests_leave_every_connection_in_step() -> None:
    """Loads and writes that are cancelled at random moments: each session reads as its own."""

    async def scenario(servers: list[MemcachedServer]) -> None:
        store = AsyncMemcachedStore.from_url(url_of(servers), PATIENT)
        chance = random.Random(10_000)
        keys = [new_key() for _ in range(100)]
        for key in keys:
            assert await store.create(key, key.encode() * 20, 600)
        done = 0

        async def own(key: str) -> Entry:
            entry = await store.load(key)
            assert entry is not None
            assert entry.data == key.encode() * 20
            return entry

        async def request(key: str) -> None:
            nonlocal done
            entry = await own(key)
            if chance.random() < 0.5:
                await store.replace(key, entry, key.encode() * 20, 600)
            await store.touch(key, 600)
            done += 1

        loop, cancelled, longest = asyncio.get_running_loop(), 0, 0.01
        for turn in range(1000):
            if cancelled >= 10_000:
                break
            tasks = [loop.create_task(request(key)) for key in chance.sample(keys, 50)]
            for task in tasks:
                loop.call_later(chance.random() * longest, task.cancel)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(each is None or type(each) is asyncio.CancelledError for each in answers)
            cancelled += sum(each is not None for each in answers)
            # As fast as this machine is now: some end, most are cancelled somewhere on their way.
            longest *= 1.2 if answers.count(None) < 4 else 0.8 if answers.count(None) > 12 else 1.0
            if turn % 20 == 0:
                await asyncio.gather(*(own(key) for key in keys[:10]))
        assert cancelled >= 10_000
        assert done > 500  # so the moments were spread over the whole of a request
        await asyncio.gather(*(own(key) for key in keys))
        assert max(connections(server) for server in servers) < 10
        assert len(asyncio.all_tasks()) == 1

    began = time.monotonic()
    with memcached_servers(2) as servers:
        asyncio.run(scenario(servers))
    assert time.monotonic() - began < 60


# event loops, threads, forks


def test_loops_come_and_go_and_leave_nothing(server: MemcachedServer) -> None:
    """A loop for each request, without any lifespan: each one's sockets close with it."""
    store = AsyncMemcachedStore.from_url(server.url, PATIENT)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def request() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(store.create(new_key(), b"data", 60) for _ in range(10)))

    for _ in range(10):
        asyncio.run(request())
    assert connections(server) == 0
    gc.collect()
    assert not any(loop() for loop in loops)
    assert not store._lines


def test_a_store_that_is_dropped_as_its_loop_ends(server: MemcachedServer) -> None:
    """The loop has a few turns left, and no time to say goodbye: the sockets are closed in them."""

    async def scenario() -> None:
        store = AsyncMemcachedStore.from_url(server.url, PATIENT)
        await asyncio.gather(*(store.create(new_key(), b"data", 60) for _ in range(10)))

    for _ in range(5):
        asyncio.run(scenario())
        gc.collect()  # what was left open would warn
    assert connections(server) == 0


def test_a_loop_that_ends_while_its_server_hangs(
    server: MemcachedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests that nobody waits for any more leave neither a task nor a warning behind."""
    store = AsyncMemcachedStore.from_url(server.url, 5.0)

    async def leave() -> None:
        await store.load("key")
        server.pause()
        tasks.extend(asyncio.create_task(store.load("key")) for _ in range(5))
        await asyncio.sleep(0.02)

    for _ in range(2):
        tasks: list[asyncio.Task[Entry | None]] = []
        began = time.monotonic()
        asyncio.run(leave())
        assert time.monotonic() - began < 4.0
        server.resume()
    gc.collect()
    assert caplog.text == ""


def test_a_store_that_is_dropped_closes_its_sockets(server: MemcachedServer) -> None:
    """On a loop that goes on, a store that nobody holds any more holds no connection either."""

    async def scenario() -> None:
        store = AsyncMemcachedStore.from_url(server.url, PATIENT)
        await store.load("key")
        cycle: list[Any] = [store]
        cycle.append(cycle)
        del store, cycle
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0.01)
        assert connections(server) == 0

    asyncio.run(scenario())


def test_more_threads_than_connections_wait_for_one(server: MemcachedServer) -> None:
    """Nobody is turned away, and no more connections are opened than the client may."""
    client = pymemcache.PooledClient(("127.0.0.1", server.port), max_pool_size=3)
    store = MemcachedStore(client)

    def work() -> None:
        for _ in range(20):
            key = new_key()
            assert stored(store, key, key.encode()).data == found(store, key).data

    race([work] * 16)
    client.close()
    own = MemcachedStore.from_url(server.url, PATIENT)
    race([lambda: stored(own, new_key())] * 100)
    assert int(server.stats()["curr_connections"]) < 64 + 5
    own.close()
    assert connections(server) == 0


@pytest.mark.parametrize("own", [True, False], ids=["ours", "the user's client"])
def test_a_child_process_has_connections_of_its_own(server: MemcachedServer, own: bool) -> None:
    """Used before the fork and by both after it: nobody reads an answer of the other's."""
    client = pymemcache.PooledClient(("127.0.0.1", server.port))
    store = MemcachedStore.from_url(server.url, PATIENT) if own else MemcachedStore(client)
    stored(store, "parent", b"parent", 600)
    stored(store, "child", b"child", 600)

    def loads(key: str) -> None:
        for _ in range(300):
            assert found(store, key).data == key.encode()

    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            loads("child")
            status = 0
        finally:
            os._exit(status)
    loads("parent")
    assert os.waitpid(child, 0)[1] == 0
    loads("parent")
    store.close()
    client.close()


# construction


@pytest.mark.parametrize(
    ("url", "names", "prefix"),
    [
        ("memcached://h1:11211,h2:1", ["h1:11211", "h2:1"], "sharedsession:"),
        ("memcached://H1,10.0.0.1", ["h1:11211", "10.0.0.1:11211"], "sharedsession:"),
        ("memcached://[::1]:1,[FE80::1]/", ["[::1]:1", "[fe80::1]:11211"], "sharedsession:"),
        ("memcached:///run/m%20c.sock", ["/run/m c.sock"], "sharedsession:"),
        ("memcached://h1/?prefix=shop:", ["h1:11211"], "shop:"),
        ("memcached://h1?prefix=", ["h1:11211"], ""),
    ],
)
def test_urls(url: str, names: list[str], prefix: str) -> None:
    """Servers in a list, their ports when they are not 11211, IPv6 in brackets, or a socket."""
    assert parse(url) == (names, prefix)
    pair = open_store(url)
    assert isinstance(pair.sync, MemcachedStore)
    assert isinstance(pair.asynchronous, AsyncMemcachedStore)
    assert pair.sync._ring.names == pair.asynchronous._ring.names == tuple(sorted(names))


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached:///",
        "memcached://h1,",
        "memcached://h1,,h2",
        "memcached://h1:",
        "memcached://h1:port",
        "memcached://h1:0",
        "memcached://h1:99999",
        "memcached://[::1",
        "memcached://::1:11211",
        "memcached://h1,h1:11211",
        "memcached://h1/path",
        "memcached://user:secret@h1",
        "memcached://h1?prefix=a%20b",
        "memcached://h1?prefix=" + "x" * 101,
        "memcached://h1?unheard_of=secret",
        "memcached://h1?secret",
        "memcached://h1#secret",
    ],
)
def test_a_url_that_is_wrong_is_refused_at_once(url: str) -> None:
    """With a sentence that quotes nothing of it."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "memcached" in str(caught.value).lower()
    for error in (caught.value, caught.value.__cause__):
        assert "secret" not in str(error)


def test_a_client_that_will_not_do_is_refused() -> None:
    """What threads must not share, what takes a dead server for an absence, what changes bytes."""
    from pymemcache.client.hash import HashClient
    from pymemcache.serde import compressed_serde, pickle_serde

    server = ("127.0.0.1", 11211)
    for client in (pymemcache.Client(server), HashClient([server]), "memcached://h1", object()):
        with pytest.raises(TypeError, match=r"needs a pymemcache\.PooledClient"):
            MemcachedStore(client)
    with pytest.raises(ConfigurationError, match="ignore_exc"):
        MemcachedStore(pymemcache.PooledClient(server, ignore_exc=True))
    for serde in (pickle_serde, compressed_serde):
        with pytest.raises(ConfigurationError, match="without a serializer"):
            MemcachedStore(pymemcache.PooledClient(server, serde=serde))
    with pytest.raises(ConfigurationError, match="named twice"):
        MemcachedStore([pymemcache.PooledClient(server), pymemcache.PooledClient(server)])
    for nothing in (lambda: MemcachedStore([]), lambda: AsyncMemcachedStore([])):
        with pytest.raises(ConfigurationError, match="needs the name of a server"):
            nothing()
    with pytest.raises(TypeError, match=r"names of servers.*Use MemcachedStore"):
        AsyncMemcachedStore(pymemcache.PooledClient(server))  # type: ignore[arg-type]  # refused
    assert AsyncMemcachedStore("h1")._ring.names == ("h1:11211",)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pymemcache the error says what to install."""
    for name in [*sys.modules]:
        if f"{name}.".startswith(("pymemcache.", "sharedsession.stores.memcached.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymemcache", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'sharedsession\[memcached\]'"):
        open_store("memcached://nobody-else-has-this-one")
