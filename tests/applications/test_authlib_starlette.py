"""Authlib's client for Starlette keeps state, nonce and PKCE verifier in ``request.session``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.middleware import Middleware

from tests.applications.conftest import OnStarlette
from tests.applications.provider import CLIENT, CLIENT_SECRET
from tests.support.visitor import Visitor


def make_for(provider: str) -> Any:
    def make(session: Middleware, folder: Path) -> FastAPI:
        app = FastAPI(middleware=[session])
        oauth = OAuth()
        oauth.register(
            "provider",
            client_id=CLIENT,
            client_secret=CLIENT_SECRET,
            server_metadata_url=f"{provider}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
        )

        @app.get("/")
        async def home(request: Request) -> str:
            user = request.session.get("user")
            return f"Hello {user['name']}" if user else "Hello stranger"

        @app.get("/sign-in")
        async def sign_in(request: Request) -> Response:
            answer: Response = await oauth.provider.authorize_redirect(
                request, request.url_for("callback")
            )
            return answer

        @app.get("/callback")
        async def callback(request: Request) -> Response:
            try:
                token = await oauth.provider.authorize_access_token(request)
            except OAuthError as refused:
                return PlainTextResponse(f"Refused: {refused.error}", 400)
            request.session["user"] = token["userinfo"]
            return RedirectResponse("/")

        @app.get("/sign-out")
        async def sign_out(request: Request) -> Response:
            request.session.pop("user", None)
            return RedirectResponse("/")

        return app

    return make


def sign_in(browser: Visitor) -> None:
    assert "stranger" in browser.show("/")
    asked = browser.submit(browser.get("/sign-in"), password="right")
    browser.hold("asked")
    signed_in = browser.submit(asked, consent="yes")
    browser.hold("signed in")
    assert "Hello Ada" in signed_in.text
    replayed = browser.get(signed_in.history[0].headers["location"])
    assert replayed.text == "Refused: mismatching_state"
    assert "Hello Ada" in browser.show("/")
    assert "stranger" in browser.show("/sign-out")


def be_refused(browser: Visitor) -> None:
    asked = browser.submit(browser.get("/sign-in"), password="right")
    assert browser.submit(asked, consent="no").text == "Refused: access_denied"
    first, second = browser.get("/sign-in"), browser.get("/sign-in")  # in two tabs
    assert browser.submit(first, consent="yes").text == "Refused: mismatching_state"
    assert "Hello Ada" in browser.submit(second, consent="yes").text
    other = browser.another()
    asked = other.submit(other.get("/sign-in"), password="right")
    other.follow_redirects = False
    lure = other.submit(asked, consent="yes").headers["location"]
    assert browser.get(lure).text == "Refused: mismatching_state"


def test_a_sign_in_begun_at_one_server_ends_at_the_other(
    on_starlette: OnStarlette, openid_provider: str
) -> None:
    """The whole code flow, its callback replayed, and signing out, all as before the switch."""
    sites = on_starlette(make_for(openid_provider), owner_key="user")
    sites.drive(sign_in)
    assert sites.ours.id_at("asked") != sites.ours.id_at("signed in")
    assert "Hello Ada" in sites.theirs.thief("signed in").show("/")
    assert "stranger" in sites.ours.thief("signed in").show("/")


def test_a_callback_of_another_flow_is_refused(
    on_starlette: OnStarlette, openid_provider: str
) -> None:
    """Consent denied, the older of two tabs, a stranger's callback: refused, and one tab works."""
    on_starlette(make_for(openid_provider)).drive(be_refused)
