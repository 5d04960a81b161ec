"""A planned switch-over: another server behind the same name, while the old one lives on read-only.

Connections to the old one stay open, and it answers what is read. A write that it refuses has not
been done: it goes by a new connection, and so does everything after it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import base as pool

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.base import QUIET, READY, Event
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import new_key
from tests.stores.sql_stores import OPENED, opened, server_of
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.proxy import Proxy

NOTICED = 60  # seconds, at most, until a process that only reads asks the new server; documented
VERBS: dict[str, Callable[[Any, str, Any], object]] = {
    "create": lambda store, key, entry: store.create(new_key(), b"data", 600),
    "replace": lambda store, key, entry: store.replace(key, entry, b"new", 600),
    "touch": lambda store, key, entry: store.touch(key, 900),
    "delete": lambda store, key, entry: store.delete(key),
    "delete an entry": lambda store, key, entry: store.delete(key, entry),
}


class Switched:
    """Two servers behind one address. What is under `probe` tells which of them answered."""

    def __init__(self, old: Any, new: Any, proxy: Proxy) -> None:
        self._old, self._new, self._proxy = old, new, proxy
        self.url = old.url.replace(f":{old.port}/", f":{proxy.port}/")
        self.probe = new_key()
        for server, data in ((old, b"old"), (new, b"new")):
            store = SQLStore.from_url(server.url, 20.0)
            store.create(self.probe, data, 100_000)
            store.close()

    def back(self) -> None:
        """Let the old one be the primary, and the only one that is connected."""
        self._read_only(False)
        self._proxy.target = self._old.port
        self._proxy.reset()

    def over(self) -> None:
        """Let the new one be the primary; connections to the old one stay open."""
        self._proxy.target = self._new.port
        self._read_only(True)

    def silence(self) -> None:
        """Let the open connections lead nowhere; new ones work."""
        self._proxy.silence()
        self._proxy.restore()

    def _read_only(self, on: bool) -> None:
        if isinstance(self._old, MariaDB):
            self._old.execute(f"SET GLOBAL read_only = {on:d}")
            return
        self._old.execute(f"ALTER SYSTEM SET default_transaction_read_only = {on}")
        self._old.execute("SELECT pg_reload_conf()")
        until(lambda: self._old.execute("SHOW default_transaction_read_only") == [(on_off(on),)])


def on_off(on: bool) -> str:
    return "on" if on else "off"


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pairs() -> Iterator[Callable[[str], Switched]]:
    """Give the two servers of a kind, started when they are first asked for."""
    with ExitStack() as stack:
        made: dict[str, Switched] = {}

        def give(name: str) -> Switched:
            if name not in made:
                kind = MariaDB if name == "mariadb" else PostgreSQL
                old, new = (stack.enter_context(kind()) for _ in range(2))
                made[name] = Switched(old, new, stack.enter_context(Proxy(old.port)))
            return made[name]

        yield give


@pytest.mark.parametrize("how", OPENED)
def test_the_first_write_after_a_switch_over_works(
    pairs: Callable[[str], Switched], how: str
) -> None:
    """By whichever verb, and with many connections to the old server in the pool."""
    both = pairs(server_of(how))
    both.back()
    with opened(how, both.url) as subject:
        store = subject.store
        for name, verb in VERBS.items():
            both.back()
            key = new_key()
            entry = store.create(key, b"data", 600)
            with ThreadPoolExecutor(5) as threads:
                seen = threads.map(lambda _: store.load(both.probe).data, range(20))
            assert set(seen) == {b"old"}, name
            # One that was suspect before this is replaced when it is taken next: of those, the
            # write could get the first that leads to the new server, and no other would be refused.
            assert {store.load(both.probe).data for _ in range(20)} == {b"old"}, name
            both.over()
            verb(store, key, entry)
            assert store.load(both.probe).data == b"new", name
        assert store.create(new_key(), b"data", 600)


@pytest.mark.parametrize("how", [how for how in OPENED if how.endswith("URL")])
def test_a_process_that_only_reads_notices_in_time(
    pairs: Callable[[str], Switched], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections have an age: within the documented time the new server is asked."""
    both = pairs(server_of(how))
    both.back()
    with opened(how, both.url) as subject:
        for _ in range(3):
            assert subject.store.load(both.probe).data == b"old"
        both.over()
        assert subject.store.load(both.probe).data == b"old"
        later = SimpleNamespace(time=lambda: time.time() + NOTICED)
        monkeypatch.setattr(pool, "time", later)  # where SQLAlchemy reads the age
        assert subject.store.load(both.probe).data == b"new"


