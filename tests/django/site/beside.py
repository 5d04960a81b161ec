"""Applications of other frameworks beside the site, on its store, with its key and its cookie."""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from flask import Flask, session

from sharedsession.asgi import SessionMiddleware
from sharedsession.flask import SharedSession
from tests.deployments.shared import add_one, me

on_fastapi = FastAPI()
on_fastapi.add_middleware(
    SessionMiddleware, secret_key=os.environ["SECRET_KEY"], store=os.environ["STORE"]
)


@on_fastapi.get("/pid")
@on_fastapi.get("/me")
async def show(request: Request) -> dict[str, object]:
    return me(request.session)


@on_fastapi.post("/count")
async def count(request: Request) -> dict[str, object]:
    request.session.mutate(add_one)
    return me(request.session)


@on_fastapi.post("/sign-out")
async def sign_out(request: Request) -> dict[str, object]:
    request.session.destroy()
    return me({})


on_flask = Flask(__name__)
on_flask.secret_key = os.environ["SECRET_KEY"]
SharedSession(on_flask, store=os.environ["STORE"])


@on_flask.get("/pid")
@on_flask.get("/me")
def show_on_flask() -> dict[str, object]:
    return me(session)


@on_flask.post("/count")
def count_on_flask() -> dict[str, object]:
    session.mutate(add_one)
    return me(session)
