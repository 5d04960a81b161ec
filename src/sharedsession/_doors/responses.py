"""One request under ASGI: committed before its response starts, answered where it cannot be.

A response is held back at its start until the record is stored; a WebSocket at its accept.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from .._core import runtime
from .._core.answers import Headers, check_scheme, unavailable
from .._core.exchange import Exchange
from .._core.session import exchange_of
from .._core.state import Progress
from .._core.steps import Flow
from ..exceptions import StoreUnavailable
from .awaited import refuse_unawaited

# ASGI's own types: what a scope or a message holds differs from server to server.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
TRY_AGAIN_LATER, INTERNAL_ERROR = 1013, 1011  # WebSocket close codes (IANA registry)


class Layer:
    """A layer around an ASGI application that gives it sessions: what a response asks of it.

    ``app`` is the application, ``scope_key`` where in a scope the session is, and ``run`` drives a
    flow.
    """

    app: ASGIApp
    scope_key: str
    run: Callable[[Flow[Any] | None], Awaitable[Any]]


def _passes_another_layer(own: Layer) -> bool:
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
    if "session" not in type(layer).__name__.lower() or isinstance(layer, Layer):
        return False
    return any("cookie" in name or "backend" in name for name in dir(layer))


_MOST_LAYERS = 100


# --- one request ----------------------------------------------------------------------------------


class Response:
    """An HTTP request. ``theirs``: what another middleware, around this one, calls the session."""

    starts: tuple[str, ...] = ("http.response.start",)

    def __init__(
        self,
        middleware: Layer,
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
        if current is self.session or self._others_inside or isinstance(current, Held):
            return False
        if current is not None and current is self._theirs:
            return False
        return not hasattr(type(current), "mark_accessed")

    def _take_replacement(self) -> None:
        """The application may have put something else in its session's place."""
        if self._is_replaced():
            self.exchange.replaced_by(self.scope.get(self._key))
        refuse_unawaited(self.exchange)


class Socket(Response):
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


def raising_outages(app: ASGIApp, key: str, code: int) -> ASGIApp:
    """Wrap an application whose framework answers exceptions by itself, sockets' with ``code``.

    An outage that a WebSocket has met before it was accepted is raised, so that it is answered as
    one; ``key`` is where the session, or what holds it, is in a scope.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await app(scope, receive, send)
            return
        found = scope[key]
        exchange: Exchange = found.exchange if isinstance(found, Held) else exchange_of(found)
        met = False

        async def sending(message: Message) -> None:
            nonlocal met
            if message["type"] == "websocket.close" and message.get("code") == code:
                met = exchange.progress is Progress.OPEN and exchange.met_outage
            if not met:
                await send(message)

        await app(scope, receive, sending)
        if met:
            raise exchange.error or StoreUnavailable("The session store did not answer.")

    return call


class Begins(Protocol):
    """What gives a request an exchange, which something further in shows the cookies."""

    def run(self, flow: Flow[Any] | None) -> Awaitable[Any]: ...
    def begun(self) -> Exchange: ...


class Held:
    """What is in a scope for a session that something further in opens.

    Where a middleware in between copies the scope, deeply as Hypercorn's ProxyFix does, it is the
    same one in the copy.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def __deepcopy__(self, memo: object) -> Held:
        return self


class LayerAround(Layer):
    """A layer for a framework with a session interface of its own, which opens the sessions."""

    def __init__(self, app: ASGIApp, scope_key: str, sessions: Callable[[], Begins]) -> None:
        self.app, self.scope_key, self._sessions = app, scope_key, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        sessions = self._sessions()
        self.run = sessions.run
        exchange = sessions.begun()
        scope[self.scope_key] = Held(exchange)
        response = (Response if kind == "http" else Socket)(self, scope, exchange, send)
        try:
            await response.serve(receive)
        finally:
            exchange.over()
