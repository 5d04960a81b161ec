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
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ..._core.per_process import PerProcess
from ..._core.settings import NearCache
from ...exceptions import StoreUnavailable
from .._support.deadline import deadline, within
from .._support.per_loop import Loops, Tasks
from .._support.verbs import AwaitedVerbs, Flow, Flows, PlainVerbs, arun, call, run
from ..base import ABSENT, FRESHEST, AsyncStore, Entry, Pushing, Replicated, Store, StorePair
from .copies import Answer, Copies, satisfies
from .invalidation import HeartbeatSender
from .replica import LEASE, Following, readable

__all__ = ["AsyncNearStore", "NearStore", "with_copies"]

T = TypeVar("T")


# --- what a process knows -------------------------------------------------------------------------


@dataclass
class ProcessState:
    """What one process knows: its copies, and how far the replica follows."""

    copies: Copies | None
    following: Following | None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Shared:
    """What the sync and the async store of a pair have in common."""

    state: Callable[[], ProcessState]  # this process's: a child of it begins anew
    lag: float  # seconds by which what is answered may be older than what is stored
    outdated: float
    timeout: float | None  # of a load, the replica's time included; None: the clients' own
    keep_alive: object  # what the stores with copies need to live


# --- the verbs ------------------------------------------------------------------------------------

Call = Callable[[], Any]  # Any: what it returns, or what is awaited of it
Heard = tuple[Entry | None, float, bool]  # since when it is so, and whether writes since are told


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
        entry = None if state.copies is None else state.copies.get(key, at_least)
        if entry is not None:
            state.counts["copy"] += 1
        return entry

    def outdated(self, key: str, at_least: int = 0) -> Entry | None:
        """Return a copy for the time of an outage, as old as the settings allow."""
        state, seconds = self._shared.state(), self._shared.outdated
        if state.copies is None or not seconds:
            return None
        entry = state.copies.outdated(key, at_least, seconds)
        if entry is not None:
            state.counts["outdated copy"] += 1
        return entry

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        state = self._shared.state()
        known = self.peek(key, at_least) or (yield from self._join(state, key, at_least))
        if known is not None:
            return None if known is ABSENT else known
        yield from self._send_heartbeats(state)
        copies = state.copies
        if copies is None:
            return (yield from self._ask_stores(state, key, at_least))[0]
        copy, asking = None, copies.ask(key)
        try:
            entry, as_of, told = yield from self._ask_stores(state, key, at_least)
            copy = ABSENT if entry is None else replace(entry, found_in="copy")
            copies.keep(key, asking, copy, as_of, told=told)
        finally:
            copies.leave(key, asking, copy)
        return entry

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

    def _ask_stores(self, state: ProcessState, key: str, at_least: int) -> Flow[Heard]:
        """Return what the replica has, or else the store's own answer, which is final."""
        as_of = time.monotonic()
        shown = yield from self._ask_replica(state, key, at_least)
        if shown is not None:
            return shown
        if self._looks:  # until when an entry lives matters for a copy of it
            [entry] = yield partial(self._primary.load_all, [key])
        else:
            entry = yield partial(self._primary.load, key, at_least)
        state.counts["store"] += 1
        return entry, as_of, True

    def _ask_replica(self, state: ProcessState, key: str, at_least: int) -> Flow[Heard | None]:
        following = state.following
        if following is None or not following.may_answer(at_least):
            return None
        try:
            keys = [following.heartbeat.key, key]
            heartbeat, entry = yield partial(self._replica.load_all, keys)
        except BaseException as error:
            following.rest()
            if isinstance(error, Exception):  # whatever it is, the store itself has the answer
                return None
            raise  # the caller has left; the next one need not wait at all
        as_of = following.as_of(heartbeat)
        if as_of is None or entry is None or entry.version < at_least:
            return None
        state.counts["replica"] += 1
        return replace(entry, found_in="replica"), as_of, False

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

    def _writing(self, key: str, write: Call) -> Flow[Any]:
        """Make a write: whatever comes of it, the copy is none any more."""
        copies = self._shared.state().copies
        try:
            return (yield write)
        finally:
            if copies is not None:
                copies.forget(key)

    def _send_heartbeats(self, state: ProcessState) -> Flow[None]:
        """Let the heartbeats go the way that the writes of this store go."""
        if state.copies is not None and state.copies.invalidations.store is not None:
            sender = state.copies.invalidations.sender
            pushed = partial(_push_heartbeat, self._primary, sender.listener)
            yield partial(self._send_by, sender, pushed)
        if state.following is not None:
            sender = state.following.sender
            yield partial(
                self._send_by, sender, partial(state.following.heartbeat.write, self._primary)
            )
            sender.need(time.monotonic())

    def _wait(self, answer: Future[Answer], seconds: float) -> Any:
        """Return the answer of another caller; None when it takes longer than that."""
        raise NotImplementedError

    def _send_by(self, sender: HeartbeatSender, heartbeat: Callable[[int], Flow[None]]) -> Any:
        """Have a sender send by this flow."""
        raise NotImplementedError


