"""Litestar's session, as it is on its own backends and beyond."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from click.testing import CliRunner
from litestar import Controller, Litestar, MediaType, Request, Router, WebSocket, get, websocket
from litestar.cli.main import litestar_group
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.middleware.session.base import SessionMiddleware as OldMiddleware
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.plugins.flash import FlashConfig, FlashPlugin, flash
from litestar.response import Template
from litestar.security.session_auth import SessionAuth
from litestar.stores.memory import MemoryStore
from litestar.template.config import TemplateConfig
from litestar.testing import AsyncTestClient, TestClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient as StarletteClient

try:
    from litestar.plugins.jinja import JinjaTemplateEngine
except ModuleNotFoundError:  # before Litestar 2.22
    from litestar.contrib.jinja import JinjaTemplateEngine

from sharedsession import ConfigurationError
from sharedsession.asgi import SessionMiddleware
from sharedsession.litestar import SharedSessionConfig
from sharedsession.testing.stores import Clock
from tests.litestar.conftest import SECRET, MakeConfig
from tests.support.watched import WatchedStore

Act = Callable[[Any], Any]
FOREVER = re.compile(r"(?i)max-age=(\d+)")


class Model(BaseModel):
    a: int
    when: date | None = None


class Struct(msgspec.Struct):
    a: int


@dataclass
class Plain:
    a: int


class Own:
    """What only the application can encode."""


class Site:
    """An application whose handler does what the test wants; ``acts`` are done with a request."""

    def __init__(self, config: Any, **options: Any) -> None:
        self.config, self.act, self.result = config, _nothing, None

        @get("/", media_type=MediaType.TEXT)
        async def page(request: Request[Any, Any, Any]) -> str:
            found = self.act(request)
            self.result = await found if hasattr(found, "__await__") else found
            return "ok"

        @get("/none", skip_session=True)
        async def without(request: Request[Any, Any, Any]) -> str:
            return str(request.scope.get("session"))

        @websocket("/socket")
        async def socket(socket: WebSocket[Any, Any, Any]) -> None:
            await self.act(socket)

        stores = {"sessions": MemoryStore()}
        self.app = Litestar(
            [page, without, socket],
            middleware=[config.middleware],
            stores=stores,  # type: ignore[arg-type]
            logging_config=None,
            **options,
        )
        self.client = TestClient(self.app, session_config=config, raise_server_exceptions=False)

    def visit(self, act: Act, path: str = "/", **options: Any) -> Any:
        """Ask for a page that does this; return the response."""
        self.act, self.result = act, None
        return self.client.get(path, **options)

    def see(self) -> dict[str, Any]:
        """What the session holds."""
        self.visit(lambda request: dict(request.session))
        held: dict[str, Any] = self.result
        return held


def _nothing(request: Any) -> None:
    """A page that does nothing."""


def put(**values: Any) -> Act:
    return lambda request: request.session.update(values)


@pytest.fixture
def site(config: SharedSessionConfig) -> Site:
    return Site(config)


@pytest.fixture(params=["ours", "Litestar's own"])
def either(request: pytest.FixtureRequest, config: SharedSessionConfig) -> Any:
    """Our configuration, and Litestar's own of sessions on the server: both must pass."""
    return config if request.param == "ours" else ServerSideSessionConfig()


# --- as Litestar's own does it --------------------------------------------------------------------


def test_what_one_request_stores_the_next_one_reads(either: Any) -> None:
    """request.session is a dict."""
    site = Site(either)
    site.visit(put(a=1, b=[{"c": None}]))
    assert site.see() == {"a": 1, "b": [{"c": None}]}


def test_set_session_replaces_it(either: Any) -> None:
    """By a dict, a model of Pydantic's, a Struct or a dataclass."""
    site = Site(either)
    for value, stored in (
        ({"b": 1}, {"b": 1}),
        (Model(a=1, when=date(2026, 1, 2)), {"a": 1, "when": "2026-01-02"}),
        (Struct(a=2), {"a": 2}),
        (Plain(a=3), {"a": 3}),
    ):
        site.visit(put(old=1))
        site.visit(lambda request, value=value: request.set_session(value))
        assert site.see() == stored


def test_clear_session_ends_it(either: Any) -> None:
    """And the client's cookie goes."""
    site = Site(either)
    site.visit(put(a=1))
    gone = site.visit(lambda request: request.clear_session())
    assert "session=null" in gone.headers["set-cookie"]
    assert site.see() == {}


