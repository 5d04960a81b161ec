"""A round-robin balancer: each request goes to the next server, whoever sent it.

What it keeps to:

* A refused connection costs nothing, so the request goes on to the next server.
* A request that dies on its way has an unknown outcome. One that only reads (GET, HEAD) is asked
  again elsewhere, any other is answered 502 and never sent twice.
* Headers pass as they are, every Cookie and Set-Cookie among them, except those that concern one
  connection only. Who asked, by which scheme and for which host is told to the server.
"""

from __future__ import annotations

import itertools
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.responses import Response as Answer
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from . import page
from .servers import Server

LARGEST_BODY = 1024 * 1024
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


def from_here(request: Request) -> bool:
    """Say whether a request comes from our own page, or from no page at all (curl)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """Return the whole body, or None when it is larger than the balancer takes."""
    body = bytearray()
    async for chunk in Request(scope, receive).stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


class Balancer:
    """The forwarding part, an ASGI application; ``answered`` counts answers by server name."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.answered: Counter[str] = Counter()
        self._turn = itertools.count()
        self._transport: httpx.AsyncHTTPTransport | None = None

    def lanes(self) -> list[page.Lane]:
        """What there is to tell about each server."""
        return [
            page.Lane(server.name, server.pid is not None, self.answered[server.name], server.port)
            for server in self.servers
        ]

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
        answer: Answer = HTMLResponse(page.no_server(self.lanes()), 503, page.HEADERS)
        turn = next(self._turn) % len(self.servers)
        for server in (*self.servers[turn:], *self.servers[:turn]):
            try:
                response = await self._ask(server, scope, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.TransportError:
                died = {"x-demo-died": server.name}
                answer = PlainTextResponse(f"{server.name} died while it answered.\n", 502, died)
                if scope["method"] not in READING:
                    break
            else:
                self.answered[server.name] += 1
                response.headers["x-demo-server"] = server.name
                return response
        return answer

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


def create_balancer(servers: Sequence[Server]) -> Starlette:
    """Return the balancer, and under ``/_demo`` what shows, kills and starts its servers."""
    balancer = Balancer(servers)
    by_name = {server.name: server for server in servers}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with balancer.connected():
            yield

    def show(request: Request) -> Answer:
        lanes = balancer.lanes()
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse([lane._asdict() for lane in lanes])
        return HTMLResponse(page.panel(lanes), headers=page.HEADERS)

    def change(request: Request) -> Answer:
        if not from_here(request):
            return PlainTextResponse("Only the demo's own page may do that.\n", 403)
        server = by_name.get(request.path_params["name"])
        verb = request.path_params["verb"]
        if server is None or verb not in ("kill", "start"):
            return PlainTextResponse("There is no such server or verb.\n", 404)
        server.kill() if verb == "kill" else server.start()
        return RedirectResponse("/_demo/servers", 303)

    return Starlette(
        routes=[
            Route("/_demo/servers", show),
            Route("/_demo/servers/{name}/{verb}", change, methods=["POST"]),
            Mount("/", balancer),
        ],
        lifespan=lifespan,
    )
