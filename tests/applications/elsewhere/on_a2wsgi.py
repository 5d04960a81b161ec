"""a2wsgi, both ways: WHOSE is "wsgi" (such an application on an ASGI server) or "asgi"."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

ASGI = shop.WHOSE == "asgi"
page = example("a2wsgi", int(ASGI))

if ASGI:

    async def rest(request: Request) -> PlainTextResponse:
        return PlainTextResponse(shop.answers_of(request.session, request.url.path))

    for path in ("/sign-in/{user}", "/sign-out", "/me"):
        page.app.router.routes.append(Route(path, rest))

else:
    inside = page.application.app

    def app(environ: dict[str, Any], start_response: Any, visits: Any = inside.app) -> Any:
        if environ["PATH_INFO"] == "/visits":
            return visits(environ, start_response)
        text = shop.answers_of(environ["sharedsession.session"], environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    inside.app = app

if __name__ == "__main__":
    (shop.serve_wsgi if ASGI else shop.serve_asgi)(page.application)