def test_models_inside_are_taken_as_litestar_takes_them(either: Any) -> None:
    """Its serializer knows them, with the application's own encoders; they come back as there."""
    site = Site(either, type_encoders={Own: lambda own: {"own": True}})
    values = {"model": Model(a=1), "struct": Struct(a=2), "plain": Plain(a=3), "own": Own()}
    site.visit(put(**values, path=Path("/a")))
    assert site.see() == {
        "model": {"a": 1, "when": None},
        "struct": {"a": 2},
        "plain": {"a": 3},
        "own": {"own": True},
        "path": "/a",
    }


def test_a_value_that_litestar_cannot_store_is_an_error(either: Any, store: WatchedStore) -> None:
    """Not even with its serializer."""
    site = Site(either)
    assert site.visit(put(bad=object())).status_code == 500
    assert store.stored == []


def test_the_test_client_sets_and_gets_session_data(either: Any) -> None:
    """Before a request and after it, models included."""
    site = Site(either)
    site.client.set_session_data({"user_id": 5, "model": Model(a=1)})
    assert site.see() == {"user_id": 5, "model": {"a": 1, "when": None}}
    site.visit(put(a=1))
    assert site.client.get_session_data() == {**site.see(), "a": 1}
    site.client.set_session_data({"b": 2})
    assert site.see() == {"b": 2}


async def _on_the_async_client(config: SharedSessionConfig) -> Any:
    site = Site(config)
    async with AsyncTestClient(site.app, session_config=config) as client:
        await client.set_session_data({"a": 1})
        return await client.get_session_data()


def test_the_async_test_client_does_too(config: SharedSessionConfig) -> None:
    """On the loop of the test."""
    import asyncio

    assert asyncio.run(_on_the_async_client(config)) == {"a": 1}


def test_a_request_knows_the_sessions_id(either: Any) -> None:
    """``get_session_id()``, the same from the first request on; ours is the handle, no secret."""
    site = Site(either)
    seen = []
    for _ in range(2):
        site.visit(lambda request: (request.session.update(a=1), request.get_session_id()))
        seen.append(site.result[1])  # type: ignore[index]
    assert seen[0]
    assert seen[0] == seen[1]


def test_a_route_without_a_session(either: Any) -> None:
    """By its ``skip_session``."""
    site = Site(either)
    site.visit(put(a=1))
    assert site.client.get("/none").text == "None"


def test_a_path_without_a_session(make_config: MakeConfig) -> None:
    """By ``exclude``, and by a key of one's own."""
    site = Site(make_config(exclude="/none", exclude_opt_key="other"))
    assert site.client.get("/none").text == "None"
    site = Site(make_config(exclude_opt_key="other"))
    assert site.client.get("/none").text == "{}"


def test_messages_are_flashed(either: Any, tmp_path: Path) -> None:
    """FlashPlugin finds the session, and a template shows each message once."""
    (tmp_path / "page.html").write_text("{% for m in get_flashes() %}{{ m.message }} {% endfor %}")
    templates = TemplateConfig(directory=tmp_path, engine=JinjaTemplateEngine)

    @get("/tell")
    async def tell(request: Request[Any, Any, Any]) -> str:
        flash(request, "saved", category="info")
        return "ok"

    @get("/show")
    async def show() -> Template:
        return Template("page.html")

    app = Litestar(
        [tell, show],
        middleware=[either.middleware],
        plugins=[FlashPlugin(FlashConfig(templates))],
        template_config=templates,
        stores={"sessions": MemoryStore()},  # type: ignore[dict-item]
    )
    with TestClient(app) as client:
        client.get("/tell")
        assert client.get("/show").text.strip() == "saved"
        assert client.get("/show").text.strip() == ""


