"""Flask-AppBuilder, translated by Flask-Babel: language, page history and messages in the session.

The application's own pages flash lazily translated texts, as Flask-Login's ``login_message`` is
one, and keep the arguments of a search.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import flask_session
import httpx2
import pytest
import sqlalchemy as sa
from flask import Flask, flash, redirect, request, session
from flask_appbuilder import AppBuilder, BaseView, Model, ModelView, expose, has_access
from flask_appbuilder.models.sqla.base import SQLA
from flask_appbuilder.models.sqla.interface import SQLAInterface
from flask_babel import lazy_gettext
from flask_login import login_required
from sqlalchemy.orm import Mapped, mapped_column

from sharedsession.adopt import FlaskSession
from sharedsession.flask import SharedSession
from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor, text_of

# Flask-AppBuilder takes the time in a way that Python 3.12 warns of, and swallows what is raised.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

UNUSED = (
    "FAB_ADD_MENU_API",
    "FAB_ADD_SECURITY_PERMISSION_VIEW",
    "FAB_ADD_SECURITY_PERMISSION_VIEWS_VIEW",
    "FAB_ADD_SECURITY_VIEW_MENU_VIEW",
)


class Book(Model):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(40), unique=True)


class BookView(ModelView):
    datamodel = SQLAInterface(Book)
    list_columns: ClassVar = ["title"]
    add_columns = edit_columns = list_columns


class OwnPages(BaseView):
    route_base = ""

    @expose("/account")
    @login_required
    def account(self) -> Any:
        flash(lazy_gettext("Password Changed"), "info")
        return redirect("/bookview/list/")

    @expose("/find")
    @has_access
    def find(self) -> str:
        if request.args:
            session["found"] = request.args
        return f"Title: {session['found']['title']}"


def connect(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA synchronous=OFF")  # hundreds of rows, each committed alone
    return connection


def fill(app: Flask, folder: Path) -> None:
    database = folder / "books.db"
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{database}",
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool, "creator": partial(connect, database)},
        LANGUAGES={"en": {"flag": "gb", "name": "English"}, "de": {"flag": "de", "name": "German"}},
        FAB_UPDATE_PERMS=not database.exists(),  # a row for each thing one can do on each page
        FAB_PASSWORD_HASH_METHOD="pbkdf2:sha256:1",
        **dict.fromkeys(UNUSED, False),
    )
    tables = SQLA(app)
    with app.app_context():
        site = AppBuilder(app, tables.session)
        site.add_view(BookView, "Books")
        site.add_view_no_menu(OwnPages)
        site.sm.lm.login_view = "AuthDBView.login"
        site.sm.lm.login_message = lazy_gettext("Access is Denied")
        if app.config["FAB_UPDATE_PERMS"]:
            admin = site.sm.find_role("Admin")
            site.sm.add_user("ada", "Ada", "Lovelace", "ada@site.test", admin, password="right")
        tables.session.remove()


def sign_in(browser: Visitor, path: str, *, name: str = "ada") -> str:
    return text_of(browser.submit(browser.get(path), username=name, password="right"))


def work(browser: Visitor) -> None:
    assert "Access is Denied" in browser.show("/account")
    browser.hold("before")
    assert "Willkommen" in browser.show("/lang/de")
    login = browser.get("/bookview/list/")
    assert "Zugriff verweigert" in text_of(login)
    wrong = browser.submit(login, username="ada", password="wrong")
    assert "Ungültige Anmeldedaten." in text_of(wrong)
    assert "Passwort geändert" in sign_in(browser, "/account")
    browser.hold("signed in")
    assert "Passwort geändert" not in browser.show("/bookview/list/")
    assert browser.show("/find?title=Orlando&title=Flush") == "Title: Orlando"
    assert browser.show("/find") == "Title: Orlando"

    added = browser.submit(browser.get("/bookview/add"), title="Orlando")
    assert "Zeile hinzugefügt" in text_of(added)
    browser.submit(browser.get("/bookview/add"), title="Flush")
    assert "Flush" not in browser.show("/bookview/list/?_flt_0_title=Orl")
    edited = browser.submit(browser.get("/bookview/edit/1"), title="The Waves")
    assert "Zeile geändert" in text_of(edited)
    assert edited.url.params["_flt_0_title"] == "Orl"  # as the page history has it
    assert "Orlando" not in browser.show("/back")
    assert "Changed Row" in text_of(edit_in_english(browser))

    assert "Welcome" in browser.show("/logout/")
    assert "Access is Denied" in browser.show("/bookview/list/")


def edit_in_english(browser: Visitor) -> Any:
    browser.get("/lang/en")
    return browser.submit(browser.get("/bookview/edit/1"), title="Orlando")


def test_a_translated_site_at_two_servers(on_flask: OnFlask) -> None:
    """Language, messages, filters, history and sign-out are as before; the old cookie is dead."""
    sites = on_flask(fill)
    sites.drive(work)
    assert len({sites.ours.id_at(each) for each in ("before", "signed in")}) == 2
    assert "Orlando" in sites.theirs.thief("signed in").show("/bookview/list/")
    for moment in ("before", "signed in"):
        assert "Password" in sites.ours.thief(moment).show("/bookview/list/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")
def test_sessions_in_its_database_come_over(tmp_path: Path) -> None:
    """With one setting those stay signed in whom Flask-Session's table knows, with their language.

    What Airflow's and Superset's sign-in rest on.
    """
    old = Flask("old")
    old.secret_key = "what both of them sign with"
    fill(old, tmp_path)
    old.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=old.extensions["sqlalchemy"])
    flask_session.Session(old)
    before = Visitor(httpx2.WSGITransport(old))
    sign_in(before, "/bookview/list/")
    before.get("/lang/de")
    before.hold("before")

    new = Flask("new")
    new.secret_key = old.secret_key
    fill(new, tmp_path)
    database = f"sqlite:///{tmp_path / 'books.db'}"
    SharedSession(new, store=database, adopt=FlaskSession(database))
    with Visitor(httpx2.WSGITransport(new)) as browser:
        browser.cookies.update(before.cookies)
        added = browser.submit(browser.get("/bookview/add"), title="Orlando")
        assert "Zeile hinzugefügt" in text_of(added)
        assert browser.session_cookie != before.session_cookie
        browser.get("/lang/en")
        assert "Welcome" in browser.show("/logout/")
    with Visitor(httpx2.WSGITransport(new)) as kept:
        kept.cookies.update(before.cookies)
        assert "Enter your login and password" in kept.show("/bookview/list/")
