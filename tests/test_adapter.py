"""What adapters of plain frameworks rest on: deadlines, threads, and nothing for nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from sharedsession import (
    LateChange,
    Session,
    SessionError,
    SessionGone,
    StoreUnavailable,
)
from sharedsession._core.backoff import SHORT
from sharedsession._core.manager import Manager
from sharedsession._core.runtime import THREADS, threads_run
from sharedsession._core.session import exchange_of
from sharedsession._core.settings import gather
from sharedsession._doors import stores
from sharedsession.adapter import AsyncSessions, Sessions, met_outage
from sharedsession.asgi import Receive, Scope, Send, SessionMiddleware
from sharedsession.stores._support.deadline import bounded
from sharedsession.stores.base import Entry, StorePair
from sharedsession.stores.memory import MemoryStore

TIMEOUT = 0.4


class Slow(MemoryStore):
    """A store that may wait, and tells in which threads it was called."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.loads = 0
        self.threads: set[str] = set()

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        self.threads.add(threading.current_thread().name)
        self.loads += 1
        assert self.open.wait(10)
        return super().load(key, at_least)


def sessions(store: Any, **settings: Any) -> Sessions:
    return Sessions(
        gather({"secret_key": "s" * 20, "store": store, "store_timeout": TIMEOUT} | settings)
    )


def stored(shared: Sessions) -> str:
    """Return the Cookie header of a client with a session."""
    session = shared.open(None)
    session["a"] = 1
    headers = dict(shared.commit(session, [], https=False))
    return headers["Set-Cookie"].partition(";")[0]


def timed(session: Session) -> float:
    """Load, in vain; return the seconds that it took."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        session.get("a")
    return time.monotonic() - begun


def test_a_store_that_never_answers_is_left_at_the_deadline() -> None:
    """A store that was handed over is called in threads of ours; the next attempts are short."""
    store = Slow()
    shared = sessions(store)
    cookie = stored(shared)
    store.open.clear()
    try:
        assert TIMEOUT <= timed(shared.open(cookie)) < TIMEOUT + 2
        assert SHORT <= timed(shared.open(cookie)) < TIMEOUT
    finally:
        store.open.set()
    assert shared.open(cookie) == {"a": 1}
    assert all(name.startswith("sharedsession") for name in store.threads)


def test_a_store_made_from_a_url_is_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends its calls by itself; only while it is known to be down a thread is needed."""
    store = Slow()
    shared = sessions(store)
    shared.stores.owned = True  # as if it were made from a URL
    cookie = stored(shared)
    assert shared.open(cookie) == {"a": 1}
    assert store.threads == {threading.current_thread().name}
    shared.manager.process.backoff.is_down = True
    shared.manager.timeout()  # one attempt may take its full time
    store.threads.clear()
    assert shared.open(cookie) == {"a": 1}
    assert threading.current_thread().name not in store.threads
    assert not shared.manager.process.backoff.is_down


def test_requests_that_ask_nothing_do_not_use_up_the_long_attempt() -> None:
    """While the store is down, a flow that never calls it leaves the backoff as it is."""
    shared = sessions(Slow())
    shared.manager.process.backoff.is_down = True
    for _ in range(3):
        session = shared.open(None)
        assert session.get("a") is None
        assert shared.commit(session, [], https=False) == [("Vary", "Cookie")]
        shared.finish(session)
    assert shared.manager.timeout() == TIMEOUT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix has processes that fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_thread_of_before_a_fork_is_waited_for() -> None:
    """A child has none of its parent's threads, so it makes its own."""
    store = Slow()
    shared = sessions(store)
    cookie = stored(shared)
    assert shared.open(cookie) == {"a": 1}
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if shared.open(cookie) == {"a": 1} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix has processes that fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_thread_of_before_a_fork_is_waited_for_under_asgi() -> None:
    """An application that was warmed up before its workers were forked: no 503 in the child."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(str(dict(scope["session"])))(scope, receive, send)

    store = Slow()
    cookie = stored(sessions(store))
    middleware = SessionMiddleware(app, "s" * 20, store=store, store_timeout=TIMEOUT)
    client = TestClient(middleware, headers={"Cookie": cookie})
    assert client.get("/").text == "{'a': 1}"
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if client.get("/").text == "{'a': 1}" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_failed_load_is_remembered() -> None:
    """One request asks once, however often it looks."""
    store = Slow()
    shared = sessions(store)
    cookie = stored(shared)
    store.open.clear()
    try:
        session = shared.open(cookie)
        timed(session)
        assert timed(session) < SHORT
    finally:
        store.open.set()
    with pytest.raises(StoreUnavailable):
        session.get("a")
    assert shared.commit(session, [], https=False) == []


def test_the_verbs_one_after_the_other() -> None:
    """commit() and reload() are plain calls, refuse each other's inside, and tell who is gone."""
    shared = sessions(MemoryStore())
    cookie = stored(shared)
    mine, other = shared.open(cookie), shared.open(cookie)
    mine["b"] = 2
    assert mine.commit(lambda session: session["b"]) == 2
    with pytest.raises(TypeError, match="cannot be called inside"):
        mine.commit(lambda session: session.commit())
    other.destroy()
    shared.commit(other, [], https=False)
    mine["c"] = 3
    with pytest.raises(SessionGone):
        mine.commit()
    with pytest.raises(SessionGone):
        mine.reload()


