"""Ways to get it wrong on purpose, inside the servers: each of them must be caught.

A new one is a function that takes the store's URL and returns what the middleware is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sharedsession import flows
from sharedsession.stores.base import Entry
from sharedsession.stores.sql import SQLStore


class LastWriterWins(SQLStore):
    """A store whose replace does not compare."""

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        while (current := self.load(key)) is not None:
            replaced = super().replace(key, current, *arguments, **more)
            if replaced is not None:
                return replaced
        return None


def last_writer_wins(url: str) -> Any:
    return LastWriterWins.from_url(url)


def create_then_delete(visit: flows.Visit, successor: Any) -> Any:
    """The renewal that seems obvious: create the new session, delete the old one."""
    yield "delete", visit.key
    if successor is None:
        visit.lose()
        visit.ended, visit.removed = False, True
    else:
        flows._adopt(visit, successor, "renewed")
    return True


def obvious_renewal(url: str) -> Any:
    flows._end = create_then_delete
    return url


CONTROLS: dict[str, Callable[[str], Any]] = {
    "last writer wins": last_writer_wins,
    "create, then delete": obvious_renewal,
}


def store(url: str, control: str | None) -> Any:
    """Return what the middleware is given as its store."""
    return url if not control else CONTROLS[control](url)
