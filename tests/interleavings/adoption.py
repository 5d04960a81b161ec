"""A world with one old session of another package, which several requests want to take over.

As in `world`, each call of a store is one step, of the old store as of ours, and the orders are
those in which the requests can take their steps. Between two steps anything may happen: a call is
refused, its answer is lost, a request stops for ever, an old server saves its record once more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from sharedsession import StoreUnavailable
from sharedsession._core.cookie import Cookie
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import closing, opening
from sharedsession._core.manager import Manager, Process
from sharedsession._core.record import Record, decode_record
from sharedsession._core.session import Session
from sharedsession._core.settings import gather
from sharedsession._core.source import Foreign, Found, Source
from sharedsession._core.steps import Pause
from sharedsession.stores.memory import MemoryStore

from .world import IDLE, START, Clock

DATA = {"user_id": 7, "cart": [1]}
OLD_LIFETIME = 100_000
VALUE = "the old cookie's value"
LOST, REFUSED, STOPPED = "lost", "refused", "stopped"

Application = Callable[[Session], None]


class OldSessions(Source):
    """The old package: its one record, or the data in its cookie."""

    kind, cookie, path, domain, lifetime = "old", "old", "/", None, OLD_LIFETIME

    def __init__(self, *, has_records: bool) -> None:
        self.has_records = has_records
        self.record: dict[str, Any] | None = dict(DATA)

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        return text

    def read(self, value: str, keys: Sequence[bytes], now: float) -> Found | None:
        if self.record is None:
            return None
        return Found({**self.record, "cart": [*self.record["cart"]]}, START + IDLE)

    def delete(self, value: str) -> None:
        if self.has_records:
            self.record = None

    def values(self) -> Iterator[str]:
        yield VALUE

    def close(self) -> None: ...


class Request:
    """One that comes with the old cookie, or with the one that it was given for it."""

    def __init__(self, world: AdoptionWorld, application: Application, name: str) -> None:
        self.world, self.application, self.name = world, application, name
        self.found: dict[str, Any] | None = None  # what its session held when it was opened
        self.calls = 0
        self.outage = self.is_done = self.is_gone = False
        self.answer: Cookie | None = None
        self.key: str | None = None

    def serve(
        self, cookies: Sequence[Cookie] = (), *, old: bool = True
    ) -> Generator[None, None, None]:
        """Take the steps of the request, one after each ``yield``."""
        world = self.world
        foreign = [Foreign(world.old, VALUE)] if old else []
        exchange = Exchange(world.manager, cookies, foreign=foreign)
        try:
            yield from self._steps(opening(exchange))
            self.found = dict(exchange.found or {})
            exchange.fill(exchange.session)
            self.application(exchange.session)
            yield from self._steps(closing(exchange, late=False))
        except StoreUnavailable:
            self.outage = True
            return
        self.is_done, self.answer = True, exchange.reply
        self.is_gone = exchange.entry is None
        self.key = exchange.key

    def _steps(self, flow: Any) -> Generator[None, None, Any]:
        try:
            step = flow.send(None)
            while True:
                yield
                self.calls += 1
                fate = self.world.fates.get((self.name, self.calls))
                try:
                    answer = None if isinstance(step, Pause) else self._call(step, fate)
                except StoreUnavailable as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as result:
            return result.value

    def _call(self, step: Any, fate: str | None) -> Any:
        if fate == REFUSED:
            raise StoreUnavailable("refused")
        answer = step.on(self.world.store)
        if fate == LOST:
            raise StoreUnavailable("the answer was lost")
        return answer


class AdoptionWorld:
    """One old session, one store of ours, and requests that are stepped by hand."""

    def __init__(
        self, *, has_records: bool = True, fates: dict[tuple[str, int], str] | None = None
    ) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.old = OldSessions(has_records=has_records)
        settings = gather(
            {"secret_key": "secret", "store": "memory://", "max_age": IDLE, "adopt": self.old},
            environ={},
        )
        self.manager = Manager(settings, process=Process(self.clock))
        self.fates = fates or {}

    def at_once(
        self,
        application: Application,
        cookies: Sequence[Cookie] = (),
        name: str = "r",
        *,
        old: bool = True,
    ) -> Request:
        """Serve a request from its first step to its last, with nothing in between."""
        request = Request(self, application, name)
        for _ in request.serve(cookies, old=old):
            pass
        return request

    def live_sessions(self) -> dict[str, dict[str, Any]]:
        """Return the data of the sessions of ours that are there."""
        found = {}
        for key in list(self.store._entries):
            entry = self.store.load(key)
            if entry is not None and b"adopt" not in entry.data[:8]:
                record, data = decode_record(entry.data)
                if isinstance(record, Record):
                    found[key] = data
        return found


def setting(key: str) -> Application:
    """Return an application that sets one key."""

    def application(session: Session) -> None:
        session[key] = 1

    return application


def reading(session: Session) -> None:
    """Read, and change nothing."""
    session.get("user_id")


def signing_out(session: Session) -> None:
    """End the session."""
    session.destroy()


def orders(counts: Sequence[int]) -> Iterator[list[int]]:
    """Yield every order of so many steps of each."""
    if not any(counts):
        yield []
    for number, count in enumerate(counts):
        if count:
            rest = [each - (index == number) for index, each in enumerate(counts)]
            yield from ([number, *order] for order in orders(rest))


def random_orders(requests: int, seed: int, runs: int) -> Iterator[list[int]]:
    """Yield orders drawn at random, longer than any request takes."""
    drawn = random.Random(seed)
    for _ in range(runs):
        yield [drawn.randrange(requests) for _ in range(60)]


def run(requests: Sequence[Request], order: Sequence[int], stop: str = "") -> None:
    """Take the steps in this order, then those that are left.

    ``stop`` names the request that never takes its step after the last that it has in ``order``.
    """
    running = [each.serve() for each in requests]
    for number in order:
        next(running[number], None)
    for request, steps in zip(requests, running, strict=True):
        if request.name != stop:
            for _ in steps:
                pass
