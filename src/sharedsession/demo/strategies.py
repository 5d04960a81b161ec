"""The answers to the second server: where sessions are kept, and who picks the server.

Each application server of the demo runs the shop once for every strategy, so that all of them meet
the same requests, and lose the same server at the same moment.
"""

from __future__ import annotations

from typing import NamedTuple


class Strategy(NamedTuple):
    """How sessions are kept, and how the balancer picks a server.

    ``name`` stands in paths and in the names of cookies, ``label`` and ``sentence`` are for
    people.
    """

    name: str
    label: str
    sentence: str
    is_shared: bool  # one store for all; otherwise each server's own memory
    is_sticky: bool  # a client comes to the same server again
    has_copies: bool = False  # servers keep near copies of what the store has

    @property
    def keeps(self) -> str:
        """Where sessions are, in two words."""
        return "one store" if self.is_shared else "own memory"


STRATEGIES = {
    each.name: each
    for each in (
        Strategy(
            "local",
            "local",
            "Each server keeps sessions in its own memory; the others do not find them.",
            is_shared=False,
            is_sticky=False,
        ),
        Strategy(
            "sticky",
            "sticky",
            "Each client stays with one server, which keeps its session in memory, and takes it "
            "along when it dies.",
            is_shared=False,
            is_sticky=True,
        ),
        Strategy(
            "sticky-shared",
            "sticky",
            "Each client stays with one server, whose copy answers it; any other finds the session "
            "in the store.",
            is_shared=True,
            is_sticky=True,
            has_copies=True,
        ),
        Strategy(
            "clustered",
            "clustered",
            "Servers keep copies of what they have read, which end when a server writes to "
            "the store.",
            is_shared=True,
            is_sticky=False,
            has_copies=True,
        ),
        Strategy(
            "shared",
            "shared",
            "All of them share one store, so each of them finds the session.",
            is_shared=True,
            is_sticky=False,
        ),
    )
}
SHARED = STRATEGIES["shared"]


def named(sessions: str, store: str | None) -> Strategy:
    """Return the strategy that was typed: sticky goes with a store as well as without one."""
    return STRATEGIES["sticky-shared" if sessions == "sticky" and store else sessions]


def cookie_of(strategy: Strategy, prefix: str) -> str:
    """Return the name of a strategy's cookie: one browser can have those of all."""
    return f"{prefix}_{strategy.name}"


def options(strategy: Strategy, store: str, replica: str) -> dict[str, str | bool | None]:
    """Return the settings of the session middleware that make a strategy."""
    if not strategy.is_shared:
        return {"store": f"memory://{strategy.name}"}
    near: dict[str, str | bool | None] = {"near_cache": True} if strategy.has_copies else {}
    return {"store": store, "replica": replica or None, **near}
