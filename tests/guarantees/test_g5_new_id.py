"""G5: when the owner changes, the ID is renewed and the old one is dead; one never becomes two."""

from __future__ import annotations

from itertools import permutations

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Gate,
    committed,
    destroy,
    drop,
    handle,
    held,
    put,
    read,
    refill,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place


def sign_in_by_mutate(session: Session) -> None:
    session.mutate(lambda each: each.update(user_id="ada"))


def sign_in_by_setdefault(session: Session) -> None:
    session.setdefault("user_id", "ada")


def sign_in_after_destroy(session: Session) -> None:
    session.destroy()
    session["user_id"] = "ada"


def authenticate(session: Session) -> None:
    session.mark_authenticated()


CHANGES: dict[str, tuple[dict[str, object], Application, dict[str, object]]] = {
    "sign-in": ({"a": 1}, sign_in("ada"), {"a": 1, "user_id": "ada"}),
    "by commit()": ({"a": 1}, committed(sign_in("ada")), {"a": 1, "user_id": "ada"}),
    "by mutate()": ({"a": 1}, sign_in_by_mutate, {"a": 1, "user_id": "ada"}),
    "by setdefault()": ({"a": 1}, sign_in_by_setdefault, {"a": 1, "user_id": "ada"}),
    "after clear()": ({"a": 1}, refill(user_id="ada"), {"user_id": "ada"}),
    "after destroy()": ({"a": 1}, sign_in_after_destroy, {"user_id": "ada"}),
    "Flask-Login's key": ({"a": 1}, put(_user_id="7"), {"a": 1, "_user_id": "7"}),
    "Django's key": ({"a": 1}, put(_auth_user_id=7), {"a": 1, "_auth_user_id": 7}),
    "sign-out": ({"a": 1, "user_id": "ada"}, sign_out, {"a": 1}),
    "sign-out by None": (
        {"a": 1, "user_id": "ada"},
        put(user_id=None),
        {"a": 1, "user_id": None},
    ),
    "switch of user": ({"user_id": "ada"}, sign_in("bob"), {"user_id": "bob"}),
    "the same number as text": ({"user_id": 1}, put(user_id="1"), {"user_id": "1"}),
    "renew()": ({"a": 1}, renew, {"a": 1}),
    "authenticated()": ({"user_id": "ada"}, authenticate, {"user_id": "ada"}),
    "clear() and the same user": ({"user_id": "ada"}, refill(user_id="ada"), {"user_id": "ada"}),
}


def test_g5_a_changed_owner_has_a_new_id(servers: Servers, place: Place) -> None:
    """Sign-in, sign-out and switch of user renew the ID; whoever knew the old one has nothing."""
    first, second = servers(2)
    for case, (before, change, after) in CHANGES.items():
        browser = Browser()
        first.request(browser, put(**before))
        thief = browser.copy()
        old = second.request(browser, handle).value
        assert second.request(browser, change).status == 200, case
        assert browser.cookie is not None, case
        assert thief.cookie is not None, case
        assert browser.cookie.split(".")[0] != thief.cookie.split(".")[0], case
        assert first.request(browser, handle).value != old, case
        for server in (first, second):
            assert server.request(browser, read).value == after, case
            assert server.request(thief, read).value == {}, case
        assert place.stored == [after], case
        first.request(browser, destroy)


SEEN = {"id": 7, "last_seen": "now"}


@pytest.mark.parametrize(
    "change",
    [put(user_id="ada"), put(a=2), drop("a"), put(name="x"), put(uid=""), put(user=SEEN)],
    ids=["the same user", "another key", "removal", "a name", "nothing", "the same identity"],
)
def test_g5_other_changes_keep_the_id(
    servers: Servers, browser: Browser, change: Application
) -> None:
    """Only another user renews: neither the same one again nor what else is known of them."""
    first, second = servers(2)
    first.request(browser, put(user_id="ada", a=1, b=1, user={"id": 7}))
    before = first.request(browser, handle).value
    first.request(browser, change)
    assert second.request(browser, handle).value == before


