"""A store that goes back in time, and visitors who come once: see docs/stores/operating.md."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from sharedsession.wsgi import Environ, SessionMiddleware, StartResponse

OLD_KEY = "the key until now, long enough for it"


def shop(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An application with a sign-in, a sign-out, and a page that says who is signed in."""
    session = environ["sharedsession.session"]
    match environ["PATH_INFO"]:
        case "/sign-in":
            session["user_id"] = "anna"
            session.set_lifetime(None)
        case "/sign-out":
            session.destroy()
        case "/members" if "user_id" not in session:
            session["next"] = "/members"
            session.set_lifetime(600)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(session.get("user_id", "nobody")).encode()]


def browser(file: Path, **settings: Any) -> Client:
    """A browser before a server that has just been started."""
    chosen = {"secret_key": OLD_KEY, **settings}
    return Client(SessionMiddleware(shop, store=f"sqlite:///{file}", **chosen))


def copied(file: Path, name: str) -> Path:
    """Return a backup of a database."""
    backup = file.with_name(name)
    with sqlite3.connect(file) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    return backup


def restore(backup: Path, file: Path) -> None:
    for old in file.parent.glob(f"{file.name}*"):
        old.unlink()
    os.replace(backup, file)  # noqa: PTH105 - as a person does it


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        pytest.param({}, "anna", id="nothing else"),
        pytest.param({"namespace": "restored-2026-11-30"}, "nobody", id="a new namespace"),
        pytest.param({"secret_key": "a new key, as long as it"}, "nobody", id="a new key"),
    ],
)
def test_a_session_that_was_ended_since_the_backup(
    tmp_path: Path, settings: dict[str, Any], seen: str
) -> None:
    """It lives again when the backup is restored, for whoever has its cookie; not when the servers
    are started with a namespace that was never used, or with a new key alone."""
    file = tmp_path / "sessions.db"
    visitor = browser(file)
    visitor.get("/sign-in")
    cookie = visitor.get_cookie("session")
    assert cookie is not None
    backup = copied(file, "backup.db")
    visitor.get("/sign-out")
    thief = browser(file)
    thief.set_cookie("session", cookie.value)
    assert thief.get("/").text == "nobody"

    restore(backup, file)
    again = browser(file, **settings)
    again.set_cookie("session", cookie.value)

    assert again.get("/").text == seen


def test_what_belongs_to_no_user_may_live_for_minutes(tmp_path: Path) -> None:
    """A session with nothing but the way back lives as long as it is told to, and as long as any
    other from the sign-in on."""
    visitor = browser(tmp_path / "sessions.db")

    way_back = visitor.get("/members").headers["Set-Cookie"]
    signed_in = visitor.get("/sign-in").headers["Set-Cookie"]

    assert "Max-Age=600;" in way_back
    assert "Max-Age=1209600;" in signed_in
