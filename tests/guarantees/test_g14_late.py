"""G14: a change made after the headers have left is saved, or it is an error that says so."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from sharedsession import LateChange, Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    Later,
    Start,
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

When = Callable[[Application], Application]
WHEN = pytest.mark.parametrize("when", [late, later], ids=["streaming", "background"])


def authenticate(session: Session) -> None:
    session.mark_authenticated()


SAVED: dict[str, tuple[Application, dict[str, Any]]] = {
    "set": (put(a=2), {"a": 2, "cart": [], "n": 0}),
    "nested": (append("cart", "tea"), {"a": 1, "cart": ["tea"], "n": 0}),
    "remove": (drop("a"), {"cart": [], "n": 0}),
    "mutate": (increment, {"a": 1, "cart": [], "n": 1}),
    "destroy": (destroy, {}),
    "clear": (clear, {}),
}


@WHEN
@pytest.mark.parametrize("case", SAVED)
def test_g14_a_late_change_is_saved(
    servers: Servers, browser: Browser, place: Place, case: str, when: When
) -> None:
    """While the body or a background task runs: stored, if the session had its cookie."""
    change, expected = SAVED[case]
    first, second = servers(2)
    first.request(browser, put(a=1, cart=[], n=0))
    answer = first.request(browser, when(change))
    assert answer.status == 200
    assert answer.error is None
    assert second.request(browser, read).value == expected
    assert place.stored == ([expected] if expected else [])


@WHEN
def test_g14_a_late_change_of_a_session_that_was_not_used_before(
    servers: Servers, browser: Browser, when: When
) -> None:
    """Used for the first time after the headers left: saved all the same."""
    first, second = servers(2)
    first.request(browser, put(a=1))

    def application(session: Session) -> Generator[Any, Any, None]:
        yield Start() if when is late else Later()
        session["a"] = 2

    assert first.request(browser, application).error is None
    assert second.request(browser, read).value == {"a": 2}


@WHEN
def test_g14_late_changes_beside_others(servers: Servers, browser: Browser, when: When) -> None:
    """A late change meets what others wrote meanwhile: both stay."""
    first, second = servers(2)
    first.request(browser, put(n=0, cart=[]))
    gate = Gate()

    def slow(session: Session) -> Generator[Any, Any, None]:
        session["early"] = 1
        yield Start() if when is late else Later()
        yield Hold(gate)
        session["cart"].append("tea")
        increment(session)

    running = first.begin(browser, slow)
    running.started()
    gate.wait_for()
    second.request(browser, increment)
    second.request(browser, put(b=2))
    gate.open()
    assert running.answer().error is None
    expected = {"n": 2, "cart": ["tea"], "early": 1, "b": 2}
    assert second.request(browser, read).value == expected


LOUD: dict[str, Application] = {
    "sign in": sign_in("bob"),
    "sign out": sign_out,
    "renew": renew,
    "authenticated": authenticate,
    "refill": refill(a=2),
    "by mutate": lambda session: session.mutate(lambda each: each.update(user_id="bob")),
}


@WHEN
@pytest.mark.parametrize("case", LOUD)
def test_g14_a_late_change_of_owner_is_an_error(
    servers: Servers, browser: Browser, place: Place, case: str, when: When
) -> None:
    """What would need a new cookie raises LateChange, with a sentence, and changes nothing."""
    first, second = servers(2)
    before = {"a": 1, "user_id": "ada"}
    first.request(browser, put(**before))
    answer = first.request(browser, when(LOUD[case]))
    assert isinstance(answer.error, LateChange)
    assert "before the response starts" in str(answer.error)
    assert second.request(browser, read).value == before
    assert place.stored == [before]


@WHEN
@pytest.mark.parametrize("used", [False, True], ids=["first use", "used before"])
@pytest.mark.parametrize("change", [put(a=1), sign_in("ada"), increment])
def test_g14_a_late_first_session_is_an_error(
    servers: Servers, browser: Browser, place: Place, when: When, used: bool, change: Application
) -> None:
    """A client without a session cannot be given one any more: LateChange, and no row."""
    (server,) = servers(1)

    def application(session: Session) -> Generator[Any, Any, None]:
        if used:
            session.get("a")
        yield Start() if when is late else Later()
        change(session)

    answer = server.request(browser, application)
    assert answer.status == 200
    assert isinstance(answer.error, LateChange)
    assert place.verbs == []


@WHEN
def test_g14_a_session_just_made_has_its_cookie(
    servers: Servers, browser: Browser, when: When
) -> None:
    """What the same response created may be changed late: its cookie is on its way."""
    first, second = servers(2)

    def application(session: Session) -> Generator[Any, Any, None]:
        session["cart"] = []
        session["user_id"] = "ada"
        yield Start() if when is late else Later()
        session["cart"].append("tea")

    assert first.request(browser, application).error is None
    assert second.request(browser, read).value == {"cart": ["tea"], "user_id": "ada"}


@WHEN
def test_g14_a_late_commit(servers: Servers, browser: Browser, place: Place, when: When) -> None:
    """commit() works late as well, and says at once what it cannot do."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    seen: list[Any] = []

    def application(session: Session) -> Generator[Any, Any, None]:
        session.get("a")
        yield Start() if when is late else Later()
        session["a"] = 2
        yield Commit()
        seen.append(place.stored)
        session["user_id"] = "ada"
        try:
            yield Commit()
        except LateChange as error:
            seen.append(str(error))
            del session["user_id"]

    assert first.request(browser, application).error is None
    assert seen[0] == [{"a": 2}]
    assert "headers had left" in seen[1]
    assert second.request(browser, read).value == {"a": 2}


@WHEN
def test_g14_a_late_commit_of_a_session_that_was_not_used_before(
    servers: Servers, browser: Browser, place: Place, when: When
) -> None:
    """Its first use comes after the headers: commit() knows that they have left."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    seen: list[str] = []

    def application(session: Session) -> Generator[Any, Any, None]:
        yield Start() if when is late else Later()
        session["user_id"] = "ada"
        try:
            yield Commit()
        except LateChange as error:
            seen.append(str(error))
        session.pop("user_id")

    assert server.request(browser, application).error is None
    assert "headers had left" in seen[0]
    assert place.stored == [{"a": 1}]
    assert server.request(browser, read).value == {"a": 1}


@WHEN
def test_g14_nothing_late_is_nothing_written(
    servers: Servers, browser: Browser, place: Place, when: When
) -> None:
    """Reading late writes nothing, and does not touch either."""
    (server,) = servers(1, max_age=1000)
    server.request(browser, put(a=1))
    place.advance(300)

    def application(session: Session) -> Generator[Any, Any, None]:
        yield Start() if when is late else Later()
        place.forget()
        session.get("a")

    assert server.request(browser, application).error is None
    assert place.writes == []


def test_g14_a_late_change_of_what_ended_is_dropped(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Ended meanwhile: the late change is dropped and counted, as any other."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    gate = Gate()
    slow = first.begin(browser.copy(), late(held(gate, put(a=2))))
    gate.wait_for()
    second.request(browser, destroy)
    gate.open()
    assert slow.answer().error is None
    assert first.counts["gone"] == 1
    assert place.stored == []
