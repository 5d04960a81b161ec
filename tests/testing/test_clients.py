"""`signed_in` and `session_of`, by each kind of client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_required
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.test import Client

from sharedsession import ConfigurationError, NotSerializable, StoreUnavailable
from sharedsession.adapter import Sessions
from sharedsession.asgi import SessionMiddleware
from sharedsession.stores import open_store
from sharedsession.testing import Clock, FailingStore, session_of, signed_in
from tests.testing.sites import SECRET, SITES, Site, flask, starlette

CART = {"books": [1, {"title": "Emma", "pages": 474}], "total": 12.5}


@pytest.fixture(params=SITES.values(), ids=SITES.keys())
def site(request: pytest.FixtureRequest) -> Site:
    return request.param


# --- every kind of client -------------------------------------------------------------------------


def test_a_client_is_signed_in(site: Site, session_store: FailingStore) -> None:
    """The application's own guard lets it in, and the data are there, however nested."""
    client = site.signed_out(store=session_store)
    refused = site.get(client, "/private")

    same = signed_in(client, user_id=3, cart=CART)

    assert refused[0] == 401
    assert site.get(client, "/private") == (200, {"user_id": 3, "cart": CART})
    assert same is client


def test_user_7_is_signed_in_where_none_is_named(site: Site, session_store: FailingStore) -> None:
    """As the issue's own example reads."""
    client = signed_in(site.signed_out(store=session_store))

    assert site.get(client, "/private") == (200, {"user_id": 7})


def test_a_session_is_read_as_the_application_left_it(
    site: Site, session_store: FailingStore
) -> None:
    """The client signs in by a request, and its session is there to be looked at."""
    client = site.signed_out(store=session_store)
    site.get(client, "/sign-in")

    with session_of(client) as session:
        assert dict(session) == {"user_id": 9}
        assert not session.is_new


def test_what_is_changed_in_a_session_is_what_the_application_finds(
    site: Site, session_store: FailingStore
) -> None:
    """Also inside of a value, as in a request."""
    client = signed_in(site.signed_out(store=session_store), cart=CART)

    with session_of(client) as session:
        session["cart"]["books"].append(2)
        session["next"] = "/checkout"

    changed = {**CART, "books": [*CART["books"], 2]}
    assert site.get(client, "/") == (200, {"user_id": 7, "cart": changed, "next": "/checkout"})


def test_another_owner_is_another_session(site: Site, session_store: FailingStore) -> None:
    """It has a new ID, whose cookie takes the place of the old one in the client."""
    client = signed_in(site.signed_out(store=session_store), 7, secret="of user 7")
    with session_of(client) as session:
        before = session.handle

    with session_of(client) as session:
        session["user_id"] = 8

    assert site.get(client, "/private") == (200, {"user_id": 8})
    with session_of(client) as session:
        assert session.handle != before


def test_a_session_that_is_ended_is_ended_for_the_application(
    site: Site, session_store: FailingStore
) -> None:
    """And the client can sign in again, by a request or without one."""
    client = signed_in(site.signed_out(store=session_store))

    with session_of(client) as session:
        session.destroy()

    assert site.get(client, "/private")[0] == 401
    assert site.get(signed_in(client), "/private")[0] == 200


def test_a_client_that_is_signed_out_has_an_empty_session(
    site: Site, session_store: FailingStore
) -> None:
    """Which is not stored by being looked at."""
    client = site.signed_out(store=session_store)

    with session_of(client) as session:
        assert dict(session) == {}
        assert session.is_new

    with session_of(client) as session:
        assert session.handle is None


def test_the_names_of_an_application_are_found(site: Site, session_store: FailingStore) -> None:
    """Its cookie's name, namespace, owner key and path."""
    client = site.signed_out(
        store=session_store,
        session_cookie="basket",
        namespace="shop",
        owner_key="account",
        path="/private",
    )

    signed_in(client, user_id=3, user_id_=4)

    assert site.get(client, "/private")[0] == 401  # the guard asks for another name
    with session_of(client) as session:
        assert dict(session) == {"account": 3, "user_id_": 4}
        session["user_id"] = 3
    assert site.get(client, "/private") == (200, {"account": 3, "user_id": 3, "user_id_": 4})


