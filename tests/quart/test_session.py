"""``quart.session``, as it is on Quart's own interface and beyond."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import flask
import pytest
import quart
from flask import Flask
from hypercorn.middleware import ProxyFixMiddleware
from quart.sessions import SecureCookieSessionInterface

from sharedsession import LateChange, Session, SessionGone, StoreUnavailable
from sharedsession.adopt import FlaskCookie
from sharedsession.flask import SharedSession as FlaskSession
from sharedsession.quart import SharedSession
from sharedsession.testing.stores import Clock
from tests.quart.conftest import MakeSite
from tests.quart.site import SECRET, Browser, Site, attributes, own, put
from tests.support.watched import WatchedStore

# --- as Quart's own does it -----------------------------------------------------------------------


def test_what_one_request_stores_the_next_one_reads(either: MakeSite) -> None:
    """With Vary on the response, and nothing where it was not used."""
    browser = either().browser()
    assert browser.visit().vary is None
    stored = browser.visit(put(a=1, b=("x", [2])))
    assert stored.vary == "Cookie"
    assert browser.see() == {"a": 1, "b": ("x", [2])}


def test_messages_are_flashed_once_with_their_categories(either: MakeSite) -> None:
    """By Quart's own flash() and get_flashed_messages()."""
    browser = either().browser()

    async def tell() -> None:
        await quart.flash("saved", "info")

    async def show() -> Any:
        return quart.get_flashed_messages(with_categories=True)

    browser.serve(tell)
    assert browser.serve(show).result == [("info", "saved")]
    assert browser.serve(show).result == []


def test_an_emptied_session_removes_the_cookie(either: MakeSite) -> None:
    """And of a client that has none nothing is said."""
    browser = either().browser()
    browser.visit(put(a=1))
    gone = browser.visit(lambda session: session.clear())
    assert gone.set_cookie is not None
    assert "Max-Age=0" in gone.set_cookie
    assert browser.cookie is None
    assert browser.see() == {}


def test_changes_of_after_request_functions_are_stored(either: MakeSite) -> None:
    """Quart saves the session after them."""
    site = either()
    browser = site.browser()

    @site.app.after_request
    async def later(response: quart.Response) -> quart.Response:
        quart.session["seen"] = True
        return response

    browser.visit()
    assert browser.see()["seen"] is True


def test_a_response_of_an_error_stores_what_was_changed(either: MakeSite) -> None:
    """As in Flask: an error page is a response like any other."""
    browser = either(PROPAGATE_EXCEPTIONS=False).browser()

    def act(session: Any) -> None:
        session["a"] = 1
        raise ZeroDivisionError

    assert browser.visit(act).status == 500
    assert browser.see() == {"a": 1}


def test_session_transaction(either: MakeSite) -> None:
    """A test reads and changes the session of its client."""
    browser = either().browser()

    async def change() -> dict[str, Any]:
        async with browser.client.session_transaction() as session:
            session["a"] = 1
        async with browser.client.session_transaction() as session:
            return dict(session)

    assert asyncio.run(change()) == {"a": 1}
    assert browser.see() == {"a": 1}


def test_a_test_looks_at_the_session_after_the_request(either: MakeSite) -> None:
    """``async with client``: the context stays, and so does its session."""
    site = either()
    browser = site.browser()

    async def view() -> None:
        quart.session["a"] = 1

    async def look() -> dict[str, Any]:
        site.view = view
        async with browser.client as client:
            await client.get("/")
            return dict(quart.session)

    assert asyncio.run(look()) == {"a": 1}


def test_without_a_secret_key_writing_raises_quarts_error(either: MakeSite) -> None:
    """Reading works."""
    browser = either(SECRET_KEY=None).browser()
    assert browser.visit(lambda session: session.get("a")).result is None
    assert browser.visit(put(a=1)).status == 500
    assert "session is unavailable" in str(browser.site.errors)


# --- what only ours does --------------------------------------------------------------------------


def test_requests_without_a_session_cost_nothing(browser: Browser, store: WatchedStore) -> None:
    """No cookie: no store; nothing stored: no cookie."""
    browser.visit()
    assert browser.visit(dict).vary == "Cookie"
    assert store.calls == []
    assert browser.cookie is None


def test_two_servers_on_one_store(make_site: MakeSite) -> None:
    """What one stores the other finds, and a sign-out at one is one at the other."""
    first, second = make_site().browser(), make_site().browser()
    first.visit(put(user_id=7))
    second.cookie = str(first.cookie)
    assert second.see() == {"user_id": 7}
    second.visit(lambda session: session.clear())
    assert first.see() == {}


def test_nested_changes_count(browser: Browser) -> None:
    """Without a flag."""
    browser.visit(put(cart=[]))
    browser.visit(lambda session: session["cart"].append("tea"))
    assert browser.see() == {"cart": ["tea"]}


def test_a_sign_in_renews_the_id_and_the_old_one_is_dead(browser: Browser, site: Site) -> None:
    """Without the application asking."""
    browser.visit(put(cart=1))
    before = str(browser.cookie)
    browser.visit(put(user_id=7))
    assert str(browser.cookie).split(".")[0] != before.split(".", maxsplit=1)[0]
    thief = site.browser()
    thief.cookie = before
    assert thief.see() == {}
    assert browser.see() == {"cart": 1, "user_id": 7}


