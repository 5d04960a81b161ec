"""The five verbs of a store, written once: each is a flow, which a transport runs.

A flow is a generator. It yields what is to be asked, is sent the answer, and returns what the verb
returns; an error is thrown into it. What it yields is the store's own affair, and its transport's:
`_ask`, or `_run` around it, all that a plain and an awaited store write each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from ..base import Entry

T = TypeVar("T")
Flow = Generator[Any, Any, T]  # Any: what the store asks its server, and the answer


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


class Flows:
    """The verbs as flows; what they mean says `base.Store`."""

    def _load(self, key: str, at_least: int) -> Flow[Entry | None]:
        raise NotImplementedError

    def _create(self, key: str, data: bytes, ttl: int, owner: str | None) -> Flow[Entry | None]:
        raise NotImplementedError

    def _replace(
        self, key: str, entry: Entry, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        raise NotImplementedError

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        raise NotImplementedError

    def _delete(self, key: str, entry: Entry | None) -> Flow[bool]:
        raise NotImplementedError


class PlainVerbs(Flows):
    """A `base.Store` by its flows."""

    def _ask(self, asked: Any) -> Any:  # Any: see `Flow`
        raise NotImplementedError

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._ask)

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._run(self._load(key, at_least))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        return self._run(self._create(key, data, ttl, owner))

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return self._run(self._replace(key, entry, data, ttl, owner, at_least))

    def touch(self, key: str, ttl: int) -> bool:
        return self._run(self._touch(key, ttl))

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        return self._run(self._delete(key, entry))


class AwaitedVerbs(Flows):
    """A `base.AsyncStore` by its flows."""

    async def _ask(self, asked: Any) -> Any:  # Any: see `Flow`
        raise NotImplementedError

    async def _run(self, flow: Flow[T]) -> T:
        try:
            asked = next(flow)
            while True:
                try:
                    answer = await self._ask(asked)
                except BaseException as error:  # noqa: BLE001 - the flow's to judge
                    asked = flow.throw(error)
                else:
                    asked = flow.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        return await self._run(self._load(key, at_least))

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        return await self._run(self._create(key, data, ttl, owner))

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return await self._run(self._replace(key, entry, data, ttl, owner, at_least))

    async def touch(self, key: str, ttl: int) -> bool:
        return await self._run(self._touch(key, ttl))

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        return await self._run(self._delete(key, entry))
