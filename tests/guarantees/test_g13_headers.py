"""G13: a response that used the session says so to caches; one with a cookie is not shared."""

from __future__ import annotations

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import is_always_true
from tests.guarantees.driver import (
    Adapter,
    Application,
    Browser,
    Headers,
    Reply,
    destroy,
    drop,
    ignore,
    increment,
    late,
    later,
    put,
    read,
    renew,
    sign_in,
)
from tests.guarantees.places import Place

USES: dict[str, Application] = {
    "read": read,
    "bool": bool,
    "missing key": lambda session: session.get("missing"),
    "set": put(a=2),
    "mutate": increment,
    "nested": lambda session: session["cart"].append(1),
    "renew": renew,
    "sign in": sign_in("ada"),
    "handle": lambda session: session.handle,
    "streamed": late(read),
    "background": later(read),
    "destroy": destroy,
}


def parts(values: list[str]) -> list[str]:
    return [part.strip().lower() for value in values for part in value.split(",")]


@pytest.mark.parametrize("known", [False, True], ids=["new client", "known client"])
def test_g13_who_used_the_session_says_vary(
    servers: Servers, adapter: Adapter, known: bool
) -> None:
    """Any use, reading included, by a client with or without a cookie: Vary: Cookie, once."""
    (server,) = servers(1)
    for case, application in USES.items():
        browser = Browser()
        if known:
            server.request(browser, put(a=1, cart=[]))
        elif case == "nested":
            continue
        if is_always_true(adapter, case):
            continue
        answer = server.request(browser, application)
        assert parts(answer.all("vary")) == ["cookie"], case


def test_g13_who_did_not_says_nothing(servers: Servers, browser: Browser) -> None:
    """A response that did not use its session may be cached for everybody."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    for client in (browser, Browser()):
        assert server.request(client, ignore).all("vary") == []


VARIES: dict[str, tuple[Headers, list[str]]] = {
    "another": ((("vary", "Accept"),), ["accept", "cookie"]),
    "the same": ((("Vary", "cookie"),), ["cookie"]),
    "among others": ((("vary", "Accept, Cookie"),), ["accept", "cookie"]),
    "everything": ((("vary", "*"),), ["*"]),
}


def test_g13_vary_is_merged_with_the_applications_own(servers: Servers, browser: Browser) -> None:
    """One Vary header, with what the application put there, and Cookie not twice."""
    (server,) = servers(1)
    for case, (headers, expected) in VARIES.items():

        def application(session: Session, headers: Headers = headers) -> Reply:
            return Reply(len(session), headers=headers)

        answer = server.request(browser, application)
        assert parts(answer.all("vary")) == expected, case
        assert len(answer.all("vary")) == 1, case


CACHES: dict[str, tuple[Headers, set[str]]] = {
    "none": ((), {"no-store"}),
    "public": (
        (("cache-control", "public, max-age=600"),),
        {"public", "max-age=600", "no-store"},
    ),
    "shared": ((("cache-control", "s-maxage=60"),), {"s-maxage=60", "no-store"}),
    "private": ((("cache-control", "private, max-age=60"),), {"private", "max-age=60"}),
    "no-store": ((("Cache-Control", "No-Store"),), {"no-store"}),
}
COOKIES: dict[str, Application] = {
    "first set": put(a=1),
    "set": put(a=2),
    "sign in": sign_in("ada"),
    "renew": renew,
    "destroy": destroy,
}


def test_g13_who_sets_the_cookie_is_not_stored_by_shared_caches(servers: Servers) -> None:
    """Neither the first cookie nor any later one, nor its removal, stays in a cache."""
    (server,) = servers(1, near_cache=True)  # so that each write hands out its version
    for name, (headers, expected) in CACHES.items():
        for case, change in COOKIES.items():
            browser = Browser()
            if case != "first set":
                server.request(browser, put(a=1))

            def application(
                session: Session, change: Application = change, headers: Headers = headers
            ) -> Reply:
                change(session)
                return Reply(headers=headers)

            answer = server.request(browser, application)
            assert len(answer.cookies) == 1, case
            assert set(parts(answer.all("cache-control"))) == expected, (name, case)
            assert len(answer.all("cache-control")) == 1


def test_g13_who_only_reads_may_be_cached_by_its_reader(servers: Servers, browser: Browser) -> None:
    """Without a cookie to hand out, the application's Cache-Control is left alone."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    headers = (("cache-control", "public, max-age=600"),)
    answer = server.request(browser, lambda session: Reply(len(session), headers=headers))
    assert answer.all("cache-control") == ["public, max-age=600"]
    assert parts(answer.all("vary")) == ["cookie"]


def test_g13_a_renewed_lifetime_is_not_shared_either(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The cookie that a mere read renews, once in a tenth, is kept out of caches too."""
    (server,) = servers(1, max_age=1000)
    server.request(browser, put(a=1))
    place.advance(200)
    answer = server.request(browser, read)
    assert len(answer.cookies) == 1
    assert answer.all("cache-control") == ["no-store"]


def test_g13_the_applications_other_cookies_survive(servers: Servers, browser: Browser) -> None:
    """Set-Cookie headers of the application stay beside ours, and so does their order."""
    (server,) = servers(1)

    def application(session: Session) -> Reply:
        session["a"] = 1
        return Reply(headers=(("set-cookie", "theme=dark"),))

    cookies = server.request(browser, application).cookies
    assert cookies[0] == "theme=dark"
    assert cookies[1].startswith("session=")
    assert server.request(browser, drop("a")).cookies[0].startswith("session=")
