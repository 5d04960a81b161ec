"""Sessions in Redis or Valkey: one string per session, a binary head and then the data.

The head has the version and the tokens of the last few writes. A write is one script: it compares
the stored tokens with those that were loaded, swaps the whole string when they are the same, and
otherwise looks for the write's own token, so a command that was sent twice because its answer was
lost finds itself. A script that removes compares in the same way. The server expires the keys; what
is left of a lifetime is not read back, so `Entry.expires` is None.

An async client belongs to the event loop that made it. Each loop is given its own, held by an
async generator: the loop's own shutdown closes that, and with it the client and its sockets.

`steps` has the verbs; `servers` and `cluster` bring their commands to the server that has the key,
over `connections`; `batching` sends those that wait at the same time together, and `invalidation`
receives what the server publishes about writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from ..._core.extras import missing

try:
    import redis
    import redis.asyncio
except ModuleNotFoundError as error:
    raise missing(error, "redis", "redis") from error
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
    RedisClusterException,
)

from ..._core.runtime import threads_run
from ...exceptions import ConfigurationError
from .._support.checking import transport_finding
from .._support.deadline import within
from .._support.per_loop import Loops
from .._support.verbs import AwaitedVerbs, Flow, PlainVerbs, awaited, plain
from ..base import Event, Finding, Pushing, Replicated
from .batching import Lines
from .checks import push_finding, server_findings
from .clients import CLUSTERS, AsyncClient, SyncClient, check_client, name_of
from .cluster import AsyncCluster, Cluster, make_async_client, make_client
from .connections import NotedConnection
from .invalidation import listen
from .rights import Rights
from .server_settings import LIMIT, QUESTIONS, warn
from .servers import AsyncClientServer, AsyncServer, ClientServer, Request, Server, Unconfirmed
from .steps import Verbs
from .url import Place, read_url

__all__ = ["AsyncRedisStore", "RedisStore"]

T = TypeVar("T")
PREFIX = "sharedsession:"

# After one of these the other connections are suspect too: something between may have lost them, or
# they lead to a server that is the primary no more, or is cut off from the others. redis-py knows
# some of the codes; of all it leaves the text, and a server before Redis 7 wraps what a script met.
TIMEOUTS = (redis.TimeoutError, TimeoutError)
REPLACED = (ReadOnlyError, ClusterDownError, BusyLoadingError, Unconfirmed)  # MASTERDOWN as well
SAID = re.compile(
    r"(?:^|-)(READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|LOADING|UNBLOCKED)\b"
)
OUTAGES = (redis.RedisError, RedisClusterException, OSError)  # asyncio's timeout is an OSError


class RedisStore(Verbs, PlainVerbs):
    """A store in Redis for threads; ``client`` is used as it was configured.

    It is a `redis.Redis`, also one from ``Sentinel.master_for``, or a `redis.RedisCluster`.
    ``wait_replicas`` (default 0): so many replicas must confirm each write, or it is an outage; a
    failover to one of them then forgets nothing.
    """

    blocking = True

    def __init__(self, client: SyncClient, prefix: str = PREFIX, wait_replicas: int = 0) -> None:
        check_client(client, "RedisStore")
        super().__init__(
            name_of(client), prefix, wait_replicas, spreads=isinstance(client, CLUSTERS)
        )
        self._way: Server | ClientServer | Cluster
        self._way = (
            Cluster(lambda: client)
            if isinstance(client, redis.RedisCluster)
            else ClientServer(client)
        )
        self._timeout: float | None = None
        self._url: Place | None = None

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> RedisStore:
        """Return a store with a client of its own, whose calls end within ``timeout``."""
        place = read_url(url)
        store: RedisStore = cls.__new__(cls)
        spreads = place.kind == "cluster"
        Verbs.__init__(store, place.name, prefix, place.wait_replicas, timeout, spreads=spreads)
        store._way = (
            Cluster(partial(make_client, place, timeout)) if spreads else Server(place, timeout)
        )
        store._timeout = timeout
        store._url = place
        weakref.finalize(store, store._way.close)
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._timeout is not None:
            self._way.close()

    load_all = plain(Replicated.load_all)
    heartbeat = plain(Pushing.heartbeat)

    @property
    def pushes(self) -> bool:
        """A cluster does not: each of its nodes would have to be listened to."""
        return not self.spreads

    def listen(self, listener: str) -> Iterator[Event]:
        """See `base.Pushing`."""
        assert not isinstance(self._way, Cluster)
        return listen(self._way.connect, self._prefix, listener)

    def examine(self) -> Iterator[Finding]:
        """See `base.Checkable`; in a cluster one of the nodes is asked, and stands for all."""
        self.load(PREFIX)  # raises, where nothing answers
        yield from server_findings(self._place, self._question)
        if self._url is not None:
            yield transport_finding(
                encrypted=self._url.is_encrypted,
                hosts=self._url.names,
                advice="Write rediss:// for redis://, and valkeys:// for valkey://.",
            )
        if self.pushes:
            yield push_finding(self.listen, self.heartbeat)
        else:
            yield Finding("ok", "A cluster pushes no writes: near_cache keeps copies for a second.")

    def _question(self, *words: str) -> object:
        """Return the answer to a question about the server, or the error that came of it."""
        key = self._prefix
        try:
            with within(self._timeout):
                return self._way.send([Request(key, words)])[0]
        except OUTAGES as error:  # there are proxies that hang up
            return error

    def _run(self, flow: Flow[T]) -> T:
        with within(self._timeout):
            return super()._run(flow)

    def _ask(self, asked: Request) -> object:
        for again in (True, False):
            answer = self._answer_to(asked)
            if not isinstance(answer, Exception):
                if threads_run() and self._look.begin():
                    self._start_to_look(asked.key)
                break
            if _suspicious(answer, owned=self._timeout is not None):
                self._way.suspect(asked.key)
            if not (again and _refused(answer)):
                raise self._failure(answer, asked) from answer
            asked.is_repeated = asked.wait is not None  # what replicas did not confirm was done
        return answer

    def _answer_to(self, request: Request) -> object:
        self._rights.apply(request)
        try:
            answer = self._way.send([request], request.wait)[0]
            while self._rights.do_without(request, answer):
                answer = self._way.send([request], request.wait)[0]
        except OUTAGES as error:
            return error
        return answer

    def _start_to_look(self, key: str) -> None:
        try:
            threading.Thread(target=self._look_at, args=[key], daemon=True).start()
        except RuntimeError:  # there are too many, or the interpreter is about to end
            self._look.end(answered=False)

    def _look_at(self, key: str) -> None:
        """Look at the server's settings, in a thread that no request waits for."""
        found = [self._way.ask(key, commands) for commands in QUESTIONS]
        self._look.end(answered=warn(self._place, found))


