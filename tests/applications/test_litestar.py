"""A small application in Litestar: its own session before, ours behind two servers after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, MediaType, Request, get, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.plugins.flash import FlashConfig, FlashPlugin, flash
from litestar.response import Redirect, Template
from litestar.stores.memory import MemoryStore
from litestar.template.config import TemplateConfig

try:
    from litestar.plugins.jinja import JinjaTemplateEngine
except ModuleNotFoundError:  # before Litestar 2.22
    from litestar.contrib.jinja import JinjaTemplateEngine

from sharedsession.litestar import SharedSessionConfig
from tests.applications.conftest import (
    NewStore,
    Sites,
    expect_worthless_cookies,
    sign_in_and_out,
)
from tests.support.visitor import AsgiServer, Visitor

SECRET = "a secret key that all servers know"
PAGE = """<p>{{ user }} {{ seen }} {% for each in get_flashes() %}{{ each.message }}{% endfor %}</p>
<form method="post" action="/sign-in"><input name="user"></form>
<form method="post" action="/sign-out"></form>"""


@get("/", media_type=MediaType.HTML)
async def page(request: Request[Any, Any, Any]) -> Template:
    held = request.session
    shown = {"user": held.get("user_id", "stranger"), "seen": held.get("seen", 0)}
    return Template("page.html", context=shown)


@post("/sign-in")
async def sign_in(request: Request[Any, Any, Any]) -> Redirect:
    request.session["user_id"] = (await request.form())["user"]
    flash(request, "Welcome", category="info")
    return Redirect("/", status_code=303)


@get("/look")
async def look(request: Request[Any, Any, Any]) -> Redirect:
    request.session["seen"] = request.session.get("seen", 0) + 1
    return Redirect("/")


@post("/sign-out")
async def sign_out(request: Request[Any, Any, Any]) -> Redirect:
    request.set_session({})
    flash(request, "Goodbye", category="info")
    return Redirect("/", status_code=303)


def application(folder: Path, config: Any) -> Any:
    (folder / "page.html").write_text(PAGE)
    templates = TemplateConfig(directory=folder, engine=JinjaTemplateEngine)
    return Litestar(
        [page, sign_in, look, sign_out],
        middleware=[config.middleware],
        plugins=[FlashPlugin(FlashConfig(templates))],
        template_config=templates,
        stores={"sessions": MemoryStore()},  # type: ignore[dict-item]
        debug=True,
    )


@pytest.fixture
def sites(folders: tuple[Path, Path], new_store: NewStore) -> Sites:
    shared = [SharedSessionConfig(SECRET, store=new_store(), store_timeout=10) for _ in range(2)]
    return Sites(
        Visitor(AsgiServer(application(folders[0], ServerSideSessionConfig()))),
        Visitor(*(AsgiServer(application(folders[1], each)) for each in shared)),
    )


def test_a_person_is_shown_the_same(sites: Sites) -> None:
    """Sign-in, flashed messages, a counter and the sign-out, response by response."""
    sites.drive(sign_in_and_out)


def test_a_sign_in_is_a_new_id_and_a_sign_out_ends_it_everywhere(sites: Sites) -> None:
    """A cookie that was read before the sign-in, or copied before the sign-out, is worthless."""
    expect_worthless_cookies(sites)
