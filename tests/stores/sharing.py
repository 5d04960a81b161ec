"""A WSGI application and an ASGI application that count in one session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from sharedsession.asgi import SessionMiddleware as ASGISessions
from sharedsession.wsgi import SessionMiddleware as WSGISessions

SECRET = "a secret that both applications know"


def _count(session: dict[str, Any], where: str) -> bytes:
    session["count"] = session.get("count", 0) + 1
    session.setdefault("seen by", []).append(where)
    return json.dumps([session["count"], session["seen by"]]).encode()


def _wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = _count(environ["sharedsession.session"], "wsgi")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    body = _count(scope["session"], "asgi")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def assert_shared(url: str) -> None:
    """Two applications, one plain and one async, see each other's changes of one session."""
    options: dict[str, Any] = {"secret_key": SECRET, "store": url, "store_timeout": 5.0}
    plain, asynchronous = WSGISessions(_wsgi, **options), ASGISessions(_asgi, **options)

    async def ask(cookies: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(asynchronous)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app", cookies=cookies
        ) as client:
            return await client.get("/")

    cookies: dict[str, str] = {}
    seen: list[str] = []
    with httpx.Client(transport=httpx.WSGITransport(plain), base_url="http://app") as client:
        for count in range(1, 5):
            if count % 2:
                client.cookies.update(cookies)
                answer = client.get("/")
            else:
                answer = asyncio.run(ask(cookies))
            assert answer.status_code == 200, answer.text
            seen.append("wsgi" if count % 2 else "asgi")
            assert answer.json() == [count, seen]
            cookies |= dict(answer.cookies)
