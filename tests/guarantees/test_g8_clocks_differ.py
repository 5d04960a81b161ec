"""G8 where the servers' clocks differ: no active user is signed out, no touch is doubled."""

from __future__ import annotations

import pytest

from sharedsession._core.cookie import Cookie
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    add_one,
    put,
    read,
    refill,
    renew,
    sign_in,
)
from tests.guarantees.places import Place
from tests.guarantees.test_g4_strict import id_of, signed

AHEAD = [3, 12, 60, 5 * 3600]
IDLE = 1000


@pytest.mark.parametrize("ahead", [0, 1, *AHEAD])
@pytest.mark.parametrize(
    "end", [sign_in("ada"), renew, refill(user_id="ada")], ids=["sign in", "renew", "refill"]
)
def test_g5_a_tombstone_of_a_clock_ahead_is_as_good(
    servers: Servers, browser: Browser, place: Place, end: Application, ahead: float
) -> None:
    """A request that was on its way stores nothing, and displaces no sign-in, for ten seconds."""
    (fast,) = servers(1, ahead=ahead)
    (right,) = servers(1)
    right.request(browser, put(a=1))
    old = browser.copy()
    fast.request(browser, end)
    for _ in range(2):
        answer = right.request(old.copy(), put(b=2))
        assert (answer.status, answer.cookies) == (200, [])
        place.advance(4)
    assert len(place.stored) == 1
    # Its age is below zero for so long; a client that has lost its cookie is not stuck for ever.
    place.advance(11 + ahead)
    assert right.request(old, put(b=2)).cookies


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("use", [read, put(a=1), add_one], ids=["reads", "the same", "writes"])
def test_g8_an_active_user_with_a_cookie_dated_ahead_stays(
    servers: Servers, browser: Browser, place: Place, ahead: float, use: Application
) -> None:
    """Signed in at a server whose clock is ahead, active at one whose clock is right."""
    (fast,) = servers(1, ahead=ahead, max_age=IDLE)
    (right,) = servers(1, max_age=IDLE)
    fast.request(browser, put(user_id="ada", a=1))
    for _ in range(60):
        place.advance(IDLE / 20)
        assert right.request(browser, use).status == 200
    assert right.request(browser, read).value.pop("user_id") == "ada"


@pytest.mark.parametrize("ahead", AHEAD)
def test_g8_a_cookie_dated_ahead_is_dated_anew_once(
    servers: Servers, browser: Browser, place: Place, ahead: float
) -> None:
    """By one touch, at the next use; after that one in a tenth of the lifetime, as always."""
    (fast,) = servers(1, ahead=ahead, max_age=IDLE)
    (right,) = servers(1, max_age=IDLE)
    fast.request(browser, put(a=1))
    place.forget()
    cookies = [len(right.request(browser, read).cookies) for _ in range(5)]
    assert cookies == [1, 0, 0, 0, 0]
    assert place.writes == ["touch"]
    place.advance(IDLE * 0.1)
    cookies = [len(right.request(browser, read).cookies) for _ in range(3)]
    assert cookies == [1, 0, 0]
    assert place.writes == ["touch", "touch"]


def test_g8_two_seconds_apart_is_no_difference(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Clocks that agree as well as clocks do cost no touch."""
    (fast,) = servers(1, ahead=2, max_age=IDLE)
    (right,) = servers(1, max_age=IDLE)
    fast.request(browser, put(a=1))
    place.forget()
    for server in (right, fast, right):
        assert server.request(browser, read).cookies == []
    assert place.writes == []


def test_g8_a_write_dates_a_cookie_from_ahead_anew(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """It hands the cookie out although nothing else has changed for the client."""
    (fast,) = servers(1, ahead=60, max_age=IDLE)
    (right,) = servers(1, max_age=IDLE)
    fast.request(browser, put(a=1))
    place.forget()
    cookies = [len(right.request(browser, put(a=n)).cookies) for n in range(2, 6)]
    assert cookies == [1, 0, 0, 0]
    assert set(place.writes) == {"replace"}


@pytest.mark.parametrize("old_first", [True, False])
@pytest.mark.parametrize("copies", [False, True], ids=["without copies", "with versions"])
def test_g8_of_two_cookies_of_one_session_the_latest_counts(
    servers: Servers, browser: Browser, place: Place, copies: bool, old_first: bool
) -> None:
    """After a change of path the old one stays in the browser: one touch, not one for each read."""
    settings = {"near_cache": {"lease": 1.0}} if copies else {}
    (server,) = servers(1, max_age=IDLE, **settings)
    server.request(browser, put(a=1))
    old = str(browser.cookie)
    place.advance(IDLE * 0.2)
    place.forget()
    cookies = 0
    for _ in range(5):
        place.advance(1)
        pair = [old, str(browser.cookie)]
        shown = Browser("; session=".join(pair if old_first else pair[::-1]))
        answer = server.request(shown, read)
        assert answer.value == {"a": 1}
        cookies += len(answer.cookies)
        browser.take(answer)
    assert cookies == 1
    assert place.writes == ["touch"]


@pytest.mark.parametrize("old_first", [True, False])
def test_g8_the_version_counts_before_the_time(
    servers: Servers, browser: Browser, place: Place, old_first: bool
) -> None:
    """Of two cookies with versions the higher is what the client has seen, however it is dated."""
    (server,) = servers(1, max_age=IDLE, near_cache={"lease": 1.0})
    for n in range(3):
        server.request(browser, put(n=n))
    now = int(place.clock())
    higher = signed(Cookie(id_of(browser), 3, now - 50))
    lower = signed(Cookie(id_of(browser), 2, now))
    pair = [lower, higher] if old_first else [higher, lower]
    answer = server.request(Browser("; session=".join(pair)), read)
    assert answer.value == {"n": 2}
    assert answer.cookies == []  # with the lower one there would be a newer version to hand out
