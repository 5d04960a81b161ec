"""Sessions in Memcached, on one server or spread over several: one item per session.

An item is a binary head and then the data: the version (8 bytes, big-endian), the tokens of the
last four writes (8 bytes each, newest first), and the epoch (see `memcached_ring`). A replacement
reads the item, compares the tokens, and swaps it by the server's own compare-and-set; when that is
refused, another look at the tokens tells a command that was repeated from one that lost. The server
expires the items; what is left of a lifetime is not read back, so `Entry.expires` is None.

Each key has one home among the servers, for both colours the same. A server that is down is an
outage for its keys: no other one takes its place, for that would find no session where there is
one. Each look at a session also reads the history that its server keeps; when that is not the one
this process knows, all servers are asked once more what lists were in use.

The order of steps is written once, as generators that yield ``(server, command, *arguments)`` and
are sent the answer. The sync store runs them with pymemcache, the async one with connections of its
own, a set for each event loop, which that loop's own shutdown closes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import pymemcache
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)
from pymemcache.pool import ObjectPool

from ..exceptions import ConfigurationError, StoreUnavailable, TooLarge
from . import memcached_wire as wire
from .base import TOKEN_BYTES, TOKENS_KEPT, Entry, holds_token, new_token, with_token
from .memcached_ring import EPOCH_BYTES, History, Ring, agreed

T = TypeVar("T")
Step = tuple[Any, ...]  # a server, a command and its arguments, which differ
Flow = Generator[Step, Any, T]  # what is sent in is the command's answer
Address = tuple[str, int] | str  # host and port, or the path of a socket

VERSION_BYTES = 8
TOKENS = TOKEN_BYTES * TOKENS_KEPT
HEAD = VERSION_BYTES + TOKENS + EPOCH_BYTES
PREFIX = "sharedsession:"
HISTORY = "servers"  # the item that holds the history; no session has such a key
PORT = 11211
CONNECTIONS = 64  # of the sync store, to each server
LONGEST_KEY = 250
ITEM_OVERHEAD = 60  # bytes that the server needs for an item besides its key and its value
RELATIVE = 30 * 24 * 60 * 60  # seconds; a larger number would be taken for a point in time
LAST_MOMENT = 2**31 - 1  # the latest point in time that servers take
ROUNDS = 5  # in which processes that look at the servers at the same time come to agree
UNASKED = 10.0  # seconds in which a server that did not answer is not asked for its history
SHORT = 0.1  # seconds for a server that has kept somebody waiting in vain,
AGAIN = 2.0  # but for one try in so many seconds, which has its full time
TOO_LARGE = "object too large"

log = logging.getLogger("sharedsession")


class _Patience:
    """Shortens the waits for one server that hangs, beside others that answer at once."""

    def __init__(self) -> None:
        self._hangs = False
        self._retry_at = 0.0  # monotonic

    def seconds(self, most: float) -> float:
        now = time.monotonic()
        if self._hangs and now < self._retry_at:
            return min(most, SHORT)
        self._retry_at = now + AGAIN
        return most

    def note(self, error: Exception | None) -> None:
        """The server has answered, or failed; who fails at once costs nobody any time."""
        self._hangs = isinstance(error, TimeoutError)


class _Verbs:
    """What the sync and the async store share: the steps of each verb."""

    def __init__(self, names: Sequence[str], prefix: str) -> None:
        if not prefix.isascii() or not prefix.isprintable() or " " in prefix or len(prefix) > 100:
            raise ConfigurationError(
                "The prefix of a Memcached store is at most 100 letters, digits and signs."
            )
        if len(set(names)) < len(names):
            raise ConfigurationError("A Memcached server is named twice.")
        self._ring = Ring(names)
        self._prefix = prefix
        self._history: History | None = None
        self._unanswered: dict[str, float] = {}  # servers, and when they failed to
        self._patience = {name: _Patience() for name in names}

    def _new_token(self) -> bytes:
        return new_token()

    def _load(self, key: str) -> Flow[Entry | None]:
        found, _ = yield from self._look(key)
        return found

    def _create(self, key: str, data: bytes, ttl: int) -> Flow[Entry | None]:
        if self._history is None:
            yield from self._agree()
        created, value = self._write(Entry(b"", 0, None, b""), data, 0)
        if (yield from self._store("add", key, value, ttl)):
            return created
        found, cas = yield from self._look(key)
        if found is not None:
            return _repeated(created, found)
        # What had the key has gone since, or was a copy left behind.
        taken = ("add", key, value, ttl) if cas is None else ("cas", key, value, ttl, cas)
        return created if (yield from self._store(*taken)) else None

    def _replace(
        self, key: str, entry: Entry, data: bytes, ttl: int, at_least: int
    ) -> Flow[Entry | None]:
        found, cas = yield from self._look(key)
        replaced, value = self._write(entry, data, at_least)
        if found is not None and found.token == entry.token:
            if (yield from self._store("cas", key, value, ttl, cas)):
                return replaced
            found, _ = yield from self._look(key)
        return None if found is None else _repeated(replaced, found)

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        found, _ = yield from self._look(key)
        if found is None:
            return False
        answer: bool = yield self._ring.home(key), "touch", self._name(key), _expiry(ttl)
        return answer

    def _delete(self, key: str) -> Flow[None]:
        yield self._ring.home(key), "delete", self._name(key)

    def _look(self, key: str) -> Flow[tuple[Entry | None, int | None]]:
        """Return the entry and its cas id: without an entry, that of a copy that does not count."""
        home, name, history = self._ring.home(key), self._name(key), self._name(HISTORY)
        for _ in range(ROUNDS):
            found: wire.Items = yield home, "gets", (history, name)
            text, _ = found.get(history, (b"", 0))
            if self._history is not None and text == self._history.text:
                value, cas = found.get(name, (None, None))
                return self._entry(key, value), cas
            self._unanswered.pop(home, None)
            yield from self._agree()
        raise _disagree()

    def _entry(self, key: str, value: bytes | None) -> Entry | None:
        if value is None or self._history is None:
            return None
        if len(value) < HEAD:
            return Entry(value, 0, None, b"")
        if not self._history.counts(value[HEAD - EPOCH_BYTES : HEAD], key, self._ring.home(key)):
            return None
        version = int.from_bytes(value[:VERSION_BYTES], "big")
        return Entry(value[HEAD:], version, None, value[VERSION_BYTES : VERSION_BYTES + TOKENS])

    def _write(self, old: Entry, data: bytes, at_least: int) -> tuple[Entry, bytes]:
        """Return what will be stored, and the item's value."""
        assert self._history is not None
        earlier = old.token if isinstance(old.token, bytes) else b""
        tokens = with_token(self._new_token(), earlier).ljust(TOKENS, b"\0")
        version = max(old.version, at_least) + 1
        head = version.to_bytes(VERSION_BYTES, "big") + tokens + self._history.epoch
        return Entry(data, version, None, tokens), head + data

    def _store(
        self, command: str, key: str, value: bytes, ttl: int, *cas: int | None
    ) -> Flow[bool]:
        home, name = self._ring.home(key), self._name(key)
        answer = yield home, command, name, value, _expiry(ttl), *cas
        if answer is not TOO_LARGE:
            return bool(answer)
        size, limit = len(value) + len(name) + ITEM_OVERHEAD, (yield home, "limit")
        raise TooLarge(
            f"The session takes {size} bytes, and the Memcached server at {home} keeps at most "
            f"{limit} under one key: keep less in the session, or start the servers with a larger "
            "limit (memcached -I 4m).",
            size,
            limit,
        )

    def _agree(self) -> Flow[None]:
        """Bring all servers that answer to the same history, with this list as its last one."""
        names, name = self._ring.names, self._name(HISTORY)
        for _ in range(ROUNDS):
            found: dict[str, wire.Items] = yield from self._everywhere(
                dict.fromkeys(names, ("gets", (name,)))
            )
            texts = [items[name][0] for items in found.values() if name in items]
            history = agreed(texts, names, self._history)
            commands = {
                each: ("cas", name, history.text, 0, items[name][1])
                if name in items
                else ("add", name, history.text, 0)
                for each, items in found.items()
                if name not in items or items[name][0] != history.text
            }
            if not commands:
                self._history = history
                return
            if texts and history.text not in texts:
                log.warning(
                    "The list of Memcached servers has changed: sessions whose server is another "
                    "one by now are lost. If this is said again and again, not all applications "
                    "that share a server have the same list; give each list a prefix of its own."
                )
            yield from self._everywhere(commands)
        raise _disagree()

    def _everywhere(self, commands: dict[str, Step]) -> Flow[dict[str, Any]]:
        """Return the answers of the servers that answer; an outage, if none does."""
        answers, failure = {}, None
        for each, command in commands.items():
            if time.monotonic() - self._unanswered.get(each, -UNASKED) < UNASKED:
                continue
            try:
                answers[each] = yield each, *command
                self._unanswered.pop(each, None)
            except StoreUnavailable as error:
                failure = error
                self._unanswered[each] = time.monotonic()
        if not answers:
            self._unanswered.clear()
            raise failure or StoreUnavailable("No Memcached server answers.")
        return answers

    def _name(self, key: str) -> str:
        name = self._prefix + key
        if len(name) > LONGEST_KEY or not name.isascii() or not name.isprintable() or " " in name:
            raise ValueError("A key in Memcached is ASCII, short, and without spaces.")
        return name


