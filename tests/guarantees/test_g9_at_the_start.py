"""G2 and G9, at the start of a response: what is not stored, or not known, is not confirmed.

A write whose outcome is unknown leaves the request in doubt; a function that had handed out its
result and raises when it runs again makes it a failed one. A response that would confirm either is
replaced, by 503 or 500, the same way in every adapter.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest

from sharedsession import Session, StoreUnavailable
from tests.guarantees.asgi import Accept, AsgiServer, Receive_
from tests.guarantees.conftest import FRAMEWORKS, Servers
from tests.guarantees.djangos import stores_nothing
from tests.guarantees.driver import (
    Adapter,
    Answer,
    Application,
    Browser,
    Commit,
    Gate,
    Hold,
    Reload,
    Reply,
    Start,
    put,
    read,
)
from tests.guarantees.places import Place
from tests.guarantees.wsgi import EVERY_WSGI

WAYS: dict[str, Adapter] = {**FRAMEWORKS, **EVERY_WSGI}
CONFIRMS = [200, 201, 302, 304, 500]
PASSES = [402, 404, 409, 429, 501]
STATUSES = [*CONFIRMS, *PASSES]


@pytest.fixture(params=list(WAYS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each way of running an application, and each way of answering under WSGI."""
    return WAYS[request.param]


def is_replaced(answer: Answer, status: int) -> bool:
    """Whether this is the core's own answer, whole, without a cookie, and no error escaped."""
    text = {500: b"could not be stored", 503: b"does not answer"}[status]
    retry = [] if status == 500 else ["2"]
    return (answer.status, answer.all("retry-after"), answer.cookies) == (status, retry, []) and (
        answer.error is None and answer.all("cache-control") == ["no-store"] and text in answer.body
    )


def passes(answer: Answer, status: int) -> bool:
    """Whether this is the application's own answer; it says nothing of the session but Vary."""
    said = answer.status, answer.cookies, answer.all("vary")
    return said == (status, [], ["Cookie"]) and answer.error is None


def in_doubt(status: int, *, streams: bool = False) -> Application:
    """Meet an outage in the middle, and go on all the same."""

    def application(session: Session) -> Generator[Any, Any, Reply]:
        session["a"] = 2
        with pytest.raises(StoreUnavailable):
            yield Commit()
        session["b"] = 2
        if streams:
            yield Start(status)
        return Reply("went on", status)

    return application


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("written", [False, True], ids=["lost", "written"])
def test_g9_an_answer_in_doubt_confirms_nothing(
    servers: Servers, browser: Browser, place: Place, status: int, written: bool
) -> None:
    """A status below 400 and a 500 become 503; another is the application's answer. No cookie."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    place.fail("replace", after=written)
    answer = first.request(browser, in_doubt(status))
    if status in PASSES:
        assert passes(answer, status)
    else:
        assert is_replaced(answer, 503)
    assert second.request(browser, read).value == {"a": 2 if written else 1}


@pytest.mark.parametrize("status", [200, 404])
def test_g9_a_creation_in_doubt_hands_out_no_cookie(
    servers: Servers, browser: Browser, place: Place, status: int
) -> None:
    """Nor does a renewal: the client keeps what it has."""
    first, _ = servers(2)
    place.fail("create", after=True)
    answer = first.request(browser, in_doubt(status))
    assert (answer.status, answer.cookies) == (503 if status == 200 else status, [])


@pytest.mark.parametrize("status", [200, 404])
def test_g9_a_stream_in_doubt(
    servers: Servers, browser: Browser, place: Place, status: int
) -> None:
    """Before its first byte, and nothing of it is stored when it ends."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    place.fail("replace")
    answer = first.request(browser, in_doubt(status, streams=True))
    assert passes(answer, 404) if status == 404 else is_replaced(answer, 503)
    assert second.request(browser, read).value == {"a": 1}


@pytest.mark.parametrize("status", [200, 404])
def test_g9_an_answer_to_head_in_doubt(
    servers: Servers, browser: Browser, place: Place, status: int, adapter: Adapter
) -> None:
    """The same headers."""
    if adapter is FRAMEWORKS["FastAPI"]:
        return  # its route is for GET alone
    first, _ = servers(2)
    first.request(browser, put(a=1))
    place.fail("replace")
    answer = first.request(browser, in_doubt(status), method="HEAD")
    assert (answer.status, answer.cookies) == (503 if status == 200 else 404, [])
    assert answer.error is None


