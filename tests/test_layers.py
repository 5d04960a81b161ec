"""Several session middlewares on one request: ours, Starlette's, and what others bring along."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import flask
import pytest
from asgiref.wsgi import WsgiToAsgi
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from werkzeug.test import Client as WSGIClient

from sharedsession import StoreUnavailable, asgi, wsgi
from sharedsession.flask import SharedSession
from sharedsession.stores.memory import MemoryStore

SECRET = "a secret of the tests, long enough for them"

Said = pytest.LogCaptureFixture


class OlderSessionMiddleware:
    """A session middleware as Starlette's was before 1.0: a plain dict in the scope."""

    def __init__(self, app: Any, cookie: str = "theirs") -> None:
        self.app, self.cookie = app, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        held = Request(scope).cookies.get(self.cookie, "") if scope["type"] == "http" else ""
        scope["session"] = json.loads(bytes.fromhex(held[4:])) if held[:4] == "hex-" else {}

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["session"]:
                value = json.dumps(scope["session"]).encode().hex()
                header = (b"set-cookie", f"{self.cookie}=hex-{value}; path=/".encode())
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self.app(scope, receive, sending)


class Passing(BaseHTTPMiddleware):
    """What runs the application inside of it as another task."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


def count(request: Request) -> Response:
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(dict(request.session))


def look(request: Request) -> Response:
    return JSONResponse(dict(request.session))


def sign_in(request: Request) -> Response:
    request.session["user_id"] = "ada"
    return JSONResponse({})


def ours(**settings: Any) -> Middleware:
    options = {"secret_key": SECRET, "store": "memory://", **settings}
    return Middleware(asgi.SessionMiddleware, **options)  # type: ignore[arg-type]


def part(*layers: Middleware) -> Mount:
    """A part of an application that has session middlewares of its own."""
    routes = [Route("/", count), Route("/look", look)]
    return Mount("/part", Starlette(routes=routes, middleware=layers))


def site(*layers: Middleware, parts: Iterable[Any] = ()) -> TestClient:
    routes = [Route("/", count), Route("/look", look), Route("/sign-in", sign_in), *parts]
    return TestClient(Starlette(routes=routes, middleware=layers))


def warnings(said: Said) -> list[str]:
    """The events that were warned of."""
    return [each.event for each in said.records if each.levelno >= logging.WARNING]  # type: ignore[attr-defined]


# --- another package's, inside of ours ------------------------------------------------------------

OTHERS = {
    "Starlette's": [Middleware(StarlettesMiddleware, secret_key="x", session_cookie="theirs")],
    "a plain dict": [Middleware(OlderSessionMiddleware)],
    "another task around it": [Middleware(Passing), Middleware(OlderSessionMiddleware)],
    "another task inside": [Middleware(OlderSessionMiddleware), Middleware(Passing)],
}


class DBSessionMiddleware:
    """A session of a database, which is nobody's cookie: a name that packages use."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def test_a_middleware_for_another_kind_of_session_takes_no_write_away() -> None:
    """What the application puts in its session's place is stored, and an empty dict ends it."""

    async def put(request: Request) -> Response:
        request.scope["session"] = {"put": 1} if "put" in request.url.query else {}
        return PlainTextResponse("ok")

    client = site(ours(), Middleware(DBSessionMiddleware), parts=[Route("/put", put)])
    client.get("/sign-in")
    client.get("/put?put")
    assert client.get("/look").json() == {"put": 1}
    client.get("/put")
    assert client.get("/look").json() == {}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("path", ["/part/look", "/part/"])
def test_a_session_middleware_inside_of_ours_keeps_its_own(others: str, path: str) -> None:
    """Under another cookie name: a visit there that looks or writes leaves ours alone."""
    client = site(ours(session_cookie="ours"), parts=[part(*OTHERS[others])])
    client.get("/sign-in")
    client.get(path)
    assert client.get("/look").json() == {"user_id": "ada"}
    assert client.get("/part/").json() == {"n": 2 if path == "/part/" else 1}
    assert client.get("/look").json() == {"user_id": "ada"}


