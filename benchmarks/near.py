"""What a read costs that a near copy answers, beside Starlette's session in a signed cookie.

In process, three sessions of different sizes: a Starlette application with one route that reads one
key, behind Starlette's own SessionMiddleware, which has no store at all, and behind ours with
``near_cache=True`` on Redis. What the application costs without sessions is taken off. The rounds
alternate; the figure is the median over the rounds, in CPU time of this process. Then the commands
that Redis was sent for those reads, and the memory that copies of a million sessions take.

    python benchmarks/near.py
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import redis
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarletteSessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from unused import receive, scope

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sharedsession import NearCache
from sharedsession.asgi import SessionMiddleware
from sharedsession.stores.base import Entry
from sharedsession.stores.near.copies import Copies
from tests.support.servers import RedisServer

ROUNDS, REQUESTS = 60, 300
SECRET = "a secret of this benchmark"
OLD = 60.0  # seconds: for three after a write, reads go to the store
SESSIONS = {
    "a user's number and a token": {"user_id": 12345, "_csrf": "c" * 40},
    "and a cart of 4": {
        "user_id": 12345,
        "_csrf": "c" * 40,
        "language": "en",
        "theme": "dark",
        "cart": [{"product": f"a-{number}", "count": number} for number in range(4)],
    },
    "and a cart of 20": {
        "user_id": 12345,
        "_csrf": "c" * 40,
        "cart": [{"product": f"a-{n}", "count": n, "name": "thing " * 3} for n in range(20)],
    },
}
MILLION = 1_000_000
DATA_BYTES = 300


def application(data: dict[str, Any]) -> Starlette:
    async def put(request: Request) -> PlainTextResponse:
        request.session.update(data)
        return PlainTextResponse("put")

    async def get(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.session["user_id"]))

    async def bare(request: Request) -> PlainTextResponse:
        return PlainTextResponse("12345")

    return Starlette(routes=[Route("/put", put), Route("/get", get), Route("/bare", bare)])


class Browser:
    def __init__(self, app: Any) -> None:
        self.app = app
        self.headers = list(scope()["headers"])

    async def ask(self, path: str) -> None:
        async def send(message: Any) -> None:
            for name, value in message.get("headers", ()):
                if name == b"set-cookie":
                    self.headers.append((b"cookie", value.partition(b";")[0]))

        asked = {**scope(), "path": path, "raw_path": path.encode(), "headers": self.headers}
        await self.app(asked, receive, send)

    async def time(self, path: str) -> float:
        started = time.process_time()
        for _ in range(REQUESTS):
            await self.ask(path)
            await asyncio.sleep(0)  # the event loop of a server turns between two requests
        return (time.process_time() - started) / REQUESTS * 1e6


async def compare(name: str, data: dict[str, Any], url: str) -> None:
    starlette, ours = application(data), application(data)
    middleware = SessionMiddleware(ours, secret_key=SECRET, store=url, near_cache=True)
    browsers = {
        "/bare": Browser(application(data)),
        "starlette": Browser(StarletteSessionMiddleware(starlette, secret_key=SECRET)),
        "ours": Browser(middleware),
    }
    for each in ("starlette", "ours"):
        await browsers[each].ask("/put")
    middleware.manager.clock = lambda: time.time() + OLD
    await browsers["ours"].ask("/get")
    await asyncio.sleep(0.5)  # until the first heartbeat has come back
    await browsers["ours"].ask("/get")
    taken: dict[str, list[float]] = {each: [] for each in browsers}
    for _ in range(ROUNDS):
        for each, browser in browsers.items():
            taken[each].append(await browser.time("/bare" if each == "/bare" else "/get"))
    bare, its, own = (statistics.median(times) for times in taken.values())
    ratio = statistics.median(
        (o - b) / (s - b)
        for b, s, o in zip(taken["/bare"], taken["starlette"], taken["ours"], strict=True)
    )
    loads = middleware.counts
    print(
        f"{name:28} {its - bare:5.1f} µs in Starlette's, {own - bare:5.1f} in ours: "
        f"{ratio:4.2f} times;  {loads.get('copy', 0)} loads by copy, {loads['store']} by the store"
    )


def commands(server: RedisServer) -> dict[str, int]:
    """How often each command was sent that reads or writes something, heartbeats aside."""
    with redis.Redis(port=server.port) as client:
        found = client.info("commandstats")
    return {
        name.partition("_")[2]: each["calls"]
        for name, each in found.items()
        if name in ("cmdstat_get", "cmdstat_mget", "cmdstat_evalsha", "cmdstat_set")
    }


async def count(server: RedisServer) -> None:
    """Count the commands of a thousand reads."""
    browser = Browser(
        SessionMiddleware(
            application(SESSIONS["and a cart of 4"]),
            secret_key=SECRET,
            store=server.url,
            near_cache=True,
        )
    )
    await browser.ask("/put")
    browser.app.manager.clock = lambda: time.time() + OLD
    await browser.ask("/get")
    await asyncio.sleep(0.5)
    await browser.ask("/get")
    before = commands(server)
    for _ in range(1000):
        await browser.ask("/get")
        await asyncio.sleep(0)
    after = commands(server)
    more = {name: number - before.get(name, 0) for name, number in after.items()}
    print(f"commands for 1000 reads by copy: {more} (set: the heartbeats, four a second)")


def resident() -> float:
    """Memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def fill() -> None:
    """Keep copies of a million sessions, in bounds."""
    for limits in (NearCache(), NearCache(max_entries=MILLION)):
        before = resident()
        copies = Copies(limits)
        most = 0.0
        for number in range(MILLION):
            key = f"{number:043d}"
            asking = copies.ask(key)
            entry = Entry(os.urandom(DATA_BYTES), 1, time.time() + 1000, os.urandom(32))
            copies.keep(key, asking, entry, time.monotonic(), told=True)
            copies.leave(key, asking)
            if number % 1000 == 0:
                most = max(most, resident())
        print(
            f"a million sessions of {DATA_BYTES} bytes, at most {limits.max_entries} entries and "
            f"{limits.max_bytes // 2**20} MiB: {len(copies)} kept, "
            f"{copies.bytes / 2**20:.1f} MiB by our count, "
            f"the process grew by {most - before:.1f} MiB at most"
        )


async def main() -> None:
    with RedisServer() as server:
        for name, data in SESSIONS.items():
            await compare(name, data, server.url)
        await count(server)


if __name__ == "__main__":
    asyncio.run(main())
    fill()
