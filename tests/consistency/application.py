"""What every server runs: a request is a small script, and the answer is what came of it.

``/<mood>/<hurry>/<part>/<part>…`` where a part is ``<kind>:<number>:<word>``, or a verb of the
session's that the application itself waits for: ``commit``, ``reload``. The mood says what the
application does when a commit fails: nothing, go on as if nothing had happened, or find out and do
again what was not done; ``hurry`` is for how many milliseconds it waits, 0 is for ever. `asgi`,
`wsgi` and `flask` are for servers of each kind; the environment says where the sessions are, which
more settings the middleware is given and, for the controls, what is broken.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from flask import Flask
from flask import session as current_session

from sharedsession import Session, SessionGone, StoreUnavailable
from sharedsession.asgi import SessionMiddleware as AsgiMiddleware
from sharedsession.flask import SharedSession
from sharedsession.wsgi import SessionMiddleware as WsgiMiddleware
from tests.guarantees.driver import SECRET

from . import controls

SETTINGS: dict[str, Any] = {"secret_key": SECRET, "owner_key": "user_id", "store_timeout": 1.0}
HEALTH = "/health"
LOADED_FROM = ("copy", "outdated copy", "replica", "store")

COINS = 2  # of a life
COMMIT, RELOAD = "commit", "reload"  # verbs among the parts
NOW = "now"  # the word of a function that commit() is given
GIVES_UP, GOES_ON, APOLOGISES, AGAIN = "gives-up", "goes-on", "apologises", "again"  # moods
LEFT, STORED, REFUSED, UNKNOWN, DROPPED = "left", "stored", "refused", "unknown", "dropped"
APOLOGY = 402
ALONE = ("sign_in", "sign_over", "switch", "sign_out")  # need no session of before
TRIES, PAUSE = 4, 0.3  # to find out after a failure, and seconds between them

Script = Generator[Callable[[], Any], Any, None]  # yields calls, is sent what they return


class Refused(Exception):
    """There are no coins left for the payment of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Part:
    """One thing that a request does; ``state`` says what the application knows of it.

    LEFT: to the end of the request. STORED: commit() has returned. UNKNOWN: it has failed since.
    DROPPED: so has the commit() that was given the function, which is then no part of the next.
    REFUSED: it never happens.
    """

    kind: str
    number: int = 0
    word: str = ""
    state: str = LEFT

    @property
    def is_open(self) -> bool:
        return self.state in (LEFT, UNKNOWN, DROPPED)


