"""Requests a second through a real server, and how long they take: wrk asks, 32 connections.

One worker of uvicorn, or of gunicorn with 8 threads. The cookies are those of 128 clients who have
signed in; wrk sends them in turn and learns no new ones.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, Contender
from .driving import AFTER_A_WRITE
from .in_process import new_server

CONNECTIONS, CLIENTS = 32, 128
ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 20.0
SERVED = "benchmarks.bench.served"
NAME, URL = "BENCH_CONTENDER", "BENCH_STORE"  # what the worker is told by its environment
SERVERS = {
    "asgi": "uvicorn --factory --log-level warning --no-access-log --port {port} "
    f"{SERVED}:application",
    "wsgi": "gunicorn --log-level warning --worker-class gthread --threads 8 "
    f"--bind 127.0.0.1:{{port}} {SERVED}:application()",
}
WORKS = {"no cookie, unused": "/unused", "read": "/read", "write": "/write"}
# wrk's: the cookies in turn, and at the end a line that a program can read.
SCRIPT = """
local cookies, turn = {{{cookies}}}, 0
request = function()
    turn = turn % math.max(#cookies, 1) + 1
    return wrk.format("GET", "{path}", {{["Cookie"] = cookies[turn]}})
end
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("found %d %d %d %d %d\\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        errors.status + errors.read + errors.write + errors.timeout + errors.connect))
end
"""


class Served:
    """A contender's server: it has been started, and answers once it is ready."""

    def __init__(self, contender: Contender, port: int, process: subprocess.Popen[bytes]) -> None:
        self.contender, self.port, self._process = contender, port, process
        self.cookies: list[str] = []

    def ready(self) -> None:
        """Wait until it answers, and sign clients in."""
        until_it_answers(self.port, self._process)
        if self.contender.bare:
            self.cookies = [sign_in(self.port) for _ in range(CLIENTS)]


def free_port() -> int:
    """Return one that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def sign_in(port: int) -> str:
    """Return the cookies that a new client sends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/sign-in")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, f"/sign-in was answered {answer.status}"
    connection.close()
    given = answer.headers.get_all("Set-Cookie") or []
    return "; ".join(each.partition(";")[0] for each in given)


def until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + START_LIMIT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/unused")
            connection.getresponse().read()
        except OSError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < limit, "the server does not answer"
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


@contextlib.contextmanager
def serving(contender: Contender) -> Iterator[Served]:
    """Run a contender's server, with a store of its own."""
    with contextlib.ExitStack() as stack:
        kind = contender.server
        url = stack.enter_context(new_server(kind)).url if kind else ""
        port = free_port()
        command = SERVERS[contender.kind].format(port=port).split()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | {NAME: contender.name, URL: url},
            stdin=subprocess.DEVNULL,
        )
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        yield Served(contender, port, process)


def load(served: Served, work: str, seconds: float) -> dict[str, float]:
    """Let wrk ask for so long."""
    cookies = "" if "no cookie" in work else ", ".join(f"[[{each}]]" for each in served.cookies)
    path = WORKS[work] if served.cookies else "/unused"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(cookies=cookies, path=path))
        script.flush()
        address = f"http://127.0.0.1:{served.port}"
        options = f"--threads 1 --connections {CONNECTIONS} --duration {seconds:g}s --script"
        ran = subprocess.run(
            ["wrk", *options.split(), script.name, address],
            check=True,
            capture_output=True,
            text=True,
        )
    found = re.search(r"^found (\d+) (\d+) (\d+) (\d+) (\d+)$", ran.stdout, re.MULTILINE)
    assert found, ran.stdout
    requests, duration, middle, slow, errors = map(int, found.groups())
    assert not errors, f"{errors} of {requests} requests failed: {work}"
    return {"rate": requests / duration * 1e6, "p50": middle / 1000, "p99": slow / 1000}


def measure(
    names: Sequence[str], works: Sequence[str], rounds: int, seconds: int
) -> dict[str, Any]:
    """Let contenders take turns; return rate, p50 and p99 (ms) of each round."""
    with contextlib.ExitStack() as stack:
        served = {name: stack.enter_context(serving(CONTENDERS[name])) for name in names}
        found: dict[str, Any] = {
            work: {name: {"rate": [], "p50": [], "p99": []} for name in served} for work in works
        }
        for each in served.values():
            each.ready()
        for _ in range(rounds):
            for work, by_name in found.items():
                time.sleep(AFTER_A_WRITE)
                for name in random.sample(list(served), len(served)):
                    if CONTENDERS[name].near and work != "write":
                        load(served[name], work, 1)  # it takes its copies
                    for figure, value in load(served[name], work, seconds).items():
                        by_name[name][figure].append(value)
    return found
