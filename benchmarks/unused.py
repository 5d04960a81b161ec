"""What the middleware costs a request that has no session cookie and does not use the session.

In process: a Starlette application with one route, bare, behind Starlette's own SessionMiddleware,
and behind ours. The rounds alternate, and the figure is the median of each round's ratio to the
bare application: machines are shared and noisy.

    python benchmarks/unused.py
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarletteSessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sharedsession.asgi import SessionMiddleware

ROUNDS, REQUESTS = 60, 1000


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def application() -> Starlette:
    return Starlette(routes=[Route("/", hello)])


HEADERS = [
    (b"host", b"example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"connection", b"keep-alive"),
]


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    pass


async def round_of(app: Callable[..., Any]) -> float:
    started = time.perf_counter()
    for _ in range(REQUESTS):
        await app(scope(), receive, send)
    return (time.perf_counter() - started) / REQUESTS * 1e6


async def main() -> None:
    bare, starlette, ours = application(), application(), application()
    starlette.add_middleware(StarletteSessionMiddleware, secret_key="secret")
    ours.add_middleware(SessionMiddleware, secret_key="secret", store="memory://")
    apps = {"bare": bare, "starlette": starlette, "sharedsession": ours}
    taken: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        await round_of(app)
    for _ in range(ROUNDS):
        for name, app in apps.items():
            taken[name].append(await round_of(app))
    for name, times in taken.items():
        ratios = [each / bare for each, bare in zip(times, taken["bare"], strict=True)]
        median = statistics.median(times)
        print(f"{name:14} {median:6.2f} µs   {statistics.median(ratios):5.3f} times bare")


if __name__ == "__main__":
    asyncio.run(main())
