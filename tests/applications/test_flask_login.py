"""Flask-Login keeps the user, the login's freshness and the browser's fingerprint in the session.

What it tells people goes through Flask's flash messages, with categories.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, flash, redirect, render_template_string, request, session, url_for
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_fresh,
    login_required,
    login_user,
    logout_user,
)

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor, text_of

# Flask-Login 0.6.3 dates its cookie with utcnow(), which Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:datetime.datetime.utcnow\(\):DeprecationWarning:flask_login.login_manager"
)

PAGE = """\
{% for category, message in get_flashed_messages(with_categories=true) %}
<p>{{ category }}: {{ message }}</p>
{% endfor %}
{{ body|safe }}
"""
LOGIN = """\
<form method=post><input name=name><input name=password>
<input type=checkbox name=remember></form> Please sign in.
"""


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


def fill(app: Flask, folder: Path) -> None:
    logins = LoginManager(app)
    logins.login_view = "sign_in"
    logins.refresh_view = "confirm"
    logins.login_message_category = logins.needs_refresh_message_category = "warning"
    logins.session_protection = "strong"
    logins.user_loader(User)

    def page(body: str) -> str:
        return render_template_string(PAGE, body=body)

    @app.get("/")
    def home() -> str:
        session["visits"] = session.get("visits", 0) + 1
        return page(f"Visit {session['visits']}")

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> Any:
        if request.method == "POST":
            if request.form["password"] == "right":
                login_user(User(request.form["name"]), remember="remember" in request.form)
                flash("You are signed in.", "success")
                return redirect(request.args.get("next") or url_for("home"))
            flash("That is not the password.", "error")
        return page(LOGIN)

    @app.route("/confirm", methods=["GET", "POST"])
    @login_required
    def confirm() -> Any:
        if request.method == "POST":
            confirm_login()
            return redirect(url_for("account"))
        return page("<form method=post><input name=password></form> Is it you?")

    @app.get("/order/<what>")
    def order(what: str) -> str:
        session.setdefault("orders", []).append(what)
        session.modified = True  # for Flask's own
        return page(str(session["orders"]))

    @app.get("/whose")
    def whose() -> str:
        return page(f"{current_user.get_id()} {login_fresh()} {session.get('orders')}")

    @app.get("/private")
    @login_required
    def private() -> str:
        return page("A private page")

    @app.get("/account")
    @fresh_login_required
    def account() -> str:
        return page("Your account")

    @app.get("/sign-out")
    @login_required
    def sign_out() -> Any:
        logout_user()
        flash("You are signed out.", "success")
        return redirect(url_for("home"))


def sign_in_and_out(browser: Visitor) -> None:
    assert browser.show("/") == "Visit 1"
    browser.hold("before")
    login = browser.get("/private")
    assert "warning: Please log in" in text_of(login)
    wrong = browser.submit(login, name="ada", password="wrong")
    assert "error: That is not the password." in text_of(wrong)
    private = text_of(browser.submit(wrong, name="ada", password="right"))
    assert private == "success: You are signed in. A private page"
    browser.hold("signed in")
    assert browser.show("/private") == "A private page"
    assert browser.show("/account") == "Your account"
    assert browser.show("/sign-out") == "success: You are signed out. Visit 2"
    browser.hold("signed out")
    assert "Please sign in." in browser.show("/private")


def be_remembered(browser: Visitor) -> None:
    browser.submit(browser.get("/sign-in"), name="ada", password="right", remember="on")
    browser.close_and_reopen()
    assert browser.show("/private") == "A private page"
    browser.hold("remembered")
    confirm = browser.get("/account")
    assert "warning: Please reauthenticate" in text_of(confirm)
    assert text_of(browser.submit(confirm, password="right")) == "Your account"
    assert browser.show("/account") == "Your account"
    browser.get("/sign-out")
    browser.close_and_reopen()
    assert "Please sign in." in browser.show("/private")


def change_browser(browser: Visitor) -> None:
    browser.submit(browser.get("/sign-in"), name="ada", password="right")
    browser.hold("signed in")
    assert browser.show("/private") == "A private page"
    browser.headers["user-agent"] = "Another browser"
    assert "Please sign in." in browser.show("/private")
    browser.headers["user-agent"] = "A browser"
    assert "Please sign in." in browser.show("/private")


def test_signing_in_and_out(on_flask: OnFlask) -> None:
    """Sign-in, flash messages and sign-out are as before; each changes the ID and ends the old."""
    sites = on_flask(fill)
    sites.drive(sign_in_and_out)
    ours = sites.ours
    assert len({ours.id_at(each) for each in ("before", "signed in", "signed out")}) == 3
    assert sites.theirs.thief("signed in").show("/private") == "A private page"
    assert "Please sign in." in ours.thief("signed in").show("/private")


def test_remember_me_and_fresh_logins(on_flask: OnFlask) -> None:
    """Without its session a browser is remembered, must confirm for the account, and can leave."""
    sites = on_flask(fill, SESSION_PROTECTION="basic")  # "strong" signs the remembered out
    sites.drive(be_remembered)
    assert "Please sign in." in sites.ours.thief("remembered").show("/private")


def test_strong_session_protection(on_flask: OnFlask) -> None:
    """A session that comes from another browser is signed out, and its cookie stays worthless."""
    sites = on_flask(fill)
    sites.drive(change_browser)
    assert "Please sign in." in sites.ours.thief("signed in").show("/private")


@pytest.mark.parametrize("protection", ["basic", "strong"])
@pytest.mark.parametrize("between", ["nothing", "/sign-out"])
def test_one_user_after_another_in_one_browser(
    on_flask: OnFlask, protection: str, between: str
) -> None:
    """The second stays signed in, and fresh, and reads nothing of what the first left.

    Flask-Login assigns `_fresh` and `_id` the values that they had; without them "strong" signs
    the new user out at once. Flask's own session leaves the first user's orders to the second.
    """
    sites = on_flask(fill, SESSION_PROTECTION=protection)
    for browser, left in ((sites.theirs, "['of-ada']"), (sites.ours, "None")):
        browser.submit(browser.get("/sign-in"), name="ada", password="right")
        browser.show("/order/of-ada")
        assert browser.show("/whose") == "ada True ['of-ada']"
        browser.hold("ada")
        if between != "nothing":
            browser.show(between)
        browser.submit(browser.get("/sign-in"), name="bob", password="right")
        for _ in range(3):
            assert browser.show("/whose") == f"bob True {left}"
        assert browser.show("/account") == "Your account"
    assert sites.ours.thief("ada").show("/whose") == "None False None"


def test_what_a_visitor_did_before_signing_in_stays(on_flask: OnFlask) -> None:
    """A cart without an owner goes along, and so it does when the same user signs in again."""

    def story(browser: Visitor) -> None:
        browser.show("/order/before")
        for _ in range(2):
            browser.submit(browser.get("/sign-in"), name="ada", password="right")
            assert browser.show("/whose") == "ada True ['before']"
            browser.show("/sign-out")

    on_flask(fill).drive(story)
