"""How commands reach the nodes of a cluster.

Redirections are followed here, not by the client: its own way breaks a pipeline up, sends ASKING on
another connection than the command (asyncio), and sleeps. The steps are a generator
(`_Routes.plan`), which a sync and an async driver run. The client keeps the table of slots, and its
nodes' connections; these do not grow old: a node that is the primary no more redirects, or says
that it is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.cluster
import redis.retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, RedisClusterException

from ..._core.per_process import PerProcess
from .._support.addresses import in_url
from .._support.deadline import deadline
from . import compat
from .clients import AsyncClient, SyncClient
from .connections import CONNECTIONS, Connection, NotedConnection, Opened, keeping, noted, settings
from .servers import (
    Answers,
    Command,
    Request,
    Wait,
    ask,
    awaited_ask,
    commands_of,
    confirmed,
    exchange_as_configured,
)
from .url import Options, Place, connection_class, library

TRIES = 5
REFRESH_PAUSE = 0.1  # seconds between two looks at who has which slots: each costs milliseconds
ASKING: Command = ("ASKING",)

# --- the clients ----------------------------------------------------------------------------------


def _options(place: Place, timeout: float) -> Options:
    given = {name: place.options[name] for name in place.options.keys() - {"host", "port", "db"}}
    return {**settings(timeout), "max_connections": CONNECTIONS, **given}


def make_client(place: Place, timeout: float) -> redis.RedisCluster:
    """Return a client of the place; this asks its nodes who has what."""
    options = {"timeout": timeout / 2, **_options(place, timeout)}
    options["connection_class"] = keeping(connection_class(place), timeout / 2, pooled=True)
    options["retry"] = redis.retry.Retry(NoBackoff(), 1, (redis.ConnectionError,))
    pool = functools.partial(redis.BlockingConnectionPool, **options)
    first, *others = [library.cluster.ClusterNode(*host) for host in place.hosts]
    return redis.RedisCluster(
        url=f"redis://{in_url(first.host)}:{first.port}",
        startup_nodes=others,
        retry=redis.retry.Retry(NoBackoff(), 0),
        require_full_coverage=False,
        connection_pool_class=pool,
        protocol=2,
    )


def make_async_client(place: Place, timeout: float, opened: Opened) -> redis.asyncio.RedisCluster:
    """Return a client of the place for the running loop, whose connections ``opened`` is to hold.

    Nothing is asked yet. Its waits have no timeouts: one clock over a whole flight costs less.
    """
    options = {**_options(place, timeout), "socket_timeout": place.options.get("socket_timeout")}
    for of_a_pool in ("connection_class", "timeout"):
        options.pop(of_a_pool, None)
    client = redis.asyncio.RedisCluster(
        startup_nodes=[redis.asyncio.cluster.ClusterNode(*host) for host in place.hosts],
        require_full_coverage=False,
        ssl=place.is_encrypted,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
        **options,
    )
    kind = noted(connection_class(place, asynchronous=True), opened)
    client.connection_kwargs["connection_class"] = kind  # which it takes only from itself
    for node in compat.startup_nodes(client):
        node.connection_class = kind
    return client


# --- the nodes ------------------------------------------------------------------------------------

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


class Cluster:
    """The way to the nodes of a cluster for threads; the client is made when it is first needed."""

    def __init__(self, make: Callable[[], redis.RedisCluster]) -> None:
        self._make = make
        self._lock = PerProcess(threading.Lock)
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
                    manager.initialize(**compat.refreshing(manager, given))
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

        return ask(make, commands)

    def suspect(self, key: str) -> None:
        """Look for the node of the key anew, before it is asked again."""
        if self._made is not None:
            self._made[1].suspect(key)

    def close(self) -> None:
        """Close the client; the next call makes another."""
        with self._lock.own():
            made, self._made = self._made, None
        if made is not None:
            made[0].close()

    def _open(self) -> tuple[redis.RedisCluster, _Routes]:
        left = deadline.left()
        lock = self._lock.own()
        if not lock.acquire(timeout=-1 if left == math.inf else max(left, 0)):
            raise redis.TimeoutError
        try:
            if self._made is None:
                client = self._make()
                self._made = client, _Routes(client)
            return self._made
        finally:
            lock.release()

    def _deliver(
        self, client: redis.RedisCluster, node: Node, parcel: Parcel, wait: Wait | None
    ) -> Answers:
        answers: Answers
        pool: Any = client.get_redis_connection(node).connection_pool
        try:
            connection: Connection = pool.get_connection(*compat.TAKEN_FOR)
            try:
                answers = exchange_as_configured(connection, parcel, wait)
            finally:
                pool.release(connection)
        except redis.ConnectionError as error:
            answers = [error] * len(parcel)
        return _without_asking(parcel, answers)


class AsyncCluster:
    """The way to the nodes of a cluster for one event loop."""

    def __init__(
        self, client: redis.asyncio.RedisCluster, opened: Iterable[NotedConnection] = ()
    ) -> None:
        self.client = client
        self._opened = opened  # connections that were made for its loop
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
                    await manager.initialize(**compat.refreshing(manager, given))
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

        async def make() -> Connection:
            node: Any = self.client.get_node_from_key(key)
            return node.connection_class(**node.connection_kwargs)

        return await awaited_ask(make, commands)

    async def suspect(self, key: str) -> None:
        """Look for the node of the key anew, before it is asked again."""
        self._routes.suspect(key)

    async def close(self) -> None:
        """Close the client."""
        await self.client.aclose()

    def hang_up(self) -> None:
        """Cut its connections, and say that it was closed."""
        for connection in list(self._opened):
            connection.abort()
        self.client._initialize = True  # noqa: SLF001 - as its own `aclose` does first

    async def _deliver(self, node: Node, parcel: Parcel, wait: Wait | None) -> Answers:
        sent = [
            redis.asyncio.cluster.PipelineCommand(number, *command)
            for number, command in enumerate(commands_of(parcel, wait))
        ]
        answers: Answers
        try:
            await node.execute_pipeline(sent)  # which repeats nothing
            answers = confirmed([each.result for each in sent], wait)
        except redis.RedisError as error:
            answers = [error] * len(parcel)
        return _without_asking(parcel, answers)
