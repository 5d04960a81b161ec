"""The site on gunicorn and uvicorn, two of each, and other frameworks beside it on one store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.deployments.running import Deployment, Running, running
from tests.deployments.shared import SECRET
from tests.support.processes import ROOT
from tests.support.servers import RedisServer
from tests.support.visitor import HttpServer, Visitor, text_of

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.django.site.settings",
    "SECRET_KEY": SECRET,
    "COOKIE": "session",
    "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    "PYTHONWARNINGS": "default",
}
SET_UP = (
    "import django; django.setup(); from django.core.management import call_command; "
    "call_command('migrate', verbosity=0); "
    "from django.contrib.auth.models import User; "
    "User.objects.create_superuser('ada', password='right')"
)


@dataclass(frozen=True)
class Site(Deployment):
    """A server of the site."""

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", *self.options.format(port=port).split()]


GUNICORN = Site(
    "gunicorn",
    "gunicorn --bind 127.0.0.1:{port} --no-control-socket --threads 4 --log-level warning "
    "tests.django.site.wsgi:app",
    "wsgi",
    2,
)
UVICORN = Site(
    "uvicorn", "uvicorn --port {port} --log-level warning tests.django.site.asgi:app", "asgi", 2
)


@contextmanager
def site(
    folder: Path, store: str, *deployments: Site, whose: str = "ours"
) -> Iterator[list[Running]]:
    """Run servers of the site on one database, which is made, with a superuser."""
    environment = {**SETTINGS, "FOLDER": str(folder), "WHOSE": whose}
    made = subprocess.run(
        [sys.executable, "-c", SET_UP],
        env={**os.environ, **environment, "STORE": store},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with ExitStack() as stack:
        yield [stack.enter_context(running(each, store, **environment)) for each in deployments]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """One server for all of these tests."""
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[list[Running]]:
    """Two of gunicorn, two of uvicorn."""
    with site(tmp_path_factory.mktemp("site"), redis_url, GUNICORN, UVICORN) as made:
        yield made


def browser_of(*servers: Running) -> Visitor:
    return Visitor(*(HttpServer(each) for server in servers for each in server.addresses))


def sign_in(browser: Visitor, page: str = "/admin/") -> None:
    home = browser.submit(browser.get(page), username="ada", password="right")
    assert "Log in" not in text_of(home)


def drive(browser: Visitor) -> None:
    """What a person does: visits, signs in, adds a note in two ways, signs out."""
    for _ in range(4):
        browser.get("/visit")
    browser.hold("before")
    sign_in(browser)
    browser.hold("signed in")
    added = browser.submit(browser.get("/admin/notes/note/add/"), text="by the admin", _save="Save")
    assert "was added successfully" in text_of(added)
    assert "was added successfully" not in browser.show("/admin/")
    page = browser.submit(browser.get("/notes"), text="by a form")
    assert "Saved: by a form" in text_of(page)
    assert "Signed in: ada, 4 visits" in text_of(page)
    assert "Saved" not in browser.show("/notes")
    assert browser.get("/api/me").json() == {"user": "ada"}
    for visits in range(5, 9):
        assert browser.get("/avisit").json() == {"visits": visits, "user": "ada"}
    browser.press(browser.get("/admin/"), "/admin/logout/")
    assert browser.get("/whoami").json() == {"user": ""}
    assert browser.get("/api/me").status_code == 401


def test_a_person_at_four_servers(servers: list[Running], tmp_path: Path) -> None:
    """Response by response they are shown what Django's own session shows on one server; cookies
    from before the sign-in and after the sign-out are worth nothing."""
    with browser_of(*servers) as ours:
        drive(ours)
        for moment in ("before", "signed in"):
            with ours.thief(moment) as thief:
                assert thief.get("/whoami").json() == {"user": ""}
        one = Site("gunicorn", GUNICORN.options, "wsgi")
        with site(tmp_path, "memory://", one, whose="theirs") as own, browser_of(*own) as theirs:
            drive(theirs)
            pids = r'"pid": \d+'
            assert without(pids, ours.shown) == without(pids, theirs.shown)


def without(pattern: str, lines: list[str]) -> list[str]:
    import re

    return [re.sub(pattern, "", line) for line in lines]


def test_a_socket_is_signed_in(servers: list[Running]) -> None:
    """Channels on the cookie of the site: the user, and a session that other servers see."""
    _, uvicorns = servers
    with browser_of(*servers) as browser:
        sign_in(browser)
        headers = {"Cookie": f"session={browser.session_cookie}"}
        for address in uvicorns.addresses:
            url = address.replace("http", "ws")
            with connect(f"{url}/who", additional_headers=headers) as socket:
                socket.send(json.dumps(address))
                assert json.loads(socket.recv(5)) == {"user": "ada", "said": address}
                socket.send("null")
                assert json.loads(socket.recv(5)) == {"user": "ada", "said": address}
        assert browser.get("/whoami").json() == {"user": "ada"}


def test_other_frameworks_beside_it(servers: list[Running], redis_url: str) -> None:
    """Who signs in at Django is signed in at FastAPI and Flask, and who signs out at FastAPI is
    signed out at Django."""
    beside = "tests.django.site.beside"
    fastapi = UVICORN.options.replace("tests.django.site.asgi:app", f"{beside}:on_fastapi")
    flask = GUNICORN.options.replace("tests.django.site.wsgi:app", f"{beside}:on_flask")
    with (
        running(Site("uvicorn", fastapi, "fastapi"), redis_url, **SETTINGS) as on_fastapi,
        running(Site("gunicorn", flask, "flask"), redis_url, **SETTINGS) as on_flask,
        browser_of(*servers) as browser,
    ):
        sign_in(browser)

        def at(server: Running, path: str, method: str = "GET") -> dict[str, object]:
            headers = {"Cookie": f"session={browser.session_cookie}"}
            answer = server.client.request(method, server.addresses[0] + path, headers=headers)
            found: dict[str, object] = answer.json()["session"]
            return found

        for server in (on_fastapi, on_flask):
            assert at(server, "/me")["_auth_user_id"] == "1"
        assert at(on_flask, "/count", "POST")["n"] == 1
        assert at(on_fastapi, "/count", "POST")["n"] == 2
        assert browser.get("/whoami").json() == {"user": "ada"}
        at(on_fastapi, "/sign-out", "POST")
        assert browser.get("/whoami").json() == {"user": ""}


def test_servers_that_are_killed(tmp_path: Path, redis_url: str) -> None:
    """One of two, of each kind: the user stays signed in, and nothing is lost."""
    with site(tmp_path, redis_url, GUNICORN, UVICORN) as servers, browser_of(*servers) as browser:
        sign_in(browser)
        for visits in range(1, 5):
            assert browser.get("/visit").json()["visits"] == visits
        left = []
        for server in servers:
            os.killpg(server.processes[0].pid, signal.SIGKILL)
            server.processes[0].wait()
            left.append(HttpServer(server.addresses[1]))
        with Visitor(*left, cookies={"session": browser.session_cookie or ""}) as rest:
            assert rest.get("/whoami").json() == {"user": "ada", "visits": 4}
            for visits in range(5, 9):
                assert rest.get("/avisit").json() == {"visits": visits, "user": "ada"}
