"""The console, served by the balancer itself: the page at ``/``, its events and its buttons.

Everything but ``/`` and ``/_demo`` goes to the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.responses import Response as Answer
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from . import comparison
from .balancer import TIMEOUT, Balancer
from .feed import Feed
from .lanes import Lanes
from .page import Page
from .servers import DemoError, Process, Server
from .strategies import SHARED, Strategy

PAGE = Page(
    "console.html",
    style="console.css",
    script="console.js",
    policy="connect-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'",
)
TITLES = {
    "local": "{}, nothing shared",
    "sticky": "{}, each with clients of its own",
    "sticky-shared": "One session, {}, one at a time",
    "clustered": "One session, {} with copies",
    "shared": "One session, {}",
}
NEXT = "Each request goes to the next server."
VERBS = ("kill", "pause", "start")
NO_SUCH = "There is no such server or verb.\n"


def render(lanes: Lanes) -> str:
    """Return the console's page."""
    count, strategy = len(lanes.servers), lanes.strategy
    title = TITLES[strategy.name].format("1 server" if count == 1 else f"{count} servers")
    return PAGE.render(
        title=title,
        sentence=strategy.sentence if strategy.is_sticky else f"{NEXT} {strategy.sentence}",
        lanes=lanes.html(),
        **lanes.totals(),
        some="true" if lanes.totals()["missed"] else "false",
    )


def from_here(request: Request) -> bool:
    """Say whether a request comes from our own page, or from no page at all (curl)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _change(request: Request, lanes: Lanes, balancer: Balancer) -> Answer:
    """Do to a server, or to the store, what the page asks for."""
    if not from_here(request):
        return PlainTextResponse("Only the demo's own page may do that.\n", 403)
    process = lanes.processes.get(request.path_params["name"])
    verb = request.path_params["verb"]
    if process is None or verb not in VERBS:
        return PlainTextResponse(NO_SUCH, 404)
    act = {"kill": process.kill, "pause": process.pause, "start": process.launch}[verb]
    try:
        await run_in_threadpool(act)
        balancer.forgive(process.name)
        lanes.tell_states()
        await run_in_threadpool(process.wait_until_ready)
    except DemoError as error:
        return PlainTextResponse(f"{error}\n", 500)
    finally:
        lanes.tell_states()
    return RedirectResponse("/", 303)


def create_console(
    servers: Sequence[Server],
    feed: Feed,
    strategy: Strategy = SHARED,
    cookie: str = "session",
    store: Process | None = None,
    timeout: float = TIMEOUT,
) -> Starlette:
    """Return the balancer, with the console at ``/`` and what it needs under ``/_demo``."""
    lanes = Lanes(servers, feed, strategy, store)
    balancer = Balancer(servers, lanes.tell, strategy, cookie, timeout)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(lanes.keep_looking())
        async with balancer.connected():
            yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    async def show(_: Request) -> Answer:
        return HTMLResponse(render(lanes), headers=PAGE.headers)

    async def compare(_: Request) -> Answer:
        return HTMLResponse(comparison.render(lanes.processes), headers=comparison.PAGE.headers)

    async def describe(_: Request) -> Answer:
        return JSONResponse(lanes.describe())

    class Events:
        """An ASGI application, for its answer has no end of its own."""

        async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
            await feed.watch(lanes.picture, receive, send)

    async def change(request: Request) -> Answer:
        return await _change(request, lanes, balancer)

    async def everywhere(request: Request) -> Answer:
        if not from_here(request):
            return PlainTextResponse("Only the demo's own page may do that.\n", 403)
        action = request.path_params["action"]
        if action not in comparison.ACTIONS:
            return PlainTextResponse("There is no such action.\n", 404)
        return await comparison.everywhere(balancer, action, request.scope)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/compare", compare),
            Route("/_demo/events", Events()),
            Route("/_demo/servers", describe),
            Route("/_demo/servers/{name}/{verb}", change, methods=["POST"]),
            Route("/_demo/everywhere/{action}", everywhere, methods=["POST"]),
            Mount("/", balancer),
        ],
        lifespan=lifespan,
    )
