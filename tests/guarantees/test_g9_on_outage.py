"""G9: what the application chooses to do while its sessions cannot be loaded (``on_outage``)."""

from __future__ import annotations

import json
from collections.abc import Generator, MutableMapping
from typing import Any

import pytest

from sharedsession import ConfigurationError, Session, SessionGone, StoreUnavailable
from sharedsession._core.settings import gather
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import is_always_true
from tests.guarantees.driver import (
    Adapter,
    Application,
    Browser,
    Commit,
    Reload,
    Reply,
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
    sign_out,
)
from tests.guarantees.places import WRITES, Place
from tests.guarantees.test_g9_bounded_outage import is_unavailable

READS: dict[str, tuple[Application, Any]] = {
    "dict": (read, {}),
    "get": (lambda session: session.get("a"), None),
    "contains": (lambda session: "a" in session, False),
    "bool": (bool, False),
    "length": (len, 0),
    "iterate": (list, []),
    "items": (lambda session: list(session.items()), []),
    "equal": (lambda session: session == {}, True),
    "unpack": (lambda session: {**session}, {}),
    "json": (json.dumps, "{}"),
    "repr": (repr, "{}"),
    "copy": (lambda session: session.copy(), {}),
    "pop with a default": (lambda session: session.pop("a", 5), 5),
    "handle": (lambda session: session.handle, None),
    "is_new": (lambda session: session.is_new, True),
    "sign out, of nobody": (sign_out, None),
    "a flag of Flask's": (lambda session: setattr(session, "permanent", True), None),
}
CHANGES: dict[str, Application] = {
    "set": put(a=2),
    "nested": append("cart", 1),
    "setdefault": lambda session: session.setdefault("a", 2),
    "mutate": increment,
    "sign in": sign_in("ada"),
    "clear": clear,
    "refill": refill(a=2),
    "renew": renew,
    "destroy": destroy,
    "authenticated": lambda session: session.mark_authenticated(),
}


def test_g9_reads_of_an_empty_session(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter
) -> None:
    """readonly-empty: the page is served as for nobody; nothing is written, no cookie is set."""
    (server,) = servers(1, on_outage="readonly-empty")
    server.request(browser, put(a=1))
    for case, (application, expected) in READS.items():
        if is_always_true(adapter, case):
            continue
        place.forget()
        place.fail("load")
        answer = server.request(browser, application)
        assert (answer.status, answer.value) == (200, expected), case
        assert answer.cookies == [], case
        assert answer.all("vary") == ["Cookie"], case
        assert answer.all("cache-control") == ["no-store"], case
        assert place.writes == [], case
        place.recover()
        assert server.request(browser, read).value == {"a": 1}, case


def test_g9_writes_to_an_empty_session(servers: Servers, browser: Browser, place: Place) -> None:
    """readonly-empty: what would have to be stored is a 503, and the session stays as it was."""
    (server,) = servers(1, on_outage="readonly-empty")
    server.request(browser, put(a=1))
    for case, application in CHANGES.items():
        place.forget()
        place.fail("load", times=2)
        assert is_unavailable(server.request(browser, application)), case
        assert place.writes == [], case
        place.recover()
        assert server.request(browser, read).value == {"a": 1}, case