def test_a_sign_in_at_flask_is_known_here(
    make_site: MakeSite, store: WatchedStore, clock: Clock
) -> None:
    """One secret, one store: the same cookie, record and types, flashed messages among them."""
    app = Flask("flask")
    app.config["SECRET_KEY"] = SECRET
    FlaskSession(app, store=store)
    app.extensions["sharedsession"].manager.clock = clock

    @app.get("/")
    def sign_in() -> str:
        flask.session.update(user_id=7, seen={"a", "b"}, pair=(1, 2))
        flask.flash("welcome", "info")
        return "in"

    cookie = app.test_client().get("/").headers["Set-Cookie"]
    browser = make_site().browser()
    browser.cookie = cookie.partition("=")[2].partition(";")[0]

    async def show() -> Any:
        return dict(quart.session), quart.get_flashed_messages(with_categories=True)

    held, messages = browser.serve(show).result
    assert held["user_id"] == 7
    assert held["seen"] == {"a", "b"}
    assert held["pair"] == (1, 2)
    assert messages == [("info", "welcome")]
    client = app.test_client()
    client.set_cookie("session", str(browser.cookie))
    with client.session_transaction() as session:
        assert session["user_id"] == 7


def test_verbs_are_awaited(browser: Browser, site: Site) -> None:
    """commit() with its function, reload(); of one that has ended, both say so."""

    async def view() -> Any:
        session = own()
        session["n"] = 1
        committed = await session.commit(lambda held: held["n"] + 1)
        await session.reload()
        return committed, dict(session)

    assert browser.serve(view).result == (2, {"n": 1})

    async def of_an_ended_one() -> None:
        session = own()
        session["n"] = 2
        other = site.browser()
        other.cookie = str(browser.cookie)
        site.view = ending
        await other.ask()
        with pytest.raises(SessionGone):
            await session.commit()

    async def ending() -> None:
        own().destroy()

    browser.serve(of_an_ended_one)
    assert browser.see() == {}


def test_a_verb_that_is_not_awaited_is_an_error(browser: Browser) -> None:
    """It says what to write."""

    async def view() -> None:
        own().commit()

    assert browser.serve(view).status == 500
    assert "await session.commit()" in str(browser.site.errors)


def test_values_that_only_quarts_session_takes(either: MakeSite) -> None:
    """What has ``__html__`` comes back as Markup, what a proxy stands for as that."""
    browser = either().browser()

    class Lazy:
        def __html__(self) -> str:
            return "<b>hi</b>"

    def act(session: Any) -> None:
        session["text"] = Lazy()
        session["args"] = quart.request.args

    browser.visit(act, path="/?a=1")
    assert browser.see() == {"text": "<b>hi</b>", "args": {"a": "1"}}


def test_a_value_that_no_session_can_hold_is_refused(browser: Browser, store: WatchedStore) -> None:
    """With its key and type; nothing is stored."""
    assert browser.visit(put(bad=object())).status == 500
    assert "session['bad'] is of type object" in str(browser.site.errors[-1])
    assert store.stored == []


# --- what comes after the response ----------------------------------------------------------------


def streaming(act: Any) -> Any:
    async def view() -> quart.Response:
        @quart.stream_with_context
        async def stream() -> AsyncIterator[bytes]:
            yield b"a"
            act(own())
            yield b"b"

        return quart.Response(stream())

    return view


def test_changes_while_a_response_is_streamed_are_stored(browser: Browser) -> None:
    """Where the session has its cookie."""
    browser.visit(put(a=1))
    assert browser.serve(streaming(lambda session: session.update(b=2))).text == "ab"
    assert browser.see() == {"a": 1, "b": 2}


def test_a_change_that_needs_a_cookie_then_is_an_error(browser: Browser) -> None:
    """The headers have left."""
    with pytest.raises(LateChange):
        browser.serve(streaming(lambda session: session.update(user_id=7)))


def test_a_change_after_the_request_is_an_error(browser: Browser) -> None:
    """It is over, and so is a transaction of a test."""
    kept: list[Session] = []
    browser.visit(kept.append)

    async def transaction() -> None:
        async with browser.client.session_transaction() as session:
            kept.append(session)
            session["a"] = 1

    asyncio.run(transaction())
    for session in kept:
        with pytest.raises(LateChange):
            session["a"] = 2


# --- outages --------------------------------------------------------------------------------------


def test_an_outage_is_a_503_of_whoever_uses_the_session(
    browser: Browser, store: WatchedStore
) -> None:
    """Who does not use it is served; the first request after it works."""
    browser.visit(put(a=1))
    store.fail("load")
    assert browser.visit(dict).is_unavailable
    assert browser.visit().status == 200
    store.recover()
    store.fail("replace")
    assert browser.visit(put(a=2)).is_unavailable
    store.recover()
    assert browser.see() == {"a": 1}


