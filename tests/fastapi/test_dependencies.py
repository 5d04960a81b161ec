"""`SessionDep` and `require_session`: who is let in, and what the others are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.websockets import WebSocketDisconnect

from sharedsession import ConfigurationError
from sharedsession.fastapi import SessionDep, local_path, require_session
from sharedsession.testing import Clock
from tests.fastapi.site import Server, make_app, moved, reason_of
from tests.support.watched import WatchedStore

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec-fetch-mode": "navigate"}


# --- the session as an argument -------------------------------------------------------------------


def test_what_one_server_wrote_another_one_reads(browser: TestClient, other: Server) -> None:
    """Read your writes, changes inside a value included."""
    browser.post("/cart/tea")
    browser.post("/cart/lamp")

    assert moved(browser, other).get("/cart").json() == ["tea", "lamp"]


def test_asking_for_the_session_is_a_use(browser: TestClient, store: WatchedStore) -> None:
    """As with ``request.session``; a route that does not ask varies by nothing."""
    assert browser.get("/asked").headers["vary"] == "Cookie"
    assert "vary" not in browser.get("/plain").headers
    assert store.calls == []


def test_a_websocket_has_the_session_too(browser: TestClient, other: Server) -> None:
    """What a socket writes before it is accepted, other servers know."""
    browser.post("/cart/tea")
    with browser.websocket_connect("/socket") as socket:
        assert socket.receive_json() == ["cart", "seen"]

    assert moved(browser, other).get("/visitor").json() == ["cart", "seen"]


@pytest.mark.parametrize("theirs", [False, True], ids=["none", "Starlette's own"])
def test_without_our_middleware_the_error_says_what_to_add(theirs: bool) -> None:
    """Another package's session is no session of ours."""
    app = make_app()
    if theirs:
        app.add_middleware(StarlettesOwn, secret_key="theirs")

    with pytest.raises(ConfigurationError, match=r"add_middleware\(SessionMiddleware"):
        TestClient(app).get("/cart")
    with pytest.raises(ConfigurationError, match=r"add_middleware\(SessionMiddleware"):
        TestClient(app).get("/account")


# --- who is let in --------------------------------------------------------------------------------


def test_a_client_without_a_session_is_told_that_it_is_missing(
    browser: TestClient, store: WatchedStore
) -> None:
    """401, and the store is not asked."""
    assert reason_of(browser.get("/account")) == (401, "missing", 'APIKey reason="missing"')
    assert reason_of(browser.get("/protected/")) == (401, "missing", 'APIKey reason="missing"')
    assert store.calls == []


def test_a_user_is_let_in_and_the_sign_in_renews(browser: TestClient, other: Server) -> None:
    """The ID of the visitor is worth nothing afterwards; other servers know the user."""
    browser.post("/cart/tea")
    before = browser.cookies["session"]
    browser.post("/sign-in/ada")

    assert browser.cookies["session"].split(".")[0] != before.split(".")[0]
    assert moved(browser, other).get("/account").json() == "ada"
    assert moved(browser, other).get("/protected/").json() == "protected"
    thief = other.browser({"session": before})
    assert reason_of(thief.get("/account")) == (401, "expired", 'APIKey reason="expired"')


def test_a_visitor_without_a_user(browser: TestClient) -> None:
    """Holds no credentials where an owner is needed, and a session where none is."""
    assert reason_of(browser.get("/visitor"))[:2] == (401, "missing")
    browser.post("/cart/tea")

    assert browser.get("/visitor").json() == ["cart"]
    assert reason_of(browser.get("/account"))[:2] == (401, "missing")
    assert reason_of(browser.get("/transfer"))[:2] == (401, "missing")


def test_a_mark_of_flasks_alone_is_no_session(store: WatchedStore, clock: Clock) -> None:
    """As everywhere: what holds nothing but ``_permanent`` is empty."""
    app = FastAPI()

    @app.get("/")
    def page(session: SessionDep) -> None:
        session.permanent = True

    app.router.routes.extend(make_app().routes)
    browser = Server(store, clock, app).browser()
    browser.get("/")

    assert reason_of(browser.get("/visitor"))[:2] == (401, "missing")