def test_g9_a_failed_commit_is_a_503_all_the_same(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The choice concerns sessions that cannot be loaded; a failed write is never a success."""
    (server,) = servers(1, on_outage="readonly-empty")
    server.request(browser, put(a=1))
    place.fail(*WRITES)
    assert is_unavailable(server.request(browser, put(a=2)))
    place.recover()
    assert server.request(browser, read).value == {"a": 1}
    assert server.request(browser, drop("a")).status == 200


def test_g9_a_caught_refusal_stores_nothing(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """An application that catches the outage at a write answers what it likes."""
    (server,) = servers(1, on_outage="readonly-empty")
    server.request(browser, put(a=1))

    def application(session: Session) -> Reply:
        assert dict(session) == {}
        try:
            session["a"] = 2
        except StoreUnavailable:
            return Reply("not now", 418)
        raise AssertionError("the outage was hidden")

    place.fail("load")
    answer = server.request(browser, application)
    assert (answer.status, answer.value, answer.cookies) == (418, "not now", [])
    assert server.request(browser, read).value == {"a": 1}


def test_g9_a_function_chooses(servers: Servers, browser: Browser, place: Place) -> None:
    """It is asked with the request and the outage, once, only when a session cannot be loaded."""
    asked: list[tuple[str, bool]] = []

    def choose(request: MutableMapping[str, Any], error: StoreUnavailable) -> Any:
        method = request.get("method") or request["REQUEST_METHOD"]
        asked.append((method, isinstance(error, StoreUnavailable)))
        return "readonly-empty" if method == "GET" else "error"

    (server,) = servers(1, on_outage=choose)
    server.request(browser, put(a=1))
    assert server.request(browser, read).value == {"a": 1}
    assert asked == []
    place.fail("load", times=3)
    assert server.request(browser, lambda session: [dict(session), len(session)]).value == [{}, 0]
    assert is_unavailable(server.request(browser, read, method="POST"))
    assert asked == [("GET", True), ("POST", True)]
    assert server.request(browser, ignore).value == "not used"
    place.recover()
    assert server.request(browser, read).value == {"a": 1}


@pytest.mark.parametrize("wrong", ["ignore", None, 5, ""])
def test_g9_a_choice_that_does_not_exist_is_refused(wrong: Any) -> None:
    """At start-up, with the choices there are; from the environment as well."""
    given = {"secret_key": "secret", "store": "memory://"}
    with pytest.raises(ConfigurationError, match="'error', 'readonly-empty' or a function"):
        gather({**given, "on_outage": wrong}, environ={})
    with pytest.raises(ConfigurationError, match="'error', 'readonly-empty' or a function"):
        gather(given, environ={"SHAREDSESSION_ON_OUTAGE": str(wrong)})
    chosen = gather(given, environ={"SHAREDSESSION_ON_OUTAGE": "readonly-empty"})
    assert chosen.on_outage == "readonly-empty"


def test_g9_a_function_that_answers_nonsense_is_an_error(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The application's own mistake reaches the server's log; it is not taken for a choice."""
    (server,) = servers(1, on_outage=lambda request, error: "later")
    server.request(browser, put(a=1))
    place.fail("load")
    answer = server.request(browser, read)
    assert answer.status == 500
    assert isinstance(answer.error, ConfigurationError)
    assert server.request(browser, read).value == {"a": 1}


# --- the store is back before the response starts -------------------------------------------------


def commit_plainly(session: Session) -> Generator[Any, Any, None]:
    yield Commit()


def commit_a_function(session: Session) -> Generator[Any, Any, Any]:
    return (yield Commit(lambda each: each.pop("token", None)))


def reload(session: Session) -> Generator[Any, Any, None]:
    yield Reload()


STORED = {"user_id": "ada", "token": "once", "cart": ["tea"]}
BACK: dict[str, tuple[Application, dict[str, Any]]] = {
    "commit()": (commit_plainly, STORED),
    "commit(fn)": (commit_a_function, {"user_id": "ada", "cart": ["tea"]}),
    "reload()": (reload, STORED),
}
THEN: dict[str, tuple[Application, dict[str, Any]]] = {
    "nothing": (ignore, {}),
    "a read": (read, {}),
    "a write": (put(x=1), {"x": 1}),
    "inside a value": (append("cart", "milk"), {"cart": ["tea", "milk"]}),
    "mutate": (increment, {"n": 1}),
}


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("how", BACK)
def test_g9_a_session_is_an_ordinary_one_once_the_store_is_back(
    servers: Servers, browser: Browser, place: Place, how: str, then: str
) -> None:
    """commit() and reload() load it: it shows its data, takes changes, and is not ended."""
    first, second = servers(2, on_outage="readonly-empty")
    first.request(browser, put(**STORED))
    place.fail("load")
    (verb, left), (change, changes) = BACK[how], THEN[then]

    def application(session: Session) -> Generator[Any, Any, Any]:
        assert dict(session) == {}
        result = yield from verb(session)
        assert dict(session) == left
        assert not session.is_new
        change(session)
        return result

    answer = first.request(browser, application)
    assert answer.value == ("once" if how == "commit(fn)" else None)
    for server in (first, second):
        assert server.request(browser, read).value == {**left, **changes}
    assert place.stored == [{**left, **changes}]


def test_g9_a_visitor_whose_session_has_ended_meanwhile(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """What the outage hid was an end: a commit finds no session to go on with, and makes none."""
    first, second = servers(2, on_outage="readonly-empty")
    first.request(browser, put(**STORED))
    other = browser.copy()
    second.request(browser, destroy)
    place.fail("load")

    def application(session: Session) -> Generator[Any, Any, str]:
        assert dict(session) == {}
        try:
            yield Reload()
        except SessionGone:
            return "gone"
        return "there"

    answer = first.request(other, application)
    assert (answer.value, answer.cookies) == ("gone", [])
    assert place.stored == []


@pytest.mark.parametrize("verb", [commit_plainly, commit_a_function, reload])
def test_g9_the_outage_goes_on(
    servers: Servers, browser: Browser, place: Place, verb: Application
) -> None:
    """It is raised, and the session is as it was; the next attempt may find the store back."""
    first, second = servers(2, on_outage="readonly-empty")
    first.request(browser, put(**STORED))
    place.fail("load", times=2)

    def application(session: Session) -> Generator[Any, Any, str]:
        assert dict(session) == {}
        with pytest.raises(StoreUnavailable):
            yield from verb(session)
        assert dict(session) == {}
        yield from reload(session)
        session["x"] = 1
        return "back"

    assert first.request(browser, application).value == "back"
    assert second.request(browser, read).value == {**STORED, "x": 1}
