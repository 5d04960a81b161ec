"""Servers of ASGI applications, each with an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from sharedsession import Session
from sharedsession.asgi import ASGIApp, SessionMiddleware
from sharedsession.testing.stores import LoopThread
from tests.guarantees.driver import (
    LIMIT,
    SECRET,
    VALUE,
    Answer,
    Application,
    Beside,
    Browser,
    Commit,
    GiveUp,
    Headers,
    Hold,
    Later,
    Reload,
    Reply,
    Running,
    Script,
    Start,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

T = TypeVar("T")
APPLICATION = "tests.application"  # where in the scope the request's application is


# --- the application, in the ways of several frameworks -------------------------------------------


async def advance(
    script: Script, verbs: Any = None
) -> Start | Later | Reply | Accept | Receive_ | Say | Close:
    """Run a script to the next step that concerns the response.

    ``verbs`` has ``commit`` and ``reload``, where those of the session itself are not awaited.
    """
    verbs = script.session if verbs is None else verbs
    while True:
        step: Any = script.step()
        match step:
            case Hold():
                await asyncio.wrap_future(step.gate.arrive())
            case Commit():
                await _settle(script, lambda step=step: verbs.commit(step.function))
            case Reload():
                await _settle(script, verbs.reload)
            case Beside():
                await _settle(script, lambda step=step: _beside(script.session, verbs, step))
            case GiveUp():
                await _settle(script, lambda step=step: _give_up(verbs, step))
            case _:
                return step  # type: ignore[no-any-return]


async def _settle(script: Script, call: Callable[[], Awaitable[Any]]) -> None:
    try:
        script.answer(await call())
    except Exception as error:  # noqa: BLE001 - the application is to see it
        script.fail(error)


async def _beside(session: Session, verbs: Any, step: Beside) -> Any:
    async def commit() -> Any:
        return await verbs.commit(step.function)

    committing = asyncio.create_task(commit())
    await asyncio.wrap_future(step.gate.arrive())
    step.act(session)
    step.at_store.open()
    return await committing


async def _give_up(verbs: Any, step: GiveUp) -> None:
    async def commit() -> None:
        await verbs.commit(step.function)

    committing = asyncio.create_task(commit())
    await asyncio.wrap_future(step.gate.arrive())
    committing.cancel()
    assert await asyncio.wait({committing})
    assert committing.cancelled()


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """An application without a framework."""
    script = Script(scope[APPLICATION], scope["session"])
    if scope["type"] == "websocket":
        await converse(script, receive, send)
        return
    step = await advance(script)
    headers = [(b"content-type", VALUE.encode())]
    headers += [(name.encode(), value.encode()) for name, value in step.headers]  # type: ignore[union-attr]
    start = {"type": "http.response.start", "status": step.status, "headers": headers}  # type: ignore[union-attr]
    await send(start)
    if isinstance(step, Later):
        await send({"type": "http.response.body", "body": Reply().body})
        await advance(script)
        return
    if isinstance(step, Start):
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        step = await advance(script)
    assert isinstance(step, Reply)
    await send({"type": "http.response.body", "body": step.body})


async def _respond(request: Request, session: Session) -> Response:
    script = Script(request.scope[APPLICATION], session)
    step = await advance(script)
    headers = dict(step.headers)  # type: ignore[union-attr]
    if isinstance(step, Start):

        async def stream() -> AsyncIterator[bytes]:
            yield b""
            reply = await advance(script)
            assert isinstance(reply, Reply)
            yield reply.body

        return StreamingResponse(stream(), step.status, headers, VALUE)
    if isinstance(step, Later):
        task = BackgroundTask(advance, script)
        return Response(Reply().body, step.status, headers, VALUE, background=task)
    assert isinstance(step, Reply)
    return Response(step.body, step.status, headers, VALUE)


# Each of these wraps an application in the middleware as its users do.

Wrap = Callable[[ASGIApp], SessionMiddleware]


def bare(wrap: Wrap) -> ASGIApp:
    return wrap(plain)


def starlette(wrap: Wrap) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        # ignore() stands for a route that does not touch its session at all.
        unused = getattr(request.scope[APPLICATION], "__name__", "") == "ignore"
        session = request.scope["session"] if unused else request.session
        return await _respond(request, session)

    async def socket(websocket: WebSocket) -> None:
        script = Script(websocket.scope[APPLICATION], websocket.session)
        await converse(script, websocket.receive, websocket.send)

    methods = ["GET", "HEAD", "POST"]
    app = Starlette(routes=[Route("/", endpoint, methods=methods), WebSocketRoute("/", socket)])
    app.add_middleware(wrap)
    return built(app)


def built(app: Starlette) -> ASGIApp:
    """Make the application's middleware now, not at its first request."""
    app.middleware_stack = app.build_middleware_stack()
    return app


