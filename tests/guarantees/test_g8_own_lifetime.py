"""G8: a session may have a lifetime of its own ("remember me"), in every framework alike."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from sharedsession import Session
from tests.guarantees.conftest import FRAMEWORKS, Servers
from tests.guarantees.driver import (
    Answer,
    Application,
    Browser,
    Commit,
    Gate,
    add_one,
    append,
    destroy,
    held,
    put,
    read,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place

DAY = 24 * 60 * 60


def last(lifetime: Any, **values: Any) -> Application:
    """Set the lifetime, and some values."""

    def application(session: Session) -> None:
        session.set_lifetime(lifetime)
        session.update(values)

    return application


def permanent(value: bool, **values: Any) -> Application:
    def application(session: Session) -> None:
        session.permanent = value
        session.update(values)

    return application


def lifetime(answer: Answer) -> int | None:
    """Seconds for which the browser keeps the cookie that it was given; None: while it runs."""
    (header,) = answer.cookies
    if found := re.search("max-age=([0-9]+)", header, re.IGNORECASE):
        return int(found[1])
    if found := re.search("expires=([^;]+)", header, re.IGNORECASE):
        left = parsedate_to_datetime(found[1]) - datetime.now(UTC)
        return round(left.total_seconds() / 60) * 60
    return None


@pytest.mark.parametrize("given", [3600, 3600.0, timedelta(hours=1), timedelta(seconds=3599.5)])
def test_g8_a_lifetime_of_its_own(
    servers: Servers, browser: Browser, place: Place, given: Any
) -> None:
    """set_lifetime(seconds or timedelta) is the session's idle timeout and its cookie's, whatever
    the settings say, on every server; each use begins it anew."""
    first, second = servers(2, max_age=100)
    assert lifetime(first.request(browser, last(given, a=1))) == 3600
    for _ in range(3):
        place.advance(3000)
        assert second.request(browser, read).value["a"] == 1
    place.advance(3601)
    assert second.request(browser, read).value == {}


def test_g8_a_shorter_lifetime(servers: Servers, browser: Browser, place: Place) -> None:
    """It may also be shorter than that of the settings; other sessions keep theirs."""
    first, second = servers()
    other = Browser()
    first.request(other, put(a=1))
    first.request(browser, last(60, a=1))
    place.advance(61)
    assert second.request(browser, read).value == {}
    assert second.request(other, read).value == {"a": 1}


def test_g8_until_a_moment(servers: Servers, browser: Browser, place: Place) -> None:
    """set_lifetime(datetime) is the session's end, however long it is unused before and however
    often it is used; the cookie lasts as long."""
    first, second = servers(2, max_age=100)
    end = datetime.fromtimestamp(place.clock() + 3600, timezone(timedelta(hours=9)))
    first.request(browser, last(end, a=1))
    for _ in range(3):
        place.advance(1100)
        assert second.request(browser, read).value["a"] == 1
    assert first.request(browser, put(b=2)).value is None
    place.advance(301)
    assert second.request(browser, read).value == {}


def test_g8_a_moment_that_is_past(servers: Servers, browser: Browser, place: Place) -> None:
    """It ends the session at once; one without a time zone is refused."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    past = datetime.fromtimestamp(place.clock() - 1, UTC)
    first.request(browser, last(past, b=1))
    assert second.request(browser, read).value == {}

    def naive(session: Session) -> None:
        with pytest.raises(TypeError, match="time zone"):
            session.set_lifetime(past.replace(tzinfo=None))

    first.request(browser, naive)


def test_g8_until_the_browser_ends(servers: Servers, browser: Browser, place: Place) -> None:
    """set_lifetime("browser") sets a cookie without expiry, and leaves the server its clock."""
    first, second = servers(2, max_age=100)
    assert lifetime(first.request(browser, last("browser", a=1))) is None
    place.advance(60)
    answer = second.request(browser, read)
    assert answer.value["a"] == 1
    assert lifetime(answer) is None  # renewed, and still without
    place.advance(101)
    assert second.request(browser, read).value == {}


