"""Applications on the sessions of the packages that people come from, by these packages themselves.

Each writes a session by a request and shows, by another one, what it finds in it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import flask_session
import redis.asyncio
import starsessions
import starsessions.stores.redis
from flask import Flask, flash, session
from flask_sqlalchemy import SQLAlchemy
from litestar import Litestar, Request, get
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore
from litestar.stores.registry import StoreRegistry
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient as StarletteClient

from tests.support.processes import ROOT

SECRET = "what the old servers signed with"
RUN_DJANGO = "from tests.adopt.django_site import main; main()"
Values = dict[Any, Any]


class Site(ABC):
    """An application on another package's sessions."""

    cookie = "session"

    @abstractmethod
    def write(self, values: Values) -> str:
        """Put values into a new session; return the cookie's value."""

    @abstractmethod
    def shown(self, cookie: str) -> Values:
        """Return what a request with that cookie finds."""


class FlaskSite(Site):
    """Flask, on its own sessions or with Flask-Session; ``flash`` among the values is flashed."""

    def __init__(self, **settings: Any) -> None:
        self.app = Flask("old")
        self.app.config.update(SECRET_KEY=SECRET, **settings)
        if settings.get("SESSION_TYPE") == "sqlalchemy":
            self.app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(self.app)
        if "SESSION_TYPE" in settings:
            flask_session.Session(self.app)
        self.app.add_url_rule("/write", view_func=self._write)
        self.app.add_url_rule("/show", view_func=self._show)
        self._values: Values = {}

    def _write(self) -> str:
        for message in self._values.pop("flash", []):
            flash(*message)
        session.update(self._values)
        return ""

    def _show(self) -> str:
        self._values = dict(session)
        return ""

    def write(self, values: Values) -> str:
        self._values = dict(values)
        answer = self.app.test_client().get("/write")
        assert answer.status_code == 200
        [sent] = answer.headers.getlist("Set-Cookie")
        name, _, value = sent.partition(";")[0].partition("=")
        assert name == self.cookie
        return value

    def shown(self, cookie: str) -> Values:
        client = self.app.test_client(use_cookies=False)
        sent = {"Cookie": f"{self.cookie}={cookie}"}
        assert client.get("/show", headers=sent).status_code == 200
        return self._values

    def close(self) -> None:
        if database := self.app.config.get("SESSION_SQLALCHEMY"):
            with self.app.app_context():
                database.engine.dispose()


class StarletteSite(Site):
    """Starlette on its own sessions."""

    def __init__(self, secret: Any = SECRET) -> None:
        self._secret = secret
        self._values: Values = {}

    def _middleware(self) -> list[Middleware]:
        return [Middleware(SessionMiddleware, secret_key=self._secret)]

    async def _write(self, request: StarletteRequest) -> PlainTextResponse:
        request.session.update(self._values)
        return PlainTextResponse("")

    async def _show(self, request: StarletteRequest) -> PlainTextResponse:
        self._values = dict(request.session)
        return PlainTextResponse("")

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield

    def _client(self) -> StarletteClient:
        routes = [Route("/write", self._write), Route("/show", self._show)]
        app = Starlette(routes=routes, middleware=self._middleware(), lifespan=self._lifespan)
        return StarletteClient(app, base_url="https://old.example")

    def write(self, values: Values) -> str:
        self._values = dict(values)
        with self._client() as client:
            client.get("/write").raise_for_status()
            return client.cookies[self.cookie]

    def shown(self, cookie: str) -> Values:
        with self._client() as client:
            client.get("/show", headers={"Cookie": f"session={cookie}"}).raise_for_status()
        return self._values


class StarsessionsSite(StarletteSite):
    """Starlette with starsessions in Redis."""

    def __init__(self, url: str, lifetime: int = 14 * 24 * 60 * 60, **options: Any) -> None:
        super().__init__()
        self._url, self._lifetime, self._options = url, lifetime, options

    def _middleware(self) -> list[Middleware]:
        self._connection = redis.asyncio.Redis.from_url(self._url)
        store = starsessions.stores.redis.RedisStore(
            connection=self._connection,
            **self._options,
        )
        return [
            Middleware(starsessions.SessionMiddleware, store=store, lifetime=self._lifetime),
            Middleware(starsessions.SessionAutoloadMiddleware),
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._connection.aclose()


class LitestarSite(Site):
    """Litestar on server-side sessions in Redis.

    ``by_factory``: the store comes from the namespace that a registry makes of it.
    """

    def __init__(self, url: str, *, by_factory: bool = False, **options: Any) -> None:
        self._url, self._options, self._by_factory = url, options, by_factory
        self._values: Values = {}

    def _client(self) -> LitestarClient[Litestar]:
        site = self

        @get("/write")
        async def write(request: Request[Any, Any, Any]) -> None:
            request.session.update(site._values)

        @get("/show")
        async def show(request: Request[Any, Any, Any]) -> None:
            site._values = dict(request.session)

        connection = redis.asyncio.Redis.from_url(self._url)
        store = RedisStore(connection, **self._options)
        stores: Any = {"sessions": store}
        if self._by_factory:
            stores = StoreRegistry(default_factory=store.with_namespace)
        middleware = [ServerSideSessionConfig().middleware]
        close = connection.aclose
        app = Litestar([write, show], middleware=middleware, stores=stores, on_shutdown=[close])
        return LitestarClient(app)

    def write(self, values: Values) -> str:
        self._values = dict(values)
        with self._client() as client:
            client.get("/write").raise_for_status()
            return client.cookies["session"]

    def shown(self, cookie: str) -> Values:
        with self._client() as client:
            client.get("/show", headers={"Cookie": f"session={cookie}"}).raise_for_status()
        return self._values


class DjangoSite(Site):
    """Django, in a process of its own, since it has one configuration for all of it."""

    cookie = "sessionid"

    def __init__(self, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN_DJANGO, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process as process:
            process.terminate()

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "Django's process has ended; its standard error says why"
        return json.loads(answer)

    def write(self, values: Values, expiry: object = None) -> str:
        cookie: str = self._ask(path="/write", values=values, expiry=expiry)
        return cookie

    def sign_in(self) -> str:
        cookie: str = self._ask(path="/sign-in")
        return cookie

    def shown(self, cookie: str) -> Values:
        found: Values = self._ask(path="/show", cookie=cookie)
        return found
