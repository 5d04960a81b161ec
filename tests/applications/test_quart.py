"""A small application in Quart: its own session before, ours behind two servers after."""

from __future__ import annotations

import pytest
from quart import Quart, Response, flash, get_flashed_messages, redirect, request, session

from sharedsession.quart import SharedSession
from tests.applications.conftest import (
    NewStore,
    Sites,
    expect_worthless_cookies,
    sign_in_and_out,
)
from tests.support.visitor import AsgiServer, Visitor

SECRET = "a secret key that all servers know"
PAGE = """<form method="post" action="/sign-in"><input name="user"></form>
<form method="post" action="/sign-out"></form>"""


def application(**config: object) -> Quart:
    app = Quart("application")
    app.config.update(SECRET_KEY=SECRET, TESTING=True, **config)
    if "SESSION_STORE" in config:
        SharedSession(app)

    @app.get("/")
    async def page() -> str:
        said = " ".join(get_flashed_messages())
        return f"<p>{session.get('user_id', 'stranger')} {session.get('seen', 0)} {said}</p>{PAGE}"

    @app.post("/sign-in")
    async def sign_in() -> Response:
        session["user_id"] = (await request.form)["user"]
        await flash("Welcome")
        return redirect("/")  # type: ignore[return-value]

    @app.get("/look")
    async def look() -> Response:
        session["seen"] = session.get("seen", 0) + 1
        return redirect("/")  # type: ignore[return-value]

    @app.post("/sign-out")
    async def sign_out() -> Response:
        session.clear()
        await flash("Goodbye")
        return redirect("/")  # type: ignore[return-value]

    return app


@pytest.fixture
def sites(new_store: NewStore) -> Sites:
    shared = [AsgiServer(application(SESSION_STORE=new_store())) for _ in range(2)]  # type: ignore[arg-type]
    return Sites(Visitor(AsgiServer(application())), Visitor(*shared))  # type: ignore[arg-type]


def test_a_person_is_shown_the_same(sites: Sites) -> None:
    """Sign-in, flashed messages, a counter and the sign-out, response by response."""
    sites.drive(sign_in_and_out)


def test_a_sign_in_is_a_new_id_and_a_sign_out_ends_it_everywhere(sites: Sites) -> None:
    """A cookie that was read before the sign-in, or copied before the sign-out, is worthless."""
    expect_worthless_cookies(sites)
