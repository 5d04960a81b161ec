"""G3: a sign-out ends every session whose cookie the client showed, on a full store as well."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import redis

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    clear,
    committed,
    destroy,
    drop,
    held,
    put,
    read,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place
from tests.support.servers import RedisServer


def both(*browsers: Browser) -> Browser:
    """A browser that shows the cookies of several, in this order."""
    return Browser("; session=".join(str(each.cookie) for each in browsers))


def destroy_and_write(session: Session) -> None:
    session.destroy()
    session["flash"] = "bye"


def mutate_out(session: Session) -> None:
    session.mutate(lambda each: each.pop("user_id", None))


# What is left of a session {"user_id": …, "user": …, "cart": 1} that goes on.
OUTS: dict[str, tuple[Application, dict[str, Any] | None]] = {
    "destroy": (destroy, None),
    "clear": (clear, None),
    "destroy, and a flash": (destroy_and_write, {"flash": "bye"}),
    "in the middle": (committed(destroy), None),
    "owner": (sign_out, {"user": "ann", "cart": 1}),
    "owner is None": (put(user_id=None), {"user_id": None, "user": "ann", "cart": 1}),
    "owner by mutate": (mutate_out, {"user": "ann", "cart": 1}),
    "a sign-in name": (drop("user"), {"user_id": "ann", "cart": 1}),
    "a sign-in name is empty": (put(user=""), {"user_id": "ann", "user": "", "cart": 1}),
    "key by key": (drop("user_id", "user", "cart"), None),
}
outs = pytest.mark.parametrize(("out", "left"), OUTS.values(), ids=list(OUTS))


@pytest.mark.parametrize("first_shown", [0, 1])
@outs
def test_g3_a_sign_out_ends_all_sessions_that_were_shown(
    servers: Servers,
    place: Place,
    out: Application,
    left: dict[str, Any] | None,
    first_shown: int,
) -> None:
    """Two cookies of the name, both alive (after a change of domain): neither signs in any more."""
    first, second = servers(2)
    browsers = [Browser(), Browser()]
    for browser in browsers:
        first.request(browser, put(user_id="ann", user="ann", cart=1))
    shown = both(browsers[first_shown], browsers[1 - first_shown])
    answer = second.request(shown, out)
    assert answer.status == 200
    assert place.stored == ([] if left is None else [left])
    assert first.request(browsers[1 - first_shown], read).value == {}
    assert first.request(shown, read).value == (left or {})


@pytest.mark.parametrize(
    "out",
    [put(user_id="eve", user="eve"), put(user="eve"), renew, put(cart=2), read],
    ids=["switch", "sign-in name", "renew", "write", "read"],
)
def test_g3_what_is_no_sign_out_ends_no_other_session(
    servers: Servers, place: Place, out: Application
) -> None:
    """A switch of user, a renewal, a write: the other cookie's session is left alone."""
    first, second = servers(2)
    browsers = [Browser(), Browser()]
    for browser in browsers:
        first.request(browser, put(user_id="ann", user="ann", cart=1))
    second.request(both(*browsers), out)
    assert first.request(browsers[1], read).value == {"user_id": "ann", "user": "ann", "cart": 1}
    assert len(place.stored) == 2


@outs
def test_g3_the_other_sessions_successor_is_ended_too(
    servers: Servers, place: Place, out: Application, left: dict[str, Any] | None
) -> None:
    """The other cookie is of a session that was renewed: the one that goes on after it is ended."""
    first, second = servers(2)
    browser, other = Browser(), Browser()
    for each in (browser, other):
        first.request(each, put(user_id="ann", user="ann", cart=1))
    old = other.copy()
    for _ in range(2):
        first.request(other, renew)
    second.request(both(browser, old), out)
    assert first.request(other, read).value == {}
    assert place.stored == ([] if left is None else [left])


