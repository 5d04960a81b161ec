"""G3: after destroy or renew has answered, nothing brings the old session back."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import Session, SessionGone
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    Reload,
    append,
    clear,
    destroy,
    drop,
    held,
    increment,
    late,
    later,
    put,
    read,
    refill,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place

DAY = 24 * 60 * 60


def authenticate(session: Session) -> None:
    session.mark_authenticated()


def commit(session: Session) -> Generator[Any, Any, str]:
    session["a"] = 5
    try:
        yield Commit()
    except SessionGone as gone:
        return str(gone)
    return "written"


def reload(session: Session) -> Generator[Any, Any, str]:
    try:
        yield Reload()
    except SessionGone as gone:
        return str(gone)
    return "read"


IN_FLIGHT = {
    "set": put(a=5),
    "nested": append("cart", "milk"),
    "remove": drop("a"),
    "empty": drop("a", "cart", "n", "user_id"),
    "clear": clear,
    "refill": refill(a=7),
    "destroy": destroy,
    "mutate": increment,
    "renew": renew,
    "authenticated": authenticate,
    "sign out": sign_out,
    "read": read,
    "commit": commit,
    "reload": reload,
}
ENDS = {"destroy": destroy, "clear": clear, "renew": renew, "sign out": sign_out}


@pytest.mark.parametrize("change", IN_FLIGHT.values(), ids=IN_FLIGHT)
def test_g3_no_request_in_flight_brings_it_back(
    servers: Servers, place: Place, change: Application
) -> None:
    """Whatever a request in flight does, the old cookie finds nothing, and no other session is."""
    first, second = servers(2)
    for name, end in ENDS.items():
        browser = Browser()
        first.request(browser, put(a=1, cart=[], n=0, user_id="ada"))
        thief = browser.copy()
        place.advance(DAY * 2)  # so that it would be touched as well
        gate = Gate()
        slow = first.begin(thief, held(gate, change))
        gate.wait_for()
        assert second.request(browser, end).status == 200
        living = len(place.stored)
        gate.open()
        answer = slow.answer()
        assert (answer.status, answer.cookies) == (200, []), name
        for server in (first, second):
            assert server.request(thief, read).value == {}, name
        # destroy() and clear() end the successor of a renewal too; nothing makes another.
        expected = 0 if change in (destroy, clear) else living
        assert len(place.stored) == expected, name
        second.request(browser, destroy)
        assert place.stored == []


@pytest.mark.parametrize("when", [late, later], ids=["streaming", "background"])
@pytest.mark.parametrize("change", [put(a=5), append("cart", 1), increment, commit, destroy])
def test_g3_no_late_change_brings_it_back(
    servers: Servers, browser: Browser, place: Place, change: Application, when: Any
) -> None:
    """Neither does a change made while the body, or a background task, is still running."""
    first, second = servers(2)
    first.request(browser, put(a=1, cart=[], n=0))
    thief = browser.copy()
    gate = Gate()

    def waiting(session: Session) -> Generator[Any, Any, Any]:
        yield Hold(gate)
        result = change(session)
        return (yield from result) if isinstance(result, Generator) else result

    slow = first.begin(thief, when(waiting))
    gate.wait_for()
    second.request(browser, destroy)
    gate.open()
    slow.answer()
    assert place.stored == []
    assert first.request(thief, read).value == {}


def test_g3_commit_and_reload_say_so(servers: Servers, browser: Browser) -> None:
    """commit() and reload() raise SessionGone, with a sentence, when the session has ended."""
    first, second = servers(2)
    for verb in (commit, reload):
        browser.cookie = None
        first.request(browser, put(a=1))
        gate = Gate()
        slow = first.begin(browser.copy(), held(gate, verb))
        gate.wait_for()
        second.request(browser, destroy)
        gate.open()
        assert "ended" in slow.answer().value


@pytest.mark.parametrize("verb", ["load", "touch"])
def test_g3_a_touch_on_its_way_revives_nothing(
    servers: Servers, browser: Browser, place: Place, verb: str
) -> None:
    """A touch that meets the end half-way hands out no cookie and prolongs nothing for long."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    thief = browser.copy()
    place.advance(DAY * 2)
    gate = Gate()
    slow = first.begin(thief, held(gate, read))
    gate.wait_for()
    at_store = place.hold(verb)
    gate.open()
    at_store.wait_for()
    second.request(browser, destroy)
    at_store.open()
    assert slow.answer().cookies == []
    assert second.request(thief, read).value == {}
    place.advance(301)
    assert second.request(thief, read).value == {}
    assert place.stored == []


@pytest.mark.parametrize("at", ["create", "replace"])
def test_g3_a_renewal_on_its_way_is_ended_too(
    servers: Servers, browser: Browser, place: Place, at: str
) -> None:
    """A destroy that meets a renewal, before its first or its second step, leaves no session."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    other = browser.copy()
    at_store = place.hold(at)
    renewal = first.begin(browser, renew)
    at_store.wait_for()
    assert second.request(other, destroy).status == 200
    at_store.open()
    assert renewal.answer().cookies == []
    assert place.stored == []
    assert second.request(browser, read).value == {}


def test_g3_destroy_ends_the_successor(servers: Servers, browser: Browser, place: Place) -> None:
    """Sign-out in one tab while another renews: whichever is first, nothing of it lives on."""
    first, second = servers(2)
    first.request(browser, put(a=1, user_id="ada"))
    gate = Gate()
    ending = first.begin(browser.copy(), held(gate, destroy))
    gate.wait_for()
    second.request(browser, renew)
    second.request(browser, renew)
    assert second.request(browser, read).value == {"a": 1, "user_id": "ada"}
    gate.open()
    assert ending.answer().status == 200
    assert second.request(browser, read).value == {}
    assert place.stored == []


def test_g3_only_who_ends_it_removes_the_cookie(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A removal that came late would sign out somebody who has just signed in again."""
    first, second = servers(2)
    first.request(browser, sign_in("ada"))
    gate = Gate()
    slow = first.begin(browser.copy(), held(gate, put(a=5)))
    gate.wait_for()
    (removal,) = second.request(browser, destroy).cookies
    assert "01 Jan 1970" in removal
    assert browser.cookie is None
    second.request(browser, sign_in("ada"))
    gate.open()
    browser.take(slow.answer())
    assert second.request(browser, read).value == {"user_id": "ada"}


def test_g3_an_old_cookie_is_worthless_for_ever(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """At once, while the end mark stands, and when it has gone: an empty session, another ID."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    thief = browser.copy()
    first.request(browser, renew)
    for _ in range(3):
        assert second.request(thief.copy(), read).value == {}
        place.advance(200)
    assert second.request(thief, put(b=2)).cookies
    assert second.request(thief, read).value == {"b": 2}
    assert second.request(browser, read).value == {"a": 1}
