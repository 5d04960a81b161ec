"""Adoption into each kind of store of ours, and outages of the old and the new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharedsession import adopt
from tests.adopt.conftest import Pair
from tests.adopt.doors import DOORS, Door
from tests.adopt.sites import FlaskSite
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")
STORES = ("Redis", "Redis, near copies", "SQLite", "PostgreSQL", "MariaDB", "Memcached")
AT_ONCE = 20


@pytest.fixture(scope="module")
def new_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What names the new store."""
    name = request.param
    if name.startswith("Redis"):
        url = request.getfixturevalue("new_redis").url
        return {"store": url, "near_cache": True} if "near" in name else {"store": url}
    if name == "SQLite":
        return {"store": f"sqlite:///{tmp_path}/new.db"}
    if name == "Memcached":
        server: MemcachedServer = request.getfixturevalue("old_memcached")
        return {"store": server.url}
    return {"store": request.getfixturevalue(f"old_{name.lower()}").url}


@pytest.mark.parametrize("settings", STORES, indirect=True)
@pytest.mark.parametrize("pair", ["flask-session-redis"], indirect=True)
@pytest.mark.parametrize("name", DOORS)
def test_one_session_in_every_store(name: str, pair: Pair, settings: dict[str, Any]) -> None:
    """Twenty first requests at once, a sign-out, and the old cookie is dead."""
    old = {"session": pair.site.write({"user_id": 7})}
    door = Door(name, adopt=pair.source, store_timeout=20, **settings)
    answers = door.ask_at_once([f"/set?key=k{number}" for number in range(AT_ONCE)], old)
    assert {each.status for each in answers} == {200}
    door.ask("/show", old)
    assert {"user_id", *(f"k{number}" for number in range(AT_ONCE))} <= set(door.shown.pop())
    ours = next(each.cookies["session"] for each in answers if each.cookies)
    assert "session" in door.ask("/out", {"session": ours}).removed
    door.ask("/show", old)
    assert door.shown.pop() == {}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("which", ["the old store", "the new store"])
def test_an_outage_signs_no_one_out(
    name: str, which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """While either store is down the answer is a 503 without a cookie; then all is there."""
    import redis

    with RedisServer() as theirs, RedisServer() as ours:
        with redis.Redis.from_url(theirs.url) as client:
            site = FlaskSite(SESSION_TYPE="redis", SESSION_REDIS=client)
            old = {"session": site.write({"user_id": 7})}
            door = Door(name, adopt=adopt.FlaskSession(theirs.url), store=ours.url)
            down = theirs if which == "the old store" else ours
            down.pause()
            answer = door.ask("/set?key=a", old)
            assert (answer.status, answer.set_cookies) == (503, [])
            down.resume()
            assert door.ask("/set?key=b", old).status == 200
            door.ask("/show", old)
            assert {"user_id", "b"} <= set(door.shown.pop())


def test_an_old_store_that_is_down_is_no_matter_to_others(old_redis: RedisServer) -> None:
    """Who comes without an old cookie, or with one of ours, is served while it is gone."""
    url = redis_of_nothing()
    door = Door("WSGI", adopt=adopt.FlaskSession(url))
    ours = door.ask("/set?key=a", {}).cookies["session"]
    assert door.ask("/show", {"session": ours}).status == 200
    assert door.shown.pop() == {"a": 1}
    # A value that something else has set is none of Flask-Session's, and asks no store.
    assert door.ask("/show", {"session": "x.y.z"}).status == 200


def redis_of_nothing() -> str:
    """Return the URL of a server that is not there."""
    return "redis://127.0.0.1:1/0"
