"""SQL stores of each driver, from URLs and around engines, all called by plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from sharedsession.stores.sql import AsyncSQLStore, SQLStore
from sharedsession.testing.stores import LoopThread

SYNC_DRIVERS = ["psycopg", "pymysql"]
ASYNC_DRIVERS = ["async psycopg", "asyncpg", "asyncmy"]
DRIVERS = SYNC_DRIVERS + ASYNC_DRIVERS
WAYS = ["by URL", "by an engine"]
OPENED = [f"{driver} {way}" for driver in DRIVERS for way in WAYS]
OF_MYSQL = [how for how in OPENED if "mysql" in how or "asyncmy" in how]


class Plainly:
    """An async store, all of whose verbs are called on a loop in a thread."""

    def __init__(self, store: AsyncSQLStore, loop: LoopThread) -> None:
        self._store, self._loop = store, loop

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda *words, **named: self._loop.run(getattr(self._store, verb)(*words, **named))


@dataclass
class Opened:
    """A store and the engine that it uses."""

    store: Any  # a Store, and more than the five verbs
    engine: sa.Engine


def server_of(how: str) -> str:
    """Return the fixture of the server that a driver speaks to."""
    return "mariadb" if how in OF_MYSQL else "postgresql"


@contextmanager
def opened(how: str, url: str, timeout: float = 20.0, **engine: Any) -> Iterator[Opened]:
    """Open a store, ``how`` being a driver and a way: "asyncpg by URL", "pymysql by an engine"."""
    driver, way = how.rsplit(" by ", 1)
    url = url.replace("://", f"+{driver.removeprefix('async ')}://", 1)
    clock = engine.pop("clock", None)
    more = {} if clock is None else {"clock": clock}
    if driver in SYNC_DRIVERS:
        theirs = sa.create_engine(url, **engine)
        store = (
            SQLStore.from_url(url, timeout, **more) if way == "URL" else SQLStore(theirs, **more)
        )
        yield Opened(store, store._engine)
        store.close()
        theirs.dispose()
        return
    with LoopThread() as loop:
        their_own = create_async_engine(url, **engine)
        awaited = (
            AsyncSQLStore.from_url(url, timeout, **more)
            if way == "URL"
            else AsyncSQLStore(their_own, **more)
        )
        plainly = Plainly(awaited, loop)
        plainly.load("nobody")
        ((line, _),) = awaited._lines._all.values()
        yield Opened(plainly, line.database.engine)
        loop.run(their_own.dispose())