@pytest.mark.parametrize("name", ["basket", "__Host-basket"])
def test_a_secure_cookie_goes_to_https_only(
    site: Site, session_store: FailingStore, name: str
) -> None:
    """By http a client that keeps it back is an error that names the base URL to use."""
    application = site.application(store=session_store, session_cookie=name, https_only=True)
    client = site.client(application, f"http://{site.host}")
    if site.sends_secure_cookies:
        assert site.get(signed_in(client), "/private")[0] == 200
        return

    with pytest.raises(ConfigurationError, match="https:// for a Secure cookie"):
        signed_in(client)

    client = site.client(application, f"https://{site.host}")
    assert site.get(signed_in(client), "/private")[0] == 200


def test_a_block_that_raises_stores_nothing(site: Site, session_store: FailingStore) -> None:
    """As a request that fails."""
    client = signed_in(site.signed_out(store=session_store))

    def half() -> None:
        with session_of(client) as session:
            session["half"] = True
            raise LookupError

    with pytest.raises(LookupError):
        half()

    assert site.get(client, "/") == (200, {"user_id": 7})


def test_a_store_that_is_down_is_told_to_the_test(site: Site, session_store: FailingStore) -> None:
    """By the exception that the application would meet; afterwards the session is there."""
    client = signed_in(site.signed_out(store=session_store))

    with session_store.outage():
        with pytest.raises(StoreUnavailable):
            signed_in(client, 8)
        with pytest.raises(StoreUnavailable), session_of(client) as session:
            session.get("user_id")

    assert site.get(client, "/private") == (200, {"user_id": 7})


def test_an_outage_is_told_whatever_the_application_does_in_one(
    session_store: FailingStore,
) -> None:
    """Else an empty session would pass for the client's."""
    app = starlette(store=session_store, on_outage="readonly-empty")
    client = signed_in(TestClient(app))

    with session_store.outage():
        assert client.get("/").json() == {}
        with pytest.raises(StoreUnavailable), session_of(client) as session:
            session.get("user_id")


# --- which sessions are meant ---------------------------------------------------------------------


async def show(request: Request) -> JSONResponse:
    names = ("session", "admin")
    return JSONResponse({name: dict(request.scope.get(name, {})) for name in names})


def two_layers(**second: Any) -> Starlette:
    app = starlette(store="memory://first")
    app.router.routes.insert(0, Route("/show", show))
    second = {"session_cookie": "admin", "scope_key": "admin", **second}
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store="memory://second", **second)
    return app


def test_of_two_middlewares_one_is_to_be_named() -> None:
    """The error has both names, and the keyword chooses."""
    client = TestClient(two_layers())

    with pytest.raises(ConfigurationError, match=r"cookie= .*\['admin', 'session'\]"):
        signed_in(client)
    with pytest.raises(ConfigurationError, match="got 'other'"), session_of(client, cookie="other"):
        pass

    signed_in(client, 1, cookie="admin")
    signed_in(client, 2, cookie="session")
    assert client.get("/show").json() == {"session": {"user_id": 2}, "admin": {"user_id": 1}}


def test_of_two_middlewares_with_one_cookie_the_outer_one_counts() -> None:
    """As in a request, so there is nothing to choose."""
    client = TestClient(two_layers(session_cookie="session", scope_key="session"))

    assert signed_in(client).get("/private").json() == {"user_id": 7}


def test_sessions_of_a_mounted_application_are_found() -> None:
    """Their cookie is for its path alone."""
    inner = starlette(store="memory://mounted", path="/shop")
    inner.router.routes.insert(0, Route("/show", show))
    client = signed_in(TestClient(Starlette(routes=[Mount("/shop", inner)])))

    assert client.get("/shop/show").json()["session"] == {"user_id": 7}
    assert client.cookies.get("session", path="/shop") is not None


