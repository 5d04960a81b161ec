"""What each server behind the balancers runs; the environment has the settings of its sessions.

Liveness and readiness are those of docs/load-balancers/README.md, read from the page. Every answer
says in a header which server gave it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from sharedsession import Session
from sharedsession.asgi import SessionMiddleware

from .pages import python_of

NAME = os.environ["SERVER"]
VERSION = os.environ["VERSION"]


def seen(session: Session) -> JSONResponse:
    return JSONResponse({"user": session.get("user_id"), "count": session.get("count", 0)})


def count_up(session: Session) -> None:
    session["count"] = session.get("count", 0) + 1


async def read(request: Request) -> JSONResponse:
    return seen(request.session)


async def up(request: Request) -> JSONResponse:
    request.session.mutate(count_up)
    return seen(request.session)


async def up_and_wait(request: Request) -> JSONResponse:
    await request.session.commit(count_up)
    return await wait(request)


async def wait(request: Request) -> JSONResponse:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return seen(request.session)


async def sign_in(request: Request) -> JSONResponse:
    request.session["user_id"] = request.query_params["user"]
    return seen(request.session)


async def sign_out(request: Request) -> JSONResponse:
    request.session.destroy()
    return seen(request.session)


async def plain(request: Request) -> JSONResponse:
    """Use no session; say how the request looks from here."""
    client = request.client.host if request.client else None
    return JSONResponse({"scheme": request.url.scheme, "client": client, "url": str(request.url)})


async def private(request: Request) -> RedirectResponse:
    """Send who is not signed in to the form, with the way back in the address, so many bytes."""
    return RedirectResponse("/login?next=" + "x" * int(request.query_params["size"]), 302)


async def who(request: Request) -> Response:
    """Say whether somebody is signed in, to a balancer that asks before it goes on."""
    return Response(status_code=204 if request.session.get("user_id") else 401)


async def status(request: Request) -> JSONResponse:
    return JSONResponse({}, int(request.query_params["status"]))


async def give_up(scope: Scope, receive: Receive, send: Send) -> None:
    """End the connection: without any answer, or when one has begun."""
    if scope["query_string"] == b"begun":
        length = (b"content-length", b"100000")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
    receive.__self__.transport.abort()  # type: ignore[attr-defined] - uvicorn's connection
    while (await receive())["type"] != "http.disconnect":
        pass


async def socket(websocket: WebSocket) -> None:
    """Count up at each message, and say what the session holds."""
    session: Session = websocket.session  # type: ignore[assignment]
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while await websocket.receive_text():
            await session.commit(count_up)
            await websocket.send_json({"user": session.get("user_id"), "count": session["count"]})


async def counts(request: Request) -> JSONResponse:
    return JSONResponse(
        {
            "pid": os.getpid(),
            "counts": sessions.counts,
            "in_flight": inspected.in_flight - 1,  # without this one
            "asked": inspected.asked,
        }
    )


class Inspected:
    """Counts the requests, and says in each answer who gave it."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self.in_flight = 0
        self.asked: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Server"], headers["X-Version"] = NAME, VERSION
            await send(message)

        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if scope["path"] == "/give-up":
            await give_up(scope, receive, send)
            return
        self.in_flight += 1
        self.asked[scope["path"]] += 1
        try:
            await self._application(scope, receive, named)
        finally:
            self.in_flight -= 1


site = Starlette(
    routes=[
        Route("/session", read),
        Route("/up", up, methods=["POST"]),
        Route("/up-and-wait", up_and_wait, methods=["POST"]),
        Route("/wait", wait),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/plain", plain),
        Route("/private", private),
        Route("/status", status),
        Route("/who", who),
        WebSocketRoute("/socket", socket),
        Route("/counts", counts),
    ]
)
health: dict[str, Any] = {}
exec(compile(python_of("README.md"), "README.md", "exec"), health)
health["add_health"](site)
sessions = SessionMiddleware(site)
app = inspected = Inspected(sessions)
