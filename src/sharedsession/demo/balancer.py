"""A round-robin balancer: each request goes to the next server, whoever sent it.

What it keeps to:

* A refused connection costs nothing, so the request goes on to the next server.
* A request that dies on its way has an unknown outcome. One that only reads (GET, HEAD) is asked
  again elsewhere, any other is answered 502 and never sent twice.
* What becomes of each request is told, to whoever wants to show it.
* Headers pass as they are, every Cookie and Set-Cookie among them, except those that concern one
  connection only. Who asked, by which scheme and for which host is told to the server.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.responses import Response as Answer
from starlette.types import Message, Receive, Scope, Send

from .page import Page
from .servers import Server

LARGEST_BODY = 1024 * 1024
LONGEST_PATH = 80  # characters that are told
TIMEOUT = {"connect": 2.0, "read": 30.0, "write": 30.0, "pool": 30.0}
# Loopback has no certificates to check, and reading the system's takes longer than many requests.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
READING = {"GET", "HEAD"}
ONE_CONNECTION_ONLY = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
OURS_TO_SAY = {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
MET = "x-demo-session"  # how an application met its session; between it and us only
NOBODY = Page("nobody.html", style="shop.css", policy="frame-ancestors 'self'")

Headers = list[tuple[bytes, bytes]]


def end_to_end(headers: Headers) -> Headers:
    """Return the headers without those that concern one connection only."""
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = ONE_CONNECTION_ONLY | {name.strip().lower() for name in named.split(b",")}
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


def forwarded(scope: Scope) -> Headers:
    """Return the headers for the server: the client's, and who the client is."""
    headers = [pair for pair in end_to_end(scope["headers"]) if pair[0] not in OURS_TO_SAY]
    hosts = [value for name, value in headers if name == b"host"]
    return [
        *headers,
        (b"x-forwarded-for", (scope["client"] or ("unknown", 0))[0].encode()),
        (b"x-forwarded-proto", scope["scheme"].encode()),
        *((b"x-forwarded-host", host) for host in hosts),
    ]


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """Return the whole body, or None when it is larger than the balancer takes."""
    body = bytearray()
    async for chunk in Request(scope, receive).stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


class Fate(NamedTuple):
    """What became of a request at a server; ``met`` is how it met its session, or that it died."""

    server: str
    method: str
    path: str
    status: int
    met: str
    milliseconds: float


class Balancer:
    """The forwarding part, an ASGI application; ``tell`` learns what became of each request."""

    def __init__(self, servers: Sequence[Server], tell: Callable[[Fate], None]) -> None:
        self.servers = servers
        self._tell = tell
        self._turn = itertools.count()
        self._transport: httpx.AsyncHTTPTransport | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections to the servers for as long as this lasts."""
        # The bare transport: a client would keep cookies of its own and follow redirects.
        transport = httpx.AsyncHTTPTransport(trust_env=False, verify=NO_CERTIFICATES)
        async with transport as self._transport:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive)
        except ClientDisconnect:
            return
        if body is None:
            await PlainTextResponse("This request is too large.\n", 413)(scope, receive, send)
            return
        answer = await self._ask_one(scope, body)
        if isinstance(answer, httpx.Response):
            await self._pass_on(answer, send)
        else:
            await answer(scope, receive, send)

    async def _ask_one(self, scope: Scope, body: bytes) -> httpx.Response | Answer:
        """Return the first answer of a server, or our own when there is none to be had."""
        answer: Answer = HTMLResponse(NOBODY.render(), 503, NOBODY.headers)
        turn = next(self._turn) % len(self.servers)
        for server in (*self.servers[turn:], *self.servers[:turn]):
            begun = time.perf_counter()
            try:
                response = await self._ask(server, scope, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.TransportError:
                self._note(server, scope, 502, "died", begun)
                died = {"x-demo-died": server.name}
                answer = PlainTextResponse(f"{server.name} died while it answered.\n", 502, died)
                if scope["method"] not in READING:
                    break
            else:
                met = response.headers.pop(MET, "")
                self._note(server, scope, response.status_code, met, begun)
                response.headers["x-demo-server"] = server.name
                return response
        return answer

    def _note(self, server: Server, scope: Scope, status: int, met: str, begun: float) -> None:
        took = (time.perf_counter() - begun) * 1000
        path = scope["path"][:LONGEST_PATH]
        self._tell(Fate(server.name, scope["method"], path, status, met, took))

    async def _ask(self, server: Server, scope: Scope, body: bytes) -> httpx.Response:
        if server.port is None or self._transport is None:
            raise httpx.ConnectError(f"{server.name} has not started yet")
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        request = httpx.Request(
            scope["method"],
            f"http://127.0.0.1:{server.port}/",
            headers=forwarded(scope),
            content=body,
            extensions={"timeout": TIMEOUT, "target": target},
        )
        return await self._transport.handle_async_request(request)

    async def _pass_on(self, response: httpx.Response, send: Send) -> None:
        start: Message = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": end_to_end(response.headers.raw),
        }
        await send(start)
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]  # an async client's is async
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.TransportError:
            return  # the answer stays incomplete, and the server that runs us cuts the connection
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})
