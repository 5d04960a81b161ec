"""The sync store: pymemcache's connections, in a pool that makes threads wait."""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import pymemcache
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)
from pymemcache.pool import ObjectPool

from ...exceptions import ConfigurationError
from .._support.ages import Ages
from .._support.deadline import bounded, deadline, look_up
from .._support.verbs import Flow, PlainVerbs
from ..base import Finding
from .addresses import PREFIX, address_of, name_of, parse
from .checks import Stats, findings
from .steps import TOO_LARGE, Items, Step, Verbs, failure

T = TypeVar("T")
CONNECTIONS = 64  # to each server


class MemcachedStore(Verbs, PlainVerbs):
    """A store in Memcached for threads; ``clients`` is a `pymemcache.PooledClient`, or one for each
    of several servers, used as configured."""

    blocking = True

    def __init__(
        self,
        clients: pymemcache.PooledClient | Sequence[pymemcache.PooledClient],
        prefix: str = PREFIX,
    ) -> None:
        each: list[Any] = [*clients] if isinstance(clients, list | tuple) else [clients]
        for client in each:
            _check(client)
        named = {name_of(client.server): client for client in each}
        super().__init__([name_of(client.server) for client in each], prefix)
        self._nodes = {name: _Node(client) for name, client in named.items()}
        self._timeout: float | None = None
        self._process = os.getpid()
        self._forked = threading.Lock()

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0) -> MemcachedStore:
        """Return a store with clients of its own, whose calls end within ``timeout``."""
        names, prefix = parse(url)
        store = cls([_Pool(address_of(name)) for name in names], prefix)
        store._timeout = timeout
        weakref.finalize(store, _close, list(store._nodes.values()), os.getpid())
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._timeout is not None:
            _close(list(self._nodes.values()), self._process)

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`."""

        def ask(server: str) -> Stats:
            return self._run(self._stats(server))

        return findings(self._ring.names, ask)

    def _run(self, flow: Flow[T]) -> T:
        if self._process != os.getpid():
            self._leave_to_the_parent()
        limit = None if self._timeout is None else _Limit(self._timeout)
        try:
            step = next(flow)
            while True:
                backoff = self._backoff[step.server]
                if limit is not None:
                    limit.most = backoff.seconds(limit.timeout / 2)
                try:
                    answer = self._nodes[step.server].ask(limit, step)
                except Exception as error:  # noqa: BLE001 - any of a client's is an outage
                    backoff.note(error)
                    step = flow.throw(failure(step, _words(error), error))
                else:
                    backoff.note(None)
                    step = flow.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    def _leave_to_the_parent(self) -> None:
        """A child of the process that opened the connections opens its own."""
        with self._forked:
            if self._process != os.getpid():
                self._nodes = {name: node.renewed() for name, node in self._nodes.items()}
                self._process = os.getpid()


class _Limit:
    """What is left of the time for a call."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.most = timeout / 2  # for opening a connection, or for an answer
        self._end = min(time.monotonic() + timeout, deadline.at)

    def seconds(self) -> float:
        """Seconds for opening a connection, or for an answer; `TimeoutError` when none is left."""
        left = min(self.most, self._end - time.monotonic())
        if left <= 0:
            raise TimeoutError
        return left


class _Client(pymemcache.Client):  # type: ignore[misc]  # pymemcache carries no types
    """A connection whose every wait is bounded by what is left of the call's time."""

    limit: _Limit

    def _connect(self) -> None:
        self.close()
        seconds = self.limit.seconds()
        if isinstance(self.server, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(seconds)
            self.sock.connect(self.server)  # failed, the pool closes it
        else:  # each of the addresses that a name has, where pymemcache tries only the first
            look_up(self.server[0], self.server[1], seconds)
            # It looks the name up again, and tries each of its addresses.
            seconds = self.limit.seconds()
            connect = partial(socket.create_connection, self.server, seconds)
            self.sock = bounded(seconds, connect, socket.socket.close)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(self.limit.seconds())

    def begin(self, limit: _Limit) -> None:
        self.limit = limit
        if self.sock is not None:
            self.sock.settimeout(limit.seconds())


class _Pool(pymemcache.PooledClient):  # type: ignore[misc]  # the same
    client_class = _Client


class _Node:
    """The way of one process to one server; who finds all connections in use waits."""

    def __init__(self, client: pymemcache.PooledClient) -> None:
        self.client = client
        most = min(CONNECTIONS, client.client_pool.max_size)
        self._free = threading.BoundedSemaphore(most)
        self._ages = Ages()

    def ask(self, limit: _Limit | None, step: Step) -> Any:
        if not self._free.acquire(timeout=None if limit is None else limit.seconds()):
            raise TimeoutError("all connections are in use")
        try:
            return self._ask(limit, step)
        except MemcacheServerError as error:
            if TOO_LARGE in _words(error):
                return TOO_LARGE
            raise
        finally:
            self._free.release()

    def _ask(self, limit: _Limit | None, step: Step) -> Any:
        pool, command = self.client.client_pool, SYNC_COMMANDS[step.command]
        while True:
            connection = pool.get()
            if self._ages.is_old(connection):
                pool.destroy(connection)
                continue
            is_idle = connection.sock is not None
            try:
                if limit is not None:
                    connection.begin(limit)
                answer = command(connection, *step.arguments)
            except (ConnectionError, MemcacheUnexpectedCloseError):
                pool.destroy(connection)
                if not is_idle:
                    raise
                step.is_repeated = True  # idle connections do not notice that a server restarts
            except BaseException:
                pool.destroy(connection)
                raise
            else:
                pool.release(connection)
                return answer

    def renewed(self) -> _Node:
        """Return this node for a child process, without the parent's connections."""
        old = self.client.client_pool
        _left_to_the_parent.append(old)
        self.client.client_pool = ObjectPool(
            self.client._create_client,  # noqa: SLF001 - as its own constructor does
            after_remove=lambda connection: connection.close(),
            max_size=old.max_size,
            idle_timeout=old.idle_timeout,
        )
        return _Node(self.client)


# A connection must not be used, nor even closed, by a child of the process that opened it.
_left_to_the_parent: list[object] = []


def _close(nodes: list[_Node], process: int) -> None:
    if process == os.getpid():
        for node in nodes:
            node.client.close()


def _gets(client: pymemcache.Client, names: tuple[str, ...]) -> Items:
    found = client.gets_many(names)
    return {name: (value, int(cas)) for name, (value, cas) in found.items()}


def _cas(client: pymemcache.Client, name: str, value: bytes, expiry: int, cas: int) -> bool:
    return bool(client.cas(name, value, cas, expiry, noreply=False))


def _delete(client: pymemcache.Client, name: str, cas: int | None = None) -> bool:
    if cas is None:
        return bool(client.delete(name, noreply=False))
    prefixed = client.check_key(name, client.key_prefix).decode("ascii")
    answer: bytes = client.raw_command(f"md {prefixed} C{cas}")
    return answer == b"HD"  # or NF, or EX: it has another cas id


# Any: each command has arguments of its own.
SYNC_COMMANDS: dict[str, Callable[..., Any]] = {
    "gets": _gets,
    "add": lambda client, *words: client.add(*words, noreply=False),
    "cas": _cas,
    "touch": lambda client, *words: client.touch(*words, noreply=False),
    "delete": _delete,
    "stats": lambda client: client.stats(),
    "limit": lambda client: client.stats("settings")[b"item_size_max"],
}


def _check(client: object) -> None:
    """Refuse a client that answers None for an outage, or that threads must not share."""
    if not isinstance(client, pymemcache.PooledClient):
        raise TypeError(
            "MemcachedStore needs a pymemcache.PooledClient, or a list with one for each server, "
            f"not {type(client).__module__}.{type(client).__name__}: a Client has one connection, "
            "which threads must not share, and a HashClient takes a server that is down for one "
            "that has no session. From a URL MemcachedStore.from_url(url) makes one. Under ASGI "
            "use AsyncMemcachedStore(['host:11211'])."
        )
    if client.ignore_exc:
        raise ConfigurationError(
            "MemcachedStore needs a client made without ignore_exc=True, which answers None, as if "
            "there was no session, when the server is down."
        )
    if not _leaves_bytes_alone(client.serde):
        raise ConfigurationError(
            "MemcachedStore stores bytes as they are: make its client without a serializer."
        )


def _leaves_bytes_alone(serde: Any) -> bool:
    """Say whether it writes bytes as they are, and reads them so from any writer: no pickles."""
    try:
        read = [serde.deserialize("key", b"1", 1 << bit) for bit in range(8)]
        return serde.serialize("key", b"1") == (b"1", 0) and read == [b"1"] * 8
    except Exception:  # noqa: BLE001 - it does read them in some way of its own
        return False


def _words(error: Exception) -> str:
    """Return what may be told of an error: no key, and nothing of a session."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, MemcacheUnexpectedCloseError):
        return "the server closed the connection"
    if isinstance(error, MemcacheServerError | MemcacheClientError) and error.args:
        told = error.args[0]
        return told.decode("ascii", "replace") if isinstance(told, bytes) else type(error).__name__
    if isinstance(error, OSError):
        return str(error) or type(error).__name__
    return type(error).__name__