def test_a_socket_with_a_session_middleware_inside_of_ours() -> None:
    """Accepted, or closed before that: ours stays as it was."""

    async def talk(websocket: WebSocket) -> None:
        websocket.session["theirs"] = 1
        if "accept" in websocket.url.query:
            await websocket.accept()
        await websocket.close()

    inside = Starlette(
        routes=[WebSocketRoute("/", talk)], middleware=[Middleware(OlderSessionMiddleware)]
    )
    client = site(ours(), parts=[Mount("/socket", inside)])
    client.get("/sign-in")
    with client.websocket_connect("/socket/?accept"):
        pass
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket/"):
        pass
    assert client.get("/look").json() == {"user_id": "ada"}


def test_a_plain_dict_of_the_applications_own_is_stored() -> None:
    """Litestar's set_session puts one there on purpose; elsewhere on this site another lives."""

    def replace(request: Request) -> Response:
        request.scope["session"] = {"instead": 1}
        return PlainTextResponse("ok")

    layers = [ours(), Middleware(Passing)]
    client = site(*layers, parts=[Route("/replace", replace), part(*OTHERS["a plain dict"])])
    client.get("/")
    client.get("/part/")
    client.get("/replace")
    assert client.get("/look").json() == {"instead": 1}


def test_a_plain_dict_put_there_after_the_response_is_stored() -> None:
    """In a background task; not, where another session middleware is inside."""

    def replace(request: Request) -> Response:
        def later() -> None:
            request.scope["session"] = {"instead": 1}

        return PlainTextResponse("ok", background=BackgroundTask(later))

    inside = Starlette(
        routes=[Route("/", replace)], middleware=[Middleware(OlderSessionMiddleware)]
    )
    client = site(ours(), parts=[Route("/replace", replace), Mount("/inside", inside)])
    client.get("/")
    client.get("/inside/")
    assert client.get("/look").json() == {"n": 1}
    client.get("/replace")
    assert client.get("/look").json() == {"instead": 1}


# --- one cookie's name, and two packages ----------------------------------------------------------


def test_a_second_package_that_sets_our_cookie_is_warned_of_once(caplog: Said) -> None:
    """With the cookie's name and the remedy, and without any secret or value."""
    for theirs in (
        Middleware(StarlettesMiddleware, secret_key="x"),
        Middleware(OlderSessionMiddleware, cookie="session"),
    ):
        caplog.clear()
        client = site(ours(), parts=[part(theirs)])
        value = client.get("/").cookies["session"]
        assert warnings(caplog) == []
        for path in ("/part/", "/", "/part/"):
            value = client.get(path).cookies.get("session", value)
        assert warnings(caplog) == ["cookie-conflict"]
        assert "'session'" in caplog.text
        assert "sharedsession.starlette.install()" in caplog.text
        assert value[:20] not in caplog.text


@pytest.mark.parametrize("theirs", ["session", "theirs"])
def test_a_session_middleware_around_ours_finds_its_own(theirs: str, caplog: Said) -> None:
    """Starlette's looks into the scope when a response starts; ours is not what it finds there."""
    around = Middleware(StarlettesMiddleware, secret_key="x", session_cookie=theirs)
    client = site(around, ours())
    assert [client.get("/").json()["n"] for _ in range(3)] == [1, 2, 3]
    assert [each.name for each in client.cookies.jar] == ["session"]
    assert warnings(caplog) == []


