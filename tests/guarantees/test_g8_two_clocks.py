"""G8: idle and absolute timeouts are enforced by the server, whatever the client shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sharedsession import Session
from sharedsession._core.cookie import Cookie
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import DjangoAdapter
from tests.guarantees.driver import (
    Adapter,
    Application,
    Browser,
    append,
    ignore,
    put,
    read,
    refill,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place
from tests.guarantees.test_g4_strict import id_of, signed


def authenticate(session: Session) -> None:
    session.mark_authenticated()


def test_g8_idle_sessions_end(servers: Servers, browser: Browser, place: Place) -> None:
    """Not used for the idle timeout: gone on every server, although its cookie still verifies."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    place.advance(95)
    assert second.request(browser.copy(), ignore).status == 200  # not a use
    place.advance(6)
    for server in (first, second):
        assert server.request(browser, read).value == {}
    assert place.stored == []


def test_g8_used_sessions_live_on(servers: Servers, browser: Browser, place: Place) -> None:
    """Any use, reading included, and on whatever server, keeps an idle timeout from passing."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    for _ in range(5):
        place.advance(60)
        assert second.request(browser, read).value == {"a": 1}
        place.advance(60)
        assert first.request(browser, append("more", 1)).status == 200
        assert first.request(browser, read).value.pop("a") == 1
        second.request(browser, lambda session: session.pop("more"))


@pytest.mark.parametrize("write", [put(a=2), append("more", 1)], ids=["puts", "appends"])
def test_g8_a_write_whose_server_hangs_dates_no_cookie_later(
    servers: Servers, browser: Browser, place: Place, write: Application
) -> None:
    """A cookie is as old as the write that gave its session its lifetime, however long that took.

    A server may be paused between the two; with a later date in the cookie the next use would
    not prolong the session.
    """
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    place.advance(20)
    at_store = place.hold("replace", after=True)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(first.request, browser, write)
        at_store.wait_for()
        place.advance(95)
        at_store.open()
        assert writing.result().status == 200
    place.advance(3)
    assert second.request(browser, read).value["a"]
    place.advance(30)
    assert second.request(browser, read).value["a"]


@pytest.mark.parametrize("timestamp", [1, 10**9, 2**33])
def test_g8_what_the_cookie_says_of_time_counts_nothing(
    servers: Servers, browser: Browser, place: Place, timestamp: int
) -> None:
    """Neither a cookie from the future nor one from the past moves the server's clocks."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    shown = Browser(signed(Cookie(id_of(browser), 1, timestamp)))
    assert second.request(shown.copy(), read).value == {"a": 1}
    place.advance(101)
    assert second.request(shown, read).value == {}


def test_g8_without_max_age_the_server_still_has_a_clock(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter
) -> None:
    """max_age=None: the cookie lasts as long as the browser, the session two idle weeks."""
    if isinstance(adapter, DjangoAdapter):
        return  # it has a setting of its own for that: tests/django
    first, second = servers(2, max_age=None)
    (header,) = first.request(browser, put(a=1)).cookies
    assert "max-age" not in header.lower()
    place.advance(13 * 86400)
    assert second.request(browser, read).value == {"a": 1}
    place.advance(14 * 86400 + 1)
    assert second.request(browser, read).value == {}


@pytest.mark.parametrize("max_age", [0, -1])
def test_g8_no_time_at_all(servers: Servers, browser: Browser, place: Place, max_age: int) -> None:
    """max_age of zero or less: nothing is stored, and what there was is ended."""
    (usual,) = servers(1)
    usual.request(browser, put(a=1))
    (server,) = servers(1, max_age=max_age)
    assert server.request(browser, put(b=1)).status == 200
    assert place.stored == []
    assert usual.request(browser, read).value == {}


def use_until(
    server: object, browser: Browser, place: Place, seconds: float, step: float = 50
) -> None:
    """Let time pass with a session in constant use."""
    while seconds > 0:
        place.advance(min(step, seconds))
        seconds -= step
        assert server.request(browser, read).value != {}  # type: ignore[attr-defined]


