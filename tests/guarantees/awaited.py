"""Servers of Quart and of Litestar applications, each with an event loop in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

import quart
from litestar import HttpMethod, Litestar, Request, Response, WebSocket, route, websocket
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import LitestarException
from litestar.response import Stream

from sharedsession.litestar import SharedSessionConfig
from sharedsession.quart import SharedSession
from tests.guarantees.asgi import (
    APPLICATION,
    Accept,
    AsgiServer,
    Close,
    Receive_,
    Say,
    advance,
    converse,
    free_loop,
)
from tests.guarantees.driver import SECRET, VALUE, Later, Reply, Script, Start
from tests.guarantees.wsgi import ERRORS, OPTIONS

UNUSED = "ignore"  # the name of what stands for a route that does not touch its session at all


class Served(AsgiServer):
    """Calls an application whose session layer is its framework's own."""

    def __init__(self, app: Any, layer: Any) -> None:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            """Let the framework's own log of exceptions be seen: it answers them."""
            scope[ERRORS] = []
            try:
                await app(scope, receive, send)
            except LitestarException as error:  # which says that the response had begun
                cause: BaseException = error
                while isinstance(cause, LitestarException) and cause.__cause__ is not None:
                    cause = cause.__cause__
                raise cause from None
            for error in scope[ERRORS]:
                raise error

        self._app, self._layer = noting, layer
        self._thread = free_loop()
        self._loop = self._thread._loop

    @property
    def counts(self) -> Mapping[str, int]:
        counts: Mapping[str, int] = self._layer.counts
        return counts


def is_unused(scope: Any) -> bool:
    return getattr(scope[APPLICATION], "__name__", "") == UNUSED


# --- Quart ----------------------------------------------------------------------------------------


async def endpoint() -> quart.Response:
    scope: Any = quart.request.scope
    if is_unused(scope):
        session: Any = quart.globals.request_ctx.session
    else:
        session = quart.session._get_current_object()  # type: ignore[attr-defined]
    script = Script(scope[APPLICATION], session)
    step = await advance(script)
    headers = dict(step.headers)  # type: ignore[union-attr]
    if isinstance(step, Start):

        @quart.stream_with_context
        async def stream() -> AsyncIterator[bytes]:
            yield b""
            reply = await advance(script)
            assert isinstance(reply, Reply)
            yield reply.body

        return quart.Response(stream(), step.status, headers, content_type=VALUE)
    if isinstance(step, Later):

        async def later() -> AsyncIterator[bytes]:
            yield Reply().body
            await advance(script)

        return quart.Response(later(), step.status, headers, content_type=VALUE)
    assert isinstance(step, Reply)
    return quart.Response(step.body, step.status, headers, content_type=VALUE)


async def socket() -> None:
    script = Script(quart.websocket.scope[APPLICATION], quart.session._get_current_object())  # type: ignore[attr-defined, typeddict-item]
    while True:
        match await advance(script):
            case Accept():
                await quart.websocket.accept()
            case Receive_():
                script.answer(await quart.websocket.receive())
            case Say(text):
                await quart.websocket.send(text)
            case Close():
                await quart.websocket.close(1000)
            case _:
                return


class QuartAdapter:
    """Makes servers of a Quart application; ``options`` are Quart's own."""

    asynchronous = answers_errors = repeats = True
    lazy = False

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(
        self, store: Any, clock: Callable[[], float] = time.time, **settings: Any
    ) -> Served:
        app = quart.Quart("tests_in_quart")
        app.logger.disabled = True
        app.config.update(SECRET_KEY=SECRET, **self._options)
        app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(days=14)
        given = {"store_timeout": 10, **settings}
        if given.get("max_age", 0) is None:
            del given["max_age"]
        for name in OPTIONS.keys() & given.keys():
            app.config[OPTIONS[name]] = given.pop(name)
        SharedSession(app, store=store, **given)
        sessions = app.extensions["sharedsession"]
        sessions.manager.clock = clock
        app.add_url_rule("/", "endpoint", endpoint, methods=["GET", "HEAD", "POST"])
        app.add_websocket("/", "socket", socket)
        quart.got_request_exception.connect(_note, app)
        return Served(app, sessions)


async def _note(sender: quart.Quart, exception: Exception) -> None:
    quart.request.scope[ERRORS].append(exception)  # type: ignore[typeddict-item]


# --- Litestar -------------------------------------------------------------------------------------


@route("/", http_method=[HttpMethod.GET, HttpMethod.POST, HttpMethod.HEAD], status_code=200)
async def handler(request: Request[Any, Any, Any]) -> Response[Any] | Stream:
    scope: Any = request.scope
    session: Any = scope["session"] if is_unused(scope) else request.session
    if not is_unused(scope):
        session.mark_accessed()
    script = Script(scope[APPLICATION], session)
    step = await advance(script)
    headers = dict(step.headers)  # type: ignore[union-attr]
    common: Any = {"status_code": step.status, "headers": headers, "media_type": VALUE}  # type: ignore[union-attr]
    if isinstance(step, Start):

        async def stream() -> AsyncIterator[bytes]:
            yield b""
            reply = await advance(script)
            assert isinstance(reply, Reply)
            yield reply.body

        return Stream(stream(), **common)
    if isinstance(step, Later):
        return Response(Reply().body, background=BackgroundTask(advance, script), **common)
    assert isinstance(step, Reply)
    return Response(step.body, **common)


@websocket("/")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    script = Script(socket.scope[APPLICATION], socket.session)  # type: ignore[typeddict-item, arg-type]
    await converse(script, socket.receive, socket.send)


class LitestarAdapter:
    """Makes servers of a Litestar application."""

    asynchronous = True
    lazy = repeats = False
    answers_errors = True

    def __call__(
        self, store: Any, clock: Callable[[], float] = time.time, **settings: Any
    ) -> Served:
        given = {"store_timeout": 10, **settings}
        for ours, theirs in NAMES.items():
            if ours in given:
                given[theirs] = given.pop(ours)
        config = SharedSessionConfig(SECRET, store=store, **given)
        config.layer.manager.clock = clock
        app = Litestar(
            [handler, talk],
            middleware=[config.middleware],
            logging_config=None,
            after_exception=[_note_it],
        )
        return Served(app, config.layer)


def _note_it(error: Exception, scope: Any) -> None:
    scope[ERRORS].append(error)


NAMES = {"session_cookie": "key", "https_only": "secure", "same_site": "samesite"}

AWAITED: dict[str, QuartAdapter | LitestarAdapter] = {
    "Quart": QuartAdapter(SESSION_REFRESH_EACH_REQUEST=False),
    "Litestar": LitestarAdapter(),
}
