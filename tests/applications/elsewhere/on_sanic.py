"""Sanic under ASGI."""

from __future__ import annotations

from typing import Any

from sanic import text

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

page = example("Sanic")


@page.app.get("/<path:path>")
async def rest(request: Any, path: str) -> Any:
    return text(shop.answers_of(request.scope["session"], request.path))


if __name__ == "__main__":
    shop.serve_asgi(page.application)