class MemcachedStore(_Verbs):
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
        named = {_name_of(client.server): client for client in each}
        super().__init__([_name_of(client.server) for client in each], prefix)
        self._nodes = {name: _Node(client) for name, client in named.items()}
        self._timeout: float | None = None
        self._process = os.getpid()
        self._forked = threading.Lock()

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0) -> MemcachedStore:
        """Return a store with clients of its own, whose calls end within ``timeout``."""
        names, prefix = parse(url)
        store = cls([_Pool(_address(name)) for name in names], prefix)
        store._timeout = timeout
        weakref.finalize(store, _close, list(store._nodes.values()), os.getpid())
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._timeout is not None:
            _close(list(self._nodes.values()), self._process)

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._run(self._load(key))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        return self._run(self._create(key, data, ttl))

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return self._run(self._replace(key, entry, data, ttl, at_least))

    def touch(self, key: str, ttl: int) -> bool:
        return self._run(self._touch(key, ttl))

    def delete(self, key: str) -> None:
        self._run(self._delete(key))

    def _run(self, flow: Flow[T]) -> T:
        if self._process != os.getpid():
            self._leave_to_the_parent()
        limit = None if self._timeout is None else _Limit(self._timeout)
        try:
            step = next(flow)
            while True:
                patience = self._patience[step[0]]
                if limit is not None:
                    limit.most = patience.seconds(limit.timeout / 2)
                try:
                    answer = self._nodes[step[0]].ask(limit, *step[1:])
                except Exception as error:  # noqa: BLE001 - any of a client's is an outage
                    patience.note(error)
                    step = flow.throw(_outage(step[0], error))
                else:
                    patience.note(None)
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


