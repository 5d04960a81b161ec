"""FastHTML as its documentation writes it, with toasts; run with the environment it needs.

WHOSE is "theirs", "ours" (given as ``sess_cls``) or "ours in place" (Starlette's class is ours).
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import uvicorn

from sharedsession.asgi import SessionMiddleware

SECRET = "a secret key that all servers know"
WHOSE, STORE = os.environ["WHOSE"], os.environ["STORE"]

if WHOSE == "ours in place":
    from sharedsession.starlette import install

    install(SECRET, store=STORE)

from fasthtml import common as html  # noqa: E402 - after the lines above
from fasthtml.common import Beforeware, Form, Input, P, Redirect, Titled  # noqa: E402


def before(req, sess) -> Any:
    auth = req.scope["auth"] = sess.get("auth", None)
    return None if auth else Redirect("/sign-in")


own = {"sess_cls": partial(SessionMiddleware, store=STORE)} if WHOSE == "ours" else {}
app = html.FastHTML(
    before=Beforeware(before, skip=["/sign-in", "/pid", "/visit"]),
    secret_key=SECRET,
    session_cookie="session",
    **own,
)
route = app.route
html.setup_toasts(app)


@route("/pid")
def pid() -> Any:
    return html.JSONResponse({"pid": os.getpid()})


@route("/visit")
def visit(session) -> Any:
    session["visits"] = session.get("visits", 0) + 1
    return Titled("Visit", P(f"Visit {session['visits']}"))


@route("/sign-in", methods=["get"])
def login() -> Any:
    return Titled("Sign in", Form(Input(name="name"), Input(name="password"), method="post"))


@route("/sign-in", methods=["post"])
def sign_in(name: str, password: str, sess) -> Any:
    if password != "right":
        html.add_toast(sess, "That is not the password.", "error")
        html.add_toast(sess, "Try again.")
        return Redirect("/sign-in")
    sess["auth"] = name
    html.add_toast(sess, f"Hello, {name}.", "success")
    return Redirect("/")


@route("/")
def home(auth, session) -> Any:
    return Titled("Home", P(f"Signed in: {auth}, {session.get('visits')} visits"))


@route("/sign-out")
def sign_out(sess) -> Any:
    del sess["auth"]
    return Redirect("/sign-in")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
