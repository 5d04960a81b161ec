"""HAProxy: what its stick table learns, and what it tells the servers."""

from __future__ import annotations

import httpx

from . import haproxy
from .clients import signed_in
from .world import BalancedServers, gate


def test_a_client_stays_with_the_server_that_signed_it_in(healed: BalancedServers) -> None:
    """The table learns from the answer that sets the cookie: the next request comes to the server
    that gave it."""
    with gate(haproxy.TABLE, healed) as made, signed_in(made.address, 11) as clients:
        signed_in_by = [client.server for client in clients]
        later = [client.read() for client in clients]

    assert later == signed_in_by
    assert len(set(later)) == 3


def test_what_a_client_claims_about_itself_is_not_believed(healed: BalancedServers) -> None:
    """The servers are told by HAProxy where a client came from, and how; not by the client."""
    lies = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    with gate(haproxy.HASH, healed) as made:
        for headers in ({}, lies):
            seen = httpx.get(f"{made.address}/plain", headers=headers, trust_env=False).json()

            assert seen["scheme"] == "http"
            assert seen["client"] == "127.0.0.1"
