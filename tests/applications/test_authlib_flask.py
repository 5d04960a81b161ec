"""Authlib's client for Flask keeps state, nonce and PKCE verifier in the session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from authlib.integrations.flask_client import OAuth, OAuthError
from flask import Flask, redirect, session, url_for

from tests.applications.conftest import FillFlask, OnFlask
from tests.applications.provider import CLIENT, CLIENT_SECRET
from tests.support.visitor import Visitor


def fill_for(provider: str) -> FillFlask:
    def fill(app: Flask, folder: Path) -> None:
        oauth = OAuth(app)
        oauth.register(
            "provider",
            client_id=CLIENT,
            client_secret=CLIENT_SECRET,
            server_metadata_url=f"{provider}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
        )

        @app.get("/")
        def home() -> str:
            return f"Hello {session['user']['name']}" if "user" in session else "Hello stranger"

        @app.get("/sign-in")
        def sign_in() -> Any:
            return oauth.provider.authorize_redirect(url_for("callback", _external=True))

        @app.get("/callback")
        def callback() -> Any:
            try:
                token = oauth.provider.authorize_access_token()
            except OAuthError as refused:
                return f"Refused: {refused.error}", 400
            session["user"] = token["userinfo"]
            return redirect("/")

        @app.get("/sign-out")
        def sign_out() -> Any:
            session.pop("user", None)
            return redirect("/")

    return fill


def sign_in(browser: Visitor) -> None:
    assert browser.show("/") == "Hello stranger"
    asked = browser.submit(browser.get("/sign-in"), password="right")
    signed_in = browser.submit(asked, consent="yes")
    browser.hold("signed in")
    assert signed_in.text == "Hello Ada"
    replayed = browser.get(signed_in.history[0].headers["location"])
    assert replayed.text == "Refused: mismatching_state"
    assert browser.show("/") == "Hello Ada"
    assert browser.show("/sign-out") == "Hello stranger"


def be_refused(browser: Visitor) -> None:
    asked = browser.submit(browser.get("/sign-in"), password="right")
    assert browser.submit(asked, consent="no").text == "Refused: access_denied"
    first, second = browser.get("/sign-in"), browser.get("/sign-in")  # in two tabs
    assert browser.submit(first, consent="yes").text == "Hello Ada"
    assert browser.submit(second, consent="yes").text == "Hello Ada"
    other = browser.another()
    asked = other.submit(other.get("/sign-in"), password="right")
    other.follow_redirects = False
    lure = other.submit(asked, consent="yes").headers["location"]
    assert browser.get(lure).text == "Refused: mismatching_state"


def test_a_sign_in_begun_at_one_server_ends_at_the_other(
    on_flask: OnFlask, openid_provider: str
) -> None:
    """The whole code flow, its callback replayed, and signing out, all as before the switch."""
    sites = on_flask(fill_for(openid_provider))
    sites.drive(sign_in)
    assert sites.theirs.thief("signed in").show("/") == "Hello Ada"
    assert sites.ours.thief("signed in").show("/") == "Hello stranger"


def test_a_callback_of_another_flow_is_refused(on_flask: OnFlask, openid_provider: str) -> None:
    """Consent denied and a stranger's callback are refused; both of two tabs work."""
    on_flask(fill_for(openid_provider)).drive(be_refused)
