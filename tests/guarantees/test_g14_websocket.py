"""G14 over WebSocket: sessions are loaded, saved and closed by the same rules."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import LateChange, Session, SessionGone, StoreUnavailable
from tests.guarantees.asgi import Accept, AsgiServer, Close, Receive_, Say
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Browser,
    Commit,
    Gate,
    Hold,
    Reload,
    destroy,
    increment,
    put,
    read,
    sign_in,
)
from tests.guarantees.places import WRITES, Place

Talk = Generator[Any, Any, None]


@pytest.fixture
def pair(sockets: Servers) -> tuple[AsgiServer, AsgiServer]:
    """Two servers."""
    first, second = sockets(2)
    return first, second


Pair = tuple[AsgiServer, AsgiServer]


def receive(session: Session) -> Generator[Any, Any, str]:
    """Wait for the client; end by an exception when it has gone, as most applications do."""
    text = yield Receive_()
    if text is None:
        raise ConnectionResetError("the client has gone")
    assert isinstance(text, str)
    return text


def test_g14_a_socket_reads_and_accepts_with_a_cookie(pair: Pair, browser: Browser) -> None:
    """Loaded at the start, committed at accept: other servers see it while the socket is open."""
    first, second = pair
    first.request(browser, put(a=1))

    def talk(session: Session) -> Talk:
        session["b"] = session["a"] + 1
        session.renew()
        yield Accept()
        while True:
            yield from receive(session)

    socket = first.websocket(browser, talk)
    answer = socket.accept()
    assert len(answer.cookies) == 1
    assert second.request(browser, read).value == {"a": 1, "b": 2}
    assert isinstance(socket.disconnect(), ConnectionResetError)
    assert second.request(browser, read).value == {"a": 1, "b": 2}


def test_g14_a_first_session_by_socket(pair: Pair, browser: Browser) -> None:
    """A client without a cookie gets its session with the handshake's answer."""
    first, second = pair

    def talk(session: Session) -> Talk:
        session["user_id"] = "ada"
        yield Accept()

    socket = first.websocket(browser, talk)
    socket.accept()
    assert socket.ended() is None
    assert second.request(browser, read).value == {"user_id": "ada"}


@pytest.mark.parametrize("ends", ["returns", "raises", "closes"])
def test_g14_what_changed_during_a_socket_is_saved_at_its_end(
    pair: Pair, browser: Browser, place: Place, ends: str
) -> None:
    """Nested changes too, and however the application ends once the client has gone."""
    first, second = pair
    first.request(browser, put(cart=[]))

    def talk(session: Session) -> Talk:
        yield Accept()
        session["cart"].append((yield Receive_()))
        yield Say("noted")
        if ends == "closes":
            yield Close()
        elif ends == "raises":
            yield from receive(session)
        else:
            assert (yield Receive_()) is None

    socket = first.websocket(browser, talk)
    socket.accept()
    socket.send("tea")
    if ends != "closes":
        error = socket.disconnect()
        assert isinstance(error, ConnectionResetError) == (ends == "raises")
    assert ends == "raises" or socket.ended() is None
    assert second.request(browser, read).value == {"cart": ["tea"]}
    assert place.stored == [{"cart": ["tea"]}]


def test_g14_a_crash_while_the_client_is_there_saves_nothing(pair: Pair, browser: Browser) -> None:
    """An exception that has nothing to do with a disconnect commits nothing, and is raised."""
    first, second = pair
    first.request(browser, put(a=1))

    def talk(session: Session) -> Talk:
        yield Accept()
        session["a"] = 2
        raise ZeroDivisionError

    socket = first.websocket(browser, talk)
    assert isinstance(socket.ended(), ZeroDivisionError)
    assert second.request(browser, read).value == {"a": 1}


