"""One small application for each kind of client, all of which have the same three answers.

``/`` shows the session, ``/private`` is for users, ``/sign-in`` signs user 9 in.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
from fastapi import Depends, FastAPI, HTTPException
from flask import Flask, session
from litestar import Litestar, Request, Response, get
from litestar.middleware import DefineMiddleware
from litestar.testing import AsyncTestClient
from litestar.testing import TestClient as LitestarClient
from quart import Quart
from quart import session as quarts_session
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client as WerkzeugClient

from sharedsession import asgi, wsgi
from sharedsession import flask as flasks
from sharedsession import quart as quarts
from sharedsession.litestar import SharedSessionConfig

SECRET = secrets.token_hex(32)
WERKZEUGS = hasattr(WerkzeugClient, "get_cookie")  # before 2.3 it kept Secure cookies back
PATHS = ("/", "/private", "/sign-in")


def answer(path: str, held: Any) -> tuple[int, dict[str, Any]]:
    if path == "/sign-in":
        held["user_id"] = 9
    if path == "/private" and "user_id" not in held:
        return 401, {}
    return 200, dict(held)


def starlette(**settings: Any) -> Starlette:
    async def view(request: StarletteRequest) -> JSONResponse:
        status, shown = answer(request.url.path, request.session)
        return JSONResponse(shown, status)

    app = Starlette(routes=[Route(path, view) for path in PATHS])
    app.add_middleware(asgi.SessionMiddleware, secret_key=SECRET, **settings)
    return app


def fastapi(**settings: Any) -> FastAPI:
    def user(request: StarletteRequest) -> int:
        if "user_id" not in request.session:
            raise HTTPException(401)
        return request.session["user_id"]

    app = FastAPI()

    @app.get("/private")
    async def private(request: StarletteRequest, user: int = Depends(user)) -> dict[str, Any]:
        return dict(request.session)

    @app.get("/")
    @app.get("/sign-in")
    async def view(request: StarletteRequest) -> dict[str, Any]:
        return answer(request.url.path, request.session)[1]

    app.add_middleware(asgi.SessionMiddleware, secret_key=SECRET, **settings)
    return app


def plain_wsgi(**settings: Any) -> wsgi.SessionMiddleware:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        status, shown = answer(environ["PATH_INFO"], environ["sharedsession.session"])
        start_response(f"{status} -", [("Content-Type", "application/json")])
        return [json.dumps(shown).encode()]

    return wsgi.SessionMiddleware(app, secret_key=SECRET, **settings)


def _by_options(app: Flask | Quart, settings: dict[str, Any]) -> None:
    """Move settings to where Flask and Quart have them."""
    app.secret_key = SECRET
    options = {
        "session_cookie": "SESSION_COOKIE_NAME",
        "path": "SESSION_COOKIE_PATH",
        "https_only": "SESSION_COOKIE_SECURE",
        "max_age": "PERMANENT_SESSION_LIFETIME",
    }
    for name in options.keys() & settings.keys():
        app.config[options[name]] = settings.pop(name)


def flask(**settings: Any) -> Flask:
    app = Flask(__name__)
    _by_options(app, settings)
    flasks.SharedSession(app, **settings)

    def view(path: str = "") -> tuple[dict[str, Any], int]:
        status, shown = answer(f"/{path}", session)
        return shown, status

    app.add_url_rule("/", "root", view)
    app.add_url_rule("/<path:path>", "view", view)
    return app


def quart(**settings: Any) -> Quart:
    app = Quart(__name__)

    async def view(path: str = "") -> tuple[dict[str, Any], int]:
        status, shown = answer(f"/{path}", quarts_session)
        return shown, status

    app.add_url_rule("/", "root", view)
    app.add_url_rule("/<path:path>", "view", view)
    _by_options(app, settings)
    quarts.SharedSession(app, **settings)
    return app


def litestars_view() -> Any:
    @get([*PATHS])
    async def view(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        status, shown = answer(request.url.path, request.scope["session"])
        return Response(shown, status_code=status)

    return view


def litestar(**settings: Any) -> Litestar:
    names = {"session_cookie": "key", "https_only": "secure"}
    own = {names.get(name, name): value for name, value in settings.items()}
    return Litestar([litestars_view()], middleware=[SharedSessionConfig(SECRET, **own).middleware])


def wrapped(**settings: Any) -> Litestar:
    layer = DefineMiddleware(asgi.SessionMiddleware, secret_key=SECRET, **settings)
    return Litestar([litestars_view()], middleware=[layer])


@dataclass
class Site:
    """A kind of client; ``client(application, base_url)`` makes one, ``get`` asks with it."""

    application: Callable[..., Any]
    client: Callable[[Any, str], Any]
    is_awaited: bool = False
    host: str = "testserver"
    sends_secure_cookies: bool = False  # over http, too

    def get(self, client: Any, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and what is shown of the session."""
        response = asyncio.run(client.get(path)) if self.is_awaited else client.get(path)
        if hasattr(response, "text"):
            text = response.text
        else:  # Quart's
            text = asyncio.run(response.get_data(as_text=True))
        return response.status_code, json.loads(text)

    def signed_out(self, **settings: Any) -> Any:
        """Return a client of an application with these settings."""
        return self.client(self.application(**settings), f"http://{self.host}")


def _httpx(library: Any, *, wsgi: bool = False) -> Callable[[Any, str], Any]:
    def client(app: Any, url: str) -> Any:
        if wsgi:
            return library.Client(transport=library.WSGITransport(app=app), base_url=url)
        return library.AsyncClient(transport=library.ASGITransport(app=app), base_url=url)

    return client


SITES = {
    "Starlette": Site(starlette, lambda app, url: TestClient(app, url)),
    "FastAPI": Site(fastapi, lambda app, url: TestClient(app, url)),
    "httpx, ASGI": Site(starlette, _httpx(httpx), is_awaited=True),
    "httpx2, ASGI": Site(fastapi, _httpx(httpx2), is_awaited=True),
    "httpx, WSGI": Site(plain_wsgi, _httpx(httpx, wsgi=True)),
    "httpx2, WSGI": Site(flask, _httpx(httpx2, wsgi=True)),
    "Werkzeug": Site(
        plain_wsgi,
        lambda app, url: WerkzeugClient(app),
        host="localhost",
        sends_secure_cookies=WERKZEUGS,
    ),
    "Flask": Site(
        flask, lambda app, url: app.test_client(), host="localhost", sends_secure_cookies=WERKZEUGS
    ),
    "Quart": Site(
        quart,
        lambda app, url: app.test_client(),
        is_awaited=True,
        host="localhost",
        sends_secure_cookies=True,
    ),
    "Litestar, wrapped": Site(
        wrapped, lambda app, url: LitestarClient(app, url), host="shop.local"
    ),
    "Litestar": Site(litestar, lambda app, url: LitestarClient(app, url), host="shop.local"),
    "Litestar, awaited": Site(
        litestar, lambda app, url: AsyncTestClient(app, url), is_awaited=True, host="shop.local"
    ),
}
