"""Line 29: events of Flask-SocketIO and flask-sock, whose responses reach no client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import socketio
from flask import Flask
from flask.testing import FlaskClient
from flask_sock import Sock
from flask_socketio import SocketIO
from markupsafe import Markup
from websockets.sync.client import ClientConnection, connect
from werkzeug.serving import make_server

from sharedsession import LateChange
from sharedsession.flask import SharedSession
from sharedsession.testing.stores import Clock
from tests.flask.site import SECRET, own, put
from tests.support.watched import WatchedStore

LIMIT = 10
Act = Callable[[Any], Any]


def sign_in(session: Any) -> None:
    session["user_id"] = 2


def sign_out(session: Any) -> None:
    del session["user_id"]


def sign_in_by_name(session: Any) -> None:
    session["username"] = "bob"


def nested(session: Any) -> None:
    session["cart"].append("milk")


def count(session: Any) -> None:
    session.mutate(lambda each: each.update(n=each.get("n", 0) + 1))


def nested_by_function(session: Any) -> None:
    session.mutate(nested)


def commit(act: Act) -> Act:
    def committing(session: Any) -> None:
        act(session)
        session.commit()

    return committing


class Html:
    def __html__(self) -> str:
        return "<b>x</b>"


STORED = {"user_id": 1, "cart": ["tea"]}
KEPT: list[tuple[Act, dict[str, Any]]] = [
    (put(a=1), STORED | {"a": 1}),
    (nested, STORED | {"cart": ["tea", "milk"]}),
    (count, STORED | {"n": 1}),
    (nested_by_function, STORED | {"cart": ["tea", "milk"]}),
    (commit(put(a=1)), STORED | {"a": 1}),
    (put(a=Html()), STORED | {"a": Markup("<b>x</b>")}),  # what only Flask's own session takes
    (lambda session: session.pop("cart"), {"user_id": 1}),
    (lambda session: session.destroy(), {}),
    (lambda session: session.clear(), {}),
]
REFUSED: list[Act] = [
    sign_in,
    sign_out,
    sign_in_by_name,
    commit(sign_in),
    lambda session: session.renew(),
    lambda session: session.mark_authenticated(),
    lambda session: (session.clear(), session.update(a=1)),
]
FIRST: list[Act] = [put(a=1), sign_in, count, commit(put(a=1))]


class Events:
    """An application with routes and with events, which do what the test says."""

    def __init__(self, *, first: str = "SharedSession", **options: Any) -> None:
        self.store = WatchedStore(Clock())
        self.app = Flask("events")
        self.app.secret_key = SECRET
        chosen = {"async_mode": "threading", "manage_session": False, **options}
        if first == "SharedSession":
            SharedSession(self.app, store=self.store)
        self.sio = SocketIO(self.app, **chosen)
        Sock(self.app).route("/sock")(self._talk)
        if first != "SharedSession":
            SharedSession(self.app, store=self.store)
        self.acts: list[Act] = []
        self.errors: list[BaseException] = []
        self.seen: list[Any] = []
        self.app.add_url_rule("/", view_func=self._page)
        self.sio.on("act")(self._act)
        self.sio.on("see")(lambda: dict(flask.session))
        flask.got_request_exception.connect(self._note, self.app)

    def _note(self, app: Flask, exception: BaseException) -> None:
        self.errors.append(exception)

    def _act(self) -> str:
        for act in self.acts:
            self.seen.append(act(own()))
        return "done"

    def _page(self) -> dict[str, Any]:
        for act in self.acts:
            act(own())
        return dict(flask.session)

    def _talk(self, socket: Any) -> None:
        for act in self.acts:
            socket.receive(LIMIT)
            act(own())
            socket.send("done")

    def visit(self, client: FlaskClient, *acts: Act) -> dict[str, Any]:
        self.acts = list(acts)
        found: dict[str, Any] = client.get("/").json
        return found

    def event(self, client: FlaskClient, *acts: Act) -> Any:
        """An event of a socket whose handshake came with the client's cookie."""
        socket = self.sio.test_client(self.app, flask_test_client=client)
        self.acts = list(acts)
        return socket.emit("act", callback=True)


