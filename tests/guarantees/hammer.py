"""One of several processes that hammer one session through the middleware; run by the test.

python -m tests.guarantees.hammer STORE COOKIE NUMBER EACH: says "ready", waits for a line, then
increments and sets a key of its own, and prints how many requests were acknowledged, and how many
were not. Even numbers do so through ASGI, odd ones through WSGI, in threads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sharedsession import wsgi
from sharedsession.asgi import Message, Receive, Scope, Send, SessionMiddleware
from tests.guarantees.driver import SECRET, add_one

AT_ONCE = 2


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    session = scope["session"]
    if scope["path"] == "/increment":
        session.mutate(add_one)
    else:
        session[scope["path"]] = True
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def through_asgi(store: str, cookie: str, number: int, each: int) -> list[int]:
    app = SessionMiddleware(application, SECRET, store=store, store_timeout=10)

    async def request(path: str) -> int:
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        headers = [(b"cookie", f"session={cookie}".encode())]
        scope = {"type": "http", "scheme": "http", "path": path, "headers": headers}
        await app(scope, receive, send)
        return status

    async def some(count: int) -> list[int]:
        return [await request("/increment") for _ in range(count)]

    async with asyncio.TaskGroup() as group:
        increments = [group.create_task(some(each // AT_ONCE)) for _ in range(AT_ONCE)]
        own = group.create_task(request(f"key of {number}"))
    assert own.result() == 200, own.result()
    return [status for some in increments for status in some.result()]


def plain_application(environ: wsgi.Environ, start_response: wsgi.StartResponse) -> Iterable[bytes]:
    session = environ["sharedsession.session"]
    if environ["PATH_INFO"] == "/increment":
        session.mutate(add_one)
    else:
        session[environ["PATH_INFO"]] = True
    start_response("200 OK", [])
    return []


def through_wsgi(store: str, cookie: str, number: int, each: int) -> list[int]:
    app = wsgi.SessionMiddleware(plain_application, SECRET, store=store, store_timeout=10)

    def request(path: str) -> int:
        statuses: list[int] = []

        def start_response(status: str, *_: Any) -> Any:
            statuses.append(int(status[:3]))

        list(app({"PATH_INFO": path, "HTTP_COOKIE": f"session={cookie}"}, start_response))
        return statuses[0]

    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        own = threads.submit(request, f"key of {number}")
        statuses = list(threads.map(request, ["/increment"] * each))
    assert own.result() == 200, own.result()
    return statuses


def main(store: str, cookie: str, number: int, each: int) -> None:
    if number % 2:
        statuses = through_wsgi(store, cookie, number, each)
    else:
        statuses = asyncio.run(through_asgi(store, cookie, number, each))
    assert set(statuses) <= {200, 503}, statuses
    sys.stdout.write(f"{statuses.count(200)} {statuses.count(503)}\n")


if __name__ == "__main__":
    _, store, cookie, number, each = sys.argv
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    main(store, cookie, int(number), int(each))
