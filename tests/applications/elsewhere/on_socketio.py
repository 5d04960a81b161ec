"""python-socketio around pages of Starlette."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

page = example("python-socketio")


async def rest(request: Request) -> PlainTextResponse:
    session = request.session
    if request.url.path == "/visits":
        session["visits"] = session.get("visits", 0) + 1
        return PlainTextResponse(f"Visit {session['visits']}")
    return PlainTextResponse(shop.answers_of(session, request.url.path))


for path in ("/visits", "/sign-in/{user}", "/sign-out", "/me"):
    page.pages.router.routes.append(Route(path, rest))


@page.server.event
async def whoami(sid: str) -> Any:
    return (await page.server.get_session(sid))["user_id"]


if __name__ == "__main__":
    shop.serve_asgi(page.application)