def test_g8_back_to_the_settings(servers: Servers, browser: Browser, place: Place) -> None:
    """set_lifetime(None) is as if nothing had ever been set."""
    first, second = servers(2, max_age=100)
    untouched, kept = Browser(), Browser()
    usual = lifetime(first.request(untouched, put(a=1)))
    first.request(kept, last(3600, a=1))
    assert lifetime(second.request(kept, last(None))) == usual
    assert second.request(kept, read).value == {"a": 1}
    place.advance(101)
    assert first.request(kept, read).value == {}


@pytest.mark.parametrize("seconds", [True, 0, -1, 1.5, "3600", timedelta(0), timedelta(-1), "x"])
def test_g8_what_is_no_lifetime_is_refused(
    servers: Servers, browser: Browser, seconds: Any
) -> None:
    """It says what is accepted, and what ends a session; nothing has changed then."""
    (server,) = servers(1)

    def application(session: Session) -> str:
        session["a"] = 1
        with pytest.raises((TypeError, ValueError), match="positive number of seconds") as refused:
            session.set_lifetime(seconds)
        return str(refused.value)

    answer = server.request(browser, application)
    assert repr(seconds) in answer.value
    assert server.request(browser, read).value == {"a": 1}


def test_g8_lifetimes_beyond_measure(servers: Servers, browser: Browser) -> None:
    """A lifetime of ten thousand years is one of a hundred, as far as stores can say it."""
    (server,) = servers(1)
    assert server.request(browser, last(timedelta(days=3_650_000), a=1)).status == 200
    assert server.request(browser, read).value["a"] == 1


def test_g8_permanent_is_the_same_thing(servers: Servers, browser: Browser, place: Place) -> None:
    """Permanent = False ends the cookie with the browser, True lets it outlive it, everywhere."""
    (server,) = servers(1)
    outlives = lifetime(server.request(browser, permanent(True, a=1)))
    assert outlives is not None
    assert outlives >= 14 * DAY
    assert lifetime(server.request(browser, permanent(False))) is None
    assert lifetime(server.request(browser, permanent(True))) == outlives


def test_g8_permanent_leaves_an_own_lifetime(servers: Servers, browser: Browser) -> None:
    """Permanent = True at each request, as many applications have it, does not displace the
    lifetime that the sign-in gave; permanent = False does."""
    (server,) = servers(1)
    assert lifetime(server.request(browser, last(7200, a=1))) == 7200
    server.request(browser, permanent(True, b=2))
    assert lifetime(server.request(browser, renew)) == 7200
    assert lifetime(server.request(browser, permanent(False))) is None


def test_g8_the_client_learns_of_it_at_once(servers: Servers, browser: Browser) -> None:
    """A changed lifetime sets the cookie, in the middle of a session and beside other changes."""
    first, second = servers()
    first.request(browser, put(a=1))
    assert lifetime(second.request(browser, last(7200, b=1))) == 7200
    assert lifetime(second.request(browser, last(3600))) == 3600


