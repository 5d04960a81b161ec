"""The application of these tests in Flask; what the routes do is said in test_every_server.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, session, stream_with_context

from sharedsession.flask import SharedSession
from sharedsession.stores.base import Store
from tests.deployments.shared import PARTS, PAUSE, SECRET, add_one, me

routes = Blueprint("routes", __name__)


@routes.post("/sign-in/<user>")
def sign_in(user: str) -> dict[str, object]:
    session["user_id"] = user
    return me(session)


@routes.post("/count")
def count() -> dict[str, object]:
    session.mutate(add_one)
    return me(session)


@routes.get("/me")
def show() -> dict[str, object]:
    return me(session)


@routes.post("/sign-out")
def sign_out() -> dict[str, object]:
    session.destroy()
    return me({})


@routes.get("/pid")
def pid() -> dict[str, object]:
    time.sleep(PAUSE)
    return me({})


@routes.get("/slow")
def slow() -> Response:
    session["streamed"] = True

    @stream_with_context
    def body() -> Iterator[str]:
        for _ in range(PARTS):
            yield f"{os.getpid()} {session['user_id']}\n"
            time.sleep(PAUSE)

    return Response(body(), mimetype="text/plain")


def make_app(store: str | Store, name: str = "session", timeout: float = 10) -> Flask:
    """Return an application on that store, with a cookie and a namespace of that name."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, SESSION_COOKIE_NAME=name)
    app.register_blueprint(routes)
    SharedSession(app, store=store, namespace=name, store_timeout=timeout)
    return app


app = make_app(os.environ["STORE"])
