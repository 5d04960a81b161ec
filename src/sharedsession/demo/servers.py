"""Real server processes for the demo: started, killed, paused and stopped one by one.

A child binds a free loopback port by itself and reports the number on its standard output, so no
port is ever guessed, or lost to another process between two steps. It ends when its standard input
closes, and what does not end by itself has a guard: a parent that dies, however suddenly, leaves no
process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Literal, overload

from ..exceptions import SessionError

FRAMEWORKS = {"fastapi": "FastAPI", "flask": "Flask"}
# Ends a process when the demo has gone, however suddenly, for then the pipe to its input is closed;
# and removes a folder that is left.
GUARD = """
import os, shutil, signal, sys
sys.stdin.read()
os.kill(int(sys.argv[1]), signal.SIGKILL)
for folder in sys.argv[2:]:
    shutil.rmtree(folder, ignore_errors=True)
"""
State = Literal["running", "starting", "paused", "killed"]


class DemoError(SessionError):
    """The demo cannot run; the message says why, in one sentence."""


class Process(ABC):
    """A process that comes and goes: started, killed, paused and stopped, all from any thread.

    ``port`` is where it listens, or where it last did: nothing tells a balancer that a server has
    died, it finds out by being refused.
    """

    ends_by_itself = True  # with the process that has started it

    def __init__(self, name: str) -> None:
        self.name = name
        self.port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._ready = self._paused = False
        self._one_at_a_time = threading.RLock()

    @property
    def pid(self) -> int | None:
        """The process, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def state(self) -> State:
        """What a person is told about the process."""
        if self.pid is None:
            return "killed"
        if self._paused:
            return "paused"
        return "running" if self._ready else "starting"

    def start(self) -> None:
        """Start the process and return once it accepts connections; nothing when it lives."""
        with self._one_at_a_time:
            self.launch()
            self.wait_until_ready()

    def launch(self) -> None:
        """Start the process without waiting, so that several can start at once; or wake it up."""
        with self._one_at_a_time:
            if self.pid is None:
                self._ready = self._paused = False
                self._process = self._begin()
                self._dismiss_guard()
                if not self.ends_by_itself:
                    self._set_guard()
            elif self._paused:
                self._signal(signal.SIGCONT)
                self._paused = False
                if self.ends_by_itself:
                    self._dismiss_guard()

    def wait_until_ready(self) -> None:
        """Return once the launched process accepts connections."""
        with self._one_at_a_time:
            process = self._process
            if process is None or self._ready or self._paused:
                return
            port = self._listens(process)
            if port is None:
                self.kill()
                raise DemoError(f"{self.name} did not start; what it said is above.")
            self.port = port
            self._ready = True

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and its port, and answers no request until started."""
        with self._one_at_a_time:
            if self.pid is not None:
                self._paused = True
                if self._guard is None:  # who sleeps does not notice that its parent has gone
                    self._set_guard()
                self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        """SIGKILL: no farewell, and requests in flight die with the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for a process that has not heeded it after three seconds."""
        self._end(signal.SIGTERM)

    @abstractmethod
    def _begin(self) -> subprocess.Popen[bytes]:
        """Start the process."""

    @abstractmethod
    def _listens(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait until the process accepts connections; return its port, None when it has ended."""

    def _set_guard(self) -> None:
        """See to it that the process ends with this one, also while it is paused."""
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-c", GUARD, str(self.pid), *self._left_behind()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _left_behind(self) -> list[str]:
        """Folders that go when no process is left to remove them."""
        return []

    def _dismiss_guard(self) -> None:
        guard = self._guard
        if guard is not None and guard.stdin is not None:
            guard.kill()
            guard.wait()
            guard.stdin.close()
            self._guard = None

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            process.send_signal(number)  # never reaches a stranger: nothing is sent once reaped

    def _end(self, how: signal.Signals) -> None:
        with self._one_at_a_time:
            process = self._process
            if process is None:
                return
            self._signal(how)
            self._signal(signal.SIGCONT)  # who sleeps hears nothing
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None
            self._dismiss_guard()


class Server(Process):
    """One application server: a name, a framework, and its process."""

    def __init__(self, name: str, framework: str, environment: Mapping[str, str]) -> None:
        super().__init__(name)
        self.framework = framework
        # Settings that the caller's shell has for another application are not meant for this one.
        inherited = {key: text for key, text in os.environ.items() if "SHAREDSESSION_" not in key}
        self._environment = {**inherited, **environment}

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", self.name, self.framework],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl+C is for the parent, which then stops us
        )

    def _listens(self, process: subprocess.Popen[bytes]) -> int | None:
        assert process.stdout is not None
        with process.stdout as reports:
            report = reports.readline()
        return int(report) if report else None


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
