"""G14: a change made once the request is over is an error, however the request ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sharedsession import LateChange, Session, StoreUnavailable
from sharedsession.asgi import Message, Receive, Scope, Send, SessionMiddleware
from sharedsession.stores.memory import MemoryStore
from tests.guarantees.conftest import FRAMEWORKS, Servers
from tests.guarantees.djangos import AsyncDjangoAdapter
from tests.guarantees.driver import (
    LIMIT,
    SECRET,
    Adapter,
    Answer,
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    Later,
    Reply,
    Start,
    add_one,
    destroy,
    late,
    later,
    put,
    read,
)
from tests.guarantees.places import Place
from tests.guarantees.wsgi import EVERY_WSGI

WAYS: dict[str, Adapter] = {**FRAMEWORKS, **EVERY_WSGI}


@pytest.fixture(params=list(WAYS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each way of running an application, and each way of answering under WSGI."""
    return WAYS[request.param]


def break_off(session: Session) -> None:
    session["b"] = 1
    raise ZeroDivisionError


def break_off_streaming(session: Session) -> Generator[Any, Any, None]:
    session.get("a")
    yield Start()
    raise ZeroDivisionError


def unused(session: Session) -> None:
    """Not touched by the request."""


ENDINGS: dict[str, tuple[Application, dict[str, Any]]] = {
    "a body": (put(b=1), {}),
    "a body of a request that only read": (read, {}),
    "a body of a request that did not use it": (unused, {}),
    "HEAD": (put(b=1), {"method": "HEAD"}),
    "a stream": (late(put(b=1)), {}),
    "a background task": (later(put(b=1)), {}),
    "its end": (destroy, {}),
    "a response without a body": (lambda session: Reply(status=204), {}),
    "an exception": (break_off, {}),
    "an exception in a stream": (break_off_streaming, {}),
}


def keeping(application: Application, kept: list[Session]) -> Application:
    def keep(session: Session) -> Any:
        kept.append(session)
        return application(session)

    return keep


CHANGES: dict[str, Callable[[Session], object]] = {
    "set": lambda session: session.update(late=1),
    "setdefault": lambda session: session.setdefault("late", 1),
    "clear": lambda session: session.clear(),
    "destroy": lambda session: session.destroy(),
    "renew": lambda session: session.renew(),
    "authenticated": lambda session: session.mark_authenticated(),
    "mutate": lambda session: session.mutate(add_one),
    "commit": lambda session: session.commit(),
    "reload": lambda session: session.reload(),
}


def expect_late_changes(session: Session, place: Place) -> None:
    """Each change raises and writes nothing; reading goes on."""
    before, stored = dict(session), place.stored
    place.forget()
    for change in CHANGES.values():
        with pytest.raises(LateChange, match="before its request is over"):
            change(session)
    assert dict(session) == before
    assert place.writes == []
    assert place.stored == stored


