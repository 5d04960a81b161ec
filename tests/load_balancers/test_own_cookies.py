"""Cookies that balancers set themselves, and what must not be taken for one."""

from __future__ import annotations

from dataclasses import replace
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.support.processes import LIMIT

from . import apache, traefik
from .clients import signed_in
from .programs import Balancer
from .world import BalancedServers, gate

OWN = (traefik.COOKIE, apache.COOKIE)
NAMES = {traefik.COOKIE.name: "server", apache.COOKIE.name: "ROUTEID"}
each = pytest.mark.parametrize("balancer", OWN, ids=str)


@each
def test_a_balancers_own_cookie_survives_the_sign_in(
    balancer: Balancer, healed: BalancedServers
) -> None:
    """A visitor who has the balancer's cookie stays with one server while signing in and out,
    though the session's ID is renewed."""
    with gate(balancer, healed) as made:
        for visitor in range(6):
            with httpx.Client(base_url=made.address, trust_env=False, timeout=LIMIT) as browser:
                answers = [browser.get("/session")]
                for user in (f"anna-{visitor}", f"bert-{visitor}"):
                    answers += [
                        browser.post("/sign-in", params={"user": user}),
                        browser.get("/session"),
                    ]
                    assert answers[-1].json()["user"] == user
                answers.append(browser.post("/sign-out"))

            assert len({answer.headers["X-Server"] for answer in answers}) == 1


@each
def test_no_script_reads_a_balancers_own_cookie(
    balancer: Balancer, healed: BalancedServers
) -> None:
    """It is HttpOnly and SameSite=Lax, has the name that its page says, is set once, and names no
    address."""
    with gate(balancer, healed) as made:
        with httpx.Client(base_url=made.address, trust_env=False, timeout=LIMIT) as browser:
            [header] = browser.get("/plain").headers.get_list("set-cookie")
            again = browser.get("/plain").headers.get_list("set-cookie")
    [(name, cookie)] = SimpleCookie(header).items()

    assert name == NAMES[balancer.name]
    assert cookie["httponly"]
    assert cookie["samesite"].lower() == "lax"
    assert cookie["path"] == "/"
    assert not any(str(server.port) in cookie.value for server in healed.servers)
    assert again == []


def test_apache_does_not_find_a_server_in_our_cookie(healed: BalancedServers) -> None:
    """With `stickysession=session` clients go anywhere: what Apache reads behind the first dot is
    the name of no server."""
    wrong = replace(
        apache.COOKIE,
        substitutes={"stickysession=ROUTEID": "stickysession=session"},
    )
    with gate(wrong, healed) as made, signed_in(made.address, 3) as clients:
        seen = [{client.up() for _ in range(12)} for client in clients]

    assert all(len(servers) == 3 for servers in seen)