@pytest.fixture(params=["SharedSession", "SocketIO"])
def events(request: pytest.FixtureRequest) -> Events:
    """Whichever extension came first."""
    return Events(first=request.param)


@pytest.mark.parametrize(("act", "expected"), KEPT)
def test_an_event_changes_a_living_session(
    events: Events, act: Act, expected: dict[str, Any]
) -> None:
    """Top-level, nested, by a function, by commit(); an end as well. The old cookie finds it."""
    client = events.app.test_client()
    events.visit(client, put(**STORED))
    assert events.event(client, act) == "done"
    assert events.store.stored == ([expected] if expected else [])
    assert events.visit(client) == expected


@pytest.mark.parametrize("act", REFUSED)
def test_an_event_that_would_need_a_new_cookie_raises(events: Events, act: Act) -> None:
    """A sign-in, a sign-out, a renewal: LateChange, and the session is what it was."""
    client = events.app.test_client()
    events.visit(client, put(**STORED))
    with pytest.raises(LateChange, match="before the response starts"):
        events.event(client, act)
    assert events.store.stored == [STORED]
    assert events.visit(client) == STORED


@pytest.mark.parametrize("act", FIRST)
def test_an_event_cannot_make_a_first_session(events: Events, act: Act) -> None:
    """LateChange, and no row that no client will ever ask for."""
    with pytest.raises(LateChange):
        events.event(events.app.test_client(), act)
    assert events.store.stored == []


def test_an_event_reads_what_http_wrote_meanwhile(events: Events) -> None:
    """Each event opens the session anew, by the cookie of its handshake; so does HTTP."""
    client = events.app.test_client()
    events.visit(client, put(n=1))
    socket = events.sio.test_client(events.app, flask_test_client=client)
    events.visit(client, put(n=2))
    assert socket.emit("see", callback=True) == {"n": 2}
    events.acts = [count]
    socket.emit("act", callback=True)
    assert events.visit(client) == {"n": 3}


def test_an_event_in_an_outage_raises(events: Events) -> None:
    """Neither read nor written: the outage, in the handler's place."""
    client = events.app.test_client()
    events.visit(client, put(n=1))
    events.store.fail("replace")
    with pytest.raises(Exception, match="tests' own"):
        events.event(client, put(n=2))


def test_a_session_kept_after_its_event_cannot_be_changed(events: Events) -> None:
    """What a background task of the event puts into it would be lost."""
    client = events.app.test_client()
    events.visit(client, put(n=1))
    kept: list[Any] = []
    events.event(client, put(n=2), kept.append)
    with pytest.raises(LateChange):
        kept[0]["n"] = 3
    assert kept[0]["n"] == 2


@pytest.mark.parametrize("first", ["SharedSession", "SocketIO"])
def test_a_session_that_flask_socketio_manages(first: str) -> None:
    """manage_session=True, its default: a copy for each socket, and nothing of it is stored."""
    events = Events(first=first, manage_session=True)
    client = events.app.test_client()
    events.visit(client, put(n=1))
    socket = events.sio.test_client(events.app, flask_test_client=client)
    events.acts = [put(n=2), sign_in]
    assert socket.emit("act", callback=True) == "done"
    assert socket.emit("see", callback=True) == {"n": 2, "user_id": 2}
    assert events.visit(client) == {"n": 1}
    assert events.store.stored == [{"n": 1}]


# --- a real server --------------------------------------------------------------------------------


class Served:
    """The application on a server of its own, whose browser has a session."""

    def __init__(self, events: Events) -> None:
        self.events, self.client = events, events.app.test_client()
        self._server = make_server("127.0.0.1", 0, events.app, threaded=True)
        self.address = f"127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    @property
    def headers(self) -> dict[str, str]:
        cookie = self.client.get_cookie("session")
        return {} if cookie is None else {"Cookie": f"session={cookie.value}"}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(LIMIT)
        self._server.server_close()