async def _user_of(session: dict[str, Any], connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
    return session.get("user_id")


def test_session_auth_signs_in_and_out(either: Any) -> None:
    """A guard over all routes; the login route alone is open."""

    @get("/in")
    async def sign_in(request: Request[Any, Any, Any]) -> str:
        request.set_session({"user_id": 7})
        return "in"

    @get("/me")
    async def me(request: Request[Any, Any, Any]) -> str:
        return str(request.user)

    @get("/out")
    async def out(request: Request[Any, Any, Any]) -> str:
        request.clear_session()
        return "out"

    auth = SessionAuth[Any, Any](
        retrieve_user_handler=_user_of, session_backend_config=either, exclude=["/in", "/schema"]
    )
    app = Litestar(
        [sign_in, me, out],
        on_app_init=[auth.on_app_init],
        stores={"sessions": MemoryStore()},  # type: ignore[dict-item]
    )
    with TestClient(app, session_config=either) as client:
        assert client.get("/me").status_code == NotAuthorizedException.status_code
        client.get("/in")
        assert client.get("/me").text == "7"
        client.get("/out")
        assert client.get("/me").status_code == NotAuthorizedException.status_code
        client.set_session_data({"user_id": 8})
        assert client.get("/me").text == "8"


def run_command(app: Litestar, *arguments: str) -> Any:
    """Run one of Litestar's commands, and agree to what it asks."""
    from litestar.cli._utils import LitestarEnv

    environment = LitestarEnv(app_path="tests:app", app=app, cwd=Path.cwd())
    return CliRunner().invoke(litestar_group, arguments, obj=environment, input="y\n")


def test_the_command_ends_a_session_by_its_handle(site: Site) -> None:
    """``litestar sessions delete``; what ``get_session_id()`` has shown names it."""
    site.visit(put(a=1))
    site.visit(lambda request: request.get_session_id())
    assert run_command(site.app, "sessions", "delete", str(site.result)).exit_code == 0
    assert site.see() == {}


def test_the_command_that_clears_all_says_that_it_cannot(site: Site) -> None:
    """The store holds other applications' sessions as well."""
    said = run_command(site.app, "sessions", "clear")
    assert said.exit_code != 0
    assert "does not support clearing" in said.output


# --- what only ours does --------------------------------------------------------------------------


def test_requests_without_a_session_cost_nothing(site: Site, store: WatchedStore) -> None:
    """No cookie: no store; nothing stored: no cookie; nothing read: no Vary."""
    plain = site.visit(_nothing)
    read = site.visit(lambda request: dict(request.session))
    assert store.calls == []
    assert "vary" not in plain.headers
    assert read.headers["vary"] == "Cookie"
    assert "set-cookie" not in read.headers


def test_only_what_changed_is_written(site: Site, store: WatchedStore) -> None:
    """Litestar's own writes with each response; nested changes count."""
    site.visit(put(cart=[]))
    store.calls.clear()
    site.see()
    assert store.calls == ["load"]
    site.visit(lambda request: request.session["cart"].append("tea"))
    assert site.see() == {"cart": ["tea"]}


def test_types_survive(site: Site) -> None:
    """What a session holds by itself is not bent by JSON."""
    values = {"pair": (1, 2), "day": date(2026, 1, 2), "id": UUID(int=7), "set": {1}}
    site.visit(put(**values))
    assert site.see() == values


def test_two_servers_on_one_store(make_config: MakeConfig) -> None:
    """A sign-out at one is one at the other."""
    first, second = Site(make_config()), Site(make_config())
    first.visit(put(user_id=7))
    second.client.cookies = first.client.cookies
    assert second.see() == {"user_id": 7}
    cookie = first.client.cookies["session"]
    second.visit(lambda request: request.clear_session())
    first.client.cookies.set("session", cookie)
    assert first.see() == {}


def test_a_sign_in_renews_the_id(site: Site) -> None:
    """The old one is dead."""
    site.visit(put(cart=1))
    before = site.client.cookies["session"]
    site.visit(put(user_id=7))
    assert site.client.cookies["session"].split(".")[0] != before.split(".")[0]
    thief = Site(site.config)
    thief.client.cookies.set("session", before)
    assert thief.see() == {}


def test_verbs_are_awaited(site: Site) -> None:
    """As under ASGI."""

    async def act(request: Request[Any, Any, Any]) -> Any:
        session: Any = request.session
        session["n"] = 1
        return await session.commit(lambda held: held["n"] + 1)

    site.visit(act)
    assert site.result == 2


def test_an_outage_is_a_503_of_whoever_uses_the_session(site: Site, store: WatchedStore) -> None:
    """Who does not use it is served; the first request after it works."""
    site.visit(put(a=1))
    store.fail("load")
    used = site.visit(lambda request: dict(request.session))
    assert (used.status_code, used.headers["retry-after"]) == (503, "2")
    assert site.visit(_nothing).status_code == 200
    store.recover()
    store.fail("replace")
    assert site.visit(put(a=2)).status_code == 503
    store.recover()
    assert site.see() == {"a": 1}


def test_a_socket_has_its_session(site: Site) -> None:
    """Accepted with its cookie, stored when it is over, refused in an outage."""

    async def talk(socket: WebSocket[Any, Any, Any]) -> None:
        socket.session["n"] = socket.session.get("n", 0) + 1
        await socket.accept()
        await socket.send_text("hi")
        socket.session["n"] += 1
        await socket.close()

    site.visit(put(n=0))
    site.act = talk
    for _ in range(2):
        with site.client.websocket_connect("/socket") as socket:
            assert socket.receive_text() == "hi"
    assert site.see() == {"n": 4}


def test_an_outage_refuses_a_socket(site: Site, store: WatchedStore) -> None:
    """With the close code that says: try again later."""

    async def talk(socket: WebSocket[Any, Any, Any]) -> None:
        socket.session["n"] = 1
        await socket.accept()

    site.visit(put(n=0))
    store.fail("load")
    site.act = talk
    with pytest.raises(WebSocketDisconnect) as refused:
        site.client.websocket_connect("/socket").__enter__()
    assert refused.value.code == 1013
    store.recover()
    assert site.see() == {"n": 0}


def test_one_configuration_is_one_layer(site: Site) -> None:
    """Litestar makes the middleware for each route: all of them count together."""
    site.visit(put(a=1))
    assert site.config.layer.counts == {"created": 1}


def test_an_application_mounted_elsewhere_has_the_same_session(
    make_config: MakeConfig, store: WatchedStore
) -> None:
    """A sign-in at Starlette is known here: one secret, one store, one cookie."""

    async def sign_in(request: StarletteRequest) -> JSONResponse:
        request.session.update(user_id=7)
        return JSONResponse({})

    app = Starlette(routes=[Route("/", sign_in)])
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store)
    client = StarletteClient(app)
    site = Site(make_config())
    app.build_middleware_stack()
    client.get("/")
    site.client.cookies.set("session", client.cookies["session"])
    assert site.see()["user_id"] == 7


