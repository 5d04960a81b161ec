"""Sessions in Redis or Valkey: one string per session, a binary head and then the data.

The head is the version (8 bytes, big-endian) and the tokens of the last four writes (8 bytes each,
newest first). A write is one script: it compares the stored tokens with those that were loaded,
swaps the whole string when they are the same, and otherwise looks for the write's own token, so a
command that was sent twice because its answer was lost finds itself. A script that removes compares
in the same way. The server expires the keys; what is left of a lifetime is not read back, so
`Entry.expires` is None.

An async client belongs to the event loop that made it. Each loop is given its own, held by an
async generator: the loop's own shutdown closes that, and with it the client and its sockets.

`clients` makes the clients, `routes` knows which server has a key, in `lines` commands of asyncio
that wait at the same time travel together, and `pushes` hears what the server tells of writes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import re
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import cast

import redis
import redis.asyncio
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
)

from ...exceptions import ConfigurationError, StoreFull, StoreUnavailable
from ..base import TOKEN_BYTES, TOKENS_KEPT, Entry, Event, fate_of, new_token, with_token
from ..loops import Loops
from ..waiting import within
from .clients import (
    CLUSTERS,
    AsyncClient,
    NotedConnection,
    Place,
    SyncClient,
    check_client,
    make_async_client,
    make_client,
    name_of,
    read_url,
    replicas,
)
from .lines import Lines
from .pushes import beats_of, listen
from .routes import Answers, Cluster, Command, Request, Server, Unconfirmed, Wait
from .scripts import ERASE, ERASE_CONFIRMED, LOOK, SHAS, SWAP, bring_script

VERSION_BYTES = 8
TOKENS = TOKEN_BYTES * TOKENS_KEPT
HEAD = VERSION_BYTES + TOKENS
PREFIX = "sharedsession:"
BEAT_TTL = 10  # seconds

# After one of these the other connections are suspect too: something between may have lost them, or
# they lead to a server that is the primary no more, or is cut off from the others. redis-py knows
# some of the codes; of all it leaves the text, and a server before Redis 7 wraps what a script met.
TIMEOUTS = (redis.TimeoutError, TimeoutError)
REPLACED = (ReadOnlyError, ClusterDownError, BusyLoadingError, Unconfirmed)  # MASTERDOWN as well
SAID = re.compile(
    r"(?:^|-)(READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|LOADING|UNBLOCKED)\b"
)
FULL = re.compile(r"(?:^|-)OOM command not allowed")
OUTAGES = (redis.RedisError, RedisClusterException, OSError)  # asyncio's timeout is an OSError
WAIT_SHARE = 5  # replicas may take this fraction of the timeout, twice: with a script that is new

log = logging.getLogger("sharedsession")


class _Verbs:
    """What the sync and the async store share: commands, and what their answers mean."""

    _prefix: str
    _wait: Wait | None
    _place: str

    def __init__(
        self,
        place: str,
        prefix: str,
        wait_replicas: int,
        timeout: float = 1.0,
        *,
        spreads: bool,
    ) -> None:
        self.spreads = spreads  # over several servers: keys are not loaded together
        count = replicas(wait_replicas)
        self._wait = Wait(count, int(timeout * 1000 / WAIT_SHARE)) if count else None
        self._prefix = prefix
        self._place = place
        self._looks = LOOKS

    def _new_token(self) -> bytes:
        return new_token()

    def _entry(self, value: object) -> Entry | None:
        if not isinstance(value, bytes):
            return None
        if len(value) < HEAD:
            return Entry(value, 0, None, b"")
        version = int.from_bytes(value[:VERSION_BYTES], "big")
        return Entry(value[HEAD:], version, None, value[VERSION_BYTES:HEAD])

    def _load(self, key: str) -> Request:
        key = self._prefix + key
        return Request(key, ("GET", key))

    def _looks_at(self, keys: Sequence[str]) -> list[Request]:
        """Return what is to be asked to learn of all: in a cluster, of one key after the other."""
        names = [self._prefix + key for key in keys]
        groups = [[name] for name in names] if self.spreads else [names]
        return [Request(each[0], ("EVALSHA", SHAS[LOOK], len(each), *each)) for each in groups]

    def _found(self, answers: list[object], now: float) -> list[Entry | None]:
        """Return what the answers show; they were asked for then, or later."""
        found = []
        for value, left in chain.from_iterable(cast("list[list[tuple[object, int]]]", answers)):
            entry = self._entry(value)
            if entry is not None and left >= 0:
                entry = dataclasses.replace(entry, expires=now + left / 1000)
            found.append(entry)
        return found

    def _beat(self, listener: str, number: int) -> Request:
        key = f"{beats_of(self._prefix)}{listener}:{number}"
        return Request(key, ("SET", key, b"", "EX", BEAT_TTL))

    def _write(
        self, key: str, entry: Entry | None, data: bytes, ttl: int, at_least: int = 0
    ) -> tuple[Entry, Request]:
        """Return what will be stored, and the request; without an entry the key must be free."""
        condition = "NX" if entry is None else "XX"
        old = entry or Entry(b"", 0, None, b"")
        expected = _tokens(old)
        tokens = with_token(self._new_token(), expected).ljust(TOKENS, b"\0")
        version = max(old.version, at_least) + 1
        value = version.to_bytes(VERSION_BYTES, "big") + tokens + data
        key = self._prefix + key
        command = ("EVALSHA", SHAS[SWAP], 1, key, expected, value, ttl, condition)
        return Entry(data, version, None, tokens), Request(key, command)

    def _written(
        self, written: Entry, old: Entry | None, request: Request, answer: object
    ) -> Entry | None:
        """Return what the script's answer says of a write: done, done before, or in whose way."""
        if answer == 1:
            return written
        if answer == 2:
            return dataclasses.replace(written, repeated=True)
        kept, compared = cast(bytes, answer), b"" if old is None else _tokens(old)
        own, repeated = _tokens(written)[:TOKEN_BYTES], request.is_repeated
        if fate_of(kept, own, compared, repeated=repeated) == "unknown":
            raise self._outage("an answer was lost, and others have written too often since")
        return None

    def _touch(self, key: str, ttl: int) -> Request:
        key = self._prefix + key
        return Request(key, ("EXPIRE", key, ttl))

    def _delete(self, key: str, entry: Entry | None) -> Request:
        key = self._prefix + key
        if entry is None and self._wait is None:
            return Request(key, ("UNLINK", key))
        script = ERASE if self._wait is None else ERASE_CONFIRMED
        expected = () if entry is None else (_tokens(entry),)
        return Request(key, ("EVALSHA", SHAS[script], 1, key, *expected))

    def _curious(self, request: Request) -> list[Request]:
        """Return the request and, the first few times, questions about the server's settings."""
        if not self._looks:
            return [request]
        self._looks -= 1
        return [request, *(Request(request.key, command) for command in SETTINGS)]

    def _learn(self, answers: Answers) -> None:
        """Warn, once, of settings that sign people out; an answer that is an error says nothing."""
        if len(answers) > 1 and self._looks >= 0:
            self._looks = 0
            for warning in _warnings(self._place, answers[1:]):
                log.warning("%s", warning)

    def _failure(self, error: Exception, request: Request) -> StoreUnavailable:
        """Return what an error means: a server that is full did not write, unless it had before."""
        # An "unknown command" goes on to quote the arguments, among them the session's data.
        reason = str(error).split(", with args", 1)[0] or "no answer in time"
        full = isinstance(error, OutOfMemoryError) or FULL.search(reason)
        if full and not request.is_repeated:
            return StoreFull(f"The session store ({self._place}) is full: {reason}")
        return self._outage(reason)

    def _outage(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(f"The session store ({self._place}) failed: {reason}")


class RedisStore(_Verbs):
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
        self._way = _way(client)
        self._timeout: float | None = None

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> RedisStore:
        """Return a store with a client of its own, whose calls end within ``timeout``."""
        place = read_url(url)
        store = cls.__new__(cls)
        spreads = place.kind == "cluster"
        _Verbs.__init__(store, place.name, prefix, place.wait_replicas, timeout, spreads=spreads)
        make = functools.partial(make_client, place, timeout)
        store._way = Cluster(cast(MakesCluster, make)) if store.spreads else _way(make())
        store._timeout = timeout
        weakref.finalize(store, store._way.close)
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._timeout is not None:
            self._way.close()

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._entry(self._run(self._load(key)))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        created, request = self._write(key, None, data, ttl)
        answer = self._run(request, self._wait)
        return self._written(created, None, request, answer)

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        replaced, request = self._write(key, entry, data, ttl, at_least)
        answer = self._run(request, self._wait)
        return self._written(replaced, entry, request, answer)

    def touch(self, key: str, ttl: int) -> bool:
        return bool(self._run(self._touch(key, ttl)))

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        answer = self._run(self._delete(key, entry), self._wait)
        return entry is None or answer == 1

    def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `base.Replicated`; in a cluster, one key after the other."""
        now = time.time()
        return self._found([self._run(each) for each in self._looks_at(keys)], now)

    @property
    def pushes(self) -> bool:
        """A cluster does not: each of its nodes would have to be listened to."""
        return not self.spreads

    def beat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        self._run(self._beat(listener, number))

    def listen(self, listener: str) -> Iterator[Event]:
        """See `base.Pushing`."""
        assert isinstance(self._way, Server)
        return listen(self._way.client, self._prefix, listener)

    def _run(self, request: Request, wait: Wait | None = None) -> object:
        if self._timeout is None:
            return self._try(request, wait)
        with within(self._timeout):
            return self._try(request, wait)

    def _try(self, request: Request, wait: Wait | None) -> object:
        answer = self._answer_to(request, wait)
        if _refused(answer):
            answer = self._answer_to(request, wait)
        if isinstance(answer, Exception):
            raise self._failure(answer, request) from answer
        return answer

    def _answer_to(self, request: Request, wait: Wait | None) -> object:
        answer: object
        try:
            answer = self._ask(request, wait)
            if isinstance(answer, NoScriptError):
                bring_script(request)
                answer = self._way.send([request], wait)[0]
        except OUTAGES as error:
            answer = error
        if _suspicious(answer, owned=self._timeout is not None):
            self._way.suspect(request.key)
        return answer

    def _ask(self, request: Request, wait: Wait | None) -> object:
        requests = self._curious(request)
        try:
            answers = self._way.send(requests, wait)
        except redis.ConnectionError:
            if len(requests) == 1:
                raise
            answers = self._way.send([request], wait)  # there are proxies that hang up on questions
        self._learn(answers)
        return answers[0]


class AsyncRedisStore(_Verbs):
    """A store in Redis for asyncio; ``client`` is used as it was configured, on one event loop.

    It is a `redis.asyncio.Redis`, also one from ``Sentinel.master_for``, or a
    `redis.asyncio.RedisCluster`. ``wait_replicas`` as for `RedisStore`.
    """

    def __init__(self, client: AsyncClient, prefix: str = PREFIX, wait_replicas: int = 0) -> None:
        check_client(client, "AsyncRedisStore")
        super().__init__(
            name_of(client), prefix, wait_replicas, spreads=isinstance(client, CLUSTERS)
        )
        self._loops, self._owned = Loops(_on_one_loop(client)), False

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> AsyncRedisStore:
        """Return a store that makes one client for each event loop it is used on."""
        place = read_url(url)
        store = cls.__new__(cls)
        spreads = place.kind == "cluster"
        _Verbs.__init__(store, place.name, prefix, place.wait_replicas, timeout, spreads=spreads)
        store._loops = Loops(functools.partial(_make_lines, place, timeout))
        store._owned = True
        return store

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._entry(await self._run(self._load(key)))

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        created, request = self._write(key, None, data, ttl)
        answer = await self._run(request, self._wait)
        return self._written(created, None, request, answer)

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        replaced, request = self._write(key, entry, data, ttl, at_least)
        answer = await self._run(request, self._wait)
        return self._written(replaced, entry, request, answer)

    async def load_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """See `base.Replicated`; in a cluster, one key after the other."""
        now = time.time()
        return self._found([await self._run(each) for each in self._looks_at(keys)], now)

    async def beat(self, listener: str, number: int) -> None:
        """See `base.Pushing`."""
        await self._run(self._beat(listener, number))

    async def touch(self, key: str, ttl: int) -> bool:
        return bool(await self._run(self._touch(key, ttl)))

    async def delete(self, key: str, entry: Entry | None = None) -> bool:
        answer = await self._run(self._delete(key, entry), self._wait)
        return entry is None or answer == 1

    async def _run(self, request: Request, wait: Wait | None = None) -> object:
        lines = await self._loops.here()
        answer = await self._answer_to(lines, request, wait)
        if _refused(answer):
            answer = await self._answer_to(lines, request, wait)
        if isinstance(answer, Exception):
            # Several may have received the same failure: each raises an exception of its own.
            raise self._failure(answer, request) from answer
        return answer

    async def _answer_to(self, lines: Lines, request: Request, wait: Wait | None) -> object:
        line, answer = lines.line(request.key, wait), cast(object, None)
        try:
            if self._looks and not line.busy:
                answers = await line.run_first(self._curious(request))
                self._learn(answers)
                answer = answers[0]
            else:
                answer = await line.run(request)
        except OUTAGES as error:
            answer = error
        if _suspicious(answer, owned=self._owned):
            await lines.way.suspect(request.key)
        return answer


def _make_lines(place: Place, timeout: float) -> Lines:
    opened = weakref.WeakSet[NotedConnection]()
    client = make_async_client(place, timeout, opened)
    # Whoever waits for one flight and goes with the next has waited for the whole timeout.
    return Lines(client, timeout / 2, opened)


def _on_one_loop(client: AsyncClient) -> Callable[[], Lines]:
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
        return Lines(client, None)

    return make


MakesCluster = Callable[[], redis.RedisCluster]


def _way(client: SyncClient) -> Server | Cluster:
    return Cluster(lambda: client) if isinstance(client, redis.RedisCluster) else Server(client)


def _suspicious(answer: object, *, owned: bool) -> bool:
    """Say whether connections should be given up; the user's own only when they lead nowhere."""
    if not isinstance(answer, Exception):
        return False
    replaced = isinstance(answer, REPLACED) or SAID.search(str(answer)) is not None
    return replaced or (owned and isinstance(answer, TIMEOUTS))


def _refused(answer: object) -> bool:
    """Say whether a server did not do what it was told, and another one may be asked instead."""
    return isinstance(answer, redis.ResponseError) and _suspicious(answer, owned=False)


def _tokens(entry: Entry) -> bytes:
    return entry.token if isinstance(entry.token, bytes) else b""


# --- settings of a server that sign people out behind their back ----------------------------------

LOOKS = 3  # first calls that ask for them, until one is answered
SETTINGS: tuple[Command, ...] = (
    ("CONFIG", "GET", "maxmemory-policy"),
    ("CONFIG", "GET", "appendonly"),
    ("CONFIG", "GET", "save"),
)


def _warnings(place: str, answers: Answers) -> list[str]:
    policy, log_kept, snapshots = [_setting(answer) for answer in answers]
    warnings = []
    if policy not in (None, "noeviction"):
        warnings.append(
            f"{place} removes sessions when its memory is full, which signs people out: set "
            f"maxmemory-policy noeviction (it is {policy})."
        )
    if log_kept == "no" and snapshots == "":
        warnings.append(
            f"{place} keeps nothing on disk, so a restart of it signs everybody out: set "
            "appendonly yes."
        )
    return warnings


def _setting(answer: object) -> str | None:
    """Return the value in an answer to CONFIG GET; None when the server would not say."""
    pair = next(iter(answer.items())) if isinstance(answer, dict) and answer else answer
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    value = pair[1]
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
