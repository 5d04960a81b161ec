"""Flask-SocketIO on real servers: what its events see of ``flask.session``, and what they change.

With ``manage_session=True``, its default, each socket has a copy of the session as its handshake
found it. With False an event opens and saves the session, as a request does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
from flask import Flask, session
from flask_socketio import SocketIO
from werkzeug.serving import make_server

from sharedsession.flask import SharedSession
from sharedsession.stores.sql import SQLStore
from tests.applications.conftest import SECRET
from tests.applications.sockets import opened
from tests.support.visitor import HttpServer, Visitor

LIMIT = 10


def application(*, manage_session: bool, store: SQLStore | None) -> Flask:
    app = Flask("application")
    app.secret_key = SECRET
    if store is not None:
        SharedSession(app, store=store)
    sockets = SocketIO(app, async_mode="threading", manage_session=manage_session)

    @app.get("/sign-in")
    def sign_in() -> dict[str, Any]:
        session["user_id"] = "ada"
        session["cart"] = ["tea"]
        return dict(session)

    @app.get("/buy/<what>")
    def buy(what: str) -> dict[str, Any]:
        session["cart"] = [*session["cart"], what]
        return dict(session)

    @app.get("/sign-out")
    def sign_out() -> dict[str, Any]:
        session.clear()
        return dict(session)

    @app.get("/see")
    def see() -> dict[str, Any]:
        return dict(session)

    @sockets.on("add")
    def add(what: str) -> dict[str, Any]:
        session["cart"].append(what)
        return dict(session)

    @sockets.on("set")
    def set_value(name: str, value: Any) -> dict[str, Any]:
        session[name] = value
        return dict(session)

    sockets.on("see")(lambda: dict(session))
    return app


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


class Person(NamedTuple):
    """Somebody at a browser, with a socket to the first server and one to the last."""

    browser: Visitor
    servers: list[HttpServer]

    def visit(self, path: str) -> Any:
        return self.browser.get(path).json()

    @contextmanager
    def socket(self, server: int) -> Iterator[Callable[..., Any]]:
        """Connect with the cookie of this moment; give what sends an event and has its answer."""
        cookie = self.browser.session_cookie
        headers = {"Cookie": f"session={cookie}"} if cookie else {}
        address = self.servers[server].address.replace("http", "ws", 1)
        with opened(f"{address}/socket.io/", headers) as socket:
            yield socket.call


class People(NamedTuple):
    """One before Flask's own session on one server, one before ours on two."""

    theirs: Person
    ours: Person


@pytest.fixture
def people(request: pytest.FixtureRequest, new_store: Callable[[], SQLStore]) -> Iterator[People]:
    """Before the application with this ``manage_session``."""
    make = partial(application, manage_session=request.param)
    with ExitStack() as stack:

        def person(*apps: Flask) -> Person:
            servers = [stack.enter_context(served(app)) for app in apps]
            return Person(stack.enter_context(Visitor(*servers)), servers)

        yield People(
            person(make(store=None)), person(make(store=new_store()), make(store=new_store()))
        )


SIGNED_IN = {"user_id": "ada", "cart": ["tea"]}


@pytest.mark.parametrize("people", [True], indirect=True)
def test_each_socket_has_a_copy_of_its_own(people: People) -> None:
    """As before: what an event writes, only its own socket sees; HTTP neither gives nor takes."""

    def story(person: Person) -> None:
        assert person.visit("/sign-in") == SIGNED_IN
        with person.socket(0) as first, person.socket(-1) as last:
            assert first("add", "milk")["cart"] == ["tea", "milk"]
            assert first("set", "user_id", "bob")["user_id"] == "bob"
            assert last("see") == SIGNED_IN
            assert person.visit("/buy/bread")["cart"] == ["tea", "bread"]
            assert first("see") == {"user_id": "bob", "cart": ["tea", "milk"]}
            person.visit("/sign-out")
            assert last("see") == SIGNED_IN
            assert person.visit("/see") == {}
            with person.socket(0) as anonymous:
                assert anonymous("set", "seen", 1) == {"seen": 1}
        assert person.visit("/see") == {}

    story(people.theirs)
    story(people.ours)


@pytest.mark.parametrize("people", [False], indirect=True)
def test_events_share_the_session_with_every_server(people: People) -> None:
    """What an event changes was lost with Flask's own session; now all see it, nested or not."""
    for person, shared in ((people.theirs, False), (people.ours, True)):
        person.visit("/sign-in")
        with person.socket(0) as first, person.socket(-1) as last:
            first("set", "colour", "green")
            first("add", "milk")
            changed = {**SIGNED_IN, "cart": ["tea", "milk"], "colour": "green"}
            expected = changed if shared else SIGNED_IN
            assert first("see") == last("see") == person.visit("/see") == expected
            bought = person.visit("/buy/bread")
            assert first("see") == last("see") == (bought if shared else SIGNED_IN)


@pytest.mark.parametrize("people", [False], indirect=True)
def test_who_signs_out_is_signed_out_in_every_open_socket(people: People) -> None:
    """The cookie of a handshake is worthless then; with Flask's own session it went on."""
    for person, left in ((people.theirs, SIGNED_IN), (people.ours, {})):
        person.visit("/sign-in")
        with person.socket(0) as first, person.socket(-1) as last:
            assert first("see") == last("see") == SIGNED_IN
            person.visit("/sign-out")
            assert first("see") == last("see") == left
            assert person.visit("/see") == {}


@pytest.mark.parametrize("people", [False], indirect=True)
def test_who_signs_in_anew_does_so_in_no_open_socket(people: People) -> None:
    """A handshake before the sign-in has the cookie from before it: as before, it sees nobody."""

    def story(person: Person) -> None:
        with person.socket(0) as early:
            person.visit("/sign-in")
            assert early("see") == {}
            with person.socket(-1) as later:
                assert later("see") == SIGNED_IN

    story(people.theirs)
    story(people.ours)
