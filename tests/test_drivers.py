"""The two drivers run the same flows: one with a plain store, one with a store that is awaited."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sharedsession import SessionGone, StoreUnavailable
from sharedsession._core.cookie import Cookie
from sharedsession._core.drivers import adrive, drive
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import closing, committing, opening
from sharedsession._core.manager import Manager
from sharedsession._core.runtime import ASYNCIO
from sharedsession._core.session import Session
from sharedsession._core.settings import gather
from sharedsession.stores import open_store
from sharedsession.stores.base import Store
from sharedsession.stores.memory import MemoryStore


def manager(**settings: Any) -> Manager:
    return Manager(gather({"secret_key": "secret", "store": "memory://", **settings}, environ={}))


def begun(store: Store, manager: Manager, cookie: Cookie | None = None) -> Exchange:
    """Open a session with the plain driver, as an adapter that blocks would."""
    exchange = Exchange(manager, [] if cookie is None else [cookie])
    drive(opening(exchange), store, manager)
    exchange.fill(exchange.session)
    return exchange


def stored(store: Store, manager: Manager, **data: Any) -> Cookie:
    exchange = begun(store, manager)
    exchange.session.update(data)
    drive(closing(exchange, late=False), store, manager)
    assert exchange.reply is not None
    return exchange.reply


@pytest.mark.parametrize("url", ["memory://drivers", "sqlite:///{folder}/sessions.db"])
def test_increments_of_many_threads_add_up(url: str, tmp_path: Path) -> None:
    """Eight threads that increment one counter through the plain driver lose none."""
    pair = open_store(url.format(folder=tmp_path))
    store, shared = pair.sync, manager(store_timeout=30)
    cookie = stored(store, shared, n=0)

    def increment(session: Session) -> None:
        session["n"] += 1

    def work() -> None:
        for _ in range(25):
            exchange = begun(store, shared, cookie)
            exchange.session.mutate(increment)
            drive(closing(exchange, late=False), store, shared)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun(store, shared, cookie).session["n"] == 200


def test_commit_returns_what_counted() -> None:
    """A one-time token goes to one of two requests that both saw it."""
    store, shared = MemoryStore(), manager()
    cookie = stored(store, shared, token="once", other=1)
    first, second = begun(store, shared, cookie), begun(store, shared, cookie)

    def take(session: Session) -> Any:
        return session.pop("token", None)

    assert drive(committing(first, take), store, shared) == "once"
    assert drive(committing(second, take), store, shared) is None
    assert second.session == {"other": 1}


def test_commit_of_an_ended_session_says_so() -> None:
    """`commit` raises SessionGone when somebody else has signed out meanwhile."""
    store, shared = MemoryStore(), manager()
    cookie = stored(store, shared, a=1)
    mine, other = begun(store, shared, cookie), begun(store, shared, cookie)
    other.session.destroy()
    drive(closing(other, late=False), store, shared)
    mine.session["a"] = 2
    with pytest.raises(SessionGone):
        drive(committing(mine, None), store, shared)


class Failing(MemoryStore):
    """A store of somebody else's that raises what it likes."""

    def load(self, key: str, at_least: int = 0) -> Any:
        raise RuntimeError("not my day")


def test_a_store_that_raises_is_an_outage() -> None:
    """Whatever a store raises is an outage, with its own error as the cause, in both colours."""
    shared = manager()
    cookie = Cookie("x" * 43, 1, 0)
    with pytest.raises(StoreUnavailable) as plain:
        drive(opening(Exchange(shared, [cookie])), Failing(), shared)
    assert isinstance(plain.value.__cause__, RuntimeError)
    assert shared.counts["outage"] == 1
    assert shared.timeout() == shared.settings.store_timeout  # it failed at once: nobody waits

    async def call(step: Any) -> Any:
        return step.on(Failing())

    async def awaited() -> None:
        flow = opening(Exchange(shared, [cookie]))
        await adrive(flow, flow.send(None), call, ASYNCIO, shared)

    with pytest.raises(StoreUnavailable):
        asyncio.run(awaited())


class NeverFree(MemoryStore):
    """A broken store to which every key is taken."""

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> None:
        return None


def test_the_plain_driver_keeps_its_deadline() -> None:
    """A flow that goes on and on ends at the deadline, checked between the store's calls."""
    shared = manager(store_timeout=0.05)
    exchange = begun(MemoryStore(), shared)
    exchange.session["a"] = 1
    with pytest.raises(StoreUnavailable, match=r"0\.05 s"):
        drive(closing(exchange, late=False), NeverFree(), shared)