def test_a_layer_around_ours_that_sets_our_cookie_is_noticed(caplog: Said) -> None:
    """By what the client shows: something else has set it since this process started."""

    class Around(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            request.session["theirs"] = 1
            response: Response = await call_next(request)
            return response

    theirs = Middleware(StarlettesMiddleware, secret_key="x")
    client = site(theirs, Middleware(Around), ours())
    for _ in range(3):
        client.get("/")
    assert warnings(caplog) == ["foreign-cookie"]
    assert "'session'" in caplog.text


def test_a_removal_by_the_application_is_no_conflict(caplog: Said) -> None:
    """As logout pages do it, which delete the cookie by hand."""

    def leave(request: Request) -> Response:
        request.session.clear()
        response = PlainTextResponse("bye")
        response.delete_cookie("session")
        return response

    client = site(ours(), parts=[Route("/leave", leave)])
    client.get("/")
    client.get("/leave")
    assert client.get("/look").json() == {}
    assert warnings(caplog) == []


# --- two of ours, one cookie ----------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"secret_key": "another key, as a package passes it"}])
@pytest.mark.parametrize("first", ["/part/", "/"])
def test_two_of_ours_with_one_cookie_are_one_session(first: str, settings: Any) -> None:
    """One Set-Cookie, one record; what either layer writes the other sees, on the first visit."""

    class Visits(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            request.session["seen"] = True
            response: Response = await call_next(request)
            return response

    store = MemoryStore()
    inside = part(ours(store=store, **settings))
    client = site(ours(store=store), Middleware(Visits), parts=[inside])
    answer = client.get(first)
    assert len(answer.headers.get_list("set-cookie")) == 1
    assert answer.headers.get_list("vary") == ["Cookie"]
    assert answer.json() == {"seen": True, "n": 1}
    assert len(store._entries) == 1
    assert client.get("/part/").json() == {"seen": True, "n": 2}
    assert client.get("/").json() == {"seen": True, "n": 3}


def test_two_of_ours_with_two_cookies_are_two_sessions() -> None:
    """And a third, inside of both, goes with the one whose name it has."""
    inner = [ours(session_cookie="inner"), ours(session_cookie="outer")]
    alone = Mount("/inner", Starlette(routes=[Route("/", count)], middleware=inner[:1]))
    client = site(ours(session_cookie="outer"), parts=[part(*inner), alone])
    client.get("/sign-in")
    assert client.get("/part/").json() == {"user_id": "ada", "n": 1}
    assert client.get("/inner/").json() == {"n": 1}
    assert client.get("/look").json() == {"user_id": "ada", "n": 1}
    assert sorted(each.name for each in client.cookies.jar) == ["inner", "outer"]


def test_two_of_ours_with_one_cookie_and_different_stores_are_warned_of(caplog: Said) -> None:
    """The outer one decides; whoever meant two sessions is told to give them two names."""
    client = site(ours(), parts=[part(ours(namespace="part"))])
    assert client.get("/part/").json() == {"n": 1}
    assert client.get("/").json() == {"n": 2}
    assert warnings(caplog) == ["two-layers"]


def test_a_scope_that_is_used_again_is_another_request() -> None:
    """Of another client, perhaps: nothing of the first one's session is in it."""

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        async def nothing(message: Any) -> None:
            pass

        if scope["type"] == "http":
            await middleware(scope, receive, nothing)
            scope["headers"] = []
        await middleware(scope, receive, send)

    app = Starlette(routes=[Route("/", count)])
    middleware = asgi.SessionMiddleware(app, SECRET, store="memory://")
    client = TestClient(twice)
    assert [client.get("/").json()["n"] for _ in range(2)] == [1, 1]


# --- WSGI -----------------------------------------------------------------------------------------


def counting(environ: Any, start_response: Any) -> Iterable[bytes]:
    session = environ["sharedsession.session"]
    session["n"] = session.get("n", 0) + 1
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(session)).encode()]


class Beside:
    """A WSGI middleware that adds a header, or writes into the session."""

    def __init__(self, app: Any, header: str = "", **values: Any) -> None:
        self.app, self.header, self.values = app, header, values

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if self.values:
            environ["sharedsession.session"].update(self.values)

        def starting(status: str, headers: Any, *more: Any) -> Any:
            added = [("Set-Cookie", self.header)] if self.header else []
            return start_response(status, [*headers, *added], *more)

        return self.app(environ, starting)  # type: ignore[no-any-return]


def test_two_of_ours_in_wsgi_with_one_cookie_are_one_session() -> None:
    """One Set-Cookie, one record; with two names they are two."""
    store = MemoryStore()
    inside = wsgi.SessionMiddleware(counting, SECRET, store=store)
    client = WSGIClient(wsgi.SessionMiddleware(Beside(inside, seen=True), SECRET, store=store))
    answer = client.get("/")
    assert len(answer.headers.getlist("Set-Cookie")) == 1
    assert answer.json == {"seen": True, "n": 1}
    assert client.get("/").json == {"seen": True, "n": 2}
    assert len(store._entries) == 1


def test_a_wsgi_middleware_that_sets_our_cookie_is_warned_of_once(caplog: Said) -> None:
    """Inside of ours, whatever it makes its values of."""
    inside = Beside(counting, "session=0123456789abcdef; path=/")
    client = WSGIClient(wsgi.SessionMiddleware(inside, SECRET, store="memory://"))
    for _ in range(3):
        client.get("/")
    assert warnings(caplog) == ["cookie-conflict"]


