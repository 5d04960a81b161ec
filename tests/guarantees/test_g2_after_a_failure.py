"""G2 whatever the application does after a failure: nothing of others is lost, none half-done."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import Session, StoreUnavailable
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import stores_nothing
from tests.guarantees.driver import (
    Adapter,
    Application,
    Browser,
    Commit,
    Gate,
    GiveUp,
    Hold,
    Reload,
    Reply,
    add_one,
    increment,
    put,
    read,
)
from tests.guarantees.places import Place


class NotEnough(Exception):
    """The function's own error."""


def pay(session: Session) -> None:
    """Half of it is done when it raises."""
    session["balance"] -= 10
    session["paid"] = True
    if session["balance"] < 0:
        raise NotEnough


BEFORE = {"balance": 10, "n": 0, "x": 0, "cart": ["tea"]}
OTHERS = {"balance": 3, "order": "do not lose", "n": 1}


def renewed(session: Session) -> None:
    session["x"] = 1
    session.renew()


def counted(session: Session) -> None:
    session["x"] = 1
    session.mutate(add_one)


OWN: dict[str, tuple[Application, int]] = {  # with what n comes to
    "a plain change": (put(x=1), 1),
    "a renewal": (renewed, 1),
    "a function": (counted, 2),
}
own = pytest.mark.parametrize(("act", "n"), OWN.values(), ids=list(OWN))


def others(session: Session) -> None:
    """What another request writes meanwhile."""
    session.update(OTHERS)


def going_on(
    act: Application, gate: Gate, function: Any = None, *, reload: bool = False, status: int = 200
) -> Application:
    """Act, commit when the gate has opened, and go on whatever came of that."""

    def application(session: Session) -> Generator[Any, Any, Any]:
        act(session)
        yield Hold(gate)
        try:
            yield Commit(function)
        except (NotEnough, StoreUnavailable) as error:
            if reload:
                yield Reload()
                act(session)
            return Reply(type(error).__name__, status)
        return Reply("committed", status)

    return application


@own
def test_g2_a_function_that_raises_over_newer_data_is_no_step(
    servers: Servers, browser: Browser, place: Place, act: Application, n: int
) -> None:
    """commit(fn) meets a conflict, fn raises, the application answers: what others wrote stays."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate = Gate()
    slow = first.begin(browser, going_on(act, gate, pay))
    gate.wait_for()
    second.request(browser.copy(), others)
    gate.open()
    assert slow.answer().value == "NotEnough"
    assert second.request(browser, read).value == {**BEFORE, **OTHERS, "x": 1, "n": n}
    assert len(place.stored) == 1


@own
def test_g2_a_blip_in_the_second_round_loses_nothing(
    servers: Servers, browser: Browser, place: Place, act: Application, n: int
) -> None:
    """The load after a conflict fails, so nothing is unknown: the next commit does it all."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate, at_store = Gate(), place.hold("replace")
    gate.open()
    slow = first.begin(browser, going_on(act, gate))
    at_store.wait_for()
    second.request(browser.copy(), others)
    place.fail("load")
    at_store.open()
    assert slow.answer().value == "StoreUnavailable"
    assert second.request(browser, read).value == {**BEFORE, **OTHERS, "x": 1, "n": n}
    assert len(place.stored) == 1


@pytest.mark.parametrize("reload", [False, True], ids=["goes on", "reloads"])
@own
def test_g2_a_lost_answer_in_the_second_round_loses_nothing(
    servers: Servers, browser: Browser, place: Place, act: Application, n: int, reload: bool
) -> None:
    """Nor is the success of what is not known confirmed; reload() makes it known."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate, at_store = Gate(), place.hold("replace")
    gate.open()
    slow = first.begin(browser, going_on(act, gate, reload=reload))
    at_store.wait_for()
    second.request(browser.copy(), others)
    place.fail("replace")
    at_store.open()
    answer = slow.answer()
    if reload:
        assert answer.value == "StoreUnavailable"
        assert place.stored == [{**BEFORE, **OTHERS, "x": 1, "n": n}]
    else:
        assert (answer.status, answer.cookies) == (503, [])
    expected = {**BEFORE, **OTHERS} | ({"x": 1, "n": n} if reload else {})
    assert second.request(browser, read).value == expected


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_g2_what_a_function_said_is_not_half_stored(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, status: int
) -> None:
    """Its result was handed out, and it raises over newer data: a 500, and nothing is stored."""
    if stores_nothing(adapter, status):
        return
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate = Gate()

    def application(session: Session) -> Generator[Any, Any, Reply]:
        session["x"] = 1
        session.mutate(pay)
        session.setdefault("later", []).append(1)
        yield Hold(gate)
        return Reply("paid", status)

    slow = first.begin(browser, application)
    gate.wait_for()
    second.request(browser.copy(), others)
    gate.open()
    answer = slow.answer()
    assert (answer.status, answer.cookies) == (500, [])
    assert b"could not be stored" in answer.body
    assert answer.all("retry-after") == []
    assert first.counts["replay_failed"] == 1
    assert place.stored == [{**BEFORE, **OTHERS}]
    assert first.request(browser, increment).value == 2


@pytest.mark.parametrize("status", [200, 402, 500])
def test_g2_a_failed_request_stays_failed(
    servers: Servers, browser: Browser, place: Place, status: int
) -> None:
    """Each later commit raises it again; the application's own answer to it passes."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate = Gate()

    def application(session: Session) -> Generator[Any, Any, Reply]:
        session["x"] = 1
        session.mutate(pay)
        yield Hold(gate)
        met = 0
        for function in (None, add_one, None):
            try:
                yield Commit(function)
            except NotEnough:
                met += 1
        return Reply(met, status)

    slow = first.begin(browser, application)
    gate.wait_for()
    second.request(browser.copy(), others)
    gate.open()
    answer = slow.answer()
    assert answer.cookies == []
    assert answer.status == (402 if status == 402 else 500)
    assert (status != 402) or answer.value == 3
    assert place.stored == [{**BEFORE, **OTHERS}]


