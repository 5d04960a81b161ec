"""Flask-Security keeps user, time of sign-in, CSRF and half a two-factor sign-in in the session."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import sqlalchemy as sa
from flask import Flask, render_template_string
from flask_security import (
    MailUtil,
    Security,
    SQLAlchemyUserDatastore,
    auth_required,
    current_user,
    hash_password,
)
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor, text_of

PASSWORD, NEW_PASSWORD = "a password of some length", "another one of some length"
PAGE = """\
{% for category, message in get_flashed_messages(with_categories=true) %}
<p>{{ category }}: {{ message }}</p>
{% endfor %}
Hello {{ name }}
"""


def fill(app: Flask, folder: Path) -> None:
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/users.db",
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool},
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        SECURITY_CHANGEABLE=True,
        SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["email"],
        SECURITY_TOTP_SECRETS={"1": "a secret for one-time passwords"},
        SECURITY_TOTP_ISSUER="A site",
    )
    database = SQLAlchemy(app)
    fsqla.FsModels.set_db_info(database)

    class Role(database.Model, fsqla.FsRoleMixin):
        pass

    class User(database.Model, fsqla.FsUserMixin):
        pass

    class Mail(MailUtil):
        def send_mail(self, *letter: str, **_: object) -> None:
            (folder / "mail").write_text(letter[4])

    users = SQLAlchemyUserDatastore(database, User, Role)
    app.security = Security(app, users, mail_util_cls=Mail)
    with app.app_context():
        database.create_all()
        if not users.find_user(email="ada@example.org"):
            users.create_user(email="ada@example.org", password=hash_password(PASSWORD))
            database.session.commit()

    @app.get("/")
    def home() -> str:
        name = current_user.email if current_user.is_authenticated else "stranger"
        return render_template_string(PAGE, name=name)

    @app.get("/mail")
    def mail() -> str:
        return (folder / "mail").read_text()

    @app.get("/private")
    @auth_required("session", within=60)
    def private() -> str:
        return "A private page"


def sign_in(browser: Visitor, page: httpx2.Response, password: str) -> httpx2.Response:
    return browser.submit(page, email="ada@example.org", password=password)


def mailed_code(browser: Visitor) -> str:
    """Look into the mailbox; what is in it differs each time, so another browser does."""
    found = re.search(r"\b\d{6}\b", browser.another().get("/mail").text)
    assert found is not None
    return found[0]


def change_password(browser: Visitor) -> None:
    other = browser.another()  # of the same person
    sign_in(other, other.get("/login"), PASSWORD)
    assert other.show("/private") == "A private page"
    wrong = sign_in(browser, browser.get("/private"), "wrong")
    assert "Invalid password" in text_of(wrong)
    assert text_of(sign_in(browser, wrong, PASSWORD)) == "A private page"
    browser.hold("signed in")
    changed = browser.submit(
        browser.get("/change"),
        password=PASSWORD,
        new_password=NEW_PASSWORD,
        new_password_confirm=NEW_PASSWORD,
    )
    assert text_of(changed).startswith("success: You successfully changed your password.")
    browser.hold("changed")
    assert browser.show("/private") == "A private page"
    assert "You must sign in" in other.show("/private")
    browser.press(browser.get("/change"), "/logout")
    assert "You must sign in" in browser.show("/private")


def use_two_factors(browser: Visitor) -> None:
    sign_in(browser, browser.get("/login"), PASSWORD)
    browser.hold("signed in")
    enter = browser.submit(browser.get("/tf-setup"), setup="email")
    browser.submit(enter, code=mailed_code(browser))
    browser.press(browser.get("/change"), "/logout")
    sign_in(browser, browser.get("/login"), PASSWORD)
    browser.hold("half-way")
    assert "You must sign in" in browser.show("/private")
    enter = sign_in(browser, browser.get("/login"), PASSWORD)
    wrong = browser.submit(enter, code="000000")
    assert "Invalid code" in text_of(wrong)
    browser.submit(wrong, code=mailed_code(browser))
    assert browser.show("/private") == "A private page"
    browser.hold("signed in again")


def test_a_changed_password_signs_out_elsewhere_and_not_here(on_flask: OnFlask) -> None:
    """Sign-in, a new password, another browser signed out by it, sign-out: all as before."""
    sites = on_flask(fill)
    sites.drive(change_password)
    ours = sites.ours
    assert ours.id_at("signed in") != ours.id_at("changed")
    assert "A private page" in sites.theirs.thief("changed").show("/private")
    assert "Email Address" in ours.thief("changed").show("/private")


def test_a_sign_in_of_two_factors_spans_two_servers(on_flask: OnFlask) -> None:
    """Each step is remembered by the next server; half-way nobody is signed in."""
    sites = on_flask(fill)
    sites.drive(use_two_factors)
    moments = ("signed in", "half-way", "signed in again")
    assert len({sites.ours.id_at(moment) for moment in moments}) == 3
    for moment in ("signed in", "half-way"):
        assert "Email Address" in sites.ours.thief(moment).show("/private")