def test_an_error_handler_answers_an_outage(make_site: MakeSite, store: WatchedStore) -> None:
    """Its own page keeps its text, and has what an answer to an outage says."""
    site = make_site()
    browser = site.browser()
    browser.visit(put(a=1))

    @site.app.errorhandler(503)
    async def page(error: Exception) -> tuple[str, int]:
        assert isinstance(error, StoreUnavailable)
        return "back soon", 503

    store.fail("load")
    answer = browser.visit(dict)
    assert answer.is_unavailable
    assert answer.text == "back soon"


def test_an_outage_met_by_an_after_request_function(
    make_site: MakeSite, store: WatchedStore
) -> None:
    """It is a 503 as well, though Quart makes a 500 of it, or raises it in tests."""
    for testing in (False, True):
        site = make_site(TESTING=testing)
        browser = site.browser()
        browser.visit(put(a=1))

        @site.app.after_request
        async def later(response: quart.Response) -> quart.Response:
            quart.session.get("a")
            return response

        store.fail("load")
        assert browser.visit().is_unavailable
        store.recover()


def test_on_outage_is_asked_with_the_scope(make_site: MakeSite, store: WatchedStore) -> None:
    """An empty session then, for those who only read."""
    asked: list[str] = []

    def on_outage(scope: Any, error: Exception) -> str:
        asked.append(scope["path"])
        return "readonly-empty"

    browser = make_site(arguments={"on_outage": on_outage}).browser()
    browser.visit(put(a=1))
    store.fail("load")
    assert browser.see() == {}
    assert asked == ["/"]


def test_a_load_that_fails_for_a_repeated_cookie_is_no_matter(
    make_site: MakeSite, store: WatchedStore
) -> None:
    """A permanent session is refreshed by requests that have no need of it."""
    browser = make_site().browser()

    def stay(session: Any) -> None:
        session.permanent = True
        session["a"] = 1

    browser.visit(stay)
    assert browser.visit().set_cookie is not None
    store.fail("load")
    assert browser.visit().status == 200


def test_threads_of_plain_views_read_it(site: Site, browser: Browser) -> None:
    """Quart runs views that are plain functions in threads."""
    site.app.add_url_rule("/plain", "plain", lambda: str(quart.session.get("a")))
    browser.visit(put(a=1))
    assert browser.get("/plain").text == "1"


def test_a_user_who_was_active_stays(browser: Browser, clock: Clock) -> None:
    """Reading touches the session once a tenth of its lifetime."""
    browser.visit(put(a=1))
    for _ in range(4):
        clock.advance(20 * 24 * 60 * 60)
        assert browser.see() == {"a": 1}


def test_the_old_interface_serves_until_the_switch(make_site: MakeSite, clock: Clock) -> None:
    """``switch_at`` and ``before``: a roll-out's two halves do the same."""

    class Extension(SharedSession):
        pass

    at = datetime.fromtimestamp(clock() + 100, UTC)
    before = SecureCookieSessionInterface()
    browser = make_site(Extension, arguments={"switch_at": at, "before": before}).browser()
    kinds = browser.visit(lambda session: type(session))
    assert not issubclass(kinds.result, Session)
    browser.visit(put(a=1))
    assert browser.see() == {"a": 1}
    clock.advance(101)
    assert browser.see() == {}


def test_live_sessions_of_quarts_own_come_over(make_site: MakeSite, clock: Clock) -> None:
    """Its cookie is Flask's: no user signs in again."""
    clock.advance(time.time() - clock())  # its cookie is of now
    before = make_site(None, SESSION_COOKIE_NAME="session").browser()
    before.visit(put(user_id=7, pair=(1, 2)))
    browser = make_site(arguments={"adopt": FlaskCookie(SECRET)}).browser()
    browser.cookie = str(before.cookie)
    assert browser.see() == {"user_id": 7, "pair": (1, 2)}
    assert str(browser.cookie) != str(before.cookie)
    assert browser.see() == {"user_id": 7, "pair": (1, 2)}


def test_a_lifetime_of_its_own(browser: Browser, clock: Clock) -> None:
    """``set_lifetime()``: the cookie's expiry, and the server's idle timeout."""
    answer = browser.visit(lambda session: (session.update(a=1), session.set_lifetime(60)))
    assert "Expires=" in str(answer.set_cookie)
    clock.advance(61)
    assert browser.see() == {}


def test_a_middleware_that_copies_the_scope_may_be_further_in(
    make_site: MakeSite, store: WatchedStore
) -> None:
    """Hypercorn's ProxyFix copies it deeply; nothing of a session that is not used is touched."""

    class Own(SharedSession):
        def init_app(self, app: quart.Quart) -> None:
            app.asgi_app = ProxyFixMiddleware(app.asgi_app, "legacy")  # type: ignore[method-assign]
            super().init_app(app)

    browser = make_site(Own).browser()
    headers = {"X-Forwarded-Proto": "https"}

    first = browser.visit(put(n=1), headers=headers)
    browser.visit(put(n=2), headers=headers)

    assert "secure" in attributes(first.set_cookie)
    assert browser.see() == {"n": 2}
    assert browser.visit(None, headers=headers).vary is None
