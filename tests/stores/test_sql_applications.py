"""Applications on SQL stores: sync and async ones share sessions; a full disk is a 503."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from werkzeug.test import Client

from sharedsession.asgi import SessionMiddleware as AsgiMiddleware
from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.sql import SQLStore
from sharedsession.wsgi import SessionMiddleware as WsgiMiddleware

SECRET = "a secret of the tests"


@pytest.fixture(params=["SQLite", "psycopg", "asyncpg", "MariaDB"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each kind of database."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/sessions.db"
    server = request.getfixturevalue("mariadb" if request.param == "MariaDB" else "postgresql")
    return str(server.asyncpg_url if request.param == "asyncpg" else server.url)


def count(session: Any) -> list[str]:
    session.setdefault("visits", []).append("a visit")
    return list(session["visits"])


def wsgi_application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    visits = count(environ["sharedsession.session"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(visits)).encode()]


async def asgi_application(request: Request) -> JSONResponse:
    return JSONResponse(len(count(request.session)))


def test_a_sync_and_an_async_application_share_sessions(url: str) -> None:
    """A visitor who goes to and fro between WSGI and ASGI has one session, changed by both."""
    settings: dict[str, Any] = {"secret_key": SECRET, "store": url, "store_timeout": 10.0}
    plain = Client(WsgiMiddleware(wsgi_application, **settings))
    application = AsgiMiddleware(Starlette(routes=[Route("/", asgi_application)]), **settings)

    async def visit(cookie: str) -> Any:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/", headers={"cookie": f"session={cookie}"})

    assert plain.get("/").text == "1"
    for visits in range(2, 8, 2):
        cookie = plain.get_cookie("session")
        assert cookie is not None
        answer = asyncio.run(visit(cookie.value))
        assert (answer.status_code, answer.json()) == (200, visits)
        if "session" in answer.cookies:
            plain.set_cookie("session", answer.cookies["session"])
        assert plain.get("/").text == str(visits + 1)


def test_a_full_disk_is_a_503_for_writers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite cannot grow: the log says so, reads go on, nothing is taken for stored, and a sweep,
    or more room, is all that it needs."""
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 5.0)
    pages = [40]

    def bound(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    sa.event.listen(store._engine, "checkout", bound)
    client = Client(WsgiMiddleware(filling, secret_key=SECRET, store=store))
    assert client.get("/?kilobytes=1").status_code == 200
    filled = 0

    def fill() -> None:
        nonlocal filled
        while store.create(f"{filled}", bytes(5000), 600):
            filled += 1

    with pytest.raises(StoreUnavailable, match=r"full \(make room"):
        fill()
    assert 0 < filled < 100
    assert client.get("/?kilobytes=100").status_code == 503
    assert "disk is full" in caplog.text
    assert client.get("/").text == "1024"
    entry = store.load("0")
    assert entry is not None
    assert store.load(f"{filled}") is None
    for number in range(filled):
        store.delete(f"{number}")
    assert client.get("/?kilobytes=2").status_code == 200
    assert client.get("/").text == "2048"
    store.close()


def filling(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Keep as many kilobytes in the session as the query says; say how many bytes there are."""
    session = environ["sharedsession.session"]
    wanted = environ["QUERY_STRING"].partition("=")[2]
    if wanted:
        session["filling"] = bytes(1024 * int(wanted))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(session["filling"])).encode()]
