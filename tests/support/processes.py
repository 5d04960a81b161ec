"""Processes that tests start: on ports of their own, waited for, ended by their numbers."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
LIMIT = 30.0
START_LIMIT = 10.0


class ServerMissing(Exception):
    """A server cannot be started on this machine: the message says what to install."""


class ServerProcess:
    """A server in a folder of its own, and what can befall it; `with` starts and stops it."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        raise NotImplementedError

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End it, and start it on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Make it hang: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        until_stopped(*self._numbers())

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        until_answered(self._answers)

    def stop(self) -> None:
        """End it, with all that it has written."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        raise NotImplementedError

    def _numbers(self) -> list[int]:
        """The processes that it consists of."""
        assert self._process is not None
        return [self._process.pid]

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def has_stopped(process: int) -> bool:
    """Say whether a process that was sent SIGSTOP has stopped, with each of its threads.

    One that has just ended stays a zombie where its parent is stopped as well.
    """
    states = set()
    for thread in Path(f"/proc/{process}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            states.add(thread.read_text().rpartition(") ")[2][0])
    return states <= {"T", "Z"}


def until_stopped(*processes: int) -> None:
    """Wait until processes that were sent SIGSTOP answer nothing any more."""
    limit = time.monotonic() + START_LIMIT
    while not all(map(has_stopped, processes)):
        assert time.monotonic() < limit
        time.sleep(0.01)


def until_answered(answers: Callable[[], bool]) -> None:
    """Wait for a server that goes on: it first works off what it was sent while it hung."""
    limit = time.monotonic() + START_LIMIT
    while not answers() and time.monotonic() < limit:
        time.sleep(0.01)


def free_port() -> int:
    """Return a port that no client's connection will be given before the server has taken it."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_until(condition: Callable[[], T], what: str, limit: float = LIMIT) -> T:
    """Ask until it is so; return what made it so."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return found


def ask_anew(url: str, cookies: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Ask by a connection of its own, and end that."""
    place = urlsplit(url)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
    connection = HTTPConnection(place.netloc, timeout=LIMIT)
    try:
        connection.request("GET", place.path, headers=headers)
        with connection.getresponse() as response:
            assert response.status == 200
            answer: dict[str, Any] = json.load(response)
            return answer
    finally:
        connection.close()
