"""Stores fail in every way while clients go on: nothing acknowledged is lost, nobody comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.reliability.faults import FAULTS, run
from tests.reliability.judging import is_as_promised
from tests.reliability.places import PLACES, ProxiedStore

TIMEOUT = 0.5
LASTS = 0.6
CLIENTS = 5
KILLED = "kill -9, then a restart"
LOST = "answers lost after a write was done"

CASES: dict[str, list[str]] = {
    "Redis": [
        *(KILLED, "hangs (SIGSTOP), goes on (SIGCONT)", "FLUSHALL"),
        *("connections refused", "connections reset, once", "the network swallows everything"),
        *("the address leads nowhere", "the name does not resolve", "answers cut in the middle"),
        *(LOST, "connections go dead", "answers later than the deadline"),
        *("lifetime of 400 days", "clocks 5 s apart"),
    ],
    "Redis, snapshots": [KILLED],
    "Redis, in memory": [KILLED],
    "Valkey": [KILLED],
    "Sentinel": ["Sentinel failover"],
    "Cluster": ["Cluster failover", "slots move"],
    "Memcached, three nodes": [KILLED, "lifetime of 31 days", "lifetime of 400 days"],
    "SQLite": ["write lock held", "file removed", "disk full", "read-only", "clocks 5 s apart"],
    "PostgreSQL": [KILLED, "out of connections"],
}


@pytest.fixture(scope="module")
def open_place() -> Iterator[Callable[[str], ProxiedStore]]:
    """Places by name; one at a time, for as long as its cases last."""
    opened: dict[str, ProxiedStore] = {}
    with ExitStack() as stack:

        def find(name: str) -> ProxiedStore:
            if name not in opened:
                stack.pop_all().close()
                opened.clear()
                opened[name] = stack.enter_context(PLACES[name]())
            return opened[name]

        yield find


@pytest.mark.parametrize(
    ("place", "fault"), [(place, fault) for place, faults in CASES.items() for fault in faults]
)
def test_what_was_acknowledged_stands(
    open_place: Callable[[str], ProxiedStore], place: str, fault: str
) -> None:
    """200 or 503 in time; nothing lost, revived or done twice but by the server; back by itself."""
    tally = run(FAULTS[fault], open_place(place), TIMEOUT, LASTS, CLIENTS)

    is_as_promised(tally, TIMEOUT)


def test_what_a_server_forgets_is_seen(open_place: Callable[[str], ProxiedStore]) -> None:
    """The counts can be other than nought: what a flushed server forgot is missed at once."""
    tally = run(FAULTS["FLUSHALL"], open_place("Redis"), TIMEOUT, LASTS, CLIENTS)

    assert tally.lost_by_server > 0