def its_session(request: Request) -> Session:
    session = request.session
    assert isinstance(session, Session)
    return session


def fastapi(wrap: Wrap) -> ASGIApp:
    app = FastAPI()

    @app.get("/")
    async def endpoint(
        request: Request, session: Annotated[Session, Depends(its_session)]
    ) -> Response:
        return await _respond(request, session)

    app.add_middleware(wrap)
    return built(app)


# --- WebSockets -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accept:
    """Accept the connection."""


@dataclass(frozen=True)
class Receive_:  # noqa: N801 - Receive is ASGI's own word
    """Wait for the client's next message; the application is given its text, None at the end."""


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Close:
    """Close the connection."""


async def converse(script: Script, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    while True:
        step = await advance(script)
        match step:
            case Accept():
                await send({"type": "websocket.accept"})
            case Receive_():
                message = await receive()
                script.answer(message.get("text"))
            case Say():
                await send({"type": "websocket.send", "text": step.text})
            case Close():
                await send({"type": "websocket.close"})
            case _:
                return


@dataclass
class Socket:
    """The client's side of a WebSocket."""

    loop: asyncio.AbstractEventLoop
    browser: Browser
    inbox: asyncio.Queue[Message]  # what the application receives
    sent: list[Message] = field(default_factory=list)
    accepted: Future[Answer] = field(default_factory=Future)
    over: Future[BaseException | None] = field(default_factory=Future)

    def accept(self) -> Answer:
        """Wait for the handshake's end; the browser takes the cookies of it."""
        answer = self.accepted.result(LIMIT)
        self.browser.take(answer)
        return answer

    def send(self, text: str) -> None:
        self._put({"type": "websocket.receive", "text": text})

    def disconnect(self) -> BaseException | None:
        """Leave; return what escaped from the middleware."""
        self._put({"type": "websocket.disconnect", "code": 1001})
        return self.ended()

    def ended(self) -> BaseException | None:
        return self.over.result(LIMIT)

    def _put(self, message: Message) -> None:
        self.loop.call_soon_threadsafe(self.inbox.put_nowait, message)


_free_loops: list[LoopThread] = []


def free_loop() -> LoopThread:
    """Return an event loop in a thread, which no other server uses."""
    return _free_loops.pop() if _free_loops else LoopThread().__enter__()


def close_loops() -> None:
    """End the event loops that servers have left for others to use."""
    while _free_loops:
        _free_loops.pop().__exit__()


# --- the server -----------------------------------------------------------------------------------


class AsgiServer:
    """Calls the middleware as a server does; its loop has a thread of its own."""

    middleware: SessionMiddleware

    def __init__(
        self,
        make_app: Callable[[Wrap], ASGIApp],
        store: Any,
        clock: Callable[[], float] = time.time,
        **settings: Any,
    ) -> None:
        def wrap(app: ASGIApp) -> SessionMiddleware:
            chosen = {"store_timeout": 10, **settings}
            self.middleware = SessionMiddleware(app, SECRET, store=store, **chosen)
            self.middleware.manager.clock = clock
            return self.middleware

        self._app = make_app(wrap)
        self._thread = free_loop()
        self._loop = self._thread._loop

    @property
    def counts(self) -> Mapping[str, int]:
        return self.middleware.counts

    def begin(
        self,
        browser: Browser,
        application: Application,
        *,
        method: str = "GET",
        headers: Headers = (),
    ) -> Running:
        running = Running(browser)
        scope = self._scope("http", application, [*browser.headers, *headers])
        serving = self._serve({**scope, "method": method}, running)
        running.cancel = asyncio.run_coroutine_threadsafe(serving, self._loop).cancel
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

    def websocket(
        self, browser: Browser, application: Application, *, can_deny: bool = False
    ) -> Socket:
        scope = self._scope("websocket", application, browser.headers)
        if can_deny:
            scope["extensions"] = {"websocket.http.response": {}}
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "websocket.connect"})
        socket = Socket(self._loop, browser, inbox)
        asyncio.run_coroutine_threadsafe(self._serve_socket(scope, socket), self._loop)
        return socket

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something else on this server's event loop."""
        return self._thread.run(work)

    def close(self) -> None:
        _free_loops.append(self._thread)

    def _scope(self, kind: str, application: Application, headers: Headers) -> dict[str, Any]:
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "http" if kind == "http" else "ws",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
            "subprotocols": [],
            APPLICATION: application,
        }

    async def _serve(self, scope: Scope, running: Running) -> None:
        begun = time.monotonic()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]
        finished = asyncio.Event()
        answer: Answer | None = None

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await finished.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                assert answer is None, "the response was started twice"
                answer = Answer(message["status"], _decoded(message["headers"]))
                running.start.set_result(answer)
            else:
                assert message["type"] == "http.response.body"
                assert answer is not None, "a body before its start"
                answer.body += message.get("body", b"")
                if not message.get("more_body"):
                    answer.seconds = time.monotonic() - begun
                    finished.set()

        error: BaseException | None = None
        try:
            await self._app(scope, receive, send)
        except BaseException as escaped:  # noqa: BLE001 - a server survives whatever it is
            error = escaped
        if answer is None:
            answer = Answer(500, ())
            running.start.set_result(answer)
        if not finished.is_set():
            answer.seconds = time.monotonic() - begun
        answer.error = error
        running.end.set_result(answer)

    async def _serve_socket(self, scope: Scope, socket: Socket) -> None:
        async def send(message: Message) -> None:
            socket.sent.append(message)
            kind = message["type"]
            if kind == "websocket.accept":
                socket.accepted.set_result(Answer(101, _decoded(message.get("headers", ()))))
            elif kind == "websocket.http.response.start":
                answer = Answer(message["status"], _decoded(message["headers"]))
                socket.accepted.set_result(answer)
            elif kind == "websocket.close" and not socket.accepted.done():
                socket.accepted.set_result(Answer(403, ()))

        error: BaseException | None = None
        try:
            await self._app(scope, socket.inbox.get, send)
        except BaseException as escaped:  # noqa: BLE001 - as above
            error = escaped
        if not socket.accepted.done():
            socket.accepted.set_result(Answer(500, (), error=error))
        socket.over.set_result(error)


def _decoded(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


class AsgiAdapter:
    """Makes servers of one ASGI application."""

    asynchronous = True
    lazy = answers_errors = repeats = False

    def __init__(self, make_app: Callable[[Wrap], ASGIApp]) -> None:
        self._make_app = make_app

    def __call__(self, store: Any, **settings: Any) -> AsgiServer:
        return AsgiServer(self._make_app, store, **settings)


ADAPTERS = {
    "ASGI": AsgiAdapter(bare),
    "Starlette": AsgiAdapter(starlette),
}
FASTAPI = AsgiAdapter(fastapi)
