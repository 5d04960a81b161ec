"""What no driver bounds: the time of a call in a thread, and names whose look-up hangs."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sharedsession.stores._support.deadline import (
    LOOK_AGAIN,
    alook_up,
    bounded,
    deadline,
    look_up,
    within,
)

NAME = "sessions.example"
MARGIN = 1.0  # seconds that a busy machine may take


class NameServer:
    """Answers when it is told to, and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[object]:
        self.asked.append(threading.current_thread().name)
        self.answers.wait(10)
        if host != NAME:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.answers.set()


# --- calls ----------------------------------------------------------------------------------------


def test_the_earlier_end_counts() -> None:
    """Whoever waits for a call may have less time than the store gives itself."""
    assert deadline.left() == float("inf")
    with within(10):
        assert 9 < deadline.left() <= 10
        with within(1):
            assert 0 < deadline.left() <= 1
            with within(20), within(None):
                assert 0 < deadline.left() <= 1
        assert 9 < deadline.left() <= 10
    assert deadline.left() == float("inf")


def test_an_end_holds_in_its_own_thread() -> None:
    """What one thread may wait is nothing to another."""
    seen = queue.Queue[float]()
    with within(1):
        thread = threading.Thread(target=lambda: seen.put(deadline.left()))
        thread.start()
        thread.join()
    assert seen.get() == float("inf")


def test_a_call_is_bounded_and_what_comes_too_late_is_discarded() -> None:
    """In time: its result, or its own error. Later: a TimeoutError, and nothing is left open."""
    assert bounded(5, lambda: "value", print) == "value"
    with pytest.raises(ZeroDivisionError):
        bounded(5, lambda: 1 // 0, print)
    with pytest.raises(TimeoutError, match="its own"):
        bounded(5, lambda: raise_it(TimeoutError("its own")), print)
    go, discarded = threading.Event(), queue.Queue[str]()
    with pytest.raises(TimeoutError, match=r"no connection within 0\.01 s"):
        bounded(0.01, lambda: "late" if go.wait(10) else "", discarded.put)
    go.set()
    assert discarded.get(timeout=10) == "late"


def raise_it(error: Exception) -> None:
    raise error


# --- names ----------------------------------------------------------------------------------------


def test_those_who_wait_for_one_name_share_its_look_up(name_server: NameServer) -> None:
    """One thread for all of them, and each waits only as long as it may."""
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError, match=NAME):
            look_up(NAME, 1, 0.05)
    assert time.monotonic() - begun < MARGIN
    assert len(name_server.asked) == 1
    name_server.answers.set()
    look_up(NAME, 1, 10)


def test_a_look_up_that_hangs_is_given_up(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a second others ask again: a name server that is back must be noticed."""
    with pytest.raises(TimeoutError):
        look_up(NAME, 1, 0.01)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LOOK_AGAIN + 0.1)
    with pytest.raises(TimeoutError):
        look_up(NAME, 1, 0.01)
    assert len(name_server.asked) == 2


def test_a_name_that_does_not_exist_is_an_error(name_server: NameServer) -> None:
    """It is told at once, in both colours, and asked for again the next time."""
    name_server.answers.set()
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known"):
            look_up("nowhere.example", 1, 10)
    with pytest.raises(socket.gaierror, match="not known"):
        asyncio.run(alook_up("nowhere.example", 1))
    assert len(name_server.asked) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "/run/postgresql"])
def test_an_address_needs_no_look_up(name_server: NameServer, host: str) -> None:
    """Nor does the path of a socket."""
    look_up(host, 1, 0.01)
    asyncio.run(alook_up(host, 1))
    assert not name_server.asked


def test_hanging_look_ups_leave_the_loops_own_threads_alone(name_server: NameServer) -> None:
    """However many requests wait for one: the application's blocking calls go on."""

    async def main() -> str:
        waiting = [asyncio.create_task(alook_up(NAME, 1)) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(MARGIN):
            name = await asyncio.to_thread(lambda: threading.current_thread().name)
        for task in waiting[:50]:
            task.cancel()  # who goes away takes nothing from the others
        await asyncio.sleep(0)
        name_server.answers.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [each is None for each in done] == [False] * 50 + [True] * 50
        return name

    assert "sharedsession" not in asyncio.run(main())
    assert len(name_server.asked) == 1


def test_a_look_up_that_ends_after_its_loop(
    name_server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is there to be told, and nobody is."""

    async def main() -> None:
        async with asyncio.timeout(0.01):
            await alook_up(NAME, 1)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    name_server.answers.set()
    for thread in threading.enumerate():
        if thread.name == "sharedsession-connect":
            thread.join(10)
    assert not caplog.records
