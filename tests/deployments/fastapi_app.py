"""The application of these tests in FastAPI; test_every_server.py says what the routes do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from sharedsession.asgi import SessionMiddleware
from tests.deployments.shared import PARTS, PAUSE, SECRET, add_one, me

app = FastAPI()
app.add_middleware(
    SessionMiddleware, secret_key=SECRET, store=os.environ["STORE"], store_timeout=10
)


@app.post("/sign-in/{user}")
async def sign_in(request: Request, user: str) -> dict[str, object]:
    request.session["user_id"] = user
    return me(request.session)


@app.post("/count")
async def count(request: Request) -> dict[str, object]:
    request.session.mutate(add_one)
    return me(request.session)


@app.get("/me")
async def show(request: Request) -> dict[str, object]:
    return me(request.session)


@app.post("/sign-out")
async def sign_out(request: Request) -> dict[str, object]:
    request.session.destroy()
    return me({})


@app.get("/pid")
async def pid() -> dict[str, object]:
    await asyncio.sleep(PAUSE)
    return me({})


@app.get("/slow")
async def slow(request: Request) -> StreamingResponse:
    request.session["streamed"] = True

    async def body() -> AsyncIterator[str]:
        for _ in range(PARTS):
            yield f"{os.getpid()} {request.session['user_id']}\n"
            await asyncio.sleep(PAUSE)

    return StreamingResponse(body(), media_type="text/plain")
