"""G9 in the company of frameworks: their error handlers, dependencies and middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sharedsession import Session, StoreUnavailable
from sharedsession.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.guarantees.asgi import AsgiServer, Wrap, built
from tests.guarantees.driver import Answer, Browser, ignore
from tests.guarantees.places import Place
from tests.guarantees.test_g9_bounded_outage import is_unavailable

Start = Callable[[Callable[[Wrap], ASGIApp]], AsgiServer]


@pytest.fixture
def start(place: Place) -> Iterator[Start]:
    """Start a server of an application that the test makes."""
    started: list[AsgiServer] = []

    def starting(make_app: Callable[[Wrap], ASGIApp]) -> AsgiServer:
        store = place.open(asynchronous=True)
        started.append(AsgiServer(make_app, store, clock=place.clock))
        return started[-1]

    yield starting
    for server in started:
        server.close()


def use(server: AsgiServer, browser: Browser) -> Answer:
    """Send a request to the one route that these applications have."""
    return server.request(browser, ignore)


def signed_up(start: Start, browser: Browser) -> None:
    """Give the browser a session, from a server without frills."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["a"] = 1
        await PlainTextResponse("stored")(scope, receive, send)

    assert use(start(lambda wrap: wrap(app)), browser).status == 200


async def counting(request: Request) -> Response:
    request.session["a"] += 1
    return JSONResponse(request.session)


# --- handlers of Starlette's ----------------------------------------------------------------------


async def sorry(request: Request, error: Exception) -> Response:
    return PlainTextResponse("the application is sorry", 500)


async def policy(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"our own page: {type(error).__name__}", 507)


@pytest.mark.parametrize("outside", [False, True], ids=["add_middleware", "around the app"])
@pytest.mark.parametrize("phase", ["load", "replace"])
@pytest.mark.parametrize("key", [500, Exception])
def test_g9_a_500_handler_does_not_hide_an_outage(
    start: Start, browser: Browser, place: Place, key: Any, phase: str, outside: bool
) -> None:
    """Whether it runs around the middleware or inside it: the client gets the 503, once."""
    signed_up(start, browser)

    def make(wrap: Wrap) -> ASGIApp:
        app = Starlette(routes=[Route("/", counting)], exception_handlers={key: sorry})
        if outside:
            return wrap(app)
        app.add_middleware(wrap)
        return built(app)

    server = start(make)
    place.fail(phase)
    assert is_unavailable(use(server, browser))
    assert use(server, browser).body == b'{"a":2}'


def test_g9_a_handler_for_the_outage_itself_is_the_routes_policy(
    start: Start, browser: Browser, place: Place
) -> None:
    """A handler for StoreUnavailable answers when the load fails; a failed commit stays a 503."""
    signed_up(start, browser)

    def make(wrap: Wrap) -> ASGIApp:
        handlers = {StoreUnavailable: policy}
        app = Starlette(routes=[Route("/", counting)], exception_handlers=handlers)
        app.add_middleware(wrap)
        return built(app)

    server = start(make)
    place.fail("load")
    answer = use(server, browser)
    assert (answer.status, answer.body) == (507, b"our own page: StoreUnavailable")
    assert answer.cookies == []
    place.fail("replace")
    assert is_unavailable(use(server, browser))
    assert use(server, browser).body == b'{"a":2}'


def test_g9_an_http_exception_is_the_routes_own(
    start: Start, browser: Browser, place: Place
) -> None:
    """A route that turns the outage into a 404 has its 404."""
    signed_up(start, browser)

    async def route(request: Request) -> Response:
        try:
            return await counting(request)
        except StoreUnavailable:
            raise HTTPException(404) from None

    def make(wrap: Wrap) -> ASGIApp:
        app = Starlette(routes=[Route("/", route)])
        app.add_middleware(wrap)
        return built(app)

    server = start(make)
    place.fail("load")
    assert use(server, browser).status == 404
    assert use(server, browser).body == b'{"a":2}'


# --- FastAPI and its dependencies -----------------------------------------------------------------


@pytest.mark.parametrize("phase", ["load", "replace"])
def test_g9_fastapi_dependencies_are_torn_down(
    start: Start, browser: Browser, place: Place, phase: str
) -> None:
    """A dependency with yield is closed whatever happens, and the client gets the 503."""
    signed_up(start, browser)
    events: list[str] = []

    async def resource() -> AsyncIterator[str]:
        events.append("opened")
        try:
            yield "resource"
        finally:
            events.append("closed")

    def user(request: Request) -> int:
        request.session["a"] += 1
        value = request.session["a"]
        assert isinstance(value, int)
        return value

    def make(wrap: Wrap) -> ASGIApp:
        app = FastAPI()

        @app.get("/")
        async def route(it: str = Depends(resource), value: int = Depends(user)) -> int:
            return value

        app.add_middleware(wrap)
        return built(app)

    server = start(make)
    place.fail(phase)
    assert is_unavailable(use(server, browser))
    assert events == ["opened", "closed"]
    assert use(server, browser).body == b"2"


# --- BaseHTTPMiddleware, around and inside --------------------------------------------------------


