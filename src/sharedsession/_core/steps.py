"""What a flow asks for: one call of a store, ours or an old one, or a pause, as a value.

A flow is a generator. It yields a step, is sent the answer, and returns its result; it composes by
``yield from``. An error of the store is thrown into it; one that is closed has been given up. A
flow never repeats a store's command: only the store does that, with the same token.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from ..exceptions import StoreUnavailable
from ..stores.base import FRESHEST, AsyncStore, Entry, Store
from .source import Foreign

T = TypeVar("T")

# Any, below: the answer of the verb, which a plain store returns and an `AsyncStore` awaits.


class Load(NamedTuple):
    """Answered by the entry, or None."""

    key: str
    at_least: int = FRESHEST

    def on(self, store: Store | AsyncStore) -> Any:
        return store.load(self.key, self.at_least)


class Create(NamedTuple):
    """Answered by the entry; None when the key is taken."""

    key: str
    data: bytes
    ttl: int
    owner: str | None = None

    def on(self, store: Store | AsyncStore) -> Any:
        return store.create(*self)


class Replace(NamedTuple):
    """Answered by the entry; None when another write came first, or the key is gone."""

    key: str
    entry: Entry
    data: bytes
    ttl: int
    owner: str | None = None
    at_least: int = 0

    def on(self, store: Store | AsyncStore) -> Any:
        return store.replace(*self)


class Touch(NamedTuple):
    """Answered by False when the key is gone."""

    key: str
    ttl: int

    def on(self, store: Store | AsyncStore) -> Any:
        return store.touch(*self)


class Delete(NamedTuple):
    """Answered by False when the key does not hold the entry any more."""

    key: str
    entry: Entry | None = None

    def on(self, store: Store | AsyncStore) -> Any:
        return store.delete(*self)


class Pause(NamedTuple):
    """Answered, by nothing, some time later."""

    seconds: float


class ReadOld(NamedTuple):
    """Asks another package's store; answered by what was `Found`, or None."""

    foreign: Foreign
    keys: Sequence[bytes]
    now: float

    def __repr__(self) -> str:  # without the keys
        return f"ReadOld({self.foreign!r})"

    def on(self, _: object) -> Any:
        return self.foreign.source.read(self.foreign.value, self.keys, self.now)


class EndOld(NamedTuple):
    """The same; answered by nothing."""

    foreign: Foreign

    def on(self, _: object) -> Any:
        self.foreign.source.delete(self.foreign.value)


Write = Create | Replace | Touch | Delete
Beside = ReadOld | EndOld  # not asked of the store that the flow runs on, and may wait
Step = Load | Write | Pause | Beside
Flow = Generator[Step, Any, T]  # what is sent in is the step's answer


class NotSent(StoreUnavailable):
    """The deadline had passed before a command was handed to the store."""