def _push_heartbeat(store: Any, listener: str, number: int) -> Flow[None]:  # Any: sync or async
    yield partial(store.heartbeat, listener, number)


# --- the sync store -------------------------------------------------------------------------------


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

    def _send_by(self, sender: HeartbeatSender, heartbeat: Callable[[int], Flow[None]]) -> None:
        sender.send = lambda number: run(heartbeat(number), call)


# --- the async store ------------------------------------------------------------------------------


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

    async def _send_by(
        self, sender: HeartbeatSender, heartbeat: Callable[[int], Flow[None]]
    ) -> None:
        on = await self._loops.here()
        if not (isinstance(sender.send, _LoopHeartbeats) and sender.send.on is on):
            sender.send = _LoopHeartbeats(on, heartbeat)


class _OnLoop:
    """An event loop, for as long as it runs: nothing is begun on one that is about to end."""

    def __init__(self) -> None:
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._tasks = Tasks()
        self._is_over = False

    def begin(self, flow: Flow[None], done: Callable[[asyncio.Task[None]], object]) -> None:
        """Run a flow there; any thread may ask for it."""
        loop = self._loop()
        if loop is not None and not self._is_over:
            with suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(self._begin, flow, done)

    def _begin(self, flow: Flow[None], done: Callable[[asyncio.Task[None]], object]) -> None:
        if not self._is_over:
            self._tasks.start(arun(flow, call)).add_done_callback(done)

    async def close(self) -> None:
        """End what is under way, and begin nothing more."""
        self._is_over = True
        await self._tasks.close()

    def hang_up(self) -> None:
        """Do the same at once."""
        self._is_over = True
        self._tasks.hang_up()


class _LoopHeartbeats:
    """Sends heartbeats on an event loop, one at a time."""

    def __init__(self, on: _OnLoop, heartbeat: Callable[[int], Flow[None]]) -> None:
        self.on, self._heartbeat = on, heartbeat
        self._is_sending = False
        self._trouble = ""  # what became of the heartbeat before

    def __call__(self, number: int) -> None:
        """Begin to send; raise when the heartbeat before could not be sent."""
        if not self._is_sending:
            self._is_sending = True
            self.on.begin(self._heartbeat(number), self._sent)
        if self._trouble:
            raise StoreUnavailable(self._trouble)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._is_sending = False
        error = None if sending.cancelled() else sending.exception()
        self._trouble = "" if error is None else str(error) or type(error).__name__


# --- a pair ---------------------------------------------------------------------------------------


def with_copies(
    pair: StorePair,
    near_cache: NearCache | None,
    replica: StorePair | None,
    outdated: float = 0.0,
    clock: Callable[[], float] = time.time,
    timeout: float | None = None,
) -> StorePair:
    """Return the same pair, with copies before it that the sync and the async store share."""
    sync, asynchronous = pair.sync, pair.asynchronous
    pushing = sync if isinstance(sync, Pushing) and sync.pushes else None

    def state() -> ProcessState:
        copies = None if near_cache is None else Copies(near_cache, pushing, clock)
        return ProcessState(copies, None if replica is None else Following())

    shared = Shared(
        PerProcess(state).own,
        max(0.0 if replica is None else LEASE, 0.0 if near_cache is None else near_cache.lease),
        outdated,
        timeout,
        (pair, replica),
    )
    near = sync and NearStore(sync, readable(replica, "sync"), shared)
    anear = asynchronous and AsyncNearStore(asynchronous, readable(replica, "asynchronous"), shared)
    return StorePair(near, anear)
