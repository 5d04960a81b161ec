"""Memcached's text protocol under asyncio: one connection to a server, for one event loop.

Commands go out as they come, without waiting for one another, and their answers come back in the
same order, each taken apart by the lengths that it states. Who is cancelled only stops waiting: the
answer is read all the same, so a connection is never out of step. Whatever is not understood ends
the connection, and with it all that wait for an answer.

It stands in the place of emcache, which takes an answer as complete as soon as what has arrived
ends in the word END, also inside of a value, and then returns memory beyond its buffer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from .steps import Items

# Any: what an answer means differs from command to command.
Read = Callable[[bytearray], tuple[Any, int] | None]

LONGEST_LINE = 4096
ABANDONED_FOR = (
    0.05  # seconds for an answer that no caller waits for any more, before others suffer
)


class Refused(Exception):
    """The server answered that it cannot do what it was asked for."""


class OutOfStep(ConnectionError):
    """What came is no answer to what was asked."""


class Connection(asyncio.Protocol):
    """A connection to one server."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: deque[tuple[asyncio.Future[Any], Read, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._is_retired = False
        self.lost = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_stuck(self) -> bool:
        """Whether the next answer is one that its caller has given up waiting for."""
        if not self._waiting:
            return False
        answer, _, asked_at = self._waiting[0]
        return answer.done() and asyncio.get_running_loop().time() - asked_at > ABANDONED_FOR

    def ask(self, command: bytes, read: Read) -> asyncio.Future[Any]:
        """Send a command; the future is its answer, as ``read`` takes it from what arrives."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if self._transport is None or self._transport.is_closing():
            answer.set_exception(ConnectionResetError("the connection was lost"))
        else:
            self._waiting.append((answer, read, loop.time()))
            self._transport.write(command)
        return answer

    def retire(self) -> None:
        """Close when all that wait have their answers; no caller asks any more."""
        self._is_retired = True
        if not self._waiting:
            self.abort()

    def abort(self) -> None:
        """Close at once; all that wait are told."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._buffer and self._take():
                pass
        except (OutOfStep, ValueError, KeyError) as error:
            self._fail(OutOfStep(f"an answer was not understood: {error}"))
            self.abort()

    def _take(self) -> bool:
        """Hand out the first answer, if it is complete."""
        if not self._waiting:
            raise OutOfStep("an answer that no caller waits for")
        waiting, read, _ = self._waiting[0]
        try:
            found = read(self._buffer)
        except Refused as refusal:
            size = self._buffer.index(b"\r\n") + 2
            if not str(refusal).startswith("SERVER_ERROR"):
                raise OutOfStep(str(refusal)) from None  # the command itself was not understood
            found = refusal, size
        if found is None:
            return False
        answer, size = found
        del self._buffer[:size], self._waiting[0]
        if not waiting.done():
            if isinstance(answer, Refused):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
        if self._is_retired and not self._waiting:
            self.abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(
            exc if isinstance(exc, OSError) else ConnectionResetError("closed by the server")
        )
        if not self.lost.done():
            self.lost.set_result(None)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for answer, _, _ in waiting:
            if not answer.done():
                # Each raises an exception of its own.
                answer.set_exception(type(error)(*error.args))


def line(buffer: bytearray) -> tuple[bytes, int] | None:
    """Read an answer of one line."""
    end = buffer.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(buffer) >= LONGEST_LINE:
            raise OutOfStep("a line without an end")
        return None
    text = bytes(buffer[:end])
    if text.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR")):
        raise Refused(text.decode("ascii", "replace"))
    return text, end + 2


def one_of(**meanings: Any) -> Read:
    """Return a reader of answers of one word; Any: what the words mean."""

    def read(buffer: bytearray) -> tuple[Any, int] | None:
        found = line(buffer)
        return None if found is None else (meanings[found[0].decode("ascii")], found[1])

    return read


def items(keys: tuple[str, ...]) -> Read:
    """Return a reader of the values of these keys; any other key is an answer out of step."""

    def read(buffer: bytearray) -> tuple[Items, int] | None:
        found: Items = {}
        start = 0
        while True:
            end = buffer.find(b"\r\n", start, start + LONGEST_LINE)
            if end < 0:
                return None
            words = bytes(buffer[start:end]).split()
            start = end + 2
            if words == [b"END"]:
                return found, start
            if len(words) != 5 or words[0] != b"VALUE":
                line(buffer)  # raises, if it is a refusal
                raise OutOfStep("no value where one was asked for")
            key, size = words[1].decode("ascii"), int(words[3])
            if key not in keys:
                raise OutOfStep("a value of another key")
            if len(buffer) < start + size + 2:
                return None
            if buffer[start + size : start + size + 2] != b"\r\n":
                raise OutOfStep("a value of another length")
            found[key] = bytes(buffer[start : start + size]), int(words[4])
            start += size + 2

    return read


def settings(buffer: bytearray) -> tuple[dict[str, str], int] | None:
    """Read the answer to ``stats settings``."""
    end = buffer.find(b"\r\nEND\r\n")
    if end < 0:
        line(buffer)  # raises, if it is a refusal
        return None
    rows = (row.split(" ", 2) for row in buffer[:end].decode("utf-8", "replace").splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "STAT"}, end + 7
