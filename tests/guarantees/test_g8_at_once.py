"""G8 and the many requests of one page: a session's lifetime is prolonged by one of them."""

from __future__ import annotations

import pytest

from tests.guarantees.conftest import Servers
from tests.guarantees.driver import Browser, Gate, held, read, sign_in
from tests.guarantees.places import Place

PAGE = 12  # requests that one page makes at once


@pytest.fixture
def due(servers: Servers, browser: Browser, place: Place) -> Browser:
    """A browser whose session is a little older than a tenth of its lifetime."""
    (server,) = servers(1, max_age=1000)
    server.request(browser, sign_in("ada"))
    place.advance(101)
    place.forget()
    return browser


def test_g8_of_requests_at_once_one_touches(servers: Servers, due: Browser, place: Place) -> None:
    """The others set no cookie, and ask the store for nothing but the session."""
    (server,) = servers(1, max_age=1000)
    gate = Gate()
    page = [server.begin(due.copy(), held(gate, read)) for _ in range(PAGE)]
    gate.wait_for(PAGE)
    gate.open()
    answers = [each.answer() for each in page]

    assert [answer.status for answer in answers] == [200] * PAGE
    assert place.verbs.count("touch") == 1
    assert place.verbs.count("load") == PAGE + 1
    assert sum(len(answer.cookies) for answer in answers) == 1


def test_g8_the_session_lives_on_by_that_one_touch(
    servers: Servers, due: Browser, place: Place
) -> None:
    """Also for the requests that did not touch: its whole lifetime, from then on."""
    (server,) = servers(1, max_age=1000)
    for browser in (due, due.copy(), due.copy()):
        server.request(browser, read)
    place.advance(890)
    assert server.request(due, read).value == {"user_id": "ada"}


def test_g8_a_client_whose_answer_was_lost_gets_the_cookie_later(
    servers: Servers, due: Browser, place: Place
) -> None:
    """The cookie that it shows is still old: some seconds later it is touched again."""
    (server,) = servers(1, max_age=1000)
    assert server.request(due.copy(), read).cookies
    assert not server.request(due.copy(), read).cookies
    place.advance(6)
    assert server.request(due.copy(), read).cookies
    assert place.verbs.count("touch") == 2


def test_g8_a_touch_that_failed_is_made_by_the_next_request(
    servers: Servers, due: Browser, place: Place
) -> None:
    """What did not come to its end counts for nothing."""
    (server,) = servers(1, max_age=1000)
    place.fail("touch")
    assert server.request(due, read).status == 503
    assert server.request(due, read).cookies
    place.advance(890)
    assert server.request(due, read).value == {"user_id": "ada"}


def test_g8_each_server_touches_for_itself(servers: Servers, due: Browser, place: Place) -> None:
    """Servers know nothing of each other: at most one touch for each of them."""
    answers = [
        server.request(due.copy(), read) for server in servers(3, max_age=1000) for _ in range(4)
    ]
    assert place.verbs.count("touch") == 3
    assert sum(len(answer.cookies) for answer in answers) == 3


def test_g8_sessions_that_end_soon_are_touched_as_often_as_they_need(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A tenth of a short lifetime is sooner over than the requests of one page."""
    (server,) = servers(1, max_age=20)
    server.request(browser, sign_in("ada"))
    for _ in range(20):
        place.advance(2)
        assert server.request(browser, read).value == {"user_id": "ada"}


def test_g8_a_client_beside_another_with_its_cookie_gets_the_new_one(
    servers: Servers, due: Browser, place: Place
) -> None:
    """A front end that renders pages forwards the browser's cookie, and drops the one it is given:
    the browser, a moment later each time, has a new one before the old one's lifetime is over."""
    (server,) = servers(1, max_age=1000)
    given = 0
    for _ in range(7):
        front_end = due.copy()
        server.request(front_end, read)
        place.advance(0.3)
        given += len(server.request(due.copy(), read).cookies)
        place.advance(120)
    assert given >= 6
