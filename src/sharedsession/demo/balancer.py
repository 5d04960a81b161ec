"""The balancer: for each request it picks a server, as the strategy wants it.

What it keeps to:

* A refused connection costs nothing, so the request goes on to the next server.
* A request that dies on its way, or is not answered in time, has an unknown outcome. One that only
  reads (GET, HEAD) is asked again elsewhere, any other is answered 502 and never sent twice.
* A server that did not answer in time is asked last for a while.
* What becomes of each request is reported, to a function that may show it.
* Headers pass as they are, every Cookie and Set-Cookie among them, except those that concern one
  connection only. Who asked, by which scheme and for which host is told to the server.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.responses import Response as Answer
from starlette.types import Message, Receive, Scope, Send

from .page import Page
from .routes import Route, route_of
from .servers import Server
from .strategies import SHARED, STRATEGIES, Strategy, cookie_of
from .worker import CHOSEN

LARGEST_BODY = 1024 * 1024
LONGEST_PATH = 80  # characters that are told
TIMEOUT = 3.0  # seconds that a server may take, unless told otherwise
REST = 5.0  # seconds for which a server is asked last that did not answer in time
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=100)
INSIDE = "/in/"  # begins a path that names its strategy: /in/clustered/shop
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
OURS_TO_SAY = {
    b"content-length",  # the body is read whole, however it was sent
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    CHOSEN.encode(),
}
MET = "x-demo-session"  # how an application met its session; between it and us only
READ = "x-demo-read"  # where it was read from
_INSIDE = re.compile(rf"{INSIDE}({'|'.join(STRATEGIES)})(?=/|$)".encode())
NO_SERVER = Page("no-server.html", style="shop.css", policy="frame-ancestors 'self'")

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
    """What became of a request at a server.

    ``met`` is how it met its session, or that it died; ``read`` is where it was read from:
    the store, a replica, a copy, or the server's own memory.
    """

    server: str
    method: str
    path: str
    status: int
    met: str
    milliseconds: float
    strategy: str = SHARED.name
    read: str = ""


class Reply(NamedTuple):
    """An answer, and what became of the request that it answers; None: no server has answered."""

    answer: httpx.Response | Answer
    fate: Fate | None


class Balancer:
    """The forwarding part, an ASGI application; ``tell`` learns what became of each request.

    A request is one of ``strategy``, unless its path names another. ``cookie`` is what the names of
    the strategies' cookies begin with; ``timeout``: seconds that a server may take to answer.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        tell: Callable[[Fate], None],
        strategy: Strategy = SHARED,
        cookie: str = "session",
        timeout: float = TIMEOUT,
    ) -> None:
        self._timeout = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        self.servers = servers
        self.strategy = strategy
        self._tell = tell
        self._routes: Mapping[str, Route] = {
            each.name: route_of(each, servers, cookie_of(each, cookie))
            for each in STRATEGIES.values()
        }
        self._rests_until: dict[str, float] = {}
        self._transport: httpx.AsyncHTTPTransport | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections to the servers for as long as this lasts."""
        # The bare transport: a client would keep cookies of its own and follow redirects.
        transport = httpx.AsyncHTTPTransport(
            trust_env=False, verify=NO_CERTIFICATES, limits=CONNECTIONS
        )
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
        strategy, scope = self._strategy_of(scope)
        answer = (await self.ask(strategy, scope, body)).answer
        if isinstance(answer, httpx.Response):
            await self._pass_on(answer, send)
        else:
            await answer(scope, receive, send)

    def _strategy_of(self, scope: Scope) -> tuple[Strategy, Scope]:
        found = _INSIDE.match(scope["raw_path"])
        if found is None:
            return self.strategy, scope
        raw = scope["raw_path"][found.end() :] or b"/"
        inner = {**scope, "path": unquote(raw.decode("ascii")), "raw_path": raw}
        return STRATEGIES[found[1].decode()], inner

    def forgive(self, server: str) -> None:
        """Ask a server in its turn again, which has not answered in time before."""
        self._rests_until.pop(server, None)

    async def ask(self, strategy: Strategy, scope: Scope, body: bytes) -> Reply:
        """Return the first answer of a server, or our own when there is none to be had."""
        reply = Reply(HTMLResponse(NO_SERVER.render(), 503, NO_SERVER.headers), None)
        route = self._routes[strategy.name]
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        order = route.order(b"; ".join(cookies).decode("latin-1"))
        begun = time.perf_counter()
        for server in sorted(order, key=self._rests):
            try:
                response = await self._ask(server, strategy, scope, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.TransportError as error:
                if isinstance(error, httpx.TimeoutException):
                    self._rests_until[server.name] = time.monotonic() + REST
                fate = self._note(server, strategy, scope, 502, begun, "died", "")
                died = {"x-demo-died": server.name}
                told = PlainTextResponse(f"{server.name} died while it answered.\n", 502, died)
                reply = Reply(told, fate)
                if scope["method"] not in READING:
                    break
            else:
                route.learn(server, response.headers.get_list("set-cookie"))
                met, read = response.headers.pop(MET, ""), response.headers.get(READ, "")
                if read and not strategy.is_shared:  # the store that it names is its own memory
                    read = response.headers[READ] = "memory"
                fate = self._note(server, strategy, scope, response.status_code, begun, met, read)
                response.headers["x-demo-server"] = server.name
                return Reply(response, fate)
        return reply

    def _rests(self, server: Server) -> bool:
        return time.monotonic() < self._rests_until.get(server.name, 0.0)

    def _note(
        self,
        server: Server,
        strategy: Strategy,
        scope: Scope,
        status: int,
        begun: float,
        met: str,
        read: str,
    ) -> Fate:
        took = (time.perf_counter() - begun) * 1000
        path = scope["path"][:LONGEST_PATH]
        method = scope["method"]
        fate = Fate(server.name, method, path, status, met, took, strategy.name, read)
        self._tell(fate)
        return fate

    async def _ask(
        self, server: Server, strategy: Strategy, scope: Scope, body: bytes
    ) -> httpx.Response:
        if server.port is None or self._transport is None:
            raise httpx.ConnectError(f"{server.name} has not started yet")
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        request = httpx.Request(
            scope["method"],
            f"http://127.0.0.1:{server.port}/",
            headers=[*forwarded(scope), (CHOSEN.encode(), strategy.name.encode())],
            content=body,
            extensions={"timeout": self._timeout, "target": target},
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
