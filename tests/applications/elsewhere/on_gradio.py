"""Gradio mounted in FastAPI; WHOSE is "theirs" (Starlette's session) or "ours"."""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import: it tells no one of this

import gradio as gr
from fastapi import Request
from fastapi.responses import PlainTextResponse
from starlette.routing import Route

from sharedsession import LateChange
from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

MOUNT = 'application = gr.mount_gradio_app(app, page, path="/page")'
THEIRS = {
    "app.add_middleware(SessionMiddleware)": "from starlette.middleware import sessions; "
    f"app.add_middleware(sessions.SessionMiddleware, secret_key={shop.SECRET!r})"
}


def more(page: gr.Blocks) -> None:
    """Add an event that wants to change the session."""

    def buy(request: gr.Request) -> str:
        try:
            request.request.session["bought"] = True
        except LateChange:
            return "too late"
        return "bought"

    with page:
        gr.Button("Buy").click(buy, outputs=gr.Textbox(), api_name="buy")


instead = {MOUNT: f"more(page); {MOUNT}"} | (THEIRS if shop.WHOSE == "theirs" else {})
page = example("Gradio", 0, instead, more=more)

with gr.Blocks() as private:
    gr.Markdown("For members")

gr.mount_gradio_app(
    page.app,
    private,
    path="/private",
    auth_dependency=lambda request: request.session.get("user_id"),
)


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
