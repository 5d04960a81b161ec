"""Mangum, called as AWS Lambda calls it: a loop for each call, by a gateway that knows HTTP.

WHOSE is "theirs" (Starlette's session), "ours" (events in API Gateway's format 2.0) or "ours 1.0".
"""

from __future__ import annotations

import asyncio
import base64
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

THEIRS = {
    "from sharedsession.asgi import SessionMiddleware": "from functools import partial; "
    "from starlette.middleware import sessions; "
    f"SessionMiddleware = partial(sessions.SessionMiddleware, secret_key={shop.SECRET!r})"
}
page = example("Mangum", instead=THEIRS if shop.WHOSE == "theirs" else None)
CONTEXT = SimpleNamespace(function_name="shop", aws_request_id="1")


async def rest(request: Request) -> PlainTextResponse:
    return PlainTextResponse(shop.answers_of(request.session, request.url.path))


for path in ("/sign-in/{user}", "/sign-out", "/me"):
    page.app.router.routes.append(Route(path, rest))


def event(method: str, target: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what API Gateway makes of a request, in format 2.0 or 1.0."""
    path, query = urlsplit(target).path, urlsplit(target).query
    if shop.WHOSE == "ours 1.0":
        request = {"resourcePath": path, "httpMethod": method, "path": path}
        return {
            "version": "1.0",
            "resource": path,
            "path": path,
            "httpMethod": method,
            "headers": dict(headers),
            "multiValueHeaders": {name: [value] for name, value in headers},
            "queryStringParameters": dict(parse_qsl(query)) or None,
            "multiValueQueryStringParameters": None,
            "requestContext": {**request, "identity": {"sourceIp": "127.0.0.1"}},
            "body": None,
            "isBase64Encoded": False,
        }
    cookies = [value for name, value in headers if name.lower() == "cookie"]
    http = {"method": method, "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "cookies": [each for value in cookies for each in value.split("; ")],
        "headers": {name.lower(): value for name, value in headers if name.lower() != "cookie"},
        "requestContext": {"http": http},
        "isBase64Encoded": False,
    }


class Gateway(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/pid":
            answer: dict[str, Any] = {"statusCode": 200, "body": shop.PID.decode()}
        else:
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            headers = [*self.headers.items(), ("X-Forwarded-Proto", "http")]
            answer = page.handler(event("GET", self.path, headers), CONTEXT)
            loop.close()
        self.send_response(answer["statusCode"])
        several = answer.get("multiValueHeaders") or {}
        single = {name: [value] for name, value in (answer.get("headers") or {}).items()}
        for name, values in {**single, **several}.items():
            for value in values:
                self.send_header(name, value)
        for cookie in answer.get("cookies") or []:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        body = answer["body"].encode()
        self.wfile.write(base64.b64decode(body) if answer.get("isBase64Encoded") else body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Gateway).serve_forever()
