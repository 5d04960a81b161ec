"""Clients that go away in the middle of their requests, which may leave a connection out of step.

The next user of such a connection would be given the answer to another's question. Some sessions
are so large that their writes take several steps, and requests are cancelled in these as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from sharedsession import Session
from tests.guarantees.asgi import AsgiServer
from tests.guarantees.driver import Answer, Application, Browser, Running, increment

CLIENTS = 40
LARGE = 150_000  # bytes, of every tenth session
CHUNK = 500
LIMIT = 20.0


@dataclass
class Cancelled:
    """What has happened."""

    cancelled: int = 0
    answered: int = 0
    unavailable: int = 0
    foreign: list[object] = field(default_factory=list)
    seconds: float = 0.0


def own(number: int, foreign: list[object]) -> Application:
    """Look whose session it is, and change it in one of several ways."""
    name = f"user {number}"
    ballast = name * (LARGE // len(name) if number % 10 == 0 else 1)

    def application(session: Session) -> Any:
        seen = session.get("who")
        if seen not in {name, None} or session.get("ballast", ballast) != ballast:
            foreign.append((name, seen))
        session["who"], session["ballast"] = name, ballast
        kind = random.random()
        if kind < 0.6:
            increment(session)
        elif kind < 0.7:
            session.renew()
        return seen

    return application


def cancel(site: AsgiServer, other: AsgiServer, count: int) -> Cancelled:
    """Send requests and cancel so many of them; then look at every session, at both servers."""
    done = Cancelled()
    begun = time.monotonic()
    browsers = [Browser() for _ in range(CLIENTS)]
    site.run(_everybody(site, browsers, done))
    while done.cancelled < count:
        limit = min(count, done.cancelled + CHUNK)
        site.run(_cancelling(site, browsers, done, limit))
    for server in (site, other, site):
        server.run(_everybody(server, browsers, done))
    done.seconds = time.monotonic() - begun
    return done


async def _everybody(site: AsgiServer, browsers: list[Browser], done: Cancelled) -> float:
    """One complete request of each client, all at once."""
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(
            _serve(site, browser, own(number, done.foreign))
            for number, browser in enumerate(browsers)
        )
    )
    for number, (browser, answer) in enumerate(zip(browsers, answers, strict=True)):
        _note(number, browser, answer, done)
    return time.monotonic() - begun


async def _cancelling(
    site: AsgiServer, browsers: list[Browser], done: Cancelled, count: int
) -> None:
    usual = 2 * await _everybody(site, browsers, done)

    async def client(number: int, browser: Browser) -> None:
        while done.cancelled < count:
            task = asyncio.ensure_future(_serve(site, browser, own(number, done.foreign)))
            asyncio.get_running_loop().call_later(random.uniform(0, usual), task.cancel)
            answer = await asyncio.wait_for(task, LIMIT)
            if isinstance(answer.error, asyncio.CancelledError):
                done.cancelled += 1
            else:
                _note(number, browser, answer, done)

    await asyncio.gather(*(client(number, browser) for number, browser in enumerate(browsers)))


def _note(number: int, browser: Browser, answer: Answer, done: Cancelled) -> None:
    done.answered += 1
    if answer.status == 503:
        done.unavailable += 1
        return
    assert answer.status == 200, (answer.status, answer.error)
    browser.take(answer)
    # Cancelled in a renewal, a client may have lost its session; never is it another's.
    if answer.value not in {f"user {number}", None}:
        done.foreign.append((number, answer.value))


async def _serve(site: AsgiServer, browser: Browser, application: Application) -> Answer:
    running = Running(browser)
    scope = {**site._scope("http", application, browser.headers), "method": "GET"}
    await site._serve(scope, running)
    return running.end.result()
