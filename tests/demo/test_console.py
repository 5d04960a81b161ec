"""The console without a browser: who may press its buttons, and what it sends as it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.demo.demos import Demo


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
        assert {client.get("/shop").headers["x-demo-server"] for _ in range(4)} == {
            "server-1",
            "server-3",
        }
        assert button("start", origin=demo.address) == 303
        assert demo.lanes()["server-2"]["running"]
        assert "server-2" in {client.get("/shop").headers["x-demo-server"] for _ in range(3)}


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


def events(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream, as they arrive."""
    name = ""
    for line in stream.iter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


def test_events_tell_everything_first_and_then_each_request(demo: Demo) -> None:
    """A watcher gets all lanes as they are, and then every request as it is answered."""
    with demo.client() as client, client.stream("GET", "/_demo/events") as stream:
        arriving = events(stream)
        name, picture = next(arriving)
        client.get("/about")
        request = next(data for name, data in arriving if name == "request")

    assert stream.headers["content-type"] == "text/event-stream"
    assert name == "picture"
    assert picture["lanes"].count('class="lane"') == 3
    assert "GET /about" in request["request"]
    assert "not used" in request["request"]
    assert request["total"] == picture["total"] + 1


def test_events_tell_that_a_server_died_by_another_hand(demo: Demo) -> None:
    """A process killed from outside is shown as killed, without anybody asking."""
    with demo.client() as client, client.stream("GET", "/_demo/events") as stream:
        arriving = events(stream)
        next(arriving)
        client.post("/_demo/servers/server-3/kill")
        states = [next(data["state"] for name, data in arriving if name == "server")]
        client.post("/_demo/servers/server-3/start")
        while states[-1] != "running":
            states.append(next(data["state"] for name, data in arriving if name == "server"))

    assert states == ["killed", "starting", "running"]


def test_every_second_server_runs_the_other_framework(demo: Demo) -> None:
    """By default FastAPI and Flask take turns, and one session is found by all of them."""
    with demo.client() as client:
        frameworks = [server["framework"] for server in client.get("/_demo/servers").json()]
        client.post("/sign-in", data={"name": "Ada"})
        for number in range(6):
            client.post(f"/api/notes/{number}", content="kept")
        seen = [client.get("/api/session") for _ in range(3)]

    assert frameworks == ["fastapi", "flask", "fastapi"]
    assert len({answer.headers["x-demo-server"] for answer in seen}) == 3
    for answer in seen:
        assert answer.json()["user_id"] == "Ada"
        assert len(answer.json()) == 7


def test_both_frameworks_answer_alike(demo: Demo) -> None:
    """Status, kind and way on are the same, whichever server answers."""
    asked = [("GET", path) for path in ("/shop", "/cart", "/about", "/api/session", "/nothing")]
    asked += [("POST", "/cart/tea/add"), ("POST", "/cart/tea/steal"), ("POST", "/sign-out")]
    for method, path in asked:
        with demo.client() as client:
            answers = [client.request(method, path) for _ in range(3)]
        kinds = {
            (
                answer.status_code,
                answer.headers.get("location"),
                answer.headers.get("content-security-policy"),
            )
            for answer in answers
        }
        assert len(kinds) == 1, (method, path, kinds)
