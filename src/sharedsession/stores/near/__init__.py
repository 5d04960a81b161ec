"""Copies that answer in the place of a store: in this process's memory, and in a replica.

A copy answers where two things are known of it. It is no older than what the client has seen: its
version is at least the one in the client's cookie. And it was the current one less than a *lease*
ago, or else it could outlive a sign-out on another server:

* a session loaded less than a lease ago, or, where the store pushes, one that no push has told of
  since it was loaded, while heartbeats sent by the writers' way come back by push within a lease;
* what a replica holds, while it shows, in the same answer, a heartbeat that was written to the
  primary less than a lease ago. Its "absent" is never final: the session may be on its way.

Everything else is asked of the store itself, whose answer is final. Who may be answered by a copy,
and finds that another caller of this process is asking already, waits for a moment for what that
one hears: the end of a lease is one load, however many requests meet it.

Copies and connections belong to one process: a child of it begins with none.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from ..._core.per_process import PerProcess
from ..._core.settings import NearCache
from ...exceptions import ConfigurationError, StoreUnavailable
from .._support.deadline import deadline, within
from .._support.per_loop import Loops
from .._support.verbs import AwaitedVerbs, Flow, Flows, PlainVerbs
from ..base import ABSENT, FRESHEST, AsyncStore, Entry, Pushing, Replicated, Store, StorePair
from .copies import Answer, Copies, satisfies
from .invalidation import HeartbeatSender

__all__ = ["AsyncNearStore", "NearStore", "with_copies"]

T = TypeVar("T")

LEASE = 1.0  # seconds, of what a replica shows
SHORTEST_REST, LONGEST_REST = 0.5, 8.0  # seconds for which a replica is left alone
HEARTBEAT_TTL = 60  # seconds that a heartbeat outlives its server


# --- a replica ------------------------------------------------------------------------------------


class Heartbeat:
    """What is written to the primary, for the replica to show."""

    def __init__(self, listener: str) -> None:
        self.key = f"heartbeat-{listener}"
        self.entry: Entry | None = None  # as last written


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

    def answered(self) -> None:
        """It has answered, and is not behind."""
        self._rest = SHORTEST_REST

    def as_of(self, heartbeat: Entry | None) -> float:
        """Return when the heartbeat was sent that came along with an answer."""
        return (
            -math.inf
            if heartbeat is None
            else self.sender.sent(int.from_bytes(heartbeat.data, "big"))
        )


# --- what sync and async share --------------------------------------------------------------------


class ProcessState:
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
        self.state = PerProcess(partial(ProcessState, limits, pushing, follows, clock)).own
        self.outdated = outdated
        self.timeout = timeout  # of a load, the replica's time included; None: the clients' own
        self.keep_alive: object = None  # what the stores with copies need to live
        self.lag = max(LEASE if follows else 0.0, 0.0 if limits is None else limits.lease)


class _Lookup:
    """A load that no copy at hand can answer: asked of the replica, then of the store itself."""

    __slots__ = ("_as_of", "_asking", "_at_least", "_key", "_state", "_told", "answered", "entry")

    def __init__(self, state: ProcessState, key: str, at_least: int) -> None:
        self._state, self._key, self._at_least = state, key, at_least
        self.answered, self.entry = False, cast("Entry | None", None)

    def __enter__(self) -> _Lookup:
        self._as_of, self._told = time.monotonic(), True
        copies = self._state.copies
        self._asking = None if copies is None else copies.ask(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        copies, asking = self._state.copies, self._asking
        if copies is not None and asking is not None:
            copy = None
            if self.answered:
                copy = ABSENT if self.entry is None else replace(self.entry, found_in="copy")
                copies.keep(self._key, asking, copy, self._as_of, told=self._told)
            copies.leave(self._key, asking, copy)

    def resolve(self, entry: Entry | None) -> Entry | None:
        """Take the store's own answer, which is final."""
        self.answered, self.entry = True, entry
        self._state.counts["store"] += 1
        return entry

    def offer(self, answers: Sequence[Entry | None]) -> None:
        """Take what the replica showed: a heartbeat, and what it has under the key."""
        following, (heartbeat, entry) = cast(Following, self._state.following), answers
        as_of = following.as_of(heartbeat)
        if time.monotonic() - as_of >= LEASE:
            following.rest()
            return
        following.answered()
        if entry is not None and entry.version >= self._at_least:
            self.answered, self.entry = True, replace(entry, found_in="replica")
            self._as_of, self._told = as_of, False
            self._state.counts["replica"] += 1


