"""The contract, the model and many processes on PostgreSQL and MariaDB, by each of the drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from textwrap import indent
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.ext.asyncio import create_async_engine

from sharedsession.stores import open_store
from sharedsession.stores.base import new_token
from sharedsession.stores.sql import AsyncSQLStore, SQLStore
from sharedsession.testing.stores import (
    AsyncStoreConformance,
    Awaited,
    Clock,
    LoopThread,
    StoreConformance,
)
from tests.stores.processes import run_python
from tests.stores.test_model import Pinned, Subject, machine
from tests.stores.test_processes import ASYNC, PROCESSES, SYNC
from tests.support.databases import Database, MariaDB


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    """As later versions are by default: what changed under a statement undoes it."""
    with MariaDB("--innodb-snapshot-isolation=ON") as server:
        yield server


@pytest.fixture(scope="module")
def one_clock() -> Clock:
    """The clock of all stores here, which keep their connections from test to test."""
    return Clock()


@pytest.fixture(scope="module")
def one_loop() -> Iterator[LoopThread]:
    with LoopThread() as loop:
        yield loop


@pytest.fixture(scope="module")
def plain(request: pytest.FixtureRequest, one_clock: Clock) -> Iterator[SQLStore]:
    """A sync store of its own for each kind of server, made from a URL."""
    store = SQLStore.from_url(request.getfixturevalue(request.param).url, 20.0, clock=one_clock)
    yield store
    store.close()


@pytest.fixture(scope="module")
def around(request: pytest.FixtureRequest, one_clock: Clock) -> Iterator[SQLStore]:
    """The same around an engine with transactions, as engines have them that we did not make."""
    url = request.getfixturevalue(request.param).url
    url = url.replace("mariadb:", "mariadb+pymysql:").replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url, pool_size=10)
    yield SQLStore(engine, "Their sessions", one_clock)
    engine.dispose()


def url_by(request: pytest.FixtureRequest) -> str:
    """The URL of the server that the async driver of the test's name speaks to."""
    name = "mariadb" if request.param == "asyncmy" else "postgresql"
    url: str = request.getfixturevalue(name).url
    return url.replace(f"{name}:", f"{name}+{request.param}:")


@pytest.fixture(scope="module")
def awaited(request: pytest.FixtureRequest, one_clock: Clock) -> AsyncSQLStore:
    return AsyncSQLStore.from_url(url_by(request), 20.0, clock=one_clock)


@pytest.fixture(scope="module")
def awaited_around(
    request: pytest.FixtureRequest, one_clock: Clock, one_loop: LoopThread
) -> Iterator[AsyncSQLStore]:
    engine = create_async_engine(url_by(request), pool_size=10)
    yield AsyncSQLStore(engine, "Their sessions", one_clock)
    one_loop.run(engine.dispose())


SERVERS = ["postgresql", "mariadb"]
EACH = 6
ASYNC_DRIVERS = ["psycopg", "asyncpg", "asyncmy"]


@pytest.mark.parametrize("plain", SERVERS, indirect=True)
class TestServers(StoreConformance):
    @pytest.fixture
    def clock(self, one_clock: Clock) -> Clock:
        return one_clock

    @pytest.fixture
    def store(self, plain: SQLStore) -> SQLStore:
        return plain


@pytest.mark.parametrize("around", SERVERS, indirect=True)
class TestTheUsersEngine(StoreConformance):
    @pytest.fixture
    def clock(self, one_clock: Clock) -> Clock:
        return one_clock

    @pytest.fixture
    def store(self, around: SQLStore) -> SQLStore:
        return around


@pytest.mark.parametrize("awaited", ASYNC_DRIVERS, indirect=True)
class TestAsyncDrivers(AsyncStoreConformance):
    @pytest.fixture
    def clock(self, one_clock: Clock) -> Clock:
        return one_clock

    @pytest.fixture
    def loop(self, one_loop: LoopThread) -> LoopThread:
        return one_loop

    @pytest.fixture
    def store(self, awaited: AsyncSQLStore) -> AsyncSQLStore:
        return awaited


