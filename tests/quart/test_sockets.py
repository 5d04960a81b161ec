"""WebSockets of Quart: loaded, saved and closed by the rules that hold for requests."""

from __future__ import annotations

from typing import Any

import pytest
import quart
from quart.testing.connections import WebsocketResponseError

from sharedsession import LateChange
from sharedsession.testing.stores import Clock
from tests.quart.conftest import MakeSite
from tests.quart.site import Browser, Site, own, put
from tests.support.watched import WatchedStore


async def counting() -> None:
    """Count before the socket is accepted, and with each message."""
    quart.session["n"] = quart.session.get("n", 0) + 1
    while True:
        await quart.websocket.send(str(quart.session["n"]))
        await quart.websocket.receive()
        quart.session["n"] += 1


async def one_answer(socket: Any) -> Any:
    return await socket.receive()


async def three_messages(socket: Any) -> Any:
    said = [await socket.receive()]
    for _ in range(2):
        await socket.send("more")
        said.append(await socket.receive())
    return said


def test_a_socket_reads_and_changes_the_session(browser: Browser) -> None:
    """What it changed is stored when the client has left, too."""
    browser.visit(put(n=1))
    assert browser.talk(counting, three_messages) == ["2", "3", "4"]
    assert browser.see() == {"n": 4}


def test_the_handshake_sets_the_cookie(browser: Browser, store: WatchedStore) -> None:
    """A first session begins when the socket is accepted, before the first message."""
    assert browser.talk(counting, one_answer) == "1"
    assert store.stored == [{"n": 1}]


def test_a_sign_in_after_the_handshake_is_an_error(browser: Browser) -> None:
    """There is no response left that could bring the new cookie."""
    browser.visit(put(n=1))

    async def late() -> None:
        await quart.websocket.send("hi")
        quart.session["user_id"] = 7

    with pytest.raises(LateChange):
        browser.talk(late, one_answer)
    assert browser.see() == {"n": 1}


def test_commit_during_a_socket(browser: Browser, site: Site) -> None:
    """Others see it at once."""
    browser.visit(put(n=1))

    async def view() -> None:
        session = own()
        session["n"] = 2
        await quart.websocket.send("hi")
        session["n"] = 3
        await session.commit()
        await quart.websocket.send("stored")
        await quart.websocket.receive()

    async def client(socket: Any) -> Any:
        await socket.receive()
        await socket.receive()
        return site.store.stored

    assert browser.talk(view, client) == [{"n": 3}]


def test_a_handler_that_fails_stores_nothing_more(make_site: MakeSite) -> None:
    """What was stored when the socket was accepted stays."""
    browser = make_site(PROPAGATE_EXCEPTIONS=False).browser()
    browser.visit(put(n=1))

    async def view() -> None:
        quart.session["n"] = 2
        await quart.websocket.send("hi")
        quart.session["n"] = 3
        raise ZeroDivisionError

    assert browser.talk(view, one_answer) == "hi"
    assert browser.see() == {"n": 2}


def test_a_socket_that_is_refused_sets_cookies_like_a_response(
    browser: Browser, store: WatchedStore
) -> None:
    """Where the server can send one: flashed messages say why."""

    async def view() -> tuple[str, int]:
        quart.session["refused"] = True
        return "no", 401

    with pytest.raises(WebsocketResponseError) as refused:
        browser.talk(view, one_answer)
    assert refused.value.response.status_code == 401
    assert "session=" in refused.value.response.headers["set-cookie"]
    assert store.stored == [{"refused": True}]


def test_an_outage_refuses_the_socket(browser: Browser, store: WatchedStore) -> None:
    """A 503 where the server can send it, at the load and at the accept."""
    browser.visit(put(n=1))
    for verb in ("load", "replace"):
        store.fail(verb)
        with pytest.raises(WebsocketResponseError) as refused:
            browser.talk(counting, one_answer)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "2"
        store.recover()
    assert browser.see() == {"n": 1}


def test_before_websocket_functions_use_the_session(site: Site, browser: Browser) -> None:
    """They come before the handler."""

    @site.app.before_websocket
    async def note() -> None:
        quart.session["noted"] = True

    browser.visit(put(n=1))
    browser.talk(counting, one_answer)
    assert browser.see()["noted"] is True


def test_a_session_that_ended_meanwhile_is_not_revived(site: Site, browser: Browser) -> None:
    """A sign-out during the socket stands."""
    browser.visit(put(user_id=7))
    other = site.browser()
    other.cookie = str(browser.cookie)

    async def view() -> None:
        await quart.websocket.send("hi")
        quart.session["n"] = 1
        await quart.websocket.receive()

    async def sign_out() -> None:
        own().destroy()

    async def client(socket: Any) -> None:
        await socket.receive()
        site.view = sign_out
        await other.ask()

    browser.talk(view, client)
    assert browser.see() == {}
    assert site.store.stored == []


@pytest.mark.parametrize("permanent", [False, True])
def test_the_handshakes_cookie_lasts_as_that_of_a_response(
    permanent: bool, make_site: MakeSite, clock: Clock
) -> None:
    """One of a session that is not permanent ends with the browser, renewed or new."""
    site = make_site(SESSION_REFRESH_EACH_REQUEST=False)
    lasting: list[bool] = []

    async def view() -> tuple[str, int]:
        quart.session["n"] = 1
        if permanent:
            quart.session.permanent = True
        return "no", 401

    browser = site.browser()
    for _ in range(2):
        with pytest.raises(WebsocketResponseError) as refused:
            browser.talk(view, one_answer)
        lasting.append("max-age" in refused.value.response.headers["set-cookie"].lower())
        browser.visit(put(n=2))
        clock.advance(20 * 86_400)
    assert lasting == [permanent] * 2