class AsyncMemcachedStore(_Verbs):
    """A store in Memcached for asyncio; ``servers`` are names such as ``"host:11211"``.

    It takes no client: it has connections of its own, a set for each event loop it is used on.
    """

    def __init__(
        self, servers: str | Sequence[str], prefix: str = PREFIX, timeout: float = 1.0
    ) -> None:
        each = [servers] if isinstance(servers, str) else servers
        if not isinstance(each, list | tuple) or not all(isinstance(one, str) for one in each):
            raise TypeError(
                "AsyncMemcachedStore needs the names of servers, such as ['host:11211'], not "
                f"{type(servers).__module__}.{type(servers).__name__}: it has connections of its "
                "own. Use MemcachedStore for a pymemcache.PooledClient."
            )
        names = [_normal(one) for one in each]
        super().__init__(names, prefix)
        self._timeout = timeout
        self._lines: _Lines = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        # A keeper that nobody holds any more is closed by its loop, if that still runs.
        weakref.finalize(self, self._lines.clear).atexit = False

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0) -> AsyncMemcachedStore:
        """Return a store whose calls end within ``timeout``."""
        names, prefix = parse(url)
        return cls(names, prefix, timeout)

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        return await self._run(self._load(key))

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        return await self._run(self._create(key, data, ttl))

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        return await self._run(self._replace(key, entry, data, ttl, at_least))

    async def touch(self, key: str, ttl: int) -> bool:
        return await self._run(self._touch(key, ttl))

    async def delete(self, key: str) -> None:
        await self._run(self._delete(key))

    async def _run(self, flow: Flow[T]) -> T:
        loop = asyncio.get_running_loop()
        lines, _ = self._lines.get(loop) or await self._open_lines(loop)
        step = next(flow)
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    patience = self._patience[step[0]]
                    try:
                        answer = await lines.ask(patience.seconds(self._timeout / 2), *step)
                    except (OSError, wire.Refused) as error:
                        patience.note(error)
                        step = flow.throw(_outage(step[0], error))
                    else:
                        patience.note(None)
                        step = flow.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        except TimeoutError as error:
            raise _outage(step[0], error) from None

    async def _open_lines(self, loop: asyncio.AbstractEventLoop) -> tuple[_LoopLines, _Keeper]:
        keeper = _keep(_LoopLines(), self._lines, self._lock)
        kept = (await anext(keeper), keeper)
        with self._lock:
            for other in list(self._lines):
                if other.is_closed():  # without its shutdown, which would have closed the keeper
                    del self._lines[other]
            self._lines[loop] = kept
        return kept


