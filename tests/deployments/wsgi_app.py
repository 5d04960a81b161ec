"""The application of these tests as plain WSGI; test_every_server.py says what the routes do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator

from sharedsession import Session
from sharedsession.wsgi import Environ, SessionMiddleware, StartResponse
from tests.deployments.shared import PARTS, PAUSE, SECRET, add_one, me


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    session: Session = environ["sharedsession.session"]
    match f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".split("/"):
        case ["POST ", "sign-in", user]:
            session["user_id"] = user
            answer = me(session)
        case ["POST ", "count"]:
            session.mutate(add_one)
            answer = me(session)
        case ["GET ", "me"]:
            answer = me(session)
        case ["POST ", "sign-out"]:
            session.destroy()
            answer = me({})
        case ["GET ", "slow"]:
            session["streamed"] = True
            start_response("200 OK", [("Content-Type", "text/plain")])
            return stream(session)
        case _:
            time.sleep(PAUSE)
            answer = me({})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def stream(session: Session) -> Iterator[bytes]:
    for _ in range(PARTS):
        yield f"{os.getpid()} {session['user_id']}\n".encode()
        time.sleep(PAUSE)


app = SessionMiddleware(application, secret_key=SECRET, store=os.environ["STORE"], store_timeout=10)
