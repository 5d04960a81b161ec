"""Clients that go away, on every store that is awaited: connections stay in step."""

from __future__ import annotations

import pytest

from tests.guarantees.asgi import AsgiServer
from tests.reliability.cancelling import CLIENTS, cancel
from tests.reliability.places import PLACES

TIMEOUT = 5.0  # these are not about deadlines
COUNTS = {  # 1,500 in all; benchmarks/reliability.py cancels 10,000 on each
    "Redis": 500,
    "Cluster": 200,
    "Memcached, three nodes": 300,
    "SQLite": 150,
    "PostgreSQL": 150,
    "PostgreSQL, asyncpg": 100,
    "MariaDB": 100,
}


@pytest.mark.parametrize("name", COUNTS)
def test_no_request_sees_another_session_after_cancellations(name: str) -> None:
    """Requests cancelled at random moments: every session reads as its owner's, at every server."""
    with PLACES[name]() as place:
        servers = place.servers(TIMEOUT)
        other = place.servers(TIMEOUT)["ASGI"]
        site = servers["ASGI"]
        assert isinstance(site, AsgiServer)
        assert isinstance(other, AsgiServer)
        done = cancel(site, other, COUNTS[name])
        for server in (*servers.values(), other):
            server.close()

    assert done.foreign == []
    assert done.cancelled >= COUNTS[name]
    assert done.answered > done.cancelled / 20 + 4 * CLIENTS  # at all moments of a request
    assert done.unavailable == 0
