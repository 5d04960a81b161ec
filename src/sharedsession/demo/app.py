"""The demo's application: sign-in, a cart, a counter of visits, and one added line.

Nothing in it knows of other servers. Its own name is shown on the page, that is all.
"""

from __future__ import annotations

from typing import cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from ..asgi import SessionMiddleware
from ..session import Session
from . import page

COOKIE = "demo_session"
ANSWERS_SHOWN = 14


def create_app(server: str, secret_key: str, store: str) -> Starlette:
    """Return the application of the server with that name."""
    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/sign-in", sign_in, methods=["POST"]),
            Route("/sign-out", sign_out, methods=["POST"]),
            Route("/cart/{product}/{verb}", change_cart, methods=["POST"]),
            Route("/api/session", show_session),
            Route("/api/count", count, methods=["POST"]),
            Route("/api/notes/{key}", note, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                SessionMiddleware,  # the added line
                secret_key=secret_key,
                store=store,
                session_cookie=COOKIE,
                max_age=3600,
            )
        ],
    )
    app.state.server = server
    return app


def session_of(request: Request) -> Session:
    """Return the session under its own type; Starlette declares a plain dict."""
    return cast(Session, request.session)


async def show_page(request: Request) -> Response:
    """The page, which counts the visit and notes who answered."""
    session = session_of(request)
    lost = session.is_new and COOKIE in request.cookies
    server = request.app.state.server

    def visit(session: Session) -> None:
        session["visits"] = session.get("visits", 0) + 1
        session["answers"] = [*session.get("answers", []), server][-ANSWERS_SHOWN:]

    session.mutate(visit)  # two pages loaded at once: both are counted
    return HTMLResponse(page.render(server, session, lost), headers=page.HEADERS)


async def sign_in(request: Request) -> Response:
    """Sign in: a changed user_id gives the session a new ID by itself."""
    form = await request.form()
    name = str(form.get("name", "")).strip()[:40]
    if name:
        session_of(request)["user_id"] = name
    return RedirectResponse("/", 303)


async def sign_out(request: Request) -> Response:
    """Sign out: the session and all it holds end, on every server."""
    session_of(request).destroy()
    return RedirectResponse("/", 303)


async def change_cart(request: Request) -> Response:
    """Put one into the cart or take one out, also from two tabs at once."""
    product, verb = request.path_params["product"], request.path_params["verb"]
    if product not in page.PRODUCTS or verb not in ("add", "remove"):
        return PlainTextResponse("There is no such product or verb.\n", 404)

    def change(session: Session) -> None:
        cart = session.setdefault("cart", {})
        cart[product] = max(0, cart.get(product, 0) + (1 if verb == "add" else -1))

    session_of(request).mutate(change)
    return RedirectResponse("/", 303)


async def show_session(request: Request) -> Response:
    """The session, read only."""
    return JSONResponse(request.session)


async def count(request: Request) -> Response:
    """Count one up: everybody writes the same key."""

    def one_more(session: Session) -> None:
        session["count"] = session.get("count", 0) + 1

    session_of(request).mutate(one_more)
    return JSONResponse(request.session)


async def note(request: Request) -> Response:
    """Keep the body under a key of its own."""
    request.session[f"note:{request.path_params['key']}"] = (await request.body()).decode()
    return JSONResponse(request.session)
