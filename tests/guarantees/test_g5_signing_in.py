"""G5 in races: a sign-in stands, alone, with what it set itself and nothing of anybody else."""

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
    committed,
    destroy,
    drop,
    held,
    put,
    read,
    refill,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place

ENDS = {"destroy": destroy, "renew": renew, "another sign-in": sign_in("eve")}
ends = pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))


# --- steps over nothing ---------------------------------------------------------------------------


def consume(session: Session) -> Any:
    token = session.pop("magic", None)
    if token is not None:
        session["user_id"] = token
    return token


def in_one_function(session: Session) -> Generator[Any, Any, Any]:
    return (yield Commit(consume))


def sign_in_first(session: Session) -> Generator[Any, Any, Any]:
    session["user_id"] = "ada"
    return (yield Commit(lambda each: each.pop("magic", None)))


def token_first(session: Session) -> Generator[Any, Any, Any]:
    token = yield Commit(lambda each: each.pop("magic", None))
    session["user_id"] = "ada"
    return token


def after_clear(session: Session) -> Generator[Any, Any, Any]:
    token = yield Commit(lambda each: each.pop("magic", None))
    session.clear()
    session["user_id"] = "ada"
    return token


@pytest.mark.parametrize("how", [in_one_function, sign_in_first, token_first, after_clear])
def test_g5_a_one_time_token_is_handed_out_once(
    servers: Servers, browser: Browser, place: Place, how: Application
) -> None:
    """However many requests ask for it at the same time, and whoever of them signs in by it."""
    three = servers(3)
    three[0].request(browser, put(magic="ada"))
    gate = Gate()

    def application(session: Session) -> Generator[Any, Any, Any]:
        session.get("magic")
        yield Hold(gate)
        try:
            return (yield from how(session))
        except SessionGone:
            return None

    running = [server.begin(browser.copy(), application) for server in three]
    gate.wait_for(3)
    gate.open()
    answers = [each.end.result(15) for each in running]
    tokens = [answer.value for answer in answers]
    assert sorted(tokens, key=str) == [None, None, "ada"]
    assert all("magic" not in data for data in place.stored)


@ends
def test_g5_a_change_inside_a_value_does_not_carry_it_into_a_sign_in(
    servers: Servers, browser: Browser, place: Place, end: Application
) -> None:
    """The session has ended: its cart stays behind, what was assigned goes along."""
    first, second = servers(2)
    first.request(browser, put(user_id="ann", cart=["secret of ann"], theme="dark"))
    other, gate = browser.copy(), Gate()

    def application(session: Session) -> None:
        session["cart"].append("of bob")
        session["theme"] = "dark"  # the value it had
        session["user_id"] = "bob"

    running = first.begin(browser, held(gate, application))
    gate.wait_for()
    second.request(other, end)
    gate.open()
    assert running.answer().status == 200
    assert second.request(browser, read).value == {"theme": "dark", "user_id": "bob"}


@ends
def test_g5_a_function_that_raises_over_nothing_contributes_nothing(
    servers: Servers, browser: Browser, end: Application
) -> None:
    """The sign-in beside it stands, as does what other functions set."""
    first, second = servers(2)
    first.request(browser, put(user_id="ann", cart=["secret of ann"]))
    other, gate = browser.copy(), Gate()

    def half(session: Session) -> None:
        session["half"] = True
        session["cart"].append("of bob")

    def application(session: Session) -> None:
        session.mutate(half)
        session.mutate(append("seen", 1))
        session["user_id"] = "bob"

    running = first.begin(browser, held(gate, application))
    gate.wait_for()
    second.request(other, end)
    gate.open()
    assert running.answer().status == 200
    assert second.request(browser, read).value == {"seen": [1], "user_id": "bob"}


