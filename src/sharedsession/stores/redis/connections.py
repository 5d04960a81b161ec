"""Connections to servers of Redis or Valkey: how they are opened, and how their waits end.

A connection to the primary of a Sentinel service is opened to whom the sentinels name at that
moment, and is asked whether it is the primary. Every wait of a sync one ends by the deadline of the
call that uses it (`within`). Awaited ones have no timeouts of their own: one clock over a whole
flight costs less.
"""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio.connection
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.connection
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from .._support.deadline import alook_up, bounded, deadline, look_up
from . import compat
from .url import Options, Place, connection_class

SENTINEL_SHARE = 5  # a sentinel that hangs may cost this fraction of the timeout
CONNECTIONS = 64  # by default, of one process or event loop
FOR_A_POOL = ("connection_class", "max_connections", "timeout")

Connection = Any  # redis.Connection, or redis.asyncio.Connection: they carry no annotations


# --- for threads ----------------------------------------------------------------------------------


class Bounded(redis.connection.AbstractConnection):
    """A connection whose every wait ends by the deadline of the call that uses it."""

    longest: float  # that a single wait may take
    _bound: tuple[object, float] = (None, 0.0)  # the socket, and what its waits end after

    def _left(self) -> float:
        return max(0.001, min(self.longest, deadline.left()))

    def _bind(self) -> None:
        left = self._left()
        if self._sock is not None and self._bound != (self._sock, left):
            self._sock.settimeout(left)
            self._bound = self._sock, left

    # Looked at for each address of a name, of which there may be several.
    socket_connect_timeout = socket_timeout = property(_left, lambda *_: None)

    def _connect(self) -> Any:  # a socket, as redis-py makes it
        host, port = getattr(self, "host", None), getattr(self, "port", 0)
        try:
            if host:
                look_up(host, port, self._left())
            return self._dial(super()._connect)  # type: ignore[safe-super]
        except TimeoutError as error:
            raise redis.TimeoutError(str(error)) from None

    def _dial(self, connect: Callable[[], Any]) -> Any:
        """Look the name up again, and try each of its addresses."""
        return connect()

    def can_read(self, timeout: float = 0) -> bool:
        """See redis-py; the socket's timeout is another one afterwards."""
        self._bound = None, 0.0
        return bool(super().can_read(timeout))

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        if self._sock is None:
            self.connect()  # type: ignore[no-untyped-call]
        self._bind()
        super().send_packed_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._bind()
        return super().read_response(*arguments, **options)


class _Pooled(Bounded):
    """A connection of redis-py's own pools, which open it in the thread of the caller."""

    def _dial(self, connect: Callable[[], Any]) -> Any:
        return bounded(self._left(), connect, lambda late: late.close())


@functools.cache
def keeping(kind: Any, longest: float, *, pooled: bool = False) -> Any:
    """Return the class of connections of that kind that keep to the deadline."""
    base = _Pooled if pooled else Bounded
    return type(f"Bounded{kind.__name__}", (base, kind), {"longest": longest})


class Opener:
    """Opens connections to a server, or to the primary of a service, in the caller's thread."""

    def __init__(self, place: Place, timeout: float, moved: Callable[[], object]) -> None:
        self._moved = moved  # told when the sentinels name another primary than before
        self._kind = keeping(connection_class(place), timeout / 2)
        self._options = _settings(place, timeout, redis.retry.Retry)
        self._service = place.service
        self._sentinels = [
            redis.Redis.from_pool(redis.ConnectionPool(**each))
            for each in _sentinels(place, timeout, redis.retry.Retry)
        ]
        self._primary: Options = {}  # whom the sentinels named last

    def __call__(self, **more: Any) -> Connection:  # Any: options of redis-py's
        while True:
            where = self._where()
            connection = self._kind(**{**self._options, **where, **more})
            try:
                connection.connect()
                if self._sentinels:
                    connection.send_command("ROLE")
                    _refuse_replicas(answer_of(connection))
            except BaseException:
                connection.disconnect()
                raise
            if where == self._primary:
                return connection
            connection.disconnect()  # another one has been named meanwhile

    def _where(self) -> Options:
        if not self._sentinels:
            return {}
        finder = redis.sentinel.Sentinel([])  # type: ignore[no-untyped-call]
        finder.sentinels = list(self._sentinels)
        try:
            found = finder.discover_master(self._service)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise _no_primary(error) from error
        self._sentinels = finder.sentinels  # the one that answered is the first by now
        where = {"host": found[0], "port": found[1]}
        if where != self._primary:
            self._primary = where
            self._moved()
        return where

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self._sentinels:
            sentinel.close()