Call = Callable[[], Any]  # Any: what it returns, or what is awaited of it


class _Near(Flows):
    """The verbs, once. A flow yields a call, and is sent what comes of it."""

    def __init__(
        self, primary: Store | AsyncStore, replica: Replicated | None, shared: Shared
    ) -> None:
        # Any: the plain and the awaited store have the same verbs.
        self._primary: Any = primary
        self._replica: Any = replica
        self._shared = shared
        self.lag = shared.lag
        # Whether copies are kept of what is loaded, and the store can say until when it lives.
        self._looks = shared.state().copies is not None and isinstance(primary, Replicated)

    @property
    def counts(self) -> dict[str, int]:
        """How many loads were answered by a copy, the replica and the store itself."""
        return dict(self._shared.state().counts)

    def peek(self, key: str, at_least: int = 0) -> Entry | None:
        """Return the copy at hand, or None where `load` would have to ask."""
        state = self._shared.state()
        if state.copies is None:
            return None
        entry = state.copies.get(key, at_least)
        if entry is not None:
            state.counts["copy"] += 1
        return entry

    def outdated(self, key: str, at_least: int = 0) -> Entry | None:
        """Return a copy for the time of an outage, as old as the settings allow."""
        state = self._shared.state()
        if state.copies is None or not self._shared.outdated:
            return None
        entry = state.copies.outdated(key, at_least, self._shared.outdated)
        if entry is not None:
            state.counts["outdated copy"] += 1
        return entry

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        state = self._shared.state()
        known = self.peek(key, at_least) or (yield from self._join(state, key, at_least))
        if known is not None:
            return None if known is ABSENT else known
        yield partial(self._send_heartbeats, state)
        with _Lookup(state, key, at_least) as lookup:
            following = state.following
            if following is not None and following.may_answer(at_least):
                try:
                    keys = [following.heartbeat.key, key]
                    lookup.offer((yield partial(self._replica.load_all, keys)))
                except Exception:  # noqa: BLE001 - whatever it is, the store itself has the answer
                    following.rest()
                except BaseException:  # the caller has left; the next one need not wait at all
                    following.rest()
                    raise
            if lookup.answered:
                return lookup.entry
            if self._looks:  # until when an entry lives matters for a copy of it
                [entry] = yield partial(self._primary.load_all, [key])
                return lookup.resolve(entry)
            return lookup.resolve((yield partial(self._primary.load, key, at_least)))

    def _join(self, state: ProcessState, key: str, at_least: int) -> Flow[Entry | None]:
        """Wait for what another caller hears, where a copy would do; None: ask the store."""
        if state.copies is None or at_least >= FRESHEST:
            return None
        joined = state.copies.join(key)
        if joined is None:
            return None
        entry: Entry | None = yield partial(self._wait, *joined)
        if entry is None or not satisfies(entry, at_least):
            return None
        state.counts["copy"] += 1
        return entry

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        if old is None:
            return self._writing(key, partial(self._primary.create, key, data, ttl, owner))
        write = partial(self._primary.replace, key, old, data, ttl, owner, at_least)
        return self._writing(key, write)

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        return self._writing(key, partial(self._primary.touch, key, ttl))

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        return self._writing(key, partial(self._primary.delete, key, entry))

    def _writing(self, key: str, call: Call) -> Flow[Any]:
        """Make a write: whatever comes of it, the copy is none any more."""
        copies = self._shared.state().copies
        try:
            return (yield call)
        finally:
            if copies is not None:
                copies.forget(key)

    def _wait(self, answer: Future[Answer], seconds: float) -> Any:
        """Return the answer of another caller; None when it takes longer than that."""
        raise NotImplementedError

    def _send_heartbeats(self, state: ProcessState) -> Any:
        raise NotImplementedError


class NearStore(_Near, PlainVerbs):
    """A store with copies before it."""

    def __init__(self, primary: Store, replica: Replicated | None, shared: Shared) -> None:
        super().__init__(primary, replica, shared)
        self.blocking = getattr(primary, "blocking", True)

    def _run(self, flow: Flow[T]) -> T:
        with within(self._shared.timeout):
            return super()._run(flow)

    def _ask(self, asked: Call) -> Any:
        return asked()

    def _wait(self, answer: Future[Answer], seconds: float) -> Entry | None:
        with suppress(TimeoutError):
            return answer.result(max(0.0, min(seconds, deadline.left())))
        return None

    def _send_heartbeats(self, state: ProcessState) -> None:
        """Let the heartbeats go the way that the writes of this store go."""
        if state.copies is not None and state.copies.invalidations.store is not None:
            sender = state.copies.invalidations.sender
            sender.send = partial(cast(Pushing, self._primary).heartbeat, sender.listener)
        if state.following is not None:
            state.following.sender.send = partial(
                _write_heartbeat, self._primary, state.following.heartbeat
            )
            state.following.sender.need(time.monotonic())


