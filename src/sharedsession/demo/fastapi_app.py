"""The shop as a FastAPI application. The middleware is the one line that sessions take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._core.session import Session
from ..asgi import SessionMiddleware
from . import shop

FRAMEWORK = "FastAPI"


async def session_of(request: Request) -> Session:
    """Return the session, and note for the balancer how it was met."""
    session = cast(Session, request.session)  # Starlette declares a plain dict
    came = request.app.state.cookie in request.cookies
    request.state.met = shop.how_met(session, came)
    request.state.read = shop.how_read(session, came)
    return session


Shared = Annotated[Session, Depends(session_of)]


class Telling:
    """Tells the balancer, in a header, how each request met its session."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                state = scope["state"]
                message["headers"] += [
                    (shop.MET.encode(), state.get("met", shop.UNUSED).encode()),
                    (shop.READ.encode(), state.get("read", "").encode()),
                ]
            await send(message)

        if scope["type"] == "http":
            scope.setdefault("state", {})
            await self.app(scope, receive, telling)
        else:
            await self.app(scope, receive, send)


def create_app(
    server: str,
    secret_key: str,
    cookie: str,
    options: Mapping[str, Any],  # Any: settings of several types
) -> FastAPI:
    """Return the application of the server with that name; ``options`` say where sessions are."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Telling)
    app.add_middleware(
        SessionMiddleware,
        secret_key=secret_key,
        session_cookie=cookie,
        max_age=shop.LIFETIME,
        **options,
    )
    app.state.cookie = cookie

    def page(request: Request, session: Session) -> HTMLResponse:
        html = shop.render(server, FRAMEWORK, session, request.state.met)
        return HTMLResponse(html, headers=shop.PAGE.headers)

    @app.get("/shop")
    async def show(request: Request, session: Shared) -> HTMLResponse:
        shop.visit(session, server)
        return page(request, session)

    @app.get("/cart")
    async def show_cart(request: Request, session: Shared) -> HTMLResponse:
        return page(request, session)

    @app.get("/about")
    async def about() -> HTMLResponse:
        return HTMLResponse(shop.about(server, FRAMEWORK), headers=shop.ABOUT.headers)

    @app.post("/sign-in")
    async def sign_in(session: Shared, name: Annotated[str, Form()] = "") -> RedirectResponse:
        shop.sign_in(session, name)
        return RedirectResponse("/shop", 303)

    @app.post("/sign-out")
    async def sign_out(session: Shared) -> RedirectResponse:
        session.destroy()
        return RedirectResponse("/shop", 303)

    @app.post("/cart/{product}/{verb}")
    async def change_cart(product: str, verb: str, session: Shared) -> RedirectResponse:
        if not shop.can_change(product, verb):
            raise HTTPException(404, "There is no such product or verb.")
        shop.change_cart(session, product, verb)
        return RedirectResponse("/shop", 303)

    @app.get("/api/session")
    async def show_session(session: Shared) -> JSONResponse:
        return JSONResponse(session)

    @app.post("/api/count")
    async def count(session: Shared) -> JSONResponse:
        shop.count(session)
        return JSONResponse(session)

    @app.post("/api/notes/{key}")
    async def note(key: str, request: Request, session: Shared) -> JSONResponse:
        shop.note(session, key, (await request.body()).decode())
        return JSONResponse(session)

    return app
