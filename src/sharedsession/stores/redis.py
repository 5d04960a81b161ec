"""Sessions in Redis or Valkey: one string per session, a binary head and then the data.

The head is the version (8 bytes, big-endian) and the tokens of the last four writes (8 bytes each,
newest first). A write is one script: it compares the stored tokens with those that were loaded,
swaps the whole string when they are the same, and otherwise looks for the write's own token, so a
command that was sent twice because its answer was lost finds itself. The server expires the keys;
what is left of a lifetime is not read back, so `Entry.expires` is None.

Under asyncio, commands that wait at the same time travel together. With nothing in flight a command
goes directly, in its caller's own task; whatever arrives meanwhile gathers, and goes next, all at
once, in a task of its own, which nobody's cancellation ends.

An async client belongs to the event loop that made it. Each loop is given its own, held by an
async generator: the loop's own shutdown closes that, and with it the client and its sockets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import inspect
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from ..exceptions import ConfigurationError, StoreUnavailable
from .base import TOKEN_BYTES, TOKENS_KEPT, Entry, new_token, with_token

VERSION_BYTES = 8
TOKENS = TOKEN_BYTES * TOKENS_KEPT
HEAD = VERSION_BYTES + TOKENS
PREFIX = "sharedsession:"
CONNECTIONS = 64
MOST_COMMANDS = 128
MOST_BYTES = 2**20

# ARGV: the tokens that were loaded, the new string, its lifetime, NX (create) or XX (replace).
SWAP = """
local tokens = redis.call('GETRANGE', KEYS[1], 8, 39)
if tokens == ARGV[1] and redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3], ARGV[4]) then
  return 1
end
local own = string.sub(ARGV[2], 9, 16)
for start = 1, #tokens, 8 do
  if string.sub(tokens, start, start + 7) == own then return 2 end
