"""Applications on our sessions, by each door, that take over those of an old package."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any

from flask import Flask, request, session
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from sharedsession import asgi, wsgi
from sharedsession.flask import SharedSession
from sharedsession.stores.memory import MemoryStore
from tests.adopt.sites import SECRET

DOORS = ("ASGI", "WSGI", "Flask")


class Answer:
    """What a client was answered."""

    def __init__(self, status: int, set_cookies: list[str]) -> None:
        self.status, self.set_cookies = status, set_cookies
        self.cookies: dict[str, str] = {}
        self.removed: set[str] = set()
        for each in set_cookies:
            for name, morsel in SimpleCookie(each).items():
                gone = "1970" in morsel["expires"]
                self.removed |= {name} if gone else set()
                self.cookies |= {} if gone else {name: morsel.value}


class Door:
    """One application, with a few things that a request may do with its session.

    ``/show`` notes in `shown` what is in it; ``/set?key=k`` sets a key; ``/out`` ends it; and
    ``/unused`` does not look at it.
    """

    def __init__(self, name: str, **settings: Any) -> None:
        self.shown: list[dict[Any, Any]] = []
        self._name = name
        make = {"ASGI": self._asgi, "WSGI": self._wsgi, "Flask": self._flask}[name]
        self._app = make({"store": MemoryStore(), **settings})  # of its own: cookies may be equal

    def ask(self, path: str, cookies: dict[str, str]) -> Answer:
        """Send one request."""
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if self._name == "ASGI":
            return asyncio.run(self._ask(path, header))
        answer = Client(self._app, use_cookies=False).get(path, headers={"Cookie": header})
        return Answer(answer.status_code, answer.headers.getlist("Set-Cookie"))

    def ask_at_once(self, paths: list[str], cookies: dict[str, str]) -> list[Answer]:
        """Send several requests of one client at the same time."""
        if self._name == "ASGI":
            header = "; ".join(f"{name}={value}" for name, value in cookies.items())

            async def all_of_them() -> list[Answer]:
                return list(await asyncio.gather(*(self._ask(path, header) for path in paths)))

            return asyncio.run(all_of_them())
        with ThreadPoolExecutor(len(paths)) as pool:
            return list(pool.map(lambda path: self.ask(path, cookies), paths))

    def _act(self, path: str, key: str, session: Any) -> None:
        match path:
            case "/show":
                self.shown.append(dict(session))
            case "/set":
                session[key] = 1
            case "/out":
                session.destroy()

    async def _ask(self, path: str, header: str) -> Answer:
        path, _, query = path.partition("?")
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "path": path,
            "query_string": query.encode(),
            "scheme": "http",
            "headers": [(b"cookie", header.encode("latin-1"))],
        }
        await self._app(scope, None, send)
        headers = messages[0]["headers"]
        sent = [value.decode() for name, value in headers if name == b"set-cookie"]
        return Answer(messages[0]["status"], sent)

    def _asgi(self, settings: dict[str, Any]) -> Any:
        async def app(scope: Any, _receive: Any, send: Any) -> None:
            key = scope["query_string"].decode().partition("=")[2]
            self._act(scope["path"], key, scope["session"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        return asgi.SessionMiddleware(app, **{"secret_key": SECRET, **settings})

    def _wsgi(self, settings: dict[str, Any]) -> Any:
        @Request.application
        def app(request: Request) -> Response:
            key = request.args.get("key", "")
            self._act(request.path, key, request.environ["sharedsession.session"])
            return Response()

        return wsgi.SessionMiddleware(app, **{"secret_key": SECRET, **settings})

    def _flask(self, settings: dict[str, Any]) -> Any:
        app = Flask("new")
        app.secret_key = settings.pop("secret_key", SECRET)
        SharedSession(app, **settings)

        @app.get("/<path:_>")
        def act(_: str) -> str:
            self._act(request.path, request.args.get("key", ""), session)
            return ""

        return app
