"""gunicorn's gevent worker: what waits, for a store or in a view, holds up nobody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.deployments.running import Running, gunicorn, running
from tests.support.servers import RedisServer

TOGETHER = 20
TIMEOUT = 1.0  # as in waiting.py


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def served(redis_server: RedisServer) -> Iterator[Running]:
    """One worker process, whose requests are greenlets."""
    one = gunicorn("-k gevent", "waiting", workers=1)
    with running(one, redis_server.url, outages=True) as servers:
        yield servers


@pytest.fixture
def visitors(served: Running) -> Iterator[list[httpx.Client]]:
    """As many browsers, each signed in under a name of its own wherever one can sign in."""
    with ExitStack() as stack:
        context = httpx.create_ssl_context()  # costly, and not even used
        clients = []
        for number in range(TOGETHER):
            client = httpx.Client(
                base_url=served.addresses[0], trust_env=False, timeout=30, verify=context
            )
            clients.append(stack.enter_context(client))
            for place in ("", "/own", "/meeting"):
                answer = client.post(f"{place}/sign-in/user-{number}")
                assert answer.status_code == 200
        yield clients


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * TOGETHER) as threads:
        yield threads


def test_requests_overlap_in_their_views(
    visitors: list[httpx.Client], threads: ThreadPoolExecutor
) -> None:
    """Each view has its session and waits until all the others have theirs; nothing is mixed up."""
    answers = threads.map(lambda visitor: visitor.get("/meet"), visitors)

    for number, answer in enumerate(answers):
        assert answer.status_code == 200
        assert answer.json()["session"] == {"user_id": f"user-{number}"}


def test_requests_overlap_in_a_slow_store(
    served: Running, visitors: list[httpx.Client], threads: ThreadPoolExecutor
) -> None:
    """Calls of a store that was handed over go through threads, here greenlets: all at once."""
    served.client.post(f"{served.addresses[0]}/meeting/meet")
    answers = threads.map(lambda visitor: visitor.get("/meeting/me"), visitors)

    for number, answer in enumerate(answers):
        assert answer.status_code == 200
        assert answer.json()["session"] == {"user_id": f"user-{number}"}


def test_a_redis_that_hangs_holds_up_nobody_else(
    redis_server: RedisServer,
    served: Running,
    visitors: list[httpx.Client],
    threads: ThreadPoolExecutor,
) -> None:
    """Those who need it get 503 at their deadline, all at once; the others are served meanwhile."""

    def ask(visitor: httpx.Client, place: str) -> tuple[int, float]:
        began = time.monotonic()
        return visitor.get(f"{place}/me").status_code, time.monotonic() - began

    redis_server.pause()
    try:
        waiting: list[Future[tuple[int, float]]] = [
            threads.submit(ask, visitor, place) for place in ("", "/own") for visitor in visitors
        ]
        served_meanwhile = []
        while not all(future.done() for future in waiting):
            began = time.monotonic()
            assert served.client.get(f"{served.addresses[0]}/pid").status_code == 200
            served_meanwhile.append(time.monotonic() - began)
        for future in waiting:
            status, seconds = future.result()
            assert status == 503
            assert seconds < 3 * TIMEOUT  # one after the other they would take 20 times as long
        assert len(served_meanwhile) > 3
        assert max(served_meanwhile) < 2 * TIMEOUT
    finally:
        redis_server.resume()

    for place in ("", "/own"):
        for number, visitor in enumerate(visitors):
            answer = visitor.get(f"{place}/me")
            assert answer.status_code == 200, place
            assert answer.json()["session"] == {"user_id": f"user-{number}"}
