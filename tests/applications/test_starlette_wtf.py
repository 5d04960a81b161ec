"""Starlette-WTF keeps the secret of its forms' CSRF tokens in ``request.session``."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette_wtf import CSRFProtectMiddleware, StarletteForm, csrf_protect
from wtforms import StringField
from wtforms.validators import DataRequired

from tests.applications.conftest import OnStarlette
from tests.support.visitor import Visitor, fields_of, later, text_of


class Note(StarletteForm):
    text = StringField("Text", validators=[DataRequired("Write something.")])


async def write(request: Request) -> Response:
    form = await Note.from_formdata(request)
    if await form.validate_on_submit():
        request.session["notes"] = [*request.session.get("notes", []), form.text.data]
        return RedirectResponse("/notes", 303)
    errors = [*form.errors.get("csrf_token", []), *form.errors.get("text", [])]
    page = f"<form method=post>{form.csrf_token} {form.text}</form> {' '.join(errors)}"
    return HTMLResponse(page, 422 if errors else 200)


@csrf_protect
async def clear(request: Request) -> Response:
    request.session.pop("notes", None)
    return PlainTextResponse("cleared")


async def notes(request: Request) -> Response:
    return PlainTextResponse(", ".join(request.session.get("notes", [])))


def make(session: Middleware, folder: Path) -> Starlette:
    routes = [
        Route("/write", write, methods=["GET", "POST"]),
        Route("/clear", clear, methods=["POST"]),
        Route("/notes", notes),
    ]
    protection = Middleware(CSRFProtectMiddleware, csrf_secret="another secret")
    return Starlette(routes=routes, middleware=[session, protection])


def write_notes(browser: Visitor) -> None:
    first, second = browser.get("/write"), browser.get("/write")  # in two tabs
    assert "Write something." in text_of(browser.submit(first, text=""))
    assert browser.submit(second, text="milk").text == "milk"
    assert browser.submit(first, text="bread").text == "milk, bread"
    assert browser.post("/clear").status_code == 403
    token = fields_of(first)["csrf_token"]
    assert browser.post("/clear", headers={"X-CSRFToken": token}).text == "cleared"
    assert browser.show("/notes") == ""


def forge(browser: Visitor) -> None:
    page = browser.get("/write")
    assert "is missing" in text_of(browser.submit(page, text="milk", csrf_token=""))
    assert "is invalid" in text_of(browser.submit(page, text="milk", csrf_token="made up"))
    foreign = fields_of(browser.another().get("/write"))["csrf_token"]
    assert "do not match" in text_of(browser.submit(page, text="milk", csrf_token=foreign))
    with later(hours=2):
        assert "has expired" in text_of(browser.submit(page, text="milk"))
        assert browser.submit(browser.get("/write"), text="bread").text == "bread"


def test_a_form_made_by_one_server_is_taken_by_the_other(on_starlette: OnStarlette) -> None:
    """Tokens of several tabs stay good from server to server, in the form and in the header."""
    on_starlette(make).drive(write_notes)


def test_a_forged_or_expired_token_is_refused(on_starlette: OnStarlette) -> None:
    """A missing token, a made up one, one of another session and an old one: none is taken."""
    on_starlette(make).drive(forge)
