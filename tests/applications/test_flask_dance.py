"""Flask-Dance keeps its state, its PKCE verifier and the whole OAuth token in the session."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, flash, render_template_string, session
from flask_dance.consumer import OAuth2ConsumerBlueprint, oauth_error

from tests.applications.conftest import FillFlask, OnFlask
from tests.applications.provider import CLIENT, CLIENT_SECRET
from tests.support.visitor import Visitor

PAGE = "{% for message in get_flashed_messages() %}{{ message }} {% endfor %}{{ greeting }}"


def fill_for(address: str) -> FillFlask:
    def fill(app: Flask, folder: Path) -> None:
        dance = OAuth2ConsumerBlueprint(
            "provider",
            "application",
            client_id=CLIENT,
            client_secret=CLIENT_SECRET,
            scope=["openid", "profile"],
            base_url=address,
            authorization_url=f"{address}/authorize",
            token_url=f"{address}/token",
            redirect_to="home",
            use_pkce=True,
        )
        app.register_blueprint(dance, url_prefix="/sign-in")

        @oauth_error.connect_via(dance)
        def refused(blueprint: OAuth2ConsumerBlueprint, error: str, **_: object) -> None:
            flash(f"Refused: {error}.")

        @app.get("/")
        def home() -> str:
            greeting = "Hello stranger"
            if dance.session.authorized:
                greeting = f"Hello {dance.session.get('/userinfo').json()['name']}"
            return render_template_string(PAGE, greeting=greeting)

        @app.get("/sign-out")
        def sign_out() -> str:
            del dance.token
            session.clear()
            return "Good bye"

    return fill


def dance(browser: Visitor) -> None:
    assert browser.show("/") == "Hello stranger"
    asked = browser.submit(browser.get("/sign-in/provider"), password="right")
    assert browser.submit(asked, consent="no").text == "Refused: access_denied. Hello stranger"
    begun = browser.get("/sign-in/provider")
    browser.hold("begun")
    signed_in = browser.submit(begun, consent="yes")
    assert signed_in.text == "Hello Ada"
    browser.hold("signed in")
    assert browser.show("/") == "Hello Ada"
    assert browser.show("/sign-out") == "Good bye"
    assert browser.show("/") == "Hello stranger"


def test_the_dance_begins_at_one_server_and_ends_at_the_other(
    on_flask: OnFlask, openid_provider: str
) -> None:
    """Refusal, the code flow, and requests with the token are as before; the old cookie is dead."""
    sites = on_flask(fill_for(openid_provider))
    sites.drive(dance)
    assert sites.theirs.thief("signed in").show("/") == "Hello Ada"
    assert sites.ours.thief("signed in").show("/") == "Hello stranger"
