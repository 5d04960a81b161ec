"""Several session middlewares on one request: which of them decides, and what each has counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from .._core.manager import Manager
from .._core.session import Session, exchange_of
from .._core.state import Progress
from .stores import Stores

COUNTS = "sharedsession.counts"  # where scopes and environments hold the `Counts` of a middleware
LAYERS = "sharedsession.layers"  # and, inside of several, the name and the session of each


class Counts(Mapping[str, int]):
    """How often each event has happened in this process: always as of now, and read only."""

    def __init__(self, manager: Manager, stores: Stores, key: str = "") -> None:
        self.manager, self._stores = manager, stores
        settings = manager.settings
        self.cookie = settings.session_cookie
        self.place = settings.store, settings.namespace
        self.key = key  # where in a scope or an environment the session is

    def _now(self) -> dict[str, int]:
        return {**self.manager.counts, **self._stores.counts}

    def __getitem__(self, event: str) -> int:
        return self._now().get(event, 0)

    def __contains__(self, event: object) -> bool:
        return event in self._now()

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __repr__(self) -> str:
        return repr(self._now())


def enter(request: MutableMapping[str, Any], counts: Counts, outer: Counts) -> Session | None:
    """Go into a middleware inside of another one; return the session that both have in common.

    Two cookies of one name cannot be in one answer: the outermost middleware of that name decides.
    """
    session = request.get(outer.key)
    held: Mapping[str, Session] = request.get(LAYERS, {})
    layers = {name: each for name, each in held.items() if not _is_over(each)}
    if isinstance(session, Session):
        layers.setdefault(outer.cookie, session)
    request[LAYERS] = layers
    known = layers.get(counts.cookie)
    if known is None or _is_over(known):  # of an earlier request with the same environment
        return None
    if counts.place != outer.place and counts.cookie == outer.cookie:
        counts.manager.tell_once(
            "two-layers",
            "Two session middlewares on one request must have the same store and namespace, or "
            "cookies of different names, and both have the cookie %r: the outer one decides. Give "
            "one of them another name (session_cookie=…), or both the same settings.",
            counts.cookie,
        )
    return known


def _is_over(session: Session) -> bool:
    exchange = exchange_of(session)
    return exchange is not None and exchange.progress is Progress.OVER
