"""What every server runs: one operation per request, said by the path; the answer is what it saw.

``/<kind>/<number>/<client or key>/<how>``, where ``how`` is ``sure`` when the application itself
waits for the store, with commit() or, when it only reads, with reload(). `asgi`, `wsgi` and `flask`
are for servers of each kind; the environment says where the sessions are, which more settings the
middleware is given and, for the controls, what is broken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

from flask import Flask
from flask import session as current_session

from sharedsession import Session, SessionGone
from sharedsession.asgi import SessionMiddleware as AsgiMiddleware
from sharedsession.flask import SharedSession
from sharedsession.wsgi import SessionMiddleware as WsgiMiddleware
from tests.guarantees.driver import SECRET

from . import controls

SETTINGS: dict[str, Any] = {"secret_key": SECRET, "owner_key": "user_id", "timeout": 1.0}
HEALTH = "/health"
LOADED_FROM = ("copy", "outdated copy", "replica", "store")


class Task:
    """One operation on one session, in the steps that both kinds of application take."""

    def __init__(self, path: str, session: Session) -> None:
        _, self.kind, number, self.word, how = path.split("/")
        self.number = int(number)
        self.session = session
        self.sure = how == "sure"
        self.gone = False

    def do(self) -> None:
        session, number = self.session, self.number
        if self.kind == "sign_in" and number % 3:
            self.sign_in(session)
        elif self.kind == "sign_in":
            session.mutate(self.sign_in)
        elif self.kind == "switch":
            self.switch(session)
        elif self.kind == "sign_out":
            session.destroy()
        elif "life" not in session:
            self.sure = False  # nothing is begun by what only goes on with a session
        elif self.kind == "mutate":
            session.mutate(lambda now: now.setdefault("done", []).append(number))
        elif self.kind == "write":
            session[self.word] = number
        elif self.kind == "renew":
            session.renew()

    def sign_in(self, session: Session) -> None:
        """Begin a life as another user than before.

        Who clears a session and puts the same user back is not signing in: that is how sessions
        are given a new ID by hand, and must not undo a sign-out.
        """
        user = self.number if session.get("user_id") == self.word else self.word
        session.clear()
        self.begin(session, user)

    def switch(self, session: Session) -> None:
        """After destroy() nobody is signed in: the same user may come as well."""
        user = session.get("user_id", self.word) if self.number % 2 else self.number
        session.destroy()
        self.begin(session, user)

    def begin(self, session: Session, user: int | str) -> None:
        session.update(user_id=user, who=self.word, life=self.number, done=[])

    @property
    def verb(self) -> Callable[[], Any]:
        return self.session.reload if self.kind == "read" else self.session.commit

    def answer(self) -> bytes:
        shown = None
        if not self.gone and "life" in self.session:
            data = dict(self.session)
            data.pop("user_id", None)
            shown = [data.pop("who", None), data.pop("life"), data.pop("done", ()), data]
        return json.dumps([self.sure and not self.gone, shown]).encode()


# --- ASGI -----------------------------------------------------------------------------------------

Message = MutableMapping[str, Any]


async def _asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == HEALTH:
        body = _health()
    else:
        task = Task(scope["path"], scope["session"])
        task.do()
        if task.sure:
            try:
                await task.verb()
            except SessionGone:
                task.gone = True
        body = task.answer()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- WSGI -----------------------------------------------------------------------------------------


def _wsgi(environ: MutableMapping[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == HEALTH:
        body = _health()
    else:
        task = Task(environ["PATH_INFO"], environ["sharedsession.session"])
        task.do()
        if task.sure:
            try:
                task.verb()
            except SessionGone:
                task.gone = True
        body = task.answer()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


# --- Flask ----------------------------------------------------------------------------------------


def _flask(path: str) -> bytes:
    # mypy: flask.session is this package's, behind a proxy of Flask's.
    task = Task(f"/{path}", cast(Session, current_session._get_current_object()))  # type: ignore[attr-defined]
    task.do()
    if task.sure:
        try:
            task.verb()
        except SessionGone:
            task.gone = True
    return task.answer()


# --- what servers are given -----------------------------------------------------------------------


def _store() -> Any:
    return controls.store(os.environ["STORE"], os.environ.get("CONTROL"))


def _settings() -> dict[str, Any]:
    return {**SETTINGS, "store": _store(), **json.loads(os.environ.get("SETTINGS", "{}"))}


_made: list[Any] = []  # a middleware, or what Flask has in the place of one


def _health() -> bytes:
    """How many sessions were loaded from a copy, a replica and the store itself, if any."""
    return json.dumps({name: _made[0].counts.get(name, 0) for name in LOADED_FROM}).encode()


def asgi() -> Any:
    _made.append(AsgiMiddleware(_asgi, **_settings()))
    return _made[0]


def wsgi() -> Any:
    _made.append(WsgiMiddleware(_wsgi, **_settings()))
    return _made[0]


def flask() -> Any:
    settings = _settings()
    app = Flask(__name__)
    app.config.update(SECRET_KEY=settings.pop("secret_key"))
    if "max_age" in settings:
        app.config.update(PERMANENT_SESSION_LIFETIME=settings.pop("max_age"))
    SharedSession(app, **settings)
    app.add_url_rule("/<path:path>", view_func=_flask)
    app.add_url_rule(HEALTH, view_func=_health)
    _made.append(app.extensions["sharedsession"])
    return app
