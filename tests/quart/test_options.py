"""Quart's own options, each read at each request, and the cookie that they make."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from quart import Quart
from quart.sessions import SessionInterface

from sharedsession import ConfigurationError
from sharedsession.quart import SharedSession
from sharedsession.testing.stores import Clock
from tests.quart.conftest import MakeSite
from tests.quart.site import SECRET, Browser, Site, attributes, put
from tests.support.watched import WatchedStore

OTHER = "another secret of the tests, as long as it has to be"
COOKIES: list[dict[str, Any]] = [
    {},
    {"SESSION_COOKIE_NAME": "own"},
    {"SESSION_COOKIE_PATH": "/shop"},
    {"APPLICATION_ROOT": "/root"},
    {"SESSION_COOKIE_DOMAIN": "localhost.test"},
    {"SESSION_COOKIE_HTTPONLY": False},
    {"SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_SAMESITE": "Strict"},
    {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_PARTITIONED": True},
][: None if hasattr(SessionInterface, "get_cookie_partitioned") else -1]  # before Quart 0.21


@pytest.mark.parametrize("config", COOKIES)
@pytest.mark.parametrize("permanent", [False, True])
def test_the_cookie_is_the_one_that_quart_sets(
    config: dict[str, Any], permanent: bool, make_site: MakeSite
) -> None:
    """Set and removed: the same attributes; the moment of an Expires aside."""

    def act(session: Any) -> None:
        session["a"] = 1
        session.permanent = permanent

    for each in (act, lambda session: session.clear()):
        seen = []
        for extension in (SharedSession, None):
            site = make_site(extension, **config)
            browser = site.browser()
            if each is not act:
                given = browser.visit(act).set_cookie
                assert given is not None
                value = given.partition("=")[2].partition(";")[0]
                name = site.app.config["SESSION_COOKIE_NAME"]
                answer = browser.visit(each, headers={"Cookie": f"{name}={value}"})
            else:
                answer = browser.visit(each)
            found = attributes(answer.set_cookie)
            found["expires"] = str("expires" in found)
            seen.append(found)
        assert seen[0] == seen[1]


def test_an_option_counts_from_the_next_request_on(browser: Browser, site: Site) -> None:
    """The cookie's attributes, and its name."""
    site.app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert attributes(browser.visit(put(a=1)).set_cookie)["samesite"] == "Strict"
    site.app.config["SESSION_COOKIE_NAME"] = "another"
    assert browser.see() == {}


def test_a_secret_rotates_with_fallbacks(browser: Browser, site: Site) -> None:
    """A session under the old key lives on; without the fallback it is a new one, no crash."""
    browser.visit(put(a=1))
    site.app.config.update(SECRET_KEY=OTHER, SECRET_KEY_FALLBACKS=[SECRET])
    assert browser.see() == {"a": 1}
    site.app.config["SECRET_KEY_FALLBACKS"] = []
    assert browser.see() == {}


def test_the_lifetime_is_the_idle_timeout(make_site: MakeSite, clock: Clock) -> None:
    """Enforced by the server."""
    browser = make_site(PERMANENT_SESSION_LIFETIME=timedelta(minutes=10)).browser()
    browser.visit(put(a=1))
    clock.advance(599)
    assert browser.see() == {"a": 1}
    clock.advance(601)
    assert browser.see() == {}


def test_a_permanent_session_repeats_its_cookie(make_site: MakeSite) -> None:
    """With SESSION_REFRESH_EACH_REQUEST, Quart's default; not without it."""
    for refresh in (True, False):
        browser = make_site(SESSION_REFRESH_EACH_REQUEST=refresh).browser()

        def stay(session: Any) -> None:
            session.permanent = True
            session["a"] = 1

        assert "expires" in attributes(browser.visit(stay).set_cookie)
        assert (browser.visit().set_cookie is not None) == refresh


