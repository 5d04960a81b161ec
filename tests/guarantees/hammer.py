"""One of several processes that hammer one session through the middleware; run by the test.

python -m tests.guarantees.hammer STORE COOKIE NUMBER EACH: says "ready", waits for a line, then
increments and sets a key of its own, and prints how many requests were acknowledged, and how many
were not.
"""

from __future__ import annotations

import asyncio
import sys

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


async def main(store: str, cookie: str, number: int, each: int) -> None:
    app = SessionMiddleware(application, SECRET, store=store, timeout=10)

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

    several = await asyncio.gather(
        *(some(each // AT_ONCE) for _ in range(AT_ONCE)), request(f"key of {number}")
    )
    *increments, own = several
    statuses = [status for row in increments if isinstance(row, list) for status in row]
    assert own == 200, own
    assert set(statuses) <= {200, 503}, statuses
    sys.stdout.write(f"{statuses.count(200)} {statuses.count(503)}\n")


if __name__ == "__main__":
    _, store, cookie, number, each = sys.argv
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    asyncio.run(main(store, cookie, int(number), int(each)))
