"""G11: what one framework wrote, another reads: same store, same cookie, same data, same types."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest
from markupsafe import Markup
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

from tests.guarantees.conftest import FRAMEWORKS, Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    append,
    destroy,
    handle,
    increment,
    put,
    read,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place
from tests.guarantees.test_g12_types import VALUES, same

PAIRS = list(permutations(FRAMEWORKS, 2))


@pytest.fixture
def servers(place: Place) -> object:
    """Servers of whatever framework a test asks for."""
    starting = Servers(FRAMEWORKS["ASGI"], place)
    yield starting
    starting.close()


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_g11_every_type_crosses(
    servers: Servers, browser: Browser, writer: str, reader: str
) -> None:
    """All types of G12, written by the one and read by the other, and back again."""
    (one,) = servers(1, FRAMEWORKS[writer])
    (other,) = servers(1, FRAMEWORKS[reader])
    one.request(browser, put(**VALUES))
    found = other.request(browser, read).value
    assert same(found, VALUES)
    back = {f"{name} back": value for name, value in found.items()}
    other.request(browser, put(**back))
    assert same(one.request(browser, read).value, {**VALUES, **back})


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_g11_one_session_for_both(
    servers: Servers, browser: Browser, place: Place, writer: str, reader: str
) -> None:
    """Signed in at one is signed in at the other, in the same session; so is signed out."""
    (one,) = servers(1, FRAMEWORKS[writer])
    (other,) = servers(1, FRAMEWORKS[reader])
    one.request(browser, sign_in("ada"))
    assert other.request(browser, handle).value == one.request(browser, handle).value
    steps: list[Application] = [increment, append("cart", "tea"), renew, increment, put(a=1)]
    for number, step in enumerate(steps):
        (one, other)[number % 2].request(browser, step)
    expected = {"user_id": "ada", "n": 2, "cart": ["tea"], "a": 1}
    assert one.request(browser, read).value == other.request(browser, read).value == expected
    thief = browser.copy()
    other.request(browser, sign_out)
    assert one.request(thief, read).value == {}
    one.request(browser, destroy)
    assert other.request(browser, read).value == {}
    assert place.stored == []


class Translated:
    """A lazily translated text, which only Flask's own session could hold."""

    def __html__(self) -> str:
        return "Gespeichert"


@dataclass
class Point:
    x: int


ONLY_FLASK: dict[str, tuple[Any, Any]] = {
    "args": (MultiDict([("city", "Oslo"), ("city", "Bergen")]), {"city": "Oslo"}),
    "flashes": ([("message", Translated())], [("message", Markup("Gespeichert"))]),
    "point": ({"at": [Point(1)]}, {"at": [{"x": 1}]}),
    "profile": (LocalProxy(lambda: {"name": "ada"}), {"name": "ada"}),
}


@pytest.mark.parametrize("reader", [name for name in FRAMEWORKS if name != "Flask"])
def test_g11_what_only_flask_could_hold_crosses(
    servers: Servers, browser: Browser, place: Place, reader: str
) -> None:
    """Read as the plain values that it was stored as; to read it writes nothing."""
    (one,) = servers(1, FRAMEWORKS["Flask"])
    (other,) = servers(1, FRAMEWORKS[reader])
    one.request(browser, put(**{name: value for name, (value, _) in ONLY_FLASK.items()}))
    place.forget()
    found = other.request(browser, read).value
    assert same(found, {name: plain for name, (_, plain) in ONLY_FLASK.items()})
    assert place.writes == []
    other.request(browser, append("cart", "tea"))
    assert one.request(browser, read).value == {**found, "cart": ["tea"]}


def test_g11_two_applications_stay_apart(servers: Servers, browser: Browser) -> None:
    """With another namespace, another cookie name or another key, nobody reads the other's."""
    (one,) = servers(1, FRAMEWORKS["ASGI"])
    one.request(browser, put(a=1))
    (other,) = servers(1, FRAMEWORKS["Starlette"], namespace="other")
    assert other.request(browser.copy(), read).value == {}