def answer_of(connection: Connection) -> object:
    """Return the next answer, which may be an error that the server answered with."""
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


# --- for an event loop ----------------------------------------------------------------------------


class NotedConnection(compat.PacksByHiredis):
    """A connection that is noted, and looks its server's name up before the loop would."""

    opened: Opened

    async def _connect(self) -> None:
        self.opened.add(self)
        host, port = getattr(self, "host", None), getattr(self, "port", 0)
        if host:
            await alook_up(host, port)
        await super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def abort(self) -> None:
        """Close it at once."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = self._reader = None


Opened = weakref.WeakSet[NotedConnection]


def noted(kind: type[Any], opened: Opened) -> type[Any]:
    """Return the class of connections of that kind that ``opened`` is to hold."""
    return type(f"Noted{kind.__name__}", (NotedConnection, kind), {"opened": opened})


class AsyncOpener:
    """Opens connections to a server, or to the primary of a service; its caller sets the time."""

    def __init__(
        self, place: Place, timeout: float, moved: Callable[[], object], opened: Opened
    ) -> None:
        self._moved = moved
        self._kind = noted(connection_class(place, asynchronous=True), opened)
        self._options = _settings(place, timeout, redis.asyncio.retry.Retry)
        self._options["socket_timeout"] = place.options.get("socket_timeout")
        self._service = place.service
        self._sentinels = [
            redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**each))
            for each in _sentinels(place, timeout, redis.asyncio.retry.Retry, opened)
        ]
        self._primary: Options = {}

    async def __call__(self, **more: Any) -> Connection:  # Any: options of redis-py's
        while True:
            where = await self._where()
            connection = self._kind(**{**self._options, **where, **more})
            try:
                await connection.connect()
                if self._sentinels:
                    await connection.send_command("ROLE")
                    _refuse_replicas(await awaited_answer_of(connection))
            except BaseException:
                connection.abort()
                raise
            if where == self._primary:
                return connection
            connection.abort()

    async def _where(self) -> Options:
        if not self._sentinels:
            return {}
        finder = redis.asyncio.sentinel.Sentinel([])  # type: ignore[no-untyped-call]
        finder.sentinels = list(self._sentinels)
        try:
            found = await finder.discover_master(self._service)
        except redis.RedisError as error:
            raise _no_primary(error) from error
        self._sentinels = finder.sentinels
        where = {"host": found[0], "port": found[1]}
        if where != self._primary:
            self._primary = where
            self._moved()
        return where


async def awaited_answer_of(connection: Connection) -> object:
    """Return the next answer, which may be an error that the server answered with."""
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


# --- what both are made with ----------------------------------------------------------------------

Retry = type[redis.retry.Retry | redis.asyncio.retry.Retry]


def settings(timeout: float) -> Options:
    """Return what connections are made with, unless the URL says something else."""
    return {
        **compat.unnamed(),
        "protocol": 2,
        "socket_timeout": timeout / 2,
        "socket_connect_timeout": timeout / 2,
        "health_check_interval": 0,
    }


def _settings(place: Place, timeout: float, retry: Retry) -> Options:
    given = {name: value for name, value in place.options.items() if name not in FOR_A_POOL}
    return {**settings(timeout), **given, "retry": retry(NoBackoff(), 0)}  # the store repeats


def _sentinels(
    place: Place, timeout: float, retry: Retry, opened: Opened | None = None
) -> list[Options]:
    """Return for each sentinel what its connections are made with."""
    if place.kind != "sentinel":
        return []
    kind = connection_class(place, asynchronous=opened is not None)
    share = timeout / SENTINEL_SHARE
    shared = {
        **settings(timeout),
        "retry": retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "socket_timeout": share,
        "socket_connect_timeout": share,
        "connection_class": (
            keeping(kind, share, pooled=True) if opened is None else noted(kind, opened)
        ),
        **place.sentinel_options,
    }
    return [{**shared, "host": host, "port": port} for host, port in place.hosts]


def _no_primary(error: redis.RedisError) -> redis.ConnectionError:
    refused = re.search("AuthenticationError|NOAUTH|WRONGPASS", str(error)) is not None
    advice = " (they refuse the login: ?sentinel_username=…&sentinel_password=…)" if refused else ""
    return redis.ConnectionError(f"no sentinel that answers knows a primary of that name{advice}")


def _refuse_replicas(role: Any) -> None:  # Any: a list whose first element says it, or an error
    if isinstance(role, list) and role[0] not in ("master", b"master"):
        raise redis.ConnectionError("whom the sentinels named is a replica")
