"""Servers of WSGI applications, each request in a thread of its own."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import flask
from flask import Flask

from sharedsession import Session
from sharedsession.flask import SharedSession
from sharedsession.wsgi import Environ, SessionMiddleware, StartResponse, WSGIApp
from tests.guarantees.driver import (
    LIMIT,
    SECRET,
    VALUE,
    Answer,
    Application,
    Beside,
    Browser,
    Commit,
    Headers,
    Hold,
    Later,
    Reload,
    Reply,
    Running,
    Script,
    Start,
)

APPLICATION = "tests.application"  # where in the environment the request's application is
ERRORS = "tests.errors"  # where Flask's own log of exceptions is


# --- the application, in the ways of several frameworks -------------------------------------------


def advance(script: Script) -> Start | Later | Reply:
    """Run a script to the next step that concerns the response."""
    while True:
        step: Any = script.step()
        match step:
            case Hold():
                step.gate.arrive().result(LIMIT)
            case Commit():
                _settle(script, lambda step=step: script.session.commit(step.function))
            case Reload():
                _settle(script, script.session.reload)
            case Beside():
                _settle(script, lambda step=step: _beside(script.session, step))
            case _:
                return step  # type: ignore[no-any-return]


def _settle(script: Script, call: Callable[[], Any]) -> None:
    try:
        script.answer(call())
    except Exception as error:  # noqa: BLE001 - the application is to see it
        script.fail(error)


def _beside(session: Session, step: Beside) -> Any:
    with ThreadPoolExecutor(1) as other:
        committing = other.submit(session.commit, step.function)
        step.gate.arrive().result(LIMIT)
        step.act(session)
        step.at_store.open()
        return committing.result(LIMIT)


class Afterwards:
    """A body whose close() does what remains to be done."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def __iter__(self) -> Iterator[bytes]:
        return iter((Reply().body,))

    def close(self) -> None:
        advance(self._script)


def streamed(script: Script) -> Generator[bytes, None, None]:
    yield b""
    reply = advance(script)
    assert isinstance(reply, Reply)
    yield reply.body