@pytest.fixture
def served(events: Events) -> Iterator[Served]:
    serving = Served(events)
    yield serving
    serving.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the client's own sockets
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_events_by_a_real_client(served: Served, transport: str) -> None:
    """The handshake's environment has passed our wrapper, or is still in it: still no response."""
    events, raised = served.events, threading.Event()
    events.visit(served.client, put(**STORED))

    def failing(session: Any) -> None:
        try:
            act = sign_in if session.get("user_id") else put(a=1)
            commit(act)(session)
        except LateChange:
            raised.set()
            session.reload()

    with socketio.SimpleClient() as client:
        client.connect(f"http://{served.address}", headers=served.headers, transports=[transport])
        events.acts = [nested]
        assert client.call("act", timeout=LIMIT) == "done"
        events.acts = [failing]
        assert client.call("act", timeout=LIMIT) == "done"
    assert raised.is_set()
    assert events.store.stored == [STORED | {"cart": ["tea", "milk"]}]


def talk(served: Served, acts: list[Act]) -> None:
    """Let the handler of a WebSocket do this, and wait for its end."""
    served.events.acts = acts
    socket: ClientConnection
    with connect(f"ws://{served.address}/sock", additional_headers=served.headers) as socket:
        for _ in acts:
            socket.send("go on")
            assert socket.recv(LIMIT) == "done"
        while True:  # until the server, having saved the session or not, hangs up
            try:
                socket.recv(LIMIT)
            except Exception:  # noqa: BLE001 - closed, in order or not
                break


def test_flask_sock_stores_changes_when_its_handler_ends(served: Served) -> None:
    """Of a living session; by commit(), while the socket is open."""
    events = served.events
    events.visit(served.client, put(**STORED))
    talk(served, [nested, commit(put(a=1)), lambda session: session.update(b=2)])
    served.close()
    assert events.store.stored == [STORED | {"cart": ["tea", "milk"], "a": 1, "b": 2}]
    assert events.errors == []


@pytest.mark.parametrize("known", [True, False], ids=["sign-in", "first session"])
def test_flask_sock_cannot_set_a_cookie(served: Served, known: bool) -> None:
    """LateChange, reported as Flask reports the error of a view; no orphan in the store."""
    events = served.events
    if known:
        events.visit(served.client, put(**STORED))
    talk(served, [sign_in])
    served.close()
    assert [type(each) for each in events.errors] == [LateChange]
    assert events.store.stored == ([STORED] if known else [])


# --- responses that do reach somebody -------------------------------------------------------------


def test_a_response_saved_by_hand_in_a_view() -> None:
    """The view's own response is the one that is sent."""
    events = Events()

    def page() -> flask.Response:
        flask.session["a"] = 1
        response = flask.make_response("page")
        events.app.session_interface.save_session(events.app, own(), response)
        return response

    events.app.add_url_rule("/by-hand", view_func=page)
    client = events.app.test_client()
    assert "Set-Cookie" in client.get("/by-hand").headers
    assert events.visit(client) == {"a": 1}


@pytest.mark.parametrize("whose", ["the context's", "opened by hand"])
def test_a_response_saved_by_hand_in_a_test(whose: str) -> None:
    """Whoever makes a context for a test has its response, and the cookie in it."""
    events = Events()
    app = events.app
    with app.test_request_context():
        session = own()
        if whose == "opened by hand":
            session = app.session_interface.open_session(app, flask.request)
        session["a"] = 1
        response = app.response_class()
        app.session_interface.save_session(app, session, response)
    assert "session=" in response.headers["Set-Cookie"]
    with app.test_request_context():
        flask.session["b"] = 1
        assert "Set-Cookie" in app.process_response(app.response_class()).headers
        flask.session["c"] = 1
        assert app.full_dispatch_request().status_code == 200


def test_a_session_transaction_beside_sockets(events: Events) -> None:
    """Flask's test client takes the cookie from the response that it made up."""
    client = events.app.test_client()
    with client.session_transaction() as session:
        session["user_id"] = 1
    assert events.visit(client) == {"user_id": 1}
    assert events.event(client, put(a=1)) == "done"
    with client.session_transaction() as session:
        assert dict(session) == {"user_id": 1, "a": 1}
