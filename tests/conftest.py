"""Fixtures for all tests: the Redis-type servers of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

pytest.register_assert_rewrite("sharedsession.testing")

from tests.servers import RedisServer, ServerMissing, binaries  # noqa: E402 - after the line above

try:
    SERVERS = list(binaries())
except ServerMissing:
    SERVERS = ["none"]  # the fixtures fail then, with a sentence that says what to install


@pytest.fixture(scope="session", params=SERVERS)
def shared_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server of each type for the whole run; nobody kills or empties it."""
    with RedisServer(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed, paused or emptied."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(shared_server: RedisServer) -> str:
    """Address of the server that is shared."""
    return shared_server.url


@pytest.fixture
def advance_redis(shared_server: RedisServer) -> Iterator[Callable[[float], None]]:
    """Let time pass on the shared server: every key's remaining lifetime shrinks."""
    with redis.Redis(port=shared_server.port) as admin:
        yield lambda seconds: advance_server(admin, seconds)


def advance_server(admin: redis.Redis, seconds: float) -> None:
    keys = list(admin.scan_iter(count=1000))
    with admin.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
        left = pipeline.execute()
        for key, milliseconds in zip(keys, left, strict=True):
            if milliseconds >= 0:
                pipeline.pexpire(key, int(milliseconds - seconds * 1000))
        pipeline.execute()
