"""Copies that answer in the place of a store: in this process's memory, and in a replica.

A copy answers where two things are known of it. It is no older than what the client has seen: its
version is at least the one in the client's cookie. And it was the current one less than a *lease*
ago, or else it could outlive a sign-out on another server:

* a session loaded less than a lease ago, or, where the store pushes, one that no push has told of
  since it was loaded, while beats sent by the writers' way come back by push within a lease;
* what a replica holds, while it shows, in the same answer, a beat that was written to the primary
  less than a lease ago. Its "absent" is never final: the session may be on its way.

Everything else is asked of the store itself, whose answer is final. Copies and connections belong
to one process: a child of it begins with none.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast

from ..exceptions import ConfigurationError, StoreUnavailable
from ..settings import NearCache
from .base import FRESHEST, AsyncStore, Entry, Pushing, Replicated, Store, StorePair
from .copies import Copies
from .loops import Loops
from .push import Pulse
from .waiting import within

LEASE = 1.0  # seconds, of what a replica shows
SHORTEST_REST, LONGEST_REST = 0.5, 8.0  # seconds for which a replica is left alone
BEAT_TTL = 60  # seconds that a beat outlives its server


# --- a replica ------------------------------------------------------------------------------------


class Beat:
    """What is written to the primary, for the replica to show."""

    def __init__(self, listener: str) -> None:
        self.key = f"heartbeat-{listener}"
        self.entry: Entry | None = None  # as last written


class Following:
    """How far a replica follows its primary: it shows beats that were written there."""

    def __init__(self) -> None:
        self.pulse = Pulse(LEASE)
        self.beat = Beat(self.pulse.listener)
        self._rests_until = -math.inf
        self._rest = SHORTEST_REST

    def may_answer(self, at_least: int) -> bool:
        """Say whether the replica is to be asked."""
        return at_least < FRESHEST and time.monotonic() >= self._rests_until

    def rest(self) -> None:
        """It does not answer, or is behind: leave it alone for a while, and longer each time."""
        self._rests_until = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def answered(self) -> None:
        """It has answered, and is not behind."""
        self._rest = SHORTEST_REST

    def as_of(self, beat: Entry | None) -> float:
        """Return when the beat was sent that came along with an answer."""
        return -math.inf if beat is None else self.pulse.sent(int.from_bytes(beat.data, "big"))


# --- what both colours share ----------------------------------------------------------------------


class Here:
    """What one process knows: its copies, and how far the replica follows."""

    def __init__(
        self,
        limits: NearCache | None,
        pushing: Pushing | None,
        follows: bool,
        clock: Callable[[], float],
    ) -> None:
        self.copies = None if limits is None else Copies(limits, pushing, clock)
        self.following = Following() if follows else None
        self.counts: Counter[str] = Counter()


class Shared:
    """The way to what this process knows; a child of it begins anew."""

    def __init__(
        self,
        limits: NearCache | None,
        pushing: Pushing | None,
        follows: bool,
        outdated: float,
        timeout: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._make = partial(Here, limits, pushing, follows, clock)
        self._here = {os.getpid(): self._make()}
        self.outdated = outdated
        self.timeout = timeout  # of a load, the replica's time included; None: the clients' own
        self.keeps: object = None  # what the stores with copies need to live
        self.lag = max(LEASE if follows else 0.0, 0.0 if limits is None else limits.lease)

    def here(self) -> Here:
        process = os.getpid()
        here = self._here.get(process)
        if here is None:  # a child; not every server runs Python's fork hooks
            # No lock: somebody may have held it in the parent. Of several threads one is first.
            here = self._here.setdefault(process, self._make())
            self._here = {process: here}  # the parent's are of no use
        return here


class _Question:
    """A load that no copy at hand can answer: asked of the replica, then of the store itself."""

    __slots__ = ("_as_of", "_asking", "_at_least", "_here", "_key", "_told", "answered", "entry")

    def __init__(self, here: Here, key: str, at_least: int) -> None:
        self._here, self._key, self._at_least = here, key, at_least
        self.answered, self.entry = False, cast("Entry | None", None)

    def __enter__(self) -> _Question:
        self._as_of, self._told = time.monotonic(), True
        copies = self._here.copies
        self._asking = None if copies is None else copies.ask(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        copies, asking = self._here.copies, self._asking
        if copies is not None and asking is not None:
            if self.answered:
                copy = None if self.entry is None else replace(self.entry, found_in="copy")
                copies.keep(self._key, asking, copy, self._as_of, told=self._told)
            copies.leave(self._key, asking)

    def settle(self, entry: Entry | None) -> Entry | None:
        """Take the store's own answer, which is final."""
        self.answered, self.entry = True, entry
        self._here.counts["store"] += 1
        return entry

    def take(self, answers: Sequence[Entry | None]) -> None:
        """Take what the replica showed: a beat, and what it has under the key."""
        following, (beat, entry) = cast(Following, self._here.following), answers
        as_of = following.as_of(beat)
        if time.monotonic() - as_of >= LEASE:
            following.rest()
            return
        following.answered()
        if entry is not None and entry.version >= self._at_least:
            self.answered, self.entry = True, replace(entry, found_in="replica")
            self._as_of, self._told = as_of, False
            self._here.counts["replica"] += 1


