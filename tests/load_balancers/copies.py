"""How sessions are loaded: from a server's own copy, or from the store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from tests.support.processes import wait_until

from .clients import Client, signed_in
from .world import BalancedServers


def loads_of(world: BalancedServers, clients: Sequence[Client], rounds: int) -> Counter[str]:
    """Let each client read that often, in no order; return where the sessions came from."""
    before = world.loads()
    chance = random.Random(rounds)
    for _ in range(rounds):
        for client in chance.sample(clients, len(clients)):
            client.read()
    after = world.loads()
    return Counter({kind: after[kind] - before[kind] for kind in after})


def wait_until_copies_may_answer(world: BalancedServers) -> None:
    """Wait until the cookies that exist are old enough: within three seconds of a write the store
    is asked.

    Another client, whose cookie is newer than all of them, reads at every server until copies
    answer. From then on each server also hears of the writes of others.
    """
    with signed_in(world.servers[0].address, 1) as [scout], ExitStack() as stack:
        at_each = [
            stack.enter_context(scout.on_another_device(server.address)) for server in world.servers
        ]
        wait_until(lambda: loads_of(world, at_each, 1)["copy"] == len(at_each), "copies answer")