def test_two_layers_of_one_configuration_are_one_session(config: SharedSessionConfig) -> None:
    """On the application and on a route as well: one Set-Cookie."""

    @get("/", middleware=[config.middleware])
    async def page(request: Request[Any, Any, Any]) -> str:
        request.session["a"] = 1
        return "ok"

    with TestClient(Litestar([page], middleware=[config.middleware])) as client:
        assert len(client.get("/").headers.get_list("set-cookie")) == 1
    assert config.layer.counts == {"created": 1}


def test_the_application_starts_and_stops(config: SharedSessionConfig) -> None:
    """Its lifespan passes."""
    done: list[str] = []
    hooks: dict[str, Any] = {
        "on_startup": [lambda: done.append("started")],
        "on_shutdown": [lambda: done.append("stopped")],
    }
    with Site(config, **hooks).client as client:
        client.get("/")
    assert done == ["started", "stopped"]


def test_the_old_layer_serves_until_the_switch(make_config: MakeConfig, clock: Clock) -> None:
    """``switch_at`` and ``before``: Litestar's own, say, around the application."""
    old = ServerSideSessionConfig()

    def before(app: Any) -> Any:
        return OldMiddleware(app=app, backend=old._backend_class(config=old))

    at = datetime.fromtimestamp(clock() + 100, UTC)
    site = Site(make_config(switch_at=at, before=before))
    site.visit(put(a=1))
    assert site.see() == {"a": 1}
    assert site.config.layer.counts == {}
    clock.advance(101)
    assert site.see() == {}
    site.visit(put(b=1))
    assert site.config.layer.counts["created"] == 1


# --- arguments ------------------------------------------------------------------------------------


def test_the_cookie_has_what_the_arguments_say(make_config: MakeConfig) -> None:
    """Litestar's names for them."""
    config = make_config(
        key="own", max_age=600, path="/", samesite="strict", secure=True, partitioned=True
    )
    cookie = Site(config).visit(put(a=1)).headers["set-cookie"]
    found = FOREVER.search(cookie)
    assert found is not None
    assert found[1] == "600"
    lowered = cookie.lower()
    assert lowered.startswith("own=")
    for attribute in ("httponly", "samesite=strict", "secure", "partitioned", "path=/"):
        assert attribute in lowered