class _Writing:
    """Around a write: whatever comes of it, the copy is none any more."""

    __slots__ = ("_copies", "_key")

    def __init__(self, here: Here, key: str) -> None:
        self._copies, self._key = here.copies, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._copies is not None:
            self._copies.forget(self._key)


class _Near:
    """What needs no store."""

    def __init__(self, primary: Store | AsyncStore, shared: Shared) -> None:
        self._shared = shared
        self.lag = shared.lag
        # Whether copies are kept of what is loaded, and the store can say until when it lives.
        self._looks = shared.here().copies is not None and isinstance(primary, Replicated)

    @property
    def counts(self) -> dict[str, int]:
        """How many loads were answered by a copy, the replica and the store itself."""
        return dict(self._shared.here().counts)

    def peek(self, key: str, at_least: int = 0) -> Entry | None:
        """Return the copy at hand, or None where `load` would have to ask."""
        here = self._shared.here()
        if here.copies is None:
            return None
        entry = here.copies.get(key, at_least)
        if entry is not None:
            here.counts["copy"] += 1
        return entry

    def outdated(self, key: str, at_least: int = 0) -> Entry | None:
        """Return a copy for the time of an outage, as old as the settings allow."""
        here = self._shared.here()
        if here.copies is None or not self._shared.outdated:
            return None
        entry = here.copies.outdated(key, at_least, self._shared.outdated)
        if entry is not None:
            here.counts["outdated copy"] += 1
        return entry


class NearStore(_Near):
    """A store with copies before it."""

    def __init__(self, primary: Store, replica: Replicated | None, shared: Shared) -> None:
        super().__init__(primary, shared)
        self._primary, self._replica = primary, replica
        self.blocking = getattr(primary, "blocking", True)

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        entry = self.peek(key, at_least)
        if entry is not None:
            return entry
        here = self._shared.here()
        self._send_beats(here)
        with _Question(here, key, at_least) as question, within(self._shared.timeout):
            following, replica = here.following, self._replica
            if following is not None and replica is not None and following.may_answer(at_least):
                try:
                    question.take(replica.load_all([following.beat.key, key]))
                except Exception:  # noqa: BLE001 - whatever it is, the store itself has the answer
                    following.rest()
            if question.answered:
                return question.entry
            return question.settle(self._load(key, at_least))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        with _Writing(self._shared.here(), key):
            return self._primary.create(key, data, ttl, owner)

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        with _Writing(self._shared.here(), key):
            return self._primary.replace(key, entry, data, ttl, owner, at_least)

    def touch(self, key: str, ttl: int) -> bool:
        with _Writing(self._shared.here(), key):
            return self._primary.touch(key, ttl)

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        with _Writing(self._shared.here(), key):
            return self._primary.delete(key, entry)

    def _load(self, key: str, at_least: int) -> Entry | None:
        """Ask the store itself; until when an entry lives matters for a copy of it."""
        if self._looks:
            return cast(Replicated, self._primary).load_all([key])[0]
        return self._primary.load(key, at_least)

    def _send_beats(self, here: Here) -> None:
        """Let the beats go the way that the writes of this store go."""
        if here.copies is not None and here.copies.hearing.store is not None:
            pulse = here.copies.hearing.pulse
            pulse.send = partial(cast(Pushing, self._primary).beat, pulse.listener)
        if here.following is not None:
            here.following.pulse.send = partial(_write_beat, self._primary, here.following.beat)
            here.following.pulse.need(time.monotonic())


def _write_beat(store: Store, beat: Beat, number: int) -> None:
    data, entry = number.to_bytes(8, "big"), beat.entry
    if entry is None or (entry := store.replace(beat.key, entry, data, BEAT_TTL)) is None:
        entry = store.create(beat.key, data, BEAT_TTL) or store.load(beat.key)
    beat.entry = entry


# --- the async colour -----------------------------------------------------------------------------