class AsyncRedisStore(Verbs, AwaitedVerbs):
    """A store in Redis for asyncio; ``client`` is used as it was configured, on one event loop.

    It is a `redis.asyncio.Redis`, also one from ``Sentinel.master_for``, or a
    `redis.asyncio.RedisCluster`. ``wait_replicas`` as for `RedisStore`.
    """

    def __init__(self, client: AsyncClient, prefix: str = PREFIX, wait_replicas: int = 0) -> None:
        check_client(client, "AsyncRedisStore")
        super().__init__(
            name_of(client), prefix, wait_replicas, spreads=isinstance(client, CLUSTERS)
        )
        self._loops, self._owned = Loops(_on_one_loop(client, self._rights)), False

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> AsyncRedisStore:
        """Return a store that makes one client for each event loop it is used on."""
        place = read_url(url)
        store: AsyncRedisStore = cls.__new__(cls)
        spreads = place.kind == "cluster"
        Verbs.__init__(store, place.name, prefix, place.wait_replicas, timeout, spreads=spreads)
        store._loops = Loops(partial(_make_lines, place, timeout, store._rights))
        store._owned = True
        return store

    load_all = awaited(Replicated.load_all)
    heartbeat = awaited(Pushing.heartbeat)

    async def _ask(self, asked: Request) -> object:
        lines = self._loops.known() or await self._loops.here()
        for again in (True, False):
            answer: object
            try:
                answer = await lines.line(asked.key, asked.wait).run(asked)
            except OUTAGES as error:
                answer = error
            if not isinstance(answer, Exception):
                if self._look.begin():
                    lines.start(self._look_at(lines, asked.key)).add_done_callback(self._end)
                break
            if _suspicious(answer, owned=self._owned):
                await lines.way.suspect(asked.key)
            if not (again and _refused(answer)):
                # Several may have received the same failure: each raises an exception of its own.
                raise self._failure(answer, asked) from answer
            asked.is_repeated = asked.wait is not None
        return answer

    async def _look_at(self, lines: Lines, key: str) -> bool:
        """Look at the server's settings, and say whether it would tell."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                found = [await lines.way.ask(key, commands) for commands in QUESTIONS]
                return warn(self._place, found)
        return False

    def _end(self, asking: asyncio.Task[bool]) -> None:
        self._look.end(answered=not asking.cancelled() and asking.result())


def _make_lines(place: Place, timeout: float, rights: Rights) -> Lines:
    opened = weakref.WeakSet[NotedConnection]()
    # A caller that waited for one flight and goes with the next has used its timeout.
    way = (
        AsyncCluster(make_async_client(place, timeout, opened), opened)
        if place.kind == "cluster"
        else AsyncServer(place, timeout, rights, opened)
    )
    return Lines(way, timeout / 2, rights)


def _on_one_loop(client: AsyncClient, rights: Rights) -> Callable[[], Lines]:
    """Return what makes the lines of the user's own client, on the first loop that asks."""
    home: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    def make() -> Lines:
        loop = asyncio.get_running_loop()
        if home and home[0]() is not loop:
            raise ConfigurationError(
                "The client of this AsyncRedisStore belongs to the event loop on which it was "
                "first used, and this is another one: make a client and a store on each loop, "
                "or give the store's URL, from which each loop is given its own client."
            )
        home[:] = [weakref.ref(loop)]
        way = (
            AsyncCluster(client)
            if isinstance(client, redis.asyncio.RedisCluster)
            else AsyncClientServer(client, rights)
        )
        return Lines(way, None, rights)

    return make


def _suspicious(answer: object, *, owned: bool) -> bool:
    """Say whether connections should be given up; the user's own only when they lead nowhere."""
    if not isinstance(answer, Exception):
        return False
    replaced = isinstance(answer, REPLACED) or SAID.search(str(answer)) is not None
    return replaced or (owned and isinstance(answer, TIMEOUTS))


def _refused(answer: object) -> bool:
    """Say whether a server did not do what it was told, and another one may be asked instead."""
    return isinstance(answer, redis.ResponseError) and _suspicious(answer, owned=False)
