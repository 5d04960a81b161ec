"""Flask 2.2, the oldest that is served, with Flask-Login and Flask-WTF of its time."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.applications.conftest import Sites
from tests.applications.elsewhere.running import sites
from tests.support.visitor import Visitor, text_of


@pytest.fixture(scope="module")
def on_flask22() -> Iterator[Sites]:
    with sites("flask22", "on_flask22") as made:
        yield made


def sign_in(browser: Visitor, path: str = "/notes") -> httpx2.Response:
    return browser.submit(browser.get(path), name="ada", password="right")


def write_notes(browser: Visitor) -> None:
    assert browser.show("/") == "Visit 1"
    browser.hold("before")
    login = browser.get("/notes")
    assert "message: Please log in" in text_of(login)
    forged = browser.submit(login, name="ada", password="right", csrf_token="made up")
    assert "The CSRF token is invalid." in text_of(forged)
    wrong = browser.submit(login, name="ada", password="wrong")
    assert "error: That is not the password." in text_of(wrong)
    notes = browser.submit(login, name="ada", password="right")
    assert text_of(notes) == "success: You are signed in. ada:"
    browser.hold("signed in")
    assert "Write something." in text_of(browser.submit(notes, text=""))
    for text in ("milk", "bread"):
        notes = browser.submit(notes, text=text)
    assert text_of(notes) == "ada: milk, bread"
    assert browser.show("/sign-out") == "success: You are signed out. Visit 2"
    assert "Please sign in." in browser.show("/notes")


def test_notes_are_written_at_two_servers(on_flask22: Sites) -> None:
    """Forms, flash messages, signing in and out are as before; the old cookies are dead."""
    on_flask22.drive(write_notes)
    assert on_flask22.ours.id_at("before") != on_flask22.ours.id_at("signed in")
    assert "ada:" in on_flask22.theirs.thief("signed in").show("/notes")
    for moment in ("before", "signed in"):
        assert "Please sign in." in on_flask22.ours.thief(moment).show("/notes")


def test_a_permanent_session_has_a_cookie_that_lasts(on_flask22: Sites) -> None:
    """Who stays signed in gets a cookie with an expiry, and who does not gets one without."""
    for path, lasts in (("/sign-in?stay", True), ("/sign-in", False)):
        for whose in on_flask22:
            with whose.another() as browser:
                sign_in(browser, path)
                (cookie,) = browser.cookies.jar
                assert (cookie.expires is not None) is lasts
                assert cookie.has_nonstandard_attr("HttpOnly")


def test_one_user_after_another_in_one_browser(on_flask22: Sites) -> None:
    """The second stays signed in and reads nothing of what the first left."""
    for whose, left in ((on_flask22.theirs, "bob: milk"), (on_flask22.ours, "bob:")):
        with whose.another() as browser:
            browser.submit(sign_in(browser), text="milk")
            browser.show("/sign-out")
            browser.submit(browser.get("/sign-in"), name="bob", password="right")
            for _ in range(2):
                assert browser.show("/notes") == left
