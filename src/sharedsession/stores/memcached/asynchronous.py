"""The async store: for each event loop one connection to each server."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from .._support.ages import Ages
from .._support.deadline import alook_up
from .._support.per_loop import Loops
from .._support.verbs import AwaitedVerbs, Flow, outage
from . import protocol
from .addresses import PREFIX, address_of, normal, parse
from .steps import TOO_LARGE, Step, Verbs

T = TypeVar("T")


class AsyncMemcachedStore(Verbs, AwaitedVerbs):
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
        names = [normal(one) for one in each]
        super().__init__(names, prefix)
        self._timeout = timeout
        self._lines = Loops(partial(_LoopLines, timeout))

    @classmethod
    def from_url(cls, url: str, timeout: float = 1.0) -> AsyncMemcachedStore:
        """Return a store whose calls end within ``timeout``."""
        names, prefix = parse(url)
        return cls(names, prefix, timeout)

    async def _run(self, flow: Flow[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await super()._run(flow)
        except TimeoutError as error:
            raise outage(f"Memcached at {', '.join(self._ring.names)}", _words(error)) from None

    async def _ask(self, asked: Step) -> Any:  # Any: each command has an answer of its own
        lines = self._lines.known() or await self._lines.here()
        backoff = self._backoff[asked.server]
        try:
            answer = await lines.ask(backoff.timeout(self._timeout / 2), asked)
        except (OSError, protocol.Refused) as error:
            raise self._failed(asked, error, _words(error)) from error
        backoff.answered()
        return answer


class _LoopLines:
    """One event loop's connections, one to each server."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout  # of an opening, which may outlast its first caller
        self._open: dict[str, protocol.Connection] = {}
        self._retired = weakref.WeakSet[protocol.Connection]()
        self._ages = Ages()
        self._dialling: dict[str, asyncio.Task[protocol.Connection]] = {}

    async def ask(self, limit: float, step: Step) -> Any:
        """Give a command; a connection and an answer may take ``limit`` seconds each."""
        line, read = ASYNC_COMMANDS[step.command](*step.arguments)
        connection = self._open.get(step.server)
        if connection is not None and connection.is_stuck:
            connection.abort()
        if connection is not None and self._ages.is_old(connection):
            self._retire(step.server)
            connection = None
        if connection is not None and connection.is_open:
            try:
                return await self._answer(limit, connection, line, read)
            except ConnectionError:
                step.is_repeated = True  # the server may have been restarted meanwhile: once more
        return await self._answer(limit, await self._dial(limit, step.server), line, read)

    def _retire(self, name: str) -> None:
        for earlier in self._retired:
            if earlier.is_stuck:
                earlier.abort()
        retired = self._open.pop(name)
        self._retired.add(retired)
        retired.retire()

    async def _answer(
        self, limit: float, connection: protocol.Connection, line: bytes, read: protocol.Read
    ) -> Any:
        try:
            async with asyncio.timeout(limit):
                return await connection.ask(line, read)
        except protocol.Refused as refusal:
            if TOO_LARGE in str(refusal):
                return TOO_LARGE
            raise

    async def _dial(self, limit: float, name: str) -> protocol.Connection:
        connection = self._open.get(name)
        if connection is not None and connection.is_open:  # another caller's, by now
            return connection
        dialling = self._dialling.get(name)
        if dialling is None:
            dialling = asyncio.get_running_loop().create_task(self._connect(name))
            self._dialling[name] = dialling
            dialling.add_done_callback(partial(self._dialled, name))
        # Cancelled, or too late, it leaves the others theirs.
        if not (await asyncio.wait([dialling], timeout=limit))[0]:
            raise TimeoutError
        return dialling.result()

    def _dialled(self, name: str, dialling: asyncio.Task[protocol.Connection]) -> None:
        del self._dialling[name]
        if not dialling.cancelled():
            dialling.exception()  # no caller may be left to look at it

    async def _connect(self, name: str) -> protocol.Connection:
        loop, address = asyncio.get_running_loop(), address_of(name)
        async with asyncio.timeout(self._timeout):
            if isinstance(address, str):
                _, connection = await loop.create_unix_connection(protocol.Connection, address)
            else:
                await alook_up(*address)
                _, connection = await loop.create_connection(protocol.Connection, *address)
        self._open[name] = connection
        return connection

    async def close(self) -> None:
        """End what is being opened, and close what is open."""
        self.hang_up()
        if self._dialling:
            await asyncio.wait(self._dialling.values())
        await asyncio.gather(*(connection.lost for connection in self._all()))

    def hang_up(self) -> None:
        """The same, without waiting for it."""
        for dialling in self._dialling.values():
            dialling.cancel()
        for connection in self._all():
            connection.abort()

    def _all(self) -> list[protocol.Connection]:
        return [*self._open.values(), *self._retired]


def _put(command: str, name: str, value: bytes, expiry: int, cas: int | None = None) -> bytes:
    words = [command, name, 0, expiry, len(value), *([] if cas is None else [cas])]
    return b"%b\r\n%b\r\n" % (" ".join(map(str, words)).encode("ascii"), value)


def _removal(name: str, cas: int | None = None) -> str:
    """Return the command that removes an item; with a cas id, only what has it."""
    return f"delete {name}" if cas is None else f"md {name} C{cas}"


def _item_size_max(buffer: bytearray) -> tuple[int, int] | None:
    found = protocol.settings(buffer)
    return None if found is None else (int(found[0]["item_size_max"]), found[1])


_STORED = protocol.one_of(STORED=True, NOT_STORED=False, EXISTS=False, NOT_FOUND=False)
_TOUCHED = protocol.one_of(TOUCHED=True, NOT_FOUND=False)
_DELETED = protocol.one_of(DELETED=True, NOT_FOUND=False, HD=True, NF=False, EX=False)

# Any: each command has arguments of its own.
ASYNC_COMMANDS: dict[str, Callable[..., tuple[bytes, protocol.Read]]] = {
    "gets": lambda names: (f"gets {' '.join(names)}\r\n".encode("ascii"), protocol.items(names)),
    "add": lambda *words: (_put("add", *words), _STORED),
    "cas": lambda *words: (_put("cas", *words), _STORED),
    "touch": lambda name, expiry: (f"touch {name} {expiry}\r\n".encode("ascii"), _TOUCHED),
    "delete": lambda *words: (f"{_removal(*words)}\r\n".encode("ascii"), _DELETED),
    "limit": lambda: (b"stats settings\r\n", _item_size_max),
}


def _words(error: Exception) -> str:
    """Return what may be told of an error: no key, and nothing of a session."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)