def flask_site(**config: Any) -> Flask:
    app = Flask("inside")
    app.config.update(SECRET_KEY=SECRET, **config)

    @app.get("/login")
    def login() -> dict[str, Any]:
        flask.session["user_id"] = "ada"
        return {}

    @app.get("/logout")
    def logout() -> dict[str, Any]:
        flask.session.clear()
        return {}

    @app.get("/read")
    def read() -> dict[str, Any]:
        return dict(flask.session)

    @app.get("/quiet")
    def quiet() -> str:
        return ""

    return app


def test_another_layer_that_sets_flasks_cookie_is_warned_of_once(caplog: Said) -> None:
    """In an after_request function, or between Flask and ours; a removal is none."""
    for inside in (False, True):
        caplog.clear()
        app = flask_site()
        if inside:
            app.wsgi_app = Beside(app.wsgi_app, "session=theirs; path=/")  # type: ignore[method-assign]
        else:
            set_it = lambda response: response.set_cookie("session", "theirs") or response  # noqa: E731
            app.after_request(set_it)
        SharedSession(app, store="memory://")
        for _ in range(2):
            app.test_client().get("/login")
        assert warnings(caplog) == ["cookie-conflict"]
    caplog.clear()
    app = flask_site()
    app.after_request(lambda response: response.delete_cookie("session") or response)
    SharedSession(app, store="memory://")
    app.test_client().get("/login")
    assert warnings(caplog) == []


Get = Callable[[str], tuple[Any, list[str]]]


def flask_in_wsgi(store: MemoryStore, **outer: Any) -> Get:
    app = flask_site()
    SharedSession(app, store=store)
    around = wsgi.SessionMiddleware(Beside(app, **outer), SECRET, store=store)
    client = WSGIClient(around)

    def get(path: str) -> tuple[Any, list[str]]:
        answer = client.get(path)
        return answer.get_json(silent=True), answer.headers.getlist("Set-Cookie")

    return get


def flask_in_asgi(store: MemoryStore, **outer: Any) -> Get:
    app = flask_site()
    SharedSession(app, store=store)
    bridge = WsgiToAsgi(app)

    async def around(scope: Any, receive: Any, send: Any) -> None:
        if outer:
            scope["session"].update(outer)
        await bridge(scope, receive, send)

    client = TestClient(asgi.SessionMiddleware(around, SECRET, store=store))

    def get(path: str) -> tuple[Any, list[str]]:
        answer = client.get(path)
        body = answer.json() if answer.text else None
        return body, answer.headers.get_list("set-cookie")

    return get


@pytest.mark.parametrize("make", [flask_in_wsgi, flask_in_asgi])
class TestFlaskInsideOfOurs:
    """With one key, store and cookie."""

    def test_a_first_visit_that_signs_in_is_one_session(self, make: Callable[..., Get]) -> None:
        """One Set-Cookie, one record that holds what both layers wrote."""
        store = MemoryStore()
        get = make(store, seen=True)
        _, cookies = get("/login")
        assert len(cookies) == 1
        assert get("/read")[0] == {"user_id": "ada", "seen": True}
        assert len(store._entries) == 1

    def test_a_sign_in_that_renews_is_one_session(self, make: Callable[..., Get]) -> None:
        """The layer around it goes on under the new ID."""
        get = make(MemoryStore(), seen=True)
        get("/quiet")
        _, cookies = get("/login")
        assert len(cookies) == 1
        assert get("/read")[0] == {"user_id": "ada", "seen": True}

    def test_a_sign_out_is_one(self, make: Callable[..., Get]) -> None:
        """What the layer around it wrote in the same request does not bring the session back."""
        get = make(MemoryStore(), seen=True)
        get("/login")
        _, cookies = get("/logout")
        assert len(cookies) == 1
        assert "01 Jan 1970" in cookies[0]
        assert get("/read")[0] in ({}, {"seen": True})

    def test_where_only_flask_writes_there_is_one_cookie(self, make: Callable[..., Get]) -> None:
        """And where neither does, none."""
        get = make(MemoryStore())
        assert len(get("/login")[1]) == 1
        assert get("/read") == ({"user_id": "ada"}, [])
        assert get("/quiet")[1] == []


# --- what happened is counted where the application can see it ------------------------------------