@pytest.mark.parametrize("status", [200, 500])
def test_g9_after_reload_the_answer_is_the_applications(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, status: int
) -> None:
    """Which finds out what became of the write; what is done then is stored, under any status."""
    if stores_nothing(adapter, status):
        return
    first, second = servers(2)
    first.request(browser, put(a=1))
    place.fail("replace")

    def application(session: Session) -> Generator[Any, Any, Reply]:
        session["a"] = 2
        with pytest.raises(StoreUnavailable):
            yield Commit()
        yield Reload()
        session["b"] = session["a"] + 1
        return Reply("went on", status)

    answer = first.request(browser, application)
    assert (answer.status, answer.error) == (status, None)
    assert second.request(browser, read).value == {"a": 1, "b": 2}


# --- a function that had handed out its result ----------------------------------------------------


def take(session: Session) -> int:
    """Take the last item; there may be none when it runs again."""
    left: int = session.get("left", 0)
    if left < 1:
        raise ValueError("nothing is left")
    session["left"] = left - 1
    return left


def failing(
    gate: Gate, status: int, *, commits: bool = False, streams: bool = False
) -> Application:
    def application(session: Session) -> Generator[Any, Any, Reply]:
        session["before"] = True
        assert session.mutate(take) == 1
        yield Hold(gate)
        session["after"] = True
        if commits:
            for _ in range(2):  # the first time it is found out; then it is known
                with pytest.raises(ValueError, match="nothing is left"):
                    yield Commit()
        if streams:
            yield Start(status)
        return Reply("you have it", status)

    return application


def fail(servers: Servers, browser: Browser, application: Application, gate: Gate) -> Answer:
    """Let another request take what this one has taken, before this one commits."""
    first, second = servers(2)
    first.request(browser, put(left=1))
    running = first.begin(browser, application)
    gate.wait_for()
    assert second.request(browser.copy(), take).status == 200
    gate.open()
    answer = running.answer()
    assert second.request(browser, read).value == {"left": 0}
    assert first.counts["replay_failed"] == 1
    return answer


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
def test_g2_an_answer_that_may_be_untrue_is_a_500(
    servers: Servers,
    browser: Browser,
    adapter: Adapter,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """Whatever its status: the application does not know. Logged, with the traceback; no error."""
    if stores_nothing(adapter, status):
        return
    gate = Gate()
    with caplog.at_level(logging.ERROR, "sharedsession"):
        answer = fail(servers, browser, failing(gate, status), gate)
    assert is_replaced(answer, 500)
    (record,) = [each for each in caplog.records if "replay_failed" in each.getMessage()]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert "take" in (caplog.text)  # the function, in the traceback


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
def test_g2_an_application_that_was_told_answers_by_itself(
    servers: Servers, browser: Browser, status: int
) -> None:
    """commit() has raised: a status below 400 and a 500 are replaced, another one passes."""
    gate = Gate()
    answer = fail(servers, browser, failing(gate, status, commits=True), gate)
    if status in {404, 503}:
        assert passes(answer, status)
    else:
        assert is_replaced(answer, 500)


def test_g2_a_stream_that_may_be_untrue(servers: Servers, browser: Browser) -> None:
    """Nothing of it is sent."""
    gate = Gate()
    assert is_replaced(fail(servers, browser, failing(gate, 200, streams=True), gate), 500)


# --- WebSocket ------------------------------------------------------------------------------------


@pytest.mark.parametrize("can_deny", [False, True], ids=["close", "denial response"])
@pytest.mark.parametrize("doubt", [True, False], ids=["in doubt", "failed"])
def test_g9_a_socket_is_not_accepted(
    sockets: Servers, browser: Browser, place: Place, can_deny: bool, doubt: bool
) -> None:
    """1013, try again later, for an outage; 1011 for what could not be stored; or the response."""
    first, second = sockets(2)
    assert isinstance(first, AsgiServer)
    first.request(browser, put(left=1))
    gate = Gate()

    def talk(session: Session) -> Generator[Any, Any, None]:
        session.mutate(take)
        yield Hold(gate)
        if doubt:
            with pytest.raises(StoreUnavailable):
                yield Commit()
        yield Accept()
        yield Receive_()

    socket = first.websocket(browser, talk, can_deny=can_deny)
    gate.wait_for()
    if doubt:
        place.fail("replace")
    else:
        second.request(browser.copy(), take)
    gate.open()
    answer = socket.accept()
    assert answer.cookies == []
    if can_deny:
        assert answer.status == (503 if doubt else 500)
    else:
        (closed,) = socket.sent
        assert (closed["type"], closed["code"]) == ("websocket.close", 1013 if doubt else 1011)
    socket.disconnect()
    assert second.request(browser, read).value == {"left": 1 if doubt else 0}
