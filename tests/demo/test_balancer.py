"""The balancer: whose turn it is, what passes through it, and what it tells about it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from sharedsession.demo.balancer import NO_CERTIFICATES, Balancer, Fate
from sharedsession.demo.command import address_of, balanced, listening
from sharedsession.demo.routes import Route
from sharedsession.demo.servers import Server
from sharedsession.demo.strategies import SHARED, STRATEGIES

DIE = b""


class Upstream(socketserver.ThreadingTCPServer):
    """Stands in for an application server: answers each request with the same bytes.

    Without an answer it holds its port, so that nobody else gets it, and refuses connections.
    """

    def __init__(self, name: str, answer: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer, bind_and_activate=False)
        self.server_bind()
        if answer is not None:
            self.server_activate()
        self.name = name
        self.framework = "flask"
        self.state = "running"
        self.port = self.server_address[1]
        self.answer = answer
        self.requests: list[bytes] = []


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        upstream = cast(Upstream, self.server)
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        length = next(
            (
                int(line.split()[1])
                for line in head.lower().splitlines()
                if b"content-length" in line
            ),
            0,
        )
        upstream.requests.append(head + b"\r\n" + self.rfile.read(length))
        self.wfile.write(upstream.answer or b"")


def ok(name: str, *headers: str) -> bytes:
    """An answer that says who gave it."""
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(name)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", name]).encode()


class Silent:
    """A server that takes requests and says nothing, until it has an answer."""

    name, framework, state = "slow", "flask", "running"

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Silent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                connection.recv(4096)
                if self.answer:
                    connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_WR)


@contextmanager
def balancing(*upstreams: Upstream) -> Iterator[httpx.Client]:
    """A client of a balancer in front of these servers."""
    with ExitStack() as stack:
        for upstream in upstreams:
            stack.enter_context(upstream)
            thread = threading.Thread(target=upstream.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(upstream.shutdown)
        listener = stack.enter_context(listening(0))
        stack.enter_context(balanced(cast(Sequence[Server], upstreams), listener))
        client = httpx.Client(
            base_url=address_of(listener), trust_env=False, verify=NO_CERTIFICATES
        )
        yield stack.enter_context(client)


def test_each_request_goes_to_the_next_server() -> None:
    """Whoever asks, the answers come from the servers in turn."""
    with balancing(Upstream("a", ok("a")), Upstream("b", ok("b"))) as client:
        assert [client.get("/shop").text for _ in range(4)] == ["a", "b", "a", "b"]


def test_a_server_that_refuses_is_passed_over() -> None:
    """A refused connection costs nothing: the next server answers, a POST as well."""
    with balancing(Upstream("gone", None), Upstream("b", ok("b"))) as client:
        assert [client.post("/shop").text for _ in range(3)] == ["b", "b", "b"]


def test_a_post_that_dies_is_answered_502_and_never_sent_twice() -> None:
    """What became of a request that died on its way is unknown, so it is not repeated."""
    dying, other = Upstream("dying", DIE), Upstream("other", ok("other"))
    with balancing(dying, other) as client:
        answer = client.post("/shop", content=b"pay")

    assert (answer.status_code, answer.headers["x-demo-died"]) == (502, "dying")
    assert len(dying.requests) == 1
    assert not other.requests


def test_a_get_that_dies_is_asked_again_elsewhere() -> None:
    """A request that only reads may be repeated, and the client sees no error."""
    with balancing(Upstream("dying", DIE), Upstream("other", ok("other"))) as client:
        assert client.get("/shop").text == "other"


def test_an_answer_that_breaks_off_reaches_the_client_as_broken() -> None:
    """A body cut short is not passed off as a complete one."""
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    with balancing(Upstream("half", half)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get("/shop")


def test_no_server_at_all_is_a_503_that_shows_the_way() -> None:
    """With every server gone the balancer itself answers, and leads to the buttons."""
    with balancing(Upstream("gone", None)) as client:
        answer = client.get("/shop")
        console = client.get("/")

    assert answer.status_code == 503
    assert 'href="/" target="_top"' in answer.text
    assert 'action="/_demo/servers/gone/' in console.text


@pytest.mark.parametrize(
    ("met", "shown"),
    [("found", "found"), ("new", "new"), ("unused", "not used"), ("lost", "NOT FOUND")],
)
def test_how_a_session_was_met_is_shown_and_not_passed_on(met: str, shown: str) -> None:
    """The application's header ends at the balancer, which shows what it says."""
    with balancing(Upstream("a", ok("a", f"X-Demo-Session: {met}"))) as client:
        answer = client.get("/shop")
        console = client.get("/").text

    assert "x-demo-session" not in answer.headers
    assert f'<li data-met="{met}"><span class="what" title="GET /shop">' in console
    assert f"</span> {shown}</span>" in console
    assert f'<dd id="missed">{int(met == "lost")}</dd>' in console


