"""The ASGI applications: each has the same four routes, and sessions as its package keeps them.

``/unused`` does not touch the session, ``/read`` reads one key, ``/write`` counts one up, and
``/sign-in`` fills a new session. Settings are each package's own, as far as it has any.
"""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sharedsession.asgi import SessionMiddleware

SECRET = "a secret of this benchmark"
LIFETIME = 14 * 24 * 3600
CONNECTIONS = 256  # at most; redis-py's own limit of 100 is too few for 128 clients at a time


async def _unused(request: Request) -> PlainTextResponse:
    return PlainTextResponse("4711")


async def _read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.session["user_id"]))


async def _write(request: Request) -> PlainTextResponse:
    request.session["seen"] += 1
    return PlainTextResponse(str(request.session["seen"]))


async def _sign_in(request: Request) -> PlainTextResponse:
    from .contenders import SESSION

    request.session.update(SESSION)
    return PlainTextResponse("4711")


async def _grow(request: Request) -> PlainTextResponse:
    from .contenders import session_of

    request.session.update(session_of(int(request.path_params["size"])))
    return PlainTextResponse("4711")


HANDLERS = {
    "/unused": _unused,
    "/read": _read,
    "/write": _write,
    "/sign-in": _sign_in,
    "/grow/{size}": _grow,
}


def starlette(_: str = "") -> Any:
    return Starlette(routes=[Route(path, handler) for path, handler in HANDLERS.items()])


def cookie(_: str) -> Any:
    from starlette.middleware.sessions import SessionMiddleware as CookieMiddleware

    app = starlette()
    app.add_middleware(CookieMiddleware, secret_key=SECRET)
    return app


def memory(_: str) -> Any:
    app = starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store="memory://")
    return app


def shared(url: str) -> Any:
    app = starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=url)
    return app


def near(url: str) -> Any:
    app = starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=url, near_cache=True)
    return app


def starsessions(url: str) -> Any:
    from redis.asyncio import Redis
    from starsessions import SessionAutoloadMiddleware
    from starsessions import SessionMiddleware as Starsessions
    from starsessions.stores.redis import RedisStore

    app = starlette()
    app.add_middleware(SessionAutoloadMiddleware)
    app.add_middleware(
        Starsessions,
        store=RedisStore(connection=Redis.from_url(url, max_connections=CONNECTIONS)),
        cookie_https_only=False,
        lifetime=LIFETIME,
    )
    return app


def fastapi(_: str = "") -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    for path, handler in HANDLERS.items():
        app.get(path)(handler)
    return app


def redis_sdk(url: str) -> Any:
    from redis_fastapi import FastAPIRedis

    os.environ |= {"REDIS_URL": url, "REDIS_MAX_CONNECTIONS": str(CONNECTIONS)}
    app = fastapi()
    FastAPIRedis(app).lifespan().sessions()
    return app


def litestar(_: str = "", **settings: Any) -> Any:
    from litestar import Litestar, MediaType, get
    from litestar import Request as LitestarRequest

    from .contenders import SESSION, session_of

    @get("/unused", media_type=MediaType.TEXT)
    async def unused() -> str:
        return "4711"

    @get("/read", media_type=MediaType.TEXT)
    async def read(request: LitestarRequest[Any, Any, Any]) -> str:
        return str(request.session["user_id"])

    @get("/write", media_type=MediaType.TEXT)
    async def write(request: LitestarRequest[Any, Any, Any]) -> str:
        request.session["seen"] += 1
        return str(request.session["seen"])

    @get("/sign-in", media_type=MediaType.TEXT)
    async def sign_in(request: LitestarRequest[Any, Any, Any]) -> str:
        request.session.update(SESSION)
        return "4711"

    @get("/grow/{size:int}", media_type=MediaType.TEXT)
    async def grow(request: LitestarRequest[Any, Any, Any], size: int) -> str:
        request.session.update(session_of(size))
        return "4711"

    for each in (
        read,
        write,
        sign_in,
        grow,
    ):  # what an annotation names has to be found in the module
        each.fn.__annotations__["request"] = LitestarRequest
    return Litestar([unused, read, write, sign_in, grow], openapi_config=None, **settings)


def litestar_redis(url: str) -> Any:
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.redis import RedisStore
    from redis.asyncio import Redis

    config = ServerSideSessionConfig(secure=False)
    store = RedisStore(Redis.from_url(url, max_connections=CONNECTIONS))
    return litestar(middleware=[config.middleware], stores={"sessions": store})
