"""How sessions are loaded: from a server's own copy, or from the store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from tests.deployments.running import wait_until

from .clients import Client
from .world import World


def loads_of(world: World, clients: Sequence[Client], rounds: int) -> Counter[str]:
    """Let each client read that often, in no order; return where the sessions came from."""
    before = world.loads()
    chance = random.Random(rounds)
    for _ in range(rounds):
        for client in chance.sample(clients, len(clients)):
            client.read()
    after = world.loads()
    return Counter({kind: after[kind] - before[kind] for kind in after})


def wait_until_copies_may_answer(world: World, clients: Sequence[Client]) -> None:
    """Wait until the cookies are old enough: within three seconds of a write the store is asked.

    The last of the clients has the newest cookie. It reads until a copy has answered.
    """
    newest = clients[-1:]
    wait_until(lambda: loads_of(world, newest, 1)["copy"], "a copy answers")