def plain(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An application without a framework."""
    script = Script(environ[APPLICATION], environ["sharedsession.session"])
    step = advance(script)
    status = f"{step.status} {HTTPStatus(step.status).phrase}"
    start_response(status, [("Content-Type", VALUE), *step.headers])
    if isinstance(step, Reply):
        return [step.body]
    return Afterwards(script) if isinstance(step, Later) else streamed(script)


def in_parts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The same, as a generator: everything happens while the server iterates."""
    body = plain(environ, start_response)
    try:
        yield from body
    finally:
        close: Callable[[], None] = getattr(body, "close", lambda: None)
        close()


def by_write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The same, by the callable that ``start_response`` returns."""
    writes: list[Callable[[bytes], object]] = []

    def starting(*arguments: Any) -> Callable[[bytes], object]:
        writes.append(start_response(*arguments))
        return writes[-1]

    body = plain(environ, starting)
    if isinstance(body, list):
        writes[-1](body[0])
        return []
    return body


# --- servers --------------------------------------------------------------------------------------


class Recorder:
    """A server's side of one request, as PEP 3333 has it."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._begun = time.monotonic()
        self._start: tuple[str, list[tuple[str, str]]] | None = None
        self.answer: Answer | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            if self.answer is not None:
                raise exc_info[1]
        else:
            assert self._start is None, "the response was started twice"
        self._start = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send; the headers go with the first of it."""
        assert self._start is not None, "a body before its start"
        if self.answer is None:
            status, headers = self._start
            self.answer = Answer(int(status[:3]), list(headers))
            self._running.start.set_result(self.answer)
        self.answer.body += data

    def finished(self) -> None:
        self.write(b"")
        self.answer.seconds = time.monotonic() - self._begun  # type: ignore[union-attr]

    def over(self, error: BaseException | None) -> None:
        """The request is over; a server survives whatever it was."""
        if self.answer is None:
            self.answer = Answer(500, ())
            self._running.start.set_result(self.answer)
        if not self.answer.seconds:
            self.answer.seconds = time.monotonic() - self._begun
        self.answer.error = error
        self._running.end.set_result(self.answer)


class WsgiServer:
    """Calls the application as a server does."""

    def __init__(self, app: WSGIApp, counts: Callable[[], Mapping[str, int]]) -> None:
        self._app = app
        self._counts = counts

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts()

    def begin(
        self,
        browser: Browser,
        application: Application,
        *,
        method: str = "GET",
        headers: Headers = (),
    ) -> Running:
        running = Running(browser)
        environ = self._environ(application, method, [*browser.headers, *headers])
        threading.Thread(target=self._serve, args=(environ, running), daemon=True).start()
        return running

    def request(
        self,
        browser: Browser,
        application: Application,
        *,
        method: str = "GET",
        headers: Headers = (),
    ) -> Answer:
        return self.begin(browser, application, method=method, headers=headers).answer()

    def close(self) -> None:
        """Nothing is kept."""

    def _environ(self, application: Application, method: str, headers: Headers) -> Environ:
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            APPLICATION: application,
            ERRORS: [],
        }
        for name, value in headers:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            # Several headers of one name: as the servers do it.
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ

    def _serve(self, environ: Environ, running: Running) -> None:
        recorder = Recorder(running)
        error: BaseException | None = None
        try:
            body = self._app(environ, recorder.start_response)
            try:
                for part in body:
                    recorder.write(part)
                recorder.finished()
            finally:
                close = getattr(body, "close", None)
                if close is not None:
                    close()
        except BaseException as escaped:  # noqa: BLE001 - a server survives whatever it is
            error = escaped
        recorder.over(error or next(iter(environ[ERRORS]), None))


class WsgiAdapter:
    """Makes servers of one WSGI application."""

    asynchronous = answers_errors = repeats = False
    lazy = True

    def __init__(self, app: WSGIApp) -> None:
        self._wrapped = app

    def __call__(
        self, store: Any, clock: Callable[[], float] = time.time, **settings: Any
    ) -> WsgiServer:
        chosen = {"store_timeout": 10, **settings}
        middleware = SessionMiddleware(self._wrapped, SECRET, store=store, **chosen)
        middleware.sessions.manager.clock = clock
        return WsgiServer(middleware, lambda: middleware.counts)


# --- Flask ----------------------------------------------------------------------------------------

OPTIONS = {
    "secret_key": "SECRET_KEY",
    "session_cookie": "SESSION_COOKIE_NAME",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "path": "SESSION_COOKIE_PATH",
    "max_age": "PERMANENT_SESSION_LIFETIME",
}


def endpoint() -> flask.Response:
    application = flask.request.environ[APPLICATION]
    # ignore() stands for a route that does not touch its session at all.
    unused = getattr(application, "__name__", "") == "ignore"
    session: Any = (
        flask.globals.request_ctx._session if unused else flask.session._get_current_object()  # type: ignore[attr-defined]
    )
    script = Script(application, session)
    step = advance(script)
    headers = dict(step.headers)
    if isinstance(step, Start):
        parts = flask.stream_with_context(streamed(script))
        return flask.Response(parts, step.status, headers, content_type=VALUE)
    body = step.body if isinstance(step, Reply) else Reply().body
    response = flask.Response(body, step.status, headers, content_type=VALUE)
    if isinstance(step, Later):
        response.call_on_close(lambda: advance(script))
    return response


class FlaskAdapter:
    """Makes servers of a Flask application; ``options`` are Flask's own."""

    asynchronous = False
    lazy = answers_errors = repeats = True

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(
        self, store: Any, clock: Callable[[], float] = time.time, **settings: Any
    ) -> WsgiServer:
        app = Flask("tests")
        app.config.update(SECRET_KEY=SECRET, **self._options)
        app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(days=14)
        given = {"store_timeout": 10, **settings}
        if given.get("max_age", 0) is None:
            del given["max_age"]
        for name in OPTIONS.keys() & given.keys():
            app.config[OPTIONS[name]] = given.pop(name)
        SharedSession(app, store=store, **given)
        app.extensions["sharedsession"].manager.clock = clock
        app.add_url_rule("/", view_func=endpoint, methods=["GET", "HEAD", "POST"])
        flask.got_request_exception.connect(_note, app)
        return WsgiServer(app, lambda: app.extensions["sharedsession"].counts)


def _note(sender: Flask, exception: BaseException) -> None:
    flask.request.environ[ERRORS].append(exception)


WSGI_ADAPTERS: dict[str, WsgiAdapter | FlaskAdapter] = {
    "WSGI": WsgiAdapter(plain),
    "Flask": FlaskAdapter(SESSION_REFRESH_EACH_REQUEST=False),
}
EVERY_WSGI: dict[str, WsgiAdapter | FlaskAdapter] = {
    "WSGI": WsgiAdapter(plain),
    "WSGI, a generator": WsgiAdapter(in_parts),
    "WSGI, by write()": WsgiAdapter(by_write),
    "Flask": FlaskAdapter(),
}
