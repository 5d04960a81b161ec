"""A store that is away: every server answers 503, and no balancer may take that for its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx

from tests.support.processes import LIMIT

from . import traefik
from .world import BalancedServers, Gate, gate

TRANSPORT = "        serversTransport: application\n"
PASSIVE = "        passiveHealthCheck:\n          maxFailedAttempts: 1\n"


@contextmanager
def without_store(world: BalancedServers) -> Iterator[None]:
    world.store.kill()
    try:
        yield
    finally:
        world.store.restart()


def test_pages_without_a_session_are_served_while_the_store_is_away(balanced: Gate) -> None:
    """While all servers answer 503 to requests that need their session, pages that need none are
    served, by all servers."""
    with httpx.Client(base_url=balanced.address, trust_env=False, timeout=LIMIT) as browser:
        browser.post("/sign-in", params={"user": "anna"}).raise_for_status()
        with without_store(balanced.world):
            refused = [browser.post("/up").status_code for _ in range(9)]
            served = balanced.asked(40)

    assert refused == [503] * 9
    assert set(served) == {server.name for server in balanced.world.servers}


def test_a_passive_health_check_of_traefik_takes_all_servers_away(healed: BalancedServers) -> None:
    """With the passive health check that the page leaves out, pages without a session are gone as
    well."""
    passive = replace(
        traefik.ROUND_ROBIN,
        substitutes={TRANSPORT: PASSIVE + TRANSPORT},
    )
    with gate(passive, healed) as made:
        with httpx.Client(base_url=made.address, trust_env=False, timeout=LIMIT) as browser:
            browser.post("/sign-in", params={"user": "anna"}).raise_for_status()
            with without_store(healed):
                for _ in range(9):
                    browser.post("/up")
                served = made.asked(3)

    assert set(served) == {"503"}
