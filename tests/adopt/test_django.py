"""What is peculiar to Django: engines, lifetimes of a session's own, keys, caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from sharedsession import adopt
from sharedsession.exceptions import ConfigurationError
from tests.adopt.conftest import KEYS
from tests.adopt.sites import SECRET, DjangoSite
from tests.support.servers import RedisServer
from tests.support.values import spelled

DAY = 24 * 60 * 60
Site = Callable[..., DjangoSite]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'old.sqlite'}"


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    with ExitStack() as stack:

        def make(engine: str = "db", **options: Any) -> DjangoSite:
            return stack.enter_context(DjangoSite(engine=engine, database=url, **options))

        yield make


def read(source: adopt.Source, cookie: str, now: float | None = None) -> adopt.Found | None:
    value = source.recognise(cookie, KEYS)
    assert value is not None
    found = source.read(value, KEYS, time.time() if now is None else now)
    source.close()
    return found


def test_who_is_signed_in_comes_over(site: Site, url: str) -> None:
    """By the keys under which Django itself notes it, and the messages too."""
    django = site()
    signed_in = django.sign_in()
    found = read(adopt.Django(url), signed_in)
    assert found is not None
    assert set(found.data) == {"_auth_user_id", "_auth_user_backend", "_auth_user_hash"}
    written = django.write({"cart": [1]})
    found = read(adopt.Django(url), written)
    assert found is not None
    assert spelled(found.data) == spelled(django.shown(written))
    assert "_messages" in found.data


@pytest.mark.parametrize("engine", ["db", "signed_cookies"])
@pytest.mark.parametrize(
    ("expiry", "permanent", "lifetime"),
    [
        (3600, 3600, 3600),
        (0, False, 14 * DAY),
        ({"hours": 2}, 7200, 7200),
        ({"days": 60}, 60 * DAY, 60 * DAY),
    ],
    ids=["seconds", "browser", "date", "later"],
)
def test_a_lifetime_of_its_own_comes_over(
    site: Site, url: str, engine: Any, expiry: Any, permanent: Any, lifetime: int
) -> None:
    """As the one that a session of ours keeps for itself; Django's own note of it does not."""
    cookie = site(engine).write({"a": 1}, expiry)
    source = adopt.Django(None if engine == "signed_cookies" else url, engine=engine)
    now = time.time()
    found = read(source, cookie, now)
    assert found is not None
    assert set(found.data) == {"a", "_messages", "_permanent"}
    assert type(found.data["_permanent"]) is type(permanent)
    assert abs(found.data["_permanent"] - permanent) <= 2
    # Django takes no cookie that is older than SESSION_COOKIE_AGE, whatever it says.
    longest = min(lifetime, 14 * DAY) if engine == "signed_cookies" else lifetime
    assert abs(found.expires - now - longest) <= 2


def test_a_fixed_end_that_has_passed_ends_the_session(site: Site) -> None:
    """Also in a cookie, which Django would go on to take."""
    cookie = site("signed_cookies").write({"a": 1}, {"hours": 1})
    source = adopt.Django(engine="signed_cookies")
    assert read(source, cookie, time.time() + 3590) is not None
    assert read(source, cookie, time.time() + 3610) is None


def test_a_database_in_local_time(site: Site, url: str) -> None:
    """Without USE_TZ the end stands there in TIME_ZONE."""
    local = {"USE_TZ": False, "TIME_ZONE": "Asia/Seoul"}
    django = site(settings=local)
    for expiry in (None, {"hours": 2}):
        cookie = django.write({"a": 1}, expiry)
        found = read(adopt.Django(url, time_zone="Asia/Seoul"), cookie)
        assert found is not None
        expected = 14 * DAY if expiry is None else 7200
        assert abs(found.expires - time.time() - expected) <= 2


def test_a_row_of_another_key_is_counted(site: Site, url: str) -> None:
    """It is not taken for none: a wrong secret shows in the rehearsal."""
    cookie = site().write({"a": 1})
    source = adopt.Django(url, secret_key=["newer", "other"])
    with pytest.raises(adopt.NotAdoptable, match="SECRET_KEY") as caught:
        read(source, cookie)
    assert caught.value.reason == "signature"
    assert read(adopt.Django(url, secret_key=["newer", SECRET]), cookie) is not None


def test_fallback_keys_count_in_cookies(site: Site) -> None:
    """Any of the list has signed it."""
    cookie = site("signed_cookies").write({"a": 1})
    keys = ["newer", SECRET]
    source = adopt.Django(engine="signed_cookies", secret_key=keys)
    assert source.recognise(cookie, [b"ours"]) == cookie
    assert adopt.Django(engine="signed_cookies", secret_key="no").recognise(cookie, KEYS) is None


def test_the_copy_in_the_cache_ends_with_the_row(
    site: Site, url: str, old_redis: RedisServer
) -> None:
    """Or old servers would go on with it."""
    django = site("cached_db", cache=old_redis.url, pickled=True)
    cookie = django.write({"a": 1})
    with redis.Redis.from_url(old_redis.url) as client:
        copy = f":1:django.contrib.sessions.cached_db{cookie}"
        assert client.exists(copy)
        source = adopt.Django(url, engine="cached_db", cache=client)
        assert read(source, cookie) is not None
        source.delete(cookie)
        assert not client.exists(copy)
    assert django.shown(cookie) == {}


def test_what_django_pickled_in_a_cache_is_refused(site: Site, old_redis: RedisServer) -> None:
    """As it does unless it is given another serializer."""
    cookie = site("cache", cache=old_redis.url, pickled=True).write({"a": 1})
    with pytest.raises(adopt.NotAdoptable) as caught:
        read(adopt.Django(old_redis.url, engine="cache"), cookie)
    assert caught.value.reason == "pickle"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"engine": "file"}, "engine must be one of"),
        ({}, "needs the store"),
        ({"store": "sqlite:///x", "engine": "signed_cookies"}, "no store"),
        ({"store": "sqlite:///x", "engine": "cached_db"}, "cache='redis"),
        ({"store": "sqlite:///x", "cache": "redis://x"}, "leave cache out"),
        ({"store": "sqlite:///x", "time_zone": "Mars/Base"}, "time zone"),
        ({"store": "sqlite:///x", "time_zone": "../x"}, "time zone"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: dict[str, Any], match: str) -> None:
    """When the source is made."""
    with pytest.raises(ConfigurationError, match=match):
        adopt.Django(**arguments)
