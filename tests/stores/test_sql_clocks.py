"""Application servers whose clocks are wrong: on a database server, its clock alone counts."""

from __future__ import annotations

import time
from textwrap import dedent, indent
from typing import Any

import pytest

from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import new_key
from tests.stores.processes import run_python
from tests.stores.sql_stores import DRIVERS, server_of

HOUR = 3600
BY_EVERY_DRIVER = pytest.mark.parametrize("how", [f"{driver} by URL" for driver in DRIVERS])
# Everything that the process does follows its own clock, from before the first import on.
THERE = """
import time
real = time.time
time.time = lambda: real() + seconds
from sharedsession.stores.base import Entry
from tests.stores.sql_stores import opened
with opened(how, url) as subject:
    store = subject.store
"""


def there(server: Any, how: str, seconds: int, code: str, **values: object) -> str:
    """What a server with such a clock prints that runs the lines, with a ``store``."""
    indented = indent(dedent(code), "    ")
    given = {"url": f"{server.url}?pool_size=2", "how": how, "seconds": seconds, **values}
    (printed,) = run_python(1, THERE + indented, **given)
    return printed.strip()


@pytest.fixture
def server(request: pytest.FixtureRequest, how: str) -> Any:
    return request.getfixturevalue(server_of(how))


@BY_EVERY_DRIVER
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_session_lives_on_a_server_with_a_wrong_clock(
    server: Any, how: str, seconds: int
) -> None:
    """Every verb finds it there, no sweep removes it, and each lifetime begins now."""
    store = SQLStore.from_url(server.url, 20.0)
    key, new = new_key(), new_key()
    assert store.create(key, b"here", 600)
    printed = there(
        server,
        how,
        seconds,
        """
        entry = store.load(key)
        print(entry.data.decode(), [each.data.decode() for each in store.load_all([key])])
        print(store.touch(key, 700), store.create(key, b"taken", 600), store.sweep(1000))
        print(store.replace(key, entry, b"there", 800).data.decode())
        print(store.create(new, b"new", 900).data.decode(), store.sweep(1000))
        print(store.load(key).data.decode(), store.load(new).data.decode())
        """,
        key=key,
        new=new,
    )
    assert printed.splitlines() == ["here ['here']", "True None 0", "there", "new 0", "there new"]
    for name, data, lifetime in ((key, b"there", 800), (new, b"new", 900)):
        entry = store.load(name)
        assert entry is not None
        assert entry.expires is not None
        assert entry.data == data
        assert abs(entry.expires - time.time() - lifetime) < 60
    code = "print(store.delete(key, store.load(key)), store.load(key))"
    assert there(server, how, seconds, code, key=key) == "True None"
    store.close()


@BY_EVERY_DRIVER
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_an_expired_session_is_gone_on_a_server_with_a_wrong_clock(
    server: Any, how: str, seconds: int
) -> None:
    """No verb finds it there, its key is free, and a sweep removes it."""
    store = SQLStore.from_url(server.url, 20.0)
    key, free = new_key(), new_key()
    for each in (key, free):
        assert store.create(each, b"data", 600)
    server.in_app(
        f"UPDATE {'app.' * ('maria' in server.url)}sharedsession SET expires = expires - 610"
    )
    printed = there(
        server,
        how,
        seconds,
        """
        row = Entry(b"data", 1, None, tokens)
        print(store.load(key), store.load_all([key]), store.touch(key, 600))
        print(store.replace(key, row, b"revived", 600), store.delete(key, row))
        print(store.create(free, b"anew", 600).data.decode())
        store.sweep(1000)  # unless one beside the create has come first
        """,
        key=key,
        free=free,
        tokens=tokens_of(server, key),
    )
    assert printed.splitlines() == ["None [None] False", "None False", "anew"]
    assert tokens_of(server, key) is None
    assert store.load(free) is not None
    store.close()


def tokens_of(server: Any, key: str) -> bytes | None:
    """What is in a row, expired or not."""
    of_mysql = "maria" in server.url
    table, column = ("app.sharedsession", "`key`") if of_mysql else ("sharedsession", "key")
    rows = server.in_app(f"SELECT tokens FROM {table} WHERE {column} = '{key}'")
    return bytes(rows[0][0]) if rows else None
