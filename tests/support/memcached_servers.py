"""Memcached servers for the tests, real ones on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from tests.support.processes import START_LIMIT, ServerMissing, ServerProcess, free_port

RELATIVE = 30 * 24 * 60 * 60
UNMOVED = ("-o", "no_lru_maintainer,lru_crawler")  # a list of the items is complete only then
TICKS = 2  # seconds by which a server's clock, which ticks once a second, may be behind ours


def memcached_binary() -> str:
    """Return where it is; when there is none, say what to install."""
    # Debian keeps it where a daemon is found, which is not on every PATH.
    found = shutil.which("memcached") or shutil.which("memcached", path="/usr/bin:/usr/local/bin")
    if found is None:
        raise ServerMissing(
            "The tests need Memcached: install memcached (Debian, Ubuntu: 'apt-get install "
            "memcached' as root) so that it is on PATH."
        )
    return found


class MemcachedServer(ServerProcess):
    """One server process; `restart` comes back on the same port, with nothing in its memory."""

    def __init__(self, *options: str, by_socket: bool = False) -> None:
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="sharedsession-memcached-"))
        self.path = self.folder / "socket" if by_socket else None
        self.port = 0 if by_socket else free_port()

    @property
    def name(self) -> str:
        return str(self.path) if self.path else f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"memcached://{self.name}"

    def start(self) -> Self:
        where = ["-s", str(self.path)] if self.path else ["-l", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            [
                memcached_binary(),
                "-u",
                "root",
                "-U",
                "0",
                "-t",
                "2",
                *UNMOVED,
                *where,
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise ServerMissing(f"memcached {' '.join([*where, *self._options])}: no start.")
            time.sleep(0.01)
        return self

    # what the server itself says

    def tell(self, *commands: str, end: str = "END\r\n") -> list[str]:
        """Return the lines that a connection of its own is answered with."""
        with self._connect() as connection:
            connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
            answer = ""
            while answer.count(end) < len(commands):
                data = connection.recv(2**16).decode("latin-1")
                assert data, "the server closed the connection"
                answer += data
        return answer.split("\r\n")

    def stats(self, *words: str) -> dict[str, str]:
        rows = (line.split(" ", 2) for line in self.tell(" ".join(["stats", *words])))
        return {row[1]: row[2] for row in rows if row[0] == "STAT"}

    def expiries(self) -> dict[str, int]:
        """When each item expires, as a point in time; -1 is never."""
        rows = [
            dict(word.split("=", 1) for word in line.split())
            for line in "\n".join(self.tell("lru_crawler metadump all")).splitlines()
            if line.startswith("key=")
        ]
        return {unquote(row["key"]): int(row["exp"]) for row in rows}

    def listed(self) -> set[str]:
        """The keys of sessions, without the prefix."""
        return {key.rpartition(":")[2] for key, expiry in self.expiries().items() if expiry >= 0}

    def advance(self, seconds: float) -> None:
        """Let time pass: what is left of every item's lifetime shrinks."""
        now = int(self.stats()["time"])  # its own clock ticks in whole seconds
        commands = []
        for key, expiry in self.expiries().items():
            left = expiry - now - int(seconds)
            if expiry >= 0 and left <= TICKS:
                commands.append(f"delete {key}")
            elif expiry >= 0:
                commands.append(f"touch {key} {left if left <= RELATIVE else now + left}")
        if commands:
            self.tell(*commands, end="ED\r\n")  # DELETED or TOUCHED

    def _connect(self) -> socket.socket:
        if self.path:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(5.0)
            try:
                connection.connect(str(self.path))
            except OSError:
                connection.close()
                raise
            return connection
        return socket.create_connection(("127.0.0.1", self.port), timeout=5.0)

    def _answers(self) -> bool:
        try:
            with self._connect() as connection:
                connection.sendall(b"version\r\n")
                return connection.recv(64).startswith(b"VERSION")
        except OSError:
            return False


@contextmanager
def memcached_servers(count: int, *options: str) -> Iterator[list[MemcachedServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer(*options)) for _ in range(count)]


def url_of(servers: list[MemcachedServer]) -> str:
    return "memcached://" + ",".join(server.name for server in servers)


def advancing(servers: list[MemcachedServer]) -> Callable[[float], None]:
    def advance(seconds: float) -> None:
        for server in servers:
            server.advance(seconds)

    return advance
