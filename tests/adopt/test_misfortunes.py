"""What may befall a server that takes sessions over, and the visitors that it has besides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as Inner
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sharedsession import NearCache, StoreUnavailable, adopt
from sharedsession._core import runtime
from sharedsession.asgi import SessionMiddleware
from sharedsession.exceptions import StoreFull
from sharedsession.flask import SharedSession
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore
from tests.adopt.doors import DOORS, Door
from tests.adopt.sites import SECRET, FlaskSite
from tests.support.servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")
each_door = pytest.mark.parametrize("name", DOORS)


class Old(adopt.Source):
    """Sessions of an application's own layer, by their IDs."""

    kind, cookie, path, domain, lifetime, has_records = "own", "old", "/", None, 1000, True

    def __init__(self, **records: dict[str, Any]) -> None:
        self.records = records
        self.is_down = False
        self.hang: threading.Event | None = None

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        return text

    def read(self, value: str, keys: Sequence[bytes], now: float) -> adopt.Found | None:
        if self.hang is not None:
            self.hang.wait(30)
        if self.is_down:
            raise StoreUnavailable("The old store is down.")
        found = self.records.get(value)
        return None if found is None else adopt.Found(found, now + 500)

    def delete(self, value: str) -> None:
        self.records.pop(value, None)

    def values(self) -> Iterator[str]:
        yield from self.records

    def close(self) -> None: ...


class Full(MemoryStore):
    """Has no room for anything that is new."""

    def create(self, key: str, data: bytes, ttl: int, owner: str | None = None) -> Entry | None:
        raise StoreFull("The store is full.")


@each_door
def test_an_outage_beside_copies_is_one(name: str, old_redis: RedisServer) -> None:
    """With copies in the servers, too, an old store that is down means a 503, no empty session."""
    old = Old(**{name: {"user_id": 7}})
    old.is_down = True
    near = NearCache()
    door = Door(name, adopt=old, store=old_redis.url, near_cache=near, stale_if_error=60)
    answer = door.ask("/set?key=b", {"old": name})
    assert (answer.status, answer.set_cookies) == (503, [])
    old.is_down = False
    door.ask("/show", {"old": name})
    assert door.shown.pop() == {"user_id": 7}


@each_door
def test_sources_may_come_from_a_generator(name: str) -> None:
    """`adopt` takes whatever can be gone through, once."""
    door = Door(name, adopt=(each for each in [Old(a={"user_id": 7})]))
    for _ in range(2):
        door.ask("/show", {"old": "a"})
        assert door.shown.pop() == {"user_id": 7}


def test_flask_sessions_own_verb_works_until_the_moment(old_redis: RedisServer) -> None:
    """`regenerate`, which applications call on the interface, is the old one's until then."""
    with redis.Redis(port=old_redis.port) as client:
        site = FlaskSite(SESSION_TYPE="redis", SESSION_REDIS=client)
        app = site.app
        before = app.session_interface
        source = adopt.FlaskSession(old_redis.url)
        moment = "2999-01-01T00:00:00Z"
        SharedSession(app, store="memory://", adopt=source, switch_at=moment, before=before)

        @app.get("/sign-in")
        def sign_in() -> str:
            from flask import session

            session["user_id"] = 7
            app.session_interface.regenerate(session)  # type: ignore[attr-defined]
            return ""

        first = site.write({"a": 1})
        client_ = app.test_client(use_cookies=False)
        answer = client_.get("/sign-in", headers={"Cookie": f"session={first}"})
        assert answer.status_code == 200
        assert first not in answer.headers["Set-Cookie"]


@each_door
def test_ids_that_are_made_up_leave_nothing(name: str) -> None:
    """Sign-outs with what only looks like an old ID write nothing (G6)."""
    store = MemoryStore()
    door = Door(name, adopt=Old(), store=store)
    for number in range(5):
        assert door.ask("/out", {"old": f"made-up-{number}"}).status == 200
    assert not store._entries


@each_door
def test_a_sign_out_needs_no_room(name: str) -> None:
    """Where the new store is full, the old record ends all the same."""
    old = Old(a={"user_id": 7})
    answer = Door(name, adopt=old, store=Full()).ask("/out", {"old": "a"})
    assert (answer.status, answer.removed) == (200, {"old"})
    assert not old.records


@each_door
def test_a_damaged_claim_hinders_no_sign_out(name: str) -> None:
    """The old record ends; and a request with that cookie begins a new session."""
    old, store = Old(a={"user_id": 7}), MemoryStore()
    door = Door(name, adopt=old, store=store)
    door.ask("/show", {"old": "a"})
    for key, entry in list(store._entries.items()):
        if b"adopt" in entry.data[:8]:
            assert store.replace(key, entry, entry.data[:9], 1000)
    old.records["a"] = {"user_id": 7}
    ours = door.ask("/set?key=b", {}).cookies["session"]
    assert door.ask("/out", {"session": ours, "old": "a"}).status == 200
    assert not old.records
    door.shown.clear()
    assert door.ask("/show", {"old": "a"}).status == 200
    assert door.shown.pop() == {}


