"""Clients that call an application in process, as a server would, and the time that it takes.

Each client has a session of its own and keeps its cookies: what an answer sets goes back with the
next request. Of so many clients each has one request at a time on its way: tasks of one event loop
under ASGI, threads under WSGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from .contenders import Contender

AFTER_A_WRITE = 3.2  # seconds; for three, a near copy sends reads to the store
AWAY = 15.0  # seconds without a request after which a near copy is not trusted at once
FIRST_BEAT = 0.6  # seconds until it is again
WARM = 3  # times as long as what is measured then
HEADERS = {
    "host": "example.org",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language": "en-US,en;q=0.5",
    "accept-encoding": "gzip, deflate, br, zstd",
    "connection": "keep-alive",
}


@dataclass(frozen=True)
class Work:
    """What a request does, by its path, and whether its client has signed in before."""

    name: str
    path: str
    signed_in: bool = True


WORKS = {
    each.name: each
    for each in (
        Work("no cookie, unused", "/unused", signed_in=False),
        Work("cookie, unused", "/unused"),
        Work("read", "/read"),
        Work("write", "/write"),
    )
}


@dataclass(frozen=True)
class Order:
    """So many requests of one kind, by so many clients at a time."""

    work: str
    concurrent: int
    seconds: float  # that they should take, about
    begin: str = "/sign-in"  # how each client fills its session


@dataclass(frozen=True)
class Call:
    """A function to be called with the application, in its process: its result is the answer."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Crowd:
    """So many new clients sign in, one after the other."""

    clients: int


@dataclass(frozen=True)
class Asked:
    """Each client of the crowd sends one request; what that costs is counted where it arrives."""

    path: str


@dataclass(frozen=True)
class Taken:
    """Microseconds for each request."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Failed:
    """The answer where something went wrong."""

    why: str


class Jar:
    """The cookies of a client."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}
        self.sent = ""

    def take(self, header: str) -> None:
        """Keep what a Set-Cookie says."""
        name, _, value = header.partition(";")[0].partition("=")
        self._cookies[name] = value
        self.sent = "; ".join(f"{name}={value}" for name, value in self._cookies.items())


class AsgiClient:
    """One that calls an ASGI application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._jar = Jar()
        self._plain = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        self._headers = self._plain
        self.body = b""

    async def ask(self, path: str) -> None:
        status = 0

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.body":
                self.body = message.get("body", b"")
                return
            status = message["status"]
            for name, value in message["headers"]:
                if name.lower() == b"set-cookie":
                    self._jar.take(value.decode("latin-1"))
                    self._headers = [*self._plain, (b"cookie", self._jar.sent.encode("latin-1"))]

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": self._headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        await self._app(scope, _receive, send)
        assert status == 200, f"{path} was answered {status}"


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


class WsgiClient:
    """One that calls a WSGI application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._jar = Jar()
        self._headers = {
            f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()
        }
        self.body = b""

    def ask(self, path: str) -> None:
        status = ""

        def start_response(line: str, headers: list[tuple[str, str]], *_: Any) -> None:
            nonlocal status
            status = line
            for name, value in headers:
                if name.lower() == "set-cookie":
                    self._jar.take(value)
                    self._headers["HTTP_COOKIE"] = self._jar.sent

        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **self._headers,
        }
        answer = self._app(environ, start_response)
        try:
            self.body = b"".join(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        assert status.startswith("200"), f"{path} was answered {status}"


class Asgi:
    """Clients of an ASGI application, all on one event loop."""

    client = AsgiClient

    async def all(self, clients: Sequence[Any], path: str, each: int) -> None:
        async def drive(client: AsgiClient) -> None:
            for _ in range(each):
                await client.ask(path)
                await asyncio.sleep(0)  # a server's loop turns between two requests

        await asyncio.gather(*map(drive, clients))


class Wsgi:
    """Clients of a WSGI application, each in a thread."""

    client = WsgiClient

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=128)

    async def all(self, clients: Sequence[Any], path: str, each: int) -> None:
        if len(clients) == 1:
            self._drive(clients[0], path, each, None)
            return
        together = threading.Barrier(len(clients))
        for done in [
            self._threads.submit(self._drive, client, path, each, together) for client in clients
        ]:
            done.result()

    def _drive(
        self, client: WsgiClient, path: str, each: int, together: threading.Barrier | None
    ) -> None:
        if together is not None:
            together.wait()
        for _ in range(each):
            client.ask(path)


