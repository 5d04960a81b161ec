"""Bottle."""

from __future__ import annotations

import bottle

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

page = example("Bottle")


@page.app.get("/<path:path>")
def rest(path: str) -> str:
    return shop.answers_of(bottle.request.environ["sharedsession.session"], f"/{path}")


if __name__ == "__main__":
    shop.serve_wsgi(page.application)
