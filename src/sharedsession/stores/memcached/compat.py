"""What pymemcache does not do, or does as a session store cannot live with.

Each names the issue, or the version that shows it; `tests/stores/test_memcached_compat.py` fails
when the newest one needs it no more.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pymemcache
from pymemcache.pool import ObjectPool

from ..._core.per_process import PerProcess
from .._support.ages import Ages
from .._support.deadline import deadline, look_up

T = TypeVar("T")


class Connection(pymemcache.Client):  # type: ignore[misc]  # pymemcache carries no types
    """A connection whose every wait ends by the `deadline` of the call that uses it.

    One of pymemcache's waits as long as was said when it was made (4.0.0), and tries only the first
    of the addresses that a name has (issue 303).
    """

    def _connect(self) -> None:
        self.close()
        if isinstance(self.server, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.begin()
            self.sock.connect(self.server)
        else:
            look_up(self.server[0], self.server[1], _left())
            self.sock = socket.create_connection(self.server, _left())
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        """Let the waits of the next command end in time, and those for a connection."""
        if self.sock is None:
            self._connect()
        self.sock.settimeout(_left())


def _left() -> float:
    left = deadline.left()
    if left <= 0:
        raise TimeoutError
    return left


class SharedPool:
    """The pool of a `pymemcache.PooledClient`, as `Openings` are used.

    By itself it raises RuntimeError when all connections are in use (issue 267), gives a child of
    the process those of its parent (issue 536), fails when a server has restarted since the last
    use (issue 307), and counts as in use for ever what a BaseException came to (4.0.0): that of
    gevent's timeouts, for example.
    """

    def __init__(self, client: pymemcache.PooledClient, most: int) -> None:
        self._client = client
        self._pool = PerProcess(self._make, client.client_pool)
        most = min(most, client.client_pool.max_size)
        self._free = PerProcess(lambda: threading.BoundedSemaphore(most))
        self._ages = Ages()

    def _make(self) -> ObjectPool:
        """Return a pool like the client's, for a child of its process."""
        known = self._client.client_pool
        return ObjectPool(
            self._client._create_client,  # noqa: SLF001 - as its own constructor does
            after_remove=pymemcache.Client.close,
            max_size=known.max_size,
            idle_timeout=known.idle_timeout,
        )

    def use(
        self,
        call: Callable[[Any], T],  # Any: the user's own class of connections
        broken: tuple[type[Exception], ...],
        repeated: Callable[[], object],
    ) -> T:
        """Make a call with a connection; again when one that was idle turns out to be broken."""
        self._client.client_pool = pool = self._pool.own()
        with self._free.own():
            while True:
                connection = pool.get()
                if self._ages.is_old(connection):
                    pool.destroy(connection)
                    continue
                was_idle = connection.sock is not None
                try:
                    answer = call(connection)
                except BaseException as error:
                    pool.destroy(connection)
                    if not (was_idle and isinstance(error, broken)):
                        raise
                    repeated()
                else:
                    pool.release(connection)
                    return answer


def remove_if(client: pymemcache.Client, name: str, cas: int) -> bool:
    """Remove an item that has a cas id; pymemcache knows no meta commands (issue 272).

    Nor is `raw_command` told how the answer ends: it would drop what arrived before (4.0.0).
    """
    prefixed = client.check_key(name, client.key_prefix).decode("ascii")
    answer: bytes = client.raw_command(f"md {prefixed} C{cas}", end_tokens=b"")
    return answer == b"HD"  # or NF, or EX: it has another cas id
