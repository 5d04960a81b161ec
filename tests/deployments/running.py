"""Real servers with the applications of these tests, on loopback, ended by their process numbers.

A `Deployment` is what an administrator would start; ``copies`` says how often, for a server that
has one process, or that ends as a whole when one of its processes is killed: then there have to be
two of them, as behind a balancer. `running` starts one and ends all of it, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import httpx

from tests.support.processes import LIMIT, ROOT, SCRIPTS, ask_anew, free_port, wait_until

PATIENCE = 0.5  # seconds for an orderly end
# Nothing is said about lazy applications: uWSGI loads them first and forks then.
UWSGI = "--master --need-app --die-on-term --enable-threads --processes 2 --threads 4"


@dataclass(frozen=True)
class Deployment:
    """A server's command line, with places for the port and the application."""

    server: str
    options: str
    application: str
    copies: int = 1

    def __str__(self) -> str:
        return f"{self.server} {self.application}"

    def command(self, port: int) -> list[str]:
        module = f"tests.deployments.{self.application}:app"
        places = {"port": port, "address": f"127.0.0.1:{port}", "app": module}
        server, *options = self.options.format(**places).split()
        if server == "uwsgi":
            return [str(SCRIPTS / server), *options]
        return [sys.executable, "-m", server, *options]


def gunicorn(options: str, application: str, workers: int = 2) -> Deployment:
    general = "--bind {address} --no-control-socket --log-level warning"
    name = f"gunicorn {options}"
    return Deployment(
        name, f"gunicorn {general} --workers {workers} {options} {{app}}", application
    )


def uwsgi(application: str) -> Deployment:
    # It closes each connection, and says so only when told to.
    general = "--http-socket {address} --add-header Connection:close --disable-logging"
    return Deployment("uwsgi", f"uwsgi {general} {UWSGI} --module {{app}}", application)


class Running:
    """Servers that run; ``addresses`` is where they answer."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], addresses: list[str]) -> None:
        self.processes = processes
        self.addresses = addresses
        self.client = httpx.Client(trust_env=False, timeout=LIMIT)  # a browser, for any threads

    def answers_of_all(
        self,
        path: str = "/pid",
        workers: int = 2,
        cookies: Mapping[str, str] | None = None,
        without: int | None = None,
    ) -> dict[int, dict[str, Any]]:
        """Ask until that many processes have answered; return the answer of each, by its number.

        Every request comes by a connection of its own, which any of them may accept. An address
        at which nobody answers is passed over; ``without`` is a process that must not answer.
        """
        found: dict[int, dict[str, Any]] = {}

        def all_have_answered() -> bool:
            for address in self.addresses * 2:
                with contextlib.suppress(OSError, HTTPException):
                    answer = ask_anew(address + path, cookies)
                    assert answer["pid"] != without
                    found[answer["pid"]] = answer
            return len(found) >= workers

        wait_until(all_have_answered, f"{workers} processes answer")
        return found


@contextmanager
def running(
    deployment: Deployment, store: str, *, outages: bool = False, **environment: str
) -> Iterator[Running]:
    """Start a deployment, wait until it answers, and end all of its processes afterwards.

    Warnings are errors in them. Unless there are ``outages``, which Flask logs, no server may have
    logged any exception.
    """
    processes, ports = [], []
    general = {"STORE": store, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    with tempfile.TemporaryFile() as log:
        try:
            for _ in range(deployment.copies):
                ports.append(free_port())
                processes.append(
                    subprocess.Popen(
                        deployment.command(ports[-1]),
                        cwd=ROOT,
                        env={**os.environ, **general, **environment},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # all that it starts is in a group of its number
                    )
                )
            for process, port in zip(processes, ports, strict=True):
                wait_until(lambda: process.poll() is not None or answers(port), "it starts")
                if process.poll() is not None:
                    log.seek(0)
                    raise AssertionError(log.read().decode()[-4000:])
            servers = Running(processes, [f"http://127.0.0.1:{port}" for port in ports])
            with servers.client:
                yield servers
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(LIMIT)
        log.seek(0)
        said = log.read().decode()
        assert outages or "Traceback" not in said, said[-4000:]


def answers(port: int) -> bool:
    try:
        return bool(ask_anew(f"http://127.0.0.1:{port}/pid"))
    except (OSError, HTTPException):
        return False
