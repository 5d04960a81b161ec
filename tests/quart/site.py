"""A Quart application whose view the test gives anew with each request, and browsers to ask it.

`Site` runs it with `SharedSession` or, to compare, with the interface that Quart itself comes with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import quart
from quart import Quart

from sharedsession.quart import SharedSession
from sharedsession.testing.stores import Clock
from tests.support.watched import WatchedStore

SECRET = "a secret of the tests, long enough for them"
View = Callable[[], Awaitable[Any]]


@dataclass
class Answer:
    """A response, its body, and what the view returned."""

    response: quart.Response
    text: str
    result: Any

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def set_cookie(self) -> str | None:
        """The one Set-Cookie header there is at most."""
        found = self.response.headers.getlist("Set-Cookie")
        assert len(found) < 2
        return found[0] if found else None

    @property
    def vary(self) -> str | None:
        return self.response.headers.get("Vary")

    @property
    def is_unavailable(self) -> bool:
        """Whether this is the answer to an outage, complete, and nothing else."""
        retry = self.response.headers.getlist("Retry-After")
        return (self.status, retry, self.set_cookie) == (503, ["2"], None)


class Site:
    """The application; ``extension`` None leaves it with Quart's own sessions."""

    def __init__(
        self,
        extension: type[SharedSession] | None = SharedSession,
        *,
        clock: Clock | None = None,
        store: WatchedStore | None = None,
        arguments: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.store = store or WatchedStore(self.clock)
        self.app = Quart("site_in_quart", static_folder=None)
        self.app.logger.disabled = True
        self.app.config.update({"SECRET_KEY": SECRET, **config})
        if extension is not None:
            extension(self.app, store=self.store, **{"store_timeout": 10, **(arguments or {})})
            self.app.extensions["sharedsession"].manager.clock = self.clock
        self.app.add_url_rule("/", "view", self._view, methods=["GET", "HEAD", "POST"])
        self.app.add_websocket("/socket", "socket", self._socket)
        self.view: View = _nothing
        self.result: Any = None
        self.errors: list[Exception] = []  # that Quart has answered with a 500
        quart.got_request_exception.connect(self._note, self.app)

    async def _note(self, sender: Quart, exception: Exception) -> None:
        self.errors.append(exception)

    async def _view(self) -> Any:
        self.result = await self.view()
        return self.result if isinstance(self.result, quart.Response | tuple) else "ok"

    async def _socket(self) -> Any:
        return await self.view()

    def browser(self) -> Browser:
        return Browser(self)


async def _nothing() -> None:
    """A page that does nothing."""


class Browser:
    """A client with a cookie jar; each of its requests has an event loop of its own."""

    def __init__(self, site: Site) -> None:
        self.site, self.client = site, site.app.test_client()

    def get(self, path: str = "/", **options: Any) -> Answer:
        return asyncio.run(self.ask(path, **options))

    async def ask(self, path: str = "/", **options: Any) -> Answer:
        response = await self.client.open(path, **options)
        return Answer(response, await response.get_data(as_text=True), self.site.result)

    def serve(self, view: View, **options: Any) -> Answer:
        """Ask for a page that ``view`` makes."""
        self.site.view, self.site.result = view, None
        return self.get(**options)

    def visit(self, act: Callable[[Any], Any] | None = None, **options: Any) -> Answer:
        """Ask for a page that does ``act`` to the session; None: one that never uses it."""

        async def view() -> Any:
            return None if act is None else act(own())

        return self.serve(view, **options)

    def see(self) -> dict[Any, Any]:
        """What the session holds."""
        held: dict[Any, Any] = self.visit(dict).result
        return held

    def talk(
        self, view: View, client: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any
    ) -> Any:
        """Open a WebSocket that ``view`` serves; return what ``client`` makes of it."""
        self.site.view = view

        async def talking() -> Any:
            async with self.client.websocket("/socket", **options) as socket:
                return await client(socket)

        return asyncio.run(talking())

    @property
    def cookie(self) -> str | None:
        name = self.site.app.config["SESSION_COOKIE_NAME"]
        assert self.client.cookie_jar is not None
        return next((each.value for each in self.client.cookie_jar if each.name == name), None)

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.client.set_cookie("localhost", self.site.app.config["SESSION_COOKIE_NAME"], value)


def own() -> Any:
    """This request's session, asked for as applications do."""
    return quart.session._get_current_object()  # type: ignore[attr-defined]


def put(**values: Any) -> Callable[[Any], None]:
    return lambda session: session.update(values)


def attributes(set_cookie: str | None) -> dict[str, str]:
    """Return the name and all attributes of a Set-Cookie header; not its value."""
    assert set_cookie is not None
    pair, *rest = set_cookie.split("; ")
    found = {"name": pair.partition("=")[0]}
    return found | {
        name.lower(): value for name, _, value in (each.partition("=") for each in rest)
    }
