"""Servers of Django, plain and awaited: each with sessions of its own, all on one configuration."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from tests.django import configured  # noqa: F401 - before what needs it

# isort: split

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings

from sharedsession.django import SessionMiddleware
from sharedsession.django._engine import Engine
from sharedsession.django._settings import gathered
from tests.guarantees.asgi import AsgiServer, free_loop
from tests.guarantees.asgi import advance as aadvance
from tests.guarantees.driver import SECRET, VALUE, Later, Reply, Script, Start
from tests.guarantees.wsgi import APPLICATION, ERRORS, WsgiServer, advance, streamed

OPTIONS = {
    "secret_key": "SECRET_KEY",
    "session_cookie": "SESSION_COOKIE_NAME",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "path": "SESSION_COOKIE_PATH",
    "domain": "SESSION_COOKIE_DOMAIN",
    "https_only": "SESSION_COOKIE_SECURE",
    "max_age": "SESSION_COOKIE_AGE",
}
UNUSED = "ignore"  # the name of what stands for a view that does not touch its session at all


def endpoint(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    application = request.META[APPLICATION]
    script = Script(application, request.session)
    step = advance(script)
    headers = dict(step.headers)
    if isinstance(step, Start):
        return StreamingHttpResponse(
            streamed(script), status=step.status, headers=headers, content_type=VALUE
        )
    return complete(script, step)


def complete(script: Script, step: Any) -> HttpResponse:
    """Return a response that is no stream; what comes later is done when it is closed."""
    body = step.body if isinstance(step, Reply) else Reply().body
    headers = dict(step.headers)
    response = HttpResponse(body, status=step.status, headers=headers, content_type=VALUE)
    if isinstance(step, Later):
        _on_close(response, lambda: advance(script))
    return response


def _on_close(response: Any, call: Callable[[], object]) -> None:
    response._resource_closers.append(call)


class Own(SessionMiddleware):
    """With sessions of its own; answers what a view raises, as the handler lets it do."""

    def __init__(self, view: Any, engine: Engine) -> None:
        self._own = engine
        super().__init__(convert_exception_to_response(self._excusing(view)))

    @property
    def engine(self) -> Engine:
        return self._own

    def _excusing(self, view: Any) -> Any:
        def excuse(request: HttpRequest, error: Exception) -> Any:
            answer = self.process_exception(request, error)
            if answer is None:
                raise error
            return answer

        def excusing(request: HttpRequest) -> Any:
            try:
                return view(request)
            except Exception as error:  # noqa: BLE001 - it is raised again
                return excuse(request, error)

        async def aexcusing(request: HttpRequest) -> Any:
            try:
                return await view(request)
            except Exception as error:  # noqa: BLE001 - it is raised again
                return excuse(request, error)

        return aexcusing if iscoroutinefunction(view) else excusing


class Handler(WSGIHandler):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """Ours alone."""
        self._middleware_chain = convert_exception_to_response(Own(endpoint, self._engine))

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer; as on the wire, where a value has no spaces around it."""

        def starting(status: str, headers: Any, *more: Any) -> Any:
            return start_response(status, [(name, each.strip()) for name, each in headers], *more)

        return super().__call__(environ, starting)


class Verbs:
    """Those of a session that are awaited."""

    def __init__(self, session: Any) -> None:
        self.commit, self.reload = session.acommit, session.areload


async def aendpoint(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The same, as an async view."""
    script = Script(request.scope[APPLICATION], request.session)  # type: ignore[attr-defined]
    verbs = Verbs(request.session)
    step = await aadvance(script, verbs)
    headers = dict(step.headers)  # type: ignore[union-attr]
    if isinstance(step, Start):

        async def parts() -> AsyncIterator[bytes]:
            yield b""
            reply = await aadvance(script, verbs)
            assert isinstance(reply, Reply)
            yield reply.body

        return StreamingHttpResponse(
            parts(), status=step.status, headers=headers, content_type=VALUE
        )
    return complete(script, step)


class AsyncHandler(ASGIHandler):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """Ours alone."""
        self._middleware_chain = convert_exception_to_response(Own(aendpoint, self._engine))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, and let Django's own log of exceptions be seen: it answers them."""
        scope[ERRORS] = []
        await super().__call__(scope, receive, send)
        for error in scope[ERRORS]:
            raise error


class AsyncServer(AsgiServer):
    """Calls the application as a server does."""

    def __init__(self, engine: Engine) -> None:
        self._app, self._engine = AsyncHandler(engine), engine
        self._thread = free_loop()
        self._loop = self._thread._loop

    @property
    def counts(self) -> Mapping[str, int]:
        return self._engine.sessions.counts


class DjangoAdapter:
    """Makes servers of Django, each with a middleware of its own.

    As Django has it, a session is true in a condition without being used, and nothing is stored of
    a response of 500 and above; see `stores_nothing`.
    """

    asynchronous = answers_errors = repeats = False
    lazy = True

    def __call__(
        self, store: Any, clock: Callable[[], float] = time.time, **settings: Any
    ) -> WsgiServer:
        engine = engine_of(store, clock, settings)
        return WsgiServer(Handler(engine), lambda: engine.sessions.counts)


class AsyncDjangoAdapter(DjangoAdapter):
    """The same, with async views; a store object must be plain, as for the sync ones."""

    lazy = False

    def __call__(self, store: Any, clock: Callable[[], float] = time.time, **settings: Any) -> Any:
        return AsyncServer(engine_of(store, clock, settings))


def engine_of(store: Any, clock: Callable[[], float], settings: Mapping[str, Any]) -> Engine:
    given = {"store_timeout": 10, **settings}
    options = {"SECRET_KEY": SECRET, "SESSION_COOKIE_NAME": "session"}
    if given.get("max_age", 0) is None:
        del given["max_age"]
    options |= {OPTIONS[name]: given.pop(name) for name in OPTIONS.keys() & given.keys()}
    own = {"STORE": store, **{name.upper(): each for name, each in given.items()}}
    with override_settings(SHAREDSESSION=own, **options):
        engine = Engine(gathered())
    engine.manager.clock = clock
    return engine


def stores_nothing(adapter: object, status: int) -> bool:
    """Whether a response of this status stores nothing."""
    return isinstance(adapter, DjangoAdapter) and status >= 500


def is_always_true(adapter: object, case: str) -> bool:
    """Whether this use of a session is none."""
    return isinstance(adapter, DjangoAdapter) and case == "bool"


def _note(request: Any = None, **_: object) -> None:
    place = getattr(request, "scope", getattr(request, "META", {}))
    if ERRORS in place:
        place[ERRORS].append(sys.exc_info()[1])


got_request_exception.connect(_note)
DJANGO: dict[str, DjangoAdapter] = {
    "Django": DjangoAdapter(),
    "Django, async": AsyncDjangoAdapter(),
}
