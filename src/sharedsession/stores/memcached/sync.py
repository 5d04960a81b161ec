"""The sync store: pymemcache's connections, in a pool that makes threads wait."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pymemcache
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

from ..._core.per_process import PerProcess
from ...exceptions import ConfigurationError
from .._support.deadline import within
from .._support.openings import Openings
from .._support.verbs import Flow, PlainVerbs
from ..base import Finding
from .addresses import PREFIX, address_of, name_of, parse
from .checks import Stats, findings
from .compat import Connection, SharedPool, remove_if
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


_BROKEN = (ConnectionError, MemcacheUnexpectedCloseError)


class _Server:
    """The way to one server, over connections of the store's own."""

    def __init__(self, name: str, timeout: float) -> None:
        self._address = address_of(name)
        self._openings = PerProcess(
            lambda: Openings(self._open, Connection.close, CONNECTIONS, timeout)
        )

    def _open(self) -> Connection:
        connection = Connection(self._address)
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, step: Step) -> Any:
        command = SYNC_COMMANDS[step.command]

        def give(connection: Connection) -> Any:
            connection.begin()
            return command(connection, *step.arguments)

        return self._openings.own().use(give, _BROKEN, step.repeat)

    def close(self) -> None:
        if (openings := self._openings.known()) is not None:
            openings.close()


class _ClientServer:
    """The way to one server by a client of the user's own; who finds all connections in use waits.

    A child of the process that made the client has a pool of its own.
    """

    def __init__(self, client: pymemcache.PooledClient) -> None:
        self._pool = SharedPool(client, CONNECTIONS)

    def ask(self, step: Step) -> Any:
        command = SYNC_COMMANDS[step.command]
        return self._pool.use(
            lambda connection: command(connection, *step.arguments), _BROKEN, step.repeat
        )

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
    return bool(client.delete(name, noreply=False)) if cas is None else remove_if(client, name, cas)


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
