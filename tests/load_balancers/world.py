"""Three servers, a store, and a balancer before them: real processes, ended by their numbers."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import redis
import trustme

from tests.support.processes import LIMIT, ROOT, free_port, wait_until
from tests.support.servers import RedisServer

from .pages import text_of
from .programs import BALANCER, SERVERS, Balancer

APPLICATION = "tests.load_balancers.application:app"
KEY = "a key of the load balancers' tests"
ALONE = 40  # requests in a row that a server does not get: by chance, one time in ten million


def command_of_the_page() -> list[str]:
    """Return how a server is started, as docs/load-balancers/README.md says it."""
    [line] = re.findall(r"^    (uvicorn .*)$", text_of("README.md"), re.MULTILINE)
    return shlex.split(line)


class Server:
    """One server with the application, on a port that it keeps."""

    def __init__(self, name: str, store: str, log: Path, environment: dict[str, str]) -> None:
        self.name, self.port = name, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = {"SHAREDSESSION_STORE": store, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return self.name

    def start(
        self, *, keys: Sequence[str] = (KEY,), version: str = "1", options: Sequence[str] = ()
    ) -> None:
        """Start it without waiting; ``keys`` are the secret keys, newest first."""
        assert self.process is None
        general = {
            "SERVER": self.name,
            "VERSION": version,
            "SHAREDSESSION_SECRET_KEY": json.dumps(list(keys)),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        command = [APPLICATION if word == "app:app" else word for word in command_of_the_page()]
        command[command.index(str(SERVERS[0]))] = str(self.port)
        quiet = ["--no-access-log", "--log-level", "warning"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, *quiet, *options],
                cwd=ROOT,
                env={**os.environ, **general, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self.process and (self.process.poll() is not None or self._ready()), "")
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def _ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.address}/ready", trust_env=False).status_code == 200
        return False

    @property
    def runs(self) -> bool:
        return self.process is not None

    def state(self) -> dict[str, Any]:
        """Ask the server itself for its counts."""
        answer: dict[str, Any] = httpx.get(f"{self.address}/counts", trust_env=False).json()
        return answer

    def drain(self) -> None:
        """Let its readiness say no."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: not self._ready(), f"{self.name} is not ready any more")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it in an orderly way: it answers what it is at, and goes."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(LIMIT)
        self.process = None


class BalancedServers:
    """A store and three servers, which balancers may come and go before."""

    def __init__(self, store: RedisServer, folder: Path, **environment: str) -> None:
        self.store = store
        self.servers = [
            Server(f"server-{number}", store.url, folder / f"server-{number}.log", environment)
            for number in (1, 2, 3)
        ]
        self.upsets: list[float] = []  # until when each may cost a request that was on its way

    def heal(self) -> None:
        """Start what does not run, as it was at first."""
        stopped = [server for server in self.servers if not server.runs]
        for server in stopped:
            server.start()
        for server in stopped:
            server.wait()

    def renew(self) -> None:
        """Start all servers anew, as they were at first."""
        for server in self.servers:
            server.kill()
        self.heal()

    def kill(self, server: Server) -> None:
        """Kill a server; the upset is over when a balancer that watches its connections knows.

        What is sent on a connection that has ended unnoticed is on its way to the dead server.
        Apache watches none, but looks at each before it sends something.
        """
        server.kill()
        with suppress(AssertionError):
            wait_until(lambda: not _is_connected_to(server.port), "", limit=0.3)
        self.upsets.append(time.monotonic())

    def keys(self) -> list[str]:
        """Return what the store holds of sessions."""
        with redis.Redis(port=self.store.port) as admin:
            found = [key.decode() for key in admin.scan_iter(count=1000)]
        return [key for key in found if ";heartbeat:" not in key]

    def empty(self) -> None:
        with redis.Redis(port=self.store.port) as admin:
            admin.flushdb()

    def loads(self) -> Counter[str]:
        """Return how often each kind of load happened, on all servers that run."""
        found: Counter[str] = Counter()
        for server in self.servers:
            if server.runs:
                found.update(server.state()["counts"])
        return Counter({kind: found[kind] for kind in ("copy", "store")})

    def server(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)


def _is_connected_to(port: int) -> bool:
    """Say whether a connection to this port of ours is open at its other end (on Linux)."""
    open_or_to_be_closed = {"01", "08"}
    table = Path("/proc/net/tcp")
    rows = table.read_text().splitlines()[1:] if table.exists() else []
    return any(
        int(row.split()[2].partition(":")[2], 16) == port and row.split()[3] in open_or_to_be_closed
        for row in rows
    )