@pytest.mark.parametrize("known", [True, False], ids=["known client", "new client"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_g14_after_the_request_a_change_raises(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, ending: str, known: bool
) -> None:
    """Whatever ended it, a session that somebody holds on to refuses changes."""
    application, options = ENDINGS[ending]
    if options and adapter is FRAMEWORKS["FastAPI"]:
        return  # its route is for GET alone
    if ending == "an exception in a stream" and isinstance(adapter, AsyncDjangoAdapter):
        return  # Django never closes such a response
    (server,) = servers(1)
    if known:
        server.request(browser, put(a=1))
    kept: list[Session] = []
    server.request(browser, keeping(application, kept), **options)
    expect_late_changes(kept[0], place)


@pytest.mark.parametrize("when", ["load", "replace"])
@pytest.mark.parametrize("policy", ["error", "readonly-empty"])
def test_g14_after_an_outage_a_change_raises(
    servers: Servers, browser: Browser, place: Place, when: str, policy: Any
) -> None:
    """Behind a 503 in the application's place, and in an empty session that stands for one."""
    (server,) = servers(1, on_outage=policy)
    server.request(browser, put(a=1))
    kept: list[Session] = []
    place.fail(when)
    answer = server.request(browser, keeping(put(b=1), kept))
    assert answer.status == 503
    for change in (CHANGES["set"], CHANGES["destroy"], CHANGES["mutate"]):
        with pytest.raises((LateChange, StoreUnavailable)):
            change(kept[0])
    assert place.stored == [{"a": 1}]


def test_g14_a_thread_that_outlives_its_request(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """It uses the session for the first time when the request is over: it reads, and is told."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    over, told = threading.Event(), Future[Any]()

    def work(session: Session) -> None:
        over.wait(LIMIT)
        try:
            session["late"] = session["a"]
        except Exception as error:  # noqa: BLE001 - the test looks what it is
            told.set_result(error)
        else:
            told.set_result(None)

    def application(session: Session) -> None:
        threading.Thread(target=work, args=(session,)).start()

    server.request(browser, application)
    over.set()
    assert isinstance(told.result(LIMIT), LateChange)
    assert server.request(browser, read).value == {"a": 1}


def test_g14_a_change_while_the_record_is_stored(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Of another thread or task, once the commit has taken up the data: stored as well."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    kept: list[Session] = []
    at_store = place.hold("replace")
    running = server.begin(browser, keeping(put(b=1), kept))
    at_store.wait_for()
    kept[0]["c"] = 1
    at_store.open()
    assert running.answer().status == 200
    assert server.request(browser, read).value == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("start", [Start(), Later()], ids=["streaming", "background"])
def test_g14_a_change_while_the_last_change_is_stored(
    servers: Servers, browser: Browser, place: Place, start: Any
) -> None:
    """The request is over by then: the thread or task is told."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    kept: list[Session] = []

    def application(session: Session) -> Generator[Any, Any, None]:
        session.get("a")
        yield start
        session["b"] = 1

    at_store = place.hold("replace")
    running = server.begin(browser, keeping(application, kept))
    at_store.wait_for()
    with pytest.raises(LateChange):
        kept[0]["c"] = 1
    at_store.open()
    assert running.answer().error is None
    assert server.request(browser, read).value == {"a": 1, "b": 1}


# --- two threads at first use ---------------------------------------------------------------------


@pytest.mark.parametrize("commits", [False, True], ids=["write", "one commits"])
@pytest.mark.parametrize("known", [True, False], ids=["known client", "new client"])
def test_g14_two_threads_at_first_use(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, commits: bool, known: bool
) -> None:
    """One loads, the other waits for it; what both wrote is stored."""
    if not adapter.lazy:
        return  # loaded before the application runs
    (server,) = servers(1)
    if known:
        server.request(browser, put(a=1))
    place.forget()
    slow = place.hold("load")

    def work(session: Session, key: str) -> None:
        session[key] = 1
        if commits and key == "one":
            session.commit()

    def application(session: Session) -> None:
        threads = [threading.Thread(target=work, args=(session, key)) for key in ("one", "two")]
        for thread in threads:
            thread.start()
        if known:
            slow.wait_for()
        slow.open()
        for thread in threads:
            thread.join(LIMIT)

    assert server.request(browser, application).status == 200
    assert place.verbs.count("load") == int(known)
    expected = {"one": 1, "two": 1} | ({"a": 1} if known else {})
    assert server.request(browser, read).value == expected
    assert place.stored == [expected]


# --- a removal that was decided early -------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [destroy, lambda session: session.clear()], ids=["destroy", "clear"]
)
def test_g5_a_removal_decided_by_an_early_commit_is_not_sent(
    servers: Servers, browser: Browser, how: Application
) -> None:
    """It would arrive after the cookie of somebody who has signed in meanwhile."""
    first, second = servers(2)
    first.request(browser, put(token=1))
    gate = Gate()

    def pay(session: Session) -> Generator[Any, Any, None]:
        how(session)
        yield Commit()
        yield Hold(gate)

    running = first.begin(browser, pay)
    gate.wait_for()
    second.request(browser, put(user_id="ann"))
    gate.open()
    assert running.answer().cookies == []
    assert second.request(browser, read).value == {"user_id": "ann"}


def test_g5_the_last_key_taken_by_an_early_commit(servers: Servers, browser: Browser) -> None:
    """A one-time token that was all there was: the same."""
    first, second = servers(2)
    first.request(browser, put(token=1))
    gate = Gate()

    def pay(session: Session) -> Generator[Any, Any, None]:
        yield Commit(lambda each: each.pop("token"))
        yield Hold(gate)

    running = first.begin(browser, pay)
    gate.wait_for()
    second.request(browser, put(user_id="ann"))
    gate.open()
    assert running.answer().cookies == []
    assert second.request(browser, read).value == {"user_id": "ann"}


# --- the client has gone --------------------------------------------------------------------------


class Feed:
    """An application that only sends, to a client that leaves after some messages."""

    def __init__(self, kind: str, *, starlette: bool = False) -> None:
        self.kind, self.left = kind, 0
        routes: list[BaseRoute] = [
            Route("/feed", self._stream),
            WebSocketRoute("/feed", self._talk),
            Mount("/", self._app),
        ]
        app = Starlette(routes=routes) if starlette else self._app
        self.middleware = SessionMiddleware(app, SECRET, store=MemoryStore())

    async def _stream(self, request: Request) -> StreamingResponse:
        class Parts:  # no generator: Starlette leaves it open, and trio warns of that
            def __aiter__(self) -> Parts:
                return self

            async def __anext__(self) -> bytes:
                add_one(request.session)
                return b"news"

        return StreamingResponse(Parts())

    async def _talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            add_one(websocket.session)
            await websocket.send_text("news")

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        if scope["path"] == "/":
            session.setdefault("user_id", 7)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            body = repr(dict(session)).encode()
            await send({"type": "http.response.body", "body": body})
            return
        if self.kind == "websocket":
            await receive()
        start, more = {
            "http": ("http.response.start", "http.response.body"),
            "websocket": ("websocket.accept", "websocket.send"),
        }[self.kind]
        try:
            await send({"type": start, "status": 200, "headers": []})
            while True:
                session["sent"] = session.get("sent", 0) + 1
                await send({"type": more, "body": b"news", "more_body": True})
        finally:
            session["left"] = True

    async def ask(self, path: str, cookie: str | None = None) -> Answer:
        kind = self.kind if path == "/feed" else "http"
        headers = [] if cookie is None else [(b"cookie", f"session={cookie}".encode())]
        scope = {"type": kind, "path": path, "scheme": "http", "headers": headers, "method": "GET"}
        scope |= {"asgi": {"spec_version": "2.4"}, "query_string": b"", "root_path": ""}
        answer = Answer(0, [])

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            await anyio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                found = [(name.decode(), value.decode()) for name, value in message["headers"]]
                answer.headers = found
            answer.body += message.get("body", b"")
            self.left -= path == "/feed"
            if path == "/feed" and self.left < 0:
                raise OSError("the client has gone")

        await self.middleware(scope, receive, send)
        return answer

    async def story(self, leaves_after: int, ends_by: type[Exception]) -> str:
        """Show what the session holds in the end."""
        created = await self.ask("/")
        cookie = created.cookies[0].partition("=")[2].partition(";")[0]
        self.left = leaves_after
        with pytest.raises(ends_by):
            await self.ask("/feed", cookie)
        return (await self.ask("/", cookie)).body.decode()


KIND = pytest.mark.parametrize("kind", ["http", "websocket"])
BACKEND = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@KIND
@BACKEND
@pytest.mark.parametrize("leaves_after", [0, 1, 3])
def test_g14_a_feed_that_learns_of_the_end_by_sending(
    kind: str, backend: str, leaves_after: int
) -> None:
    """send() raises an OSError, at the start or later: what the feed changed is stored."""
    feed = Feed(kind)

    shown = anyio.run(feed.story, leaves_after, OSError, backend=backend)
    assert "'left': True" in shown
    assert ("'sent'" in shown) is (leaves_after > 0)


@KIND
@BACKEND
def test_g14_a_feed_of_starlette(kind: str, backend: str) -> None:
    """Starlette makes an exception of its own of the OSError: the same."""
    ends_by = ClientDisconnect if kind == "http" else WebSocketDisconnect
    feed = Feed(kind, starlette=True)
    assert "'n': 3" in anyio.run(feed.story, 3, ends_by, backend=backend)
