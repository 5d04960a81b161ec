"""nginx where TLS ends: HTTP/2, forwarded headers, and what the cookie looks like."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.processes import LIMIT

from . import nginx
from .clients import signed_in
from .pages import section_of
from .world import BalancedServers, Gate, gate, world

COOKIE = "__Host-session"


@pytest.fixture(scope="module")
def secure() -> Iterator[Gate]:
    """Three servers behind nginx with a certificate, with the cookie's name of the page."""
    name = "SHAREDSESSION_SESSION_COOKIE"
    assert f"{name}={COOKIE}" in section_of("nginx.md", "TLS ends here")
    with world(SHAREDSESSION_NEAR_CACHE="true", **{name: COOKIE}) as servers:
        with gate(nginx.TLS, servers) as made:
            yield made


@pytest.fixture
def browser(secure: Gate) -> Iterator[httpx.Client]:
    """A browser that speaks HTTP/2."""
    with httpx.Client(
        base_url=secure.address, http2=True, verify=False, trust_env=False, timeout=LIMIT
    ) as made:
        yield made


def test_the_cookie_of_a_client_that_came_by_https_is_secure(browser: httpx.Client) -> None:
    """By HTTP/2 over TLS a cookie named __Host-… is set with Secure and Path=/, without a Domain,
    and comes back."""
    answer = browser.post("/sign-in", params={"user": "anna"})
    value, *attributes = answer.headers["set-cookie"].split("; ")

    assert answer.http_version == "HTTP/2"
    assert value.startswith(f"{COOKIE}=")
    assert {"secure", "path=/", "httponly", "samesite=lax"} <= set(attributes)
    assert not [each for each in attributes if each.lower().startswith("domain")]
    assert browser.get("/session").json() == {"user": "anna", "count": 0}


def test_the_application_sees_the_request_as_it_came(secure: Gate, browser: httpx.Client) -> None:
    """The application sees https, the host and the client's address; what a client claims about
    itself in forwarded headers is not believed."""
    lies = {"X-Forwarded-Proto": "http", "X-Forwarded-For": "192.0.2.1", "Forwarded": "proto=http"}

    for headers in ({}, lies):
        seen = browser.get("/plain", headers=headers).json()

        assert seen["scheme"] == "https"
        assert seen["url"] == f"{secure.address}/plain"
        assert seen["client"] == "127.0.0.1"


def test_a_client_of_http2_stays_with_one_server(secure: Gate) -> None:
    """The hash finds the ID of a __Host- cookie, wherever it stands among others, also when HTTP/2
    sends each cookie in a header of its own."""
    # So many that each server has some of them, wherever their IDs lead.
    with signed_in(secure.address, 40, cookie=COOKIE, http2=True) as clients:
        homes = [client.read() for client in clients]
        for client, home in zip(clients, homes, strict=True):
            assert {client.up(), client.read(), client.up(), client.read()} == {home}
            ours = ("Cookie", f"{COOKIE}={client.cookie}")
            others = [("Cookie", "theme=dark"), ("Cookie", "session=of.something.else")]
            with httpx.Client(base_url=secure.address, http2=True, verify=False) as other:
                answer = other.get("/session", headers=[others[0], ours, others[1]])
            assert answer.headers["X-Server"] == home
            assert answer.json()["user"] == client.user

    assert len(set(homes)) == 3


def test_a_websocket_by_tls_has_the_session_of_its_visitor(secure: Gate) -> None:
    """A WebSocket passes where TLS ends as well, with a cookie named __Host-…."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        signed_in(secure.address, 1, cookie=COOKIE) as [client],
        connect(
            secure.address.replace("https", "wss", 1) + "/socket",
            additional_headers={"Cookie": f"{COOKIE}={client.cookie}"},
            ssl=trusting,
            proxy=None,
        ) as connection,
    ):
        connection.send("up")

        assert client.user in str(connection.recv(timeout=LIMIT))


def test_a_server_that_does_not_trust_nginx_says_so_once(healed: BalancedServers) -> None:
    """Without --proxy-headers the cookie of a client that came by https lacks Secure, and the
    server's log says what to set, once."""
    server = healed.servers[0]
    for each in healed.servers:
        each.kill()
    server.start(options=["--no-proxy-headers"])
    server.wait()
    said_before = server.log.read_text()
    with gate(nginx.TLS, healed) as made, signed_in(made.address, 3):
        warnings = server.log.read_text().removeprefix(said_before)
    server.kill()
    healed.heal()

    assert warnings.count("Let the server trust its proxy") == 1
    assert "--proxy-headers --forwarded-allow-ips" in warnings
