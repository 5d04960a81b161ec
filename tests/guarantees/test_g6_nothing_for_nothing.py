"""G6: who does not use a session pays nothing for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Adapter,
    Application,
    Browser,
    Commit,
    Reload,
    Reply,
    clear,
    destroy,
    drop,
    ignore,
    put,
    read,
    renew,
)
from tests.guarantees.places import Place


def put_and_remove(session: Session) -> None:
    session["a"] = 1
    del session["a"]


def put_and_clear(session: Session) -> None:
    session["a"] = 1
    session.clear()


def commit(session: Session) -> Generator[Any, Any, None]:
    yield Commit()


def reload(session: Session) -> Generator[Any, Any, None]:
    yield Reload()


NOTHING = {
    "ignore": ignore,
    "read": read,
    "remove": drop("a"),
    "put and remove": put_and_remove,
    "put and clear": put_and_clear,
    "clear": clear,
    "destroy": destroy,
    "renew": renew,
    "commit": commit,
    "reload": reload,
}


@pytest.mark.parametrize("application", NOTHING.values(), ids=NOTHING)
def test_g6_without_a_cookie_nobody_asks_the_store(
    servers: Servers, place: Place, application: Application
) -> None:
    """However many robots pass: no store access, no row, no cookie, not even a removal."""
    (server,) = servers(1)
    for _ in range(10):
        answer = server.request(Browser(), application)
        assert answer.status == 200
        assert answer.cookies == []
    assert place.verbs == []


def test_g6_a_session_that_is_not_used(servers: Servers, browser: Browser, place: Place) -> None:
    """Shown a cookie, but not used: no write, no Set-Cookie, no Vary, however old it is."""
    (server,) = servers(1, max_age=1000)
    server.request(browser, put(a=1))
    for _ in range(3):
        place.advance(300)
        place.forget()
        answer = server.request(browser, ignore)
        assert answer.value == "not used"
        assert place.writes == []
        assert answer.cookies == answer.all("vary") == answer.all("cache-control") == []


SAME_VALUE = put(a=1, b=[1])


@pytest.mark.parametrize(
    "application",
    [read, SAME_VALUE, drop("missing"), commit, reload],
    ids=["read", "the same value", "a missing key", "commit", "reload"],
)
def test_g6_nothing_changed_is_nothing_written(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, application: Application
) -> None:
    """Used, but not changed: read, and nothing written; the cookie stays as it is.

    Flask sets the cookie again, the very same, when a key was set to the value it had.
    """
    (server,) = servers(1)
    server.request(browser, put(a=1, b=[1]))
    place.forget()
    cookie = browser.cookie
    place.advance(1)
    answer = server.request(browser, application)
    assert answer.status == 200
    assert len(answer.cookies) == (adapter.repeats and application is SAME_VALUE)
    assert browser.cookie == cookie
    assert set(place.verbs) == {"load"}


def test_g6_one_read_is_one_load(servers: Servers, browser: Browser, place: Place) -> None:
    """A request that reads asks the store once; one that changes asks and writes once."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    assert place.verbs == ["create"]
    place.forget()
    server.request(browser, read)
    assert place.verbs == ["load"]
    place.forget()
    server.request(browser, put(a=2))
    assert place.verbs == ["load", "replace"]


def test_g6_a_busy_session_is_touched_once_in_a_tenth(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A hundred reads within the idle timeout cost ten touches, not a hundred."""
    (server,) = servers(1, max_age=1000)
    server.request(browser, put(a=1))
    place.forget()
    for _ in range(100):
        place.advance(10)
        assert server.request(browser, read).value == {"a": 1}
    assert 9 <= place.verbs.count("touch") <= 10
    assert set(place.verbs) == {"load", "touch"}


def test_g6_an_unknown_cookie_costs_no_row(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A cookie of a session long gone is looked up, and that is all."""
    (server,) = servers(1, max_age=100)
    server.request(browser, put(a=1))
    place.advance(101)
    place.forget()
    answer = server.request(browser, read)
    assert (answer.value, answer.cookies) == ({}, [])
    assert place.verbs == ["load"]
    assert place.stored == []


def test_g6_other_headers_stay(servers: Servers, browser: Browser) -> None:
    """What the application says of its own about cookies and caches passes through untouched."""
    (server,) = servers(1)
    own = (("vary", "Accept"), ("cache-control", "public"), ("set-cookie", "theme=dark"))
    answer = server.request(browser, lambda session: Reply(headers=own))
    for name, value in own:
        if name != "vary":
            assert answer.all(name) == [value]