class Driver:
    """One contender's application in this process, and its clients."""

    def __init__(self, contender: Contender, app: Any) -> None:
        self._contender, self._app = contender, app
        self._way: Asgi | Wsgi = Asgi() if contender.kind == "asgi" else Wsgi()
        self._clients: dict[Order, list[Any]] = {}
        self._each: dict[Order, int] = {}
        self._last = 0.0
        self._crowd: list[Any] = []

    async def do(self, order: Any) -> Any:
        """Do what is ordered."""
        if isinstance(order, Order):
            return await self.measure(order)
        if isinstance(order, Call):
            return order.function(self._app, *order.arguments)
        if isinstance(order, Crowd):
            self._crowd = [self._way.client(self._app) for _ in range(order.clients)]
            return await self._each_asks("/sign-in")
        if isinstance(order, Asked):
            return await self._each_asks(order.path)
        return await self.prepare(order)

    async def _each_asks(self, path: str) -> None:
        for client in self._crowd:
            await self._way.all([client], path, 1)

    async def prepare(self, orders: Sequence[Order]) -> None:
        """Sign clients in, see that the application does what is measured, and warm it up."""
        if not orders:
            return
        for order in orders:
            clients = [self._way.client(self._app) for _ in range(order.concurrent)]
            self._clients[order] = clients
            if WORKS[order.work].signed_in and self._contender.bare:
                await self._way.all(clients, order.begin, 1)
        if self._contender.near:
            await asyncio.sleep(AFTER_A_WRITE)
            await self._trust()
        for order in orders:
            path, clients = self._path(order), self._clients[order]
            await self._check(clients[0], path)
            self._each[order] = await self._count(clients, path, order.seconds)
        self._last = time.monotonic()

    def _path(self, order: Order) -> str:
        return WORKS[order.work].path if self._contender.bare else "/unused"

    async def _check(self, client: Any, path: str) -> None:
        bodies = []
        for _ in range(2):
            await self._way.all([client], path, 1)
            bodies.append(client.body)
        if path == "/write":
            assert int(bodies[1]) == int(bodies[0]) + 1, f"{self._contender.name} does not write"
        else:
            assert bodies == [b"4711"] * 2, f"{self._contender.name} answers {bodies}"

    async def _count(self, clients: Sequence[Any], path: str, seconds: float) -> int:
        """Return how many requests each client can have answered in that time."""
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < WARM * seconds:
            await self._way.all(clients, path, 1)
            done += 1
        return max(1, round(seconds * done / (time.perf_counter() - started)))

    async def _trust(self) -> None:
        """Let each client that only reads have its copy."""
        clients = [
            client
            for order, clients in self._clients.items()
            if WORKS[order.work].signed_in and order.work != "write"
            for client in clients
        ]
        await self._way.all(clients, "/read", 1)
        await asyncio.sleep(FIRST_BEAT)
        await self._way.all(clients, "/read", 1)

    async def measure(self, order: Order) -> Taken:
        """Return what each request takes."""
        path, clients, each = self._path(order), self._clients[order], self._each[order]
        if self._contender.near and time.monotonic() - self._last > AWAY:
            await self._trust()
        gc.collect()
        await self._way.all(clients, path, max(1, each // 5))  # others have had the caches
        wall, cpu = time.perf_counter(), time.process_time()
        await self._way.all(clients, path, each)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self._last = time.monotonic()
        micros = 1e6 / each / len(clients)
        return Taken(cpu * micros, wall * micros)


@contextlib.asynccontextmanager
async def alive(contender: Contender, app: Any) -> AsyncIterator[None]:
    """Run an ASGI application's lifespan, as a server does."""
    if contender.kind == "wsgi":
        yield
        return
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    await to_app.put({"type": "lifespan.startup"})
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running: Callable[..., Awaitable[Any]] = app
    task = asyncio.ensure_future(running(scope, to_app.get, from_app.put))
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    yield
    await to_app.put({"type": "lifespan.shutdown"})
    await task


async def obey(connection: Connection, contender: Contender, url: str) -> None:
    """Do what is ordered through a connection, until None comes."""
    app = contender.make(url)
    async with alive(contender, app):
        driver = Driver(contender, app)
        while (order := await asyncio.to_thread(connection.recv)) is not None:
            try:
                answer = await driver.do(order)
            except Exception as error:  # noqa: BLE001 - raised where it is read
                answer = Failed(f"{contender.label}: {error!r}")
            connection.send(answer)


def contend(connection: Connection, contender: Contender, url: str) -> None:
    """Be the process of one contender."""
    asyncio.run(obey(connection, contender, url))
