"""Gradio mounted in FastAPI; WHOSE is "theirs" (Starlette's session) or "ours"."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import PlainTextResponse
from starlette.routing import Route

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

THEIRS = {
    "app.add_middleware(SessionMiddleware)": "from starlette.middleware import sessions; "
    f"app.add_middleware(sessions.SessionMiddleware, secret_key={shop.SECRET!r})"
}
page = example("Gradio", instead=THEIRS if shop.WHOSE == "theirs" else None)


async def rest(request: Request) -> PlainTextResponse:
    session = request.session
    if request.url.path == "/visits":
        session["visits"] = session.get("visits", 0) + 1
        return PlainTextResponse(f"Visit {session['visits']}")
    return PlainTextResponse(shop.answers_of(session, request.url.path))


for path in ("/visits", "/sign-in/{user}", "/sign-out", "/me"):
    page.app.router.routes.append(Route(path, rest))

if __name__ == "__main__":
    shop.serve_asgi(page.application)
