"""One application twice: on its framework's own session, and on ours behind two servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from flask import Flask
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as CookieSessionMiddleware
from starlette.types import ASGIApp

from sharedsession.asgi import SessionMiddleware
from sharedsession.flask import SharedSession
from sharedsession.stores.sql import SQLStore
from tests.applications.provider import provider
from tests.support.visitor import AsgiServer, Visitor

SECRET = "a secret key that all servers know"

MakeAsgi = Callable[[Middleware, Path], ASGIApp]
FillFlask = Callable[[Flask, Path], None]
OnFlask = Callable[..., "Sites"]  # of a FillFlask, and configuration for ours
NewStore = Callable[[], SQLStore]  # with nothing in common but one file
OnStarlette = Callable[..., "Sites"]  # of a MakeAsgi, and settings for ours


class Sites(NamedTuple):
    """A browser before each: ``theirs`` is one server, ``ours`` two that take turns."""

    theirs: Visitor
    ours: Visitor

    def drive(self, drive: Callable[[Visitor], None]) -> None:
        """Do the same on both; a person must be shown the same, response by response."""
        drive(self.theirs)
        drive(self.ours)
        assert self.ours.shown == self.theirs.shown


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders for what the applications themselves store, theirs and ours."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    return theirs, ours


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], SQLStore]]:
    """Makes stores that have nothing in common but one file."""
    made: list[SQLStore] = []

    def make() -> SQLStore:
        made.append(SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", timeout=10))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def on_starlette(
    folders: tuple[Path, Path], new_store: Callable[[], SQLStore]
) -> Iterator[OnStarlette]:
    """Put an ASGI application on Starlette's own session, and on ours."""
    opened: list[Visitor] = []

    def sites(make: MakeAsgi, **settings: object) -> Sites:
        own = Middleware(CookieSessionMiddleware, secret_key=SECRET)
        shared = [
            Middleware(
                SessionMiddleware,
                secret_key=SECRET,
                store=new_store(),
                store_timeout=10,
                **settings,
            )
            for _ in range(2)
        ]
        opened.append(Visitor(AsgiServer(make(own, folders[0]))))
        opened.append(Visitor(*(AsgiServer(make(each, folders[1])) for each in shared)))
        return Sites(*opened)

    yield sites
    for browser in opened:
        browser.close()


@pytest.fixture
def on_flask(folders: tuple[Path, Path], new_store: Callable[[], SQLStore]) -> Iterator[OnFlask]:
    """Put a Flask application on Flask's own session, and on ours."""
    opened: list[Visitor] = []

    def server(fill: FillFlask, folder: Path, **config: object) -> httpx2.WSGITransport:
        app = Flask("application")
        app.config.update(SECRET_KEY=SECRET, TESTING=True, **config)
        if "SESSION_STORE" in config:
            SharedSession(app)
        fill(app, folder)
        return httpx2.WSGITransport(app)

    def sites(fill: FillFlask, **config: object) -> Sites:
        shared = [server(fill, folders[1], SESSION_STORE=new_store(), **config) for _ in range(2)]
        opened.append(Visitor(server(fill, folders[0], **config)))
        opened.append(Visitor(*shared))
        return Sites(*opened)

    yield sites
    for browser in opened:
        browser.close()


@pytest.fixture(scope="module")
def openid_provider() -> Iterator[str]:
    """The address of an OpenID provider on this machine."""
    with pytest.MonkeyPatch.context() as environment, provider() as address:
        environment.setenv("no_proxy", "127.0.0.1")
        environment.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # plain http, on loopback only
        environment.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        yield address


def sign_in_and_out(visitor: Visitor) -> None:
    """What a person does at a small site: looks, signs in, is greeted once, signs out."""
    visitor.show("/look")
    visitor.hold("a visitor")
    page = visitor.submit(visitor.get("/"), user="ada")
    assert "ada 1 Welcome" in page.text
    visitor.hold("signed in")
    assert "Welcome" not in visitor.show("/")
    visitor.show("/look")
    assert "stranger 0 Goodbye" in visitor.press(visitor.get("/"), "/sign-out").text
    visitor.show("/")


def expect_worthless_cookies(sites: Sites) -> None:
    """Those from before a sign-in, or copied before the sign-out, sign in no one."""
    sign_in_and_out(sites.ours)
    assert sites.ours.id_at("a visitor") != sites.ours.id_at("signed in")
    for moment in ("a visitor", "signed in"):
        assert "stranger 0" in sites.ours.thief(moment).show("/")
