"""Server-sent events: what is published reaches every browser that watches, as it happens.

Each watcher first gets the whole picture, then what changes. It has a queue of bounded length: one
that does not keep up is cut off, comes back by itself, and gets the whole picture again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from starlette.types import Message, Receive, Send

LONGEST_QUEUE = 256  # events
HEARTBEAT = 15.0  # seconds without an event after which a comment shows that the line is up
SLOWEST = 10.0  # seconds that one event may take on its way
RETRY = b"retry: 1000\n\n"  # milliseconds until a browser that lost its line comes back
START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}

Queue = asyncio.Queue[bytes | None]  # None: there is no more


def encode(event: str, data: object) -> bytes:
    """Return an event as it is sent; JSON has no line breaks of its own."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


class Feed:
    """Everybody who watches. To be used on the event loop only."""

    def __init__(self) -> None:
        self._queues: set[Queue] = set()
        self._closed = False

    def publish(self, event: str, data: object) -> None:
        """Send an event to all watchers, without waiting for any."""
        message = encode(event, data)
        for queue in list(self._queues):
            if queue.full():
                self._end(queue)
            else:
                queue.put_nowait(message)

    def close(self) -> None:
        """End every stream, so that a server that shuts down has nothing to wait for."""
        self._closed = True
        for queue in list(self._queues):
            self._end(queue)

    async def watch(self, picture: Callable[[], bytes], receive: Receive, send: Send) -> None:
        """Answer a request with the whole picture and all that follows, until either side ends."""
        queue = Queue(LONGEST_QUEUE)
        leaving = asyncio.create_task(self._end_with_the_client(queue, receive))
        try:
            await _send(send, START)
            self._queues.add(queue)  # from here on nothing is missed, and nothing comes twice
            message: bytes | None = RETRY + picture()
            while message is not None:
                await _send(send, _body(message))
                message = None if self._closed else await _next(queue)
            await _send(send, {"type": "http.response.body", "body": b""})
        except TimeoutError:
            pass  # too slow; the answer stays incomplete, and our server cuts the connection
        finally:
            self._queues.discard(queue)
            leaving.cancel()

    def _end(self, queue: Queue) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _end_with_the_client(self, queue: Queue, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(queue)


async def _next(queue: Queue) -> bytes | None:
    try:
        async with asyncio.timeout(HEARTBEAT):
            return await queue.get()
    except TimeoutError:
        return b": still here\n\n"


async def _send(send: Send, message: Message) -> None:
    async with asyncio.timeout(SLOWEST):
        await send(message)


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
