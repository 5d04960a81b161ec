"""Falcon under WSGI and, where WHOSE is "asgi", under ASGI."""

from __future__ import annotations

from typing import Any

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

ASGI = shop.WHOSE == "asgi"
page = example("Falcon", int(ASGI))


def session_of(req: Any) -> Any:
    return req.scope["session"] if ASGI else req.env["sharedsession.session"]


class Plain:
    def on_get(self, req: Any, resp: Any, **user: str) -> None:
        resp.text = shop.answers_of(session_of(req), req.path)


class Awaited:
    async def on_get(self, req: Any, resp: Any, **user: str) -> None:
        resp.text = shop.answers_of(session_of(req), req.path)


for path in ("/sign-in/{user}", "/sign-out", "/me"):
    page.app.add_route(path, Awaited() if ASGI else Plain())

if __name__ == "__main__":
    (shop.serve_asgi if ASGI else shop.serve_wsgi)(page.application)