# --- asyncio --------------------------------------------------------------------------------------


class _LoopLines:
    """One event loop's connections, one to each server."""

    def __init__(self) -> None:
        self._open: dict[str, wire.Connection] = {}
        self._dialling: dict[str, asyncio.Task[wire.Connection]] = {}

    async def ask(self, limit: float, name: str, command: str, *arguments: Any) -> Any:
        """Give a command; a connection and an answer may take ``limit`` seconds each."""
        line, read = ASYNC_COMMANDS[command](*arguments)
        connection = self._open.get(name)
        if connection is not None and connection.is_stuck:
            connection.abort()
        if connection is not None and connection.is_open:
            try:
                return await self._answer(limit, connection, line, read)
            except ConnectionError:
                pass  # the server may have been restarted meanwhile: once more
        return await self._answer(limit, await self._dial(limit, name), line, read)

    async def _answer(
        self, limit: float, connection: wire.Connection, line: bytes, read: wire.Read
    ) -> Any:
        try:
            async with asyncio.timeout(limit):
                return await connection.ask(line, read)
        except TimeoutError:
            connection.abort()
            raise
        except wire.Refused as refusal:
            if TOO_LARGE in str(refusal):
                return TOO_LARGE
            raise

    async def _dial(self, limit: float, name: str) -> wire.Connection:
        connection = self._open.get(name)
        if connection is not None and connection.is_open:  # somebody else's, by now
            return connection
        dialling = self._dialling.get(name)
        if dialling is None:
            dialling = asyncio.get_running_loop().create_task(self._connect(limit, name))
            self._dialling[name] = dialling
            dialling.add_done_callback(partial(self._dialled, name))
        await asyncio.wait([dialling])  # cancelled, it leaves the others theirs
        return dialling.result()

    def _dialled(self, name: str, dialling: asyncio.Task[wire.Connection]) -> None:
        del self._dialling[name]
        if not dialling.cancelled():
            dialling.exception()  # nobody may be left to look at it

    async def _connect(self, limit: float, name: str) -> wire.Connection:
        loop, address = asyncio.get_running_loop(), _address(name)
        async with asyncio.timeout(limit):
            if isinstance(address, str):
                _, connection = await loop.create_unix_connection(wire.Connection, address)
            else:
                _, connection = await loop.create_connection(wire.Connection, *address)
        self._open[name] = connection
        return connection

    async def close(self) -> None:
        """End what is being opened, and close what is open."""
        for dialling in list(self._dialling.values()):
            dialling.cancel()
            await asyncio.wait([dialling])
        for connection in self._open.values():
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in self._open.values()))