def test_a_configuration_tells_litestar_what_it_is(make_config: MakeConfig) -> None:
    """SessionAuth puts the cookie's name into the OpenAPI document, for one."""
    config = make_config(key="own", path="/shop", samesite="strict")
    assert (config.key, config.path, config.samesite) == ("own", "/shop", "strict")
    assert config.max_age == 14 * 24 * 60 * 60
    assert config.domain is None
    assert config.httponly
    assert not config.secure


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("secret", "secret_key"),
        ("session_cookie", "key="),
        ("https_only", "secure="),
        ("same_site", "samesite="),
        ("renew_on_access", "leave it out"),
        ("session_id_bytes", "leave it out"),
        ("httponly", "leave it out"),
    ],
)
def test_a_wrong_argument_is_told_the_right_one(wrong: str, right: str) -> None:
    """Those of Litestar's own configurations among them."""
    with pytest.raises(TypeError, match=right):
        SharedSessionConfig(SECRET, store="memory://", **{wrong: "x"})  # type: ignore[arg-type]


def test_a_wrong_setting_stops_the_application() -> None:
    """When the configuration is made."""
    with pytest.raises(ConfigurationError, match="redis://"):
        SharedSessionConfig(SECRET)
    with pytest.raises(ConfigurationError, match="secret_key"):
        SharedSessionConfig(store="memory://")


@pytest.mark.parametrize("kind", [Struct, Plain, lambda a: Model(a=a), lambda a: {"a": a}])
def test_a_model_set_behind_the_response_is_stored(
    kind: Callable[[int], Any], config: SharedSessionConfig
) -> None:
    """In an ``after_response`` function, and in a socket that is open: the session goes on."""

    async def after(request: Request[Any, Any, Any]) -> None:
        if "late" in request.query_params:
            request.set_session(kind(1))

    async def talk(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        socket.set_session(kind(2))
        await socket.close()

    site = Site(config, after_response=after)
    site.visit(put(first=1))
    site.visit(_nothing, "/?late=1")
    assert site.see().get("a") == 1
    site.act = talk
    with site.client.websocket_connect("/socket"):
        pass
    assert site.see().get("a") == 2


@pytest.mark.parametrize("layer", ["router", "controller", "route"])
def test_a_layer_of_the_application_has_a_session(
    layer: str, config: SharedSessionConfig, store: WatchedStore
) -> None:
    """Litestar copies a router, and a controller's routes, with all that they hold."""
    own = {
        name: [config.middleware] if name == layer else [] for name in (layer, "router", "route")
    }

    class Part(Controller):
        middleware = [config.middleware] if layer == "controller" else []

        @get("/part", media_type=MediaType.TEXT, middleware=own["route"])
        async def page(self, request: Request[Any, Any, Any]) -> str:
            request.session["n"] = request.session.get("n", 0) + 1
            return str(request.session["n"])

    router = Router("/", route_handlers=[Part], middleware=own["router"])
    with TestClient(Litestar([router])) as client:
        assert [client.get("/part").text for _ in range(3)] == ["1", "2", "3"]
    assert store.stored == [{"n": 3}]


def test_each_of_two_configurations_has_its_own_session(make_config: MakeConfig) -> None:
    """What one route sets or clears in its session is nothing to that of the application."""
    outer, inner = make_config(key="outer"), make_config(key="inner")

    @get("/inner", media_type=MediaType.TEXT, middleware=[inner.middleware])
    async def page(request: Request[Any, Any, Any]) -> str:
        if "clear" in request.query_params:
            request.clear_session()
        else:
            request.set_session({"inner": 1})
        return "ok"

    @get("/outer")
    async def other(request: Request[Any, Any, Any]) -> dict[str, Any]:
        request.session.setdefault("outer", 1)
        return dict(request.session)

    with TestClient(Litestar([page, other], middleware=[outer.middleware])) as client:
        for path in ("/outer", "/inner", "/outer", "/inner?clear=1", "/outer"):
            found = client.get(path)
        assert found.json() == {"outer": 1}
    assert outer.layer.counts == {"created": 1}
    assert inner.layer.counts == {"created": 1, "destroyed": 1}


def test_a_client_whose_data_were_emptied_is_given_others(either: Any) -> None:
    """A test sets no data, and then a visitor's."""
    site = Site(either)
    with site.client as client:
        for data in ({"a": 1}, {}, {"b": 2}):
            client.set_session_data(data)
            assert client.get_session_data() == data
