"""NiceGUI on a FastAPI application that signs people in; run with the environment it needs.

WHOSE is "theirs" (Starlette's session for both), "ours beside" (ours for FastAPI; NiceGUI adds
Starlette's) or "ours in place" (Starlette's class is ours, for both).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from sharedsession.asgi import SessionMiddleware

SECRET = "a secret key that all servers know"
WHOSE, STORE = os.environ["WHOSE"], os.environ["STORE"]
# What NiceGUI itself keeps stays with its server, as on machines that share no disk.
os.environ["NICEGUI_STORAGE_PATH"] = f"{os.environ['FOLDER']}/nicegui-{os.getpid()}"

if WHOSE == "ours in place":
    from sharedsession.starlette import install

    install(SECRET, store=STORE)

from nicegui import app as pages  # noqa: E402 - after the lines above
from nicegui import ui  # noqa: E402
from starlette.middleware import sessions  # noqa: E402

site = FastAPI()
if WHOSE == "ours beside":
    site.add_middleware(SessionMiddleware, secret_key=SECRET, store=STORE)
    cookie = {"session_cookie": "nicegui"}
else:
    site.add_middleware(sessions.SessionMiddleware, secret_key=SECRET)
    cookie = None


@site.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@site.get("/sign-in/{user}")
async def sign_in(user: str, request: Request) -> dict[str, Any]:
    request.session["user_id"] = user
    return seen(request)


@site.get("/me")
async def me(request: Request) -> dict[str, Any]:
    return seen(request)


@site.get("/sign-out")
async def sign_out(request: Request) -> dict[str, Any]:
    request.session.clear()
    return seen(request)


def seen(request: Request) -> dict[str, Any]:
    """The session, but for the number that NiceGUI gives its visitor."""
    return {name: value for name, value in request.session.items() if name != "id"}


@ui.page("/")
def page() -> None:
    number = pages.storage.browser.get("number", 0) + 1
    pages.storage.browser["number"] = number
    ui.label(f"Page {number}")
    ui.label(f"Signed in: {pages.storage.browser.get('user_id')}")
    bought = ui.label(f"Bought: {pages.storage.user.get('bought', 0)}")

    def buy() -> None:
        pages.storage.user["bought"] = pages.storage.user.get("bought", 0) + 1
        bought.set_text(f"Bought: {pages.storage.user['bought']}")

    def look() -> None:
        bought.set_text(f"Seen: {pages.storage.browser.get('user_id')}")

    def keep() -> None:
        try:
            pages.storage.browser["kept"] = True
        except TypeError as error:
            bought.set_text(f"Refused: {error}")

    ui.button("Buy", on_click=buy)
    ui.button("Look", on_click=look)
    ui.button("Keep", on_click=keep)


ui.run_with(
    site,
    storage_secret=SECRET,
    session_middleware_kwargs=cookie,
    markdown=True,
    show_welcome_message=False,
)

if __name__ == "__main__":
    uvicorn.run(site, port=int(sys.argv[1]), log_level="warning")
