"""Two applications in two generations each, by what the environment says; run by real servers.

``GENERATION=old``: on the old package alone. ``new``: the release that is rolled out, which stays
with the old package until ``SWITCH_AT`` and takes its sessions over from then on.
"""

from __future__ import annotations

import os
from typing import Any

import flask_session
import redis
from flask import Flask, session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as CookieMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sharedsession import adopt
from sharedsession.asgi import SessionMiddleware
from sharedsession.flask import SharedSession

SECRET = "what all servers of this test sign with"
URL, SWITCH_AT = os.environ.get("REDIS", ""), os.environ.get("SWITCH_AT", "")
IS_NEW = os.environ.get("GENERATION") == "new"


def flask() -> Flask:
    """Return the application that comes from Flask-Session."""
    app = Flask("shop")
    app.secret_key = SECRET
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(URL))
    flask_session.Session(app)
    if IS_NEW:
        SharedSession(
            app,
            store=URL,
            adopt=adopt.FlaskSession(URL),
            switch_at=SWITCH_AT,
            before=app.session_interface,
        )

    @app.get("/sign-in/<name>")
    def sign_in(name: str) -> dict[str, Any]:
        session.update(user_id=name, count=0)
        return {}

    @app.get("/count")
    def count() -> dict[str, Any]:
        if "user_id" not in session:
            return {"user_id": None}
        session["count"] += 1
        ours = hasattr(session, "handle")
        return {"user_id": session["user_id"], "count": session["count"], "ours": ours}

    return app


def starlette() -> Starlette:
    """Return the application that comes from Starlette's cookie."""
    old = Middleware(CookieMiddleware, secret_key=SECRET)
    new = Middleware(
        SessionMiddleware,
        secret_key=SECRET,
        store=URL,
        adopt=adopt.StarletteCookie(),
        switch_at=SWITCH_AT,
        before=old,
    )

    async def sign_in(request: Request) -> JSONResponse:
        request.session.update(user_id=request.path_params["name"], count=0)
        return JSONResponse({})

    async def count(request: Request) -> JSONResponse:
        if "user_id" not in request.session:
            return JSONResponse({"user_id": None})
        request.session["count"] += 1
        ours = hasattr(request.session, "handle")
        found = {name: request.session[name] for name in ("user_id", "count")}
        return JSONResponse({**found, "ours": ours})

    routes = [Route("/sign-in/{name}", sign_in), Route("/count", count)]
    return Starlette(routes=routes, middleware=[new if IS_NEW else old])
