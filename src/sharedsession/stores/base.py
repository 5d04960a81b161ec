"""The contract of a store: opaque bytes under a key, five verbs.

A store knows nothing of cookies, requests, merging or encoding. What every verb keeps to:

* **Expired counts as gone**, whether it has been swept yet or not.
* ``ttl`` is in whole seconds, at least 1.
* A store that cannot answer raises `StoreUnavailable`; whether the write it was asked for took
  place is then unknown. "Absent" is an answer, an outage never is.
* A store that is full and refuses a write raises `StoreFull`, which says that nothing was written.
* Only the store repeats a command whose answer was lost. So that a repeated `create` or `replace`
  knows itself, each makes one random write token, which is kept beside the data with the tokens
  of the last few writes. Finding one's own among them is success, also under a later write; the
  entry returned then says ``repeated``, for by now the key may hold something else, or an end.
  Finding the token compared with, and not one's own: another write came first. Finding neither
  when a command is repeated leaves its outcome unknown, which is `StoreUnavailable`: enough other
  writes may have come since to push both out (`fate_of` is this rule).
* Verbs may be called from several threads (`Store`) or tasks (`AsyncStore`) at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

__all__ = [
    "ALL",
    "QUIET",
    "READY",
    "AsyncStore",
    "Checkable",
    "Entry",
    "Event",
    "Finding",
    "NoPush",
    "Pushing",
    "Replicated",
    "Store",
    "StorePair",
    "Sweeper",
    "fate_of",
    "holds_token",
    "new_token",
    "with_token",
]

TOKEN_BYTES = 8
TOKENS_KEPT = 4
FRESHEST = 2**62  # as `at_least`: no copy will do


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store holds under a key, as one reader or writer saw it.

    ``expires`` is in epoch seconds, or None where the store cannot say. ``token`` is what the
    store itself compares in `replace`; the version is only a floor and can come twice after a
    failover, so it is never compared. ``cas`` is the server's own number for the same, where it has
    one and has told it. ``repeated``: the write took place, but its first answer
    was lost, and others may have written since. ``found_in`` says whose answer it is: that of the
    store, of a replica, or of a copy in this process. What the data decode to is noted by its
    reader: an entry may be loaded once and used often.
    """

    data: bytes
    version: int
    expires: float | None
    token: bytes
    repeated: bool = False
    found_in: Literal["store", "replica", "copy"] = field(default="store", compare=False)
    cas: int | None = field(default=None, repr=False, compare=False)
    decoded: object = field(default=None, init=False, repr=False, compare=False)


ABSENT = Entry(b"", 0, None, b"")


class Store(Protocol):
    """A store whose verbs are ordinary functions.

    ``blocking`` says whether a call may wait for a disk or a network; such a store is called in
    threads under ASGI, one that never waits is called directly. A store may have a ``clock``, too,
    which returns the time in epoch seconds: the middleware takes the time from it.
    """

    blocking: bool

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        """Return the entry, or None when it is absent or expired.

        A store with copies must ask its primary when its copy is older than ``at_least`` or
        absent; the primary's answer is final, older or not.
        """

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        """Store under a key that is free, as version 1; None when the key is taken."""

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        """Swap ``entry``, as loaded, for new data; version ``max(entry.version, at_least) + 1``.

        None when another write came first and when the key is gone; the caller loads again to
        learn which.
        """

    def touch(self, key: str, ttl: int) -> bool:
        """Give the entry a new lifetime, same data and version; False when it is gone."""

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        """Remove for good; an absent key is fine, and True.

        With ``entry``, as loaded: remove it only while the key still holds it; else False, also
        when the key is absent by now. A store that is full does this all the same.
        """


class AsyncStore(Protocol):
    """The same five verbs, awaited. See `Store` for what each means."""

    async def load(self, key: str, at_least: int = 0) -> Entry | None: ...

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None: ...

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None: ...

    async def touch(self, key: str, ttl: int) -> bool: ...

    async def delete(self, key: str, entry: Entry | None = None) -> bool: ...


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StorePair:
    """One store, sync and async; without an asynchronous one, the sync store serves ASGI as well.

    Hold on to the pair, not only to its stores: `open_store` finds it again only that long.
    """

    sync: Store | None
    asynchronous: AsyncStore | None


