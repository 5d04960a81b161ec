"""The settings of a door, and the store that they name: sync and async, with its copies."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .._core.drivers import advance
from .._core.flows import opening
from .._core.settings import NAMES, Settings, announce, gather
from ..stores import REPLICA_SHARE, open_store, open_with_copies
from ..stores.base import AsyncStore, Copying, Store, StorePair
from ..stores.near import with_copies
from . import advice

if TYPE_CHECKING:
    from .._core.exchange import Exchange


def configure(arguments: Mapping[str, Any]) -> Settings:  # Any: what `gather` checks
    """Return the settings of a middleware, and say what may be wrong with them."""
    advice.warn_of_variables(os.environ, NAMES)
    settings = gather(arguments)
    announce(settings)
    return settings


class Stores:
    """The store that the settings name, sync and async, as far as there are both."""

    def __init__(self, settings: Settings) -> None:
        chosen, replica, timeout = settings.store, settings.replica, settings.store_timeout
        near_cache, stale = settings.near_cache, settings.stale_if_error
        self.owned = isinstance(chosen, str)
        # A store that takes a clock keeps the time of its sessions, too.
        self.clock: Callable[[], float] = getattr(chosen, "clock", time.time)
        if near_cache is None and replica is None:
            pair = _opened(chosen, timeout)
        elif isinstance(chosen, str) and isinstance(replica, str | None):
            pair = open_with_copies(chosen, timeout, near_cache, replica, stale)
        else:
            beside = None if replica is None else _opened(replica, timeout / REPLICA_SHARE)
            opened = _opened(chosen, timeout)
            pair = with_copies(opened, near_cache, beside, stale, self.clock)
        self._pair = pair  # held: it is shared while it lives
        self.sync, self.asynchronous = pair.sync, pair.asynchronous
        either = pair.asynchronous if pair.sync is None else pair.sync
        self.copies = either if isinstance(either, Copying) else None
        # By how many seconds an answer may be behind the store; what looks for a copy at hand.
        self.lag = 0.0 if self.copies is None else self.copies.lag
        self.peek = None if self.copies is None else self.copies.peek

    @property
    def counts(self) -> dict[str, int]:
        """How many loads were answered by whom, where there are copies."""
        return {} if self.copies is None else self.copies.counts

    def open_outdated(self, exchange: Exchange) -> bool:
        """Open a session from copies alone, where the settings allow that in an outage."""
        if self.copies is None:
            return False
        flow = opening(exchange, outdated=True)
        try:
            advance(flow, exchange.manager, self.copies.outdated)
        except StopIteration:
            # What another package keeps cannot be known from copies: there may be a session.
            return exchange.entry is not None or not exchange.foreign
        finally:
            flow.close()
        return False


def _opened(store: str | Store | AsyncStore, timeout: float) -> StorePair:
    if isinstance(store, str):
        return open_store(store, timeout)
    if inspect.iscoroutinefunction(store.load):
        return StorePair(None, cast(AsyncStore, store))
    return StorePair(cast(Store, store), None)