end
return 0
"""
SWAP_SHA = hashlib.sha1(SWAP.encode(), usedforsecurity=False).hexdigest()

Command = tuple[str | bytes | int, ...]
Answer = bytes | int | None
Client = redis.Redis | redis.asyncio.Redis
# After one of these the idle connections are suspect too: something between may have lost them.
TIMEOUTS = (redis.TimeoutError, TimeoutError)
OUTAGES = (redis.RedisError, OSError)  # asyncio's timeout is an OSError


class _Verbs:
    """What the sync and the async store share: commands, and what their answers mean."""

    _prefix: str

    def _new_token(self) -> bytes:
        return new_token()

    def _entry(self, value: Answer) -> Entry | None:
        if not isinstance(value, bytes):
            return None
        if len(value) < HEAD:
            return Entry(value, 0, None, b"")
        version = int.from_bytes(value[:VERSION_BYTES], "big")
        return Entry(value[HEAD:], version, None, value[VERSION_BYTES:HEAD])

    def _write(
        self, key: str, entry: Entry | None, data: bytes, ttl: int, at_least: int = 0
    ) -> tuple[Entry, Command]:
        """Return what will be stored, and the command; without an entry the key must be free."""
        condition = "NX" if entry is None else "XX"
        old = entry or Entry(b"", 0, None, b"")
        expected = old.token if isinstance(old.token, bytes) else b""
        tokens = with_token(self._new_token(), expected).ljust(TOKENS, b"\0")
        version = max(old.version, at_least) + 1
        value = version.to_bytes(VERSION_BYTES, "big") + tokens + data
        command = ("EVALSHA", SWAP_SHA, 1, self._prefix + key, expected, value, ttl, condition)
        return Entry(data, version, None, tokens), command


class RedisStore(_Verbs):
    """A store in Redis for threads; ``client`` is a `redis.Redis`, used as it was configured."""

    blocking = True

    def __init__(self, client: redis.Redis, prefix: str = PREFIX) -> None:
        _check(client, redis.Redis, "RedisStore")
        self._client = client
        self._prefix = prefix
        self._owned = False

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> RedisStore:
        """Return a store with a client of its own, whose calls end within ``timeout``."""
        _check_url(url)
        pool = redis.BlockingConnectionPool.from_url(url, **_settings(redis.retry.Retry, timeout))
        store = cls(redis.Redis.from_pool(pool), prefix)
        store._owned = True
        weakref.finalize(store, pool.disconnect)
        return store

    def close(self) -> None:
        """Close the connections that were made from a URL; the next call opens new ones."""
        if self._owned:
            self._client.close()

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._entry(self._run(("GET", self._prefix + key)))

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        created, command = self._write(key, None, data, ttl)
        return _written(created, self._run(command))

    def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        replaced, command = self._write(key, entry, data, ttl, at_least)
        return _written(replaced, self._run(command))

    def touch(self, key: str, ttl: int) -> bool:
        return bool(self._run(("EXPIRE", self._prefix + key, ttl)))

    def delete(self, key: str) -> None:
        self._run(("UNLINK", self._prefix + key))

    def _run(self, command: Command) -> Answer:
        try:
            try:
                return cast(Answer, _execute(self._client, *command))
            except NoScriptError:
                return cast(Answer, _execute(self._client, *_whole_script(command)))
        except OUTAGES as error:
            if self._owned and isinstance(error, TIMEOUTS):
                self._client.connection_pool.disconnect(inuse_connections=False)
            raise _outage(self._client, error) from error


class AsyncRedisStore(_Verbs):
    """A store in Redis for asyncio; ``client`` is a `redis.asyncio.Redis`, used as configured."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str = PREFIX) -> None:
        _check(client, redis.asyncio.Redis, "AsyncRedisStore")
        self._make_client: Callable[[], redis.asyncio.Redis] = lambda: client
        self._prefix = prefix
        self._limit: float | None = None
        self._lines: _Lines = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        # A keeper that nobody holds any more is closed by its loop, if that still runs.
        weakref.finalize(self, self._lines.clear).atexit = False

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0, prefix: str = PREFIX) -> AsyncRedisStore:
        """Return a store that makes one client for each event loop it is used on."""
        _check_url(url)
        # One clock over a whole flight, not one for each of its answers: it costs less, too.
        settings = _settings(redis.asyncio.retry.Retry, timeout) | {"socket_timeout": None}

        def make_client() -> redis.asyncio.Redis:
            pool = redis.asyncio.BlockingConnectionPool.from_url(url, **settings)
            return redis.asyncio.Redis.from_pool(pool)

        store = cls(make_client(), prefix)
        store._make_client = make_client
        store._limit = timeout / 2
        return store

    async def load(self, key: str, at_least: int = 0) -> Entry | None:
        return self._entry(await self._run(("GET", self._prefix + key)))

    async def create(
        self, key: str, data: bytes, ttl: int, owner: str | None = None
    ) -> Entry | None:
        created, command = self._write(key, None, data, ttl)
        return _written(created, await self._run(command))

    async def replace(
        self,
        key: str,
        entry: Entry,
        data: bytes,
        ttl: int,
        owner: str | None = None,
        at_least: int = 0,
    ) -> Entry | None:
        replaced, command = self._write(key, entry, data, ttl, at_least)
        return _written(replaced, await self._run(command))

    async def touch(self, key: str, ttl: int) -> bool:
        return bool(await self._run(("EXPIRE", self._prefix + key, ttl)))

    async def delete(self, key: str) -> None:
        await self._run(("UNLINK", self._prefix + key))

    async def _run(self, command: Command) -> Answer:
        loop = asyncio.get_running_loop()
        line, _ = self._lines.get(loop) or await self._open_line(loop)
        answer: Answer | Exception
        try:
            answer = await line.run(command)
        except OUTAGES as error:
            answer = error
        if isinstance(answer, Exception):
            if line.limit is not None and isinstance(answer, TIMEOUTS):
                await line.client.connection_pool.disconnect(inuse_connections=False)
            # Several may have received the same failure: each raises an exception of its own.
            raise _outage(line.client, answer) from answer
        return answer

    async def _open_line(self, loop: asyncio.AbstractEventLoop) -> tuple[_Line, _Keeper]:
        keeper = _keep_line(_Line(self._make_client(), self._limit), self._lines, self._lock)
        kept = (await anext(keeper), keeper)
        with self._lock:
            for other in list(self._lines):
                if other.is_closed():  # without its shutdown, which would have closed the keeper
                    del self._lines[other]
            self._lines[loop] = kept
        return kept


