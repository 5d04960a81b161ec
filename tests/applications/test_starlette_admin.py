"""starlette-admin's AuthProvider keeps who is signed in in ``request.session``."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.contrib.sqla import Admin, ModelView
from starlette_admin.exceptions import LoginFailed

from tests.applications.conftest import OnStarlette
from tests.support.visitor import Visitor, text_of


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Provider(AuthProvider):
    """As in starlette-admin's documentation."""

    async def login(
        self, username: str, password: str, remember_me: bool, request: Request
    ) -> None:
        if password != "right":
            raise LoginFailed("That is not the password.")
        request.session.update({"username": username})

    async def authenticate(self, request: Request) -> AdminUser | None:
        name = request.session.get("username")
        return AdminUser(username=name) if name else None

    async def logout(self, request: Request) -> None:
        request.session.clear()


def make(session: Middleware, folder: Path) -> Starlette:
    engine = sa.create_engine(f"sqlite:///{folder}/books.db", poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    app = Starlette()
    admin = Admin(
        engine, auth_provider=Provider(), middlewares=[session], secret_key="its own secret"
    )
    admin.add_view(ModelView(Book))
    admin.mount_to(app)
    return app


def administer(browser: Visitor) -> None:
    login = browser.get("/admin/book/list")
    wrong = browser.submit(login, username="ada", password="wrong")
    assert "That is not the password." in text_of(wrong)
    books = browser.submit(wrong, username="ada", password="right")
    browser.hold("signed in")
    books = browser.submit(browser.get("/admin/book/create"), title="Orlando")
    assert "Orlando" in text_of(books)
    books = browser.submit(browser.get("/admin/book/edit?pk=1"), title="The Waves")
    assert "The Waves" in text_of(books)
    signed_out = browser.press(books, "/admin/logout")
    assert "Password" in text_of(signed_out)


def test_an_administrator_works_at_two_servers(on_starlette: OnStarlette) -> None:
    """New and changed rows, signing in and out, as before; the old cookie is worth nothing."""
    sites = on_starlette(make, owner_key="username")
    sites.drive(administer)
    assert "The Waves" in sites.theirs.thief("signed in").show("/admin/book/list")
    assert "Password" in sites.ours.thief("signed in").show("/admin/book/list")
