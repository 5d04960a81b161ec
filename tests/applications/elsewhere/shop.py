"""What the examples' applications do beside what their page shows, and how they are served."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import uvicorn
import waitress

import sharedsession

WHOSE = os.environ.get("WHOSE", "ours")
SECRET = os.environ.get("SHAREDSESSION_SECRET_KEY", "")
PID = json.dumps({"pid": os.getpid()}).encode()

Session = MutableMapping[str, Any]
Flash = Callable[[str], None]
Take = Callable[[], list[str]]


def flash_into(session: Session) -> Flash:
    """Flash messages for a framework without any: those of our session, or a list in another."""
    if isinstance(session, sharedsession.Session):
        return session.flash

    def flash(text: str) -> None:
        session["messages"] = [*session.get("messages", []), text]

    return flash


def take_from(session: Session) -> list[str]:
    if isinstance(session, sharedsession.Session):
        return [text for _, text in session.take_flashes()]
    return session.pop("messages", [])


def sign_in(session: Session, user: str, flash: Flash | None = None) -> str:
    session["user_id"] = user
    (flash or flash_into(session))(f"Hello, {user}.")
    return f"in: {user}"


def sign_out(session: Session, flash: Flash | None = None) -> str:
    session.pop("user_id", None)
    (flash or flash_into(session))("Goodbye.")
    return "out"


def me(session: Session, take: Take | None = None) -> str:
    said = "".join(f" {each}" for each in (take_from(session) if take is None else take()))
    return f"{session.get('user_id')}, {session.get('visits', 0)} visits.{said}"


def answers_of(session: Session, path: str) -> str | None:
    """For frameworks where one function answers everything."""
    if path.startswith("/sign-in/"):
        return sign_in(session, path.rpartition("/")[2])
    return {"/sign-out": sign_out, "/me": me}[path](session)


# --- serving --------------------------------------------------------------------------------------


def serve_wsgi(application: Callable[..., Any]) -> None:
    """Serve it in threads; ``/pid`` is answered before it."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/pid":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [PID]
        return application(environ, start_response)

    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]))


def serve_asgi(application: Callable[..., Any]) -> None:
    """The same for ASGI."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/pid":
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": PID})
            return
        await application(scope, receive, send)

    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