def test_g2_reload_makes_a_failed_request_sound(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The steps are dropped, and what comes after them is stored."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    gate = Gate()

    def application(session: Session) -> Generator[Any, Any, dict[Any, Any]]:
        session.mutate(pay)
        yield Hold(gate)
        with pytest.raises(NotEnough):
            yield Commit()
        yield Reload()
        shown = dict(session)
        session.mutate(add_one)
        return shown

    slow = first.begin(browser, application)
    gate.wait_for()
    second.request(browser.copy(), others)
    gate.open()
    assert slow.answer().value == {**BEFORE, **OTHERS}
    assert place.stored == [{**BEFORE, **OTHERS, "n": 2}]


@pytest.mark.parametrize("how", ["mutate", "commit"])
def test_g2_a_function_that_raises_leaves_nothing_behind(
    servers: Servers, browser: Browser, how: str
) -> None:
    """Not half of it, nor what it asked for; the steps before it, and the one after, stay."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE, user_id="ada"))
    handle = first.request(browser, lambda session: session.handle).value

    def half(session: Session) -> None:
        session["balance"] = 0
        session["cart"].append("half")
        session["user_id"] = "eve"
        session.renew()
        session.destroy()
        raise NotEnough

    def application(session: Session) -> Generator[Any, Any, dict[Any, Any]]:
        session["x"] = 1
        if how == "mutate":
            with pytest.raises(NotEnough):
                session.mutate(half)
        else:
            with pytest.raises(NotEnough):
                yield Commit(half)
        shown = {**session, "cart": list(session["cart"])}
        session["cart"].append("milk")
        return shown

    expected = {**BEFORE, "x": 1, "user_id": "ada"}
    shown = first.request(browser, application).value
    assert shown == expected
    assert second.request(browser, read).value == {**expected, "cart": ["tea", "milk"]}
    assert second.request(browser, lambda session: session.handle).value == handle


# --- a timeout of the application's own -----------------------------------------------------------

# A memory never waits, so there is no moment in which a commit could be cancelled.
waits = pytest.mark.parametrize("place", ["SQLite", "Redis"], indirect=True)


def giving_up(act: Application, gate: Gate, *, reload: bool = False) -> Application:
    """Act, and cancel the commit of that when the gate opens."""

    def application(session: Session) -> Generator[Any, Any, dict[Any, Any] | None]:
        act(session)
        yield GiveUp(gate)
        if not reload:
            return None
        yield Reload()
        shown = dict(session)
        session["after"] = True
        return shown

    return application


@waits
@own
def test_g2_a_commit_cancelled_in_its_second_round_loses_nothing(
    sockets: Servers, browser: Browser, place: Place, act: Application, n: int
) -> None:
    """While it loads, nothing is unknown: the commit at the response's start does it all."""
    first, second = sockets(2)
    first.request(browser, put(**BEFORE))
    gate, at_store = Gate(), place.hold("replace")
    slow = first.begin(browser, giving_up(act, gate))
    at_store.wait_for()
    second.request(browser.copy(), others)
    again = place.hold("load")
    at_store.open()
    again.wait_for()
    gate.open()
    assert slow.answer().status == 200
    again.open()
    assert second.request(browser, read).value == {**BEFORE, **OTHERS, "x": 1, "n": n}
    assert len(place.stored) == 1


@waits
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("reload", [False, True], ids=["goes on", "reloads"])
@own
def test_g2_a_write_cancelled_is_never_done_twice(
    sockets: Servers,
    browser: Browser,
    place: Place,
    act: Application,
    n: int,
    reload: bool,
    after: bool,
) -> None:
    """Cancelled while the store writes: unknown, until reload() has found out, for good."""
    first, second = sockets(2)
    first.request(browser, put(**BEFORE))
    gate, at_store = Gate(), place.hold("replace")
    slow = first.begin(browser, giving_up(act, gate, reload=reload))
    at_store.wait_for()
    second.request(browser.copy(), others)
    again = place.hold("replace", after=after)
    at_store.open()
    again.wait_for()
    gate.open()
    answer = slow.answer()
    again.open()  # in a thread of its own the write is still on its way
    untouched, done = {**BEFORE, **OTHERS}, {**BEFORE, **OTHERS, "x": 1, "n": n}
    if reload:
        shown = answer.value
        assert shown in (untouched, done)
        assert second.request(browser, read).value == {**shown, "after": True}
        assert place.stored == [{**shown, "after": True}]
    else:
        assert (answer.status, answer.cookies) == (503, [])
        assert second.request(browser, read).value in (untouched, done, {})
