"""The shop as a Flask application. The extension is the one line that sessions take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import flask
from flask import Flask, Response, abort, g, jsonify, redirect, request
from werkzeug.wrappers import Response as Answer

from .._core.session import Session
from ..flask import SharedSession
from . import shop

FRAMEWORK = "Flask"


def session_of() -> Session:
    """Return the session, and note for the balancer how it was met."""
    session = cast(Session, flask.session)  # Flask declares its own type
    came = flask.current_app.config["SESSION_COOKIE_NAME"] in request.cookies
    g.met, g.read = shop.how_met(session, came), shop.how_read(session, came)
    return session


def create_app(
    server: str,
    secret_key: str,
    cookie: str,
    options: Mapping[str, Any],  # Any: settings of several types
) -> Flask:
    """Return the application of the server with that name; ``options`` say where sessions are."""
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SECRET_KEY=secret_key,
        SESSION_COOKIE_NAME=cookie,
        PERMANENT_SESSION_LIFETIME=shop.LIFETIME,
    )
    SharedSession(app, **options)

    def page(session: Session) -> Response:
        return Response(shop.render(server, FRAMEWORK, session, g.met), headers=shop.PAGE.headers)

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers[shop.MET] = g.get("met", shop.UNUSED)
        response.headers[shop.READ] = g.get("read", "")
        return response

    @app.get("/shop")
    def show() -> Response:
        session = session_of()
        shop.visit(session, server)
        return page(session)

    @app.get("/cart")
    def show_cart() -> Response:
        return page(session_of())

    @app.get("/about")
    def about() -> Response:
        return Response(shop.about(server, FRAMEWORK), headers=shop.ABOUT.headers)

    @app.post("/sign-in")
    def sign_in() -> Answer:
        shop.sign_in(session_of(), request.form.get("name", ""))
        return redirect("/shop", 303)

    @app.post("/sign-out")
    def sign_out() -> Answer:
        session_of().destroy()
        return redirect("/shop", 303)

    @app.post("/cart/<product>/<verb>")
    def change_cart(product: str, verb: str) -> Answer:
        if not shop.can_change(product, verb):
            abort(404, "There is no such product or verb.")
        shop.change_cart(session_of(), product, verb)
        return redirect("/shop", 303)

    _add_api(app)
    return app


def _add_api(app: Flask) -> None:
    """Add what the check and the comparison ask for: the session as JSON."""

    @app.get("/api/session")
    def show_session() -> Response:
        return jsonify(dict(session_of()))

    @app.post("/api/count")
    def count() -> Response:
        session = session_of()
        shop.count(session)
        return jsonify(dict(session))

    @app.post("/api/notes/<key>")
    def note(key: str) -> Response:
        session = session_of()
        shop.note(session, key, request.get_data(as_text=True))
        return jsonify(dict(session))
