"""Flask-DebugToolbar shows the session on each page, and stops redirects half-way to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, redirect, session
from flask_debugtoolbar import DebugToolbarExtension

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor


def fill(app: Flask, folder: Path) -> None:
    app.config["DEBUG_TB_PANELS"] = ["flask_debugtoolbar.panels.request_vars.RequestVarsDebugPanel"]
    app.debug = True
    DebugToolbarExtension(app)

    @app.get("/")
    def home() -> str:
        return "<body>Welcome</body>"

    @app.get("/buy")
    def buy() -> Any:
        session["cart"] = ("tea", 2)
        return redirect("/")


def look(browser: Visitor) -> None:
    assert "cart" not in browser.show("/")
    assert "Redirect" in browser.show("/buy")
    assert "'cart' ('tea', 2)" in browser.show("/")


def test_the_toolbar_shows_what_the_other_server_stored(on_flask: OnFlask) -> None:
    """A page that does not use its session shows it all the same, a tuple as a tuple."""
    on_flask(fill).drive(look)
