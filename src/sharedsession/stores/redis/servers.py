"""How commands reach a server, and what comes back.

A request is a key and a command for it; what comes back for each is its answer, errors that the
server answered with among them. What goes out together to one server is one pipeline, on one
connection; with `Wait` it ends with a WAIT there, which covers the writes of that pipeline alone.

A command whose answer was lost is repeated here, and noted: who repeats a write must know
(`base.fate_of`). redis-py would repeat it and not tell, so the connections that are made here
repeat nothing. Those of the user's own client repeat as it was configured, once they have told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
import redis.asyncio

from ..._core.per_process import PerProcess
from .._support.ages import Ages
from .._support.openings import AsyncOpenings, Openings
from . import compat
from .connections import (
    CONNECTIONS,
    AsyncOpener,
    Connection,
    NotedConnection,
    Opened,
    Opener,
    answer_of,
    awaited_answer_of,
)
from .rights import Rights, is_refused
from .url import Place

BROKEN = (redis.ConnectionError,)
Command = tuple[str | bytes | int, ...]
Answers = list[object]


@dataclass(slots=True, eq=False)
class Request:
    """A command for a key; ``is_repeated``: it was sent before, and the answer to that was lost."""

    key: str
    command: Command
    wait: Wait | None = None
    is_repeated: bool = False


class Wait(NamedTuple):
    """How many replicas are to confirm each write, and how long that may take."""

    replicas: int
    milliseconds: int


class Unconfirmed(redis.RedisError):
    """Too few replicas have confirmed a write, which a failover could now forget."""


def confirmed(answers: Answers, wait: Wait | None) -> Answers:
    """Take the answer of WAIT off the others; what was written but not confirmed is an error."""
    if wait is None:
        return answers
    *others, count = answers
    if isinstance(count, int) and count >= wait.replicas:
        return others
    refusal = count
    if isinstance(count, int):
        refusal = Unconfirmed(
            f"{count} of {wait.replicas} replicas confirmed the write, which a failover could "
            "forget (wait_replicas)"
        )
    return [refusal if isinstance(answer, int) and answer else answer for answer in others]


def commands_of(requests: Iterable[Request], wait: Wait | None) -> list[Command]:
    """Return what goes out for requests."""
    commands = [request.command for request in requests]
    return commands if wait is None else [*commands, ("WAIT", *wait)]


def note_repeated(requests: Iterable[Request]) -> None:
    """Note that requests were sent, and that their answers are lost."""
    for request in requests:
        request.is_repeated = True


# --- one connection -------------------------------------------------------------------------------


def exchange(connection: Connection, commands: Sequence[Command]) -> Answers:
    """Return the answers to commands, on a connection that repeats nothing."""
    connection.send_packed_command(connection.pack_commands(commands))
    return [answer_of(connection) for _ in commands]


async def awaited_exchange(connection: Connection, commands: Sequence[Command]) -> Answers:
    """Do the same under asyncio."""
    await connection.send_packed_command(connection.pack_commands(commands))
    return [await awaited_answer_of(connection) for _ in commands]


def exchange_as_configured(
    connection: Connection, requests: Sequence[Request], wait: Wait | None
) -> Answers:
    """Return the answers to requests, on a connection that repeats as it was configured."""
    commands = commands_of(requests, wait)

    def lost(_error: Exception) -> None:
        connection.disconnect()
        note_repeated(requests)

    try:
        answers: Answers = connection.retry.call_with_retry(
            lambda: exchange(connection, commands), lost
        )
    except BaseException:
        connection.disconnect()  # an answer may still be on its way
        raise
    return confirmed(answers, wait)


def ask(open_one: Callable[[], Connection], commands: Sequence[Command]) -> Answers | None:
    """Return the answers, by a connection used for nothing else; None: nothing was heard.

    No caller needs them, and a client that is closed meanwhile raises whatever comes.
    """
    try:
        connection = open_one()
        try:
            return exchange(connection, commands)
        finally:
            connection.disconnect()
    except Exception:  # noqa: BLE001 - see above
        return None


async def awaited_ask(
    open_one: Callable[[], Awaitable[Connection]], commands: Sequence[Command]
) -> Answers | None:
    """Do the same under asyncio."""
    try:
        connection = await open_one()
        try:
            return await awaited_exchange(connection, commands)
        finally:
            await connection.disconnect()
    except Exception:  # noqa: BLE001 - the same
        return None


def _hang_up(connection: Connection) -> None:
    connection.disconnect()


# --- for threads ----------------------------------------------------------------------------------


class Server:
    """The way to one server, or to the primary of a Sentinel service, as a URL has it."""

    def __init__(self, place: Place, timeout: float) -> None:
        self._open = Opener(place, timeout, self._renew)
        most = place.options.get("max_connections", CONNECTIONS)
        self._openings = PerProcess(lambda: Openings(self._open, _hang_up, most, timeout))

    def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard."""
        commands = commands_of(requests, wait)
        answers = self._openings.own().use(
            lambda connection: exchange(connection, commands),
            BROKEN,
            lambda: note_repeated(requests),
        )
        return confirmed(answers, wait)

    def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers to something that no request needs; None: nothing was heard."""
        return ask(self.connect, commands)

    def connect(self, **options: Any) -> Connection:  # Any: options of redis-py's
        """Return a connection of the caller's own."""
        return self._open(**options)

    def suspect(self, key: str) -> None:
        """Give up connections: something between may have lost them, or it is a replica."""
        self._renew()

    def close(self) -> None:
        """Close the connections."""
        if (openings := self._openings.known()) is not None:
            openings.close()
            self._open.close()

    def _renew(self) -> None:
        self._openings.own().renew()


