"""G2: requests that run at the same time all keep their changes of different keys."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Answer,
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    add_one,
    append,
    destroy,
    drop,
    held,
    increment,
    put,
    read,
    refill,
    renew,
)
from tests.guarantees.places import Place

Overlap = Callable[..., list[Answer]]


@pytest.fixture
def overlap(servers: Servers, browser: Browser) -> Overlap:
    """Run applications at the same time, each on the session as it was before all of them."""

    def overlapping(*applications: Application) -> list[Answer]:
        three = servers(3)
        three[0].request(browser, put(a=1, b=2, cart=["tea"], n=0))
        gate = Gate()
        running = [
            three[number % 3].begin(browser, held(gate, application))
            for number, application in enumerate(applications)
        ]
        gate.wait_for(len(running))
        gate.open()
        answers = [each.answer() for each in running]
        assert [answer.status for answer in answers] == [200] * len(answers)
        return answers

    return overlapping


@pytest.fixture
def final(servers: Servers, browser: Browser) -> Callable[[], dict[str, Any]]:
    """What the client finds in the end."""
    return lambda: servers.running[-1].request(browser, read).value  # type: ignore[no-any-return]


Final = Callable[[], dict[str, Any]]


def test_g2_different_keys_all_survive(overlap: Overlap, final: Final) -> None:
    """Eight requests set a key each, one removes one, one appends in another: all of it stays."""
    overlap(*(put(**{f"key{n}": n}) for n in range(8)), drop("a"), append("cart", "milk"))
    changed = {f"key{number}": number for number in range(8)}
    assert final() == {"b": 2, "cart": ["tea", "milk"], "n": 0, **changed}


def test_g2_of_one_key_the_last_commit_wins_whole(
    servers: Servers, browser: Browser, overlap: Overlap, final: Final
) -> None:
    """Two changes in one list do not mix: it is one of the two, as that request saw it."""
    overlap(append("cart", "milk"), append("cart", "salt"))
    assert final()["cart"] in (["tea", "milk"], ["tea", "salt"])
    first, second = servers(2)
    gate = Gate()
    slow = first.begin(browser, held(gate, put(a={"slow": True})))
    gate.wait_for()
    second.request(browser, put(a={"fast": True}))
    gate.open()
    slow.answer()
    assert final()["a"] == {"slow": True}


def test_g2_mutate_runs_again_until_it_fits(overlap: Overlap, final: Final) -> None:
    """Thirty increments at the same time, on three servers, add up to thirty."""
    answers = overlap(*[increment] * 30)
    assert final()["n"] == 30
    assert all(1 <= answer.value <= 30 for answer in answers)


def test_g2_changes_around_mutate_keep_their_order(overlap: Overlap, final: Final) -> None:
    """What a request did before and after mutate() is done again in the same order."""

    def application(session: Session) -> None:
        session["a"] = 10
        session.mutate(lambda each: each.update(a=each["a"] + each["n"]))
        session["b"] = 20
        session.mutate(lambda each: each.update(b=each["b"] + 1))

    overlap(application, *[increment] * 5)
    found = final()
    assert found["n"] == 5
    assert 10 <= found["a"] <= 15
    assert found["b"] == 21


def test_g2_commit_returns_what_counted(servers: Servers, browser: Browser) -> None:
    """A one-time token goes to one request only, however many ask for it at the same time."""
    three = servers(3)
    three[0].request(browser, put(token="one", n=0))
    gate = Gate()

    def take(session: Session) -> Generator[Any, Any, tuple[Any, bool]]:
        session.get("token")
        yield Hold(gate)
        token = yield Commit(lambda each: each.pop("token", None))
        return token, "token" in session

    running = [three[number % 3].begin(browser, take) for number in range(9)]
    gate.wait_for(9)
    gate.open()
    values = [each.answer().value for each in running]
    assert sorted(values, key=str) == [("one", False), *[(None, False)] * 8]


def test_g2_one_counter_for_commit_and_mutate(overlap: Overlap, final: Final) -> None:
    """Increments by commit(fn), by mutate(), and by both in one request add up."""

    def by_commit(session: Session) -> Generator[Any, Any, None]:
        yield Commit(add_one)

    def twice(session: Session) -> Generator[Any, Any, None]:
        yield Commit(add_one)
        session.mutate(add_one)

    overlap(*[by_commit] * 5, *[increment] * 5, *[twice] * 5)
    assert final()["n"] == 20


def test_g2_who_only_reads_never_writes(
    servers: Servers, browser: Browser, place: Place, final: Final
) -> None:
    """A reader that began before a change and ends after it writes nothing and undoes nothing."""
    first, second = servers(2)
    first.request(browser, put(a=1, cart=["tea"]))
    gate = Gate()
    readers = [first.begin(browser, held(gate, read)) for _ in range(3)]
    gate.wait_for(3)
    second.request(browser, put(a=2))
    place.forget()
    gate.open()
    assert [reader.answer().value for reader in readers] == [{"a": 1, "cart": ["tea"]}] * 3
    assert place.writes == []
    assert final()["a"] == 2


def test_g2_setting_the_same_value_is_no_change(overlap: Overlap, final: Final) -> None:
    """A request that sets a key to the value it had does not undo what somebody else did."""
    overlap(put(a=1, cart=["tea"]), put(b=3), drop("a"), append("cart", "milk"))
    assert final() == {"b": 3, "cart": ["tea", "milk"], "n": 0}


def test_g2_values_are_compared_by_type_too(overlap: Overlap, final: Final) -> None:
    """1, True and 1.0 are different values: replacing one by another is a change."""
    overlap(put(a=True), put(b=2.0), put(c=3))
    found = final()
    assert (found["a"], found["b"]) == (1, 2)
    assert (type(found["a"]), type(found["b"])) == (bool, float)


@pytest.mark.parametrize("end", [destroy, renew, refill(z=1)], ids=["destroy", "renew", "refill"])
def test_g2_a_change_of_an_ended_session_is_dropped_and_counted(
    servers: Servers, end: Application
) -> None:
    """The exception: ended or renewed meanwhile, the change is dropped, and counted as gone."""
    first, second = servers(2)
    for number, change in enumerate((put(a=5), increment, append("cart", 1), drop("a"))):
        browser = Browser()
        first.request(browser, put(a=1, b=2, cart=[], n=0))
        gate = Gate()
        slow = first.begin(browser.copy(), held(gate, change))
        gate.wait_for()
        second.request(browser, end)
        after = second.request(browser.copy(), read).value
        gate.open()
        answer = slow.answer()
        assert answer.status == 200
        assert answer.cookies == []
        assert first.counts["gone"] == number + 1
        assert second.request(browser, read).value == after


def test_g2_emptied_key_by_key_keeps_what_others_wrote(servers: Servers, browser: Browser) -> None:
    """Removing every key ends a session only if nobody wrote meanwhile; else it is merged."""
    first, second = servers(2)
    first.request(browser, put(a=1, b=2))
    gate = Gate()
    slow = first.begin(browser, held(gate, drop("a", "b")))
    gate.wait_for()
    second.request(browser, put(c=3))
    gate.open()
    assert slow.answer().status == 200
    assert second.request(browser, read).value == {"c": 3}
    assert "01 Jan 1970" in first.request(browser, drop("c")).cookies[0]
    assert second.request(browser, read).value == {}