def test_two_verbs_at_once_are_refused() -> None:
    """Two threads of one request that both commit: the second is told so."""
    store = Slow()
    shared = sessions(store)
    session = shared.open(stored(shared))
    session["b"] = 2
    store.open.clear()
    thread = threading.Thread(target=session.reload)
    thread.start()
    try:
        while not store.threads or not exchange_of(session).busy:
            time.sleep(0.001)
        with pytest.raises(SessionError, match="one after the other"):
            session.commit()
    finally:
        store.open.set()
        thread.join()


def test_what_has_failed_is_not_tried_again_at_the_end() -> None:
    """After a commit that failed, `finish` stores nothing: the client was told so."""
    store = Slow()
    shared = sessions(store)
    cookie = stored(shared)
    session = shared.open(cookie)
    session["a"] = 2
    store.open.clear()
    store.replace = lambda *arguments: store.load("wait")  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        shared.commit(session, [], https=False)
    store.open.set()
    del store.replace
    shared.finish(session)
    assert shared.open(cookie) == {"a": 1}


def test_without_a_commit_nothing_is_stored_at_the_end() -> None:
    """The application has failed: its request is over, and what it did is dropped."""
    shared = sessions(MemoryStore())
    cookie = stored(shared)
    session = shared.open(cookie)
    session["a"] = 2
    shared.finish(session)
    with pytest.raises(LateChange, match="before its request is over"):
        session["a"] = 3
    assert shared.open(cookie)["a"] == 1


@pytest.mark.parametrize(("status", "leaves"), [(200, False), (302, False), (404, True)])
def test_the_status_decides_what_may_leave_in_doubt(status: int, leaves: bool) -> None:
    """An answer that says no may leave, without a cookie; one that confirms raises the outage."""
    store = Failing()
    shared = sessions(store)
    session = shared.open(stored(shared))
    session["a"] = 2
    store.fails = True
    with pytest.raises(StoreUnavailable):
        session.commit()
    store.fails = False
    if leaves:
        headers = shared.commit(session, [], https=False, status=status)
        assert headers == [("Vary", "Cookie")]
    else:
        with pytest.raises(StoreUnavailable):
            shared.commit(session, [], https=False, status=status)
    shared.finish(session)
    with pytest.raises(LateChange):
        session["a"] = 3


class Failing(MemoryStore):
    """A store whose writes can fail."""

    fails = False

    def replace(self, *arguments: Any) -> Entry | None:
        if self.fails:
            raise StoreUnavailable("a failure of the tests' own")
        return super().replace(*arguments)