class Gate:
    """A balancer that runs before the servers of a world; ``address`` is where clients come to."""

    def __init__(self, balancer: Balancer, world: BalancedServers, folder: Path) -> None:
        self.balancer, self.world, self.folder = balancer, world, folder
        self.port = free_port()
        own = [server.port for server in world.servers]
        self.ports = {BALANCER: self.port, **dict(zip(SERVERS, own, strict=True))}
        self.ports.update({port: free_port() for port in balancer.ports})
        self.address = f"{'https' if balancer.tls else 'http'}://127.0.0.1:{self.port}"
        self._log = folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None
        balancer.write(folder, self.ports)
        if balancer.tls:
            certificate = trustme.CA().issue_cert("127.0.0.1")
            certificate.private_key_pem.write_to_path(folder / "key.pem")
            chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
            (folder / "certificate.pem").write_bytes(chain)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.balancer.command_in(self.folder),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # all that it starts is in a group of its number
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def said(self) -> str:
        """Return all that it wrote: output and logs, and nothing of its configuration."""
        logs = self.folder.rglob("*.log")
        return "".join(path.read_text(errors="replace") for path in logs)

    def asked(self, times: int) -> Counter[str]:
        """Ask that often without any cookie; return how often each server answered."""
        found: Counter[str] = Counter()
        options = {"trust_env": False, "verify": False, "timeout": LIMIT}
        with httpx.Client(base_url=self.address, **options) as client:
            for _ in range(times):
                found[self._asked_once(client)] += 1
        return found

    def _asked_once(self, client: httpx.Client) -> str:
        client.cookies.clear()
        try:
            answer = client.get("/plain")
        except httpx.TransportError as error:
            return type(error).__name__
        return answer.headers.get("X-Server", str(answer.status_code))

    def wait(self) -> None:
        """Wait until every server that runs answers by it."""
        assert self.process is not None
        running = {server.name for server in self.world.servers if server.runs}

        def all_answer() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.said()[-4000:]
            return set(self.asked(12)) == running

        wait_until(all_answer, f"{self.balancer} leads to all servers")

    def leave_alone(self, server: Server) -> None:
        """Wait until no request comes to a server any more, and all are answered."""
        others = {each.name for each in self.world.servers if each is not server}
        wait_until(lambda: set(self.asked(ALONE)) <= others, f"{self.balancer} leaves it alone")

    def notice(self, server: Server) -> None:
        """Wait until it has said that a server is down, where that is known."""
        sentence = self.balancer.says_down.format(server=server.name)
        wait_until(lambda: sentence in self.said(), f"{self.balancer} notices")

    def drain(self, server: Server) -> None:
        """Take a server out without anybody noticing, and end it."""
        if self.balancer.take_out is not None:
            self.balancer.take_out(self, server)
        else:
            server.drain()
        self.leave_alone(server)
        wait_until(lambda: not server.state()["in_flight"], f"{server} has answered everything")
        server.stop()

    def bring_back(self, server: Server, **how: Any) -> None:
        """Start a server again, and wait until requests come to it."""
        server.start(**how)
        server.wait()
        if self.balancer.put_back is not None:
            self.balancer.put_back(self, server)
        wait_until(lambda: server.name in self.asked(12), f"{self.balancer} leads to {server}")


@contextmanager
def world(**environment: str) -> Iterator[BalancedServers]:
    """Three servers and their store, with these settings in the servers' environment."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sharedsession-")))
        made = BalancedServers(stack.enter_context(RedisServer()), folder, **environment)
        for server in made.servers:
            stack.callback(server.kill)
        made.heal()
        yield made
        said = "".join(server.log.read_text() for server in made.servers)
        assert "Traceback" not in said, said[-4000:]


@contextmanager
def gate(balancer: Balancer, before: BalancedServers) -> Iterator[Gate]:
    """A balancer before these servers."""
    with tempfile.TemporaryDirectory(prefix="sharedsession-balancer-") as folder:
        Path(folder).chmod(0o755)  # a program that gives up being root reads there as well
        made = Gate(balancer, before, Path(folder))
        try:
            made.start()
            made.wait()
            yield made
        finally:
            made.stop()
