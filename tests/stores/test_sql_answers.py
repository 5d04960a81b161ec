"""Answers that are lost while others write, ends by entry, and stores without room.

A write that is sent again looks for its token among those of the last four writes. More writes by
others may have pushed it out: then nothing is known of it, and it is not said to have lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from sharedsession.exceptions import StoreFull, StoreUnavailable
from sharedsession.stores.base import TOKENS_KEPT
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Clock, new_key
from tests.stores.sql_stores import OF_MYSQL, OPENED, WAYS, Opened, opened, server_of
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.proxy import Fate, Proxy

Losing = Callable[[str, bytes | None, int], None]


@pytest.fixture
def losing(request: pytest.FixtureRequest) -> Iterator[tuple[Any, SQLStore, Losing]]:
    """A store behind a network, one that reaches the server directly, and what loses an answer.

    That of the write after which the key holds these data, or nothing: lost when others have
    written so many times.
    """
    server = request.getfixturevalue(server_of(request.param))
    direct = SQLStore.from_url(server.url, 20.0)
    with Proxy(server.port) as proxy, ExitStack() as stack:

        def lose(key: str, data: bytes | None, others: int) -> None:
            def fate(asked: bytes) -> Fate:
                entry = direct.load(key)
                if (entry and entry.data) != data:
                    return Fate.ARRIVES
                proxy.fate = lambda asked: Fate.ARRIVES
                for number in range(others):
                    assert entry is not None
                    entry = direct.replace(key, entry, b"other %d" % number, 600)
                return Fate.LOST

            proxy.fate = fate

        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        store = stack.enter_context(opened(request.param, url)).store
        yield store, direct, lose
        assert proxy.fates == [Fate.LOST]
    direct.close()


by_every_driver = pytest.mark.parametrize("losing", OPENED, indirect=True)


@by_every_driver
@pytest.mark.parametrize("others", [0, TOKENS_KEPT - 1])
def test_a_write_that_is_found_among_the_kept(losing: Any, others: int) -> None:
    """Its answer was lost, fewer others wrote than tokens are kept: it counts, once."""
    store, direct, lose = losing
    key = new_key()
    entry = store.create(key, b"first", 600)
    lose(key, b"mine", others)
    replaced = store.replace(key, entry, b"mine", 600)
    assert replaced is not None
    assert replaced.repeated
    assert direct.load(key).version == 2 + others


@by_every_driver
@pytest.mark.parametrize("verb", ["create", "replace"])
def test_a_write_that_others_pushed_out_is_unknown(losing: Any, verb: str) -> None:
    """Four writes by others before the repetition: an outage, so that it is never done twice."""
    store, direct, lose = losing
    key = new_key()
    entry = None if verb == "create" else store.create(key, b"first", 600)
    store.load(key)  # whatever is made on first use is there
    lose(key, b"mine", TOKENS_KEPT)
    compared = (key,) if entry is None else (key, entry)
    with pytest.raises(StoreUnavailable, match="unknown"):
        getattr(store, verb)(*compared, b"mine", 600)
    assert direct.load(key).version == TOKENS_KEPT + (1 if verb == "create" else 2)


@by_every_driver
def test_an_end_by_entry_whose_answer_was_lost(losing: Any) -> None:
    """Who removed it is not known then: False, as of any key that is absent."""
    store, direct, lose = losing
    key = new_key()
    entry = store.create(key, b"data", 600)
    store.load(key)
    lose(key, None, 0)
    assert store.delete(key, entry) is False
    assert direct.load(key) is None


@pytest.fixture
def ending(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Clock]]:
    """A store by each driver and of SQLite, whose clock the test moves."""
    clock = Clock()
    if request.param == "SQLite":
        store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 20.0, clock=clock)
        yield store, clock
        store.close()
        return
    server = request.getfixturevalue(server_of(request.param))
    with opened(request.param, server.url, clock=clock) as subject:
        yield subject.store, clock


@pytest.mark.parametrize("ending", [*OPENED, "SQLite"], indirect=True)
def test_an_end_by_entry(ending: tuple[Any, Clock]) -> None:
    """Only while the key still holds it: not after another write, nor when it has expired."""
    store, clock = ending
    key, other = new_key(), new_key()
    entry = store.create(key, b"data", 600)
    another = store.create(other, b"data", 600)
    assert store.delete(key, another) is False
    replaced = store.replace(key, entry, b"new", 600)
    assert store.delete(key, entry) is False
    assert store.load(key) == replaced
    assert store.touch(key, 900)  # the same data and token
    assert store.delete(key, replaced) is True
    assert store.load(key) is None
    assert store.delete(key, replaced) is False
    assert store.delete(key) is True
    clock.advance(600)
    assert store.delete(other, another) is False
    assert store.delete(other) is True
    assert store.create(key, b"anew", 600) is not None


# --- no room --------------------------------------------------------------------------------------


@pytest.fixture(params=WAYS)
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLStore]:
    """A SQLite file that may grow to a few pages."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    engine = sa.create_engine(url)
    store = SQLStore.from_url(url, 5.0) if request.param == "by URL" else SQLStore(engine)
    sa.event.listen(
        store._engine if request.param == "by URL" else engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA max_page_count = 10").close(),
    )
    yield store
    store.close()
    engine.dispose()


