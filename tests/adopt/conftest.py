"""The servers that the old packages write to, and each package beside the source that reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymemcache
import pytest
import redis

from sharedsession import adopt
from tests.adopt import values
from tests.adopt.sites import (
    SECRET,
    DjangoSite,
    FlaskSite,
    LitestarSite,
    Site,
    StarletteSite,
    StarsessionsSite,
)
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer

KEYS = [b"a newer one", SECRET.encode()]
PATIENCE = 10  # seconds: these tests are not about deadlines


@pytest.fixture(scope="session")
def old_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def old_memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture(scope="session")
def old_postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def old_mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


@dataclass
class Pair:
    """An old package, and the source that reads its sessions."""

    site: Site
    source: adopt.Source
    values: dict[Any, Any]

    def written(self) -> str:
        """Return the verified value of a session that the old package has written."""
        value = self.source.recognise(self.site.write(self.values), KEYS)
        assert value is not None
        return value

    def read(self, value: str, now: float | None = None) -> adopt.Found | None:
        return self.source.read(value, KEYS, time.time() if now is None else now)


PAIRS = """
    flask starlette
    flask-session-redis flask-session-redis-json flask-session-signed flask-session-sqlite
    flask-session-memcached flask-session-postgresql flask-session-mariadb
    starsessions starsessions-of-the-browser
    litestar litestar-by-factory litestar-own-namespace litestar-no-namespace
    django-db-sqlite django-db-postgresql django-db-mariadb
    django-cached_db django-cache-redis django-cache-memcached django-signed_cookies
""".split()
RECORDS = [each for each in PAIRS if each not in ("flask", "starlette", "django-signed_cookies")]
COOKIES = [each for each in PAIRS if each not in RECORDS]


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """One of `PAIRS`, its store empty."""
    with ExitStack() as stack:
        made = make(request, request.param, tmp_path, stack)
        stack.callback(made.source.close)
        yield made


def make(request: pytest.FixtureRequest, name: str, folder: Path, stack: ExitStack) -> Pair:
    package = name.partition("-")[0]
    if name == "flask":
        return Pair(FlaskSite(), adopt.FlaskCookie(), values.FLASK)
    if name == "starlette":
        return Pair(StarletteSite(), adopt.StarletteCookie(), values.JSON)
    if name.startswith("flask-session"):
        return flask_session_of(request, name.removeprefix("flask-session-"), folder, stack)
    if package == "django":
        return django_of(request, name.removeprefix("django-"), folder, stack)
    url = redis_of(request)
    if name == "starsessions":
        return Pair(
            StarsessionsSite(url, lifetime=3600),
            adopt.Starsessions(url, lifetime=3600, timeout=PATIENCE),
            values.JSON,
        )
    if name == "starsessions-of-the-browser":
        return Pair(
            StarsessionsSite(url, lifetime=0),
            adopt.Starsessions(url, timeout=PATIENCE),
            values.JSON,
        )
    options: dict[str, Any] = {}
    prefix = None
    match name.removeprefix("litestar-"):
        case "by-factory":
            options = {"by_factory": True}
        case "own-namespace":
            options, prefix = {"namespace": "sh*p"}, "sh*p:"
        case "no-namespace":
            options, prefix = {"namespace": None}, ""
    return Pair(
        LitestarSite(url, **options),
        adopt.Litestar(url, prefix=prefix, timeout=PATIENCE),
        values.MSGSPEC,
    )


def redis_of(request: pytest.FixtureRequest) -> str:
    server: RedisServer = request.getfixturevalue("old_redis")
    with redis.Redis(port=server.port) as client:
        client.flushall()
    return server.url


def flask_session_of(
    request: pytest.FixtureRequest, name: str, folder: Path, stack: ExitStack
) -> Pair:
    options: dict[str, Any] = {}
    kept: dict[str, Any] = values.MSGPACK
    if name == "memcached":
        server: MemcachedServer = request.getfixturevalue("old_memcached")
        server.tell("flush_all", end="OK\r\n")
        store = server.url
        # By default it does not wait for an answer, and may write after what comes behind it.
        own = pymemcache.Client(server.name, default_noreply=False)
        client: Any = stack.enter_context(closing(own))
        settings = {"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": client}
    elif name in ("sqlite", "postgresql", "mariadb"):
        store = database_of(request, name, folder, "sessions")
        driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
        scheme, _, rest = store.partition(":")
        uri = f"{driver.get(scheme, scheme)}:{rest}"
        settings = {"SESSION_TYPE": "sqlalchemy", "SQLALCHEMY_DATABASE_URI": uri}
    else:
        store = redis_of(request)
        client = stack.enter_context(redis.Redis.from_url(store))
        settings = {"SESSION_TYPE": "redis", "SESSION_REDIS": client}
        if name == "redis-json":
            settings["SESSION_SERIALIZATION_FORMAT"] = "json"
            kept = values.MSGSPEC
        if name == "signed":
            settings["SESSION_USE_SIGNER"] = True
            settings["SESSION_KEY_PREFIX"] = "[shop]*"
            options = {"use_signer": True, "prefix": "[shop]*"}
    site = FlaskSite(**settings)
    stack.callback(site.close)
    return Pair(site, adopt.FlaskSession(store, timeout=PATIENCE, **options), kept)


def database_of(request: pytest.FixtureRequest, name: str, folder: Path, table: str) -> str:
    if name == "sqlite":
        return f"sqlite:///{folder / 'old.sqlite'}"
    server: Any = request.getfixturevalue(f"old_{name}")
    drop = f"DROP TABLE IF EXISTS {table}"
    server.in_app(drop if name == "postgresql" else f"DROP TABLE IF EXISTS app.{table}")
    url: str = server.url
    return url


def django_of(request: pytest.FixtureRequest, name: str, folder: Path, stack: ExitStack) -> Pair:
    engine, _, kind = name.partition("-")
    database = database_of(request, "sqlite", folder, "")
    cache = None
    source = adopt.Django(engine="signed_cookies")
    if engine == "db":
        if kind != "sqlite":
            server: Any = request.getfixturevalue(f"old_{kind}")
            database = server.url
        source = adopt.Django(database, timeout=PATIENCE)
    elif engine == "cached_db":
        cache = redis_of(request)
        source = adopt.Django(database, engine="cached_db", cache=cache, timeout=PATIENCE)
    elif engine == "cache":
        server = request.getfixturevalue("old_memcached") if kind == "memcached" else None
        cache = server.url if server else redis_of(request)
        source = adopt.Django(cache, engine="cache", key_prefix="shop", version=3, timeout=PATIENCE)
    caches = {"KEY_PREFIX": "shop", "VERSION": 3} if engine == "cache" else {}
    site = DjangoSite(engine=engine, database=database, cache=cache, caches=caches)
    stack.enter_context(site)
    return Pair(site, source, values.JSON)