class AsyncNearStore(_Near):
    """An async store with copies before it."""

    def __init__(self, primary: AsyncStore, replica: Any, shared: Shared) -> None:
        super().__init__(primary, shared)
        self._primary = primary
        self._replica = replica  # Replicated, awaited
        self._loops = Loops(_OnLoop)

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        entry = self.peek(key, at_least)
        if entry is not None:
            return entry
        here = self._shared.here()
        await self._send_beats(here)
        with _Question(here, key, at_least) as question:
            following, replica = here.following, self._replica
            if following is not None and replica is not None and following.may_answer(at_least):
                try:
                    question.take(await replica.load_all([following.beat.key, key]))
                except Exception:  # noqa: BLE001 - as above
                    following.rest()
                except BaseException:  # nobody waits any longer; the next one need not wait at all
                    following.rest()
                    raise
            if question.answered:
                return question.entry
            return question.settle(await self._load(key, at_least))

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        with _Writing(self._shared.here(), key):
            return await self._primary.create(key, data, ttl, owner)

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        with _Writing(self._shared.here(), key):
            return await self._primary.replace(key, entry, data, ttl, owner, at_least)

    async def touch(self, key: str, ttl: int) -> bool:
        with _Writing(self._shared.here(), key):
            return await self._primary.touch(key, ttl)

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        with _Writing(self._shared.here(), key):
            return await self._primary.delete(key, entry)

    async def _load(self, key: str, at_least: int) -> Entry | None:
        if self._looks:
            # Any: the awaited twin of `Replicated`
            entry: Entry | None = (await cast(Any, self._primary).load_all([key]))[0]
            return entry
        return await self._primary.load(key, at_least)

    async def _send_beats(self, here: Here) -> None:
        """Let the beats go the way that the writes of this loop go."""
        listens = here.copies is not None and here.copies.hearing.store is not None
        if not listens and here.following is None:
            return
        on = await self._loops.here()
        if here.copies is not None and listens:
            pulse = here.copies.hearing.pulse
            if not _sends_on(pulse, on):
                # Any: the awaited twin of `Pushing`
                pulse.send = _Beats(on, partial(cast(Any, self._primary).beat, pulse.listener))
        if here.following is not None:
            pulse = here.following.pulse
            if not _sends_on(pulse, on):
                pulse.send = _Beats(on, partial(_awrite_beat, self._primary, here.following.beat))
            pulse.need(time.monotonic())


async def _awrite_beat(store: AsyncStore, beat: Beat, number: int) -> None:
    data, entry = number.to_bytes(8, "big"), beat.entry
    if entry is None or (entry := await store.replace(beat.key, entry, data, BEAT_TTL)) is None:
        entry = await store.create(beat.key, data, BEAT_TTL) or await store.load(beat.key)
    beat.entry = entry


class _OnLoop:
    """An event loop, for as long as it runs: nothing is begun on one that is about to end."""

    def __init__(self) -> None:
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task there, from any thread."""
        loop = self._loop()
        if loop is not None and not self._is_over:
            with suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(self._begin, work)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._is_over:
            task = asyncio.get_running_loop().create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way, and begin nothing more."""
        self.hang_up()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hang_up(self) -> None:
        """Do the same at once."""
        self._is_over = True
        for task in list(self._tasks):
            task.cancel()


class _Beats:
    """Sends beats on an event loop, one at a time."""

    def __init__(self, on: _OnLoop, send: Callable[[int], Awaitable[None]]) -> None:
        self.on, self._send = on, send
        self._is_sending = False
        self._trouble = ""  # what became of the beat before

    def __call__(self, number: int) -> None:
        """Begin to send; raise when the beat before could not be sent."""
        self.on.begin(partial(self._go, number))
        if self._trouble:
            raise StoreUnavailable(self._trouble)

    async def _go(self, number: int) -> None:
        if self._is_sending:
            return
        self._is_sending = True
        try:
            await self._send(number)
        except Exception as error:  # noqa: BLE001 - a beat that does not come back says it all
            self._trouble = str(error) or type(error).__name__
        else:
            self._trouble = ""
        finally:
            self._is_sending = False


def with_copies(
    pair: StorePair,
    near_cache: NearCache | None,
    replica: StorePair | None,
    outdated: float = 0.0,
    clock: Callable[[], float] = time.time,
    timeout: float | None = None,
) -> StorePair:
    """Return the same store in the same colours, with copies before it that both share."""
    pushing = pair.sync if isinstance(pair.sync, Pushing) and pair.sync.pushes else None
    shared = Shared(near_cache, pushing, replica is not None, outdated, timeout, clock)
    shared.keeps = pair, replica
    sync, asynchronous = pair.sync, pair.asynchronous
    return StorePair(
        None if sync is None else NearStore(sync, _readable(replica, "sync"), shared),
        None
        if asynchronous is None
        else AsyncNearStore(asynchronous, _readable(replica, "asynchronous"), shared),
    )


def _readable(
    replica: StorePair | None, colour: str
) -> Any:  # Replicated, or its awaited twin; None: there is no replica
    if replica is None:
        return None
    store = getattr(replica, colour)
    if store is None:
        raise ConfigurationError(
            "read_from is a store object that cannot be read in all the ways in which the store "
            "can be: give the replica's URL, or a store object for both, of one kind."
        )
    if not isinstance(store, Replicated) or getattr(store, "spreads", False):
        raise ConfigurationError(
            "read_from names one replica, of Redis, Valkey or an SQL database: each of its answers "
            f"must come with a beat, from the same server. {type(store).__name__} cannot do that."
        )
    return store


def _sends_on(pulse: Pulse, on: _OnLoop) -> bool:
    return isinstance(pulse.send, _Beats) and pulse.send.on is on
