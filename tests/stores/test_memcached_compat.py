"""What `stores/memcached/compat.py` repairs: each test fails when pymemcache needs it no more."""

from __future__ import annotations

import inspect
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pymemcache
import pytest
from pymemcache.exceptions import MemcacheUnexpectedCloseError

from sharedsession.stores._support.deadline import within
from sharedsession.stores.memcached.compat import Connection, SharedPool, remove_if

pytestmark = pytest.mark.newest

BROKEN = (ConnectionError, MemcacheUnexpectedCloseError)
Answer = Callable[[socket.socket], object]


class Robot:
    """A server that says what a test has it say, connection by connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()

    def start(self, *answers: Answer) -> None:
        threading.Thread(target=self._run, args=[answers], daemon=True).start()

    def _run(self, answers: Iterable[Answer]) -> None:
        with suppress(OSError):  # the test is over
            for answer in answers:
                connection, _ = self._listening.accept()
                with connection:
                    answer(connection)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    yield robot
    robot.close()


def says_in_parts(*parts: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(1000)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)

    return answer


def pooled(robot: Robot) -> pymemcache.PooledClient:
    return pymemcache.PooledClient(robot.address, max_pool_size=1, timeout=5.0)


def touch(connection: Any) -> bool:
    return bool(connection.touch("key", 1, noreply=False))


def touch_in_time(connection: Connection, seconds: float) -> bool:
    with within(seconds):
        connection.begin()
        return touch(connection)


def test_pymemcache_tries_the_first_address_only(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that a name has (issue 303): `Connection._connect` tries each."""
    usual, port = socket.getaddrinfo, robot.address[1]

    def two(_: object, *rest: Any, **named: Any) -> list[Any]:
        return usual("127.0.0.2", *rest, **named) + usual("127.0.0.1", *rest, **named)

    robot.start(says_in_parts(b"TOUCHED\r\n"))
    monkeypatch.setattr(socket, "getaddrinfo", two)
    with pytest.raises(ConnectionRefusedError):  # if not, `compat.Connection._connect` can go
        touch(pymemcache.Client(("cache.test", port)))
    connection = Connection(("cache.test", port))
    assert touch_in_time(connection, 5.0)
    connection.close()


def test_pymemcache_waits_as_long_as_was_said_when_it_was_made(robot: Robot) -> None:
    """A deadline differs from call to call (4.0.0): `Connection.begin` sets it."""
    assert "timeout" not in inspect.signature(pymemcache.Client.touch).parameters
    over = threading.Event()
    robot.start(*[lambda _: over.wait(10)] * 2)
    client = pymemcache.Client(robot.address, timeout=5.0)
    client._connect()
    client.timeout = 0.1
    assert client.sock is not None
    assert client.sock.gettimeout() == 5.0, "`compat.Connection.begin` can go"
    connection = Connection(robot.address)
    with pytest.raises(TimeoutError):
        touch_in_time(connection, 0.1)
    over.set()
    client.close()
    connection.close()


def test_pymemcache_raises_when_all_connections_are_in_use(robot: Robot) -> None:
    """Instead of waiting (issue 267): `SharedPool` waits."""
    robot.start(says_in_parts(b"TOUCHED\r\n"))
    client = pooled(robot)
    with client.client_pool.get_and_release(), pytest.raises(RuntimeError, match="Too many"):
        touch(client)  # if not, `compat.SharedPool` need not wait
    pool, begun = SharedPool(client, 64), threading.Event()
    answers: list[object] = []

    def slow(_: object) -> None:
        begun.set()
        time.sleep(0.1)

    first = threading.Thread(target=lambda: pool.use(slow, BROKEN, begun.set))
    first.start()
    begun.wait(5)
    answers.append(pool.use(touch, BROKEN, begun.set))
    first.join()
    assert answers == [True]
    client.close()


def test_pymemcache_gives_a_child_the_connections_of_its_parent(robot: Robot) -> None:
    """Each would read the other's answers (issue 536): `SharedPool` has others in a child."""
    robot.start(says_in_parts(b"TOUCHED\r\n"))
    client = pooled(robot)
    pool = SharedPool(client, 64)
    pool.use(touch, BROKEN, lambda: None)
    [idle] = client.client_pool.free
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with client.client_pool.get_and_release() as connection:
            theirs = connection is idle
        ours = pool.use(lambda connection: connection is idle, BROKEN, lambda: None)
        os.write(writing, repr((theirs, ours)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"(True, False)", "`compat.SharedPool._make` can go"
    os.close(reading)
    os.close(writing)
    client.close()


def test_pymemcache_does_not_try_again_after_a_restart(robot: Robot) -> None:
    """With what was idle meanwhile (issue 307): `SharedPool` does, once for each of them."""
    robot.start(*[says_in_parts(b"TOUCHED\r\n")] * 4)  # each connection ends after one answer
    client = pooled(robot)
    assert touch(client)
    with pytest.raises(BROKEN):  # if not, `compat.SharedPool` need not try again
        touch(client)
    pool, repeats = SharedPool(client, 64), [0]

    def repeated() -> None:
        repeats[0] += 1

    assert [pool.use(touch, BROKEN, repeated) for _ in range(2)] == [True, True]
    assert repeats == [1]
    client.close()


class Stopped(BaseException):
    """As gevent's timeouts and greenlets' ends are."""


def test_pymemcache_loses_what_was_in_use_when_a_call_was_stopped(robot: Robot) -> None:
    """It counts as in use for ever, so one less is left each time (4.0.0)."""

    def stop(_: object) -> None:
        raise Stopped

    client = pooled(robot)
    pool = SharedPool(client, 64)
    with pytest.raises(Stopped):
        pool.use(stop, BROKEN, lambda: None)
    assert not client.client_pool.used
    with pytest.raises(Stopped), client.client_pool.get_and_release(destroy_on_fail=True):
        raise Stopped
    assert client.client_pool.used, "`compat.SharedPool` may leave that to the pool"


def test_pymemcache_has_no_meta_commands(robot: Robot) -> None:
    """To remove what has a cas id takes one (issue 272), by `raw_command`, which drops what came
    before the end of the answer (4.0.0)."""
    assert not [name for name in vars(pymemcache.Client) if "meta" in name], "see `remove_if`"
    robot.start(*[says_in_parts(b"H", b"D\r\n")] * 2)
    client = pymemcache.Client(robot.address, timeout=5.0)
    assert client.raw_command("md key C1") == b"D", "`compat.remove_if` may say how it ends"
    client.close()
    assert remove_if(client, "key", 1)
    client.close()
