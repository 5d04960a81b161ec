"""What befalls the servers of SQL stores: restarts, hanging, locks, too many connections, poolers.

Each is tried by every driver. A call of an async store is made on a loop in a thread, as the
conformance suite does it, so that one set of tests serves both colours.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores._support.deadline import within
from sharedsession.stores.base import Entry, Store
from sharedsession.stores.sql import AsyncSQLStore, SQLStore, dialects
from sharedsession.testing.stores import Awaited, LoopThread, new_key
from tests.guarantees import test_cancelled
from tests.guarantees.asgi import AsgiAdapter, close_loops, starlette
from tests.guarantees.driver import Browser
from tests.support.databases import PASSWORD, Database, MariaDB, PgBouncer, PostgreSQL
from tests.support.processes import ServerMissing
from tests.support.proxy import Proxy
from tests.support.redis_servers import until

T = TypeVar("T")
TIMEOUT = 0.7
PATIENT = 10.0  # where time is not the question
MARGIN = 1.5  # over the timeout, for a machine with more to do
DRIVERS = ["psycopg", "async psycopg", "asyncpg", "pymysql", "asyncmy"]
ASYNC_DRIVERS = DRIVERS[1:3] + DRIVERS[4:]


@pytest.fixture(scope="module", autouse=True)
def _loops() -> Iterator[None]:
    yield
    close_loops()


@dataclass
class Subject:
    """A store of one driver, called by plain functions, and its server."""

    driver: str
    server: Any
    store: Store
    real: SQLStore | AsyncSQLStore
    listened: list[sa.Engine] = field(default_factory=list)

    @property
    def engine(self) -> sa.Engine:
        if isinstance(self.real, SQLStore):
            return self.real._engine
        ((line, _),) = self.real._lines._all.values()
        return line.database.engine

    def disconnect_all(self) -> None:
        """Let the server close all connections of the application."""
        if isinstance(self.server, PostgreSQL):
            self.server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
            )
        else:
            self.server.execute("KILL USER app")


def url_for(server: Any, driver: str) -> str:
    return server.asyncpg_url if driver == "asyncpg" else server.url


def open_subject(driver: str, server: Any, loop: LoopThread, timeout: float = TIMEOUT) -> Subject:
    if driver in ("psycopg", "pymysql"):
        plain = SQLStore.from_url(server.url, timeout)
        return Subject(driver, server, plain, plain)
    awaited = AsyncSQLStore.from_url(url_for(server, driver), timeout)
    return Subject(driver, server, Awaited(awaited, loop), awaited)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    name = "mariadb" if request.param in ("pymysql", "asyncmy") else "postgresql"
    with LoopThread() as loop:
        subject = open_subject(request.param, request.getfixturevalue(name), loop, PATIENT)
        yield subject
        if isinstance(subject.real, SQLStore):
            subject.real.close()


every_driver = pytest.mark.parametrize("subject", DRIVERS, indirect=True)


def stored(store: Store, key: str, data: bytes = b"data") -> Entry:
    entry = store.create(key, data, 600)
    assert entry is not None
    return entry


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes that is to be an outage."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        call()
    assert PASSWORD not in str(caught.value)
    return time.monotonic() - begun


def eventually(call: Callable[[], T]) -> T:
    """What a call returns once the server has come back, on a machine with more to do."""
    limit = time.monotonic() + 5
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < limit


def at_once(calls: int, call: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(lambda _: call(), range(calls)))


# connections that break


@every_driver
def test_connections_that_the_server_closed_cost_nobody_an_answer(subject: Subject) -> None:
    """Idle ones are replaced, all of them, at the first call that meets one: by every verb."""
    store, key = subject.store, new_key()
    entry = stored(store, key)
    at_once(5, lambda: store.load(key))
    for call in (
        lambda: store.load(key),
        lambda: store.touch(key, 600),
        lambda: store.replace(key, entry, b"new", 600),
        lambda: store.create(new_key(), b"data", 600),
    ):
        subject.disconnect_all()
        assert call()
    subject.disconnect_all()
    store.delete(key)
    assert store.load(key) is None


@every_driver
def test_a_write_whose_answer_was_lost_counts_once(subject: Subject) -> None:
    """The statement took place and the connection broke: repeated, it knows itself."""
    store, key = subject.store, new_key()
    entry = stored(store, key)
    left = ["UPDATE", "INSERT"]

    def lose(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if left and statement.startswith(left[0]):
            left.pop(0)
            subject.disconnect_all()
            _connection.exec_driver_sql("SELECT 1")  # so the driver learns of it now

    sa.event.listen(subject.engine, "after_cursor_execute", lose)
    replaced = store.replace(key, entry, b"new", 600)
    assert replaced is not None
    assert (replaced.repeated, replaced.version) == (True, 2)
    assert not store.replace(key, entry, b"stale", 600)
    created = store.create(new_key(), b"data", 600)
    assert created is not None
    assert created.repeated
    assert left == []
    loaded = store.load(key)
    assert loaded is not None
    assert (loaded.data, loaded.version, loaded.token) == (b"new", 2, replaced.token)


@pytest.mark.parametrize(
    ("driver", "crash"),
    [*((driver, True) for driver in DRIVERS), ("psycopg", False), ("asyncpg", False)],
)
def test_a_server_restarts_while_requests_run(driver: str, crash: bool) -> None:
    """Outages are short and said so; what was acknowledged is there; then all goes on by itself."""
    server = MariaDB() if driver in ("pymysql", "asyncmy") else PostgreSQL()
    with server, LoopThread() as loop:
        subject = open_subject(driver, server, loop, 3.0)
        store, keys = subject.store, [new_key() for _ in range(4)]
        for key in keys:
            stored(store, key, b"0")
        going, slowest = threading.Event(), [0.0]

        def count(key: str) -> tuple[int, int]:
            done = unknown = 0
            while not going.is_set():
                begun = time.monotonic()
                try:
                    entry = store.load(key)
                    assert entry is not None
                    tried = store.replace(key, entry, b"%d" % (int(entry.data) + 1), 600)
                    assert tried is not None
                    done += 1
                except StoreUnavailable:
                    unknown += 1
                    time.sleep(0.02)
                slowest[0] = max(slowest[0], time.monotonic() - begun)
            return done, unknown

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(count, key) for key in keys]
            time.sleep(0.1)
            if crash:
                server.kill()
                server._launch()
            else:
                server.restart()
            time.sleep(0.1)
            assert store.load(keys[0])  # the first request that comes after it
            going.set()
            counted = [each.result() for each in running]
        for key, (done, unknown) in zip(keys, counted, strict=True):
            entry = store.load(key)
            assert entry is not None
            assert done <= int(entry.data) <= done + unknown
            assert done > 0
        assert slowest[0] < 2 * 3.0 + MARGIN
        if isinstance(subject.real, SQLStore):
            subject.real.close()


# servers that do not answer


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_hangs_is_an_outage_within_the_timeout(driver: str) -> None:
    """With connections and without, for one call and for more than there are connections."""
    server = MariaDB() if driver in ("pymysql", "asyncmy") else PostgreSQL()
    with server, LoopThread() as loop:
        used, fresh = (open_subject(driver, server, loop) for _ in range(2))
        key = new_key()
        stored(used.store, key)
        at_once(4, lambda: used.store.load(key))
        server.pause()
        try:
            assert seconds(lambda: fresh.store.touch(key, 60)) < TIMEOUT + MARGIN
            slowest = max(at_once(15, lambda: seconds(lambda: used.store.load(key))))
            assert slowest < TIMEOUT + MARGIN
        finally:
            server.resume()
        for subject in (used, fresh):
            assert eventually(lambda s=subject: s.store.load(key))
        for subject in (used, fresh):
            if isinstance(subject.real, SQLStore):
                subject.real.close()


class Slowly:
    """Lets connections be opened slowly, and notes that one is."""

    def __init__(self, patch: pytest.MonkeyPatch, driver: str) -> None:
        self.asked, self.slow = threading.Semaphore(0), threading.Event()
        self._usual, self._awaits = dialects._opener, driver in ASYNC_DRIVERS
        patch.setattr(dialects, "_opener", self._hesitant)

    def _hesitant(self, *words: Any) -> Callable[..., Any]:
        connect = self._usual(*words)

        def connect_slowly(*arguments: Any, **named: Any) -> Any:
            self.asked.release()
            if self.slow.is_set() and self._awaits:
                await_only(asyncio.sleep(0.5))
            elif self.slow.is_set():
                time.sleep(0.4)
            return connect(*arguments, **named)

        return connect_slowly


def too_late(subject: Subject, loop: LoopThread, slowly: Slowly) -> Subject:
    """Return a store with one connection, which came when its caller had gone."""
    other, before = open_subject(subject.driver, subject.server, loop), connections(subject.server)
    slowly.slow.set()
    if isinstance(other.real, SQLStore):
        with within(0.1), pytest.raises(StoreUnavailable):
            other.real.load("key")
    else:
        with pytest.raises(TimeoutError):
            loop.run(asyncio.wait_for(other.real.load("key"), 0.05))
    assert slowly.asked.acquire(timeout=10)
    slowly.slow.clear()
    until(lambda: connections(subject.server) == before + 1, "there is a connection")
    time.sleep(0.05)  # the server knows of it a little earlier than the store
    return other


@every_driver
def test_a_connection_that_comes_too_late_is_for_the_next_one(subject: Subject) -> None:
    """A database that needs longer for one than an attempt may take would never come back."""
    with pytest.MonkeyPatch.context() as patch, LoopThread() as loop:
        slowly = Slowly(patch, subject.driver)
        other = too_late(subject, loop, slowly)
        assert other.store.load("key") is None
        assert slowly.asked.acquire(blocking=False) is False, "it opened another one"
        if isinstance(other.real, SQLStore):
            other.real.close()


@every_driver
def test_a_connection_that_no_caller_takes_is_closed_with_its_store(subject: Subject) -> None:
    """It belongs to no pool yet."""
    before = connections(subject.server)
    with pytest.MonkeyPatch.context() as patch, LoopThread() as loop:
        other = too_late(subject, loop, Slowly(patch, subject.driver))
        if isinstance(other.real, SQLStore):
            other.real.close()
    until(lambda: connections(subject.server) == before, "it is closed")


def engine_of(subject: Subject) -> sa.Engine:
    if isinstance(subject.real, SQLStore):
        return subject.real._engine
    ((line, _),) = subject.real._lines._all.values()
    return line.database.engine


@every_driver
def test_a_port_that_accepts_and_says_nothing(subject: Subject) -> None:
    """A connection that is never answered is given up within the timeout."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent, LoopThread() as loop:
        place = f"127.0.0.1:{silent.getsockname()[1]}"

        class Elsewhere:
            url = subject.server.url.replace(f"127.0.0.1:{subject.server.port}", place)
            asyncpg_url = url.replace("postgresql:", "postgresql+asyncpg:")

        other = open_subject(subject.driver, Elsewhere, loop)
        assert seconds(lambda: other.store.load("key")) < TIMEOUT + MARGIN
        assert max(at_once(8, lambda: seconds(lambda: other.store.load("key")))) < TIMEOUT + MARGIN


