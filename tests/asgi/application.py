"""An application whose handler the test gives anew with each request, and ways to ask it.

`Site` is that application behind the real middleware, a `Browser` is Starlette's test client with
a cookie jar. Where a client would hide things, `ask` and `connect` speak plain ASGI.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from sharedsession.asgi import SessionMiddleware
from sharedsession.stores.base import Store
from sharedsession.testing.stores import Clock

SECRET = "a secret of these tests"
TIMEOUT = 10.0  # of the stores: this machine may be busy, and no test waits for it

Headers = list[tuple[bytes, bytes]]
Messages = list[dict[str, Any]]


@dataclass
class Answer:
    """A response, and what the handler returned."""

    response: httpx2.Response
    result: Any

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def set_cookies(self) -> list[str]:
        return self.response.headers.get_list("set-cookie")

    @property
    def set_cookie(self) -> str | None:
        """The one Set-Cookie header there is at most."""
        found = self.set_cookies
        assert len(found) < 2
        return found[0] if found else None

    @property
    def vary(self) -> str | None:
        return self.response.headers.get("vary")


class Browser(TestClient):
    """Somebody with a cookie jar."""

    def __init__(self, site: Site, **options: Any) -> None:
        super().__init__(site.middleware, follow_redirects=False, **options)
        self._site = site

    def serve(self, handler: Callable[[Request], Any], **options: Any) -> Answer:
        """Ask for a page that ``handler`` makes, of the request."""
        self._site.handler = handler
        self._site.result = None
        response = self.get("/", **options)
        return Answer(response, self._site.result)

    def visit(self, act: Callable[[Any], Any] | None = None, **options: Any) -> Answer:
        """Ask for a page that does ``act`` to the session; None: one that never uses it."""
        return self.serve(
            (lambda request: None) if act is None else (lambda request: act(request.session)),
            **options,
        )

    def see(self) -> dict[Any, Any]:
        """What the session holds."""
        held: dict[Any, Any] = self.visit(dict).result
        return held

    @property
    def cookie(self) -> str | None:
        """The value of the session's cookie."""
        name = self._site.middleware.manager.settings.session_cookie
        return next((each.value for each in self.cookies.jar if each.name == name), None)

    @cookie.setter
    def cookie(self, value: str | None) -> None:
        self.cookies.clear()
        if value is not None:
            name = self._site.middleware.manager.settings.session_cookie
            self.cookies.set(name, value, domain="testserver.local")  # as the jar spells it


@dataclass
class Site:
    """The application behind the middleware."""

    middleware: SessionMiddleware = field(init=False)
    handler: Callable[[Request], Any] = field(init=False, default=lambda request: None)
    result: Any = field(init=False, default=None)

    def __init__(self, store: str | Store, clock: Clock | None = None, **settings: Any) -> None:
        options = {"secret_key": SECRET, "store_timeout": TIMEOUT, **settings}
        self.middleware = SessionMiddleware(self.application, store=store, **options)
        if clock is not None:
            self.middleware.manager.clock = clock

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        result = self.handler(Request(scope, receive))
        self.result = await result if inspect.isawaitable(result) else result
        response = self.result if isinstance(self.result, Response) else PlainTextResponse("ok")
        await response(scope, receive, send)

    def browser(self, **options: Any) -> Browser:
        return Browser(self, **options)


def id_in(cookie: str | None) -> str:
    """Return the ID in a cookie's value, or in the Set-Cookie header that hands it out."""
    assert cookie is not None
    found = re.search(r"(?:^|=)([\w-]{43})\.\d+\.", cookie)
    assert found, f"no cookie of ours: {cookie}"
    return found[1]


def value_in(set_cookie: str | None) -> str:
    """Return the value that a Set-Cookie header hands out."""
    assert set_cookie is not None
    return set_cookie.partition("=")[2].partition(";")[0]


# --- plain ASGI -----------------------------------------------------------------------------------


def scope_of(kind: str = "http", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Any:
    scheme = {"http": "http", "websocket": "ws"}.get(kind)
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": scheme,
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": list(headers),
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1234),
        "subprotocols": [],
        "state": {},
        **more,
    }


@dataclass
class Spoken:
    """What an application sent, and the exception that escaped it."""

    messages: Messages = field(default_factory=list)
    error: Exception | None = None

    @property
    def start(self) -> dict[str, Any]:
        return next(message for message in self.messages if "headers" in message)

    @property
    def status(self) -> int:
        status: int = self.start["status"]
        return status

    def header(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.start["headers"] if known.lower() == name]

    @property
    def set_cookie(self) -> str | None:
        found = self.header(b"set-cookie")
        assert len(found) < 2
        return found[0].decode() if found else None


async def speak(
    app: Any,
    scope: Any,
    incoming: Iterable[dict[str, Any]] = ({"type": "http.request"},),
    on_send: Callable[[dict[str, Any]], None] = lambda message: None,
) -> Spoken:
    """Run an application on a scope, hand it the ``incoming`` messages and note what it sends."""
    spoken, waiting = Spoken(), list(incoming)

    async def receive() -> dict[str, Any]:
        if not waiting:  # whoever listens for a disconnect listens until the response is done
            await anyio.sleep_forever()
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        on_send(message)
        spoken.messages.append(message)

    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        spoken.error = error
    return spoken


def cookies(*values: str | bytes) -> Headers:
    """Cookie headers, one for each value."""
    return [
        (b"cookie", value.encode("latin-1") if isinstance(value, str) else value)
        for value in values
    ]
