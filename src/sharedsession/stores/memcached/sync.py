"""The sync store: pymemcache's connections, in a pool that makes threads wait."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from .._support.deadline import deadline, look_up, within
from .._support.openings import Openings
from .._support.per_process import PerProcess
from .._support.verbs import Flow, PlainVerbs
from ..base import Finding
from .addresses import PREFIX, address_of, name_of, parse
from .checks import Stats, findings
from .steps import TOO_LARGE, Items, Step, Verbs

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
        super().__init__([name_of(client.server) for client in each], prefix)
        self._servers: dict[str, _Server | _ClientServer]
        self._servers = {name_of(client.server): _ClientServer(client) for client in each}
        self._timeout: float | None = None

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0) -> MemcachedStore:
        """Return a store with connections of its own, whose calls end within ``timeout``."""
        names, prefix = parse(url)
        store: MemcachedStore = cls.__new__(cls)
        Verbs.__init__(store, names, prefix)
        store._servers = {name: _Server(name, timeout) for name in names}
        store._timeout = timeout
        weakref.finalize(store, _close, list(store._servers.values()))
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        _close(self._servers.values())

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`."""

        def ask(server: str) -> Stats:
            return self._run(self._stats(server))

        return findings(self._ring.names, ask)

    def _run(self, flow: Flow[T]) -> T:
        with within(self._timeout):
            return super()._run(flow)

    def _ask(self, asked: Step) -> Any:  # Any: each command has an answer of its own
        backoff = self._backoff[asked.server]
        limit = None if self._timeout is None else backoff.timeout(self._timeout / 2)
        try:
            with within(limit):
                answer = self._servers[asked.server].ask(asked)
        except Exception as error:
            if isinstance(error, MemcacheServerError) and TOO_LARGE in _words(error):
                answer = TOO_LARGE
            else:
                raise self._failed(asked, error, _words(error)) from error
        backoff.answered()
        return answer


class _Client(pymemcache.Client):  # type: ignore[misc]  # pymemcache carries no types
    """A connection whose every wait ends by the `deadline` of the call that uses it."""

    def _connect(self) -> None:
        self.close()
        if isinstance(self.server, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.begin()
            self.sock.connect(self.server)
        else:  # each of the addresses that a name has, where pymemcache tries only the first
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


_BROKEN = (ConnectionError, MemcacheUnexpectedCloseError)


class _Server:
    """The way to one server, over connections of the store's own."""

    def __init__(self, name: str, timeout: float) -> None:
        self._address = address_of(name)
        self._openings = PerProcess(
            lambda: Openings(self._open, _Client.close, CONNECTIONS, timeout)
        )

    def _open(self) -> _Client:
        client = _Client(self._address)
        try:
            client.begin()
        except BaseException:
            client.close()
            raise
        return client

    def ask(self, step: Step) -> Any:
        command = SYNC_COMMANDS[step.command]

        def give(client: _Client) -> Any:
            client.begin()
            return command(client, *step.arguments)

        def repeated() -> None:
            step.is_repeated = True

        return self._openings.own().use(give, _BROKEN, repeated)

    def close(self) -> None:
        if (openings := self._openings.known()) is not None:
            openings.close()


class _ClientServer:
    """The way to one server by a client of the user's own; who finds all connections in use waits.

    A child of the process that made the client has a pool of its own.
    """

    def __init__(self, client: pymemcache.PooledClient) -> None:
        self._client = client
        self._is_the_clients_own = True
        self._pool = PerProcess(self._make_pool)
        most = min(CONNECTIONS, client.client_pool.max_size)
        self._free = PerProcess(lambda: threading.BoundedSemaphore(most))
        self._ages = Ages()

    def _make_pool(self) -> ObjectPool:
        known = self._client.client_pool
        if self._is_the_clients_own:
            self._is_the_clients_own = False
            return known
        return ObjectPool(
            self._client._create_client,  # noqa: SLF001 - as its own constructor does
            after_remove=lambda connection: connection.close(),
            max_size=known.max_size,
            idle_timeout=known.idle_timeout,
        )

    def ask(self, step: Step) -> Any:
        self._client.client_pool = pool = self._pool.own()
        with self._free.own():
            return self._ask(pool, step)

    def _ask(self, pool: ObjectPool, step: Step) -> Any:
        command = SYNC_COMMANDS[step.command]
        while True:
            connection = pool.get()
            if self._ages.is_old(connection):
                pool.destroy(connection)
                continue
            is_idle = connection.sock is not None
            try:
                answer = command(connection, *step.arguments)
            except _BROKEN:
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

    def close(self) -> None:
        """Leave the client open, which is the user's."""


def _close(servers: Iterable[_Server | _ClientServer]) -> None:
    for server in servers:
        server.close()


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