class ClientServer:
    """The way to one server by a client of the user's own."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._ages = Ages()

    def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """See `Server.send`."""
        connection: Connection = self._pool.get_connection(*compat.TAKEN_FOR)
        try:
            if self._ages.is_old(connection):
                connection.disconnect()
                connection.connect()
            return exchange_as_configured(connection, requests, wait)
        finally:
            self._pool.release(connection)

    def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """See `Server.ask`."""
        return ask(self.connect, commands)

    def connect(self, **options: Any) -> Connection:  # Any: options of redis-py's
        """See `Server.connect`."""
        connection = self._pool.connection_class(**{**self._pool.connection_kwargs, **options})
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def suspect(self, key: str) -> None:
        """See `Server.suspect`."""
        self._ages.renew()
        compat.drop_idle(self._pool)

    def close(self) -> None:
        """Leave the client open, which is the user's."""


# --- for an event loop ----------------------------------------------------------------------------


class _AwaitedWay:
    """What both ways to one server have under asyncio: several loads are one MGET."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights

    def node(self, key: str) -> str:
        """Name the node that has the key: what goes to the same one can travel together."""
        return ""

    async def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard.

        Several loads are one MGET, where that is allowed.
        """
        loads = [request for request in requests if request.command[0] == "GET"]
        if len(loads) < 2 or not self._rights.mget:
            return confirmed(await self._exchange(requests, commands_of(requests, wait)), wait)
        others = [request for request in requests if request.command[0] != "GET"]
        together: Command = ("MGET", *(request.command[1] for request in loads))
        answers = await self._exchange(requests, [together, *commands_of(others, wait)])
        values = answers.pop(0)
        if is_refused(values):
            self._rights.mget = False
            values = await self._exchange(loads, commands_of(loads, None))
        found = iter(values if isinstance(values, list) else [values] * len(loads))
        rest = iter(confirmed(answers, wait))
        return [next(found if each.command[0] == "GET" else rest) for each in requests]

    async def _exchange(self, requests: Sequence[Request], commands: Sequence[Command]) -> Answers:
        raise NotImplementedError


class AsyncServer(_AwaitedWay):
    """`Server` for one event loop."""

    def __init__(self, place: Place, timeout: float, rights: Rights, opened: Opened) -> None:
        super().__init__(rights)
        self._opened = opened
        self._open = AsyncOpener(place, timeout, lambda: self._openings.renew(), opened)  # noqa: PLW0108 - made below
        most = place.options.get("max_connections", CONNECTIONS)
        self._openings = AsyncOpenings(self._open, NotedConnection.abort, most, timeout)

    async def _exchange(self, requests: Sequence[Request], commands: Sequence[Command]) -> Answers:
        return await self._openings.use(
            lambda connection: awaited_exchange(connection, commands),
            BROKEN,
            lambda: note_repeated(requests),
        )

    async def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers to something that no request needs; None: nothing was heard."""
        return await awaited_ask(self._open, commands)

    async def suspect(self, key: str) -> None:
        """Give up connections: something between may have lost them, or it is a replica."""
        self._openings.renew()

    async def close(self) -> None:
        """Close the connections, those to sentinels among them."""
        await self._openings.tasks.close()
        for connection in list(self._opened):
            await connection.disconnect()
        self.hang_up()

    def hang_up(self) -> None:
        """Cut them, without waiting for anything."""
        self._openings.tasks.hang_up()
        self._openings.close()
        for connection in list(self._opened):
            connection.abort()


class AsyncClientServer(_AwaitedWay):
    """`ClientServer` for one event loop."""

    def __init__(self, client: redis.asyncio.Redis, rights: Rights) -> None:
        super().__init__(rights)
        self._pool: Any = client.connection_pool
        self._ages = Ages()

    async def _exchange(self, requests: Sequence[Request], commands: Sequence[Command]) -> Answers:
        connection: Connection = await self._pool.get_connection(*compat.TAKEN_FOR)

        async def lost(_error: Exception) -> None:
            await connection.disconnect(nowait=True)
            note_repeated(requests)

        try:
            if self._ages.is_old(connection):
                await connection.disconnect()
                await connection.connect()
            answers: Answers = await connection.retry.call_with_retry(
                lambda: awaited_exchange(connection, commands), lost
            )
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
        return answers

    async def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """See `AsyncServer.ask`."""
        return await awaited_ask(self._connect, commands)

    async def suspect(self, key: str) -> None:
        """See `AsyncServer.suspect`."""
        self._ages.renew()
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Leave the client open, which is the user's."""

    def hang_up(self) -> None:
        """The same."""

    async def _connect(self) -> Connection:
        """Return a connection that is opened by what is sent on it."""
        return self._pool.connection_class(**self._pool.connection_kwargs)