class _Line:
    """One event loop's way to the server: one flight of commands at a time, the next gathers."""

    def __init__(self, client: redis.asyncio.Redis, limit: float | None) -> None:
        self.client = client
        self.limit = limit  # of a flight, in seconds; None for a client that is the user's own
        self._waiting: list[_Waiting] = []
        self._gathered: list[_Waiting] = []  # what the flight carries that is in a task of its own
        self._in_flight = False
        self._flights: asyncio.Task[None] | None = None

    async def run(self, command: Command) -> Answer | Exception:
        loop = asyncio.get_running_loop()
        if self._in_flight and not self._abandoned():
            answer: asyncio.Future[Answer | Exception] = loop.create_future()
            self._waiting.append((command, answer))
            return await answer
        self._in_flight = True
        try:
            async with asyncio.timeout(self.limit):
                return await self._alone(command)
        finally:
            self._in_flight = bool(self._waiting)
            if self._waiting:
                self._flights = loop.create_task(self._fly())

    def _abandoned(self) -> bool:
        """Whether all who wait for the flight have given up: it must not hold up others too."""
        return bool(self._gathered) and all(answer.done() for _, answer in self._gathered)

    async def close(self) -> None:
        """End what is in flight, and the client that was made for this loop."""
        if self._flights is not None and not self._flights.done():
            self._flights.cancel()
            await asyncio.wait([self._flights])
        if self.limit is not None:
            await self.client.aclose()

    async def _fly(self) -> None:
        gathered: list[_Waiting] = []
        try:
            while self._waiting:
                # Who was cancelled while waiting no longer wants the command to be run.
                gathered = [waiting for waiting in self._waiting if not waiting[1].done()]
                self._waiting, self._gathered = [], gathered
                batches = [self._answer(batch) for batch in _batches(gathered)]
                await (batches[0] if len(batches) == 1 else asyncio.gather(*batches))
        finally:
            self._in_flight = False
            self._gathered = []
            # Nobody is left without an answer when the loop's shutdown ends a flight.
            left, self._waiting = [*gathered, *self._waiting], []
            _settle(left, [ConnectionError("the event loop is closing")] * len(left))

    async def _answer(self, batch: list[_Waiting]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            async with asyncio.timeout(self.limit):
                answers = await self._with_scripts([command for command, _ in batch])
        except Exception as error:  # noqa: BLE001 - those who wait must learn of it
            answers = [error] * len(batch)
        _settle(batch, answers)

    async def _with_scripts(self, commands: list[Command]) -> list[Answer | Exception]:
        answers = await self._together(commands)
        unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            scripts = await self._together([_whole_script(commands[n]) for n in unknown])
            for n, answer in zip(unknown, scripts, strict=True):
                answers[n] = answer
        return answers

    async def _together(self, commands: list[Command]) -> list[Answer | Exception]:
        if len(commands) == 1:
            return [await self._alone(commands[0])]
        keys = [command[1] for command in commands if command[0] == "GET"]
        pipeline = self.client.pipeline(transaction=False)
        if keys:
            pipeline.execute_command("MGET", *keys)
        for command in commands:
            if command[0] != "GET":
                pipeline.execute_command(*command)
        answers = iter(await pipeline.execute(raise_on_error=False))
        values = next(answers) if keys else []
        loads = iter(values if isinstance(values, list) else [values] * len(keys))
        return [next(loads if command[0] == "GET" else answers) for command in commands]

    async def _alone(self, command: Command) -> Answer:
        try:
            return cast(Answer, await _execute(self.client, *command))
        except NoScriptError:
            return cast(Answer, await _execute(self.client, *_whole_script(command)))


_Waiting = tuple[Command, asyncio.Future[Answer | Exception]]
_Keeper = AsyncGenerator[_Line, None]
_Lines = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[_Line, _Keeper]]