def test_g5_the_owner_key_can_be_chosen(servers: Servers, browser: Browser) -> None:
    """With owner_key=…, that key renews, and the usual ones no longer do."""
    first, second = servers(2, owner_key="account")
    first.request(browser, put(a=1))
    before = first.request(browser, handle).value
    first.request(browser, put(user_id="ada"))
    assert second.request(browser, handle).value == before
    first.request(browser, put(account=7))
    assert second.request(browser, handle).value != before


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_g5_one_session_never_becomes_two(
    servers: Servers, browser: Browser, place: Place, order: tuple[int, ...]
) -> None:
    """Three renewals at the same time leave one session, in whatever order their answers come."""
    three = servers(3)
    three[0].request(browser, put(a=1, user_id="ada"))
    gate = Gate()
    running = [server.begin(browser, held(gate, renew)) for server in three]
    gate.wait_for(3)
    gate.open()
    answers = [each.end.result(10) for each in running]
    assert [answer.status for answer in answers] == [200] * 3
    for number in order:
        browser.take(answers[number])
    assert place.stored == [{"a": 1, "user_id": "ada"}]
    assert three[0].request(browser, read).value == {"a": 1, "user_id": "ada"}


def test_g5_a_change_beside_a_renewal_is_kept_or_gone(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A write between the steps of a sign-in goes along into the new session."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    at_store = place.hold("replace")
    running = first.begin(browser, sign_in("ada"))
    at_store.wait_for()
    second.request(browser.copy(), put(b=2))
    at_store.open()
    running.answer()
    assert place.stored == [{"a": 1, "b": 2, "user_id": "ada"}]
    assert second.request(browser, read).value == {"a": 1, "b": 2, "user_id": "ada"}


@pytest.mark.parametrize("last", [0, 1])
def test_g5_two_sign_ins_at_once_are_two_sign_ins(
    servers: Servers, browser: Browser, place: Place, last: int
) -> None:
    """A form sent twice leaves its user signed in, whichever answer comes last; no data leaks."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    gate = Gate()
    running = [server.begin(browser, held(gate, sign_in("ada"))) for server in (first, second)]
    gate.wait_for(2)
    gate.open()
    answers = [each.end.result(10) for each in running]
    assert all(len(answer.cookies) == 1 for answer in answers)
    browser.take(answers[1 - last])
    browser.take(answers[last])
    assert first.request(browser, read).value["user_id"] == "ada"
    assert sorted(place.stored, key=len) == [{"user_id": "ada"}, {"a": 1, "user_id": "ada"}]


FILLED = {"user_id": "ada", "theme": "dark", "cart": []}


def refill_by_mutate(session: Session) -> None:
    session.mutate(refill(**FILLED))


@pytest.mark.parametrize("sign_in_anew", [refill(**FILLED), refill_by_mutate])
@pytest.mark.parametrize("other", [renew, destroy, sign_in("bob")], ids=["renew", "end", "bob"])
def test_g5_a_sign_in_that_cleared_the_session_keeps_all_it_set(
    servers: Servers, browser: Browser, other: Application, sign_in_anew: Application
) -> None:
    """Beside a request that ends or renews the session, also what has the value it had before."""
    first, second = servers(2)
    first.request(browser, put(theme="dark", cart=[]))
    beside, gate = browser.copy(), Gate()
    running = second.begin(browser, held(gate, sign_in_anew))
    gate.wait_for()
    first.request(beside, other)
    gate.open()
    assert running.answer().status == 200
    assert first.request(browser, read).value == FILLED


def test_g5_a_late_request_does_not_displace_the_new_session(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A request on its way with the old cookie stores nothing: the user stays signed in."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    old = browser.copy()
    first.request(browser, sign_in("ada"))
    answer = second.request(old, put(b=2))
    assert answer.status == 200
    assert answer.cookies == []
    browser.take(answer)
    assert second.request(browser, read).value == {"a": 1, "user_id": "ada"}
    # A client that never received the new cookie is not stuck for ever.
    place.advance(11)
    assert second.request(old, put(b=2)).cookies
    assert second.request(old, read).value == {"b": 2}


def test_g5_signing_out_everything_else_stays_dead(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Sign in, sign out by destroy(), sign in as another: nothing of the first is left."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    first.request(browser, sign_in("ada"))
    first.request(browser, destroy)
    second.request(browser, sign_in("bob"))
    assert place.stored == [{"user_id": "bob"}]
    assert first.request(browser, read).value == {"user_id": "bob"}
