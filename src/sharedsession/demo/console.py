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

from .balancer import Balancer
from .feed import Feed
from .lanes import Lanes
from .page import Page
from .servers import DemoError, Server

PAGE = Page(
    "console.html",
    style="console.css",
    script="console.js",
    policy="connect-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'",
)
SHARED = "One session, {}", "All of them share one store, so each of them finds the session."
LOCAL = "{}, nothing shared", "Each keeps sessions in its own memory; the others do not find them."


def render(lanes: Lanes, *, shared: bool) -> str:
    """Return the console's page."""
    title, sentence = SHARED if shared else LOCAL
    count = len(lanes.servers)
    return PAGE.render(
        title=title.format("1 server" if count == 1 else f"{count} servers"),
        sentence=sentence,
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


def create_console(servers: Sequence[Server], feed: Feed, *, shared: bool) -> Starlette:
    """Return the balancer, with the console at ``/`` and what it needs under ``/_demo``."""
    lanes = Lanes(servers, feed)
    balancer = Balancer(servers, lanes.tell)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(lanes.keep_looking())
        async with balancer.connected():
            yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    async def show(_: Request) -> Answer:
        return HTMLResponse(render(lanes, shared=shared), headers=PAGE.headers)

    async def describe(_: Request) -> Answer:
        return JSONResponse(lanes.describe())

    class Events:
        """An ASGI application, for its answer has no end of its own."""

        async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
            await feed.watch(lanes.picture, receive, send)

    async def change(request: Request) -> Answer:
        if not from_here(request):
            return PlainTextResponse("Only the demo's own page may do that.\n", 403)
        server = lanes.servers.get(request.path_params["name"])
        verb = request.path_params["verb"]
        if server is None or verb not in ("kill", "start"):
            return PlainTextResponse("There is no such server or verb.\n", 404)
        try:
            await run_in_threadpool(server.kill if verb == "kill" else server.launch)
            lanes.tell_states()
            await run_in_threadpool(server.wait_until_ready)
        except DemoError as error:
            return PlainTextResponse(f"{error}\n", 500)
        finally:
            lanes.tell_states()
        return RedirectResponse("/", 303)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/_demo/events", Events()),
            Route("/_demo/servers", describe),
            Route("/_demo/servers/{name}/{verb}", change, methods=["POST"]),
            Mount("/", balancer),
        ],
        lifespan=lifespan,
    )
