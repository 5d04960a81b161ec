"""Each guarantee is demanded once; these fixtures run it over every store and every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from sharedsession.stores.base import AsyncStore, Store
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Clock
from tests.conftest import advance_server
from tests.guarantees.asgi import ADAPTERS as ASGI_ADAPTERS
from tests.guarantees.asgi import FASTAPI, close_loops
from tests.guarantees.awaited import AWAITED
from tests.guarantees.djangos import DJANGO
from tests.guarantees.driver import Adapter, Browser, Server
from tests.guarantees.places import Place
from tests.guarantees.wsgi import WSGI_ADAPTERS
from tests.support.servers import RedisServer

TIMEOUT = 10.0  # far above what a slow machine takes: these tests are not about deadlines
SERVERS = 4
ADAPTERS: dict[str, Adapter] = {**ASGI_ADAPTERS, **WSGI_ADAPTERS, **AWAITED, **DJANGO}


# One server of one type, under names of their own: the stores' own tests run over every type there
# is, and a fixture of theirs that rested on ours, or the other way round, would mix up two servers.


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    """A server for all these tests."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(one_server: RedisServer) -> str:
    """Its address."""
    return one_server.url


@pytest.fixture
def advance_redis(one_server: RedisServer) -> Iterator[Callable[[float], None]]:
    """Let time pass on it."""
    with redis.Redis(port=one_server.port) as admin:
        yield lambda seconds: advance_server(admin, seconds)


@pytest.fixture(scope="session", autouse=True)
def _loops() -> Iterator[None]:
    yield
    close_loops()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quart, Litestar and Django reach stores as ASGI and WSGI do: they have one, in memory."""
    here = Path(__file__).parent
    items[:] = [
        item
        for item in items
        if not (
            item.path.parent == here
            and isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and item.callspec.params.get("adapter") in {*AWAITED, *DJANGO}
            and item.callspec.params.get("place") in ("SQLite", "Redis")
        )
    ]


class Depot:
    """The stores of one kind, one for each server; all tests use them, each with its own keys."""

    def __init__(self, make: Callable[[bool], Store | AsyncStore]) -> None:
        self._make = make
        self._made: dict[tuple[bool, int], Any] = {}

    def opener(self) -> Callable[[bool], Store | AsyncStore]:
        """Return what gives a test's servers their stores, each its own."""
        given = iter(range(1000))

        def give(asynchronous: bool) -> Any:
            place = asynchronous, next(given) % SERVERS
            if place not in self._made:
                self._made[place] = self._make(asynchronous)
            return self._made[place]

        return give

    def close(self) -> None:
        for (asynchronous, _), store in self._made.items():
            if not asynchronous or isinstance(store, SQLStore):
                store.close()


@pytest.fixture(scope="session")
def sqlite_depot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Depot, Clock]]:
    """One file for all tests, and its clock."""
    folder: Path = tmp_path_factory.mktemp("guarantees")
    clock = Clock()
    url = f"sqlite:///{folder}/sessions.db"
    depot = Depot(lambda asynchronous: SQLStore.from_url(url, TIMEOUT, clock=clock))
    yield depot, clock
    depot.close()


@pytest.fixture(scope="session")
def redis_depot(redis_url: str) -> Iterator[Depot]:
    """One Redis for all tests."""

    def make(asynchronous: bool) -> Store | AsyncStore:
        kind = AsyncRedisStore if asynchronous else RedisStore
        return kind.from_url(redis_url, TIMEOUT)

    depot = Depot(make)
    yield depot
    depot.close()


@pytest.fixture(params=["memory", "SQLite", "Redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each kind of store."""
    if request.param == "memory":
        clock = Clock()
        memory = MemoryStore(clock=clock)
        yield Place(lambda asynchronous: memory, clock)
    elif request.param == "SQLite":
        depot, clock = request.getfixturevalue("sqlite_depot")
        yield Place(depot.opener(), clock)
    else:
        depot = request.getfixturevalue("redis_depot")
        yield Place(depot.opener(), Clock(), request.getfixturevalue("advance_redis"))
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as admin:
            admin.flushdb()


@pytest.fixture(params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each way of running an application."""
    return ADAPTERS[request.param]


class Servers:
    """Starts servers of one application on one store: ``first, second = servers(2)``."""

    def __init__(self, adapter: Adapter, place: Place) -> None:
        self._adapter, self._place = adapter, place
        self.running: list[Server] = []

    def __call__(
        self, count: int = 2, adapter: Adapter | None = None, ahead: float = 0, **settings: Any
    ) -> list[Any]:  # Any: Server, or what an adapter's own tests know to be more
        """``ahead``: by how many seconds their clocks are ahead."""
        chosen = adapter or self._adapter

        def clock() -> float:
            return self._place.clock() + ahead

        started = []
        for _ in range(count):
            store = self._place.open(asynchronous=chosen.asynchronous)
            started.append(chosen(store, clock=clock, **settings))
        self.running += started
        return started

    def close(self) -> None:
        for server in self.running:
            server.close()


@pytest.fixture
def servers(adapter: Adapter, place: Place) -> Iterator[Servers]:
    """Servers of the adapter at hand."""
    starting = Servers(adapter, place)
    yield starting
    starting.close()


@pytest.fixture
def browser() -> Browser:
    """A client without a cookie."""
    return Browser()


@pytest.fixture(params=["ASGI", "Starlette", "Litestar"])
def sockets(request: pytest.FixtureRequest, place: Place) -> Iterator[Servers]:
    """Servers that speak WebSocket as well."""
    starting = Servers(ADAPTERS[request.param], place)
    yield starting
    starting.close()


FRAMEWORKS: dict[str, Adapter] = {**ADAPTERS, "FastAPI": FASTAPI}