def test_own_options_from_the_configuration(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore
) -> None:
    """SESSION_STORE and its kin; the environment comes last."""
    app = Quart("options")
    app.config.update(SECRET_KEY=SECRET, SESSION_STORE=store, SESSION_NAMESPACE="shop")
    SharedSession(app)
    settings = app.extensions["sharedsession"].manager.settings
    assert settings.store is store
    assert settings.namespace == "shop"
    monkeypatch.setenv("SHAREDSESSION_STORE", "memory://")
    other = Quart("other")
    other.secret_key = SECRET
    SharedSession().init_app(other)
    assert other.extensions["sharedsession"].manager.settings.store == "memory://"


def test_without_a_store_it_says_which_there_are() -> None:
    """A memory store that nobody asked for is the bug that this package ends."""
    app = Quart("options")
    app.secret_key = SECRET
    with pytest.raises(ConfigurationError, match="redis://"):
        SharedSession(app)


def test_the_secret_may_come_later(store: WatchedStore) -> None:
    """As in the factory pattern."""
    site = Site(SECRET_KEY=None, store=store)
    site.app.config["SECRET_KEY"] = SECRET
    browser = site.browser()
    browser.visit(put(a=1))
    assert browser.see() == {"a": 1}


def test_assigned_as_the_session_interface(store: WatchedStore) -> None:
    """It finds its settings at the first request."""
    site = Site(None, store=store)
    site.app.session_interface = SharedSession(store=store)
    browser = site.browser()
    browser.visit(put(a=1))
    assert browser.see() == {"a": 1}
    assert len(store.stored) == 1


def test_the_application_starts_and_stops(site: Site) -> None:
    """What is to be done before and after serving is done: the lifespan passes."""
    done: list[str] = []

    @site.app.before_serving
    async def start() -> None:
        done.append("started")

    @site.app.after_serving
    async def stop() -> None:
        done.append("stopped")

    async def serve() -> None:
        async with site.app.test_app() as running:
            assert (await running.test_client().get("/")).status_code == 200

    asyncio.run(serve())
    assert done == ["started", "stopped"]


def test_two_extensions_are_warned_of(site: Site, store: WatchedStore) -> None:
    """One replaces the other."""
    with pytest.warns(RuntimeWarning, match="SharedSession before"):
        SharedSession(site.app, store=store)


def test_another_interface_in_our_place_is_warned_of(site: Site, browser: Browser) -> None:
    """Sessions are not in the store then."""
    from quart.sessions import SecureCookieSessionInterface

    site.app.session_interface = SecureCookieSessionInterface()
    with pytest.warns(RuntimeWarning, match="SecureCookieSessionInterface"):
        browser.visit()


def test_a_subclass_chooses_by_the_request(store: WatchedStore) -> None:
    """``get_cookie_name()`` and its kin are asked at each request."""
    from quart import request

    class Own(SharedSession):
        def get_cookie_name(self, app: Quart) -> str:
            return f"session_{request.args.get('shop', 'a')}"

    site = Site(Own, store=store)
    browser = site.browser()
    browser.visit(put(a=1))
    assert browser.visit(dict, path="/?shop=b").result == {}
    assert browser.visit(dict).result == {"a": 1}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"SESSION_COOKIE_SAMESITE": "sometimes"}, "SESSION_COOKIE_SAMESITE"),
        ({"PERMANENT_SESSION_LIFETIME": "long"}, "PERMANENT_SESSION_LIFETIME"),
        ({"SECRET_KEY_FALLBACKS": "abc"}, "list of keys"),
    ],
)
def test_a_wrong_option_stops_the_application(config: dict[str, Any], says: str) -> None:
    """It names the option."""
    app = Quart("wrong")
    app.config.update(SECRET_KEY=SECRET, **config)
    with pytest.raises(ConfigurationError, match=says):
        SharedSession(app, store="memory://")


def test_what_is_no_quart_application_is_refused() -> None:
    """With what to do about it."""
    from flask import Flask

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Any ASGI application."""

    cases = {
        "sharedsession.flask": Flask("x"),
        "sharedsession.asgi": app,
        "store=": "redis://localhost",
        "Quart": 7,
    }
    for says, wrong in cases.items():
        with pytest.raises(TypeError, match=says):
            SharedSession(wrong, store="memory://")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"app\.config"):
        SharedSession(session_cookie="x")  # type: ignore[call-arg]
