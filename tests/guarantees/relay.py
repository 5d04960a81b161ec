"""A network that can go silent: what is sent then is swallowed, and nobody is told."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from sharedsession.testing import LoopThread


class Relay:
    """Passes bytes on to a port of this machine; see `silence`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent = False
        self._connections: set[asyncio.Task[None]] = set()
        self._swallowed: set[asyncio.Task[None]] = set()

    def silence(self) -> None:
        """From now on nothing arrives; connections of before stay dead when it is over."""
        self._silent = True
        self._swallowed |= self._connections

    def restore(self) -> None:
        """New connections work again."""
        self._silent = False

    def __enter__(self) -> Relay:
        self._thread = LoopThread().__enter__()
        self._server = self._thread.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.run(self._close())
        self._thread.__exit__()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._pass_on(reader, writer))
        self._connections.add(connection)
        if self._silent:
            self._swallowed.add(connection)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        ends = [writer]

        async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if me not in self._swallowed:
                    target.write(data)
            target.close()

        try:
            with contextlib.suppress(OSError):
                onward, away = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(away)
                await asyncio.gather(one_way(reader, away), one_way(onward, writer))
        finally:
            for end in ends:
                end.close()
            for end in ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()