def test_the_counts_are_in_the_scope() -> None:
    """Of a middleware that add_middleware makes; they go on counting, and cannot be changed."""
    seen: list[Any] = []

    def page(request: Request) -> Response:
        seen.append(request.scope["sharedsession.counts"])
        request.session["a"] = 1
        return PlainTextResponse("ok")

    client = site(ours(store=MemoryStore()), parts=[Route("/page", page)])
    client.get("/page")
    counts = seen[0]
    assert dict(counts) == {"created": 1}
    assert (counts["created"], counts["outage"], "outage" in counts) == (1, 0, False)
    assert repr(counts) == "{'created': 1}"
    client.cookies.clear()
    client.get("/page")
    assert counts["created"] == 2
    with pytest.raises(TypeError):
        counts["created"] = 0


def test_the_counts_are_in_the_environment() -> None:
    """The same under WSGI."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(environ["sharedsession.counts"])
        return counting(environ, start_response)

    middleware = wsgi.SessionMiddleware(app, SECRET, store=MemoryStore())
    WSGIClient(middleware).get("/")
    assert dict(seen[0]) == middleware.counts == {"created": 1}


# --- an outage, seen by the middlewares inside ----------------------------------------------------


class Down(MemoryStore):
    """A store that can be down."""

    down = False

    def load(self, key: str, at_least: int = 0) -> Any:
        if self.down:
            raise StoreUnavailable("the address of the store, which no client may see")
        return super().load(key, at_least)

    def replace(self, *arguments: Any) -> Any:
        if self.down:
            raise StoreUnavailable("the address of the store, which no client may see")
        return super().replace(*arguments)


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("path", ["/read", "/commit", "/write"])
def test_the_answer_to_an_outage_has_the_cors_headers_of_a_middleware_inside(
    path: str, framework: type[Starlette]
) -> None:
    """Also where the outage escapes the route: Starlette answers it, and its middlewares see it."""
    store = Down()

    async def page(request: Request) -> Response:
        if path == "/read":
            store.down = True
        session = request.session
        if path != "/read":
            session["a"] = session["a"] + 1
            store.down = True
        if path == "/commit":
            await session.commit()  # type: ignore[attr-defined]
        return JSONResponse(dict(session))

    async def begin(request: Request) -> Response:
        request.session["a"] = 1
        return PlainTextResponse("ok")

    app = framework(routes=[Route(path, page), Route("/begin", begin)])
    app.add_middleware(CORSMiddleware, allow_origins=["https://spa.test"])
    app.add_middleware(asgi.SessionMiddleware, secret_key=SECRET, store=store)
    client = TestClient(app, headers={"Origin": "https://spa.test"})
    client.get("/begin")
    store.down = path == "/read"
    answer = client.get(path)
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == "https://spa.test"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["cache-control"] == "no-store"
    assert "address" not in answer.text
    store.down = False
    assert client.get("/begin").status_code == 200


def test_an_outage_that_escapes_a_socket_closes_it() -> None:
    """Starlette has no answer for it there, and makes none."""
    store = Down()

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(dict(websocket.session))

    client = site(ours(store=store), parts=[WebSocketRoute("/socket", talk)])
    client.get("/")
    store.down = True
    with pytest.raises(StoreUnavailable), client.websocket_connect("/socket") as socket:
        socket.receive_json()
    store.down = False
    assert client.get("/").json() == {"n": 2}


def test_what_a_handler_adds_to_an_outage_is_of_one_answer() -> None:
    """The headers of one visitor's 503 are in no other visitor's."""
    store = Down()

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = cast(dict[str, str], error.headers)
        if who := request.query_params.get("who"):
            headers["X-Who"] = who
        return PlainTextResponse(error.detail, error.status_code, headers)

    app = Starlette(routes=[Route("/", count)], exception_handlers={HTTPException: answer})
    app.add_middleware(asgi.SessionMiddleware, secret_key=SECRET, store=store)
    client = TestClient(app)
    client.get("/")
    store.down = True
    assert client.get("/?who=ada").headers["x-who"] == "ada"
    answered = client.get("/")
    assert answered.status_code == 503
    assert "x-who" not in answered.headers
    assert answered.headers["retry-after"] == "2"


def test_an_error_that_the_application_makes_of_an_outage_stays_its_own() -> None:
    """After the headers have left, where nothing can be answered any more."""
    store = Down()

    class Broken(RuntimeError):
        pass

    async def page(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"begun"
            try:
                request.session["n"]
            except StoreUnavailable as outage:
                raise Broken from outage

        return StreamingResponse(parts())

    client = site(ours(store=store), parts=[Route("/page", page)])
    client.get("/")
    store.down = True
    with pytest.raises(Broken):
        client.get("/page")
