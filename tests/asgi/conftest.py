"""The stores that the middleware is tested over, one fixture for each need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from anyio.from_thread import start_blocking_portal

from sharedsession.stores import StorePair, open_store
from sharedsession.stores.base import Store
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Clock
from tests.asgi.application import TIMEOUT, Browser, Site
from tests.support.fixtures import no_settings_from_outside
from tests.support.servers import RedisServer
from tests.support.watched import WatchedStore

__all__ = ["no_settings_from_outside"]


@dataclass
class Opened:
    """A store by its URL, with a look into it from the side."""

    url: str
    pair: StorePair

    @property
    def store(self) -> Store:
        return self.pair.sync

    def site(self, **settings: Any) -> Site:
        return Site(self.url, **settings)


@dataclass
class Timed:
    """A store and middlewares that share one clock."""

    store: Store
    clock: Clock

    def site(self, **settings: Any) -> Site:
        return Site(self.store, self.clock, **settings)


@pytest.fixture(scope="session")
def one_redis() -> Iterator[str]:
    """The address of one server of the Redis type; which one makes no difference here."""
    with RedisServer() as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Each store, as an application chooses it: by its URL."""
    match request.param:
        case "memory":
            url = f"memory://{uuid4().hex}"
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'sessions.db'}"
        case _:
            url = request.getfixturevalue("one_redis")
    pair = open_store(url, TIMEOUT)
    yield Opened(url, pair)
    if request.param != "memory":
        pair.sync.close()  # type: ignore[attr-defined]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def timed(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Timed]:
    """The stores that take a clock, with the clock of the test."""
    if request.param == "memory":
        yield Timed(MemoryStore(clock=clock), clock)
        return
    store = SQLStore.from_url(f"sqlite:///{tmp_path / 'sessions.db'}", TIMEOUT, clock=clock)
    yield Timed(store, clock)
    store.close()


@pytest.fixture
def watched(clock: Clock) -> WatchedStore:
    return WatchedStore(clock)


@pytest.fixture
def site(watched: WatchedStore, clock: Clock) -> Site:
    return Site(watched, clock)


@pytest.fixture
def browser(site: Site) -> Iterator[Browser]:
    """A browser whose requests share an event loop, which is quicker; the others have one each."""
    browser = site.browser()
    with start_blocking_portal() as browser.portal:
        yield browser


@pytest.fixture
def make_site(watched: WatchedStore, clock: Clock) -> Callable[..., Site]:
    """Sites with other settings on the same store and clock."""
    return lambda **settings: Site(watched, clock, **settings)