_Keeper = AsyncGenerator[_LoopLines, None]
_Lines = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[_LoopLines, _Keeper]]


async def _keep(lines: _LoopLines, all_lines: _Lines, lock: threading.Lock) -> _Keeper:
    try:
        yield lines
    finally:
        with lock:
            all_lines.pop(asyncio.get_running_loop(), None)
        await lines.close()


def _put(command: str, name: str, value: bytes, expiry: int, cas: int | None = None) -> bytes:
    words = [command, name, 0, expiry, len(value), *([] if cas is None else [cas])]
    return b"%b\r\n%b\r\n" % (" ".join(map(str, words)).encode("ascii"), value)


def _item_size_max(buffer: bytearray) -> tuple[int, int] | None:
    found = wire.settings(buffer)
    return None if found is None else (int(found[0]["item_size_max"]), found[1])


_STORED = wire.one_of(STORED=True, NOT_STORED=False, EXISTS=False, NOT_FOUND=False)
_TOUCHED = wire.one_of(TOUCHED=True, NOT_FOUND=False)
_DELETED = wire.one_of(DELETED=True, NOT_FOUND=False)

# Any: each command has arguments of its own.
ASYNC_COMMANDS: dict[str, Callable[..., tuple[bytes, wire.Read]]] = {
    "gets": lambda names: (f"gets {' '.join(names)}\r\n".encode("ascii"), wire.items(names)),
    "add": lambda *words: (_put("add", *words), _STORED),
    "cas": lambda *words: (_put("cas", *words), _STORED),
    "touch": lambda name, expiry: (f"touch {name} {expiry}\r\n".encode("ascii"), _TOUCHED),
    "delete": lambda name: (f"delete {name}\r\n".encode("ascii"), _DELETED),
    "limit": lambda: (b"stats settings\r\n", _item_size_max),
}


# --- pymemcache -----------------------------------------------------------------------------------