class Task:
    """One request, in the steps that both kinds of application take."""

    def __init__(self, path: str, session: Session, wait: Callable[[float], Any]) -> None:
        _, self.mood, hurry, *parts = path.split("/")
        self.hurry = int(hurry) / 1000 or None
        self.parts = [_part(part) for part in parts]
        self.session, self.wait = session, wait
        self.status = 200
        self.failed = self.gone = False
        self._begun: list[Part] = []
        self._handle: str | None = None  # of the session that is to be renewed

    def script(self) -> Script:
        try:
            for part in self.parts:
                yield from self._or_again(part)
        except SessionGone:
            self.gone = True
        except Refused:  # by what had returned its result: nothing of it is stored
            self._note(REFUSED, LEFT, UNKNOWN, DROPPED)
            self.failed = True
        if self.failed and self.mood != GOES_ON:
            self.status = APOLOGY

    def _or_again(self, part: Part) -> Script:
        try:
            yield from self._do(part)
        except (StoreUnavailable, TimeoutError):
            if self.mood == GIVES_UP:
                raise
            self.failed, self.hurry = True, None
            if self.mood == AGAIN:
                yield from self._find_out()

    def _do(self, part: Part) -> Script:
        if part.kind in (COMMIT, RELOAD):
            if self._begun:
                yield from self._verb(part.kind)
            return
        self._begun.append(part)
        yield from self._change(part)

    def _change(self, part: Part) -> Script:
        if part.kind not in ALONE and "life" not in self.session:
            self._begun.remove(part)  # nothing is begun by what only goes on with a session
            return
        try:
            if part.kind not in ("mutate", "pay"):
                self._plainly(part)
            elif part.word == NOW:
                yield from self._verb(COMMIT, part)
            else:
                self.session.mutate(self._function(part))
        except Refused as refused:
            if refused.number != part.number:
                raise
            part.state, self.status = REFUSED, APOLOGY

    def _verb(self, name: str, own: Part | None = None) -> Script:
        """Wait for commit(), with a function or without, or for reload()."""
        call: Callable[[], Any] = getattr(self.session, name)
        try:
            yield call if own is None else partial(call, self._function(own))
        except (StoreUnavailable, TimeoutError):
            self._note(UNKNOWN, LEFT)
            if own is not None:
                own.state = DROPPED
            raise
        if own is not None:
            own.state = STORED
        self._note(STORED, LEFT, UNKNOWN)
        self.failed = False

    def _note(self, state: str, *those: str) -> None:
        for part in self.parts if state is REFUSED else self._begun:
            if part.state in those:
                part.state = state

    def _find_out(self) -> Script:
        """What the documentation says: reload(), then do again what was not done."""
        for tried in range(TRIES):
            yield partial(self.wait, PAUSE if tried else 0)
            try:
                missing = [part for part in self._begun if part.is_open]
                if not any(part.kind == "sign_out" for part in missing):  # can be done twice
                    yield self.session.reload
                for part in missing:
                    if self._is_done(part):
                        part.state = STORED
                    else:
                        part.state = LEFT
                        yield from self._change(part)
                yield from self._verb(COMMIT)
            except (StoreUnavailable, TimeoutError):
                if tried + 1 == TRIES:
                    raise
            else:
                return

    def _is_done(self, part: Part) -> bool:
        if part.kind in ("mutate", "pay"):
            return part.number in self.session.get("done", ())
        if part.kind == "renew":
            return self._handle not in (None, self.session.handle)
        return part.kind != "sign_out" and self.session.get("life") == part.number

    def _function(self, part: Part) -> Callable[[Session], None]:
        def mutate(now: Session) -> None:
            now.setdefault("done", []).append(part.number)

        def pay(now: Session) -> None:
            if now["coins"] < 1:
                raise Refused(part.number)
            now["coins"] -= 1
            now["done"].append(part.number)

        return mutate if part.kind == "mutate" else pay

    def _plainly(self, part: Part) -> None:
        session, number = self.session, part.number
        if part.kind == "sign_in" and number % 3:
            self._sign_in(part, session)
        elif part.kind == "sign_in":
            session.mutate(partial(self._sign_in, part))
        elif part.kind == "sign_over":
            self._begin(part, session, number)
        elif part.kind == "switch":
            self._switch(part)
        elif part.kind == "sign_out":
            session.destroy()
        elif part.kind == "write":
            session[part.word] = number
        elif part.kind == "renew":
            self._handle = session.handle
            if number % 3 or session.pop("user_id", None) is None:
                session.renew()

    def _sign_in(self, part: Part, session: Session) -> None:
        """As the same user or as another one."""
        session.clear()
        self._begin(part, session, part.word if part.number % 2 else part.number)

    def _switch(self, part: Part) -> None:
        """After destroy() nobody is signed in: the same user may come as well."""
        user = self.session.get("user_id", part.word) if part.number % 2 else part.number
        self.session.destroy()
        self._begin(part, self.session, user)

    def _begin(self, part: Part, session: Session, user: int | str) -> None:
        session.update(user_id=user, who=part.word, life=part.number, done=[], coins=COINS)

    def answer(self) -> bytes:
        shown = None
        # After a failure nothing that is shown is known to be stored; it may not be loaded, even.
        apologises = self.failed and self.status == APOLOGY
        if not self.gone and not apologises and "life" in self.session:
            data = dict(self.session)
            data.pop("user_id", None)
            known = [data.pop(name, None) for name in ("who", "life", "done", "coins")]
            shown = [*known, data]
        states = [part.state for part in self.parts if part.kind not in (COMMIT, RELOAD)]
        return json.dumps([states, self.failed, shown]).encode()


def _part(text: str) -> Part:
    kind, _, rest = text.partition(":")
    if not rest:
        return Part(kind)
    number, _, word = rest.partition(":")
    return Part(kind, int(number), word)


# --- ASGI -----------------------------------------------------------------------------------------

Message = MutableMapping[str, Any]


async def _asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    status, body = 200, _health()
    if scope["path"] != HEALTH:
        task = Task(scope["path"], scope["session"], asyncio.sleep)
        await _awaiting(task)
        status, body = task.status, task.answer()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _awaiting(task: Task) -> None:
    script = task.script()
    try:
        call = next(script)
        while True:
            try:
                async with asyncio.timeout(task.hurry):
                    answer = call()
                    if inspect.isawaitable(answer):
                        answer = await answer
            except Exception as error:  # noqa: BLE001 - the script knows what to do
                call = script.throw(error)
            else:
                call = script.send(answer)
    except StopIteration:
        return


# --- WSGI -----------------------------------------------------------------------------------------


def _wsgi(environ: MutableMapping[str, Any], start_response: Any) -> Iterable[bytes]:
    status, body = 200, _health()
    if environ["PATH_INFO"] != HEALTH:
        status, body = _served(environ["PATH_INFO"], environ["sharedsession.session"])
    start_response(f"{status} -", [("Content-Length", str(len(body)))])
    return [body]


def _served(path: str, session: Session) -> tuple[int, bytes]:
    task = Task(path, session, time.sleep)
    script = task.script()
    try:
        call = next(script)
        while True:
            try:
                answer = call()
            except Exception as error:  # noqa: BLE001 - the script knows what to do
                call = script.throw(error)
            else:
                call = script.send(answer)
    except StopIteration:
        return task.status, task.answer()


# --- Flask ----------------------------------------------------------------------------------------


def _flask(path: str) -> tuple[bytes, int]:
    # mypy: flask.session is this package's, behind a proxy of Flask's.
    session = cast(Session, current_session._get_current_object())  # type: ignore[attr-defined]
    status, body = _served(f"/{path}", session)
    return body, status


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
