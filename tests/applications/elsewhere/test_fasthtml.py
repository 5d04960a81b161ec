"""FastHTML, which adds Starlette's session itself: toasts, and a sign-in under the key ``auth``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.applications.conftest import Sites
from tests.applications.elsewhere.running import sites
from tests.support.visitor import Visitor, text_of


@pytest.fixture(scope="module", params=["ours", "ours in place"])
def on_fasthtml(request: pytest.FixtureRequest) -> Iterator[Sites]:
    """Given as ``sess_cls``, and put in the place of Starlette's class."""
    with sites("applications", "on_fasthtml", request.param) as made:
        yield made


def sign_in_and_out(browser: Visitor) -> None:
    assert "Visit 1" in browser.show("/visit")
    browser.hold("before")
    login = browser.get("/")
    wrong = browser.submit(login, name="ada", password="wrong")
    assert "That is not the password." in text_of(wrong)
    assert "Try again." in text_of(wrong)
    assert "Try again." not in browser.show("/sign-in")
    home = browser.submit(wrong, name="ada", password="right")
    assert "Signed in: ada, 1 visits" in text_of(home)
    assert "Hello, ada." in text_of(home)
    browser.hold("signed in")
    assert "Hello" not in browser.show("/")
    assert "Visit 2" in browser.show("/visit")
    browser.get("/sign-out")
    assert "Signed in" not in browser.show("/")
    browser.hold("signed out")
    assert "Visit 3" in browser.show("/visit")


def test_a_site_with_toasts_at_two_servers(on_fasthtml: Sites) -> None:
    """What a person is shown is as before, and a cookie from before the sign-in signs nobody in."""
    on_fasthtml.drive(sign_in_and_out)
    for browser in on_fasthtml:
        assert "Signed in" not in browser.thief("before").show("/")
    assert on_fasthtml.ours.id_at("before") != on_fasthtml.ours.id_at("signed in")


def test_a_cookie_planted_before_the_sign_in_is_worth_nothing(on_fasthtml: Sites) -> None:
    """While the victim is signed in: as with Starlette's own session, under default settings."""
    for whose in on_fasthtml:
        with whose.another() as victim:
            victim.get("/visit")
            victim.hold("planted")
            victim.submit(victim.get("/sign-in"), name="ada", password="right")
            assert "Signed in: ada" in victim.show("/")
            with victim.thief("planted") as thief:
                assert "Signed in" not in thief.show("/")
