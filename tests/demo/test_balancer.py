"""The balancer: whose turn it is, what passes through it, and who may kill a server."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import httpx
import pytest

from sharedsession.demo.balancer import NO_CERTIFICATES
from sharedsession.demo.command import address_of, balanced, listening
from sharedsession.demo.servers import Server
from tests.demo.demos import Demo

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
        self.port = self.server_address[1]
        self.pid = 1
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
        assert [client.get("/").text for _ in range(4)] == ["a", "b", "a", "b"]


def test_a_server_that_refuses_is_passed_over() -> None:
    """A refused connection costs nothing: the next server answers, a POST as well."""
    with balancing(Upstream("gone", None), Upstream("b", ok("b"))) as client:
        assert [client.post("/").text for _ in range(3)] == ["b", "b", "b"]


def test_a_post_that_dies_is_answered_502_and_never_sent_twice() -> None:
    """What became of a request that died on its way is unknown, so it is not repeated."""
    dying, other = Upstream("dying", DIE), Upstream("other", ok("other"))
    with balancing(dying, other) as client:
        answer = client.post("/", content=b"pay")

    assert (answer.status_code, answer.headers["x-demo-died"]) == (502, "dying")
    assert len(dying.requests) == 1
    assert not other.requests


def test_a_get_that_dies_is_asked_again_elsewhere() -> None:
    """A request that only reads may be repeated, and the client sees no error."""
    with balancing(Upstream("dying", DIE), Upstream("other", ok("other"))) as client:
        assert client.get("/").text == "other"


def test_an_answer_that_breaks_off_reaches_the_client_as_broken() -> None:
    """A body cut short is not passed off as a complete one."""
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    with balancing(Upstream("half", half)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get("/")


def test_no_server_at_all_is_a_503_that_can_start_one() -> None:
    """With every server gone the balancer itself shows which there are, and their buttons."""
    with balancing(Upstream("gone", None)) as client:
        answer = client.get("/")

    assert answer.status_code == 503
    assert 'action="/_demo/servers/gone/' in answer.text


def test_cookies_pass_in_both_directions_untouched() -> None:
    """Every Cookie and every Set-Cookie arrives, byte for byte and in its order."""
    cookies = ["a=1; Path=/; HttpOnly", "b=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "a=3; odd=,;"]
    upstream = Upstream("a", ok("a", *(f"Set-Cookie: {cookie}" for cookie in cookies)))
    with balancing(upstream) as client:
        sent = [("cookie", 'x="1"; y=ä'.encode()), ("cookie", b"z=2,3")]
        answer = client.get("/", headers=cast(Any, sent))

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
        answer = client.get("/", headers=headers)

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
        lies = {"x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https", "host": "shop.test"}
        client.get("/a%2Fb?c=%20d&e", headers=lies)

    request = upstream.requests[0].lower()
    assert request.startswith(b"get /a%2fb?c=%20d&e http/1.1\r\n")
    assert b"x-forwarded-for: 127.0.0.1\r\n" in request
    assert b"x-forwarded-proto: http\r\n" in request
    assert b"x-forwarded-host: shop.test\r\n" in request
    assert b"\r\nhost: shop.test\r\n" in request
    assert b"10.0.0.1" not in request


def test_a_body_passes_whole_and_a_huge_one_is_refused() -> None:
    """A body arrives as it was sent, also in chunks; above a megabyte it is a 413."""
    upstream = Upstream("a", ok("a"))
    with balancing(upstream) as client:
        client.post("/", content=b"\0whole\r\n")
        client.post("/", content=iter([b"in ", b"chunks"]))
        refused = client.post("/", content=b"x" * 1_048_577)

    assert [request.partition(b"\r\n")[2][-9:] for request in upstream.requests] == [
        b"\n\0whole\r\n"[-9:],
        b"in chunks",
    ]
    assert refused.status_code == 413


@pytest.fixture(scope="module")
def button(demo: Demo) -> Callable[..., int]:
    """Press a button of server-2 from somewhere, and return the status."""

    def press(verb: str, **headers: str) -> int:
        with demo.client() as client:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(f"/_demo/servers/server-2/{verb}", headers=names).status_code

    return press


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "null"},
        {"origin": "https://elsewhere.test"},
        {"origin": "null"},
        {"host": "127.0.0.1:1", "origin": "http://127.0.0.1:2"},
    ],
)
def test_another_site_cannot_kill_a_server(
    demo: Demo, button: Callable[..., int], headers: dict[str, str]
) -> None:
    """A page of another site, or of another port, is refused, and the server lives on."""
    assert button("kill", **headers) == 403
    assert demo.lanes()["server-2"]["running"]


def test_a_server_is_killed_and_started_again(demo: Demo, button: Callable[..., int]) -> None:
    """Its button kills the process, the others answer meanwhile, and it comes back."""
    with demo.client() as client:
        assert button("kill", sec_fetch_site="same-origin") == 303
        assert not demo.lanes()["server-2"]["running"]
        assert {client.get("/").headers["x-demo-server"] for _ in range(4)} == {
            "server-1",
            "server-3",
        }
        assert button("start", origin=demo.address) == 303
        assert demo.lanes()["server-2"]["running"]
        assert "server-2" in {client.get("/").headers["x-demo-server"] for _ in range(3)}


def test_killing_and_starting_twice_is_harmless(demo: Demo, button: Callable[..., int]) -> None:
    """A button pressed twice does what it did once."""
    pressed = [button(verb) for verb in ("kill", "kill", "start", "start")]

    assert pressed == [303, 303, 303, 303]
    assert demo.lanes()["server-2"]["running"]


def test_only_a_post_kills(demo: Demo) -> None:
    """A link or an image cannot press a button."""
    with demo.client() as client:
        assert client.get("/_demo/servers/server-2/kill").status_code in (404, 405)
    assert demo.lanes()["server-2"]["running"]
