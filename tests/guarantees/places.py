"""Where sessions are kept, watched: which calls were made, and what happens at one of them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sharedsession import StoreUnavailable
from sharedsession._core.record import Tombstone, decode_record
from sharedsession.exceptions import StoreFull
from sharedsession.stores.base import AsyncStore, Store
from sharedsession.testing.stores import Clock
from tests.guarantees.driver import LIMIT, Gate

WRITES = ("create", "replace", "touch", "delete")


class Call(NamedTuple):
    verb: str
    key: str


@dataclasses.dataclass
class OnItsWay:
    """A write that the store was given, but has not made when its caller gives it up.

    It arrives just before the ``landing``-th call from then on, or when the test says so.
    """

    landing: int
    write: Callable[[], object] | None = None

    def pass_by(self) -> None:
        """Another call is made."""
        if self.write is not None:
            self.landing -= 1
            if self.landing == 0:
                self.land()

    def land(self) -> None:
        write, self.write = self.write, None
        if write is not None:
            write()


@dataclasses.dataclass
class Rule:
    """What happens at the next calls of some verbs."""

    verbs: tuple[str, ...]
    times: int
    gate: Gate | None = None  # wait there first
    fails: bool = False
    after: bool = False  # it fails, or waits, when the store has done its work
    late: OnItsWay | None = None  # it fails, and its work is done later


class Watch:
    """What the stores of all servers of one place share."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.keys: set[str] = set()
        self.rules: list[Rule] = []
        self.late: list[OnItsWay] = []
        self.full = False

    def note(self, own: Store, verb: str, key: str, *arguments: Any) -> Rule | None:
        """Note a call; say what is to happen at it. ``own`` makes the writes that arrive late."""
        self.calls.append(Call(verb, key))
        for each in self.late:
            each.pass_by()
        if self.full and verb in ("create", "replace"):
            raise StoreFull("The store has no room: of the tests' own.")
        if verb == "create":
            self.keys.add(key)
        for rule in self.rules:
            if verb in rule.verbs and rule.times > 0:
                rule.times -= 1
                if rule.late is not None:
                    rule.late.write = partial(getattr(own, verb), key, *arguments)
                    raise StoreUnavailable("a write that is on its way")
                return rule
        return None


class WatchedStore:
    def __init__(self, store: Store, watch: Watch, own: Store) -> None:
        self._store, self._watch, self._own = store, watch, own
        self.blocking = store.blocking

    def _call(self, verb: str, key: str, *arguments: Any) -> Any:
        rule = self._watch.note(self._own, verb, key, *arguments)
        work: Callable[..., Any] = getattr(self._store, verb)
        answer = work(key, *arguments) if rule is None or rule.after else None
        if rule is None:
            return answer
        if rule.gate is not None:
            rule.gate.arrive().result(LIMIT)
        if rule.fails:
            raise StoreUnavailable("a failure of the tests' own")
        return answer if rule.after else work(key, *arguments)

    def load(self, key: str, *arguments: Any) -> Any:
        return self._call("load", key, *arguments)

    def create(self, key: str, *arguments: Any) -> Any:
        return self._call("create", key, *arguments)

    def replace(self, key: str, *arguments: Any) -> Any:
        return self._call("replace", key, *arguments)

    def touch(self, key: str, *arguments: Any) -> Any:
        return self._call("touch", key, *arguments)

    def delete(self, key: str, *arguments: Any) -> Any:
        return self._call("delete", key, *arguments)


class WatchedAsyncStore:
    def __init__(self, store: AsyncStore, watch: Watch, own: Store) -> None:
        self._store, self._watch, self._own = store, watch, own

    async def _call(self, verb: str, key: str, *arguments: Any) -> Any:
        rule = self._watch.note(self._own, verb, key, *arguments)
        work: Callable[..., Any] = getattr(self._store, verb)
        answer = await work(key, *arguments) if rule is None or rule.after else None
        if rule is None:
            return answer
        if rule.gate is not None:
            await asyncio.wrap_future(rule.gate.arrive())
        if rule.fails:
            raise StoreUnavailable("a failure of the tests' own")
        return answer if rule.after else await work(key, *arguments)

    async def load(self, key: str, *arguments: Any) -> Any:
        return await self._call("load", key, *arguments)

    async def create(self, key: str, *arguments: Any) -> Any:
        return await self._call("create", key, *arguments)

    async def replace(self, key: str, *arguments: Any) -> Any:
        return await self._call("replace", key, *arguments)

    async def touch(self, key: str, *arguments: Any) -> Any:
        return await self._call("touch", key, *arguments)

    async def delete(self, key: str, *arguments: Any) -> Any:
        return await self._call("delete", key, *arguments)


class Place:
    """One store as all servers see it, with a clock that the test moves.

    ``make(asynchronous)`` gives each server a store object of its own.
    """

    def __init__(
        self,
        make: Callable[[bool], Store | AsyncStore],
        clock: Clock,
        let_pass: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._make, self.clock, self._let_pass = make, clock, let_pass
        self._watch = Watch()
        self._own: Any = make(False)

    def open(self, *, asynchronous: bool) -> Any:
        store: Any = self._make(asynchronous)
        if inspect.iscoroutinefunction(store.load):
            return WatchedAsyncStore(store, self._watch, self._own)
        return WatchedStore(store, self._watch, self._own)

    def advance(self, seconds: float) -> None:
        """Let time pass, for servers and store alike."""
        self.clock.advance(seconds)
        self._let_pass(seconds)

    # What was asked of the store.

    def forget(self) -> None:
        self._watch.calls.clear()

    @property
    def verbs(self) -> list[str]:
        return [call.verb for call in self._watch.calls]

    @property
    def writes(self) -> list[str]:
        return [verb for verb in self.verbs if verb in WRITES]

    @property
    def stored(self) -> list[dict[Any, Any]]:
        """The data of every session that is alive, end marks left out."""
        living = []
        for key in self._watch.keys:
            entry = self._own.load(key)
            if entry is not None:
                assert not asyncio.iscoroutine(entry)
                record, data = decode_record(entry.data)
                if not isinstance(record, Tombstone):
                    living.append(data)
        return living

    # What is to happen at its next calls.

    def hold(self, *verbs: str, after: bool = False) -> Gate:
        """Let the next such call wait at a gate, before its work or after it."""
        gate = Gate()
        self._watch.rules.append(Rule(verbs, 1, gate=gate, after=after))
        return gate

    def fail(self, *verbs: str, times: int = 1, after: bool = False) -> None:
        """Let the next such calls fail, before their work or after it."""
        self._watch.rules.append(Rule(verbs, times, fails=True, after=after))

    def delay(self, *verbs: str, landing: int = 0) -> OnItsWay:
        """Let the next such call fail, and its work be done before the ``landing``-th call after.

        Zero: not before the test says so.
        """
        late = OnItsWay(landing)
        self._watch.late.append(late)
        self._watch.rules.append(Rule(verbs, 1, late=late))
        return late

    def fill(self) -> None:
        """Let the store be full from now on: it has no room for what is written."""
        self._watch.full = True

    def recover(self) -> None:
        self._watch.rules.clear()
        self._watch.full = False