@every_driver
def test_a_row_that_is_locked_is_an_outage_for_its_writers(subject: Subject) -> None:
    """Reads go on; a write ends within the timeout, also at the server; then it works again."""
    store, key, mariadb = subject.store, new_key(), isinstance(subject.server, MariaDB)
    entry = stored(store, key)
    other = subject.server.connect() if mariadb else subject.server.connect("app")
    table, name = ("app.sharedsession", "`key`") if mariadb else ("sharedsession", "key")
    cursor = other.cursor()
    cursor.execute("BEGIN")
    cursor.execute(f"SELECT version FROM {table} WHERE {name} = '{key}' FOR UPDATE")
    with LoopThread() as loop:
        hasty = open_subject(subject.driver, subject.server, loop)
        assert hasty.store.load(key)
        assert seconds(lambda: hasty.store.replace(key, entry, b"new", 600)) < TIMEOUT + MARGIN
        assert hasty.store.load(key)
        if isinstance(hasty.real, SQLStore):
            hasty.real.close()
    cursor.execute("ROLLBACK")
    other.close()
    wait_for_the_unanswered(subject)
    now = store.load(key)
    assert now is not None
    assert store.replace(key, now, b"newer", 600)


def wait_for_the_unanswered(subject: Subject) -> None:
    """See MariaDB to the end of a statement whose client has gone: it waited for the lock too."""
    if isinstance(subject.server, MariaDB):
        running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE%'"
        limit = time.monotonic() + 10
        while subject.server.execute(running)[0][0]:
            assert time.monotonic() < limit
            time.sleep(0.01)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_is_out_of_connections(driver: str) -> None:
    """The sentence says what to change; the first call after one was freed works."""
    if driver in ("pymysql", "asyncmy"):
        server: Database = MariaDB("--max-connections=5", "--extra-max-connections=1")
    else:
        server = PostgreSQL("max_connections=8", "superuser_reserved_connections=3")
    with server, LoopThread() as loop:
        subject = open_subject(driver, server, loop)
        hungry = SQLStore.from_url(f"{server.url}?pool_size=20", 5.0)
        taken: list[Any] = []
        with contextlib.suppress(psycopg.Error, pymysql.Error):
            while len(taken) < 20:
                taken.append(hungry._engine.raw_connection())
        assert 0 < len(taken) < 20
        with pytest.raises(StoreUnavailable, match="max_connections"):
            subject.store.load("key")
        for connection in taken:
            connection.close()
        hungry.close()
        # The server needs a moment to see that they are gone.
        assert eventually(lambda: subject.store.load("key")) is None
        assert stored(subject.store, "key")
        if isinstance(subject.real, SQLStore):
            subject.real.close()


