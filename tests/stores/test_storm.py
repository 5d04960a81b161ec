"""A server that hangs under load: how many sockets and threads its clients then have."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores._support.deadline import within
from sharedsession.stores.memcached import sync as memcached
from sharedsession.testing.stores import new_key
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer

SIZE = 5  # connections that a process may have
CLIENTS = 40
HANGS = 2.5  # seconds
TRY = 0.1  # seconds that an attempt has while a store is down
LASTS = 5  # readings, of a hundredth of a second each

KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "Redis": (RedisServer, "max_connections"),
    "Memcached": (MemcachedServer, ""),
    "psycopg": (PostgreSQL, "pool_size"),
    "asyncpg": (PostgreSQL, "pool_size"),
    "MariaDB": (MariaDB, "pool_size"),
}


class Watch:
    """Counts this process's sockets, and the threads that open them, until it is told to stop."""

    def __init__(self) -> None:
        self.sockets = self.threads = self._others = 0
        self._others = self.now()  # those of the test itself
        self._goes_on = True
        self._thread = threading.Thread(target=self._run)

    def now(self) -> int:
        """Return how many sockets there are by now."""
        count = 0
        for file in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as quickly as it can be
            with suppress(OSError):  # closed meanwhile
                count += os.readlink(f"/proc/self/fd/{file}")[:7] == "socket:"  # noqa: PTH115 - the same
        return count - self._others

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on = False
        self._thread.join()

    def _run(self) -> None:
        # The list is not of one moment, and one connection may close while the next opens:
        # what counts is what lasts.
        sockets, threads = deque([0], LASTS), deque([0], LASTS)
        while self._goes_on:
            sockets.append(self.now())
            names = [thread.name for thread in threading.enumerate()]
            threads.append(names.count("sharedsession-connect"))
            self.sockets = max(self.sockets, min(sockets))
            self.threads = max(self.threads, min(threads))
            time.sleep(0.01)


@contextmanager
def hanging(server: Any) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(memcached, "CONNECTIONS", SIZE)
    name: str = request.param
    return name


def url_of(kind: str, server: Any) -> str:
    option = KINDS[kind][1]
    url: str = server.url + (f"{'&' if '?' in server.url else '?'}{option}={SIZE}" * bool(option))
    return url.replace("postgresql:", "postgresql+asyncpg:") if kind == "asyncpg" else url


def test_threads_that_try_again_and_again(kind: str) -> None:
    """At most as many sockets as the store may have, and one; and no more when it is over."""
    with KINDS[kind][0]() as server:
        watch = Watch()
        store: Any = open_store(url_of(kind, server)).sync
        key = new_key()
        assert store.create(key, b"data", 600)

        def client(until: float, seconds: float) -> None:
            while time.monotonic() < until:
                with suppress(StoreUnavailable), within(seconds):
                    store.load(key)

        def all_for(seconds: float, each: float) -> None:
            until = time.monotonic() + seconds
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda _: client(until, each), range(CLIENTS)))

        all_for(0.5, 1.0)
        with watch:
            with hanging(server):
                all_for(HANGS, TRY)
                assert watch.sockets <= SIZE + 1
            all_for(0.5, 1.0)
        assert watch.sockets <= SIZE + 1 + 1  # by one the test asks whether the server is back
        assert watch.threads <= SIZE + 1
        assert store.load(key).data == b"data"
        assert watch.now() <= SIZE
        store.close()


def test_tasks_that_try_again_and_again(kind: str) -> None:
    """The same on an event loop."""
    with KINDS[kind][0]() as server:
        store: Any = open_store(url_of(kind, server)).asynchronous
        key = new_key()

        async def client(until: float, seconds: float) -> None:
            while time.monotonic() < until:
                with suppress(StoreUnavailable, TimeoutError):
                    async with asyncio.timeout(seconds):
                        await store.load(key)

        async def all_for(seconds: float, each: float) -> None:
            until = time.monotonic() + seconds
            await asyncio.gather(*(client(until, each) for _ in range(CLIENTS)))

        async def scenario() -> None:
            watch = Watch()
            assert await store.create(key, b"data", 600)
            await all_for(0.5, 1.0)
            with watch:
                with hanging(server):
                    await all_for(HANGS, TRY)
                    assert watch.sockets <= SIZE + 1
                await all_for(0.5, 1.0)
            assert watch.sockets <= SIZE + 1 + 1
            assert watch.threads <= SIZE + 1
            assert (await store.load(key)).data == b"data"
            assert watch.now() <= SIZE

        asyncio.run(scenario())
