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

from sharedsession.flask import SharedSession
from sharedsession.testing.stores import Clock
from tests.support.watched import WatchedStore

SECRET = "a secret of the tests, long enough for them"
METHODS = ["GET", "HEAD", "POST"]


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
            extension(self.app, store=self.store, **{"store_timeout": 10, **(arguments or {})})
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
        return cookie_of(
            self.client,
            self.site.config["SESSION_COOKIE_NAME"],
            self.site.config["SESSION_COOKIE_PATH"] or "/",
        )

    @cookie.setter
    def cookie(self, value: str) -> None:
        give_cookie(self.client, self.site.config["SESSION_COOKIE_NAME"], value)


def cookie_of(client: Any, name: str, path: str = "/") -> str | None:
    """A cookie in a client's jar, which was another one before Werkzeug 2.3."""
    if hasattr(client, "get_cookie"):
        found = client.get_cookie(name, path=path)
        return None if found is None else str(found.decoded_value)
    each = (one.value for one in client.cookie_jar if (one.name, one.path) == (name, path))
    return next(each, None)


def give_cookie(client: Any, name: str, value: str) -> None:
    """Put a cookie into a client's jar."""
    where = [] if hasattr(client, "get_cookie") else ["localhost"]
    client.set_cookie(*where, name, value)


def own() -> Any:
    """This request's session, asked for as applications do."""
    return flask.session._get_current_object()  # type: ignore[attr-defined]


def put(**values: Any) -> Callable[[Any], None]:
    return lambda session: session.update(values)


def untouched() -> Any:
    """This request's session, without Flask's noting that it was asked for."""
    context: Any = flask.globals.request_ctx
    return context._session if hasattr(context, "_session") else context.session


def attributes(set_cookie: str | None) -> dict[str, str]:
    """Return the name and all attributes of a Set-Cookie header; not its value."""
    assert set_cookie is not None
    pair, *rest = set_cookie.split("; ")
    found = {"name": pair.partition("=")[0]}
    return found | {
        name.lower(): value for name, _, value in (each.partition("=") for each in rest)
    }
