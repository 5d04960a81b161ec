"""The application asked who is signed in, before a request goes to another one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.processes import LIMIT, wait_until

from . import caddy, nginx, traefik
from .programs import Balancer
from .world import BalancedServers, gate, world

GUARDED = 8004  # as the pages have it
LIFETIME = 20  # seconds, of which a tenth must pass until a cookie is renewed
ASKING = (nginx.FORWARD_AUTH, traefik.FORWARD_AUTH, caddy.FORWARD_AUTH)


class Guarded(BaseHTTPRequestHandler):
    """An application that knows nothing of sessions."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"guarded")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def guarded(port: int) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()


@pytest.fixture(scope="module")
def short_lived() -> Iterator[BalancedServers]:
    """Servers whose sessions live for some seconds."""
    with world(SHAREDSESSION_MAX_AGE=str(LIFETIME)) as made:
        yield made


@pytest.mark.parametrize("balancer", ASKING, ids=str)
def test_a_visitor_of_guarded_pages_keeps_a_session_that_is_renewed(
    balancer: Balancer, short_lived: BalancedServers
) -> None:
    """Who is not signed in is refused. Who is gets the guarded page, and the cookie that the
    question has renewed, once: the next request, which has it, renews nothing."""
    with gate(balancer, short_lived) as made, guarded(made.ports[GUARDED]):
        with httpx.Client(base_url=made.address, trust_env=False, timeout=LIMIT) as browser:
            refused = browser.get("/files/a")
            browser.post("/sign-in", params={"user": "anna"}).raise_for_status()
            cookies: list[list[str]] = []

            def renewed() -> bool:
                answer = browser.get("/files/a")
                assert (answer.status_code, answer.text) == (200, "guarded")
                cookies.append(answer.headers.get_list("set-cookie"))
                return any("session=" in each for each in cookies[-1])

            wait_until(renewed, "the cookie is renewed")
            again = renewed()
            read = browser.get("/session").json()

    assert refused.status_code == 401
    assert len([each for each in cookies[-2] if each.startswith("session=")]) == 1
    assert not again
    assert read["user"] == "anna"
