"""The five verbs of a store, written once: each is a flow, which a transport runs.

A flow is a generator. It yields what is to be asked, is sent the answer, and returns what the verb
returns; an error is thrown into it. What it yields is the store's own affair, and its transport's:
`_ask`, or `_run` around it, all that a plain and an awaited store write each for itself.

A store has four flows: to create and to replace are both to write, without an entry to compare, or
with one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from ...exceptions import StoreUnavailable
from ..base import TOKEN_BYTES, Entry, Store, fate_of, new_token, with_token

P = ParamSpec("P")
T = TypeVar("T")
Flow = Generator[Any, Any, T]  # Any: what the store asks its server, and the answer
UNKNOWN = "an answer was lost, and after what others wrote since the outcome is unknown"


def run(flow: Flow[T], ask: Callable[[Any], Any]) -> T:
    """Run a flow to its end; ``ask`` does what it yields."""
    try:
        asked = next(flow)
        while True:
            try:
                answer = ask(asked)
            except BaseException as error:  # noqa: BLE001 - the flow's to judge
                asked = flow.throw(error)
            else:
                asked = flow.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


async def arun(flow: Flow[T], ask: Callable[[Any], Awaitable[Any]]) -> T:
    """Do the same where ``ask`` is awaited."""
    try:
        asked = next(flow)
        while True:
            try:
                answer = await ask(asked)
            except BaseException as error:  # noqa: BLE001 - the flow's to judge
                asked = flow.throw(error)
            else:
                asked = flow.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def call(asked: Callable[[], T]) -> T:
    """Do what a flow yields that yields calls, or begin what is to be awaited."""
    return asked()


class Flows:
    """The verbs as flows; what they mean says `base.Store`."""

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        raise NotImplementedError

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        """Store data in the place of an entry; without one the key must be free."""
        raise NotImplementedError

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        raise NotImplementedError

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        raise NotImplementedError

    def _create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Flow[Entry | None]:
        return self._write(key, None, data, ttl, owner, 0)

    def _replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Flow[Entry | None]:
        return self._write(key, entry, data, ttl, owner, at_least)

    def _new_token(self) -> bytes:
        return new_token()

    def _after(
        self, old: Entry | None, data: bytes, at_least: int, expires: float | None = None
    ) -> Entry:
        """Return the entry that a write is to leave under its key."""
        tokens = with_token(self._new_token(), b"" if old is None else old.token)
        return Entry(data, max(0 if old is None else old.version, at_least) + 1, expires, tokens)


def outcome(
    written: Entry, kept: bytes, old: Entry | None, place: str, *, repeated: bool
) -> Entry | None:
    """Return what was written, where the tokens ``kept`` show that it was; None if it was not.

    For a write that was refused, to take the place of ``old``; see `fate_of`.
    """
    compared = b"" if old is None else old.token
    fate = fate_of(kept, written.token[:TOKEN_BYTES], compared, repeated=repeated)
    if fate == "unknown":
        raise outage(place, UNKNOWN)
    return dataclasses.replace(written, repeated=True) if fate == "written" else None


def outage(place: str, reason: str) -> StoreUnavailable:
    """Return the outage of a store, which is named by its place."""
    return StoreUnavailable(f"The session store ({place}) failed: {reason}")


def plain(verb: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[PlainVerbs, P], T]:
    """Return a verb of the contract that runs the flow of that name."""
    name = f"_{verb.__name__}"

    @wraps(verb)
    def run_flow(self: PlainVerbs, /, *arguments: P.args, **named: P.kwargs) -> T:
        flow: Flow[T] = getattr(self, name)(*arguments, **named)
        return self._run(flow)

    return run_flow


class PlainVerbs(Flows):
    """A `base.Store` by its flows."""

    def _ask(self, asked: Any) -> Any:  # Any: see `Flow`
        raise NotImplementedError

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._ask)

    load = plain(Store.load)
    create = plain(Store.create)
    replace = plain(Store.replace)
    touch = plain(Store.touch)
    delete = plain(Store.delete)


def awaited(
    verb: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[AwaitedVerbs, P], Coroutine[Any, Any, T]]:
    """Return the same, awaited."""
    name = f"_{verb.__name__}"

    @wraps(verb)
    async def run_flow(self: AwaitedVerbs, /, *arguments: P.args, **named: P.kwargs) -> T:
        flow: Flow[T] = getattr(self, name)(*arguments, **named)
        return await self._run(flow)

    return run_flow


class AwaitedVerbs(Flows):
    """A `base.AsyncStore` by its flows."""

    async def _ask(self, asked: Any) -> Any:  # Any: see `Flow`
        raise NotImplementedError

    async def _run(self, flow: Flow[T]) -> T:
        return await arun(flow, self._ask)

    load = awaited(Store.load)
    create = awaited(Store.create)
    replace = awaited(Store.replace)
    touch = awaited(Store.touch)
    delete = awaited(Store.delete)
