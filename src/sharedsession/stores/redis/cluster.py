"""How commands reach the server that holds their key: one server, or the nodes of a cluster.

A request is a key and a command for it; what comes back for each is its answer, errors that the
server answered with among them. What goes out together to one node is one pipeline, on one
connection; with `Wait` it ends with a WAIT there, which covers the writes of that pipeline alone.

Commands go over the client's connections, not through its methods: those repeat a command whose
answer was lost and do not tell, and who repeats a write must know (`base.fate_of`). It is repeated
as the connection's own `Retry` says. Connections grow old (`ages`), but not those to the nodes of a
cluster: a node that is the primary no more redirects, or says that it is cut off.

In a cluster redirections are followed here, not by the client: its own way breaks a pipeline up,
sends ASKING on another connection than the command (asyncio), and sleeps. The steps are a generator
(`_Routes.plan`), which a sync and an async driver run. The client keeps the table of slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.exceptions import AskError, MovedError, RedisClusterException

from .._support.ages import Ages
from .._support.deadline import deadline
from .clients import AsyncClient, SyncClient, drop_idle
from .rights import Rights, is_refused

Command = tuple[str | bytes | int, ...]
Answers = list[object]

TRIES = 5
REFRESH_PAUSE = 0.1  # seconds between two looks at who has which slots: each costs milliseconds
ASKING: Command = ("ASKING",)
# What a pool wants to know of a connection's use: before redis-py 5.3 the name of a command.
_named = inspect.signature(redis.ConnectionPool.get_connection).parameters.get("command_name")
TAKEN_FOR = () if _named is None or _named.default is not inspect.Parameter.empty else ("EVALSHA",)


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


def _confirmed(answers: Answers, wait: Wait | None) -> Answers:
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


def _commands(requests: Sequence[Request], wait: Wait | None) -> list[Command]:
    commands = [request.command for request in requests]
    return commands if wait is None else [*commands, ("WAIT", *wait)]


# --- one connection -------------------------------------------------------------------------------

Connection = Any  # redis.Connection, or redis.asyncio.Connection: they carry no annotations


def _exchange(connection: Connection, requests: Sequence[Request], wait: Wait | None) -> Answers:
    commands = _commands(requests, wait)

    def send() -> Answers:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_answer(connection) for _ in commands]

    def lost(_error: Exception) -> None:
        connection.disconnect()
        for request in requests:
            request.is_repeated = True

    try:
        answers: Answers = connection.retry.call_with_retry(send, lost)
    except BaseException:
        connection.disconnect()  # an answer may still be on its way
        raise
    return _confirmed(answers, wait)


def _answer(connection: Connection) -> object:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


async def _aexchange(
    connection: Connection, requests: Sequence[Request], commands: Sequence[Command]
) -> Answers:
    async def send() -> Answers:
        await connection.send_packed_command(connection.pack_commands(commands))
        return [await _aanswer(connection) for _ in commands]

    async def lost(_error: Exception) -> None:
        await connection.disconnect(nowait=True)
        for request in requests:
            request.is_repeated = True

    try:
        answers: Answers = await connection.retry.call_with_retry(send, lost)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return answers


async def _aanswer(connection: Connection) -> object:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


def _ask(make: Callable[[], Connection], commands: Sequence[Command]) -> Answers | None:
    """Return the answers, by a connection used for nothing else; None: nothing was heard.

    No caller needs them, and a client that is closed meanwhile raises whatever comes.
    """
    try:
        connection = make()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [_answer(connection) for _ in commands]
        finally:
            connection.disconnect()
    except Exception:  # noqa: BLE001 - see above
        return None


async def _aask(make: Callable[[], Connection], commands: Sequence[Command]) -> Answers | None:
    try:
        connection = make()
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _aanswer(connection) for _ in commands]
        finally:
            await connection.disconnect()
    except Exception:  # noqa: BLE001 - the same
        return None


# --- one server, or the primary of a Sentinel service ---------------------------------------------


class Server:
    """The way to one server for threads."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._ages = Ages()

    def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard."""
        pool: Any = self.client.connection_pool
        connection: Connection = pool.get_connection(*TAKEN_FOR)
        try:
            if self._ages.is_old(connection):
                connection.disconnect()
                connection.connect()
            return _exchange(connection, requests, wait)
        finally:
            pool.release(connection)

    def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers to something that no request needs; None: nothing was heard."""
        pool: Any = self.client.connection_pool
        return _ask(lambda: pool.connection_class(**pool.connection_kwargs), commands)

    def suspect(self, key: str) -> None:
        """Give up connections: something between may have lost them, or it is a replica."""
        self._ages.renew()
        drop_idle(self.client.connection_pool)

    def close(self) -> None:
        """Close the client."""
        self.client.close()