def test_g8_the_same_lifetime_again_writes_nothing(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """set_lifetime at each request costs nothing after the first."""
    (server,) = servers(1)
    server.request(browser, last(7200, a=1))
    place.forget()
    server.request(browser, last(7200))
    assert place.writes == []


def test_g8_it_is_touched_once_a_tenth(servers: Servers, browser: Browser, place: Place) -> None:
    """Of its own lifetime: a short session is prolonged in time, a long one costs no more."""
    (server,) = servers(1, max_age=100)
    server.request(browser, last(10_000, a=1))
    place.advance(900)
    place.forget()
    server.request(browser, read)
    assert place.writes == []
    place.advance(101)
    server.request(browser, read)
    assert place.writes == ["touch"]


def test_g8_renewals_keep_it(servers: Servers, browser: Browser, place: Place) -> None:
    """A new ID, a sign-in and a sign-out keep the session's lifetime."""
    first, second = servers(2, max_age=100)
    first.request(browser, last(7200, a=1))
    for change in (renew, sign_in("ada"), sign_out):
        assert lifetime(second.request(browser, change)) == 7200
    place.advance(7000)
    assert second.request(browser, read).value["a"] == 1


@pytest.mark.parametrize("again", [True, False])
def test_g8_another_user_brings_another(servers: Servers, browser: Browser, again: bool) -> None:
    """What "remember me" gave one user is not the next one's, who may ask for the same again."""
    (server,) = servers(1, max_age=100)
    usual = lifetime(server.request(Browser(), put(a=1)))
    server.request(browser, last(7200, user_id="ada"))
    change = last(7200, user_id="ben") if again else sign_in("ben")
    assert lifetime(server.request(browser, change)) == (7200 if again else usual)


def test_g8_the_absolute_end_stays(servers: Servers, browser: Browser, place: Place) -> None:
    """No lifetime reaches beyond the absolute timeout."""
    (server,) = servers(1, absolute_timeout=500)
    server.request(browser, last(7200, a=1))
    place.advance(501)
    assert server.request(browser, read).value == {}


def test_g8_a_lifetime_alone_is_nothing(servers: Servers, browser: Browser, place: Place) -> None:
    """A session that holds nothing is not stored for its lifetime's sake."""
    (server,) = servers(1)
    assert server.request(browser, last(7200)).cookies == []
    assert place.stored == []


def test_g8_parallel_writes_keep_it(servers: Servers, browser: Browser, place: Place) -> None:
    """A request that wrote meanwhile neither loses the new lifetime nor its own change."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    gate = Gate()
    running = first.begin(browser.copy(), held(gate, append("cart", "tea")))
    gate.wait_for()
    assert lifetime(second.request(browser, last(7200))) == 7200
    gate.open()
    running.answer()
    place.advance(3000)
    answer = second.request(browser, read)
    assert answer.value["a"] == 1
    assert answer.value["cart"] == ["tea"]


def test_g8_in_a_function_that_runs_again(servers: Servers, browser: Browser) -> None:
    """A function given to mutate() may set it."""
    (server,) = servers(1)

    def function(session: Session) -> None:
        session.set_lifetime(7200)
        add_one(session)

    assert lifetime(server.request(browser, lambda session: session.mutate(function))) == 7200


def test_g8_committed_early(servers: Servers, browser: Browser, place: Place) -> None:
    """commit() in the middle of a request stores it; the response's cookie has it."""
    (server,) = servers(1, max_age=100)

    def application(session: Session) -> Any:
        session.set_lifetime(7200)
        session["a"] = 1
        yield Commit()

    assert lifetime(server.request(browser, application)) == 7200
    place.advance(7000)
    assert server.request(browser, read).value["a"] == 1


def test_g8_after_an_end_it_is_forgotten(servers: Servers, browser: Browser) -> None:
    """The next session of the client has the lifetime of the settings."""
    (server,) = servers(1, max_age=100)
    usual = lifetime(server.request(Browser(), put(a=1)))
    server.request(browser, last(7200, a=1))
    server.request(browser, destroy)
    assert lifetime(server.request(browser, put(b=1))) == usual


@pytest.mark.parametrize("writes", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_g8_frameworks_share_it(servers: Servers, place: Place, writes: Any) -> None:
    """What one framework set, every other one keeps to: seconds, "browser" and permanent."""
    (reader,) = servers(1)
    (writer,) = servers(1, adapter=writes)
    for application, seconds in ((last(7200, a=1), 7200), (last("browser", a=1), None)):
        browser = Browser()
        writer.request(browser, application)
        assert lifetime(reader.request(browser, renew)) == seconds


@pytest.mark.parametrize("max_age", [0, -1])
@pytest.mark.parametrize("application", [put(a=1), sign_in("ada")])
def test_g8_no_time_at_all_removes_the_cookie(
    servers: Servers, browser: Browser, place: Place, max_age: int, application: Application
) -> None:
    """max_age of zero or less: what would be stored makes the browser forget whatever it has."""
    (server,) = servers(1, max_age=max_age)
    (header,) = server.request(browser, application).cookies
    assert re.search(f"max-age={max_age};|01 Jan 1970", header, re.IGNORECASE)
    assert place.stored == []
    assert server.request(browser, read).cookies == []
    assert server.request(Browser(), read).cookies == []