def test_g5_a_commit_whose_function_raises_over_nothing_says_gone(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """It has no result; the sign-in is stored with the response all the same."""
    first, second = servers(2)
    first.request(browser, put(cart=["tea"]))
    other, gate = browser.copy(), Gate()

    def application(session: Session) -> Generator[Any, Any, str]:
        session["user_id"] = "bob"
        try:
            yield Commit(lambda each: each["cart"].append("milk"))
        except SessionGone:
            return "gone"
        return "committed"

    running = first.begin(browser, held(gate, application))
    gate.wait_for()
    second.request(other, destroy)
    gate.open()
    assert running.answer().value == "gone"
    assert second.request(browser, read).value == {"user_id": "bob"}


# --- the same user again --------------------------------------------------------------------------


def clear_and_mutate(session: Session) -> None:
    session.clear()
    session.mutate(lambda each: each.update(user_id="ada"))


def destroy_and_assign(session: Session) -> None:
    session.destroy()
    session["user_id"] = "ada"


def clear_and_commit(session: Session) -> Generator[Any, Any, None]:
    session.clear()
    yield Commit(lambda each: each.update(user_id="ada"))


AGAIN: dict[str, Application] = {
    "clear": refill(user_id="ada"),
    "clear and mutate": clear_and_mutate,
    "clear and commit": clear_and_commit,
    "all in a function": lambda session: session.mutate(refill(user_id="ada")),
    "destroy": destroy_and_assign,
}
again = pytest.mark.parametrize("sign_in_again", AGAIN.values(), ids=list(AGAIN))


@again
@pytest.mark.parametrize("last", [0, 1])
def test_g5_clear_and_the_same_user_sent_twice_is_a_sign_in(
    servers: Servers, browser: Browser, last: int, sign_in_again: Application
) -> None:
    """Whichever answer the browser keeps, the user is signed in, unless the later one ended it."""
    first, second = servers(2)
    first.request(browser, put(user_id="ada", a=1))
    gate, at_store = Gate(), Gate()
    running = [
        server.begin(browser.copy(), held(each, sign_in_again))
        for server, each in ((first, gate), (second, at_store))
    ]
    gate.wait_for()
    at_store.wait_for()
    gate.open()
    answers = [running[0].end.result(15)]
    at_store.open()
    answers.append(running[1].end.result(15))
    assert [len(answer.cookies) for answer in answers] == [1, 1]
    browser.take(answers[last])
    if last == 0 and sign_in_again is destroy_and_assign:
        return  # destroy() ends the session of the earlier one, as it is documented to
    assert first.request(browser, read).value == {"user_id": "ada"}


@again
def test_g5_clear_and_the_same_user_at_the_absolute_end_is_a_sign_in(
    servers: Servers, browser: Browser, place: Place, sign_in_again: Application
) -> None:
    """The session ends while the password is checked: the user is signed in for a whole time."""
    (server,) = servers(1, absolute_timeout=100)
    server.request(browser, put(user_id="ada", a=1))
    gate = Gate()
    running = server.begin(browser, held(gate, sign_in_again))
    gate.wait_for()
    place.advance(101)
    gate.open()
    assert len(running.answer().cookies) == 1
    place.advance(98)
    assert server.request(browser, read).value == {"user_id": "ada"}


def test_g5_the_same_owner_assigned_again_is_no_sign_in(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Or each request in flight of an application that always assigns it would undo a sign-out."""
    first, second = servers(2)
    first.request(browser, put(user_id="ada", a=1))
    for application in (put(user_id="ada", b=1), committed(put(user_id="ada"))):
        other, gate = browser.copy(), Gate()

        def caught(session: Session, act: Application = application) -> Any:
            try:
                result = act(session)
                return (yield from result) if isinstance(result, Generator) else result
            except SessionGone:
                return "gone"

        running = first.begin(browser.copy(), held(gate, caught))
        gate.wait_for()
        second.request(other, destroy)
        gate.open()
        assert running.answer().cookies == []
        assert place.stored == []
        second.request(browser, put(user_id="ada", a=1))


# --- whose data -----------------------------------------------------------------------------------

ANN = {"user_id": "ann", "cart": ["secret"], "theme": "dark"}


def nested_and_bob(session: Session) -> None:
    session["cart"].append("of bob")
    session["user_id"] = "bob"


def bob_and_theme(session: Session) -> None:
    session["user_id"] = "bob"
    session["theme"] = "dark"  # the value that it had: assigned all the same


def bob_by_mutate(session: Session) -> None:
    session.mutate(lambda each: each.update(user_id="bob"))


def bob_by_function(session: Session) -> None:
    session.mutate(lambda each: each.update(user_id="bob", seen=each.get("cart", [])))


SWITCHES: dict[str, tuple[Application, dict[str, Any]]] = {
    "assigned": (sign_in("bob"), {"user_id": "bob"}),
    "mutate": (bob_by_mutate, {"user_id": "bob"}),
    "commit()": (committed(sign_in("bob")), {"user_id": "bob"}),
    "inside a value": (nested_and_bob, {"user_id": "bob"}),
    "the value it had": (bob_and_theme, {"user_id": "bob", "theme": "dark"}),
    "a function that looks": (bob_by_function, {"user_id": "bob", "seen": []}),
    "another owner key": (put(user_id=None, _user_id="bob"), {"user_id": None, "_user_id": "bob"}),
    "clear": (refill(user_id="bob"), {"user_id": "bob"}),
}
OUTS: dict[str, Application | None] = {
    "directly": None,
    "after a sign-out": sign_out,
    "after None": put(user_id=None),
    "after a sign-out and a visit": None,
}


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("how", SWITCHES)
def test_g5_one_users_data_do_not_pass_to_another(
    servers: Servers, browser: Browser, place: Place, how: str, out: str
) -> None:
    """A, then B, with nobody in between or not: B has what B's sign-in assigned."""
    first, second = servers(2)
    first.request(browser, put(**ANN))
    if out == "after a sign-out and a visit":
        first.request(browser, sign_out)
        second.request(browser, append("cart", "of nobody"))
        second.request(browser, renew)
    elif (sign_out_first := OUTS[out]) is not None:
        second.request(browser, sign_out_first)
    switch, left = SWITCHES[how]
    assert first.request(browser, switch).status == 200
    for server in (first, second):
        assert server.request(browser, read).value == left
    assert place.stored == [left]


def test_g5_a_sign_out_keeps_the_rest_for_the_same_user(servers: Servers, browser: Browser) -> None:
    """Signed out and in again, the same user finds what was left in place."""
    first, second = servers(2)
    first.request(browser, put(**ANN))
    first.request(browser, sign_out)
    assert second.request(browser, read).value == {"cart": ["secret"], "theme": "dark"}
    second.request(browser, sign_in("ann"))
    assert first.request(browser, read).value == ANN


def test_g5_a_first_sign_in_keeps_everything(servers: Servers, browser: Browser) -> None:
    """Cart, next address and token of a visitor whom nobody was before."""
    first, second = servers(2)
    first.request(browser, put(cart=["tea"], next="/pay"))
    second.request(browser, sign_in("ann"))
    assert first.request(browser, read).value == {"cart": ["tea"], "next": "/pay", "user_id": "ann"}


@pytest.mark.parametrize(("before", "after"), [(7, "7"), ("7", 7)])
def test_g5_the_same_user_in_another_type_keeps_everything(
    servers: Servers, browser: Browser, before: object, after: object
) -> None:
    """The owner is text, as in the index: a new ID, and the same user."""
    first, second = servers(2)
    first.request(browser, put(user_id=before, cart=["tea"]))
    second.request(browser, put(user_id=after))
    found = first.request(browser, read).value
    assert found == {"cart": ["tea"], "user_id": after}
    assert type(found["user_id"]) is type(after)


def test_g5_all_goes_along_where_that_is_wanted(
    servers: Servers, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_owner_change="keep"."""
    monkeypatch.setenv("SHAREDSESSION_ON_OWNER_CHANGE", "keep")
    first, second = servers(2)
    first.request(browser, put(**ANN))
    second.request(browser, sign_in("bob"))
    assert first.request(browser, read).value == {**ANN, "user_id": "bob"}


def test_g5_what_others_write_beside_a_switch_stays_behind(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A write of the former user's, between the switch's steps, is no data of the new one."""
    first, second = servers(2)
    first.request(browser, put(**ANN))
    other, at_store = browser.copy(), place.hold("replace")
    running = first.begin(browser, sign_in("bob"))
    at_store.wait_for()
    second.request(other, put(card="of ann"))
    at_store.open()
    assert running.answer().status == 200
    assert place.stored == [{"user_id": "bob"}]


# --- what functions ask for -----------------------------------------------------------------------


def strict(session: Session) -> None:
    if session.get("strikes", 0) >= 3:
        session.destroy()
    else:
        session["seen"] = True


def authenticate(session: Session) -> None:
    if session.get("code") == 42:
        session.mark_authenticated()


def renew_once(session: Session) -> None:
    if session.get("old"):
        session["old"] = False
        session.renew()


def start_over(session: Session) -> None:
    if session.get("old"):
        session.clear()
    session["seen"] = True


@pytest.mark.parametrize(
    ("function", "change", "changes"),
    [
        (strict, {"strikes": 0}, {"seen": True}),
        (authenticate, {"code": None}, {}),
        (renew_once, {"old": None}, {}),
        (start_over, {"old": None}, {"seen": True}),
    ],
    ids=["destroy", "authenticated", "renew", "clear"],
)
@pytest.mark.parametrize("how", ["mutate", "commit"])
def test_g8_what_a_function_asks_for_in_its_last_run_counts(
    servers: Servers,
    browser: Browser,
    place: Place,
    function: Application,
    change: dict[str, Any],
    changes: dict[str, Any],
    how: str,
) -> None:
    """What it asked for before, over older data, does not: no new ID, and no new clock."""
    before = {"user_id": "ada", "strikes": 3, "code": 42, "old": True}
    first, second = servers(2, absolute_timeout=1000)
    first.request(browser, put(**before))
    handle = first.request(browser, lambda session: session.handle).value
    place.advance(500)
    other, gate = browser.copy(), Gate()

    def application(session: Session) -> Generator[Any, Any, None]:
        session["code"]
        if how == "mutate":
            session.mutate(function)
        yield Hold(gate)
        if how == "commit":
            yield Commit(function)

    running = first.begin(browser, application)
    gate.wait_for()
    second.request(other, put(**change))
    gate.open()
    assert running.answer().status == 200
    assert place.stored == [{**before, **change, **changes}]
    assert second.request(browser, lambda session: session.handle).value == handle
    place.advance(501)
    assert second.request(browser, read).value == {}


# --- answers that overtake each other -------------------------------------------------------------


def reload(session: Session) -> Generator[Any, Any, None]:
    yield Reload()


def commit_function(session: Session) -> Generator[Any, Any, None]:
    yield Commit(lambda each: each.update(b=2))


PARALLEL: dict[str, Application] = {
    "a write": put(b=2),
    "a commit()": committed(put(b=2)),
    "a commit(fn)": commit_function,
    "a removal": drop("a"),
    "a change inside a value": append("cart", 1),
    "a function": lambda session: session.mutate(lambda each: each.update(b=2)),
    "a read": read,
    "a reload()": reload,
}


@pytest.mark.parametrize("last", [0, 1], ids=["the write's", "the sign-in's"])
@pytest.mark.parametrize("parallel", PARALLEL.values(), ids=list(PARALLEL))
def test_g5_an_answer_on_its_way_leaves_the_sign_in_in_place(
    servers: Servers, browser: Browser, parallel: Application, last: int
) -> None:
    """Without copies the answer of a request before the sign-in has no cookie to displace its."""
    first, second = servers(2)
    first.request(browser, put(a=1, c=1, cart=[]))
    answers = [
        second.request(browser.copy(), parallel),
        first.request(browser.copy(), sign_in("ada")),
    ]
    assert answers[0].cookies == []
    browser.take(answers[1 - last])
    browser.take(answers[last])
    assert second.request(browser, read).value["user_id"] == "ada"
