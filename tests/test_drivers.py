"""The two drivers run the same flows: one with a plain store, one with a store that is awaited."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sharedsession import SessionGone, StoreUnavailable
from sharedsession.cookie import Cookie
from sharedsession.flows import Manager, Visit, adrive, closing, committing, drive, opening
from sharedsession.session import Session
from sharedsession.settings import gather
from sharedsession.stores import open_store
from sharedsession.stores.base import Store
from sharedsession.stores.memory import MemoryStore


def manager(**settings: Any) -> Manager:
    return Manager(gather({"secret_key": "secret", "store": "memory://", **settings}, environ={}))


def visit(store: Store, manager: Manager, cookie: Cookie | None = None) -> tuple[Visit, Session]:
    """Open a session with the plain driver, as an adapter that blocks would."""
    opened = Visit(manager, [] if cookie is None else [cookie])
    drive(opening(opened), store, manager)
    session = Session()
    opened.fill(session)
    return opened, session


def stored(store: Store, manager: Manager, **data: Any) -> Cookie:
    opened, session = visit(store, manager)
    session.update(data)
    drive(closing(opened, session), store, manager)
    assert opened.answer is not None
    return opened.answer


@pytest.mark.parametrize("url", ["memory://drivers", "sqlite:///{folder}/sessions.db"])
def test_increments_of_many_threads_add_up(url: str, tmp_path: Path) -> None:
    """Eight threads that increment one counter through the plain driver lose none."""
    pair = open_store(url.format(folder=tmp_path))
    store, shared = pair.sync, manager(timeout=30)
    cookie = stored(store, shared, n=0)

    def increment(session: Session) -> None:
        session["n"] += 1

    def work() -> None:
        for _ in range(25):
            opened, session = visit(store, shared, cookie)
            session.mutate(increment)
            drive(closing(opened, session), store, shared)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visit(store, shared, cookie)[1]["n"] == 200


def test_commit_returns_what_counted() -> None:
    """A one-time token goes to one of two requests that both saw it."""
    store, shared = MemoryStore(), manager()
    cookie = stored(store, shared, token="once", other=1)
    first, second = visit(store, shared, cookie), visit(store, shared, cookie)

    def take(session: Session) -> Any:
        return session.pop("token", None)

    assert drive(committing(*first, take), store, shared) == "once"
    assert drive(committing(*second, take), store, shared) is None
    assert second[1] == {"other": 1}


def test_commit_of_an_ended_session_says_so() -> None:
    """`commit` raises SessionGone when somebody else has signed out meanwhile."""
    store, shared = MemoryStore(), manager()
    cookie = stored(store, shared, a=1)
    mine, other = visit(store, shared, cookie), visit(store, shared, cookie)
    other[1].destroy()
    drive(closing(*other), store, shared)
    mine[1]["a"] = 2
    with pytest.raises(SessionGone):
        drive(committing(*mine, None), store, shared)


class Failing(MemoryStore):
    """A store of somebody else's that raises what it likes."""

    def load(self, key: str, at_least: int = 0) -> Any:
        raise RuntimeError("not my day")


def test_a_store_that_raises_is_an_outage() -> None:
    """Whatever a store raises is an outage, with its own error as the cause, in both colours."""
    shared = manager()
    cookie = Cookie("x" * 43, 1, 0)
    with pytest.raises(StoreUnavailable) as plain:
        drive(opening(Visit(shared, [cookie])), Failing(), shared)
    assert isinstance(plain.value.__cause__, RuntimeError)
    assert shared.counts["outage"] == 1
    assert shared.patience() == shared.settings.timeout  # it failed at once: nobody waits

    async def call(verb: str, *arguments: Any) -> Any:
        return getattr(Failing(), verb)(*arguments)

    async def awaited() -> None:
        await adrive(opening(Visit(shared, [cookie])), call, asyncio.sleep, shared)

    with pytest.raises(StoreUnavailable):
        asyncio.run(awaited())


class NeverFree(MemoryStore):
    """A broken store to which every key is taken."""

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> None:
        return None


def test_the_plain_driver_keeps_its_deadline() -> None:
    """A flow that goes on and on ends at the deadline, checked between the store's calls."""
    shared = manager(timeout=0.05)
    opened, session = visit(MemoryStore(), shared)
    session["a"] = 1
    with pytest.raises(StoreUnavailable, match=r"0\.05 s"):
        drive(closing(opened, session), NeverFree(), shared)