def test_what_dies_or_fails_is_shown_as_that() -> None:
    """A request that died with its server, and one answered 500, are in the lane as such."""
    failing = ok("b").replace(b"200 OK", b"500 Oh")
    with balancing(Upstream("dying", DIE), Upstream("failing", failing)) as client:
        client.post("/shop")
        client.post("/shop")
        console = client.get("/").text

    assert '<li data-met="died">' in console
    assert '<li data-met="failed">' in console


def test_a_hostile_path_is_text_in_its_lane() -> None:
    """What a client asks for is shown, as text and not too much of it."""
    with balancing(Upstream("a", ok("a"))) as client:
        client.get("/%3Cscript%3E" + "x" * 1000)
        console = client.get("/").text

    assert "GET /&lt;script&gt;xxx" in console
    assert "x" * 100 not in console


def test_cookies_pass_in_both_directions_untouched() -> None:
    """Every Cookie and every Set-Cookie arrives, byte for byte and in its order."""
    cookies = ["a=1; Path=/; HttpOnly", "b=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "a=3; odd=,;"]
    upstream = Upstream("a", ok("a", *(f"Set-Cookie: {cookie}" for cookie in cookies)))
    with balancing(upstream) as client:
        sent = [("cookie", 'x="1"; y=ä'.encode()), ("cookie", b"z=2,3")]
        answer = client.get("/shop", headers=cast(Any, sent))

    assert answer.headers.get_list("set-cookie") == cookies
    lines = upstream.requests[0].split(b"\r\n")
    assert [line for line in lines if line.startswith(b"cookie:")] == [
        'cookie: x="1"; y=ä'.encode(),
        b"cookie: z=2,3",
    ]


def test_headers_of_one_connection_stay_there() -> None:
    """Hop-by-hop headers, and those that Connection names, go neither way."""
    hop = ok("a", "Keep-Alive: timeout=5", "Upgrade: h2c", "X-Kept: yes").replace(
        b"connection: close", b"connection: close, x-dropped\r\nx-dropped: 1"
    )
    upstream = Upstream("a", hop)
    with balancing(upstream) as client:
        headers = {"connection": "x-mine", "x-mine": "1", "te": "trailers", "x-yours": "2"}
        answer = client.get("/shop", headers=headers)

    assert answer.headers["x-kept"] == "yes"
    assert not {"keep-alive", "upgrade", "x-dropped"} & set(answer.headers)
    request = upstream.requests[0].lower()
    assert b"x-yours: 2" in request
    assert b"x-mine" not in request
    assert b"\r\nte:" not in request


def test_the_server_learns_who_asked() -> None:
    """X-Forwarded headers are the balancer's own; what a client claims in them is dropped."""
    upstream = Upstream("a", ok("a"))
    with balancing(upstream) as client:
        lies = {
            "x-forwarded-for": "10.0.0.1",
            "x-forwarded-proto": "https",
            "x-demo-strategy": "local",
            "host": "shop.test",
        }
        client.get("/a%2Fb?c=%20d&e", headers=lies)

    request = upstream.requests[0].lower()
    assert request.startswith(b"get /a%2fb?c=%20d&e http/1.1\r\n")
    assert b"x-forwarded-for: 127.0.0.1\r\n" in request
    assert b"x-forwarded-proto: http\r\n" in request
    assert b"x-forwarded-host: shop.test\r\n" in request
    assert b"\r\nhost: shop.test\r\n" in request
    assert b"10.0.0.1" not in request
    assert request.count(b"x-demo-strategy") == 1
    assert b"x-demo-strategy: shared\r\n" in request


def test_a_body_passes_whole_and_a_huge_one_is_refused() -> None:
    """A body arrives as it was sent, also in chunks; above a megabyte it is a 413."""
    upstream = Upstream("a", ok("a"))
    with balancing(upstream) as client:
        client.post("/shop", content=b"\0whole\r\n")
        client.post("/shop", content=iter([b"in ", b"chunks"]))
        refused = client.post("/shop", content=b"x" * 1_048_577)

    assert [request.partition(b"\r\n")[2][-9:] for request in upstream.requests] == [
        b"\n\0whole\r\n"[-9:],
        b"in chunks",
    ]
    assert refused.status_code == 413


def test_a_body_of_two_lengths_is_one_body() -> None:
    """What says both its length and that it comes in chunks is passed on with its own length."""
    upstream = Upstream("a", ok("a"))
    with balancing(upstream) as client:
        port = client.base_url.port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                b"POST /shop HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n"
                b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
                b"4\r\nbody\r\n0\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(4096), b""))

    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    assert [request[-4:] for request in upstream.requests] in ([b"body"], [])
    assert all(request.lower().count(b"content-length: 4") == 1 for request in upstream.requests)


@pytest.mark.parametrize(
    ("asked", "strategy", "target"),
    [
        ("/in/clustered/shop?a=1", b"clustered", b"/shop?a=1"),
        ("/in/sticky-shared/a%2Fb", b"sticky-shared", b"/a%2Fb"),
        ("/in/local", b"local", b"/"),
        ("/in/clustered2/shop", b"shared", b"/in/clustered2/shop"),
        ("/in/%63lustered/shop", b"shared", b"/in/%63lustered/shop"),
        ("/in/clustered%2Fshop", b"shared", b"/in/clustered%2Fshop"),
    ],
)
def test_a_path_may_name_its_strategy(asked: str, strategy: bytes, target: bytes) -> None:
    """What stands behind it is the server's path, byte for byte; anything else is a path."""
    upstream = Upstream("a", ok("a"))
    with balancing(upstream) as client:
        client.get(asked)

    (request,) = upstream.requests
    assert request.startswith(b"GET " + target + b" HTTP/1.1\r\n")
    assert b"x-demo-strategy: " + strategy + b"\r\n" in request


def test_a_server_that_does_not_answer_in_time_is_asked_last_until_it_is_forgiven() -> None:
    """A read goes on to the next server after a while; those that follow do so at once."""

    async def go() -> list[str]:
        told: list[Fate] = []
        balancer = Balancer(cast(Sequence[Server], [slow, other]), told.append, timeout=0.3)
        scope = {"method": "GET", "path": "/", "raw_path": b"/", "query_string": b""}
        scope |= {"headers": [], "client": None, "scheme": "http"}
        async with balancer.connected():
            for number in range(5):
                if number == 3:
                    slow.answer = ok("slow")
                    balancer.forgive("slow")
                reply = await balancer.ask(SHARED, scope, b"")
                assert isinstance(reply.answer, httpx.Response)
                await reply.answer.aread()
                await reply.answer.aclose()
        return [f"{fate.server} {fate.met or 'ok'}" for fate in told]

    other = Upstream("other", ok("other"))
    with Silent() as slow_server, ExitStack() as stack:
        slow = slow_server
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        stack.enter_context(other)
        thread.start()
        stack.callback(thread.join)
        stack.callback(other.shutdown)
        seen = asyncio.run(go())

    assert seen[:2] == ["slow died", "other ok"]
    assert seen[2:4] == ["other ok", "other ok"]
    assert "slow ok" in seen[4:]


def test_every_cookie_header_counts_for_who_is_asked() -> None:
    """HTTP/2 splits them: the one with the session may come second."""
    servers = [SimpleNamespace(name=name, port=None) for name in ("a", "b", "c")]
    asked: list[str] = []
    balancer = Balancer(cast(Sequence[Server], servers), lambda _: None, cookie="demo")
    route = balancer._routes["sticky-shared"]
    balancer._routes = {
        "sticky-shared": cast(
            Route, SimpleNamespace(order=lambda cookies: asked.append(cookies) or [])
        )
    }
    scope = {"headers": [(b"cookie", b"x=1"), (b"cookie", b"demo_sticky-shared=me.1.a.b")]}
    asyncio.run(balancer.ask(STRATEGIES["sticky-shared"], {**scope, "method": "GET"}, b""))

    assert asked == ["x=1; demo_sticky-shared=me.1.a.b"]
    assert len({route.order(asked[0])[0].name for _ in range(3)}) == 1
