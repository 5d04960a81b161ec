"""Messages for the next page: Flask's own format, in every framework, lost by no race."""

from __future__ import annotations

from typing import Any

import flask
import pytest

from sharedsession import Session
from tests.guarantees.conftest import FRAMEWORKS, Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Gate,
    Hold,
    destroy,
    put,
    read,
    sign_in,
)
from tests.guarantees.places import Place


def flash(message: Any, category: str = "message") -> Application:
    def application(session: Session) -> None:
        session.flash(message, category)

    return application


def take(*categories: str) -> Application:
    return lambda session: session.take_flashes(*categories)


def test_messages_are_taken_once(servers: Servers, browser: Browser) -> None:
    """In their order, with their categories, by any server; then they are gone, and so is the
    session that held nothing else."""
    first, second = servers()
    first.request(browser, flash("saved"))
    second.request(browser, flash("careful", "warning"))
    assert first.request(browser, take()).value == [("message", "saved"), ("warning", "careful")]
    assert second.request(browser, take()).value == []
    assert second.request(browser, read).value == {}


def test_messages_of_a_category(servers: Servers, browser: Browser) -> None:
    """take_flashes("error", "input") leaves the others; a form's input is a message, too."""
    first, second = servers()
    form = {"email": "ada@example", "tags": ["a", "b"]}
    first.request(browser, flash("saved"))
    first.request(browser, flash("no such address", "error"))
    first.request(browser, flash(form, "input"))
    assert second.request(browser, take("input")).value == [("input", form)]
    assert second.request(browser, take("error", "input")).value == [("error", "no such address")]
    assert second.request(browser, take()).value == [("message", "saved")]


def test_messages_at_once_are_all_kept(servers: Servers, browser: Browser) -> None:
    """Two requests that flash at the same time, and one that takes meanwhile: none is lost, and
    what came after the look is there for the next page."""
    first, second = servers()
    first.request(browser, flash("one"))
    gate = Gate()

    def taking(session: Session) -> Any:
        taken = session.take_flashes()
        yield Hold(gate)
        return taken

    page = first.begin(browser.copy(), taking)
    gate.wait_for()
    second.request(browser, flash("two"))
    gate.open()
    assert page.answer().value == [("message", "one")]
    assert first.request(browser, take()).value == [("message", "two")]


def test_what_is_no_list_of_messages_is_left_alone(servers: Servers, browser: Browser) -> None:
    """A key of that name with something else in it costs no page."""
    first, second = servers()
    first.request(browser, put(_flashes=7))
    assert second.request(browser, take()).value == []


def test_a_farewell_goes_on_under_a_new_id(servers: Servers, browser: Browser) -> None:
    """A message after destroy() is for the next page, in a session of its own."""
    first, second = servers()
    first.request(browser, sign_in("ada"))

    def sign_off(session: Session) -> None:
        destroy(session)
        session.flash("bye")

    thief = browser.copy()
    first.request(browser, sign_off)
    assert second.request(browser, take()).value == [("message", "bye")]
    assert second.request(thief, read).value == {}


@pytest.mark.parametrize("framework", [each for each in FRAMEWORKS if each != "Flask"])
def test_messages_cross_to_flask_and_back(place: Place, browser: Browser, framework: str) -> None:
    """Flask's get_flashed_messages shows what another framework has said, and the other way."""
    servers = Servers(FRAMEWORKS[framework], place)
    (other,) = servers(1)
    (on_flask,) = servers(1, FRAMEWORKS["Flask"])

    def shown(session: Session) -> Any:
        return flask.get_flashed_messages(with_categories=True)

    def flashed(session: Session) -> None:
        flask.flash("from Flask", "info")

    try:
        other.request(browser, flash("to Flask", "warning"))
        assert on_flask.request(browser, shown).value == [("warning", "to Flask")]
        assert other.request(browser, take()).value == []
        on_flask.request(browser, flashed)
        assert other.request(browser, take()).value == [("info", "from Flask")]
        assert on_flask.request(browser, shown).value == []
    finally:
        servers.close()