def _write_heartbeat(store: Store, heartbeat: Heartbeat, number: int) -> None:
    data, entry = number.to_bytes(8, "big"), heartbeat.entry
    if entry is None or (entry := store.replace(heartbeat.key, entry, data, HEARTBEAT_TTL)) is None:
        entry = store.create(heartbeat.key, data, HEARTBEAT_TTL) or store.load(heartbeat.key)
    heartbeat.entry = entry


# --- the async store -----------------------------------------------------------------------------


class AsyncNearStore(_Near, AwaitedVerbs):
    """An async store with copies before it."""

    def __init__(self, primary: AsyncStore, replica: Any, shared: Shared) -> None:
        super().__init__(primary, replica, shared)
        self._loops = Loops(_OnLoop)

    async def _ask(self, asked: Call) -> Any:
        return await asked()

    async def _wait(self, answer: Future[Answer], seconds: float) -> Entry | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(answer)
        return None

    async def _send_heartbeats(self, state: ProcessState) -> None:
        """Let the heartbeats go the way that the writes of this loop go."""
        listens = state.copies is not None and state.copies.invalidations.store is not None
        if not listens and state.following is None:
            return
        on = await self._loops.here()
        if state.copies is not None and listens:
            sender = state.copies.invalidations.sender
            if not _sends_on(sender, on):
                # Any: the awaited twin of `Pushing`
                sender.send = _LoopHeartbeats(
                    on, partial(cast(Any, self._primary).heartbeat, sender.listener)
                )
        if state.following is not None:
            sender = state.following.sender
            if not _sends_on(sender, on):
                sender.send = _LoopHeartbeats(
                    on, partial(_awrite_heartbeat, self._primary, state.following.heartbeat)
                )
            sender.need(time.monotonic())


async def _awrite_heartbeat(store: AsyncStore, heartbeat: Heartbeat, number: int) -> None:
    data, entry = number.to_bytes(8, "big"), heartbeat.entry
    if (
        entry is None
        or (entry := await store.replace(heartbeat.key, entry, data, HEARTBEAT_TTL)) is None
    ):
        entry = await store.create(heartbeat.key, data, HEARTBEAT_TTL) or await store.load(
            heartbeat.key
        )
    heartbeat.entry = entry


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


class _LoopHeartbeats:
    """Sends heartbeats on an event loop, one at a time."""

    def __init__(self, on: _OnLoop, send: Callable[[int], Awaitable[None]]) -> None:
        self.on, self._send = on, send
        self._is_sending = False
        self._trouble = ""  # what became of the heartbeat before

    def __call__(self, number: int) -> None:
        """Begin to send; raise when the heartbeat before could not be sent."""
        self.on.begin(partial(self._go, number))
        if self._trouble:
            raise StoreUnavailable(self._trouble)

    async def _go(self, number: int) -> None:
        if self._is_sending:
            return
        self._is_sending = True
        try:
            await self._send(number)
        except Exception as error:  # noqa: BLE001 - a heartbeat that does not come back says it all
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
    """Return the same pair, with copies before it that the sync and the async store share."""
    pushing = pair.sync if isinstance(pair.sync, Pushing) and pair.sync.pushes else None
    shared = Shared(near_cache, pushing, replica is not None, outdated, timeout, clock)
    shared.keep_alive = pair, replica
    sync, asynchronous = pair.sync, pair.asynchronous
    return StorePair(
        None if sync is None else NearStore(sync, _readable(replica, "sync"), shared),
        None
        if asynchronous is None
        else AsyncNearStore(asynchronous, _readable(replica, "asynchronous"), shared),
    )


def _readable(
    replica: StorePair | None, kind: str
) -> Any:  # Replicated, or its awaited twin; None: there is no replica
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


def _sends_on(sender: HeartbeatSender, on: _OnLoop) -> bool:
    return isinstance(sender.send, _LoopHeartbeats) and sender.send.on is on