def test_a_call_that_is_not_wanted_any_more_is_not_made() -> None:
    """Behind calls that hang, one that nobody waits for is taken back."""
    store = Slow()
    shared = sessions(store)
    cookie = stored(shared)
    shared.manager.process.backoff.is_down = True
    store.open.clear()
    before = store.loads
    try:
        threads = [
            threading.Thread(target=timed, args=[shared.open(cookie)]) for _ in range(THREADS + 8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        store.open.set()
    shared.manager.process.threads.shutdown()
    assert store.loads - before == THREADS


def test_where_threads_do_not_run_nothing_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under uWSGI without --enable-threads calls are made directly, as well as they can be."""
    for options, run in (({}, False), ({"threads": b"4"}, True), ({"enable-threads": True}, True)):
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))  # type: ignore[arg-type]
        assert threads_run() is run
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt={}))  # type: ignore[arg-type]
    store = Slow()
    shared = sessions(store)
    assert shared.open(stored(shared)) == {"a": 1}
    assert store.threads == {threading.current_thread().name}
    assert bounded(0.001, lambda: threading.current_thread().name, print) in store.threads


def test_a_replica_beside_a_store_object_has_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica named by URL may hang for a part of the timeout only, whatever the store is."""

    class Replica(MemoryStore):
        def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
            return [self.load(key) for key in keys]

    given: list[float] = []

    def open_store(url: str, timeout: float) -> StorePair:
        given.append(timeout)
        return StorePair(Replica(), None)

    monkeypatch.setattr(stores, "open_store", open_store)
    arguments = {"secret_key": "secret", "store": MemoryStore(), "store_timeout": 2.0}
    stores.Stores(gather({**arguments, "replica": "redis://replica"}, environ={}))
    assert given == [0.5]


# --- what is awaited ------------------------------------------------------------------------------


def on_each_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on asyncio and on trio."""
    asyncio.run(main())
    trio.run(main)


def awaited(store: Any, **settings: Any) -> AsyncSessions:
    own = {"secret_key": "s" * 20, "store": store, "store_timeout": TIMEOUT}
    return AsyncSessions(gather(own | settings))


def test_the_awaited_twin_makes_the_same_calls() -> None:
    """open, commit and finish, on asyncio and on trio: what one stored the other finds, loaded."""

    async def main() -> None:
        session = await shared.open(None)
        session["a"] = 1
        headers = dict(await shared.commit(session, [("X-Own", "1")], https=True))
        await shared.finish(session)
        assert headers["X-Own"] == "1"
        assert headers["Vary"] == "Cookie"
        assert "; Secure" in headers["Set-Cookie"].title()
        cookie = headers["Set-Cookie"].partition(";")[0]
        again = await shared.open(f"other=1; {cookie}")
        assert again == {"a": 1}
        assert plain.open(cookie) == {"a": 1}
        with pytest.raises(LateChange):
            session["b"] = 2

    store = MemoryStore()
    shared, plain = awaited(store), sessions(store)
    on_each_loop(main)
    assert shared.counts["created"] == shared.live_counts()["created"] == 2


def test_the_verbs_of_an_awaited_session_are_awaited() -> None:
    """commit(), with its function, and reload(); one that is not awaited is an error."""

    async def main() -> None:
        session = await shared.open(None)
        session["a"] = 1
        assert await session.commit(lambda held: held["a"]) == 1
        session["a"] = 2
        await session.reload()
        assert session == {"a": 1}
        session.reload()
        with pytest.raises(SessionError, match=r"await session\.reload"):
            await shared.commit(session, [], https=False)
        await shared.finish(session)

    shared = awaited(MemoryStore())
    on_each_loop(main)


def test_a_verb_that_was_not_awaited_after_the_response_is_an_error() -> None:
    """It is told at the end of the request, which is over all the same."""

    async def main() -> None:
        session = await shared.open(None)
        session["a"] = 1
        await shared.commit(session, [], https=False)
        session.commit()
        with pytest.raises(SessionError, match=r"await session\.commit"):
            await shared.finish(session)
        with pytest.raises(LateChange):
            session["b"] = 1

    shared = awaited(MemoryStore())
    asyncio.run(main())


def test_a_plain_store_is_called_in_threads_when_sessions_are_awaited() -> None:
    """It never blocks the loop; one that does not answer is left at the deadline."""

    async def main() -> None:
        session = await shared.open(cookie)
        assert session == {"a": 1}
        assert threading.current_thread().name not in store.threads
        store.open.clear()
        try:
            unused, used = await shared.open(cookie), await shared.open(cookie)
        finally:
            store.open.set()
        assert await shared.commit(unused, [], https=False) == []
        with pytest.raises(StoreUnavailable):
            used.get("a")
        assert met_outage(used)
        with pytest.raises(StoreUnavailable):
            await shared.commit(used, [], https=False, status=500)

    store = Slow()
    cookie = stored(sessions(store))
    shared = awaited(store)
    asyncio.run(main())


def test_an_awaited_request_that_failed_stores_nothing() -> None:
    """Only finish is called then, and no verb that is left over matters."""

    async def main() -> None:
        session = await shared.open(None)
        session["a"] = 1
        session.commit()
        await shared.finish(session)

    shared = awaited(MemoryStore())
    asyncio.run(main())
    assert not shared.counts


def test_an_adapter_gives_a_request_settings_and_values_of_its_own() -> None:
    """As to the plain sessions: a manager for this request, and what stands for other values."""

    class Own:
        pass

    async def main() -> None:
        session = await shared.open(None, lambda: other, convert=lambda value: "own")
        session["a"] = Own()
        headers = dict(await shared.commit(session, [], https=False))
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert cookie.startswith("other=")
        assert await shared.open(cookie, lambda: other) == {"a": "own"}
        assert await shared.open(cookie) == {}

    store = MemoryStore()
    shared = awaited(store)
    settings = {"secret_key": "s" * 20, "store": store, "session_cookie": "other"}
    other = Manager(gather(settings), process=shared.manager.process)
    asyncio.run(main())


def test_on_outage_is_asked_by_awaited_sessions() -> None:
    """With the request that the adapter gave: it goes on with an empty session."""
    asked = []

    def on_outage(request: Any, error: Exception) -> str:
        asked.append(request["path"])
        return "readonly-empty"

    async def main() -> None:
        session = await shared.open(cookie, request={"path": "/a"})
        assert session == {}
        assert await shared.commit(session, [], https=False) == [
            ("Vary", "Cookie"),
            ("Cache-Control", "no-store"),
        ]

    store = Slow()
    cookie = stored(sessions(store))
    shared = awaited(store, on_outage=on_outage, store_timeout=0.1)
    store.open.clear()
    try:
        asyncio.run(main())
    finally:
        store.open.set()
    assert asked == ["/a"]


def test_an_awaited_store_is_told_to_plain_sessions_only() -> None:
    """Plain sessions name the awaited ones; those take it, and any setting by its name."""

    class Awaited(MemoryStore):
        async def load(self, key: str, at_least: int = 0) -> Entry | None:  # type: ignore[override]
            return super().load(key, at_least)

    with pytest.raises(TypeError, match="AsyncSessions"):
        sessions(Awaited())
    AsyncSessions(secret_key="s" * 20, store=Awaited())
    with pytest.raises(TypeError, match="AsyncSessions takes"):
        AsyncSessions(gather({"secret_key": "s", "store": "memory://"}), store="memory://")
    with pytest.raises(TypeError, match="https_only"):
        AsyncSessions(secret_key="s" * 20, store="memory://", secure=True)


# --- the end of the process -----------------------------------------------------------------------

HUNG = """
import asyncio, atexit, sys, threading
from sharedsession import StoreUnavailable
from sharedsession.adapter import Sessions
from sharedsession.asgi import SessionMiddleware
from sharedsession.stores.memory import MemoryStore
from starlette.responses import PlainTextResponse

ends = threading.Event()

class Hangs(MemoryStore):
    blocking = True

    def create(self, *arguments):
        ends.wait()
        print("the write was done", flush=True)

settings = {"secret_key": "s" * 20, "store": Hangs(), "store_timeout": 0.05}

def plain():
    sessions = Sessions(**settings)
    session = sessions.open(None)
    session["a"] = 1
    try:
        sessions.commit(session, [], https=False)
    except StoreUnavailable:
        print(503, flush=True)

async def app(scope, receive, send):
    scope["session"]["a"] = 1
    await PlainTextResponse("ok")(scope, receive, send)

def asgi():
    async def send(message):
        print(message.get("status", ""), end="", flush=True)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "scheme": "http"}
    asyncio.run(SessionMiddleware(app, **settings)(scope, None, send))
    print()

if sys.argv[2:]:
    atexit.register(ends.set)
{"plain": plain, "asgi": asgi}[sys.argv[1]]()
print("main has ended", flush=True)
"""


def outlived(*arguments: str) -> list[str]:
    """Return what a process prints whose store hangs in a write, at its latest until it exits."""
    process = subprocess.run(
        [sys.executable, "-c", HUNG, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return process.stdout.splitlines()


@pytest.mark.parametrize("door", ["plain", "asgi"])
def test_the_exit_of_a_process_does_not_wait_for_a_store_that_hangs(door: str) -> None:
    """The request is a 503, and the process ends although the call never does."""
    assert outlived(door) == ["503", "main has ended"]


@pytest.mark.parametrize("door", ["plain", "asgi"])
def test_a_write_that_is_on_its_way_at_the_exit_is_done(door: str) -> None:
    """A moment is left to what still runs: a store that answers at last has its write."""
    assert outlived(door, "ends") == ["503", "main has ended", "the write was done"]


def test_the_exit_leaves_no_thread_behind() -> None:
    """Threads at rest have ended before the interpreter does: an embedded one demands it."""
    child = """
import atexit, threading
atexit.register(lambda: print(threading.active_count()))
from sharedsession._core.runtime import OwnThreads
threads = OwnThreads()
threads.submit(print).result()
"""
    process = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.split() == ["1"]


def test_threads_end_with_their_sessions() -> None:
    """An application that is thrown away, in a test run for one, leaves no thread behind."""
    store = Slow()
    shared = sessions(store)
    assert shared.open(stored(shared)) == {"a": 1}
    threads = set(shared.manager.process.threads.threads)
    assert threads
    del shared
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix has processes that fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_first_use_blocks_no_child() -> None:
    """Another thread begins with its session at that moment; the child's requests do not wait."""
    shared = sessions(MemoryStore())
    cookie = stored(shared)
    began, ends = threading.Event(), threading.Event()

    def manager() -> Manager:
        began.set()
        assert ends.wait(60)
        return shared.manager

    other = threading.Thread(target=shared.open(cookie, manager).get, args=["a"])
    other.start()
    assert began.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends a child that hangs
        try:
            os._exit(0 if shared.open(cookie) == {"a": 1} else 1)
        finally:
            os._exit(2)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ends.set()
    other.join()
    assert ended == 0