@pytest.mark.parametrize("driver", ["psycopg", "async psycopg", "pymysql"])
def test_a_wrong_password_is_an_outage_that_does_not_repeat_it(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """The sentence says what the server said, and shows no password."""
    name = "mariadb" if driver == "pymysql" else "postgresql"
    server = request.getfixturevalue(name)

    class Wrong:
        url = server.url.replace("s3cret", "wr0ng")

    with LoopThread() as loop, pytest.raises(StoreUnavailable) as caught:
        open_subject(driver, Wrong, loop).store.load("key")
    text = str(caught.value)
    assert "password" in text
    assert not any(word in text for word in ("wr0ng", "the#database", "%2F"))


# forks


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
def test_a_child_has_all_the_connections_that_its_parent_may_have(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """Those of the parent do not count, and are left alone."""
    server = request.getfixturevalue("mariadb" if driver == "pymysql" else "postgresql")
    store, key = SQLStore.from_url(f"{server.url}?pool_size=1", 5.0), new_key()
    assert store.create(key, b"data", 60)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            found = store.load(key)
            os.write(writing, found.data if found else b"nothing")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        assert told.read() == b"data"
    os.waitpid(child, 0)
    assert store.load(key)
    store.close()


# cancellation


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_cancelled_requests_leave_every_connection_in_step(
    driver: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of requests cancelled at any moment: no client ever sees another's session."""
    monkeypatch.setattr(test_cancelled, "CANCELLED", 300)
    server = request.getfixturevalue("mariadb" if driver == "asyncmy" else "postgresql")
    store = AsyncSQLStore.from_url(url_for(server, driver), 5.0)
    site = AsgiAdapter(starlette)(store, store_timeout=5.0)
    browsers = {f"user {number}": Browser() for number in range(test_cancelled.CLIENTS)}
    foreign: list[object] = []
    for name, browser in browsers.items():
        assert site.request(browser, test_cancelled.own(name, foreign)).value is None
    cancelled, answered = site.run(test_cancelled.cancelling(site, browsers, foreign))
    assert cancelled >= 300
    assert answered > 15  # so the moments were spread over the whole of a request
    for name, browser in browsers.items():
        answer = site.request(browser, test_cancelled.own(name, foreign))
        assert answer.value in {name, None}
    assert foreign == []
    site.close()


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_calls_cut_at_their_deadline_leave_every_connection_in_step(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """Here the driver itself is interrupted, at any moment: what it was used for is closed."""
    server = request.getfixturevalue("mariadb" if driver == "asyncmy" else "postgresql")
    store = AsyncSQLStore.from_url(url_for(server, driver), 10.0)
    names = [new_key() for _ in range(12)]

    async def live(name: str, usual: float) -> tuple[int, int]:
        ((line, _),) = store._lines._all.values()
        cut = answered = 0
        while cut < 8:
            line.limit = random.uniform(0, usual)
            try:
                entry = await store.load(name)
            except StoreUnavailable:
                cut += 1
                continue
            answered += 1
            assert entry is not None
            assert entry.data == name.encode()
        return cut, answered

    async def main() -> list[tuple[int, int]]:
        for name in names:
            assert await store.create(name, name.encode(), 600)
        begun = time.monotonic()
        await asyncio.gather(*(store.load(name) for name in names))
        usual = 4 * (time.monotonic() - begun)
        counted = await asyncio.gather(*(live(name, usual) for name in names))
        ((line, _),) = store._lines._all.values()
        line.limit = 10.0
        for name in names:
            entry = await store.load(name)
            assert entry is not None
            assert entry.data == name.encode()
        return counted

    counted = asyncio.run(main())
    assert sum(cut for cut, _ in counted) >= 96
    assert sum(answered for _, answered in counted) > 10


# event loops and engines


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_each_loop_has_connections_of_its_own_and_closes_them(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """A store may be used on loop after loop; what a loop opened, its own shutdown closes."""
    server = request.getfixturevalue("mariadb" if driver == "asyncmy" else "postgresql")
    store = AsyncSQLStore.from_url(url_for(server, driver), 10.0)
    key, before = new_key(), connections(server)

    async def use() -> None:
        assert await store.touch(key, 600)
        assert connections(server) > before

    assert asyncio.run(store.create(key, b"data", 600))
    for _ in range(3):
        asyncio.run(use())
    gc.collect()
    limit = time.monotonic() + 5
    while connections(server) > before:
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert not store._lines


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_a_store_that_is_dropped_as_its_loop_ends(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """The loop has a few turns left, and no time to say goodbye: the sockets are closed in them."""
    server = request.getfixturevalue("mariadb" if driver == "asyncmy" else "postgresql")
    before = connections(server)

    async def scenario() -> None:
        store = AsyncSQLStore.from_url(url_for(server, driver), 10.0)
        await asyncio.gather(*(store.load(new_key()) for _ in range(4)))

    for _ in range(3):
        asyncio.run(scenario())
        gc.collect()  # what was left open would warn
    limit = time.monotonic() + 5
    while connections(server) > before:
        assert time.monotonic() < limit
        time.sleep(0.02)


def connections(server: Any) -> int:
    if isinstance(server, PostgreSQL):
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    else:
        asked = "SELECT count(*) FROM information_schema.processlist WHERE user = 'app'"
    ((count,),) = server.execute(asked)
    return int(count)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "asyncmy"])
def test_calls_that_were_given_up_free_the_users_connections(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """Connections go dead, requests give up: a moment later the pool has new ones to give."""
    server = request.getfixturevalue("mariadb" if driver == "asyncmy" else "postgresql")
    key = new_key()

    async def main(url: str, network: Proxy) -> None:
        engine = create_async_engine(url, pool_size=5, max_overflow=0, pool_timeout=PATIENT)
        store = AsyncSQLStore(engine)
        assert await store.create(key, b"data", 600)
        await asyncio.gather(*(store.load(key) for _ in range(20)))
        network.silence()
        network.restore()
        calls = [asyncio.wait_for(store.load(key), 0.2) for _ in range(5)]
        given_up = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in given_up] == [TimeoutError] * 5
        async with asyncio.timeout(3):  # psycopg by itself would wait for ten seconds
            assert all(await asyncio.gather(*(store.load(key) for _ in range(5))))
        await engine.dispose()

    with Proxy(server.port) as network:
        url = server.url.replace(f":{server.port}/", f":{network.port}/")
        asyncio.run(main(url.replace("://", f"+{driver}://", 1), network))


def test_an_engine_of_the_other_colour_is_refused(postgresql: PostgreSQL) -> None:
    """The sentence names the store that takes it; nothing is made in its place."""
    url = postgresql.url.replace("postgresql:", "postgresql+psycopg:")
    plain, awaited = sa.create_engine(url), create_async_engine(url)
    for wrong in (awaited, awaited.sync_engine):
        with pytest.raises(TypeError, match="AsyncSQLStore"):
            SQLStore(wrong)  # type: ignore[arg-type]  # this is what is refused
    with pytest.raises(TypeError, match="Use SQLStore"):
        AsyncSQLStore(plain)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="create_async_engine"):
        AsyncSQLStore(url)  # type: ignore[arg-type]


# poolers


@pytest.mark.parametrize("driver", ["psycopg", "async psycopg"])
def test_a_pooler_that_shares_connections_between_transactions(
    driver: str, postgresql: PostgreSQL
) -> None:
    """Every verb is one statement, nothing is prepared: pgbouncer's transaction mode serves."""
    with PgBouncer(postgresql) as pooler, LoopThread() as loop:
        subject = open_subject(driver, pooler, loop, 10.0)
        key = new_key()
        stored(subject.store, key, b"0")

        def increment() -> None:
            for _ in range(5):
                while True:
                    entry = subject.store.load(key)
                    assert entry is not None
                    if subject.store.replace(key, entry, b"%d" % (int(entry.data) + 1), 600):
                        break

        at_once(8, increment)
        entry = subject.store.load(key)
        assert entry is not None
        assert (entry.data, entry.version) == (b"40", 41)
        if isinstance(subject.real, SQLStore):
            subject.real.close()


# what is installed


def test_a_server_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests fail with a sentence where a server is missing; they skip nothing."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(MariaDB, "program", "mariadbd-of-nobody")
    from tests.support import databases

    with pytest.raises(ServerMissing, match="install-system-packages mariadb-server"):
        databases._find("mariadbd-of-nobody", "mariadb-server")
