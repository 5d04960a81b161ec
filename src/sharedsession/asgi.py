"""The ASGI adapter: a header becomes a cookie string, a decision becomes a header. No rule is here.

A request without a cookie of ours costs one object, the session; everything else is made when the
session is used. The response is held back at its start until the record is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from ._core import runtime
from ._core.answers import Headers, check_scheme, unavailable
from ._core.exchange import Exchange, Unbegun
from ._core.session import UnusedSession, exchange_of, give_exchange
from ._core.settings import UNSET, NearCache, OnOutage, Unset
from ._core.source import Source
from ._core.state import Progress
from ._doors import advice, misuse
from ._doors.arguments import documented
from ._doors.awaited import refuse_unawaited
from ._doors.layers import COUNTS, enter
from ._doors.stores import configure
from ._doors.switching import Switch
from .adapter import AsyncSessions
from .exceptions import RETRY_AFTER, UNAVAILABLE, StoreUnavailable
from .stores.base import AsyncStore, Store

__all__ = ["SessionMiddleware"]

# ASGI's own types: what a scope or a message holds differs from server to server.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

TRY_AGAIN_LATER, INTERNAL_ERROR = 1013, 1011  # WebSocket close codes (IANA registry)


@documented
class SessionMiddleware(misuse.KeptForTheLifespan):
    """Give ``scope["session"]`` to any ASGI application, from a store that all servers share.

    The arguments are those of ``starlette.middleware.sessions.SessionMiddleware``, and more. Each
    of them can also come from the environment, ``SHAREDSESSION_STORE`` and so on.

    Args:
        app: the application.
        {of the cookie}
        {of the sessions}
        scope_key: where in the scope the session is put, default ``"session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such argument, the application is of another kind, or the store is
            none.

    Where a framework makes it while a scope waits, as with ``add_middleware``, it keeps the error:
    the lifespan is answered with it, which stops the server, and every other scope raises it.
    """

    @advice.with_known_arguments({"environ_key": "under ASGI it is scope_key="})
    def __init__(
        self,
        app: ASGIApp,
        secret_key: str | bytes | Sequence[str | bytes] | Unset = UNSET,
        session_cookie: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        same_site: Literal["lax", "strict", "none"] | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        *,
        store: str | Store | AsyncStore | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | Store | AsyncStore | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: Callable[[ASGIApp], ASGIApp] | None = None,
        scope_key: str = "session",
    ) -> None:
        given = dict(locals())
        self.app = app
        self.scope_key = scope_key
        misuse.require_asgi(app)
        settings = configure(given)
        # Bound once, not for each request.
        self.sessions = sessions = AsyncSessions(settings)
        self.manager, self.run = sessions.manager, sessions.run
        self._needle, *self._others = [f"{name}=".encode() for name in settings.cookie_names]
        self._before = Switch.of(app, switch_at, before)
        self._counts = sessions.live_counts(scope_key)
        self._verbs = {kind: sessions.verbs(meets) for kind, meets in _MEETS.items()}
        self._unused = {step: Unbegun(self._begin, step) for step in Progress}

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, ….

        Applications find the same, as a mapping, in ``scope["sharedsession.counts"]``.
        """
        return dict(self._counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            app = self.app if self._before is None else self._before.app  # the old layer starts too
            await app(scope, receive, send)
            return
        if self._before is not None and self._before.is_ahead(self.manager.clock()):
            await self._before.app(scope, receive, send)
            return
        key, theirs = self.scope_key, None
        if COUNTS in scope:
            shared = enter(scope, self._counts, scope[COUNTS])
            if shared is not None:
                scope[key] = shared
                await self.app(scope, receive, send)
                return
        scope[COUNTS] = self._counts
        if key in scope:
            theirs = scope[key]
            send = _showing(theirs, scope, key, send)
        needle, others, sent = self._needle, self._others, None
        for name, value in scope["headers"]:
            if name == b"cookie" and (needle in value or any(each in value for each in others)):
                sent = [*(sent or ()), value.decode("latin-1")]
        if sent is None and theirs is None and kind == "http":
            await self._serve_new(scope, receive, send)
            return
        cookies = self.manager.read(sent) if sent else ()
        foreign = self.manager.recognise(sent) if sent else ()
        exchange = Exchange(self.manager, cookies, self._verbs[kind], foreign=foreign)
        if cookies or foreign:
            await self.sessions.load(exchange, scope, _MEETS[kind])
        scope[key] = exchange.session
        response = (_Response if kind == "http" else _Socket)(self, scope, exchange, send, theirs)
        try:
            await response.serve(receive)
        finally:
            exchange.over()

    async def _serve_new(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request without a cookie, which most often uses no session."""
        session, key = UnusedSession(), self.scope_key
        give_exchange(session, self._unused[Progress.OPEN])
        scope[key] = session
        response: _Response | None = None

        def respond() -> _Response:
            return _Response(self, scope, exchange_of(session).begun(session), send)

        # A coroutine function, which asgiref demands of it.
        async def sending(message: Message) -> None:
            nonlocal response
            if response is None:
                if type(exchange_of(session)) is Unbegun and scope.get(key) is session:
                    if message["type"] == "http.response.start":
                        give_exchange(session, self._unused[Progress.ANSWERED])
                    await send(message)
                    return
                response = respond()
            await response.send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if not await (response or respond()).excuse(error):
                raise
        else:
            if type(exchange_of(session)) is not Unbegun or scope.get(key) is not session:
                await (response or respond()).finish()
        finally:
            exchange = exchange_of(session)
            if type(exchange) is Unbegun:
                give_exchange(session, self._unused[Progress.OVER])
            else:
                exchange.over()

    def _begin(self, session: UnusedSession) -> Exchange:
        return Exchange(self.manager, (), self._verbs["http"], session=session)


# --- outages --------------------------------------------------------------------------------------


def _let_starlette_answer(outage: StoreUnavailable) -> None:
    """Make an outage Starlette's own exception as well, where Starlette is in use.

    It is answered inside the application then, so that middlewares in there see the 503, the one
    for CORS above all: a browser shows a script of another origin no answer without its headers.
    """
    known = type(outage)
    if known not in _ANSWERED and "starlette.exceptions" in sys.modules:
        from starlette.exceptions import HTTPException

        names = {
            "__module__": known.__module__,
            "__qualname__": known.__qualname__,
            "status_code": 503,
            "detail": UNAVAILABLE,
        }
        kind = type(known.__name__, (known, HTTPException), names)
        _ANSWERED[known] = _ANSWERED[kind] = kind
    if known in _ANSWERED:
        outage.__class__ = _ANSWERED[known]
        # Of this answer alone: an application's handler may add to them.
        headers = {"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"}
        outage.headers = headers  # type: ignore[attr-defined]  # Starlette's


_ANSWERED: dict[type[StoreUnavailable], type[StoreUnavailable]] = {}
_MEETS = {"http": _let_starlette_answer, "websocket": None}  # by the kind of a scope


# --- other layers ---------------------------------------------------------------------------------


def _showing(theirs: object, scope: Scope, key: str, send: Send) -> Send:
    """Show a middleware around this one its own session again while a response starts.

    Most look into the scope at that moment, for what to put into their cookie.
    """

    async def sending(message: Message) -> None:
        if message["type"] not in _STARTS:
            await send(message)
            return
        ours, scope[key] = scope.get(key), theirs
        try:
            await send(message)
        finally:
            scope[key] = ours

    return sending


_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def _passes_another_layer(own: SessionMiddleware) -> bool:
    """Whether what is being sent comes through another package's session middleware inside ours.

    Some put a plain dict into the scope, as an application does that replaces its session, and
    leave no other trace: but what sends stands on the stack, above a middleware that it has passed
    or will pass.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - its name in CPython and PyPy
    while frame.f_back is not None:
        frame = frame.f_back
        # Of a method; a function inside of one knows its self as well.
        layer = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None
        if layer is own:
            break
        for _ in range(_MOST_LAYERS):
            if not callable(layer) or isinstance(layer, type):
                break
            inside = getattr(layer, "app", None)
            if callable(inside) and _keeps_sessions(layer):
                return True
            layer = inside
    return False


def _keeps_sessions(layer: object) -> bool:
    """Whether this is a session middleware of another package, by its name and what it has.

    A session of a database, or a timeout of ours, has the name as well, but no cookie of its own.
    """
    if "session" not in type(layer).__name__.lower() or isinstance(layer, SessionMiddleware):
        return False
    return any("cookie" in name or "backend" in name for name in dir(layer))


_MOST_LAYERS = 100


# --- one request ----------------------------------------------------------------------------------


class _Response:
    """An HTTP request. ``theirs``: what another middleware, around this one, calls the session."""

    starts: tuple[str, ...] = ("http.response.start",)

    def __init__(
        self,
        middleware: SessionMiddleware,
        scope: Scope,
        exchange: Exchange,
        send: Send,
        theirs: object = None,
    ) -> None:
        self.middleware, self.scope, self.exchange = middleware, scope, exchange
        self.session, self._key = exchange.session, middleware.scope_key
        self._servers_send, self._theirs = send, theirs
        self._others_inside = False  # another package's session middleware: it has the place
        self.answered = False  # with our 503 or 500, in the place of the application's response
        self.client_gone = False  # the server has said so, when something was to be sent

    async def serve(self, receive: Receive) -> None:
        try:
            await self.middleware.app(self.scope, receive, self.send)
        except Exception as error:
            if not await self.excuse(error):
                raise
        else:
            await self.finish()

    # A coroutine function, which asgiref demands of it.
    async def send(self, message: Message) -> None:
        """Pass on what the application sends; commit before the start of its response."""
        if self.answered:
            return
        exchange = self.exchange
        if exchange.progress is Progress.OPEN:
            if self._is_replaced():
                self._others_inside |= _passes_another_layer(self.middleware)
            if message["type"] in self.starts:
                self._take_replacement()
                headers = [*message.get("headers", ())]
                respond = exchange.respond(message.get("status", 101), headers)
                instead = None if respond is None else await self.middleware.run(respond)
                if instead is not None:
                    await self.answer(instead, headers)
                    return
                if exchange.is_used:
                    message = {**message, "headers": headers}
                    self._dress(headers)
        try:
            await self._servers_send(message)
        except Exception:  # an OSError, by the specification; servers have others as well
            self.client_gone = True
            raise

    async def finish(self) -> None:
        """The application has returned: commit what came late, in background tasks, say."""
        if not self.answered and self.exchange.progress is Progress.ANSWERED:
            self._take_replacement()
            late = self.exchange.finish()
            if late is not None:
                await self.middleware.run(late)

    async def excuse(self, error: Exception) -> bool:
        """An exception escaped the application; answer 503 if an outage is behind it."""
        if await self._answers(error):
            return True
        if self.client_gone:
            await self.finish()
        outage = error.__cause__
        if type(error) is RuntimeError and isinstance(outage, StoreUnavailable):
            raise outage from None  # Starlette could not answer it any more, and says so
        return False

    async def _answers(self, error: Exception) -> bool:
        if not self.exchange.excuses(error):
            return False
        if not self.answered:
            if self.exchange.progress is not Progress.OPEN:
                return False
            await self.answer(503)
        return True

    async def answer(self, status: int, said: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer in the application's place; what it sends from now on is dropped.

        ``said``: the headers of its own response, where it has begun one.
        """
        self.answered = True
        self.exchange.give_up()
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in said]
        headers, body = unavailable(status, texts)
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await self._answer(status, encoded, body)

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await self._servers_send(start)
        await self._servers_send({"type": "http.response.body", "body": body})

    def _dress(self, headers: Headers) -> None:
        """Add the headers of the session to those of the response."""
        https = str(self.scope.get("scheme")).lower() in ("https", "wss")
        if not https and self.exchange.reply is not None:
            check_scheme(
                self.exchange.manager,
                self._header,
                "uvicorn: --proxy-headers --forwarded-allow-ips=…; hypercorn: ProxyFixMiddleware",
                "pass https_only=True",
            )
        self.exchange.add_headers(headers, https=https)

    def _header(self, name: str) -> str:
        """Return a header of the request."""
        encoded = name.encode()
        found = [bytes(value) for known, value in self.scope["headers"] if known == encoded]
        return b",".join(found).decode("latin-1")

    def _is_replaced(self) -> bool:
        """Whether something is in the session's place that no middleware has put there."""
        current = self.scope.get(self._key)
        if current is self.session or self._others_inside:
            return False
        if current is not None and current is self._theirs:
            return False
        return not hasattr(type(current), "mark_accessed")

    def _take_replacement(self) -> None:
        """The application may have put something else in its session's place."""
        if self._is_replaced():
            self.exchange.replaced_by(self.scope.get(self._key))
        refuse_unawaited(self.exchange)


class _Socket(_Response):
    """A WebSocket: committed at accept, by ``commit()``, and when it is over."""

    starts = ("websocket.accept", "websocket.http.response.start")

    async def serve(self, receive: Receive) -> None:
        async def receiving() -> Message:
            message = await receive()
            self.client_gone |= message["type"] == "websocket.disconnect"
            return message

        try:
            await self.middleware.app(self.scope, receiving, self.send)
        except BaseException as error:  # a cancellation is an end like any other
            if self.client_gone:
                # Most applications end by an exception that says just that.
                await runtime.current().to_the_end(self.finish())
                raise
            if not isinstance(error, Exception) or not await self._answers(error):
                raise
        else:
            await runtime.current().to_the_end(self.finish())

    async def finish(self) -> None:
        """The socket is closed, also one that was never accepted: commit."""
        self.exchange.expect_no_response()
        await super().finish()

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
            await self._servers_send(start)
            await self._servers_send({"type": "websocket.http.response.body", "body": body})
        else:
            code = TRY_AGAIN_LATER if status == 503 else INTERNAL_ERROR
            reason = "try again later" if status == 503 else "not stored"
            close = {"type": "websocket.close", "code": code, "reason": reason}
            await self._servers_send(close)
