"""What one visitor does to a server must not take it, or all of them, from everybody else."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.processes import LIMIT

from .clients import Client, Crowd, signed_in
from .every import BALANCERS
from .programs import Balancer
from .world import BalancedServers, Gate, gate, world

LONGEST = 3.0  # seconds that a page may take where it is told to: see `Balancer.impatient`
TIMES = 8  # more than there are servers, so that each has its share of the trouble
each_balancer = pytest.mark.parametrize("steady", BALANCERS, ids=str, indirect=True)
each_impatient = pytest.mark.parametrize("impatient", BALANCERS, ids=str, indirect=True)


@pytest.fixture(scope="module")
def patient() -> Iterator[BalancedServers]:
    """Servers that wait for their store: a busy machine is no trouble of a visitor's."""
    with world(SHAREDSESSION_STORE_TIMEOUT="20") as made:
        yield made


@pytest.fixture(scope="module")
def steady(request: pytest.FixtureRequest, patient: BalancedServers) -> Iterator[Gate]:
    """A balancer as its page has it, for several tests."""
    with gate(request.param, patient) as made:
        yield made


@pytest.fixture(scope="module")
def impatient(request: pytest.FixtureRequest, patient: BalancedServers) -> Iterator[Gate]:
    """The same, but that it gives a page up after a few seconds."""
    shown: Balancer = request.param
    quick = replace(shown, substitutes={**shown.substitutes, **shown.impatient})
    with gate(quick, patient) as made:
        yield made


def ask(gate: Gate, path: str) -> object:
    """Ask as a visitor without a session; return the status, or what came in the place of one."""
    try:
        answer = httpx.get(
            gate.address + path, trust_env=False, timeout=LIMIT, follow_redirects=False
        )
    except httpx.TransportError as error:
        return type(error)
    return answer.status_code


def leave(gate: Gate) -> None:
    """Ask for a page that takes long, and close the connection before it comes."""
    with socket.create_connection(("127.0.0.1", gate.port)) as connection:
        connection.sendall(b"GET /wait?seconds=0.3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.05)  # so that some have reached a server, and some have not


TROUBLE: dict[str, Callable[[Gate], object]] = {
    "a redirect with a long address": lambda gate: ask(gate, "/private?size=4500"),
    "a header that is too long": lambda gate: ask(gate, "/private?size=100000"),
    "no answer": lambda gate: ask(gate, "/give-up"),
    "half an answer": lambda gate: ask(gate, "/give-up?begun"),
    "visitors that leave": leave,
    "502": lambda gate: ask(gate, "/status?status=502"),
    "503": lambda gate: ask(gate, "/status?status=503"),
}


def live_beside(gate: Gate, trouble: Callable[[Gate], object]) -> None:
    """Let a crowd of visitors work while another one has trouble; no request of theirs may fail."""
    with Crowd(gate.address, 6, upsets=()) as crowd, ThreadPoolExecutor(TIMES) as pool:
        crowd.go_on(3)
        troubles = [pool.submit(trouble, gate) for _ in range(TIMES)]
        for each in troubles:
            each.result(LIMIT)
        crowd.go_on(10)
    crowd.judge()


@each_balancer
@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=list(TROUBLE))
def test_a_visitor_whose_pages_fail_harms_nobody_else(
    steady: Gate, trouble: Callable[[Gate], object]
) -> None:
    """While one visitor without a session asks for pages that fail, whatever makes them fail, no
    request of anybody else fails."""
    live_beside(steady, trouble)


@each_impatient
def test_a_visitor_whose_pages_take_too_long_harms_nobody_else(impatient: Gate) -> None:
    """Nor while one asks for pages that the balancer gives up waiting for."""
    live_beside(impatient, lambda gate: ask(gate, f"/wait?seconds={1.2 * LONGEST}"))


@each_balancer
def test_a_redirect_with_a_long_address_arrives(steady: Gate) -> None:
    """The way back that an application writes into the address of its form may have some
    kilobytes."""
    assert {ask(steady, "/private?size=7000") for _ in range(6)} == {302}


# --- old and new ways to ask ----------------------------------------------------------------------


@each_balancer
def test_a_request_of_http_1_0_without_a_host_is_answered(steady: Gate) -> None:
    """What health checkers and simple tools send, a request without any header, gets its page."""
    with socket.create_connection(("127.0.0.1", steady.port), timeout=LIMIT) as connection:
        connection.sendall(b"GET /plain HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as answer, suppress(ConnectionResetError):
            said = answer.read()

    assert b" 200 " in said.splitlines()[0], said
    assert b'"client"' in said


def opened(gate: Gate, client: Client) -> ClientConnection:
    return connect(
        gate.address.replace("http", "ws", 1) + "/socket",
        additional_headers={"Cookie": f"session={client.cookie}"},
        proxy=None,
        open_timeout=LIMIT,
    )


def say(connection: ClientConnection) -> str:
    connection.send("up")
    return str(connection.recv(timeout=LIMIT))


@each_balancer
def test_a_websocket_has_the_session_of_its_visitor(steady: Gate) -> None:
    """A WebSocket passes; it finds the session of the cookie that opened it, and what it stores is
    found by the next request."""
    with signed_in(steady.address, 3) as clients:
        for client in clients:
            with opened(steady, client) as connection:
                heard = [say(connection), say(connection)]
            assert heard == [f'{{"user":"{client.user}","count":{n}}}' for n in (1, 2)]
            assert client.ask("GET", "/session") == {"user": client.user, "count": 2}


@each_impatient
def test_a_websocket_that_goes_on_lives_longer_than_a_page_may_take(impatient: Gate) -> None:
    """What ends a page that takes too long does not end a WebSocket on which something is said."""
    with signed_in(impatient.address, 1) as [client], opened(impatient, client) as connection:
        end = time.monotonic() + 1.5 * LONGEST
        while time.monotonic() < end:
            assert client.user in say(connection)
            time.sleep(0.1)