class AsyncServer:
    """The way to one server for one event loop."""

    def __init__(self, client: redis.asyncio.Redis, rights: Rights) -> None:
        self.client = client
        self._rights = rights
        self._ages = Ages()

    def node(self, key: str) -> str:
        """Name the node that has the key: what goes to the same one can travel together."""
        return ""

    async def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard.

        Several loads are one MGET, where that is allowed.
        """
        loads = [request for request in requests if request.command[0] == "GET"]
        if len(loads) < 2 or not self._rights.mget:
            return _confirmed(await self._exchange(requests, _commands(requests, wait)), wait)
        others = [request for request in requests if request.command[0] != "GET"]
        together: Command = ("MGET", *(request.command[1] for request in loads))
        answers = await self._exchange(requests, [together, *_commands(others, wait)])
        values = answers.pop(0)
        if is_refused(values):
            self._rights.mget = False
            values = await self._exchange(loads, _commands(loads, None))
        found = iter(values if isinstance(values, list) else [values] * len(loads))
        rest = iter(_confirmed(answers, wait))
        return [next(found if each.command[0] == "GET" else rest) for each in requests]

    async def _exchange(self, requests: Sequence[Request], commands: Sequence[Command]) -> Answers:
        pool: Any = self.client.connection_pool
        connection: Connection = await pool.get_connection(*TAKEN_FOR)
        try:
            if self._ages.is_old(connection):
                await connection.disconnect()
                await connection.connect()
            return await _aexchange(connection, requests, commands)
        finally:
            await pool.release(connection)

    async def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers to something that no request needs; None: nothing was heard."""
        pool: Any = self.client.connection_pool
        return await _aask(lambda: pool.connection_class(**pool.connection_kwargs), commands)

    async def suspect(self, key: str) -> None:
        """Give up connections: something between may have lost them, or it is a replica."""
        self._ages.renew()
        await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the client."""
        await self.client.aclose()

    def hang_up(self) -> None:
        """Nothing is left to be done when its connections have been cut."""


# --- the nodes of a cluster -----------------------------------------------------------------------

Node = Any  # redis.cluster.ClusterNode, or redis.asyncio.cluster.ClusterNode
Parcel = list[Request]  # what goes to one node, ASKING before what it asks for
Step = tuple[str, Any]  # ("refresh", a node that failed or None) or ("send", [(node, parcel), …])


class _Routes:
    """Which node has which key; what to do when a node says that another has it, or is lost."""

    def __init__(self, client: SyncClient | AsyncClient) -> None:
        self._client: Any = client
        self._refresh_at = 0.0  # monotonic
        self.failed: str | None = None  # the node that was last found not to answer

    def suspect(self, key: str) -> None:
        with contextlib.suppress(RedisClusterException):  # nothing was known of that key's slot
            self.failed = self._client.get_node_from_key(key).name

    def plan(self, requests: Sequence[Request]) -> Generator[Step, Any, Answers]:
        """Yield what is to be done; be sent the answers, parcel by parcel; return them all."""
        if self.failed is not None:
            yield from self._refresh()
        answers: Answers = [None] * len(requests)
        pending: dict[int, object] = dict.fromkeys(range(len(requests)))
        for _ in range(TRIES):
            groups: dict[str, tuple[Node, list[int]]] = {}
            for number, refusal in pending.items():
                node = yield from self._node(requests[number].key, refusal)
                groups.setdefault(node.name, (node, []))[1].append(number)
            parcels = [
                (node, [each for n in numbers for each in _asking(requests[n], pending[n])])
                for node, numbers in groups.values()
            ]
            arrived = yield "send", parcels
            pending = {}
            for (name, (_, numbers)), answered in zip(groups.items(), arrived, strict=True):
                for number, answer in zip(numbers, answered, strict=True):
                    answers[number] = answer
                    if isinstance(answer, AskError | redis.ConnectionError):
                        pending[number] = answer
                    if isinstance(answer, redis.ConnectionError):
                        requests[number].is_repeated = True
                        self.failed = name
            if not pending:
                break
        return answers

    def _node(self, key: str, refusal: object) -> Generator[Step, Any, Node]:
        """Return where to send a request, first or after a refusal."""
        if isinstance(refusal, redis.ConnectionError | MovedError):
            yield from self._refresh()
        if isinstance(refusal, AskError):
            manager = self._client.nodes_manager
            address = manager.remap_host_port(refusal.host, refusal.port)
            node = self._client.get_node(*address)
            if node is None:  # one that has just joined
                self._refresh_at = 0.0
                yield from self._refresh()
                node = self._client.get_node(*address)
            if node is not None:
                return node
        return self._client.get_node_from_key(key)

    def _refresh(self) -> Generator[Step, Any, None]:
        if time.monotonic() < self._refresh_at:
            return
        self._refresh_at = math.inf  # others go on with the table as it is
        try:
            failed, self.failed = self.failed, None
            yield "refresh", failed
        finally:
            self._refresh_at = time.monotonic() + REFRESH_PAUSE


def _asking(request: Request, refusal: object) -> Parcel:
    """Return the request and what must go before it, on the same connection."""
    asks = isinstance(refusal, AskError) and not isinstance(refusal, MovedError)
    return [Request(request.key, ASKING), request] if asks else [request]


def _without_asking(parcel: Parcel, answers: Answers) -> Answers:
    each = zip(parcel, answers, strict=True)
    return [answer for request, answer in each if request.command != ASKING]


def _refreshing(manager: type, failed: str | None) -> dict[str, Any]:
    """Return the argument that has the failed node asked last, where the client knows it."""
    known = inspect.signature(manager.initialize).parameters  # type: ignore[attr-defined]
    return {"last_failed_node_name": failed} if "last_failed_node_name" in known else {}


class Cluster:
    """The way to the nodes of a cluster for threads; the client is made when it is first needed."""

    def __init__(self, make: Callable[[], redis.RedisCluster]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[redis.RedisCluster, _Routes] | None = None

    def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when nothing is heard, or no node knows of the others."""
        client, routes = self._made or self._open()
        plan, arrived = routes.plan(requests), None
        try:
            while True:
                step, given = plan.send(arrived)
                if step == "refresh":
                    manager = client.nodes_manager
                    manager.initialize(**_refreshing(type(manager), given))
                else:
                    arrived = [self._deliver(client, node, parcel, wait) for node, parcel in given]
        except StopIteration as done:
            return cast(Answers, done.value)
        finally:
            plan.close()

    def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers of the key's node to something that no request needs, or None."""

        def make() -> Connection:
            client, _ = self._made or self._open()
            node: Any = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
            pool: Any = client.get_redis_connection(node).connection_pool
            return pool.connection_class(**pool.connection_kwargs)

        return _ask(make, commands)

    def suspect(self, key: str) -> None:
        """Look for the node of the key anew, before it is asked again."""
        if self._made is not None:
            self._made[1].suspect(key)

    def close(self) -> None:
        """Close the client; the next call makes another."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made[0].close()

    def _open(self) -> tuple[redis.RedisCluster, _Routes]:
        left = deadline.left()
        if not self._lock.acquire(timeout=-1 if left == math.inf else max(left, 0)):
            raise redis.TimeoutError
        try:
            if self._made is None:
                client = self._make()
                self._made = client, _Routes(client)
            return self._made
        finally:
            self._lock.release()

    def _deliver(
        self, client: redis.RedisCluster, node: Node, parcel: Parcel, wait: Wait | None
    ) -> Answers:
        answers: Answers
        pool: Any = client.get_redis_connection(node).connection_pool
        try:
            connection: Connection = pool.get_connection(*TAKEN_FOR)
            try:
                answers = _exchange(connection, parcel, wait)
            finally:
                pool.release(connection)
        except redis.ConnectionError as error:
            answers = [error] * len(parcel)
        return _without_asking(parcel, answers)


class AsyncCluster:
    """The way to the nodes of a cluster for one event loop."""

    def __init__(self, client: redis.asyncio.RedisCluster) -> None:
        self.client = client
        self._routes = _Routes(client)

    def node(self, key: str) -> str:
        """Name the node that has the key: what goes to the same one can travel together."""
        try:
            node = self.client.get_node_from_key(key)
        except RedisClusterException:  # nothing is known yet
            return ""
        return "" if node is None else node.name

    async def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when nothing is heard, or no node knows of the others."""
        await self.client.initialize()
        plan, arrived = self._routes.plan(requests), None
        try:
            while True:
                step, given = plan.send(arrived)
                if step == "refresh":
                    manager = self.client.nodes_manager
                    await manager.initialize(**_refreshing(type(manager), given))
                else:
                    calls = [self._deliver(node, parcel, wait) for node, parcel in given]
                    one = len(calls) == 1
                    arrived = [await calls[0]] if one else await asyncio.gather(*calls)
        except StopIteration as done:
            return cast(Answers, done.value)
        finally:
            plan.close()

    async def ask(self, key: str, commands: Sequence[Command]) -> Answers | None:
        """Return the answers of the key's node to something that no request needs, or None."""

        def make() -> Connection:
            node: Any = self.client.get_node_from_key(key)
            return node.connection_class(**node.connection_kwargs)

        return await _aask(make, commands)

    async def suspect(self, key: str) -> None:
        """Look for the node of the key anew, before it is asked again."""
        self._routes.suspect(key)

    async def close(self) -> None:
        """Close the client."""
        await self.client.aclose()

    def hang_up(self) -> None:
        """Say that it was closed: its connections have been."""
        self.client._initialize = True  # noqa: SLF001 - as its own `aclose` does first

    async def _deliver(self, node: Node, parcel: Parcel, wait: Wait | None) -> Answers:
        sent = [
            redis.asyncio.cluster.PipelineCommand(number, *command)
            for number, command in enumerate(_commands(parcel, wait))
        ]
        answers: Answers
        try:
            await node.execute_pipeline(sent)  # which repeats nothing
            answers = _confirmed([each.result for each in sent], wait)
        except redis.RedisError as error:
            answers = [error] * len(parcel)
        return _without_asking(parcel, answers)
