"""A store in memory that notes what it was asked for, and can be down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sharedsession import StoreUnavailable
from sharedsession._core.record import decode_data, decode_record
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing.stores import Clock

VERBS = ("load", "create", "replace", "touch", "delete")


class WatchedStore(MemoryStore):
    """``calls`` are its verbs in their order; those in ``down`` fail."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock=clock or Clock())
        self.calls: list[str] = []
        self.down: set[str] = set()

    def fail(self, *verbs: str) -> None:
        """Be down, for some verbs or for all."""
        self.down = set(verbs or VERBS)

    def recover(self) -> None:
        self.down = set()

    @property
    def stored(self) -> list[dict[Any, Any]]:
        """The data of every session that is alive."""
        found = [MemoryStore.load(self, key) for key in list(self._entries)]
        records = [decode_record(entry.data)[0] for entry in found if entry is not None]
        return [decode_data(each.data) for each in records if hasattr(each, "data")]

    def contents(self) -> dict[str, bytes]:
        return {key: entry.data for key, entry in self._entries.items() if entry.data}

    def overwrite(self, key: str, data: bytes) -> None:
        """Put other bytes in the place of a record, as damage or a newer version would."""
        entry = MemoryStore.load(self, key)
        assert entry is not None
        assert MemoryStore.replace(self, key, entry, data, 1000) is not None


def _watched(verb: str) -> Callable[..., Any]:
    def call(self: WatchedStore, *arguments: Any) -> Any:
        self.calls.append(verb)
        if verb in self.down:
            raise StoreUnavailable("a failure of the tests' own")
        return getattr(MemoryStore, verb)(self, *arguments)

    return call


for _verb in VERBS:
    setattr(WatchedStore, _verb, _watched(_verb))
