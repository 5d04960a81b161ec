"""Every configuration of every balancer, with the real program before three servers."""

from __future__ import annotations

from .clients import Crowd
from .world import Gate


def test_a_server_killed_and_another_drained_under_load_lose_nothing(balanced: Gate) -> None:
    """While one server is killed and another drained, no signed-in client sees a foreign or an
    empty session, every acknowledged increment stays, and both servers come back."""
    killed, drained, _ = balanced.world.servers
    with Crowd(balanced.address, 8, balanced.world.deaths) as crowd:
        crowd.go_on(10)
        balanced.world.kill(killed)
        balanced.leave_alone(killed)
        crowd.go_on(10)
        balanced.bring_back(killed)
        balanced.drain(drained)
        crowd.go_on(10)
        balanced.bring_back(drained)
        crowd.go_on(10)
    crowd.judge()

    assert len(crowd.lost) <= 8
    assert set(crowd.answered) == {server.name for server in balanced.world.servers}
