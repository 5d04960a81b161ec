"""G1: once a client has the first byte, any server sees the session as that response left it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import stores_nothing
from tests.guarantees.driver import (
    Adapter,
    Browser,
    Commit,
    Gate,
    Hold,
    Later,
    Reload,
    Reply,
    Start,
    append,
    clear,
    drop,
    held,
    put,
    read,
    renew,
    sign_in,
)
from tests.guarantees.places import Place


def test_g1_every_server_sees_what_the_last_response_left(
    servers: Servers, browser: Browser
) -> None:
    """Around three servers, each change is there at the next one, whatever kind it is."""
    three = servers(3)
    expected: dict[str, Any] = {}
    for number in range(12):
        three[number % 3].request(browser, append("visits", number))
        expected.setdefault("visits", []).append(number)
        assert three[(number + 1) % 3].request(browser, read).value == expected
    three[0].request(browser, drop("visits"))
    three[1].request(browser, put(a=1))
    assert three[2].request(browser, read).value == {"a": 1}
    three[2].request(browser, renew)
    assert three[0].request(browser, read).value == {"a": 1}
    three[0].request(browser, sign_in("ada"))
    assert three[1].request(browser, read).value == {"a": 1, "user_id": "ada"}
    three[1].request(browser, clear)
    assert three[2].request(browser, read).value == {}


@pytest.mark.parametrize("kind", [Start, Later])
def test_g1_the_first_byte_is_enough(
    servers: Servers, browser: Browser, kind: type[Start | Later]
) -> None:
    """While a body or a background task is on its way, the others see the session already."""
    first, second = servers(2)
    gate = Gate()

    def streaming(session: Session) -> Generator[Any, Any, None]:
        session["a"] = 1
        yield kind()
        yield Hold(gate)

    running = first.begin(browser, streaming)
    assert running.started().status == 200
    assert second.request(browser, read).value == {"a": 1}
    gate.open()
    assert running.answer().error is None


def test_g1_no_byte_leaves_before_the_store_has_it(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The response waits for the store: while its write is held there, nothing has been sent."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    gate = place.hold("replace")
    running = first.begin(browser, put(a=2))
    gate.wait_for()
    assert not running.start.done()
    assert second.request(browser, read).value == {"a": 1}
    gate.open()
    assert running.answer().status == 200
    assert second.request(browser, read).value == {"a": 2}


def test_g1_a_response_commits_whatever_its_status(
    servers: Servers, browser: Browser, adapter: Adapter
) -> None:
    """Redirects, answers without a body, and errors that the application answers: all commit."""
    first, second = servers(2)
    for method in ("GET", "HEAD", "POST"):
        for status in (200, 201, 204, 302, 304, 400, 404, 500):
            expected = f"{method} {status}"
            if stores_nothing(adapter, status):
                continue

            def application(
                session: Session, status: int = status, expected: str = expected
            ) -> Reply:
                session["a"] = expected
                return Reply(status=status)

            assert first.request(browser, application, method=method).status == status
            assert second.request(browser, read).value == {"a": expected}


def test_g1_an_exception_commits_nothing(
    servers: Servers, browser: Browser, adapter: Adapter
) -> None:
    """What escapes the application leaves the session as it was, and reaches the server.

    Flask makes a response of an exception, and that commits as any other does.
    """
    first, second = servers(2)
    first.request(browser, put(a=1))

    def application(session: Session) -> None:
        session["a"] = 2
        raise ZeroDivisionError

    answer = first.request(browser, application)
    assert answer.status == 500
    assert isinstance(answer.error, ZeroDivisionError)
    assert answer.cookies == []
    assert second.request(browser, read).value == {"a": 2 if adapter.answers_errors else 1}


def test_g1_commit_is_seen_before_the_response(servers: Servers, browser: Browser) -> None:
    """What commit() has written is there for others at once, and reload() shows what they did."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    gate = Gate()

    def application(session: Session) -> Generator[Any, Any, dict[str, Any]]:
        session["a"] = 2
        yield Commit()
        yield Hold(gate)
        yield Reload()
        return dict(session)

    running = first.begin(browser, application)
    gate.wait_for()
    assert second.request(browser, read).value == {"a": 2}
    second.request(browser, put(b=3))
    gate.open()
    assert running.answer().value == {"a": 2, "b": 3}


def test_g1_answers_that_overtake_each_other(servers: Servers, browser: Browser) -> None:
    """Two answers arrive in the other order: the client still reads the writes of both."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    gate = Gate()
    slow = first.begin(browser, held(gate, put(slow=1)))
    gate.wait_for()
    fast = second.begin(browser, put(fast=1))
    fast.end.result()
    gate.open()
    slow.answer()
    fast.answer()  # the older version's cookie is the last to come
    for server in (first, second):
        assert server.request(browser, read).value == {"a": 1, "slow": 1, "fast": 1}
