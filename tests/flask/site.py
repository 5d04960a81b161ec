"""A Flask application whose view the test gives anew with each request, and browsers to ask it.

`Site` runs it with `SharedSession` or, to compare, with the interface that Flask itself comes with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flask
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sharedsession import StoreUnavailable
from sharedsession.flask import SharedSession
from sharedsession.record import decode_data, decode_record
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing import Clock

SECRET = "a secret of the tests, long enough for them"
METHODS = ["GET", "HEAD", "POST"]


class WatchedStore(MemoryStore):
    """A memory that notes what it was asked for; the verbs in ``down`` fail."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.down: set[str] = set()

    def fail(self, *verbs: str) -> None:
        self.down = set(verbs or ("load", "create", "replace", "touch", "delete"))

    @property
    def stored(self) -> list[dict[Any, Any]]:
        """The data of every session that is alive."""
        found = [MemoryStore.load(self, key) for key in list(self._entries)]
        records = [decode_record(entry.data)[0] for entry in found if entry is not None]
        return [decode_data(each.data) for each in records if hasattr(each, "data")]


def _watched(verb: str) -> Callable[..., Any]:
    def call(self: WatchedStore, *arguments: Any) -> Any:
        self.calls.append(verb)
        if verb in self.down:
            raise StoreUnavailable("a failure of the tests' own")
        return getattr(MemoryStore, verb)(self, *arguments)

    return call


for _verb in ("load", "create", "replace", "touch", "delete"):
    setattr(WatchedStore, _verb, _watched(_verb))


@dataclass
class Answer:
    """A response, and what the view returned."""

    response: TestResponse
    result: Any

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def text(self) -> str:
        return self.response.get_data(as_text=True)

    @property
    def set_cookies(self) -> list[str]:
        return self.response.headers.getlist("Set-Cookie")

    @property
    def set_cookie(self) -> str | None:
        """The one Set-Cookie header there is at most."""
        found = self.set_cookies
        assert len(found) < 2
        return found[0] if found else None

    @property
    def value(self) -> str:
        """The value that the Set-Cookie header hands out."""
        assert self.set_cookie is not None
        return self.set_cookie.partition("=")[2].partition(";")[0]

    @property
    def vary(self) -> str | None:
        return self.response.headers.get("Vary")

    @property
    def is_unavailable(self) -> bool:
        """Whether this is the answer to an outage, complete, and nothing else."""
        retry, cookies = self.response.headers.getlist("Retry-After"), self.set_cookies
        return (self.status, retry, cookies) == (503, ["2"], [])


class Site:
    """The application; ``extension`` None leaves it with Flask's own sessions."""

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
        self.app = Flask("site", static_folder=None)
        self.app.config.update({"SECRET_KEY": SECRET, **config})
        if extension is not None:
            extension(self.app, store=self.store, **{"timeout": 10, **(arguments or {})})
            self.app.extensions["sharedsession"].manager.clock = self.clock
        self.app.add_url_rule("/", view_func=self._view, methods=METHODS)
        self.view: Callable[[], Any] = lambda: None
        self.result: Any = None

    @property
    def config(self) -> dict[str, Any]:
        return self.app.config

    def _view(self) -> Any:
        self.result = self.app.ensure_sync(self.view)()
        return self.result if isinstance(self.result, flask.Response | tuple) else "ok"

    def browser(self, **options: Any) -> Browser:
        return Browser(self, **options)


class Browser:
    """Somebody with a cookie jar, who reads every response to its end."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.site = site
        self.client: FlaskClient = site.app.test_client(**options)

    def get(self, path: str = "/", **options: Any) -> Answer:
        method = options.pop("method", "GET")
        response = self.client.open(path, **{"method": method, "buffered": True, **options})
        return Answer(response, self.site.result)

    def serve(self, view: Callable[[], Any], path: str = "/", **options: Any) -> Answer:
        """Ask for a page that ``view`` makes."""
        self.site.view, self.site.result = view, None
        return self.get(path, **options)

    def visit(self, act: Callable[[Any], Any] | None = None, **options: Any) -> Answer:
        """Ask for a page that does ``act`` to the session; None: one that never uses it."""
        return self.serve((lambda: None) if act is None else (lambda: act(own())), **options)

    def see(self) -> dict[Any, Any]:
        """What the session holds."""
        held: dict[Any, Any] = self.visit(dict).result
        return held

    @property
    def cookie(self) -> str | None:
        found = self.client.get_cookie(
            self.site.config["SESSION_COOKIE_NAME"],
            path=self.site.config["SESSION_COOKIE_PATH"] or "/",
        )
        return None if found is None else found.decoded_value

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.client.set_cookie(self.site.config["SESSION_COOKIE_NAME"], value)


def own() -> Any:
    """This request's session, asked for as applications do."""
    return flask.session._get_current_object()  # type: ignore[attr-defined]


def put(**values: Any) -> Callable[[Any], None]:
    return lambda session: session.update(values)


def untouched() -> Any:
    """This request's session, without Flask's noting that it was asked for."""
    return flask.globals.request_ctx._session


def attributes(set_cookie: str | None) -> dict[str, str]:
    """Return the name and all attributes of a Set-Cookie header; not its value."""
    assert set_cookie is not None
    pair, *rest = set_cookie.split("; ")
    found = {"name": pair.partition("=")[0]}
    return found | {
        name.lower(): value for name, _, value in (each.partition("=") for each in rest)
    }
