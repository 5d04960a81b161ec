"""sqladmin keeps the administrator and its flash messages in ``request.session``."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend
from sqladmin.flash import Flash
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request

from tests.applications.conftest import OnStarlette
from tests.support.visitor import Visitor, text_of


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Backend(AuthenticationBackend):
    """As in sqladmin's documentation; ``middlewares`` is where it puts Starlette's own session."""

    def __init__(self, middleware: Middleware) -> None:
        self.middlewares = [middleware]

    async def login(self, request: Request) -> bool:
        form = await request.form()
        if form["password"] != "right":
            Flash.error(request, "That is not the password.")
            return False
        request.session.update({"user_id": form["username"]})
        return True

    async def logout(self, request: Request) -> bool:
        request.session.clear()
        return True

    async def authenticate(self, request: Request) -> bool:
        return "user_id" in request.session


def make(middleware: Middleware, folder: Path) -> Starlette:
    engine = sa.create_engine(f"sqlite:///{folder}/books.db", poolclass=sa.NullPool)
    Base.metadata.create_all(engine)

    class BookView(ModelView, model=Book):  # sqladmin notes its engine on the class
        column_list = (Book.id, Book.title)

    app = Starlette()
    Admin(app, engine, authentication_backend=Backend(middleware)).add_view(BookView)
    return app


def administer(browser: Visitor) -> None:
    login = browser.get("/admin/book/list")
    wrong = browser.submit(login, username="ada", password="wrong")
    assert wrong.status_code == 400
    browser.hold("before")
    home = browser.submit(wrong, username="ada", password="right")
    assert "That is not the password." in text_of(home)
    browser.hold("signed in")
    books = browser.submit(browser.get("/admin/book/create"), title="Orlando", save="Save")
    assert "Orlando" in text_of(books)
    books = browser.submit(browser.get("/admin/book/edit/1"), title="The Waves", save="Save")
    assert "The Waves" in text_of(books)
    assert "Orlando" not in text_of(books)
    assert "Password" in browser.show("/admin/logout")
    assert "Password" in browser.show("/admin/book/list")


def test_an_administrator_works_at_two_servers(on_starlette: OnStarlette) -> None:
    """Signing in, a flash message, new and changed rows, signing out: all as before the switch."""
    on_starlette(make).drive(administer)


def test_signing_in_and_out_renews_and_ends_the_session(on_starlette: OnStarlette) -> None:
    """The ID changes at the sign-in, and no cookie from before the sign-out opens a page."""
    sites = on_starlette(make)
    sites.drive(administer)
    assert sites.ours.id_at("before") != sites.ours.id_at("signed in")
    assert "The Waves" in sites.theirs.thief("signed in").show("/admin/book/list")
    assert "Password" in sites.ours.thief("signed in").show("/admin/book/list")
    assert "Password" in sites.ours.thief("before").show("/admin/book/list")