@pytest.mark.parametrize("awaited_around", ASYNC_DRIVERS, indirect=True)
class TestTheUsersAsyncEngine(AsyncStoreConformance):
    @pytest.fixture
    def clock(self, one_clock: Clock) -> Clock:
        return one_clock

    @pytest.fixture
    def loop(self, one_loop: LoopThread) -> LoopThread:
        return one_loop

    @pytest.fixture
    def store(self, awaited_around: AsyncSQLStore) -> AsyncSQLStore:
        return awaited_around


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A store of the model test, by the name of its driver."""
    clock = Clock()
    name = "mariadb" if request.param in ("pymysql", "asyncmy") else "postgresql"
    server: Database = request.getfixturevalue(name)
    if request.param in ("pymysql", "psycopg"):
        store = SQLStore.from_url(server.url, 20.0, clock=clock)
        yield Subject(store, Pinned(store), clock.advance)
        store.close()
        return
    url = server.url.replace("postgresql:", f"postgresql+{request.param.removeprefix('async ')}:")
    awaited = AsyncSQLStore.from_url(url, 20.0, clock=clock)
    with LoopThread() as loop:
        yield Subject(Awaited(awaited, loop), Pinned(awaited), clock.advance)


@pytest.mark.parametrize(
    "subject", ["psycopg", "async psycopg", "asyncpg", "pymysql", "asyncmy"], indirect=True
)
def test_a_store_behaves_as_its_model(subject: Subject) -> None:
    """Any sequence of calls, lost answers and passing time has the answers of the model."""
    run_state_machine_as_test(
        machine(subject),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", SERVERS)
def test_increments_of_eight_processes_add_up(name: str, request: pytest.FixtureRequest) -> None:
    """Sync and async processes, by every driver, on a database where all want to make the table."""
    server: Any = request.getfixturevalue(name)
    urls = [server.asyncpg_url, server.url] if name == "postgresql" else [server.url]
    urls = [f"{url}?pool_size=2&table=increments" for url in urls]
    code = "from sharedsession.stores import open_store\nurl = urls[number % len(urls)]\n"
    code += f"if number < 4:\n{indent(SYNC, '    ')}\nelse:\n{indent(ASYNC, '    ')}"
    lost = run_python(PROCESSES, code, urls=urls, each=EACH)
    store = SQLStore.from_url(urls[-1], 20.0)
    entry = store.load("row")
    assert entry is not None
    assert entry.data == b"%d" % (PROCESSES * EACH)
    assert entry.version == PROCESSES * EACH + 1
    assert sum(map(int, lost)) > 0  # they did meet
    store.close()


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg", "MariaDB"])
def test_both_colours_are_one_store(kind: str, request: pytest.FixtureRequest) -> None:
    """What one colour wrote, the other reads and replaces, token and all."""
    name = "mariadb" if kind == "MariaDB" else "postgresql"
    server: Any = request.getfixturevalue(name)
    pair = open_store(server.asyncpg_url if kind == "asyncpg" else server.url, 20.0)
    plain, awaited, key = pair.sync, pair.asynchronous, new_token().hex()
    assert isinstance(plain, SQLStore)
    assert isinstance(awaited, AsyncSQLStore)
    created = plain.create(key, b"plain", 60, "somebody")
    assert created is not None
    loaded = asyncio.run(awaited.load(key))
    assert loaded is not None
    assert loaded == replace(created, expires=loaded.expires)
    replaced = asyncio.run(awaited.replace(key, created, b"awaited", 60, "somebody"))
    assert replaced is not None
    found = plain.load(key)
    assert found is not None
    assert found == replace(replaced, expires=found.expires)
    assert plain.touch(key, 600)
    asyncio.run(awaited.delete(key))
    assert plain.load(key) is None
    plain.close()