def test_a_file_at_its_limit_takes_ends(small: SQLStore) -> None:
    """A write is refused before anything is written; the record can be removed all the same."""
    key = new_key()
    entry = small.create(key, b"data", 600)
    assert entry is not None
    small.create(new_key(), b"x" * 10_000, 600)
    with pytest.raises(StoreFull, match="max_page_count"):
        small.create(new_key(), b"x" * 20_000, 600)
    with pytest.raises(StoreFull):
        small.replace(key, entry, b"x" * 20_000, 600)
    assert (found := small.load(key)) is not None
    assert found == dataclasses.replace(entry, expires=found.expires)
    assert small.delete(key, entry) is True
    assert small.load(key) is None


def test_nothing_is_said_of_a_write_that_was_sent_before(small: SQLStore) -> None:
    """The first answer was lost, the repetition found no room: it may have been written."""
    key = new_key()
    entry = small.create(key, b"data", 600)
    assert entry is not None
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    errors: list[Exception] = [
        sqlite3.ProgrammingError("Cannot operate on a closed database."),
        full,
    ]

    def fail(_cursor: Any, statement: str, *_: object) -> None:
        if errors and statement.startswith("UPDATE"):
            raise errors.pop(0)

    sa.event.listen(small._engine, "do_execute", fail)
    with pytest.raises(StoreUnavailable) as caught:
        small.replace(key, entry, b"new", 600)
    assert not isinstance(caught.value, StoreFull)
    assert errors == []


def test_a_table_without_room_can_be_read() -> None:
    """MariaDB refuses what is to grow, before anything is written, and says so; by each driver."""
    fixed = ("--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M")
    key, large = new_key(), b"x" * 500_000
    with MariaDB(*fixed) as server:
        with opened(OF_MYSQL[0], server.url) as subject:
            entry = subject.store.create(key, b"data", 600)
            with contextlib.suppress(StoreFull):
                while subject.store.create(new_key(), large, 600):
                    pass
        for how in OF_MYSQL:
            with opened(how, server.url) as subject:
                with pytest.raises(StoreFull, match="is full"):
                    subject.store.replace(key, entry, large, 600)
                loaded = subject.store.load(key)
                assert (loaded.data, loaded.token) == (entry.data, entry.token)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1021, "Disk full (/var/lib/mysql); waiting for someone to free some space..."),
        (1030, 'Got error 28 "No space left on device" from storage engine InnoDB'),
        (1026, "Error writing file 'x' (errno: 28 \"No space left on device\")"),
    ],
)
def test_what_mysql_says_of_a_full_disk(mariadb: MariaDB, code: int, text: str) -> None:
    """By different numbers, and by the reason that it has for one of them."""
    with opened("pymysql by URL", mariadb.url) as subject:
        subject.store.load("nobody")
        fails(subject, pymysql.err.OperationalError(code, text))
        with pytest.raises(StoreFull, match=r"full|No space"):
            subject.store.create(new_key(), b"data", 600)


def test_what_postgresql_says_of_a_full_disk(postgresql: PostgreSQL) -> None:
    """It undoes the statement, and goes on; ends may be refused as well, in the same words."""
    with opened("psycopg by URL", postgresql.url) as subject:
        entry = subject.store.create(new_key(), b"data", 600)
        text = 'could not extend file "base/1/2": No space left on device'
        fails(subject, psycopg.errors.DiskFull(text))
        with pytest.raises(StoreFull, match="make room on the database's disk"):
            subject.store.create(new_key(), b"data", 600)
        with pytest.raises(StoreFull, match="make room on the database's disk"):
            subject.store.delete(new_key(), entry)


def test_an_error_of_a_file_for_another_reason_is_no_lack_of_room(mariadb: MariaDB) -> None:
    """The same number, another reason: whether anything was written is not known."""
    with opened("pymysql by URL", mariadb.url) as subject:
        subject.store.load("nobody")
        fails(subject, pymysql.err.OperationalError(1030, "Got error 5 from storage engine"))
        with pytest.raises(StoreUnavailable) as caught:
            subject.store.create(new_key(), b"data", 600)
        assert not isinstance(caught.value, StoreFull)


@pytest.mark.parametrize("how", OPENED)
def test_what_an_altered_table_refuses_is_an_outage(
    how: str, request: pytest.FixtureRequest
) -> None:
    """A constraint that an operator added is no key that is taken; nothing of the row is shown."""
    with opened(how, request.getfixturevalue(server_of(how)).url) as subject:
        entry = subject.store.create(new_key(), b"data", 600)
        driver: Any = subject.engine.dialect.loaded_dbapi
        fails(subject, driver.IntegrityError("Duplicate entry 'secret' for key 'theirs'"))
        for write in (
            lambda: subject.store.create(new_key(), b"data", 600),
            lambda: subject.store.replace(new_key(), entry, b"new", 600),
        ):
            with pytest.raises(StoreUnavailable, match="refused a value") as caught:
                write()
            assert "secret" not in "".join(traceback.format_exception(caught.value))


def fails(subject: Opened, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    sa.event.listen(subject.engine, "do_execute", fail)
