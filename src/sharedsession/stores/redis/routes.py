"""How commands reach the server that holds their key: one server, or the nodes of a cluster.

A request is a key and a command for it; what comes back for each is its answer, errors that the
server answered with among them. What goes out together to one node is one pipeline, on one
connection; with `Wait` it ends with a WAIT there, which covers the writes of that pipeline alone.

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
from typing import Any, NamedTuple, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.exceptions import AskError, MovedError, RedisClusterException

from ..waiting import deadline
from .clients import AsyncClient, SyncClient

Command = tuple[str | bytes | int, ...]
Request = tuple[str, Command]
Answers = list[object]

TRIES = 5
REFRESH_PAUSE = 0.1  # seconds between two looks at who has which slots: each costs milliseconds
ASKING: Command = ("ASKING",)


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


def _with_wait(commands: Sequence[Command], wait: Wait | None) -> Sequence[Command]:
    return commands if wait is None else [*commands, ("WAIT", *wait)]


# --- one server, or the primary of a Sentinel service ---------------------------------------------


class Server:
    """The way to one server for threads."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard."""
        return _exchange(self.client, [command for _, command in requests], wait)

    def suspect(self, key: str) -> None:
        """Give up idle connections: something between may have lost them, or it is a replica."""
        self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the client."""
        self.client.close()


def _exchange(client: redis.Redis, commands: Sequence[Command], wait: Wait | None) -> Answers:
    if wait is None and len(commands) == 1:
        method: Callable[..., object] = client.execute_command  # it has no annotations
        try:
            return [method(*commands[0])]
        except redis.ResponseError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for command in _with_wait(commands, wait):
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    return _confirmed(pipeline.execute(raise_on_error=False), wait)


class AsyncServer:
    """The way to one server for one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    def node(self, key: str) -> str:
        """Name the node that has the key: what goes to the same one can travel together."""
        return ""

    async def send(self, requests: Sequence[Request], wait: Wait | None = None) -> Answers:
        """Return the answers; raise when the connection breaks or nothing is heard."""
        if wait is None and len(requests) == 1:
            method: Callable[..., Any] = self.client.execute_command
            try:
                return [await method(*requests[0][1])]
            except redis.ResponseError as error:
                return [error]
        joined = sum(command[0] == "GET" for _, command in requests) > 1
        loads = [command[1] for _, command in requests if joined and command[0] == "GET"]
        others = [command for _, command in requests if not joined or command[0] != "GET"]
        pipeline = self.client.pipeline(transaction=False)
        if loads:
            pipeline.execute_command("MGET", *loads)
        for command in _with_wait(others, wait):
            pipeline.execute_command(*command)
        answers = await pipeline.execute(raise_on_error=False)
        values = answers.pop(0) if loads else []
        found = iter(values if isinstance(values, list) else [values] * len(loads))
        rest = iter(_confirmed(answers, wait))
        return [next(found if joined and command[0] == "GET" else rest) for _, command in requests]

    async def suspect(self, key: str) -> None:
        """Give up idle connections: something between may have lost them, or it is a replica."""
        await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the client."""
        await self.client.aclose()

    def hang_up(self) -> None:
        """Nothing is left to be done when its connections have been cut."""


# --- the nodes of a cluster -----------------------------------------------------------------------

Node = Any  # redis.cluster.ClusterNode, or redis.asyncio.cluster.ClusterNode
Parcel = list[tuple[bool, Command]]  # what goes to one node; whether ASKING goes before it
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
                node = yield from self._node(requests[number][0], refusal)
                groups.setdefault(node.name, (node, []))[1].append(number)
            parcels = [
                (node, [(_asks(pending[number]), requests[number][1]) for number in numbers])
                for node, numbers in groups.values()
            ]
            arrived = yield "send", parcels
            pending = {}
            for (name, (_, numbers)), parcel in zip(groups.items(), arrived, strict=True):
                for number, answer in zip(numbers, parcel, strict=True):
                    answers[number] = answer
                    if isinstance(answer, AskError | redis.ConnectionError):
                        pending[number] = answer
                    if isinstance(answer, redis.ConnectionError):
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


def _asks(refusal: object) -> bool:
    return isinstance(refusal, AskError) and not isinstance(refusal, MovedError)


def _flat(parcel: Parcel) -> list[Command]:
    return [
        each for asks, command in parcel for each in ((ASKING, command) if asks else (command,))
    ]


def _without_asking(parcel: Parcel, answers: Answers) -> Answers:
    each = iter(answers)
    return [(next(each), next(each))[1] if asks else next(each) for asks, _ in parcel]


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
        try:
            answers = _exchange(client.get_redis_connection(node), _flat(parcel), wait)
        except redis.ConnectionError as error:
            return [error] * len(parcel)
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

    async def suspect(self, key: str) -> None:
        """Look for the node of the key anew, before it is asked again."""
        self._routes.suspect(key)

    async def close(self) -> None:
        """Close the client."""
        await self.client.aclose()

    def hang_up(self) -> None:
        """Say that it was closed: its connections have been."""
        self.client._initialize = True  # as its own `aclose` does first

    async def _deliver(self, node: Node, parcel: Parcel, wait: Wait | None) -> Answers:
        commands = _with_wait(_flat(parcel), wait)
        sent = [
            redis.asyncio.cluster.PipelineCommand(n, *command) for n, command in enumerate(commands)
        ]
        try:
            await node.execute_pipeline(sent)
        except redis.RedisError as error:
            return [error] * len(parcel)
        return _without_asking(parcel, _confirmed([each.result for each in sent], wait))
