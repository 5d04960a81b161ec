"""Connexion; WHOSE is "theirs" (Flask's session under FlaskApp), "ours", or "async" (AsyncApp)."""

from __future__ import annotations

from connexion import request
from flask import flash, get_flashed_messages, session

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example


def sign_in(user: str) -> str:
    return shop.sign_in(session, user, flash)


def sign_out() -> str:
    return shop.sign_out(session, flash)


def me() -> str:
    return shop.me(session, get_flashed_messages)


async def sign_in_awaited(user: str) -> str:
    return shop.sign_in(request.session, user)


async def sign_out_awaited() -> str:
    return shop.sign_out(request.session)


async def me_awaited() -> str:
    return shop.me(request.session)


text = {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}}
user = {"name": "user", "in": "path", "required": True, "schema": {"type": "string"}}
more = {
    path: {"get": {"operationId": name, "responses": {"200": text}, "parameters": parameters}}
    for path, name, parameters in [
        ("/sign-in/{user}", "sign_in", [user]),
        ("/sign-out", "sign_out", []),
        ("/me", "me", []),
    ]
}
VISITS = 'paths = {"/visits": {"get": {"operationId": "visits", "responses": {"200": text}}}}'
instead = {VISITS: f"{VISITS} | more"}
if shop.WHOSE == "async":
    views = {"sign_in": sign_in_awaited, "sign_out": sign_out_awaited, "me": me_awaited}
    page = example("Connexion", 1, instead, more=more, **views)
else:
    views = {"sign_in": sign_in, "sign_out": sign_out, "me": me}
    if shop.WHOSE == "theirs":
        instead["SharedSession(app.app)"] = f"app.app.secret_key = {shop.SECRET!r}"
    page = example("Connexion", 0, instead, more=more, **views)

if __name__ == "__main__":
    shop.serve_asgi(page.application)
