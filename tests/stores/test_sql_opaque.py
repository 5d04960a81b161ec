"""Values are opaque on MySQL and MariaDB: under every mode and charset, by every driver and engine.

These drivers write values into the statement. What a visitor has typed must never become part of
it, nor come back changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sharedsession.testing.stores import Clock, new_key
from tests.stores.sql_stores import OF_MYSQL, opened
from tests.support.databases import MariaDB

MODES = [
    "",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
    "PAD_CHAR_TO_FULL_LENGTH,STRICT_ALL_TABLES",
]
CHARSETS = ["latin1", "gbk", "sjis", "big5", "utf8mb4"]
TEXTS = [
    "x', expires=0, owner='x' WHERE 1=1 -- ",
    "x\\', expires=0 WHERE 1=1 -- ",
    "\\",
    "'",
    '"',
    "`",
    "%s %(key)s :key %%",
    "x') OR ('1'='1",
    "\u7e3a' OR 1=1 -- ",  # a second byte of some of these charsets is a quote's or a backslash's
    "\u8868\\' OR 1=1 -- ",
    "\U0001f511 no\x00body\x1a\r\n",
]
BYTES = [
    *(text.encode() for text in TEXTS),
    bytes(range(256)),
    b"\xbf' OR 1=1 -- ",
    b"\xbf\\' OR 1=1 -- ",
    b"\x95\\' OR 1=1 -- ",
    b"",
]
KEYS = ["x' OR '1'='1", 'x" OR "1"="1', "x\\", "x' -- ", "x`", "%s"]


@pytest.fixture
def server(mariadb: MariaDB) -> Iterator[MariaDB]:
    yield mariadb
    mariadb.execute("SET GLOBAL sql_mode = DEFAULT")
    mariadb.execute("DROP TABLE IF EXISTS app.sharedsession")


def all_come_back(store: Any, clock: Clock) -> None:
    """Every verb, with every value in each place: the values come back, and no other row moves."""
    victim = new_key()
    untouched = store.create(victim, b"victim", 10_000, "victim")
    for number, data in enumerate(BYTES):
        key, owner = new_key(), TEXTS[number % len(TEXTS)]
        entry = store.create(key, data, 600, owner)
        assert store.load(key) == entry
        assert entry.data == data
        for more in (data + b"more", data):
            entry = store.replace(key, entry, more, 600, owner)
            assert store.load(key) == entry
            assert entry.data == more
        assert store.load_all([key, victim]) == [entry, untouched]
        assert store.delete(key, entry) is True
    for key in KEYS:
        entry = store.create(key, b"data", 10, "x")
        assert store.create(key, b"other", 10) is None
        assert store.load(key) == entry
        assert store.load_all([*KEYS, victim])[-1] == untouched
        assert store.touch(key, 600)
        assert store.replace(key, untouched, b"data", 600) is None  # the tokens of another row
        assert store.delete(key, untouched) is False
        assert store.delete(key) is True
        assert store.load(key) is None
    # A sweep reads keys, and sjis shows a backslash as another character; real keys have none.
    expiring = [key for key in KEYS if "\\" not in key]
    for key in expiring:
        assert store.create(key, b"data", 10, "x")
    clock.advance(11)
    assert store.sweep(100) == len(expiring)
    assert store.load(victim) == untouched


def owners(server: MariaDB) -> set[str]:
    rows = server.execute("SELECT HEX(owner) FROM app.sharedsession WHERE owner IS NOT NULL")
    return {bytes.fromhex(owner).decode() for (owner,) in rows}


@pytest.mark.parametrize("how", OF_MYSQL)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_the_server(server: MariaDB, how: str, mode: str) -> None:
    """Whatever sql_mode says of quotes and backslashes, a value is a value."""
    server.execute(f"SET GLOBAL sql_mode = '{mode}'")
    clock = Clock()
    with opened(how, server.url, clock=clock) as subject:
        all_come_back(subject.store, clock)


@pytest.mark.parametrize("how", OF_MYSQL)
@pytest.mark.parametrize("charset", CHARSETS)
def test_every_charset_of_a_connection(server: MariaDB, how: str, charset: str) -> None:
    """Also of those in which a quote or a backslash may be the second byte of a character."""
    server.execute("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
    clock = Clock()
    with opened(how, f"{server.url}?charset={charset}", clock=clock) as subject:
        all_come_back(subject.store, clock)


@pytest.mark.parametrize("how", OF_MYSQL)
def test_a_mode_that_changes_while_connected(server: MariaDB, how: str) -> None:
    """Before each statement another mode, of which the driver may not have learned."""
    clock, modes = Clock(), itertools.cycle(["NO_BACKSLASH_ESCAPES", "", "ANSI_QUOTES"])

    def change(_: Any, cursor: Any, *more: object) -> None:
        cursor.execute(f"SET SESSION sql_mode = '{next(modes)}'")

    with opened(how, server.url, clock=clock) as subject:
        sa.event.listen(subject.engine, "before_cursor_execute", change)
        all_come_back(subject.store, clock)


@pytest.mark.parametrize("how", [how for how in OF_MYSQL if how.endswith("URL")])
def test_a_mode_of_identifiers_that_changes_between_connections(server: MariaDB, how: str) -> None:
    """SQLAlchemy asks once how names are quoted; later connections may have another mode."""
    server.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES'")
    with opened(how, server.url) as subject:
        store, key = subject.store, new_key()
        entry = store.create(key, b"data", 600)
        server.execute("SET GLOBAL sql_mode = ''")
        server.execute("KILL USER app")
        loaded = store.load(key)
        assert (loaded.data, loaded.token) == (entry.data, entry.token)


@pytest.mark.parametrize("how", OF_MYSQL)
def test_an_owner_is_stored_as_it_is(server: MariaDB, how: str) -> None:
    """Text that a visitor typed, of any script, in its column and not beside it."""
    server.execute("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
    with opened(how, f"{server.url}?charset=latin1") as subject:
        for owner in TEXTS:
            assert subject.store.create(new_key(), b"data", 600, owner)
    rows = server.execute("SELECT HEX(owner) FROM app.sharedsession")
    assert {bytes.fromhex(owner).decode() for (owner,) in rows} == set(TEXTS)


@pytest.mark.parametrize("how", OF_MYSQL)
def test_nothing_but_digits_reaches_a_statement(server: MariaDB, how: str) -> None:
    """So that no driver has anything to escape, this one or another."""
    given: list[Any] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        given.extend(parameters.values() if isinstance(parameters, dict) else parameters)

    clock = Clock()
    with opened(how, server.url, clock=clock) as subject:
        subject.store.load("nobody")
        sa.event.listen(subject.engine, "before_cursor_execute", note)
        all_come_back(subject.store, clock)
    texts = [value for value in given if not isinstance(value, int | float | None)]
    assert len(texts) > 100
    assert all(isinstance(text, str) and set(text) <= set("0123456789abcdef") for text in texts)


def test_the_primary_key_serves_a_load(server: MariaDB) -> None:
    """A key that arrives as digits is still one look into the index."""
    seen: list[str] = []

    def note(_c: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        seen.append(cursor.mogrify(statement, parameters))

    with opened("pymysql by URL", server.url) as subject:
        keys = [new_key() for _ in range(50)]
        for key in keys:
            subject.store.create(key, b"data", 600)
        sa.event.listen(subject.engine, "before_cursor_execute", note)
        assert subject.store.load(keys[0])
    statement = seen[-1].replace("FROM sharedsession", "FROM app.sharedsession")
    statement = statement.replace(" sharedsession.", " app.sharedsession.")
    (plan,) = server.execute(f"EXPLAIN {statement}")
    assert "const" in plan
    assert "PRIMARY" in plan
