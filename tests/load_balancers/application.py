"""What each server behind the balancers runs; the settings of its sessions come from the environment.

Liveness and readiness are those of docs/load-balancers/README.md, read from the page. Every answer
says in a header which server gave it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sharedsession import Session
from sharedsession.asgi import SessionMiddleware

from .pages import python_of

NAME = os.environ["SERVER"]
VERSION = os.environ["VERSION"]

site = FastAPI()
exec(compile(python_of("README.md"), "README.md", "exec"), {"app": site})


def seen(session: Session) -> dict[str, object]:
    return {"user": session.get("user_id"), "count": session.get("count", 0)}


def count_up(session: Session) -> None:
    session["count"] = session.get("count", 0) + 1


@site.get("/session")
async def read(request: Request) -> dict[str, object]:
    return seen(request.session)


@site.post("/up")
async def up(request: Request) -> dict[str, object]:
    request.session.mutate(count_up)
    return seen(request.session)


@site.post("/up-and-wait")
async def up_and_wait(request: Request, seconds: float) -> dict[str, object]:
    await request.session.commit(count_up)
    await asyncio.sleep(seconds)
    return seen(request.session)


@site.post("/sign-in")
async def sign_in(request: Request, user: str) -> dict[str, object]:
    request.session["user_id"] = user
    return seen(request.session)


@site.post("/sign-out")
async def sign_out(request: Request) -> dict[str, object]:
    request.session.destroy()
    return seen(request.session)


@site.get("/wait")
async def wait(request: Request, seconds: float) -> dict[str, object]:
    await asyncio.sleep(seconds)
    return seen(request.session)


@site.get("/plain")
async def plain(request: Request) -> dict[str, object]:
    """Use no session; say how the request looks from here."""
    client = request.client.host if request.client else None
    return {"scheme": request.url.scheme, "client": client, "host": request.headers.get("host")}


@site.get("/counts")
async def counts() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "counts": sessions.counts,
        "in_flight": inspected.in_flight - 1,  # without this one
        "asked": inspected.asked,
    }


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
        self.in_flight += 1
        self.asked[scope["path"]] += 1
        try:
            await self._application(scope, receive, named)
        finally:
            self.in_flight -= 1


sessions = SessionMiddleware(site)
app = inspected = Inspected(sessions)
