"""One session, both worlds: Flask and FastAPI behind one balancer, on one store, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import pytest

from tests.examples.conftest import Shops
from tests.examples.serving import (
    EXAMPLES,
    ROOT,
    Balancer,
    balanced,
    client,
    commands,
    running,
)
from tests.examples.test_shops import ADA
from tests.support.servers import RedisServer

FLASK, FASTAPI = 0, 1  # where they stand behind the balancer
BOTH_WAYS = pytest.mark.parametrize(
    "here", [pytest.param(FLASK, id="flask"), pytest.param(FASTAPI, id="fastapi")]
)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def balancer(request: pytest.FixtureRequest) -> Iterator[Balancer]:
    """Flask on gunicorn and FastAPI on uvicorn take turns, over one store."""
    if request.param == "sqlite":
        shops: Shops = request.getfixturevalue("shops")
        with balanced(shops.flask[-1], shops.fastapi[-1]) as running_balancer:
            yield running_balancer
        return
    folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("shops")
    request.getfixturevalue("told_to_stop")
    launches = [
        (commands(EXAMPLES / name / "README.md")[-1], EXAMPLES / name)
        for name in ("flask", "fastapi")
    ]
    environment = {"SHAREDSESSION_SECRET_KEY": "the same for both", "HOME": str(folder)}
    with (
        RedisServer() as server,
        running(*launches, SHAREDSESSION_STORE=server.url, **environment) as addresses,
        balanced(*addresses) as running_balancer,
    ):
        yield running_balancer


@BOTH_WAYS
def test_signed_in_at_one_is_signed_in_at_the_other(balancer: Balancer, here: int) -> None:
    """The sign-in of one framework holds in the other, and the cart goes along, both ways."""
    there = 1 - here
    with client(balancer.address, follow_redirects=False) as visitor:
        balancer.next_is(there)
        visitor.post("/cart", data={"product": "tea"})
        anonymous = visitor.cookies["session"]
        signed_in = visitor.post("/sign-in", data=ADA)
        assert signed_in.headers["x-served-by"] == str(here)
        assert visitor.cookies["session"].split(".")[0] != anonymous.split(".")[0]
        for expected in (there, here):
            answer = visitor.get("/")
            assert answer.headers["x-served-by"] == str(expected)
            assert "Signed in as <b>ada</b>" in answer.text
            assert "Green tea: 1" in answer.text


def test_parallel_changes_of_both_worlds_are_all_kept(balancer: Balancer) -> None:
    """Clicks at the same time, half of them at each framework, are all in the cart."""
    with client(balancer.address, follow_redirects=False) as visitor:
        visitor.post("/sign-in", data=ADA)
        cookies = dict(visitor.cookies)

    def click(product: str) -> tuple[int, str]:
        with client(balancer.address, cookies=cookies, follow_redirects=False) as one:
            answer = one.post("/cart", data={"product": product})
            return answer.status_code, answer.headers["x-served-by"]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(click, ["tea", "lamp"] * 12))

    assert {status for status, _ in answers} == {303}
    assert [served for _, served in answers].count("0") == 12
    with client(balancer.address, cookies=cookies) as visitor:
        for _ in range(2):
            shown = visitor.get("/").text
            assert "Green tea: 12" in shown
            assert "Reading lamp: 12" in shown


@BOTH_WAYS
def test_a_sign_out_at_one_is_a_sign_out_at_the_other(balancer: Balancer, here: int) -> None:
    """Who signs out at one framework is signed out at the other, whatever cookie they kept."""
    with client(balancer.address, follow_redirects=False) as visitor:
        balancer.next_is(1 - here)
        visitor.post("/sign-in", data=ADA)
        kept = dict(visitor.cookies)
        assert visitor.post("/sign-out").headers["x-served-by"] == str(here)
        assert "session" not in visitor.cookies
    with client(balancer.address, cookies=kept) as thief:
        for _ in range(2):
            assert 'name="password"' in thief.get("/").text


def test_every_type_crosses_between_all_frameworks(tmp_path: Path, told_to_stop: None) -> None:
    """What ASGI, WSGI or Flask stored, the other two read: equal, and of the same type."""
    launches = [
        "uvicorn tests.examples.typed:asgi --port 8001",
        "waitress-serve --listen 127.0.0.1:8001 tests.examples.typed:wsgi",
        "gunicorn tests.examples.typed:flask --threads 2 --bind 127.0.0.1:8001",
    ]
    environment = {
        "SHAREDSESSION_STORE": f"sqlite:///{tmp_path / 'sessions.db'}",
        "HOME": str(tmp_path),
    }
    with running(*((command, ROOT) for command in launches), **environment) as addresses:
        for writer, *readers in permutations(addresses):
            with client() as visitor:
                assert visitor.post(writer).text == "stored"
                for reader in readers:
                    text = visitor.get(reader).text
                    found, _, wrong = text.partition(" of ")
                    assert text == f"{found} of {found}, wrong: []", wrong
                    assert int(found) > 20
