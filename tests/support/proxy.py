"""A network between the stores and their server that fails in all the ways in which networks do.

A `Proxy` passes bytes on to a port of this machine. `refuse`, `silence` and `vanish` are outages,
ended by `restore`. ``fate`` is asked about every answer, with the bytes of the command it belongs
to, and decides what becomes of it; ``delay`` and ``drip`` slow answers down, ``hold`` keeps them
back for a while.

A connection on which a client has asked to be told of changes, by LISTEN or CLIENT TRACKING, is
known as one for *pushes*; these can be late, fall silent or be cut while all others are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Any

from sharedsession.testing.stores import LoopThread

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
ASKS_FOR_PUSHES = re.compile(rb"TRACKING|(?<!UN)LISTEN")
CROWD = 8  # connections that fill the queue of a listener that accepts none


class Fate(Enum):
    """What becomes of an answer."""

    ARRIVES = auto()
    LOST = auto()  # the connection is reset in its place: the command has been executed
    CUT = auto()  # half of it arrives, then the connection is reset
    SWALLOWED = auto()  # nothing arrives any more on this connection, and nobody is told


class Proxy:
    """Passes bytes on to ``target``, a port or the path of a socket, and back."""

    def __init__(self, target: int) -> None:
        self.target = target  # new connections lead to it
        self.port = 0
        self.fate: Callable[[bytes], Fate] = lambda asked: Fate.ARRIVES
        self.delay = 0.0  # seconds before each answer
        self.drip = 0.0  # seconds after each byte of an answer
        self.push_delay = 0.0  # the same as delay, of pushes
        self.fates: list[Fate] = []  # of those answers that did not arrive
        self._silent = False
        self._held: asyncio.Event | None = None
        self._links: set[_Link] = set()
        self._crowd: list[socket.socket] = []
        self._listener: socket.socket | None = None

    # --- outages ---

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a machine does whose server is gone."""
        self._thread.run(self._stop())

    def silence(self) -> None:
        """Swallow everything; connections of now stay dead when it is over."""
        self._silent = True
        for link in set(self._links):
            link.dead = True

    def vanish(self) -> None:
        """The same, and new connections are not even accepted: the address leads nowhere."""
        self.silence()
        self._thread.run(self._stop(reset=False))
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._crowd = [listener]
        for _ in range(CROWD):
            caller = socket.socket()
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(("127.0.0.1", self.port))
            self._crowd.append(caller)

    def reset(self) -> None:
        """Reset every connection; new ones work."""
        self._thread.run(self._reset())

    def hold(self) -> None:
        """Keep back all answers until `release`, which lets them arrive."""
        self._thread.run(self._hold())

    def release(self) -> None:
        self._thread.run(self._release())

    def silence_pushes(self) -> None:
        """Swallow everything on the connections for pushes, which stay open and dead."""
        for link in set(self._links):
            link.dead |= link.is_for_pushes

    def reset_pushes(self) -> None:
        """Reset the connections for pushes."""
        self._thread.run(self._reset(only_pushes=True))

    def restore(self) -> None:
        """New connections work again."""
        self._silent = False
        while self._crowd:
            self._crowd.pop().close()
        if self._listener is None:
            self._thread.run(self._listen())

    # --- inside ---

    def __enter__(self) -> Proxy:
        self._thread = LoopThread().__enter__()
        self._thread.run(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._silent = False
        for caller in self._crowd:
            caller.close()
        self.release()
        self._thread.run(self._stop())
        self._thread.run(self._gone())
        self._thread.__exit__()

    # No asyncio.Server: closed while a connection is being accepted, it loses that one unclosed
    # (https://github.com/python/cpython/issues/109564).

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def _stop(self, reset: bool = True) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if reset:
            await self._reset()

    async def _reset(self, only_pushes: bool = False) -> None:
        for link in set(self._links):
            if link.is_for_pushes or not only_pushes:
                link.reset()

    async def _hold(self) -> None:
        self._held = asyncio.Event()

    async def _release(self) -> None:
        if self._held is not None:
            self._held.set()
            self._held = None

    async def slow_down(self, pushes: bool) -> None:
        """Wait for as long as an answer is late."""
        delay = self.push_delay if pushes else self.delay
        if delay:
            await asyncio.sleep(delay)
        if self._held is not None:
            await self._held.wait()

    async def _gone(self) -> None:
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            caller, _ = listener.accept()
        except OSError:  # who called has hung up
            return
        link = _Link(self, caller)
        link.dead = self._silent
        self._links.add(link)
        link.task = asyncio.ensure_future(link.serve(self.target))
        link.task.add_done_callback(lambda task: self._links.discard(link))


class _Link:
    """One connection, with its two ends."""

    task: asyncio.Task[None]

    def __init__(self, proxy: Proxy, caller: socket.socket) -> None:
        self._proxy, self._caller = proxy, caller
        self._ends: list[asyncio.StreamWriter] = []
        self._asked = b""  # since the last answer
        self._was_reset = False
        self.dead = False
        self.is_for_pushes = False

    async def serve(self, target: int) -> None:
        """Pass on until one of both has enough; then both ends are closed, and have been."""
        try:
            with contextlib.suppress(OSError):
                self._reader, self._writer = await self._opened(sock=self._caller)
                reader, writer = await self._opened(host="127.0.0.1", port=target)
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._commands(writer))
                    ways.create_task(self._answers(reader))
        except* OSError:
            pass
        finally:
            for end in self._ends:
                end.close()
            for end in self._ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self._caller.close()

    async def _opened(self, **where: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(**where)
        self._ends.append(writer)
        if self._was_reset:  # meanwhile
            self.reset()
        return reader, writer

    def reset(self) -> None:
        self._was_reset = True
        for end in self._ends:
            raw = end.get_extra_info("socket")
            if raw is not None and not end.transport.is_closing():
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.transport.abort()

    async def _commands(self, server: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(2**16):
            if not self.dead:
                self._asked += data
                self.is_for_pushes |= ASKS_FOR_PUSHES.search(data) is not None
                server.write(data)
                await server.drain()
        server.close()

    async def _answers(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(2**16):
            asked, self._asked = self._asked, b""
            await self._proxy.slow_down(self.is_for_pushes)
            if self.dead:
                continue
            fate = self._proxy.fate(asked) if asked else Fate.ARRIVES
            if fate is not Fate.ARRIVES:
                self._proxy.fates.append(fate)
            match fate:
                case Fate.ARRIVES:
                    await self._pass_on(data)
                case Fate.SWALLOWED:
                    self.dead = True
                case Fate.CUT:
                    self._writer.write(data[: len(data) // 2])
                    await self._writer.drain()
                    await asyncio.sleep(0)  # what was written leaves before the reset
                    self.reset()
                case Fate.LOST:
                    self.reset()
        self._writer.close()

    async def _pass_on(self, data: bytes) -> None:
        if not self._proxy.drip:
            self._writer.write(data)
            await self._writer.drain()
            return
        for place in range(len(data)):
            self._writer.write(data[place : place + 1])
            await self._writer.drain()
            await asyncio.sleep(self._proxy.drip)