async def _keep_line(line: _Line, lines: _Lines, lock: threading.Lock) -> _Keeper:
    try:
        yield line
    finally:
        with lock:
            lines.pop(asyncio.get_running_loop(), None)
        await line.close()


def _written(entry: Entry, answer: Answer) -> Entry | None:
    """Return what the answer of the script says of a write: 0 lost, 1 done, 2 done before."""
    if answer == 2:
        return dataclasses.replace(entry, repeated=True)
    return entry if answer else None


def _batches(waiting: list[_Waiting]) -> list[list[_Waiting]]:
    """Split what waits so that no batch is too long, or has too many bytes, to share one fate."""
    batches: list[list[_Waiting]] = []
    size = 0
    for one in waiting:
        length = sum(len(part) for part in one[0] if isinstance(part, bytes))
        if not batches or len(batches[-1]) == MOST_COMMANDS or size + length > MOST_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(one)
        size += length
    return batches


def _settle(batch: list[_Waiting], answers: Sequence[Answer | Exception]) -> None:
    for (_, waiting), answer in zip(batch, answers, strict=True):
        if not waiting.done():
            waiting.set_result(answer)


def _execute(client: Client, *command: object) -> Any:
    # Any: an answer, or something that awaits one; redis-py's own method has no annotations.
    method: Callable[..., Any] = client.execute_command
    return method(*command)


def _whole_script(command: Command) -> Command:
    return ("EVAL", SWAP, *command[2:])


def _settings(
    retry: type[redis.retry.Retry | redis.asyncio.retry.Retry], timeout: float
) -> dict[str, Any]:
    """Return what a client is made with; Any: these are keyword arguments of many types.

    A connection that broke is tried once more, so a server's restart goes unnoticed; what ran into
    a timeout is not: half of ``timeout`` is for a connection, half for the answer.
    """
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    # Naming the client to the server reads package metadata from disk for each new connection.
    unnamed = ["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"]
    return {
        **dict.fromkeys(unnamed),
        "protocol": 2,
        "retry": retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "socket_timeout": timeout / 2,
        "socket_connect_timeout": timeout / 2,
        "health_check_interval": 0,
        "max_connections": CONNECTIONS,
        "timeout": timeout / 2,
    }


def _check_url(url: str) -> None:
    """Refuse now what redis-py would ignore, or refuse at the first request.

    The sentences quote nothing of the URL: what looks like a port may be half a password.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
        pool = redis.BlockingConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        option = str(error).rpartition("argument ")[2]
        raise ConfigurationError(
            f"The Redis URL has an option that is unknown: {option}."
        ) from None
    except (ValueError, redis.RedisError):
        raise ConfigurationError(
            "The Redis URL cannot be read: redis://user:password@host:6379/0 is its form. Port and "
            "database are numbers; in a password write %2F, %23, %3F and %40 for / # ? and @."
        ) from None
    if parts.scheme == "unix" and parts.path in ("", "/"):
        raise ConfigurationError("A unix:// URL names a socket: unix:///run/redis/redis.sock.")
    if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise ConfigurationError("The path of a Redis URL is the number of a database: …:6379/0.")


def _outage(client: Client, error: Exception) -> StoreUnavailable:
    place = client.connection_pool.connection_kwargs
    where = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"
    # An "unknown command" goes on to quote the arguments, among them the session's data.
    reason = str(error).split(", with args", 1)[0] or "no answer in time"
    return StoreUnavailable(f"The session store (Redis at {where}) failed: {reason}")


def _check(client: object, kind: type, store: str) -> None:
    if not isinstance(client, Client) or not isinstance(client, kind):
        other = "RedisStore" if isinstance(client, redis.Redis) else "AsyncRedisStore"
        advice = f" Use {other} for it." if isinstance(client, Client) else ""
        raise TypeError(
            f"{store} needs a {kind.__module__.rpartition('.')[0]}.Redis client, not "
            f"{type(client).__module__}.{type(client).__name__}.{advice}"
        )
    if client.connection_pool.get_encoder().decode_responses:
        raise ConfigurationError(
            f"{store} stores bytes, and this client decodes what it reads as text: make it without "
            "decode_responses=True."
        )