def test_g8_the_absolute_timeout_ends_a_session_in_use(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """However busy it is, a session ends when its absolute time has come."""
    first, second = servers(2, max_age=100, absolute_timeout=300)
    first.request(browser, put(a=1))
    use_until(second, browser, place, 299)
    place.advance(1.5)
    for server in (first, second):
        assert server.request(browser, read).value == {}
    place.advance(1)
    assert place.stored == []


EXTENDS_NOTHING: dict[str, Application] = {
    "renew": renew,
    "a change": append("list", 1),
    "the same user again": sign_in("ada"),
    "clear and refill": refill(a=2),
    "sign out": sign_out,
}


@pytest.mark.parametrize("case", EXTENDS_NOTHING)
def test_g8_neither_renewal_nor_activity_extends_it(
    servers: Servers, browser: Browser, place: Place, case: str
) -> None:
    """The absolute clock is not wound up by anything but an authentication."""
    first, second = servers(2, max_age=100, absolute_timeout=300)
    first.request(browser, put(a=1, user_id="ada"))
    use_until(first, browser, place, 200)
    second.request(browser, EXTENDS_NOTHING[case])
    use_until(first, browser, place, 99)
    place.advance(1.5)
    assert second.request(browser, read).value == {}


AUTHENTICATES: dict[str, Application] = {
    "sign in": sign_in("ada"),
    "switch": sign_in("bob"),
    "authenticated()": authenticate,
    "clear and sign in": refill(user_id="eve"),
}


@pytest.mark.parametrize("case", AUTHENTICATES)
def test_g8_an_authentication_starts_it_anew(
    servers: Servers, browser: Browser, place: Place, case: str
) -> None:
    """From a sign-in or a re-authentication on, the whole absolute time is there again."""
    first, second = servers(2, max_age=100, absolute_timeout=300)
    first.request(browser, put(a=1, user_id="carol" if case != "sign in" else None))
    use_until(first, browser, place, 200)
    second.request(browser, AUTHENTICATES[case])
    use_until(first, browser, place, 299)
    place.advance(1.5)
    assert second.request(browser, read).value == {}


@pytest.mark.parametrize("used_at", [0, 1], ids=["the old servers", "the new ones"])
def test_g8_a_stricter_setting_counts_at_once(
    servers: Servers, browser: Browser, place: Place, used_at: int
) -> None:
    """A shorter absolute timeout ends sessions that were stored under a longer one, or none."""
    (before,) = servers(1, max_age=1000)
    (after,) = servers(1, max_age=1000, absolute_timeout=300)
    before.request(browser, put(a=1))
    use_until((before, after)[used_at], browser, place, 299)
    assert after.request(browser.copy(), ignore).status == 200
    place.advance(2)
    assert after.request(browser, read).value == {}


@pytest.mark.parametrize("case", EXTENDS_NOTHING)
def test_g8_a_looser_setting_extends_nothing(
    servers: Servers, browser: Browser, place: Place, case: str
) -> None:
    """A longer absolute timeout counts from the next authentication on, not from a renewal on."""
    (before,) = servers(1, max_age=1000, absolute_timeout=300)
    (after,) = servers(1, max_age=1000, absolute_timeout=900)
    before.request(browser, put(a=1, user_id="ada"))
    use_until(after, browser, place, 200)
    after.request(browser, EXTENDS_NOTHING[case])
    use_until(after, browser, place, 99)
    place.advance(1.5)
    assert after.request(browser, read).value == {}


def test_g8_the_end_in_the_middle_of_a_request(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A session whose absolute time passes during a request is not written any more."""
    (server,) = servers(1, max_age=1000, absolute_timeout=300)
    server.request(browser, put(a=1))

    def slow(session: Session) -> None:
        session["a"] = 2
        place.advance(301)

    answer = server.request(browser, slow)
    assert answer.cookies == []
    assert place.stored == []
    assert server.request(browser, read).value == {}
