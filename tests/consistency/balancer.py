"""Stands between clients and servers: picks a server, delays, reorders and drops.

It speaks just enough HTTP/1.1 for the servers of these tests, over connections that are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from .world import Server

PATIENCE = 30.0  # seconds, far more than any fault lasts
SMALL, LARGE = 0.004, 0.08  # seconds by which requests and answers are late


class NeverSent(Exception):
    """No server took the connection."""


class NoAnswer(Exception):
    """The request may have been served, but nobody will hear of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    cookies: list[str]
    body: bytes


@dataclass(frozen=True)
class Weather:
    """Shares of the requests to which something happens on their way, each way."""

    late: float = 0.2
    very_late: float = 0.02
    dropped: float = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """A connection to a server."""

    server: Server
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def is_broken(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()


class Balancer:
    def __init__(
        self,
        servers: Sequence[Server],
        chance: Random,
        weather: Weather,
        readers: Collection[str] = (),
    ) -> None:
        self.servers = servers
        self._writers = [server for server in servers if server.name not in readers]
        self.chance, self.weather = chance, weather
        self.dropped = 0
        self._idle: dict[int, list[Line]] = {server.port: [] for server in servers}

    async def reach(self, server: Server | None = None, *, reads: bool = False) -> Line:
        """Return a line to this server or to any; another one when it does not take it.

        To one that only reads if the request ``reads``, and nothing else.
        """
        await self._delay()
        able = self.servers if reads else self._writers
        others = self.chance.sample(able, len(able))
        for each in others if server is None else [server, *others]:
            with contextlib.suppress(OSError):
                return await self._connect(each)
        raise NeverSent

    async def ask(self, line: Line, path: str, cookies: Sequence[str]) -> Answer:
        """Send a request on a line, and bring its answer."""
        shown = "; ".join(f"session={cookie}" for cookie in cookies)
        header = f"cookie: {shown}\r\n" if shown else ""
        request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n"
        try:
            line.writer.write(request.encode())
            async with asyncio.timeout(PATIENCE):
                answer = await _read(line.reader)
        except (OSError, EOFError, TimeoutError) as error:
            line.writer.transport.abort()
            raise NoAnswer("the connection broke") from error
        self._idle[line.server.port].append(line)
        if self.chance.random() < self.weather.dropped:
            self.dropped += 1
            raise NoAnswer("the answer was dropped")
        await self._delay()
        return answer

    async def close(self) -> None:
        for connections in self._idle.values():
            for line in connections:
                line.writer.close()
                with contextlib.suppress(OSError):
                    await line.writer.wait_closed()

    async def _connect(self, server: Server) -> Line:
        idle = self._idle[server.port]
        while idle:
            line = idle.pop()
            if not line.is_broken:
                return line
            line.writer.transport.abort()
        return Line(server, *await asyncio.open_connection("127.0.0.1", server.port))

    async def _delay(self) -> None:
        drawn = self.chance.random()
        if drawn < self.weather.very_late:
            await asyncio.sleep(self.chance.random() * LARGE)
        elif drawn < self.weather.late:
            await asyncio.sleep(self.chance.random() * SMALL)


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length, cookies = 0, []
    status, *lines = head.split("\r\n")
    for line in lines:
        name, _, value = line.partition(":")
        match name.lower():
            case "content-length":
                length = int(value)
            case "set-cookie":
                cookies.append(value.strip())
    return Answer(int(status.split(" ", 2)[1]), cookies, await reader.readexactly(length))
