"""One application three times: it stores a value of each type, and says what came back otherwise.

Run by servers: ``asgi``, ``wsgi`` and ``flask``, with the store from the environment.
"""

from __future__ import annotations

from typing import Any

import flask as framework

from sharedsession import asgi as adapter_for_asgi
from sharedsession import wsgi as adapter_for_wsgi
from sharedsession.flask import SharedSession
from tests.guarantees.test_g12_types import VALUES, same

KEY = "the same for all three"


def answer(method: str, session: Any) -> str:
    if method == "POST":
        session.update(VALUES)
        return "stored"
    found = {name: value for name, value in session.items() if name in VALUES}
    wrong = [name for name in VALUES if name not in found or not same(found[name], VALUES[name])]
    return f"{len(found)} of {len(VALUES)}, wrong: {wrong}"


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return  # uvicorn asks for the lifespan, and goes on without one
    text = answer(scope["method"], scope["session"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


def plain(environ: Any, start_response: Any) -> list[bytes]:
    text = answer(environ["REQUEST_METHOD"], environ["sharedsession.session"]).encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


asgi = adapter_for_asgi.SessionMiddleware(application, secret_key=KEY)
wsgi = adapter_for_wsgi.SessionMiddleware(plain, secret_key=KEY)
flask = framework.Flask(__name__)
flask.secret_key = KEY
SharedSession(flask)


@flask.route("/", methods=["GET", "POST"])
def index() -> str:
    return answer(framework.request.method, framework.session)
