"""What an event loop needs of a store and of a session's verbs: awaited, on asyncio or on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core import runtime
from .._core.drivers import Call
from .._core.steps import Flow
from ..exceptions import SessionError, StoreUnavailable
from ..stores.base import AsyncStore, Store
from .stores import Stores

if TYPE_CHECKING:
    from .._core.exchange import Exchange

# Is told of an outage before the application meets it.
Meets = Callable[[StoreUnavailable], None]


class Calls:
    """How the steps of a flow call the store: awaited, at once, or in a thread.

    ``at_once`` is the store, where its calls never wait.
    """

    def __init__(self, stores: Stores, threads: runtime.OwnThreads) -> None:
        self._threads, self._plain = threads, stores.sync
        awaited = stores.asynchronous
        self._awaited = None if awaited is None else partial(_on, awaited)
        plain = stores.sync if awaited is None else None
        self.at_once = None if plain is None or getattr(plain, "blocking", True) else plain

    def on(self, loop: runtime.Runtime) -> Call:
        """Return what does a step with the store that suits an event loop."""
        plain = self._plain
        if self._awaited is not None and loop is runtime.ASYNCIO:
            return self._awaited
        if plain is None:
            return _on_asyncio_only
        if not getattr(plain, "blocking", True):
            return partial(_inline, plain)
        return partial(_threaded, plain, loop, self._threads)


# Any, below: a step that calls the store, and the answer of its verb.


def _on(store: AsyncStore, step: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = step.on(store)
    return answer


async def _inline(store: Store, step: Any) -> Any:
    return step.on(store)


async def _on_asyncio_only(_step: Any) -> Any:
    raise StoreUnavailable(
        "This store's client works on asyncio only, and the application runs on trio: give the "
        "middleware a URL, or a store built around a client without asyncio."
    )


def _threaded(
    store: Store, loop: runtime.Runtime, threads: runtime.OwnThreads, step: Any
) -> Awaitable[Any]:
    return loop.in_thread(threads, partial(step.on, store))


class Verb:
    """What ``session.commit()`` and ``session.reload()`` return; nothing happens until awaited."""

    def __init__(
        self,
        run: Callable[[Flow[Any]], Awaitable[Any]],
        meets: Meets | None,
        exchange: Exchange,
        name: str,
        flow: Flow[Any],
    ) -> None:
        self._exchange, self._name, self._flow, self._run = exchange, name, flow, run
        self._meets = meets
        self._awaited = False
        exchange.unawaited = (*exchange.unawaited, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        exchange = self._exchange
        if self._awaited:
            raise SessionError(f"The result of one session.{self._name} was awaited twice.")
        self._awaited = True
        waiting = list(exchange.unawaited)
        waiting.remove(self._name)
        exchange.unawaited = tuple(waiting)
        try:
            with exchange.running_verb(self._name):
                return (yield from self._run(self._flow).__await__())
        except StoreUnavailable as outage:
            if self._meets is not None:
                self._meets(outage)
            raise


def refuse_unawaited(exchange: Exchange) -> None:
    """Raise where a verb was called and never awaited: nothing of the request is stored."""
    for name in exchange.unawaited:
        exchange.give_up()
        raise SessionError(
            f"session.{name} was called but not awaited: write 'await session.{name}'."
        )