@each_door
def test_a_source_that_hangs_hurts_no_other_visitor(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Those with cookies of ours are served meanwhile; the threads of the two are apart."""
    monkeypatch.setattr(runtime, "THREADS", 4)
    old = Old(a={"user_id": 7})
    url = f"sqlite:///{tmp_path}/new.db"
    door = Door(name, adopt=old, store=url, store_timeout=0.3)
    ours = {"session": door.ask("/set?key=a", {}).cookies["session"]}
    old.hang = threading.Event()
    try:
        hung = door.ask_at_once(["/show"] * 8, {"old": "a"})
        assert {each.status for each in hung} == {503}
        begun = time.monotonic()
        assert [each.status for each in door.ask_at_once(["/show"] * 4, ours)] == [200] * 4
        assert time.monotonic() - begun < 5
        assert door.ask("/show", {"old": "a"}).status == 503
    finally:
        old.hang.set()


def test_the_command_of_a_flask_application_has_its_settings(
    old_redis: RedisServer, tmp_path: Any
) -> None:
    """Its namespace above all: the application finds what the command has moved."""
    with redis.Redis(port=old_redis.port) as client:
        client.flushall()
        cookie = FlaskSite(SESSION_TYPE="redis", SESSION_REDIS=client).write({"user_id": 7})
    settings = {"store": f"sqlite:///{tmp_path}/new.db", "namespace": "shop"}
    app = Flask("shop")
    app.secret_key = SECRET
    SharedSession(app, **settings)
    source = f"flask-session={old_redis.url}"
    result = app.test_cli_runner().invoke(
        args=["sharedsession", "adopt", "--from", source, "--all"]
    )
    assert "1 session moved." in result.output
    door = Door("Flask", adopt=adopt.FlaskSession(old_redis.url), **settings)
    door.ask("/show", {"session": cookie})
    assert door.shown.pop()["user_id"] == 7


def test_what_a_source_gives_is_checked() -> None:
    """A session that is none, or never ends, breaks nothing."""
    old = Old(none=None, endless={"a": 1})  # type: ignore[arg-type]
    door = Door("WSGI", adopt=old)
    read = old.read

    def endless(value: str, keys: Sequence[bytes], now: float) -> adopt.Found | None:
        found = read(value, keys, now)
        return None if found is None else found._replace(expires=float("inf"))

    old.read = endless  # type: ignore[method-assign]
    assert door.ask("/show", {"old": "endless"}).status == 200
    assert door.shown.pop() == {"a": 1}


def test_four_values_that_are_none_hide_no_old_cookie() -> None:
    """Of several cookies of one name the first that verifies and lives counts."""
    door = Door("WSGI", adopt=adopt.FlaskCookie())
    value = FlaskSite().write({"user_id": 7})
    junk = "; ".join(f"session=junk{number}" for number in range(6))
    door.ask("/show", {"x": f"1; {junk}", "session": value})
    assert door.shown.pop() == {"user_id": 7}


@pytest.mark.parametrize("kind", ["memory", "Redis"])
def test_an_active_user_outlives_what_was_left(kind: str, old_redis: RedisServer) -> None:
    """Little was left of the old session: its first use gives it a lifetime of its own."""
    old = Old(little={"user_id": 7})  # 500 seconds
    store = MemoryStore() if kind == "memory" else old_redis.url
    door = Door("WSGI", adopt=old, store=store)
    ours = {"session": door.ask("/show", {"old": "little"}).cookies["session"]}
    if isinstance(store, str):
        with redis.Redis(port=old_redis.port) as client:
            left = [client.ttl(key) for key in client.keys("sharedsession:*")]
    else:
        left = [int((each.expires or 0) - time.time()) for each in store._entries.values()]
    assert 14 * 24 * 3600 - 10 <= max(left) <= 14 * 24 * 3600
    assert door.ask("/show", ours).status == 200


def test_a_session_that_is_not_used_keeps_what_was_left() -> None:
    """It is adopted all the same, and ends when the old one would have ended."""
    store = MemoryStore()
    old = Old(a={"user_id": 7})
    Door("ASGI", adopt=old, store=store).ask("/unused", {"old": "a"})
    left = sorted(round((each.expires or 0) - time.time()) for each in store._entries.values())
    assert left[0] in (499, 500)
    assert not old.records


def test_an_old_layer_that_was_left_inside_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Both set one cookie: a warning, once, as without `adopt`."""

    async def answer(request: Request) -> PlainTextResponse:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse("")

    ours = {"secret_key": SECRET, "store": MemoryStore(), "adopt": adopt.StarletteCookie()}
    middleware = [Middleware(SessionMiddleware, **ours), Middleware(Inner, secret_key=SECRET)]
    client = TestClient(Starlette(routes=[Route("/", answer)], middleware=middleware))
    for _ in range(3):
        assert client.get("/").status_code == 200
    assert caplog.text.count("must be set by one session middleware") == 1
