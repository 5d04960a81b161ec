"""Fixtures: the servers, and a balancer before them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .every import BALANCERS
from .world import BalancedServers, Gate, gate, world


@pytest.fixture(scope="package")
def servers() -> Iterator[BalancedServers]:
    """Three servers with copies and their store; a test may do to them what it likes."""
    with world(SHAREDSESSION_NEAR_CACHE="true") as made:
        yield made


@pytest.fixture
def healed(servers: BalancedServers) -> BalancedServers:
    """The servers, all running, with an empty store."""
    servers.heal()
    servers.empty()
    return servers


@pytest.fixture(params=BALANCERS, ids=str)
def balanced(request: pytest.FixtureRequest, healed: BalancedServers) -> Iterator[Gate]:
    """Each balancer in turn, before the servers."""
    with gate(request.param, healed) as made:
        yield made
