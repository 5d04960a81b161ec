"""G2 and G3 where nobody knows whether a write took place: never twice, and reload() finds out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from sharedsession import Session, SessionGone, StoreUnavailable
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Commit,
    Reload,
    Reply,
    add_one,
    clear,
    destroy,
    ignore,
    put,
    read,
    renew,
    sign_in,
)
from tests.guarantees.places import Place

BEFORE = {"n": 0, "cart": ["tea"]}


@dataclass(frozen=True)
class Lost:
    """A commit of which one write is lost; ``done`` is what it comes to, ``undone`` without it."""

    verb: str
    act: Application
    done: dict[str, Any]
    undone: dict[str, Any]
    function: Application | None = add_one
    new: bool = False  # the client has no session yet


LOST = {
    "a write": Lost("replace", ignore, {**BEFORE, "n": 1}, BEFORE),
    "a renewal's first step": Lost("create", renew, {**BEFORE, "n": 1}, BEFORE),
    "a renewal's second step": Lost("replace", renew, {**BEFORE, "n": 1}, BEFORE),
    "a sign-in's first step": Lost(
        "create", sign_in("ada"), {**BEFORE, "n": 1, "user_id": "ada"}, BEFORE
    ),
    "a sign-in's second step": Lost(
        "replace", sign_in("ada"), {**BEFORE, "n": 1, "user_id": "ada"}, BEFORE
    ),
    "a first session": Lost("create", put(a=1), {"a": 1, "n": 1}, {}, new=True),
    "an end": Lost("replace", clear, {}, BEFORE, None),
}
lost = pytest.mark.parametrize("lost", LOST.values(), ids=list(LOST))
# The write arrives before the first store call from then on, before the second, …, or last of all.
landing = pytest.mark.parametrize("landing", [1, 2, 3, 4, 5, 0])


def prepared(server: Any, browser: Browser, lost: Lost) -> None:
    if not lost.new:
        server.request(browser, put(**BEFORE))


def in_doubt(lost: Lost, then: Application) -> Application:
    """Do it, meet the outage, and go on."""

    def application(session: Session) -> Generator[Any, Any, Any]:
        lost.act(session)
        with pytest.raises(StoreUnavailable):
            yield Commit(lost.function)
        result = then(session)
        return (yield from result) if isinstance(result, Generator) else result

    return application


def resolve(session: Session) -> Generator[Any, Any, Any]:
    """Find out, say what was found, and write something else."""
    try:
        yield Reload()
    except SessionGone:
        return "gone"
    shown = {**session, "cart": list(session["cart"])} if "cart" in session else dict(session)
    session["seen"] = True
    yield Commit(None)
    return shown


@landing
@lost
def test_g2_reload_finds_out_what_became_of_a_write(
    servers: Servers, browser: Browser, place: Place, lost: Lost, landing: int
) -> None:
    """It has happened, or never will, whenever the write arrives; what is shown is what stays."""
    first, second = servers(2)
    prepared(first, browser, lost)
    old = browser.copy()
    late = place.delay(lost.verb, landing=landing)
    answer = first.request(browser, in_doubt(lost, resolve))
    late.land()
    if answer.value == "gone":
        assert lost.done == {}
        assert place.stored == []
        return
    shown = answer.value
    assert shown in (lost.done, lost.undone)
    if landing == 1:  # it was there when reload() looked, the second step of a renewal too
        is_first_step = lost.verb == "create" and not lost.new
        assert shown == (lost.undone if is_first_step else lost.done)
    if landing == 0:
        assert shown == lost.undone
    for server in (first, second):
        assert server.request(browser, read).value == {**shown, "seen": True}
    assert place.stored == [{**shown, "seen": True}]
    if shown == lost.done and lost.act is not ignore and not lost.new:
        assert second.request(old, read).value == {}


@pytest.mark.parametrize("status", [200, 409, 500])
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@lost
def test_g2_what_is_in_doubt_is_never_done_again(
    servers: Servers, browser: Browser, place: Place, lost: Lost, after: bool, status: int
) -> None:
    """Not by a later commit, nor by the response, which confirms nothing and sets no cookie."""
    first, second = servers(2)
    prepared(first, browser, lost)

    def go_on(session: Session) -> Generator[Any, Any, Reply]:
        errors = []
        for function in (add_one, None, add_one):
            with pytest.raises(StoreUnavailable) as raised:
                yield Commit(function)
            errors.append(str(raised.value))
        return Reply(errors, status)

    place.fail(lost.verb, after=after)
    place.forget()
    answer = first.request(browser, in_doubt(lost, go_on))
    assert answer.cookies == []
    assert answer.status == (409 if status == 409 else 503)
    if status == 409:
        assert len(set(answer.value)) == 1
    assert place.writes.count(lost.verb) == 1
    # A session that no client holds may be there; what one holds was changed once at most.
    found = second.request(browser, read).value
    assert found in (lost.undone, lost.done, {})


@landing
@lost
def test_g3_destroy_ends_what_is_in_doubt(
    servers: Servers, browser: Browser, place: Place, lost: Lost, landing: int
) -> None:
    """A sign-out works in doubt, too: whatever the unknown write has made is ended."""
    first, second = servers(2)
    prepared(first, browser, lost)
    old = browser.copy()
    late = place.delay(lost.verb, landing=landing)
    assert first.request(browser, in_doubt(lost, destroy)).status == 200
    late.land()
    assert place.stored == []
    for client in (browser, old):
        assert second.request(client, read).value == {}


@landing
def test_g3_a_late_write_finds_nothing_of_a_new_session(
    servers: Servers, browser: Browser, place: Place, landing: int
) -> None:
    """destroy() in doubt, then a sign-in of another user in the same request: only that is left."""
    first, second = servers(2)
    first.request(browser, put(**BEFORE))

    def another_user(session: Session) -> Generator[Any, Any, None]:
        session.destroy()
        yield Commit()
        session["user_id"] = "bob"

    late = place.delay("replace", landing=landing)
    assert first.request(browser, in_doubt(LOST["a sign-in's second step"], another_user))
    late.land()
    assert second.request(browser, read).value == {"user_id": "bob"}
    assert place.stored == [{"user_id": "bob"}]


@lost
def test_g9_reload_in_an_outage_that_lasts(
    servers: Servers, browser: Browser, place: Place, lost: Lost
) -> None:
    """It raises, the doubt remains, and the next one finds out all the same."""
    first, second = servers(2)
    prepared(first, browser, lost)

    def patient(session: Session) -> Generator[Any, Any, Any]:
        for verb in ("load", "replace", "create"):
            place.fail(verb)
            try:
                yield Reload()
            except SessionGone:
                return "gone"
            except StoreUnavailable:
                with pytest.raises(StoreUnavailable):
                    yield Commit(add_one)
            else:
                break
        place.recover()
        return (yield from resolve(session))

    place.fail(lost.verb, after=True)
    answer = first.request(browser, in_doubt(lost, patient))
    place.recover()
    if answer.value == "gone":
        assert place.stored == []
    else:
        assert second.request(browser, read).value == {**answer.value, "seen": True}
        assert place.stored == [{**answer.value, "seen": True}]
