"""A replica: how far it follows its primary, which stores can be one."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from ...exceptions import ConfigurationError
from .._support.verbs import Flow
from ..base import FRESHEST, Entry, Replicated, StorePair
from .invalidation import HeartbeatSender

LEASE = 1.0  # seconds, of what a replica shows
SHORTEST_REST, LONGEST_REST = 0.5, 8.0  # seconds for which a replica is left alone
HEARTBEAT_TTL = 60  # seconds that a heartbeat outlives its server


class Heartbeat:
    """What is written to the primary, for the replica to show."""

    def __init__(self, listener: str) -> None:
        self.key = f"heartbeat-{listener}"
        self._entry: Entry | None = None  # as last written

    def write(self, store: Any, number: int) -> Flow[None]:  # Any: sync or async
        """Write the heartbeat of that number."""
        data, entry = number.to_bytes(8, "big"), self._entry
        if entry is not None:
            entry = yield partial(store.replace, self.key, entry, data, HEARTBEAT_TTL)
        if entry is None:
            entry = yield partial(store.create, self.key, data, HEARTBEAT_TTL)
        self._entry = entry or (yield partial(store.load, self.key))


class Following:
    """How far a replica follows its primary: it shows heartbeats that were written there."""

    def __init__(self) -> None:
        self.sender = HeartbeatSender(LEASE)
        self.heartbeat = Heartbeat(self.sender.listener)
        self._rests_until = -math.inf
        self._rest = SHORTEST_REST

    def may_answer(self, at_least: int) -> bool:
        """Say whether the replica is to be asked."""
        return at_least < FRESHEST and time.monotonic() >= self._rests_until

    def rest(self) -> None:
        """It does not answer, or is behind: leave it alone for a while, and longer each time."""
        self._rests_until = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def as_of(self, heartbeat: Entry | None) -> float | None:
        """Return when the heartbeat was sent that came along with an answer; None: it is behind."""
        number = 0 if heartbeat is None else int.from_bytes(heartbeat.data, "big")
        as_of = self.sender.sent(number)
        if time.monotonic() - as_of >= LEASE:
            self.rest()
            return None
        self._rest = SHORTEST_REST
        return as_of


def readable(replica: StorePair | None, kind: str) -> Any:  # Replicated, or its awaited twin
    """Return the store of that kind, "sync" or "asynchronous"; None where there is no replica."""
    if replica is None:
        return None
    store = getattr(replica, kind)
    if store is None:
        raise ConfigurationError(
            "replica is a store object that cannot be read in all the ways in which the store "
            "can be: give the replica's URL, or a store object for both, of one kind."
        )
    if not isinstance(store, Replicated) or getattr(store, "spreads", False):
        raise ConfigurationError(
            "replica names one replica, of Redis, Valkey or an SQL database: each of its answers "
            "must come with a heartbeat, from the same server. "
            f"{type(store).__name__} cannot do that."
        )
    return store