def test_g14_commit_and_reload_during_a_socket(pair: Pair, browser: Browser) -> None:
    """commit() writes at once, reload() sees what others wrote, increments of both add up."""
    first, second = pair
    first.request(browser, put(n=0))
    written, go_on = Gate(), Gate()

    def talk(session: Session) -> Talk:
        yield Accept()
        increment(session)
        yield Commit()
        written.arrive()
        yield Hold(go_on)
        yield Reload()
        assert session["n"] == 2
        increment(session)

    socket = first.websocket(browser, talk)
    socket.accept()
    written.wait_for()
    assert second.request(browser, increment).value == 2
    go_on.open()
    assert socket.ended() is None
    assert second.request(browser, read).value == {"n": 3}


def test_g14_a_socket_does_not_revive_a_session(pair: Pair, browser: Browser, place: Place) -> None:
    """Signed out while the socket is open: commit() says so, and its end brings nothing back."""
    first, second = pair
    first.request(browser, sign_in("ada"))
    thief = browser.copy()
    gate = Gate()

    def talk(session: Session) -> Talk:
        session.get("user_id")
        yield Accept()
        yield Hold(gate)
        session["a"] = 1
        try:
            yield Commit()
        except SessionGone:
            yield Say("gone")
        session["b"] = 2
        yield from receive(session)

    socket = first.websocket(thief, talk)
    socket.accept()
    second.request(browser, destroy)
    gate.open()
    socket.disconnect()
    assert {"type": "websocket.send", "text": "gone"} in socket.sent
    assert place.stored == []
    assert second.request(thief, read).value == {}


@pytest.mark.parametrize("known", [False, True], ids=["a new session", "another owner"])
def test_g14_signing_in_after_accept_is_an_error(
    pair: Pair, browser: Browser, place: Place, known: bool
) -> None:
    """After the handshake no cookie can be handed out: LateChange, as over HTTP."""
    first, _ = pair
    if known:
        first.request(browser, put(a=1))
    before = place.stored

    def talk(session: Session) -> Talk:
        yield Accept()
        session["user_id"] = "ada"

    socket = first.websocket(browser, talk)
    socket.accept()
    assert isinstance(socket.ended(), LateChange)
    assert place.stored == before


def test_g14_a_socket_that_does_not_use_its_session(
    pair: Pair, browser: Browser, place: Place
) -> None:
    """No write, no cookie; without a cookie, the store is not asked at all."""
    first, _ = pair
    first.request(browser, put(a=1))

    def talk(session: Session) -> Talk:
        yield Accept()

    for client, expected in ((browser, ["load"]), (Browser(), [])):
        place.forget()
        socket = first.websocket(client, talk)
        assert socket.accept().cookies == []
        assert socket.ended() is None
        assert place.verbs == expected


@pytest.mark.parametrize("can_deny", [False, True], ids=["close", "denial response"])
@pytest.mark.parametrize("phase", ["load", "commit"])
def test_g14_a_socket_in_an_outage_is_denied(
    pair: Pair, browser: Browser, place: Place, phase: str, can_deny: bool
) -> None:
    """503 where the server can send it, else close code 1013, try again later; never accepted."""
    first, second = pair
    first.request(browser, put(a=1))
    place.fail(*(["load"] if phase == "load" else WRITES))

    def talk(session: Session) -> Talk:
        session["a"] = 2
        yield Accept()
        yield Say("hello")

    socket = first.websocket(browser, talk, can_deny=can_deny)
    answer = socket.accept()
    socket.ended()
    assert answer.status == (503 if can_deny else 403)
    if can_deny:
        assert answer.all("retry-after")
    else:
        assert [(each["type"], each["code"]) for each in socket.sent] == [("websocket.close", 1013)]
    assert second.request(browser, read).value == {"a": 1}


def test_g14_an_outage_at_the_end_of_a_socket_is_loud(
    pair: Pair, browser: Browser, place: Place
) -> None:
    """What could not be saved at the end is an error that reaches the server."""
    first, _ = pair
    first.request(browser, put(a=1))

    def talk(session: Session) -> Talk:
        session.get("a")
        yield Accept()
        session["a"] = 2
        place.fail(*WRITES)

    socket = first.websocket(browser, talk)
    socket.accept()
    assert isinstance(socket.ended(), StoreUnavailable)
