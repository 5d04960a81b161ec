"""A new version of the application, and a new secret key, while clients go on working."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import httpx
import pytest

from sharedsession._core.cookie import CookieCodec
from sharedsession._core.settings import gather
from tests.support.processes import wait_until

from . import haproxy
from .clients import Client, Crowd, signed_in
from .pages import text_of
from .world import KEY, BalancedServers, Gate, gate, world

NEW = "the key from now on"


def steps_of_the_page() -> list[list[str]]:
    """Return the keys of each step, as docs/load-balancers/README.md has them."""
    lists = re.findall(r"^    SHAREDSESSION_SECRET_KEY='(.*)'$", text_of("README.md"), re.MULTILINE)
    named = {"the old one": KEY, "the new one": NEW}
    return [[named[key] for key in json.loads(each)] for each in lists]


KNOWN, SIGNS, ALONE = steps_of_the_page()


@pytest.fixture
def old() -> Iterator[BalancedServers]:
    """Servers of the old version, that know the old key only."""
    with world(SHAREDSESSION_NEAR_CACHE="true") as made:
        yield made


def roll_out(before: Gate, keys: Sequence[str], version: str) -> None:
    """Replace one server after the other."""
    for server in before.world.servers:
        before.drain(server)
        before.bring_back(server, keys=keys, version=version)
        answer = httpx.get(f"{server.address}/live", trust_env=False)
        assert answer.headers["X-Version"] == version


def is_signed_anew(client: Client, crowd: Crowd) -> bool:
    """Say whether a client's cookie is signed with the new key."""
    crowd.judge()
    settings = gather({"secret_key": NEW, "store": "memory://"}, environ={})
    return bool(CookieCodec(settings).read([f"session={client.cookie}"]))


def test_a_new_version_and_a_new_key_sign_nobody_out(old: BalancedServers) -> None:
    """First every server learns to verify the new key, then it signs, and when all cookies have
    been signed anew the old one goes: under load no request finds its session missing, nothing is
    lost, and a client that was quiet all the time is still signed in."""
    with gate(haproxy.HASH, old) as made, signed_in(made.address, 1) as [quiet]:
        with Crowd(made.address, 6, old.upsets) as crowd:
            roll_out(made, KNOWN, version="2")
            roll_out(made, SIGNS, version="3")
            quiet.up()
            for client in [quiet, *crowd.clients]:
                wait_until(lambda: is_signed_anew(client, crowd), "it is signed anew")
            roll_out(made, ALONE, version="4")
            crowd.go_on(10)
        quiet.read()
    crowd.judge()

    assert set(crowd.answered) == {server.name for server in old.servers}


def test_a_new_key_in_front_at_once_signs_people_out(old: BalancedServers) -> None:
    """Where the new key signs before every server knows it, a client that meets a server with the
    old key only looks signed out: that is what the first step is for."""
    new, other, _ = old.servers
    new.kill()
    new.start(keys=SIGNS)
    new.wait()

    with signed_in(new.address, 1) as [client]:
        with client.on_another_device(other.address) as elsewhere:
            assert elsewhere.ask("GET", "/session")["user"] is None
            other.kill()
            other.start(keys=KNOWN)
            other.wait()
            assert elsewhere.ask("GET", "/session")["user"] == client.user
