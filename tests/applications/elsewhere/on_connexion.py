"""Connexion; WHOSE is "theirs" (Flask's session under FlaskApp), "ours", or "async" (AsyncApp)."""

from __future__ import annotations

from typing import Any

import connexion
from flask import flash, get_flashed_messages, session

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

ASYNC = shop.WHOSE == "async"
THEIRS = {"SharedSession(app.app)": f"app.app.secret_key = {shop.SECRET!r}"}
page = example("Connexion", int(ASYNC), THEIRS if shop.WHOSE == "theirs" else None)


def with_flask(user: str | None = None) -> Any:
    path = connexion.request.path
    if path == "/me":
        text = shop.me(session, get_flashed_messages)
    elif path == "/sign-out":
        text = shop.sign_out(session, flash)
    else:
        text = shop.sign_in(session, path.rpartition("/")[2], flash)
    return text, 200, {"Content-Type": "text/plain"}


async def awaited(user: str | None = None) -> Any:
    request = connexion.request
    text = shop.answers_of(request.session, request.scope["path"])
    return text, 200, {"Content-Type": "text/plain"}


operation = {**page.operation, "operationId": "rest"}
of_user = {"name": "user", "in": "path", "required": True, "schema": {"type": "string"}}
paths = {each: {"get": operation} for each in ("/me", "/sign-out")}
paths["/sign-in/{user}"] = {"get": {**operation, "parameters": [of_user]}}
page.app.add_api(
    {**page.about, "paths": paths},
    base_path="/shop",
    name="rest",
    resolver=connexion.Resolver({"rest": awaited if ASYNC else with_flask}.get),
)

if __name__ == "__main__":
    shop.serve_asgi(page.application)
