"""Measure how many reads the store still answers behind each balancer, with copies.

    python -m tests.load_balancers [WORD …]

prints a row for each configuration whose name has one of the words; without any, for all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .clients import signed_in
from .copies import loads_of, wait_until_copies_may_answer
from .every import BALANCERS
from .programs import Balancer
from .world import BalancedServers, gate, world

CLIENTS, ROUNDS = 36, 40
ROOM = 24  # sessions, where there is not enough room for all in one server
HEAD = (
    "configuration",
    "version",
    "store reads per request",
    f"the same, room for {ROOM} of {CLIENTS} sessions",
    "store reads per client of a killed server",
)


def main(words: list[str]) -> None:
    chosen = [each for each in BALANCERS if not words or any(word in each.name for word in words)]
    enough = world(SHAREDSESSION_NEAR_CACHE="true")
    scarce = world(SHAREDSESSION_NEAR_CACHE=f'{{"max_entries": {ROOM}}}')
    row(HEAD)
    row(["---"] * len(HEAD))
    with enough as servers, scarce as small:
        for balancer in chosen:
            share, moved = measure(balancer, servers)
            scarce_share, _ = measure(balancer, small)
            row([balancer.name, balancer.version_shown(), share, scarce_share, moved])


def row(cells: Sequence[object]) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


def measure(balancer: Balancer, servers: BalancedServers) -> tuple[str, str]:
    """Return the share of reads that the store answered, and what a killed server costs."""
    servers.heal()
    servers.empty()
    with gate(balancer, servers) as made, signed_in(made.address, CLIENTS) as clients:
        wait_until_copies_may_answer(servers)
        loads = loads_of(servers, clients, ROUNDS)
        killed = servers.servers[0]
        homes = [client.read() for client in clients]
        theirs = [
            client for client, home in zip(clients, homes, strict=True) if home == killed.name
        ]
        servers.kill(killed)
        after = loads_of(servers, theirs, ROUNDS)
    return (
        f"{loads['store'] / loads.total():.3f}",
        f"{after['store'] / len(theirs):.2f}",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
