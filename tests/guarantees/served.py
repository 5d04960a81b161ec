"""A FastAPI application for uvicorn; the store's URL comes from the environment."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request

from sharedsession.asgi import SessionMiddleware
from tests.guarantees.driver import SECRET, add_one

app = FastAPI()
app.add_middleware(
    SessionMiddleware, secret_key=SECRET, store=os.environ["STORE"], store_timeout=10
)


@app.post("/sign-in/{user}")
async def sign_in(request: Request, user: str) -> str:
    request.session["user_id"] = user
    return user


@app.get("/me")
async def me(request: Request) -> dict[str, Any]:
    return {**request.session, "pid": os.getpid()}


@app.post("/count")
def count(request: Request) -> int:
    request.session.mutate(add_one)  # in a worker thread: this route is an ordinary function
    value: int = request.session["n"]
    return value


@app.post("/sign-out")
async def sign_out(request: Request) -> None:
    request.session.destroy()


@app.get("/health")
async def health() -> str:
    return "fine"