class _Limit:
    """What is left of the time for a call."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.most = timeout / 2  # for opening a connection, or for an answer
        self._end = time.monotonic() + timeout

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
            self.sock = socket.create_connection(self.server, seconds)
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

    def ask(self, limit: _Limit | None, command: str, *arguments: Any) -> Any:
        if not self._free.acquire(timeout=None if limit is None else limit.seconds()):
            raise TimeoutError("all connections are in use")
        try:
            return self._ask(limit, SYNC_COMMANDS[command], *arguments)
        except MemcacheServerError as error:
            if TOO_LARGE in _words(error):
                return TOO_LARGE
            raise
        finally:
            self._free.release()

    def _ask(self, limit: _Limit | None, command: Callable[..., Any], *arguments: Any) -> Any:
        pool = self.client.client_pool
        while True:
            connection = pool.get()
            is_idle = connection.sock is not None
            try:
                if limit is not None:
                    connection.begin(limit)
                answer = command(connection, *arguments)
            except (ConnectionError, MemcacheUnexpectedCloseError):
                pool.destroy(connection)
                if not is_idle:
                    raise
                # Idle connections do not notice that their server was restarted.
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
            self.client._create_client,
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


def _gets(client: pymemcache.Client, names: tuple[str, ...]) -> wire.Items:
    found = client.gets_many(names)
    return {name: (value, int(cas)) for name, (value, cas) in found.items()}


def _cas(client: pymemcache.Client, name: str, value: bytes, expiry: int, cas: int) -> bool:
    return bool(client.cas(name, value, cas, expiry, noreply=False))


# Any: each command has arguments of its own.
SYNC_COMMANDS: dict[str, Callable[..., Any]] = {
    "gets": _gets,
    "add": lambda client, *words: client.add(*words, noreply=False),
    "cas": _cas,
    "touch": lambda client, *words: client.touch(*words, noreply=False),
    "delete": lambda client, *words: client.delete(*words, noreply=False),
    "limit": lambda client: client.stats("settings")[b"item_size_max"],
}


def _check(client: object) -> None:
    """Refuse a client that answers None for an outage, or that threads must not share."""
    if not isinstance(client, pymemcache.PooledClient):
        raise TypeError(
            "MemcachedStore needs a pymemcache.PooledClient, or a list with one for each server, "
            f"not {type(client).__module__}.{type(client).__name__}: a Client has one connection, "
            "which threads must not share, and a HashClient takes a server that is down for one "
            "that has no session. Under ASGI use AsyncMemcachedStore(['host:11211'])."
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
    """Say whether it writes bytes as they are, and reads them so whoever wrote them: no pickles."""
    try:
        read = [serde.deserialize("key", b"1", 1 << bit) for bit in range(8)]
        return serde.serialize("key", b"1") == (b"1", 0) and read == [b"1"] * 8
    except Exception:  # noqa: BLE001 - it does read them in some way of its own
        return False


# --- names, words and numbers ---------------------------------------------------------------------


def parse(url: str) -> tuple[list[str], str]:
    """Return the names of the servers and the prefix that a URL has; it may not be quoted."""
    form = "memcached://host1:11211,host2:11211 is its form, or memcached:///run/memcached.sock"
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        options, parts = {"": ""}, urlsplit("memcached://")
    prefix = options.pop("prefix", PREFIX)
    if options or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"The Memcached URL cannot be read: {form}, either with ?prefix=… and nothing else."
        )
    path = unquote(parts.path)
    if bool(parts.netloc) == (path not in ("", "/")):
        raise ConfigurationError(f"A Memcached URL names servers, or one socket: {form}.")
    return [_normal(name) for name in parts.netloc.split(",")] if parts.netloc else [path], prefix


def _normal(name: str) -> str:
    """Return a server's name as it stands in the ring: with its port, in small letters."""
    if name.startswith("/"):
        return name
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
    except ValueError:
        host, port = "", 0
    if not host or not port or name.endswith(":") or set(name) & set("/@?# "):
        raise ConfigurationError(
            "A Memcached server is named as host, host:11211 or [::1]:11211, several in a list."
        )
    return _name_of((host, port))


def _name_of(server: Address) -> str:
    if isinstance(server, str):
        return server
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


def _address(name: str) -> Address:
    if name.startswith("/"):
        return name
    host, _, port = name.rpartition(":")
    return host.strip("[]"), int(port)


def _expiry(ttl: int) -> int:
    """Return a lifetime as servers want it: 0 would be for ever, a large one a point in time."""
    seconds = max(1, ttl)
    return seconds if seconds <= RELATIVE else min(int(time.time()) + seconds, LAST_MOMENT)


def _repeated(written: Entry, found: Entry) -> Entry | None:
    """Return what was written when the write is found to have taken place before, else None."""
    tokens, own = cast(bytes, found.token), cast(bytes, written.token)[:TOKEN_BYTES]
    return dataclasses.replace(written, repeated=True) if holds_token(tokens, own) else None


def _disagree() -> StoreUnavailable:
    return StoreUnavailable(
        "The session store (Memcached) failed: processes with different lists of servers are at "
        "work at the same time."
    )


def _outage(name: str, error: Exception) -> StoreUnavailable:
    outage = StoreUnavailable(f"The session store (Memcached at {name}) failed: {_words(error)}")
    outage.__cause__ = error
    return outage


def _words(error: Exception) -> str:
    """Return what may be told of an error: no key, and nothing of a session."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, MemcacheUnexpectedCloseError):
        return "the server closed the connection"
    if isinstance(error, MemcacheServerError | MemcacheClientError) and error.args:
        told = error.args[0]
        return told.decode("ascii", "replace") if isinstance(told, bytes) else type(error).__name__
    if isinstance(error, OSError | wire.Refused):
        return str(error) or type(error).__name__
    return type(error).__name__
