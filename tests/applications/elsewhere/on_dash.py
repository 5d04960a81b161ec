"""Dash; WHOSE is "theirs" (Flask's session) or "ours"."""

from __future__ import annotations

from flask import flash, get_flashed_messages, session

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

THEIRS = {"SharedSession(app.server)": f"app.server.secret_key = {shop.SECRET!r}"}
page = example("Dash", instead=THEIRS if shop.WHOSE == "theirs" else None)


@page.app.server.get("/sign-in/<user>")
def sign_in(user: str) -> str:
    return shop.sign_in(session, user, flash)


@page.app.server.get("/sign-out")
def sign_out() -> str:
    return shop.sign_out(session, flash)


@page.app.server.get("/me")
def me() -> str:
    return shop.me(session, get_flashed_messages)


if __name__ == "__main__":
    shop.serve_wsgi(page.application)