@pytest.mark.parametrize("layer", ["object", "function", "method"])
def test_a_layer_around_the_application_is_looked_through(layer: str) -> None:
    """Be it an object, a function, or a method."""
    app = starlette(store="memory://inside")

    class Layer:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    async def function(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    layers = {"object": Layer(app), "function": function, "method": Layer(app).__call__}
    client = TestClient(layers[layer])

    assert signed_in(client).get("/private").status_code == 200


def test_an_adapter_of_ones_own_is_found() -> None:
    """By the name under which its application holds its sessions."""

    class Application:
        def __init__(self) -> None:
            self.sessions = Sessions(secret_key=SECRET, store="memory://adapter")

        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            session = self.sessions.open(environ.get("HTTP_COOKIE"))
            body = str(session.get("user_id")).encode()
            start_response("200 OK", self.sessions.commit(session, [], https=False))
            self.sessions.finish(session)
            return [body]

    assert signed_in(Client(Application())).get("/").text == "7"


@pytest.mark.parametrize(
    "client",
    [TestClient(Starlette()), Flask(__name__).test_client(), httpx.Client(base_url="http://a")],
    ids=["Starlette", "Flask", "httpx"],
)
def test_an_application_without_our_sessions_is_an_error(client: Any) -> None:
    """Which says what must be there."""
    with pytest.raises(ConfigurationError, match="must have a session middleware"):
        signed_in(client)


@pytest.mark.parametrize("client", [object(), starlette(store="memory://")])
def test_what_is_no_client_is_an_error(client: Any) -> None:
    """Which names what is known; the application itself is none."""
    with pytest.raises(TypeError, match="need a test client"):
        signed_in(client)


def test_a_client_without_a_base_url_is_an_error() -> None:
    """It sends a cookie to some hosts only, and there is none."""
    transport = httpx.ASGITransport(app=starlette(store="memory://"))

    with pytest.raises(ConfigurationError, match="base_url='http://testserver'"):
        signed_in(httpx.AsyncClient(transport=transport))


def test_a_cookie_for_another_host_is_an_error() -> None:
    """The client would keep it back, and the test would be signed out."""
    app = starlette(store="memory://", domain="shop.example")

    with pytest.raises(ConfigurationError, match=r"http://testserver.*domain=shop\.example"):
        signed_in(TestClient(app))

    client = TestClient(app, "http://www.shop.example")
    assert signed_in(client).get("/private").status_code == 200


def test_a_header_in_the_place_of_the_clients_cookies(session_store: FailingStore) -> None:
    """A client sends it instead of them: its session is that one, and no other can be given it."""
    app = starlette(store=session_store)
    cookies = signed_in(TestClient(app), 3).cookies
    client = TestClient(app, headers={"Cookie": f"session={cookies['session']}"})

    with session_of(client) as session:
        assert dict(session) == client.get("/").json() == {"user_id": 3}
    with pytest.raises(ConfigurationError, match="The client must send the session cookie"):
        signed_in(client, 4)


@pytest.mark.parametrize("name", ["Flask", "Quart"])
def test_a_cookie_for_another_host_of_flask_or_quart_is_an_error(name: str) -> None:
    """Their clients ask SERVER_NAME, and without one localhost."""
    site = SITES[name]
    app = site.application(store="memory://")
    app.config["SESSION_COOKIE_DOMAIN"] = "shop.example"

    with pytest.raises(ConfigurationError, match=r"http://localhost.*domain=shop\.example"):
        signed_in(app.test_client())

    app.config["SERVER_NAME"] = "www.shop.example"
    client = signed_in(app.test_client())
    assert site.get(client, "/private") == (200, {"user_id": 7})
    with session_of(client) as session:
        session.destroy()
    assert site.get(client, "/private")[0] == 401


# --- event loops ----------------------------------------------------------------------------------


def test_inside_a_running_event_loop_it_is_the_same(tmp_path: Path) -> None:
    """With a URL there are plain functions, too, so nothing is awaited."""

    async def test() -> int:
        transport = httpx.ASGITransport(app=starlette(store=f"sqlite:///{tmp_path}/a.db"))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            signed_in(client)
            return (await client.get("/private")).status_code

    assert asyncio.run(test()) == 200


def test_a_store_that_can_only_be_awaited_is_an_error() -> None:
    """It says what to give the application instead."""

    class Awaited:
        async def load(self, key: str, at_least: int = 0) -> None: ...

        create = replace = touch = delete = load

    with pytest.raises(ConfigurationError, match="Awaited: give it a URL"):
        signed_in(TestClient(starlette(store=Awaited())))


def test_a_session_is_in_the_store_of_the_url(tmp_path: Path) -> None:
    """In the database that the application has opened."""
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    client = signed_in(TestClient(starlette(store=url)))

    with session_of(client) as session:
        handle = session.handle
    assert open_store(url).sync.load(handle) is not None


# --- as in a request ------------------------------------------------------------------------------


def test_a_session_can_be_committed_inside(session_store: FailingStore) -> None:
    """Nothing is awaited: the verbs are plain functions here."""
    client = signed_in(TestClient(starlette(store=session_store)), visits=1)

    with session_of(client) as session:
        session.mutate(lambda fresh: fresh.update(visits=fresh["visits"] + 1))
        session.commit()
        assert client.get("/").json() == {"user_id": 7, "visits": 2}


def test_two_changes_at_once_are_both_kept(session_store: FailingStore) -> None:
    """The end of the block compares and sets, as the end of a request does."""
    client = signed_in(TestClient(starlette(store=session_store)))

    with session_of(client) as first:
        first["a"] = 1
        with session_of(client) as second:
            second["b"] = 2

    assert client.get("/").json() == {"user_id": 7, "a": 1, "b": 2}


def test_what_a_session_cannot_hold_is_refused(session_store: FailingStore) -> None:
    """Where the test puts it, and not in a request later on."""
    with pytest.raises(NotSerializable, match="thing"):
        signed_in(TestClient(starlette(store=session_store)), thing=object())


def test_who_signs_in_keeps_what_a_visitor_had(session_store: FailingStore) -> None:
    """As at any sign-in; without an owner the session is a visitor's."""
    client = signed_in(TestClient(starlette(store=session_store)), None, cart=[1])
    assert client.get("/").json() == {"cart": [1]}

    signed_in(client, 3)

    assert client.get("/").json() == {"cart": [1], "user_id": 3}


def test_an_owner_has_the_name_that_flask_login_gives_it(session_store: FailingStore) -> None:
    """Its guard lets the client in."""
    app = flask(store=session_store)
    manager = LoginManager(app)

    @manager.user_loader
    def user(key: str) -> UserMixin:
        found = UserMixin()
        found.id = key
        return found

    @app.get("/members")
    @login_required
    def members() -> str:
        return current_user.id

    client = app.test_client()
    assert client.get("/members").status_code == 401
    assert signed_in(client, None, _user_id="7").get("/members").text == "7"


def test_with_copies_the_store_itself_is_asked(session_store: FailingStore) -> None:
    """So a test sees what is stored, and the application finds what the test has changed."""
    client = signed_in(TestClient(starlette(store=session_store, near_cache=True)))
    assert client.get("/").json() == {"user_id": 7}
    assert client.cookies["session"].split(".")[1] == "1"  # the version, which copies need

    with session_of(client) as session:
        session["a"] = 1

    assert client.get("/").json() == {"user_id": 7, "a": 1}


def test_the_time_of_a_sign_in_is_the_clocks(
    session_store: FailingStore, session_clock: Clock
) -> None:
    """Of the store, which is the application's."""
    session_clock.advance(86_400)
    client = signed_in(TestClient(starlette(store=session_store)))

    with session_of(client) as session:
        assert session.authenticated_at.timestamp() == session_clock.now
        assert session.created_at.timestamp() == session_clock.now
