"""What docs/settings.md says that Flask's options mean here, and what they cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from flask import Flask, session

from sharedsession.flask import SharedSession
from sharedsession.stores.memory import MemoryStore

VERBS = ("load", "create", "replace", "touch", "delete")


class Counting(MemoryStore):
    """A store in memory that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name in VERBS:
            self.asked[name] += 1
        return super().__getattribute__(name)


def application(store: Any = "memory://", arguments: Any = None, **options: Any) -> Flask:
    app = Flask("shop")
    app.config.update({"SECRET_KEY": "a random value", **options})
    SharedSession(app, store=store, **(arguments or {}))

    @app.get("/permanent")
    def permanent() -> str:
        session.permanent = True
        session["a"] = 1
        return "stored"

    @app.get("/stored")
    def stored() -> str:
        session["a"] = 1
        return "stored"

    @app.get("/read")
    def read() -> str:
        return str(session.get("a"))

    @app.get("/untouched")
    def untouched() -> str:
        return "nothing"

    return app


def cookie_of(app: Flask, path: str, scheme: str = "http") -> set[str]:
    answer = app.test_client().get(path, base_url=f"{scheme}://shop.example")
    return {part.split("=")[0] for part in answer.headers["Set-Cookie"].split("; ")}


def test_what_refreshing_at_each_request_costs() -> None:
    """A look more per response of a permanent session, a load for an untouched one; or nothing."""
    for refresh, read, untouched in ((True, 2, 2), (False, 1, 0)):
        store = Counting()
        client = application(store, SESSION_REFRESH_EACH_REQUEST=refresh).test_client()
        client.get("/permanent")
        for path, loads in (("/read", read), ("/untouched", untouched)):
            store.asked.clear()
            answer = client.get(path)
            assert store.asked == Counter(load=loads)
            assert ("Set-Cookie" in answer.headers) is refresh


@pytest.mark.parametrize(
    ("options", "arguments", "over_http", "over_https"),
    [
        ({}, {}, False, True),
        ({"SESSION_COOKIE_SECURE": True}, {}, True, True),
        ({}, {"https_only": False}, False, False),
        ({}, {"https_only": True}, True, True),
    ],
)
def test_when_the_cookie_is_secure(
    options: dict[str, Any], arguments: dict[str, Any], over_http: bool, over_https: bool
) -> None:
    """By default on requests that came by https; the option means always, the argument decides."""
    app = application(arguments=arguments, **options)

    assert ("Secure" in cookie_of(app, "/stored", "http")) is over_http
    assert ("Secure" in cookie_of(app, "/stored", "https")) is over_https


def test_the_cookie_of_a_permanent_session_outlives_the_browser() -> None:
    """Only a permanent session's cookie has an expiry."""
    app = application()

    assert "Expires" in cookie_of(app, "/permanent")
    assert cookie_of(app, "/stored").isdisjoint({"Expires", "Max-Age"})


def test_what_flask_has_an_option_for_comes_from_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is asked for what Flask has no value for, a missing secret key included."""
    for name, value in (("SESSION_COOKIE", "other"), ("PATH", "/other"), ("MAX_AGE", "5")):
        monkeypatch.setenv(f"SHAREDSESSION_{name}", value)
    monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", "of the environment")
    assert cookie_of(application(SECRET_KEY=None), "/stored") == {"session", "HttpOnly", "Path"}

    monkeypatch.setenv("SHAREDSESSION_HTTPS_ONLY", "true")
    assert "Secure" in cookie_of(application(), "/stored")


@pytest.mark.parametrize("place", ["argument", "option", "environment"])
def test_who_is_signed_in(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """sign_in_names renew the ID, on_owner_change keeps what was left; each in three places."""
    settings: dict[str, Any] = {"sign_in_names": ["pilot"], "on_owner_change": "keep"}
    options: dict[str, Any] = {}
    if place == "option":
        options = {f"SESSION_{name.upper()}": value for name, value in settings.items()}
    if place == "environment":
        monkeypatch.setenv("SHAREDSESSION_SIGN_IN_NAMES", '["pilot"]')
        monkeypatch.setenv("SHAREDSESSION_ON_OWNER_CHANGE", "keep")
    app = application(MemoryStore(), settings if place == "argument" else None, **options)

    @app.get("/set/<key>/<value>")
    def put(key: str, value: str) -> dict[str, Any]:
        session[key] = value
        return dict(session)

    client = app.test_client()
    client.get("/set/note/of-ada")
    assert "Set-Cookie" not in client.get("/set/username/ada").headers
    assert "Set-Cookie" in client.get("/set/pilot/ada").headers
    client.get("/set/user_id/ada")
    assert client.get("/set/user_id/bob").json["user_id"] == "bob"
    assert client.get("/set/a/1").json["note"] == "of-ada"


def test_setting_permanent_at_each_request_costs_nothing() -> None:
    """What many do in a before_request function is no change, and repeats no cookie."""
    store = Counting()
    app = application(store, SESSION_REFRESH_EACH_REQUEST=False)
    app.before_request(lambda: setattr(session, "permanent", True))
    client = app.test_client()
    client.get("/stored")
    store.asked.clear()
    answer = client.get("/read")

    assert store.asked == Counter(load=1)
    assert "Set-Cookie" not in answer.headers
