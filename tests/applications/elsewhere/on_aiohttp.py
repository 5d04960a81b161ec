"""aiohttp, on its own server."""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import WSMsgType, web

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

page = example("aiohttp")
routes = web.RouteTableDef()


@routes.get("/pid")
async def pid(request: web.Request) -> web.Response:
    return web.json_response({"pid": os.getpid()})


@routes.get("/sign-in/{user}")
@routes.get("/sign-out")
@routes.get("/me")
async def rest(request: web.Request) -> web.Response:
    return web.Response(text=shop.answers_of(request[page.SESSION], request.path))


@routes.get("/redirect/{user}")
async def redirect(request: web.Request) -> web.Response:
    shop.sign_in(request[page.SESSION], request.match_info["user"])
    raise web.HTTPFound("/me", headers={"X-Own": "kept"})


@routes.get("/stream/{user}")
async def stream(request: web.Request) -> web.StreamResponse:
    session = request[page.SESSION]
    shop.sign_in(session, request.match_info["user"])
    response = web.StreamResponse(headers={"X-Own": "kept"})
    await response.prepare(request)
    for part in (b"one ", b"two"):
        await response.write(part)
    session["late"] = "stored"  # the client has its cookie
    return response


@routes.get("/reads-late")
async def reads_late(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"for ")
    await response.write(str(request[page.SESSION].get("user_id")).encode())
    return response


@routes.get("/late")
async def late(request: web.Request) -> web.Response:
    return web.Response(text=str(request[page.SESSION].get("late")))


@routes.get("/socket")
async def socket(request: web.Request) -> web.WebSocketResponse:
    session = request[page.SESSION]
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        if message.type == WSMsgType.TEXT:
            session["visits"] = session.get("visits", 0) + 1
            await response.send_str(f"{session.get('user_id')}: {message.data}")
    return response


@routes.get("/fails")
async def fails(request: web.Request) -> web.Response:
    request[page.SESSION]["user_id"] = "eve"
    raise RuntimeError("a fault of the application")


page.application.add_routes(routes)

if __name__ == "__main__":
    web.run_app(
        page.application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        loop=asyncio.new_event_loop(),
    )