@runtime_checkable
class Sweeper(Protocol):
    """A store that can remove what has expired."""

    def sweep(self, limit: int) -> int:
        """Remove at most ``limit`` expired entries and return how many there were."""


@runtime_checkable
class Replicated(Protocol):
    """A store that can be read as a replica."""

    def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """Return what `load` would of each key, all from one server and of one moment.

        With ``expires`` wherever the store can say, even if that costs more.
        """


@runtime_checkable
class Copying(Protocol):
    """A store that answers some loads from copies: see `near`."""

    lag: float
    """By how many seconds an answer may be behind what the store itself would answer."""

    @property
    def counts(self) -> dict[str, int]:
        """How many loads were answered by whom."""

    def peek(self, key: str, at_least: int = 0) -> Entry | None:
        """Return a copy, or None where `load` would have to ask; never waits.

        `ABSENT` is the copy of nothing: of a key that was absent a moment ago.
        """

    def outdated(self, key: str, at_least: int = 0) -> Entry | None:
        """Return a copy for the time of an outage, as old as the settings allow; never waits."""


@runtime_checkable
class Pushing(Protocol):
    """A store that publishes invalidations: each write of a session, by any client."""

    pushes: bool
    """Whether this one can: not every server and every client library does."""

    def heartbeat(self, listener: str, number: int) -> None:
        """Send a heartbeat by the way that writes take; it reaches this listener alone."""

    def listen(self, listener: str) -> Iterator[Event]:
        """Yield what happens, until the iterator is closed; raise when nothing more will come.

        The first is `READY`: from then on everything is told. `QUIET` says, a few times a second,
        that nothing has happened.
        """


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out about a store: a sentence, and how much it matters.

    With an "error" sessions would not work; with a "warning" they do, and something may befall
    them, which the sentence names together with what to do about it.
    """

    level: Literal["ok", "warning", "error"]
    text: str


@runtime_checkable
class Checkable(Protocol):
    """A store that can say how its server is set up."""

    def examine(self) -> Iterator[Finding]:
        """Yield what is found out about the server, whether it can be reached first of all.

        What the server does not tell, or this user may not ask, is left out or said; it is no
        error. Nothing is changed, and no sentence has a password. After an error nothing more is
        to be asked.

        Raises:
            StoreUnavailable: The server cannot be reached, or does not answer in time.
        """


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a listener hears: a key whose session was written or ended, or a heartbeat."""

    key: str | None = None
    heartbeat: int | None = None


READY, QUIET, ALL = Event(), Event(), Event()  # ALL: no key is what it was


class NoPush(Exception):
    """A store cannot publish invalidations; the message says why, and what to do."""


def new_token() -> bytes:
    """Return a fresh write token."""
    return secrets.token_bytes(TOKEN_BYTES)


def with_token(token: bytes, earlier: bytes = b"") -> bytes:
    """Return the tokens to keep after a write: the new one first, then the latest earlier ones."""
    return (token + earlier)[: TOKENS_KEPT * TOKEN_BYTES]


def holds_token(tokens: bytes, token: bytes) -> bool:
    """Say whether ``token`` is among the kept ones."""
    return any(
        tokens[start : start + TOKEN_BYTES] == token for start in range(0, len(tokens), TOKEN_BYTES)
    )


def fate_of(
    kept: bytes, own: bytes, compared: bytes = b"", *, repeated: bool
) -> Literal["written", "overtaken", "unknown"]:
    """Say what became of a write that found other tokens ``kept`` under its key than it expected.

    ``own`` is its token, ``compared`` those of the entry that it was to replace (none: it was to
    be created). ``repeated``: the command was sent before, and the answer to that was lost. While
    the last place is free no token was pushed out.
    """
    if holds_token(kept, own):
        return "written"
    if not repeated or len(kept) < TOKENS_KEPT * TOKEN_BYTES:
        return "overtaken"
    latest = compared[:TOKEN_BYTES]
    return "overtaken" if latest and holds_token(kept, latest) else "unknown"
