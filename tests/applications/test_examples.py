"""The examples of docs/frameworks.md whose frameworks are among those of these tests."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from flask import Flask, session
from werkzeug.serving import make_server

from tests.applications.conftest import SECRET
from tests.applications.elsewhere.page import example
from tests.applications.sockets import opened
from tests.support.visitor import HttpServer, Visitor, text_of

# Flask-AppBuilder takes the time in a way that Python 3.12 warns of, and swallows what is raised.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

LIMIT = 10


@pytest.fixture
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Flask]]:
    """The example of a section, twice, on one store; as the page says, from the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("SHAREDSESSION_SECRET_KEY", "FLASK_SECRET_KEY"):
            environment.setenv(name, SECRET)
        environment.setenv("SHAREDSESSION_STORE", f"sqlite:///{tmp_path}/sessions.db?timeout=10")
        environment.setenv("FLASK_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/site.db")
        yield [example(request.param).application for _ in range(2)]


@pytest.mark.parametrize("two", ["Flask-AppBuilder"], indirect=True)
def test_flask_appbuilder_as_the_page_has_it(two: list[Flask]) -> None:
    """Signed in at one server is signed in at both; signed out, too, with the message of it."""
    with two[0].app_context():
        manager = two[0].appbuilder.sm
        manager.add_user("ada", "Ada", "L", "ada@site.test", manager.find_role("Admin"), "right")
    with Visitor(*map(httpx2.WSGITransport, two)) as browser:
        assert "Access is Denied" in browser.show("/users/list/")
        browser.hold("before")
        signed_in = browser.submit(browser.get("/login/"), username="ada", password="right")
        assert "Welcome" in text_of(signed_in)
        browser.hold("signed in")
        assert browser.id_at("before") != browser.id_at("signed in")
        for _ in range(2):
            assert "ada@site.test" in browser.show("/users/list/")
        browser.get("/logout/")
        for moment in ("before", "signed in"):
            with browser.thief(moment) as thief:
                assert "ada@site.test" not in thief.show("/users/list/")


@contextmanager
def served(app: Flask) -> Iterator[HttpServer]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield HttpServer(f"http://127.0.0.1:{server.port}")
    finally:
        server.shutdown()
        thread.join(LIMIT)
        server.server_close()


@pytest.mark.parametrize("two", ["Flask-SocketIO"], indirect=True)
def test_flask_socketio_as_the_page_has_it(two: list[Flask]) -> None:
    """What an event changes is in the session of its browser, at every server."""
    for app in two:

        @app.get("/sign-in")
        def sign_in() -> str:
            session["user_id"] = "ada"
            return "in"

        app.get("/cart")(lambda: session.get("cart", []))

    with ExitStack() as stack:
        servers = [stack.enter_context(served(app)) for app in two]
        browser = stack.enter_context(Visitor(*servers))
        browser.get("/sign-in")
        headers = {"Cookie": f"session={browser.session_cookie}"}
        cart = []
        for server, what in zip(itertools.cycle(servers), ["tea", "lamp", "milk"]):
            address = server.address.replace("http", "ws", 1)
            with opened(f"{address}/socket.io/", headers) as socket:
                cart.append(what)
                assert socket.call("buy", what) == cart
        assert [browser.get("/cart").json() for _ in range(2)] == [cart] * 2
