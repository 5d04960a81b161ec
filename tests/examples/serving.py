"""Servers of the examples, started by the commands that their pages show, and a round robin."""

from __future__ import annotations

import http.client
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from tests.demo.demos import clean_environment, refuses
from tests.support.chromium import wait_for
from tests.support.processes import ROOT, free_port

EXAMPLES = ROOT / "examples"
SERVERS = "uvicorn|gunicorn|flask|waitress-serve"
PORT = re.compile(r"\b80\d\d\b")  # as the pages write them


def commands(page: Path) -> list[str]:
    """Return the indented lines of a page that start a server."""
    return re.findall(rf"^    ((?:\w+=\w+ )?(?:{SERVERS}) .*)$", page.read_text(), re.MULTILINE)


def client(address: str = "", **options: Any) -> httpx.Client:
    """Return a client with a cookie jar of its own, as a browser is one."""
    options = {"follow_redirects": True, **options}
    return httpx.Client(base_url=address, timeout=20, trust_env=False, verify=False, **options)


@contextmanager
def running(*launches: tuple[str, Path], **environment: str) -> Iterator[list[str]]:
    """Run commands in their folders, each on a free port in place of its own; give addresses."""
    with ExitStack() as stack:
        started = [
            (command, *stack.enter_context(_process(command, folder, environment)))
            for command, folder in launches
        ]
        try:
            for command, port, process in started:
                wait_for(f"{command} to listen", lambda: process.poll() or not refuses(port))
                assert process.poll() is None, f"{command} has ended; what it said is above"
            yield [f"http://127.0.0.1:{port}" for _, port, _ in started]
        finally:
            for _, _, process in started:  # all at once; each is waited for as the stack unwinds
                process.terminate()


@contextmanager
def _process(
    command: str, folder: Path, environment: dict[str, str]
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    words = shlex.split(PORT.sub(str(port), command))
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment = {**environment, name: value}
    module = words.pop(0).replace("waitress-serve", "waitress")
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", module, *words],
        cwd=folder,
        env={**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1", **environment},
    ) as process:
        yield port, process


# --- a round robin --------------------------------------------------------------------------------


class Balancer(ThreadingHTTPServer):
    """Each request goes to the next server, whoever sent it; `next_is` says which comes next."""

    daemon_threads = True

    def __init__(self, *addresses: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.addresses = addresses
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.next_is(0)

    def next_is(self, index: int) -> None:
        self._turn = count(index)

    def choose(self) -> int:
        return next(self._turn) % len(self.addresses)


class _Forwarding(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Balancer)
        chosen = self.server.choose()
        host = self.server.addresses[chosen].removeprefix("http://")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response_only(answer.status)
        for name, value in (*answer.getheaders(), ("x-served-by", str(chosen))):
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def balanced(*addresses: str) -> Iterator[Balancer]:
    with Balancer(*addresses) as balancer:
        thread = Thread(target=balancer.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield balancer
        finally:
            balancer.shutdown()
            thread.join()