def test_gone_is_gone(browser: TestClient, other: Server) -> None:
    """After a sign-out the cookie that was kept is told that its session has expired."""
    browser.post("/sign-in/ada")
    kept = other.browser({"session": browser.cookies["session"]})
    assert kept.get("/account").status_code == 200
    browser.post("/sign-out")

    answer = kept.get("/account")
    assert reason_of(answer)[:2] == (401, "expired")
    assert "set-cookie" not in answer.headers
    assert reason_of(browser.get("/account"))[:2] == (401, "missing")  # its cookie was removed


def test_a_session_that_timed_out_has_expired(
    store: WatchedStore, clock: Clock, server: Server
) -> None:
    """By the server's clock, whatever cookie the client shows."""
    browser = Server(store, clock, max_age=60).browser()
    browser.post("/sign-in/ada")
    kept = server.browser({"session": browser.cookies["session"]})
    clock.advance(61)

    assert reason_of(kept.get("/account"))[:2] == (401, "expired")


def test_a_cookie_of_another_key_is_no_cookie_of_ours(server: Server) -> None:
    """It says nothing about a session that there was."""
    forged = server.browser({"session": "x" * 43 + ".1.abcdef.signature"})

    assert reason_of(forged.get("/account"))[:2] == (401, "missing")


def test_an_authentication_is_stale_after_300_seconds(browser: TestClient, clock: Clock) -> None:
    """Until the user proves again who they are; the session itself goes on."""
    browser.post("/sign-in/ada")
    clock.advance(300)
    assert browser.get("/transfer").json() == "ada"
    clock.advance(1)

    assert reason_of(browser.get("/transfer")) == (
        401,
        "stale",
        'APIKey reason="stale", max_age="300"',
    )
    assert browser.get("/account").json() == "ada"
    browser.post("/confirm")
    assert browser.get("/transfer").json() == "ada"


def test_credentials_that_do_not_suffice_are_forbidden(browser: TestClient) -> None:
    """403: to sign in again would not help. Without credentials it is a 401."""
    assert reason_of(browser.get("/admin"))[:2] == (401, "missing")
    browser.post("/sign-in/ada")
    assert reason_of(browser.get("/admin")) == (403, "forbidden", None)
    browser.post("/sign-in/grace?role=admin")
    assert browser.get("/admin").json() == "admin"


