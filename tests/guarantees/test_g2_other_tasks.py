"""G2 for the tasks of one request: what one does while another commits is done again on top."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Beside,
    Browser,
    Commit,
    Gate,
    Hold,
    add_one,
    append,
    clear,
    destroy,
    drop,
    ignore,
    increment,
    put,
    read,
    refill,
    renew,
    sign_in,
)
from tests.guarantees.places import Place

# A memory never waits, so nothing can come while it writes.
pytestmark = pytest.mark.parametrize("place", ["SQLite", "Redis"], indirect=True)

BEFORE = {"n": 0, "x": "", "b": 1, "cart": ["tea"]}
COMMITTED = {**BEFORE, "n": 1}  # by the task that commits
CONFLICT = {"x": "other", "y": 2, "cart": ["tea", "salt"]}  # by another request meanwhile


@dataclass(frozen=True)
class Act:
    """What another task does; ``changes`` are made to what was committed, None removes."""

    do: Application
    changes: dict[str, Any]
    fresh: bool = False  # nothing of what was committed stays
    renews: bool = False


def setting_again(session: Session) -> None:
    """A key that has this value already, which is no change."""
    session["x"] = ""


def in_its_own_function(session: Session) -> None:
    session["b"] = 5
    session.mutate(lambda each: each.update(b=each["b"] + each["n"]))


ACTS = {
    "a key": Act(put(z=1), {"z": 1}),
    "a key that others set": Act(put(x="task"), {"x": "task"}),
    "the value it had": Act(setting_again, {}),
    "inside a value": Act(append("cart", "milk"), {"cart": ["tea", "milk"]}),
    "removal": Act(drop("b"), {"b": None}),
    "mutate": Act(increment, {"n": 1}),  # added
    "steps": Act(in_its_own_function, {"b": 6}),  # 5, and the increment that was committed
    "renew": Act(renew, {}, renews=True),
    "destroy": Act(destroy, {}, fresh=True),
    "clear": Act(clear, {}, fresh=True),
    "refill": Act(refill(z=1), {"z": 1}, fresh=True, renews=True),
    "sign in": Act(sign_in("ada"), {"user_id": "ada"}, renews=True),
    "nothing": Act(ignore, {}),
}


def expected(act: Act, *, conflict: bool) -> dict[str, Any]:
    """What is stored in the end, said independently."""
    if act.fresh:
        return act.changes
    found = {**COMMITTED, **(CONFLICT if conflict else {})}
    for key, value in act.changes.items():
        if key == "n":
            found["n"] += value
        elif value is None:
            del found[key]
        else:
            found[key] = value
    return found


@pytest.mark.parametrize("function", [add_one, None], ids=["commit(fn)", "commit()"])
@pytest.mark.parametrize("conflict", [False, True], ids=["alone", "conflict"])
@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_g2_what_comes_during_a_commit_is_kept(
    servers: Servers,
    browser: Browser,
    place: Place,
    act: Act,
    conflict: bool,
    function: Application | None,
) -> None:
    """Changes, functions and requests of another task, over what was committed, at the end."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    other = browser.copy()
    handle = first.request(browser, lambda session: session.handle).value
    gate, at_store = Gate(), place.hold("replace")

    def application(session: Session) -> Generator[Any, Any, None]:
        if function is None:
            session.mutate(add_one)
        yield Beside(gate, act.do, at_store, function)

    running = first.begin(browser, application)
    at_store.wait_for()
    if conflict:
        second.request(other, put(**CONFLICT))
    gate.open()
    assert running.answer().status == 200
    left = expected(act, conflict=conflict)
    assert place.stored == ([left] if left else [])
    for server in (first, second):
        assert server.request(browser, read).value == left
    if left:
        new = second.request(browser, lambda session: session.handle).value
        assert (new != handle) is act.renews


@pytest.mark.parametrize("at", ["create", "replace"])
@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_g2_what_comes_during_a_renewal_is_kept(
    servers: Servers, browser: Browser, place: Place, act: Act, at: str
) -> None:
    """At either step of it; and the old ID is dead."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    old = browser.copy()
    gate, at_store = Gate(), place.hold(at)

    def application(session: Session) -> Generator[Any, Any, None]:
        session.renew()
        yield Beside(gate, act.do, at_store, add_one)

    running = first.begin(browser, application)
    at_store.wait_for()
    gate.open()
    assert running.answer().status == 200
    left = expected(act, conflict=False)
    assert place.stored == ([left] if left else [])
    assert second.request(browser, read).value == left
    assert first.request(old, read).value == {}


def test_g2_a_function_of_another_task_runs_again_later(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """It is a step like any other: what others write before its own commit is counted."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    other = browser.copy()
    gate, at_store, pause = Gate(), place.hold("replace"), Gate()

    def application(session: Session) -> Generator[Any, Any, int]:
        session["x"] = "first"
        yield Beside(gate, increment, at_store, add_one)
        yield Hold(pause)
        yield Commit()
        return int(session["n"])

    running = first.begin(browser, application)
    at_store.wait_for()
    second.request(other, increment)
    gate.open()
    pause.wait_for()
    second.request(other, increment)
    pause.open()
    assert running.answer().value == 4
    assert second.request(browser, read).value == {**BEFORE, "x": "first", "n": 4}


def test_g2_a_first_session_that_two_tasks_fill(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """One creates it, the other adds to it: one session, with both."""
    (server,) = servers(1)
    gate, at_store = Gate(), place.hold("create")

    def application(session: Session) -> Generator[Any, Any, None]:
        session["a"] = 1
        yield Beside(gate, put(b=2), at_store)

    running = server.begin(browser, application)
    at_store.wait_for()
    gate.open()
    assert running.answer().status == 200
    assert server.request(browser, read).value == {"a": 1, "b": 2}
    assert place.stored == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("fails", ["load", "replace"])
def test_g2_what_comes_during_a_commit_that_fails_is_kept(
    servers: Servers, browser: Browser, place: Place, fails: str
) -> None:
    """Nothing unknown: the next commit does the steps of both. Else: a 503, and none is stored."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    other = browser.copy()
    gate, at_store = Gate(), place.hold("replace")

    def application(session: Session) -> Generator[Any, Any, None]:
        session["x"] = "first"
        with pytest.raises(Exception, match="of the tests' own"):
            yield Beside(gate, increment, at_store)

    running = first.begin(browser, application)
    at_store.wait_for()
    second.request(other, put(**CONFLICT))
    place.fail(fails)
    gate.open()
    answer = running.answer()
    found = second.request(browser, read).value
    if fails == "load":
        assert answer.status == 200
        assert found == {**BEFORE, **CONFLICT, "x": "first", "n": 1}
    else:
        assert answer.status == 503
        assert found == {**BEFORE, **CONFLICT}


def test_g2_a_function_that_fails_drops_its_own_step_only(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """commit(fn) raises over newer data; what another task did meanwhile is committed later."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))
    other = browser.copy()
    gate, at_store = Gate(), place.hold("replace")

    def strict(session: Session) -> None:
        session["half"] = True
        if session["x"] == "other":
            raise KeyError("too late")

    def application(session: Session) -> Generator[Any, Any, None]:
        with pytest.raises(KeyError, match="too late"):
            yield Beside(gate, increment, at_store, strict)

    running = first.begin(browser, application)
    at_store.wait_for()
    second.request(other, put(**CONFLICT))
    gate.open()
    assert running.answer().status == 200
    assert second.request(browser, read).value == {**BEFORE, **CONFLICT, "n": 1}
