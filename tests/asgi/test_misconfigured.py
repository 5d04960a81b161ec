"""A middleware that cannot be made: the server does not start, whoever makes the middleware."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.testclient import TestClient

from sharedsession import ConfigurationError, asgi, wsgi
from tests.asgi.application import SECRET
from tests.demo.demos import clean_environment
from tests.examples.serving import free_port

Make = Callable[[], Any]


def by_add_middleware() -> FastAPI:
    app = FastAPI()
    app.add_middleware(asgi.SessionMiddleware, store="memory://")
    return app


def by_a_list() -> Starlette:
    inside = Middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    ours = Middleware(asgi.SessionMiddleware, store="memory://")
    return Starlette(middleware=[inside, ours, inside])


def with_an_unknown_argument() -> FastAPI:
    app = FastAPI()
    app.add_middleware(asgi.SessionMiddleware, secret_key=SECRET, store="memory://", secure=True)
    return app


def with_a_key_twice() -> FastAPI:
    app = FastAPI()
    app.add_middleware(asgi.SessionMiddleware, SECRET, secret_key=SECRET, store="memory://")
    return app


def of_the_other_kind() -> FastAPI:
    app = FastAPI()
    app.add_middleware(wsgi.SessionMiddleware, secret_key=SECRET, store="memory://")
    return app


WAYS: dict[str, tuple[Make, str]] = {
    "add_middleware": (by_add_middleware, "No secret key"),
    "a list of middlewares": (by_a_list, "No secret key"),
    "an unknown argument": (with_an_unknown_argument, "write https_only="),
    "an argument twice": (with_a_key_twice, "secret_key"),
    "the class for WSGI": (of_the_other_kind, "from sharedsession.asgi import"),
}


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("SHAREDSESSION_"):
            monkeypatch.delenv(name)


async def lifespan(app: Any) -> list[Any]:
    """Ask an application for its lifespan, as a server does; return what it sends.

    It must raise afterwards, as Starlette's own does.
    """
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(Exception, match=r".") as raised:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert str(raised.value) in sent[0]["message"]
    return sent


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", WAYS)
def test_the_lifespan_is_answered_with_the_sentence(name: str, backend: str) -> None:
    """Where a framework makes the middleware for it: a server stops then, and shows it."""
    make, says = WAYS[name]

    (answer,) = anyio.run(lifespan, make(), backend=backend)

    assert answer["type"] == "lifespan.startup.failed"
    assert says in answer["message"]


@pytest.mark.parametrize("name", WAYS)
def test_every_other_scope_raises_it(name: str) -> None:
    """A request, the next one, and a WebSocket, on a server that asks for no lifespan."""
    make, says = WAYS[name]
    client = TestClient(make())

    for _ in range(2):
        with pytest.raises((ConfigurationError, TypeError), match=says):
            client.get("/")
    with pytest.raises((ConfigurationError, TypeError), match=says), client.websocket_connect("/"):
        pass


@pytest.mark.parametrize("name", WAYS)
def test_a_test_client_raises_it_when_it_starts_the_application(name: str) -> None:
    """``with TestClient(app)`` neither begins nor waits for an end that never comes."""
    make, says = WAYS[name]

    with pytest.raises((ConfigurationError, TypeError), match=says), TestClient(make()):
        pytest.fail("the application has started")


def test_an_error_that_is_not_ours_comes_with_its_traceback() -> None:
    """Of a store of the application's own, say: a sentence alone would not say where."""
    app = FastAPI()
    app.add_middleware(asgi.SessionMiddleware, SECRET, store="memory://", owner_key=Broken())

    (answer,) = anyio.run(lifespan, app)

    assert answer["type"] == "lifespan.startup.failed"
    assert "Traceback" in answer["message"]
    assert "what iterating has to say" in answer["message"]


class Broken:
    """An argument whose use fails."""

    def __iter__(self) -> Any:
        raise RuntimeError("what iterating has to say")


def test_who_wraps_an_application_directly_hears_of_it_at_once() -> None:
    """Also where an event loop runs, as it does when a server imports the application."""

    async def main() -> None:
        asgi.SessionMiddleware(FastAPI(), store="memory://")

    with pytest.raises(ConfigurationError, match="No secret key"):
        anyio.run(main)


def refused(app: FastAPI) -> None:
    with pytest.raises(ConfigurationError, match="No secret key"):
        asgi.SessionMiddleware(app, store="memory://")


def test_who_makes_one_while_an_application_starts_or_serves_hears_of_it_at_once() -> None:
    """In its lifespan, to mount a part of it, or in a view: no framework is waiting there."""
    seen = []

    @asynccontextmanager
    async def starting(app: FastAPI) -> AsyncIterator[None]:
        refused(app)
        seen.append("lifespan")
        yield

    app = FastAPI(lifespan=starting)

    @app.get("/")
    async def view() -> None:
        refused(app)
        seen.append("view")

    with TestClient(app) as client:
        client.get("/")
    assert seen == ["lifespan", "view"]


def test_an_application_that_is_made_by_its_first_scope_answers_it() -> None:
    """By plain functions, as frameworks make theirs."""

    def make() -> Any:
        return asgi.SessionMiddleware(FastAPI(), store="memory://")

    async def lazy(scope: Any, receive: Any, send: Any) -> None:
        await make()(scope, receive, send)

    (answer,) = anyio.run(lifespan, lazy)
    assert "No secret key" in answer["message"]


class Extended(asgi.SessionMiddleware):
    """A subclass that goes on after the constructor of ours."""

    def __init__(self, app: Any, **settings: Any) -> None:
        super().__init__(app, **settings)
        self.name = self.manager.settings.session_cookie


def test_a_subclass_is_answered_with_the_sentence() -> None:
    """Not with what its own constructor misses in a middleware that could not be made."""
    app = FastAPI()
    app.add_middleware(Extended, store="memory://")

    (answer,) = anyio.run(lifespan, app)

    assert answer["type"] == "lifespan.startup.failed"
    assert "No secret key" in answer["message"]


COMMANDS = {
    "uvicorn": "uvicorn app:app --port {port}",
    "granian": "granian app:app --interface asgi --host 127.0.0.1 --port {port}",
    "hypercorn": "hypercorn app:app --bind 127.0.0.1:{port}",
    "hypercorn on trio": "hypercorn app:app --bind 127.0.0.1:{port} --worker-class trio",
}
APPLICATION = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from sharedsession.asgi import SessionMiddleware

@asynccontextmanager
async def lifespan(app):
    print("started in spite of it", flush=True)
    yield

app = FastAPI(lifespan=lifespan)
"""
LINES = {
    "add_middleware": "app.add_middleware(SessionMiddleware, store='memory://')",
    "wrapped": "app = SessionMiddleware(app, store='memory://')",
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("server", COMMANDS)
def test_a_server_does_not_start(server: str, line: str, tmp_path: Path) -> None:
    """Its log has the sentence, and nothing of the application has started.

    uvicorn and granian end by themselves, with a status that says so; the first process of
    hypercorn may outlive its workers.
    """
    (tmp_path / "app.py").write_text(f"{APPLICATION}\n{LINES[line]}\n")
    command = COMMANDS[server].format(port=free_port()).split()
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *command],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        giving_up = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])
        giving_up.start()
        try:
            said = [""]
            while "No secret key to sign cookies with" not in said[-1]:
                assert said[-1] or len(said) == 1, "".join(said)
                said.append(process.stdout.readline())
            if not server.startswith("hypercorn"):
                said += process.stdout
                assert process.wait() > 0
        finally:
            giving_up.cancel()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    assert "started in spite of it" not in "".join(said)