@pytest.mark.parametrize("dead_first", [True, False])
@pytest.mark.parametrize("renewals", [1, 2])
def test_g3_a_tombstone_that_leads_to_the_session_at_hand_ends_nothing(
    servers: Servers, place: Place, renewals: int, dead_first: bool
) -> None:
    """A dead cookie beside the live one: a sign-out that keeps the session keeps it."""
    first, second = servers(2)
    browser = Browser()
    first.request(browser, put(a=1))
    dead = browser.copy()
    first.request(browser, sign_in("ann"))
    for _ in range(renewals - 1):
        first.request(browser, renew)
    shown = both(dead, browser) if dead_first else both(browser, dead)
    second.request(shown, sign_out)
    assert place.stored == [{"a": 1}]
    assert first.request(shown, read).value == {"a": 1}


def test_g3_a_sign_out_of_a_dead_cookie_alone_ends_its_successor(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """destroy() on a session that is not there any more follows the tombstone, as before."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    dead = browser.copy()
    first.request(browser, sign_in("ann"))
    second.request(dead, destroy)
    assert place.stored == []


def test_g3_an_end_by_commit_removes_no_cookie_later(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Its answer may leave after that of a sign-in, whose cookie it must not take away."""
    first, second = servers(2)
    for end in (destroy, clear, drop("a")):
        browser.cookie = None
        first.request(browser, put(a=1))
        gate = Gate()

        def slow(session: Session, end: Application = end, gate: Gate = gate) -> Any:
            end(session)
            yield Commit()
            yield Hold(gate)

        running = first.begin(browser.copy(), slow)
        gate.wait_for()
        second.request(browser, sign_in("ann"))
        gate.open()
        answer = running.end.result(15)
        assert answer.cookies == []
        browser.take(answer)
        assert second.request(browser, read).value == {"user_id": "ann"}


# --- a full store ---------------------------------------------------------------------------------
# Here the stores are told that they are full; that they say so themselves is tests/stores'.


def end_by_commit(session: Session) -> Generator[Any, Any, None]:
    session.destroy()
    yield Commit()


FULL_ENDS: dict[str, Application] = {
    "destroy": destroy,
    "clear": clear,
    "key by key": drop("user_id", "cart"),
    "in the middle": end_by_commit,
}
full_ends = pytest.mark.parametrize("end", FULL_ENDS.values(), ids=list(FULL_ENDS))


@full_ends
def test_g9_a_full_store_keeps_no_one_from_signing_out(
    servers: Servers, browser: Browser, place: Place, end: Application
) -> None:
    """There is no room for a tombstone: the record is removed, and the cookie as well."""
    first, second = servers(2)
    first.request(browser, put(user_id="ann", cart=1))
    thief = browser.copy()
    place.fill()
    answer = second.request(browser, end)
    assert answer.status == 200
    assert browser.cookie is None or end is end_by_commit
    for server in (first, second):
        assert server.request(thief, read).value == {}
    assert place.stored == []


@full_ends
def test_g9_a_renewal_between_load_and_delete_is_followed(
    servers: Servers, browser: Browser, place: Place, end: Application
) -> None:
    """The store has filled meanwhile: the delete finds another record, and ends its successor."""
    first, second = servers(2)
    first.request(browser, put(user_id="ann", cart=1))
    other, at_store = browser.copy(), place.hold("delete")
    gate = Gate()
    slow = first.begin(browser, held(gate, end))
    gate.wait_for()
    place.fill()
    gate.open()
    at_store.wait_for()
    place.recover()
    second.request(other, renew)
    place.fill()
    at_store.open()
    assert slow.answer().status == 200
    if end is FULL_ENDS["key by key"]:  # which ends it only where nobody wrote meanwhile
        assert second.request(other, read).value == {"user_id": "ann", "cart": 1}
    else:
        assert second.request(other, read).value == {}
        assert place.stored == []


def test_g9_a_write_between_load_and_delete_is_seen(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """destroy() ends whatever others wrote; emptied key by key, what they wrote stays: a 503."""
    first, second = servers(2)
    for end, status, left in ((destroy, 200, []), (drop("a"), 503, [{"a": 1, "b": 2}])):
        browser.cookie = None
        first.request(browser, put(a=1))
        other, at_store = browser.copy(), place.hold("delete")
        gate = Gate()
        slow = first.begin(browser, held(gate, end))
        gate.wait_for()
        place.fill()
        gate.open()
        at_store.wait_for()
        place.recover()
        second.request(other, put(b=2))
        place.fill()
        at_store.open()
        assert slow.answer().status == status
        assert place.stored == left
        place.recover()


@outs
def test_g9_a_full_store_and_two_cookies(
    servers: Servers, place: Place, out: Application, left: dict[str, Any] | None
) -> None:
    """What ends the session at hand ends the other as well; what would renew it is a 503."""
    first, second = servers(2)
    browsers = [Browser(), Browser()]
    for browser in browsers:
        first.request(browser, put(user_id="ann", user="ann", cart=1))
    place.fill()
    answer = second.request(both(*browsers), out)
    if left is None:
        assert answer.status == 200
        assert place.stored == []
    else:
        assert (answer.status, answer.cookies) == (503, [])
        assert len(place.stored) == 2


@pytest.mark.parametrize("fills_after", ["load", "create"])
@pytest.mark.parametrize("act", [renew, sign_in("eve"), sign_out], ids=["renew", "in", "out"])
def test_g9_a_renewal_on_a_full_store_leaves_no_orphan(
    servers: Servers, browser: Browser, place: Place, act: Application, fills_after: str
) -> None:
    """A 503, the old session goes on, and the new one of its first step is removed."""
    first, second = servers(2)
    before = {"user_id": "ann", "cart": 1}
    first.request(browser, put(**before))
    at_store = place.hold(fills_after, after=True)
    slow = first.begin(browser, act)
    at_store.wait_for()
    place.fill()
    at_store.open()
    answer = slow.answer()
    assert (answer.status, answer.cookies) == (503, [])
    assert place.stored == [before]
    place.recover()
    assert second.request(browser, read).value == before
    assert second.request(browser, act).status == 200


def test_g9_a_full_store_takes_no_new_session(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A 503 without a cookie, for a write as well; reads are served; with room all is well."""
    first, second = servers(2)
    visitor = Browser()
    first.request(browser, put(a=1))
    place.fill()
    assert first.request(visitor, put(a=1)).status == 503
    assert visitor.cookie is None
    assert first.request(browser, put(a=2)).status == 503
    assert second.request(browser, read).value == {"a": 1}
    place.recover()
    assert second.request(visitor, put(a=3)).status == 200
    assert first.request(browser, put(a=2)).status == 200


def test_g9_a_full_store_leaves_nothing_in_doubt(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """It says that nothing was written: the application may go on, and end the session, say."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    place.fill()

    def application(session: Session) -> Generator[Any, Any, str]:
        session["a"] = 2
        try:
            yield Commit()
        except Exception as error:  # noqa: BLE001 - its name is what is looked at
            place.recover()
            session["told"] = type(error).__name__
        return "told"

    assert server.request(browser, application).value == "told"
    assert server.request(browser, read).value == {"a": 2, "told": "StoreFull"}


@pytest.fixture
def full_redis(place: Place, one_server: RedisServer) -> Iterator[Callable[[], object]]:
    """What fills the Redis behind the place, for as long as the test goes on."""
    with redis.Redis(port=one_server.port) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        yield lambda: admin.config_set("maxmemory", 1)
        admin.config_set("maxmemory", 0)


@pytest.mark.parametrize("place", ["Redis"], indirect=True)
def test_g9_a_redis_without_memory_keeps_no_one_from_signing_out(
    servers: Servers, place: Place, full_redis: Callable[[], object]
) -> None:
    """The same with a server that says so itself: ends are done, all else is a 503."""
    first, second = servers(2)
    ending = {name: Browser() for name in FULL_ENDS}
    writing = {name: Browser() for name in ("write", "renew", "sign out by key")}
    for browser in [*ending.values(), *writing.values()]:
        first.request(browser, put(user_id="ann", cart=1))
    full_redis()
    for name, browser in ending.items():
        old = browser.copy()
        assert second.request(browser, FULL_ENDS[name]).status == 200, name
        assert first.request(old, read).value == {}, name
    acts = (put(cart=2), renew, sign_out)
    for browser, act in zip(writing.values(), acts, strict=True):
        assert second.request(browser, act).status == 503
        assert first.request(browser, read).value == {"user_id": "ann", "cart": 1}
    assert second.request(Browser(), put(a=1)).status == 503
    assert place.stored == [{"user_id": "ann", "cart": 1}] * 3
