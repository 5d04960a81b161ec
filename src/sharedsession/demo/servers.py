"""Real server processes for the demo: started, killed and stopped one by one.

A child binds a free loopback port by itself and reports the number on its standard output, so no
port is ever guessed, or lost to somebody else between two steps. It ends when its standard input
closes: a parent that dies, however suddenly, leaves no server behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Literal, overload

from ..exceptions import SessionError

FRAMEWORKS = {"fastapi": "FastAPI", "flask": "Flask"}


class DemoError(SessionError):
    """The demo cannot run; the message says why, in one sentence."""


class Server:
    """One application server: a name, a framework, and a process that comes and goes.

    ``port`` is where it listens, or where it last did: nothing tells a balancer that a server has
    died, it finds out by being refused.
    """

    def __init__(self, name: str, framework: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.framework = framework
        self.port: int | None = None
        # Settings that the caller's shell has for another application are not meant for this one.
        inherited = {key: text for key, text in os.environ.items() if "SHAREDSESSION_" not in key}
        self._environment = {**inherited, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._one_at_a_time = threading.RLock()

    @property
    def pid(self) -> int | None:
        """The process, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def state(self) -> Literal["running", "starting", "killed"]:
        """What a person is told about the process."""
        if self.pid is None:
            return "killed"
        return "running" if self._ready else "starting"

    def start(self) -> None:
        """Start the process and return once it accepts connections; nothing when it lives."""
        with self._one_at_a_time:
            self.launch()
            self.wait_until_ready()

    def launch(self) -> None:
        """Start the process without waiting, so that several can start at the same time."""
        with self._one_at_a_time:
            if self.pid is None:
                self._ready = False
                self._process = subprocess.Popen(
                    [sys.executable, "-m", f"{__package__}.worker", self.name, self.framework],
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # a Ctrl+C is for the parent, which then stops us
                )

    def wait_until_ready(self) -> None:
        """Return once the launched process accepts connections."""
        with self._one_at_a_time:
            process = self._process
            if process is None or process.stdout is None or process.stdout.closed:
                return
            report = process.stdout.readline()
            process.stdout.close()
            if not report:
                self.kill()
                raise DemoError(f"{self.name} did not start; what it said is above.")
            self.port = int(report)
            self._ready = True

    def kill(self) -> None:
        """SIGKILL: no farewell, and requests in flight die with the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for a process that has not heeded it after three seconds."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        with self._one_at_a_time:
            process = self._process
            if process is None:
                return
            process.send_signal(how)  # never reaches a stranger: nothing is sent once it was reaped
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


class Servers(Sequence[Server]):
    """All servers of a run: a context manager that starts them, and stops them in every case.

    ``framework`` is one for all of them, or mixed: they take turns.
    """

    def __init__(self, count: int, framework: str, environment: Mapping[str, str]) -> None:
        frameworks = cycle(FRAMEWORKS if framework == "mixed" else [framework])
        self._servers = [
            Server(f"server-{number}", each, environment)
            for number, each in enumerate(islice(frameworks, count), 1)
        ]

    def __enter__(self) -> Servers:
        try:
            for server in self._servers:
                server.launch()
            for server in self._servers:
                server.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @overload
    def __getitem__(self, index: int) -> Server: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Server]: ...

    def __getitem__(self, index: int | slice) -> Server | Sequence[Server]:
        return self._servers[index]

    def __len__(self) -> int:
        return len(self._servers)

    def stop(self) -> None:
        """Stop them all, at the same time rather than one after the other."""
        threads = [threading.Thread(target=server.stop) for server in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
