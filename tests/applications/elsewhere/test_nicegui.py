"""NiceGUI beside our session, and on it: each page has a socket to the server that made it.

``app.storage.browser`` is ``request.session``. ``app.storage.user`` lies in files of the server,
under a number that NiceGUI keeps in the session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.applications.conftest import Sites
from tests.applications.elsewhere.running import sites
from tests.applications.sockets import Socket, opened
from tests.support.visitor import HttpServer, Visitor


@pytest.fixture(scope="module")
def beside() -> Iterator[Sites]:
    with sites("applications", "on_nicegui", "ours beside") as made:
        yield made


@pytest.fixture(scope="module")
def in_place() -> Iterator[Sites]:
    with sites("applications", "on_nicegui", "ours in place") as made:
        yield made


def lines(browser: Visitor) -> list[str]:
    """What a person reads on the page, the next time it is opened."""
    page = browser.get("/", headers={"Accept": "text/markdown"})
    return re.findall(r"^\w.*: .*|^Page .*", page.text, re.MULTILINE)


class Page:
    """The page as a browser has it open: with a socket to the server that it came from."""

    def __init__(self, page: httpx2.Response, socket: Socket) -> None:
        self._client, self._elements, self._socket = *parts(page), socket

    def press(self, label: str) -> str:
        """Press a button; return the text that the server puts into another element then."""
        number, button = next(
            (number, each)
            for number, each in self._elements.items()
            if each.get("props", {}).get("label") == label
        )
        listener = button["events"][0]["listener_id"]
        event = {"id": int(number), "client_id": self._client, "listener_id": listener, "args": []}
        self._socket.emit("event", event)
        (changed,) = self._socket.await_event(lambda name, data: name == "update")
        return next(each["text"] for each in changed.values() if isinstance(each, dict))


def parts(page: httpx2.Response) -> tuple[str, dict[str, Any]]:
    """Return the number of the page and its elements, which a script builds in a browser."""
    (client,) = re.findall(r"'client_id': '([\w-]+)'", page.text)
    (elements,) = re.findall(r"parseElements\(String\.raw`(.*?)`\)", page.text)
    return client, json.loads(elements)


@contextmanager
def opened_page(browser: Visitor) -> Iterator[Page]:
    """Open the page; the balancer has to bring its socket to the server that made it."""
    page = browser.get("/")
    server = browser.last_server
    assert isinstance(server, HttpServer)
    query = {"client_id": parts(page)[0], "implicit_handshake": "true", "next_message_id": "0"}
    url = httpx2.URL(
        f"{server.address.replace('http', 'ws', 1)}/_nicegui_ws/socket.io/",
        params={**query, "tab_id": "the only tab", "document_id": "the only document"},
    )
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)
    with opened(str(url), {"Cookie": cookies}) as socket:
        yield Page(page, socket)


def test_niceguis_own_session_beside_ours(beside: Sites) -> None:
    """Under a cookie name of its own it leaves ours alone, on both servers, and keeps its own."""
    with beside.ours.another() as browser:
        assert browser.get("/sign-in/ada").json() == {"user_id": "ada"}
        browser.hold("signed in")
        for number in (1, 2, 3):
            assert lines(browser)[:2] == [f"Page {number}", "Signed in: None"]
            assert browser.get("/me").json() == {"user_id": "ada"}
        with opened_page(browser) as page:
            assert page.press("Buy") == "Bought: 1"
            assert browser.get("/sign-out").json() == {}
            assert page.press("Buy") == "Bought: 2"
        assert lines(browser)[0] == "Page 5"
        with browser.thief("signed in") as thief:
            assert thief.get("/me").json() == {}


def read_and_sign_out(browser: Visitor) -> None:
    assert lines(browser)[:2] == ["Page 1", "Signed in: None"]
    browser.hold("before")
    assert browser.get("/sign-in/ada").json() == {"number": 1, "user_id": "ada"}
    browser.hold("signed in")
    assert lines(browser)[:2] == ["Page 2", "Signed in: ada"]
    with opened_page(browser) as page:
        assert page.press("Buy") == "Bought: 1"
        assert page.press("Look") == "Seen: ada"
        assert "the response to the browser has already been built" in page.press("Keep")
        assert browser.get("/me").json() == {"number": 3, "user_id": "ada"}
        assert browser.get("/sign-out").json() == {}
        assert page.press("Look") == "Seen: ada"  # the page was made for her
        assert page.press("Buy") == "Bought: 2"
    assert lines(browser) == ["Page 1", "Signed in: None", "Bought: 0"]


def test_niceguis_pages_on_our_session(in_place: Sites) -> None:
    """FastAPI's and NiceGUI's are one session, as before; signing in and out count for both."""
    for whose in (in_place.theirs, in_place.ours):
        with whose.another() as browser:
            read_and_sign_out(browser)
            with browser.thief("signed in") as thief:
                known = "ada" if whose is in_place.theirs else None
                assert lines(thief)[1] == f"Signed in: {known}"
            with browser.thief("before") as thief:
                assert lines(thief)[1] == "Signed in: None"


def test_what_nicegui_keeps_in_its_files_stays_with_its_server(in_place: Sites) -> None:
    """``app.storage.user`` is another one on each server; the session that names it is shared."""
    with in_place.ours.another() as browser:
        browser.get("/sign-in/ada")
        with opened_page(browser) as page:
            page.press("Buy")
        bought = [lines(browser) for _ in range(4)]
    assert [each[:2] for each in bought] == [
        [f"Page {number}", "Signed in: ada"] for number in (2, 3, 4, 5)
    ]
    assert sorted(each[2] for each in bought) == [
        "Bought: 0",
        "Bought: 0",
        "Bought: 1",
        "Bought: 1",
    ]


def test_one_user_after_another_gets_a_storage_of_their_own(in_place: Sites) -> None:
    """The number under which NiceGUI keeps it is one of the things that another user leaves."""
    for whose, left in ((in_place.theirs, "Bought: 1"), (in_place.ours, "Bought: 0")):
        with whose.another() as browser:
            browser.get("/sign-in/ada")
            with opened_page(browser) as page:
                page.press("Buy")
            browser.get("/sign-in/bob")
            for _ in range(2):
                assert lines(browser)[1:] == ["Signed in: bob", left]
