"""Flask-Admin behind Flask-Login: flash messages, and forms whose CSRF secret is in the session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, redirect, request, url_for
from flask_admin import Admin
from flask_admin.contrib.sqla import ModelView
from flask_admin.form import SecureForm
from flask_babel import Babel
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor, text_of


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


class BookView(ModelView):
    form_base_class = SecureForm

    def is_accessible(self) -> bool:
        return bool(current_user.is_authenticated)

    def inaccessible_callback(self, name: str, **_: object) -> Any:
        return redirect(url_for("sign_in", next=request.url))


def fill(app: Flask, folder: Path) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/books.db"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": sa.NullPool}
    database = SQLAlchemy(app)

    class Book(database.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(40))

    with app.app_context():
        database.create_all()
    LoginManager(app).user_loader(User)
    Babel(app)  # Flask-Admin translates by it, and needs it where it is installed
    Admin(app, name="Library").add_view(BookView(Book, database, name="Books"))

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> Any:
        if request.form.get("password") == "right":
            login_user(User("ada"))
            return redirect(request.args["next"])
        return "<form method=post><input name=password></form> Please sign in."

    @app.get("/sign-out")
    def sign_out() -> str:
        logout_user()
        return "You are signed out."


def administer(browser: Visitor) -> None:
    browser.submit(browser.get("/admin/book/"), password="right")
    browser.hold("signed in")
    create = browser.get("/admin/book/new/")
    refused = browser.submit(create, title="x" * 41)
    assert "Failed to create record." in text_of(refused)
    browser.submit(create, title="Forged", csrf_token="20991231235959##0")
    assert "no items" in browser.show("/admin/book/")
    books = browser.submit(refused, title="Orlando")
    assert "Record was successfully created." in text_of(books)
    assert "Record was" not in browser.show("/admin/book/")
    books = browser.submit(browser.get("/admin/book/edit/?id=1"), title="The Waves")
    assert "Record was successfully saved. " in text_of(books)
    assert "The Waves" in text_of(books)
    browser.get("/sign-out")
    assert "Please sign in." in browser.show("/admin/book/")


def test_an_administrator_works_at_two_servers(on_flask: OnFlask) -> None:
    """Rows, a forged form, messages and the sign-out are as before; the old cookie is dead."""
    sites = on_flask(fill)
    sites.drive(administer)
    assert "The Waves" in sites.theirs.thief("signed in").show("/admin/book/")
    assert "Please sign in." in sites.ours.thief("signed in").show("/admin/book/")