async def pass_on(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["x-passed"] = "yes"
    return response


async def catch_all(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """What many applications have: log whatever escapes, and answer."""
    try:
        return await call_next(request)
    except Exception:  # noqa: BLE001 - that is what it is for
        return PlainTextResponse("caught", 500)


@pytest.mark.parametrize("dispatch", [pass_on, catch_all])
@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
@pytest.mark.parametrize("phase", ["load", "replace"])
def test_g9_with_base_http_middleware(
    start: Start, browser: Browser, place: Place, phase: str, inside: bool, dispatch: Any
) -> None:
    """Around the sessions or inside them: a 503 in an outage, all as usual without one."""
    signed_up(start, browser)

    def make(wrap: Wrap) -> ASGIApp:
        app = Starlette(routes=[Route("/", counting)])
        if inside:
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
            app.add_middleware(wrap)
        else:
            app.add_middleware(wrap)
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        return built(app)

    server = start(make)
    place.fail(phase)
    assert is_unavailable(strip(use(server, browser)))
    answer = use(server, browser)
    assert (answer.status, answer.body) == (200, b'{"a":2}')


def strip(answer: Answer) -> Answer:
    """The answer without what a middleware around the sessions adds to every response."""
    answer.headers = [pair for pair in answer.headers if pair[0] != "x-passed"]
    return answer


# --- raw ASGI -------------------------------------------------------------------------------------


def raw(answer: Callable[[Scope, Send], Awaitable[None]]) -> Callable[[Wrap], ASGIApp]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, send)

    return lambda wrap: wrap(app)


def starting(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


BODY = {"type": "http.response.body", "body": b"the application's own"}


def test_g9_an_application_cannot_turn_a_failed_commit_into_a_success(
    start: Start, browser: Browser, place: Place
) -> None:
    """Whatever it sends after the start whose commit failed, the client has its 503, once."""
    signed_up(start, browser)

    async def stubborn(scope: Scope, send: Send) -> None:
        scope["session"]["a"] = 2
        for status in (200, 200, 500):
            try:
                await send(starting(status))
                await send(BODY)
            except Exception:  # noqa: BLE001 - the application does not care
                pass

    server = start(raw(stubborn))
    place.fail("replace")
    assert is_unavailable(use(server, browser))


def test_g9_an_exception_after_the_503_does_no_harm(
    start: Start, browser: Browser, place: Place
) -> None:
    """The application fails once more, after its commit has: the client's 503 is complete."""
    signed_up(start, browser)

    async def failing(scope: Scope, send: Send) -> None:
        scope["session"]["a"] = 2
        await send(starting(200))
        raise ZeroDivisionError

    server = start(raw(failing))
    place.fail("replace")
    assert is_unavailable(use(server, browser))
    server = start(raw(read_then_fail))
    place.fail("load")
    assert is_unavailable(use(server, browser))


async def read_then_fail(scope: Scope, send: Send) -> None:
    try:
        scope["session"]["a"]
    except StoreUnavailable:
        await send(starting(500))
    raise ZeroDivisionError


def test_g9_an_error_of_the_applications_own_stays_visible(
    start: Start, browser: Browser, place: Place
) -> None:
    """A bug after a response that had begun in an outage is not swallowed."""
    signed_up(start, browser)

    async def failing(scope: Scope, send: Send) -> None:
        try:
            scope["session"]["a"]
        except StoreUnavailable:
            await send(starting(200))
        raise ZeroDivisionError

    server = start(raw(failing))
    place.fail("load")
    answer = use(server, browser)
    assert answer.status == 200
    assert isinstance(answer.error, ZeroDivisionError)


def test_g9_an_error_in_send_is_the_servers(start: Start, browser: Browser, place: Place) -> None:
    """A client that has gone (the server's send raises) is no outage; what was committed stays."""
    signed_up(start, browser)

    class Gone(OSError):
        pass

    def make(wrap: Wrap) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"]["a"] = 2
            await send(starting(200))

        inner = wrap(app)

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def broken(message: Message) -> None:
                raise Gone

            await inner(scope, receive, broken)

        return outer

    answer = use(start(make), browser)
    assert isinstance(answer.error, Gone)
    final = start(raw(show))
    assert use(final, browser).body == b"{'a': 2}"


async def show(scope: Scope, send: Send) -> None:
    text = str(dict(scope["session"])).encode()
    await send(starting(200))
    await send({"type": "http.response.body", "body": text})


def test_g9_encoders_cannot_read_past_an_outage(
    start: Start, browser: Browser, place: Place
) -> None:
    """JSONResponse of a session that could not be loaded is a 503, never an empty object."""
    signed_up(start, browser)

    async def dump(scope: Scope, send: Send) -> None:
        response = JSONResponse(scope["session"])
        await response(scope, no_more, send)

    server = start(raw(dump))
    place.fail("load")
    assert is_unavailable(use(server, browser))
    assert use(server, browser).body == b'{"a":1}'


async def no_more() -> Message:
    return {"type": "http.disconnect"}


def test_g9_a_stream_that_meets_the_outage_late(
    start: Start, browser: Browser, place: Place
) -> None:
    """Used first in the body, when the load has failed: the stream breaks off with the outage."""
    signed_up(start, browser)

    async def route(request: Request) -> Response:
        session: Session = request.scope["session"]

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            yield str(session["a"]).encode()

        return StreamingResponse(body())

    def make(wrap: Wrap) -> ASGIApp:
        app = Starlette(routes=[Route("/", route)])
        app.add_middleware(wrap)
        return built(app)

    place.fail("load")
    answer = use(start(make), browser)
    assert (answer.status, answer.body) == (200, b"first")
    assert isinstance(answer.error, StoreUnavailable)