def test_a_sign_in_under_no_owner_key_is_said(
    store: WatchedStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A user under ``user`` is no owner, unless the settings say so: the log does."""
    app = FastAPI()

    @app.post("/sign-in")
    def sign_in(session: SessionDep) -> None:
        session["user"] = "ada"

    app.router.routes.extend(make_app().routes)
    browser = Server(store, clock, app).browser()
    browser.post("/sign-in")

    assert reason_of(browser.get("/account"))[:2] == (401, "missing")
    assert "owner_key='user'" in caplog.text


@pytest.mark.parametrize("wrong", ["5m", 0, -1, 1.5, True, timedelta(0)])
def test_how_long_ago_must_be_a_time(wrong: Any) -> None:
    """A positive number of seconds, or a timedelta."""
    with pytest.raises(ConfigurationError, match="authenticated_within must be"):
        require_session(authenticated_within=wrong)


# --- outages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_outage", ["error", "readonly-empty"])
@pytest.mark.parametrize("path", ["/account", "/visitor", "/transfer", "/admin", "/protected/"])
def test_an_outage_is_a_503_and_never_a_401(
    store: WatchedStore, clock: Clock, path: str, on_outage: Any
) -> None:
    """Also where the application goes on with an empty session: who asks is not known."""
    browser = Server(store, clock, on_outage=on_outage).browser()
    browser.post("/sign-in/ada?role=admin")
    store.fail()
    answer = browser.get(path, headers=BROWSER)

    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert "set-cookie" not in answer.headers
    store.recover()
    assert browser.get(path).status_code == 200


def test_an_outage_closes_a_socket_as_everywhere(browser: TestClient, store: WatchedStore) -> None:
    """With "try again later", not with a reason to sign in."""
    browser.post("/sign-in/ada")
    store.fail()
    with pytest.raises((WebSocketDisconnect, Exception)) as closed:
        with browser.websocket_connect("/protected/socket"):
            pass

    assert getattr(closed.value, "status_code", getattr(closed.value, "code", None)) in (503, 1013)


# --- sockets --------------------------------------------------------------------------------------


def test_a_socket_is_closed_before_it_is_accepted(browser: TestClient) -> None:
    """1008, with the reason; a signed-in user is let in."""
    with pytest.raises(WebSocketDisconnect) as closed:
        with browser.websocket_connect("/protected/socket"):
            pass
    assert (closed.value.code, closed.value.reason) == (1008, "missing")

    browser.post("/sign-in/ada")
    with browser.websocket_connect("/protected/socket") as socket:
        assert socket.receive_text() == "protected"


def test_a_socket_is_told_that_its_session_has_expired(browser: TestClient, other: Server) -> None:
    """As a page is."""
    browser.post("/sign-in/ada")
    kept = other.browser({"session": browser.cookies["session"]})
    browser.post("/sign-out")
    with pytest.raises(WebSocketDisconnect) as closed:
        with kept.websocket_connect("/protected/socket"):
            pass

    assert (closed.value.code, closed.value.reason) == (1008, "expired")


# --- pages ----------------------------------------------------------------------------------------


def test_a_browsers_page_is_redirected_to_the_sign_in(browser: TestClient) -> None:
    """With the page that was asked for as ``next``; a HEAD as well."""
    for method in ("GET", "HEAD"):
        answer = browser.request(method, "/pages/my%20list?sort=up&by=ten", headers=BROWSER)

        assert answer.status_code == 303
        assert answer.headers["location"] == (
            "/sign-in?by=form&next=/pages/my%2520list%3Fsort%3Dup%26by%3Dten#top"
        )


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", BROWSER),
        ("GET", {"accept": "application/json"}),
        ("GET", {"accept": "*/*"}),
        ("GET", {"accept": "text/html;q=0, application/json"}),
        ("GET", {**BROWSER, "sec-fetch-mode": "cors"}),
    ],
)
def test_who_asks_for_no_page_is_answered_401(
    browser: TestClient, method: str, headers: dict[str, str]
) -> None:
    """A script, or a form, needs the answer itself."""
    assert browser.request(method, "/pages/list", headers=headers).status_code == 401


def test_the_sign_in_page_is_not_redirected_to_itself(browser: TestClient) -> None:
    """Where it is protected by mistake, it is a 401 rather than a loop."""
    assert browser.get("/sign-in", headers=BROWSER).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "//evil.example/%2e%2e"])
def test_next_is_a_path_on_this_site(path: str) -> None:
    """Whatever path was asked for: no host that a browser would go to."""
    app = FastAPI()
    guard = require_session(redirect_to="/sign-in")

    @app.get("/{anything:path}", dependencies=[Depends(guard)])
    def anything() -> None: ...

    client = Server("memory://next", Clock(), app).browser()
    answer = client.get(f"http://testserver{path}", headers=BROWSER)

    assert answer.status_code == 303
    target = answer.headers["location"].partition("next=")[2]
    assert not target.startswith(("//", "/%2F", "/%5C", "/\\"))


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/cart?sort=up#top", "/cart?sort=up#top"),
        ("/", "/"),
        (None, "/"),
        ("", "/"),
        ("cart", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("\n/cart", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/cart\\..", "/"),
        ("/cart\r\nSet-Cookie: a=b", "/"),
    ],
)
def test_local_path_lets_only_paths_through(sent: str | None, path: str) -> None:
    """So that what a client sent as ``next`` leads to no other site."""
    assert local_path(sent) == path
