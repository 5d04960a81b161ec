"""Two thousand cancelled requests on a real Redis: every connection stays in step."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import pytest
import redis

from sharedsession import Session
from sharedsession.stores.redis import AsyncRedisStore
from tests.guarantees.asgi import AsgiAdapter, AsgiServer, starlette
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Answer,
    Application,
    Browser,
    Running,
    increment,
    put,
    read,
    sign_in,
)
from tests.guarantees.places import Place
from tests.support.servers import RedisServer

log = logging.getLogger(__name__)

CLIENTS = 40
CANCELLED = 2000
LONGEST = 25.0  # seconds for all of them, on a slow machine


def own(name: str, foreign: list[object]) -> Application:
    """Look whose session it is, and change it in one of several ways."""

    def application(session: Session) -> Any:
        seen = session.get("who")
        if seen not in {name, None}:
            foreign.append((name, seen))
        session.setdefault("who", name)
        kind = random.random()
        if kind < 0.6:
            increment(session)
        elif kind < 0.7:
            session.renew()
        return seen

    return application


def test_two_thousand_cancelled_requests(server: RedisServer) -> None:
    """Cancelled at random moments: each client's session reads as its own, in bounded time."""
    store = AsyncRedisStore.from_url(server.url, 1.0)
    site = AsgiAdapter(starlette)(store, store_timeout=1.0)
    browsers = {f"user {number}": Browser() for number in range(CLIENTS)}
    foreign: list[object] = []
    for name, browser in browsers.items():
        assert site.request(browser, own(name, foreign)).value is None
    begun = time.monotonic()
    cancelled, answered = site.run(cancelling(site, browsers, foreign))
    seconds = time.monotonic() - begun
    log.info("%d cancelled, %d answered, in %.1f s", cancelled, answered, seconds)
    assert cancelled >= CANCELLED
    assert answered > CANCELLED / 20  # so the moments were spread over the whole of a request
    assert seconds < LONGEST

    # Cancelled in a renewal, a client may have lost its session; never is it another's.
    for name, browser in browsers.items():
        for _ in range(3):
            assert site.request(browser, own(name, foreign)).value in {name, None}
    assert foreign == []
    with redis.Redis(port=server.port) as admin:
        assert len(admin.client_list()) - 1 <= 64
    site.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("verb", ["load", "create", "replace"])
def test_a_sign_in_cancelled_at_each_step(
    sockets: Servers, browser: Browser, place: Place, verb: str, after: bool
) -> None:
    """Cancelled before or after any store call: nobody is signed in who does not know it."""
    first, second = sockets(2)
    first.request(browser, put(a=1))
    gate = place.hold(verb, after=after)
    running = first.begin(browser, sign_in("ada"))
    gate.wait_for()
    running.cancel()
    gate.open()
    answer = running.answer()
    if answer.status == 200:  # a memory never waits: there was no moment for it to be cancelled
        assert first.request(browser, read).value == {"a": 1, "user_id": "ada"}
    else:
        assert isinstance(answer.error, asyncio.CancelledError)
        assert answer.cookies == []
        for server in (first, second):
            assert server.request(browser, read).value in ({"a": 1}, {})
    assert second.request(browser, sign_in("bob")).status == 200
    assert first.request(browser, read).value["user_id"] == "bob"


async def cancelling(
    site: AsgiServer, browsers: dict[str, Browser], foreign: list[object]
) -> tuple[int, int]:
    """Send requests and cancel most of them; a browser takes the answers that were complete."""
    cancelled = answered = 0
    usual = await typical(site, next(iter(browsers.values())))

    async def client(name: str, browser: Browser) -> None:
        nonlocal cancelled, answered
        while cancelled < CANCELLED:
            running = Running(browser)
            scope = {**site._scope("http", own(name, foreign), browser.headers), "method": "GET"}
            task = asyncio.ensure_future(serve(site, scope, running))
            asyncio.get_running_loop().call_later(random.uniform(0, usual), task.cancel)
            answer = await asyncio.wait_for(task, 10)
            if answer is None:
                cancelled += 1
                continue
            answered += 1
            browser.take(answer)
            assert answer.status == 200
            assert answer.value in {name, None}

    await asyncio.gather(*(client(name, browser) for name, browser in browsers.items()))
    return cancelled, answered


async def typical(site: AsgiServer, browser: Browser) -> float:
    """How long a request takes among so many others."""
    begun = time.monotonic()

    async def one() -> None:
        scope = {**site._scope("http", len, browser.headers), "method": "GET"}
        await site._serve(scope, Running(browser))

    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return 3 * (time.monotonic() - begun)


async def serve(site: AsgiServer, scope: dict[str, Any], running: Running) -> Answer | None:
    """Serve one request; None when it was cancelled before its answer was complete."""
    await site._serve(scope, running)
    answer = running.end.result()
    return None if isinstance(answer.error, asyncio.CancelledError) else answer