@pytest.mark.parametrize("how", [how for how in OPENED if how.endswith("URL")])
def test_connections_that_are_old_and_dead_cost_nobody_an_answer(
    pairs: Callable[[str], Switched], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are let go of without a word, for which nobody would wait in vain."""
    both = pairs(server_of(how))
    both.back()
    with opened(how, both.url, 1.5) as subject, ThreadPoolExecutor(5) as threads:
        assert all(threads.map(lambda _: subject.store.load(both.probe), range(20)))
        both.silence()
        later = SimpleNamespace(time=lambda: time.time() + NOTICED)
        monkeypatch.setattr(pool, "time", later)
        assert all(threads.map(lambda _: subject.store.load(both.probe), range(20)))


def test_no_heartbeat_comes_from_a_server_that_only_reads(
    pairs: Callable[[str], Switched],
) -> None:
    """Copies are then used for the short lease only: the writes of others go elsewhere."""
    both = pairs("postgresql")
    both.back()
    store = SQLStore.from_url(both.url, 20.0)
    heard = store.listen("listener")
    assert next(heard) is READY

    def beats(number: int) -> bool:
        store.heartbeat("listener", number)
        events = [next(heard) for _ in range(4)]
        assert all(event is QUIET or event == Event(heartbeat=number) for event in events)
        return Event(heartbeat=number) in events

    assert beats(1)
    both.over()
    assert not beats(2)
    heard.close()
    store.close()


@pytest.mark.parametrize("how", ["psycopg by an engine", "async psycopg by an engine"])
def test_statements_of_the_users_own_are_left_alone(
    pairs: Callable[[str], Switched], how: str
) -> None:
    """What they may not write is their affair; no connection of theirs is replaced for it."""
    both = pairs("postgresql")
    both.back()
    url = both.url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url)
    SQLStore(engine)
    reading = engine.execution_options(postgresql_readonly=True)
    with reading.connect() as connection, pytest.raises(sa.exc.InternalError) as caught:
        connection.execute(sa.text("CREATE TABLE theirs (number int)"))
    assert "read-only" in str(caught.value)
    assert not caught.value.connection_invalidated
    engine.dispose()


@pytest.mark.parametrize("code", ["25006", "25P02", "57P01", "57P02", "57P05", "25P03"])
def test_what_postgresql_says_of_a_connection_of_no_use(postgresql: PostgreSQL, code: str) -> None:
    """It is replaced, with all that were idle, and the call is repeated once."""
    error = psycopg.errors.lookup(code)("so it says")
    is_replaced("psycopg", postgresql.url, error)


@pytest.mark.parametrize("code", [1047, 1053, 1290, 1792, 1836, 1874, 3032, 3100])
def test_what_mysql_says_of_a_connection_of_no_use(mariadb: MariaDB, code: int) -> None:
    """The same; of these a MariaDB that is read-only says 1290 and 1792 alone."""
    is_replaced("pymysql", mariadb.url, pymysql.err.OperationalError(code, "so it says"))


def is_replaced(driver: str, url: str, error: Exception) -> None:
    with opened(f"{driver} by URL", url) as subject:
        used = subject.store.load("nobody"), set[int]()
        left = [error, error]

        def execute(cursor: Any, statement: str, *_: object) -> None:
            used[1].add(id(cursor.connection))
            if len(left) == 2 and "UPDATE" in statement:
                raise left.pop()

        sa.event.listen(subject.engine, "do_execute", execute)
        key = new_key()
        entry = subject.store.create(key, b"data", 600)
        replaced = subject.store.replace(key, entry, b"new", 600)
        assert replaced is not None
        assert len(used[1]) == 2
        left.extend([error] * 3)

        def always(cursor: Any, statement: str, *_: object) -> None:
            raise error

        sa.event.listen(subject.engine, "do_execute", always)
        with pytest.raises(StoreUnavailable, match="so it says"):
            subject.store.replace(key, replaced, b"newer", 600)


def test_a_file_that_was_opened_read_only_is_opened_anew(tmp_path: Path) -> None:
    """A connection stays as it was opened, also when the file may be written by now."""
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 5.0)
    key = new_key()
    entry = store.create(key, b"data", 600)
    assert entry is not None
    with store._engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA query_only = ON")
    replaced = store.replace(key, entry, b"new", 600)
    assert replaced is not None
    assert not replaced.repeated
    store.close()
