"""A rolling deployment: old servers give way to new ones, then comes the moment of the switch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from itertools import cycle

import httpx
import pytest

from tests.support.processes import LIMIT, ROOT, free_port, wait_until
from tests.support.servers import RedisServer

CLIENTS = 12
UNTIL_THE_SWITCH = 20.0  # seconds from the start, in which two servers are replaced
AFTER = 4.0
COMMANDS = {
    "flask": "-m waitress --threads 8 --port {port} --host 127.0.0.1 --call {app}",
    "starlette": "-m uvicorn --factory --port {port} --log-level warning {app}",
}


class Fleet:
    """Two servers behind a balancer that takes them in turn; one is drained while it is replaced.

    The balancer is this object: each client asks it which server has its next request.
    """

    def __init__(self, framework: str, environment: dict[str, str]) -> None:
        self._framework, self._environment = framework, environment
        self._lock = threading.Condition()
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._under_way: Counter[int] = Counter()
        self._turns = cycle(range(2))

    def start(self, generation: str) -> None:
        port = free_port()
        app = f"tests.adopt.generations:{self._framework}"
        command = COMMANDS[self._framework].format(port=port, app=app).split()
        environment = {**os.environ, **self._environment, "GENERATION": generation}
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
        with self._lock:
            self._starting = process
        wait_until(lambda: _answers(port), "a server starts", LIMIT)
        with self._lock:
            self._servers[port] = process

    def replace_one(self) -> None:
        """Drain the server that has run longest, end it, and start a new one."""
        with self._lock:
            port, process = next(iter(self._servers.items()))
            del self._servers[port]
            self._lock.wait_for(lambda: not self._under_way[port], LIMIT)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT)
        self.start("new")

    @contextmanager
    def turn(self) -> Iterator[int]:
        """Give a request the port of its server."""
        with self._lock:
            ports = [*self._servers]
            port = ports[next(self._turns) % len(ports)]
            self._under_way[port] += 1
        try:
            yield port
        finally:
            with self._lock:
                self._under_way[port] -= 1
                self._lock.notify_all()

    def stop(self) -> None:
        for process in [*self._servers.values(), self._starting]:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/count")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Client(threading.Thread):
    """Signs in, and counts up until it is told to stop; notes what went wrong."""

    def __init__(self, fleet: Fleet, name: str, stop: threading.Event) -> None:
        super().__init__()
        self._fleet, self._name_in, self._stop_it = fleet, name, stop
        self.wrong: list[object] = []
        self.answers: Counter[bool] = Counter()

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=LIMIT) as browser:
            self._ask(browser, f"/sign-in/{self._name_in}")
            count = 0
            while not self._stop_it.is_set() and not self.wrong:
                answer = self._ask(browser, "/count")
                count += 1
                if (answer.get("user_id"), answer.get("count")) != (self._name_in, count):
                    self.wrong.append((count, answer))
                self.answers[bool(answer.get("ours"))] += 1
                time.sleep(0.01)

    def _ask(self, browser: httpx.Client, path: str) -> dict[str, object]:
        with self._fleet.turn() as port:
            response = browser.get(f"http://127.0.0.1:{port}{path}")
        found: dict[str, object] = response.json() if response.status_code == 200 else {}
        return found


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_no_one_is_signed_out_while_servers_are_replaced(framework: str) -> None:
    """Under load, every answer of every client is that of its own session, with nothing lost."""
    switch = time.time() + UNTIL_THE_SWITCH
    moment = datetime.fromtimestamp(switch, UTC).isoformat()
    stop = threading.Event()
    with RedisServer() as server:
        fleet = Fleet(framework, {"REDIS": server.url, "SWITCH_AT": moment})
        clients = [Client(fleet, f"user-{number}", stop) for number in range(CLIENTS)]
        try:
            fleet.start("old")
            fleet.start("old")
            for client in clients:
                client.start()
            fleet.replace_one()
            fleet.replace_one()
            assert time.time() < switch, "the servers were not replaced in time"
            time.sleep(switch + AFTER - time.time())
            stop.set()
            for client in clients:
                client.join(LIMIT)
        finally:
            stop.set()
            fleet.stop()
    assert [client.wrong for client in clients] == [[]] * CLIENTS
    assert all(client.answers[False] and client.answers[True] for client in clients)
