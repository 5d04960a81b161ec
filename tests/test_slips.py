"""What people type when they are not careful: each is refused or warned about, with what to do.

A row is a slip, how it is made, and what must be in the error, the warning or the log.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import AsyncMock, Mock

import flask
import pymemcache
import pytest
import redis
import redis.asyncio
import sqlalchemy
from fastapi import FastAPI
from flask import Flask
from pydantic import RedisDsn, SecretStr
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.testclient import TestClient
from werkzeug.wrappers import Request, Response

from sharedsession import ConfigurationError, NearCache, asgi, wsgi
from sharedsession.adapter import Sessions
from sharedsession.flask import SharedSession
from sharedsession.stores.memcached import MemcachedStore
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import AsyncSQLStore, SQLStore

KEY = "d9b1f4c07a2e4f0c8b7f3c6e5a19"
SECRET = "n0t-t0-be-sh0wn"  # in each value that no sentence may repeat
LONG = 10**10

OPTIONS = {  # of Flask, or of `SharedSession` in its configuration
    "secret_key": "SECRET_KEY",
    "session_cookie": "SESSION_COOKIE_NAME",
    "max_age": "PERMANENT_SESSION_LIFETIME",
    "path": "SESSION_COOKIE_PATH",
    "domain": "SESSION_COOKIE_DOMAIN",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "partitioned": "SESSION_COOKIE_PARTITIONED",
}


async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def wsgi_application(environ: Any, start_response: Any) -> list[bytes]:
    start_response("204 No Content", [])
    return []


def flask_application(**settings: Any) -> Flask:
    app = Flask("shop")
    for name, option in OPTIONS.items():
        if name in settings:
            app.config[option] = settings.pop(name)
    SharedSession(app, **settings)
    return app


DOORS: dict[str, Callable[..., object]] = {
    "asgi": lambda **settings: asgi.SessionMiddleware(asgi_application, **settings),
    "wsgi": lambda **settings: wsgi.SessionMiddleware(wsgi_application, **settings),
    "adapter": lambda **settings: Sessions(**settings),
    "flask": flask_application,
}
EVERY = tuple(DOORS)
NOT_FLASK = EVERY[:3]  # where Flask has an option of its own, and a way of its own to read it


def hear(make: Callable[[], object], caplog: pytest.LogCaptureFixture) -> tuple[str | None, str]:
    """Return the error that a slip is refused with, and all else that is said of it."""
    refused = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            make()
        except (ConfigurationError, TypeError) as error:
            refused = str(error)
    logged = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return refused, "\n".join([*(str(each.message) for each in warned), *logged])


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("SHAREDSESSION_"):
            monkeypatch.delenv(name)


# --- settings -------------------------------------------------------------------------------------


@dataclass
class Slip:
    """Settings, and what is to be found in what is said of them."""

    says: str
    settings: dict[str, Any] = field(default_factory=dict)
    refused: bool = True
    doors: tuple[str, ...] = EVERY


def slip(*says: str, refused: bool = True, doors: tuple[str, ...] = EVERY, **settings: Any) -> Slip:
    return Slip("\n".join(says), settings, refused, doors)


def noted(*says: str, doors: tuple[str, ...] = EVERY, **settings: Any) -> Slip:
    return slip(*says, refused=False, doors=doors, **settings)


def names(wanted: str, wrong: str, value: Any = "x", *, in_flask: str | None = None) -> list[Slip]:
    """An argument of another package: what is to be written here, and under Flask."""
    return [
        slip(f"{wrong!r}", wanted, doors=NOT_FLASK, **{wrong: value}),
        slip(f"{wrong!r}", in_flask or wanted, doors=("flask",), **{wrong: value}),
    ]


URL = f"redis://user:{SECRET}@localhost:6379/0"
ENGINE = sqlalchemy.create_engine("sqlite:///sessions.db")
ASYNC_ENGINE = create_async_engine(f"postgresql+asyncpg://u:{SECRET}@localhost/db")
LIFETIME = "PERMANENT_SESSION_LIFETIME"

SLIPS: dict[str, Slip | list[Slip]] = {
    # the key
    "no key": slip("SHAREDSESSION_SECRET_KEY", "token_hex", secret_key=None, doors=NOT_FLASK),
    "an empty key among several": slip("empty", secret_key=[KEY, ""], doors=NOT_FLASK),
    "None among several": slip("secret_key", "empty", secret_key=[KEY, None], doors=NOT_FLASK),
    "a set of keys": slip("secret_key", "newest first", secret_key={SECRET}, doors=NOT_FLASK),
    "a generator of keys": slip(
        "secret_key", "newest first", secret_key=(each for each in [SECRET]), doors=NOT_FLASK
    ),
    "keys by name": slip("newest first", secret_key={"new": SECRET}, doors=NOT_FLASK),
    "a list in a list": slip("newest first", secret_key=[[SECRET]], doors=NOT_FLASK),
    "a number as a key": slip("secret_key", "text", secret_key=12345, doors=NOT_FLASK),
    "a path in the place of a key": slip(
        "read_text()", secret_key=Path("/run/secrets/key"), doors=NOT_FLASK
    ),
    "half a character in a key": slip("secret_key", secret_key="\ud800" + KEY, doors=NOT_FLASK),
    "change me": noted("well-known", "token_hex", secret_key="change me"),
    "Change-Me!": noted("well-known", secret_key="Change-Me!"),
    "please-change-me in a long key": noted("well-known", secret_key="please-change-me-please"),
    "secret": noted("well-known", secret_key="secret"),
    "dev": noted("well-known", secret_key="dev"),
    "test": noted("well-known", secret_key="test"),
    "hackme": noted("well-known", secret_key="hackme"),
    "your-secret-key": noted("well-known", secret_key="your-secret-key"),
    "YOUR_SECRET_KEY_HERE": noted("well-known", secret_key="YOUR_SECRET_KEY_HERE"),
    "super secret key": noted("well-known", secret_key="super secret key"),
    "hard to guess string": noted("well-known", secret_key="hard to guess string"),
    "you-will-never-guess": noted("well-known", secret_key=b"you-will-never-guess"),
    "Flask's own example": noted(
        "well-known", secret_key="192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf"
    ),
    "Flask's older example": noted("well-known", secret_key=b'_5#y2L"F4Q8z\n\xec]/'),
    "FastAPI's example": noted(
        "well-known", secret_key="09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
    ),
    "Django's mark of an insecure key": noted(
        "well-known", secret_key="django-insecure-0123456789abcdefghij"
    ),
    "a variable that nothing has replaced": noted("well-known", secret_key="${APP_SECRET_KEY_1}"),
    "a template that nothing has filled": noted("well-known", secret_key="{{ app_secret_key }}"),
    "a place to fill in": noted("well-known", secret_key="<a long random value here>"),
    "a URL as a key": noted("is a URL", secret_key=URL),
    "the name of a file as a key": noted("name of a file", secret_key="/run/secrets/session_key"),
    "a short key": noted("shorter than 16 bytes", secret_key="q8Zw!x"),
    "one letter, often": noted("repeats a few characters", secret_key="a" * 32),
    "a weak key among several": noted("Secret key 2 of 2", secret_key=[KEY, "q8Zw!x"],
                                      doors=NOT_FLASK),
    "one key twice": noted("twice", secret_key=[KEY, KEY], doors=NOT_FLASK),
    "two keys in one text": noted("comma", "JSON array", secret_key=f"{KEY},{KEY}"),
    # the store
    "no store": slip("sqlite:///sessions.db", "SHAREDSESSION_STORE", store=None, doors=NOT_FLASK),
    "an empty store": slip("No session store was chosen", store=""),
    "spaces for a store": slip("No session store was chosen", store=" \n"),
    "the class of a store": slip("RedisStore(client)", "class", store=RedisStore),
    "the class of another": slip("SQLStore(client)", store=SQLStore),
    "a bare Redis client": slip("RedisStore(client)", "redis client", store=redis.Redis()),
    "a bare async Redis client": slip(
        "AsyncRedisStore(client)", store=redis.asyncio.Redis(), doors=("asgi",)
    ),
    "a connection pool": slip("RedisStore(client)", "redis client", store=redis.ConnectionPool()),
    "a bare engine": slip("SQLStore(engine)", store=ENGINE),
    "a bare async engine": slip("AsyncSQLStore(engine)", store=ASYNC_ENGINE),
    "the URL object of SQLAlchemy": slip(
        "render_as_string", store=sqlalchemy.make_url(f"postgresql://u:{SECRET}@localhost/db")
    ),
    "a bare Memcached client": slip(
        "MemcachedStore(client)", "PooledClient", store=pymemcache.Client(("h", 11211))
    ),
    "the URL object of pydantic": slip("str(url)", store=RedisDsn(URL)),
    "a path": slip("sqlite:///", "URL", store=Path("sessions.db")),
    "bytes": slip("decode()", store=URL.encode()),
    "a dict of options": slip("redis://localhost", store={"host": "localhost"}),
    "a list of URLs": slip("redis://localhost", store=[URL]),
    "a module": slip("redis://localhost", store=redis),
    "True": slip("redis://localhost", store=True),
    "a file name": slip("sqlite:///sessions.db", store="sessions.db"),
    "host and port": slip("redis://localhost:6379/0", store="localhost:6379"),
    "a scheme of another kind": slip("http://", "redis://", store="http://localhost:6379"),
    "two slashes for SQLite": slip("three slashes", store="sqlite://sessions.db"),
    "a replica that is True": slip("replica", "redis://", replica=True),
    "a replica that is a client": slip("replica", "RedisStore(client)", replica=redis.Redis()),
    # times
    "max_age as text": slip("write 3600", max_age="3600", doors=NOT_FLASK),
    "max_age with a unit": slip("write 1209600", max_age="14d", doors=NOT_FLASK),
    "max_age with a word": slip("write 1800", max_age="30 minutes", doors=NOT_FLASK),
    "max_age as a fraction": slip("whole number of seconds", max_age=0.5, doors=NOT_FLASK),
    "max_age True": slip("whole number of seconds", max_age=True, doors=NOT_FLASK),
    "max_age without an end": slip("whole number", max_age=float("inf"), doors=NOT_FLASK),
    "max_age out of all measure": slip("max_age", max_age=LONG, doors=NOT_FLASK),
    "max_age in milliseconds": noted("400 days", "milliseconds", max_age=86_400_000),
    "absolute_timeout of nothing": slip("from 1 to", absolute_timeout=0),
    "absolute_timeout below nothing": slip("from 1 to", absolute_timeout=timedelta(-1)),
    "absolute_timeout as text": slip("write 43200", absolute_timeout="12h"),
    "timeout for the session's lifetime": slip("max_age", "60", store_timeout=1800),
    "timeout of nothing": slip("above 0", store_timeout=0),
    "timeout as text": slip("number of seconds", store_timeout="1"),
    "timeout None": slip("number of seconds", store_timeout=None, doors=NOT_FLASK),
    "stale copies without copies": slip("near_cache=True", stale_if_error=30),
    "stale copies as a truth": slip("number of seconds", stale_if_error=True, near_cache=True),
    # the cookie
    "domain with a scheme": slip("'example.org'", domain="https://example.org"),
    "domain with a port": slip("'example.org'", domain="example.org:8000", doors=NOT_FLASK),
    "domain with a path": slip("'example.org'", domain="example.org/shop"),
    "domain with a space": slip("host name", domain="ex ample.org"),
    "two domains": slip("'a.example'", domain="a.example,b.example"),
    "domain with a wildcard": slip("'example.org'", domain="*.example.org"),
    "domain with a dot at its end": slip("'example.org'", domain="example.org.", doors=NOT_FLASK),
    "domain with a hyphen in front": slip("host name", domain="-example.org"),
    "a list of domains": slip("cookie", domain=["example.org"], doors=NOT_FLASK),
    "domain localhost": noted("without a dot", "leave it out", domain="localhost"),
    "domain com": noted("without a dot", "leave it out", domain=".com"),
    "domain an IP address": noted("IP address", "leave it out", domain="192.0.2.7"),
    "domain an IPv6 address": noted("IP address", domain="2001:db8::1", doors=NOT_FLASK),
    "path without a slash": slip("begin with '/'", path="shop"),
    "path a URL": slip("begin with '/'", path="https://example.org/"),
    "same_site None": slip("'none' is a text", same_site=None, doors=NOT_FLASK),
    "same_site False": slip("'lax', 'strict' or 'none'", same_site=False),
    "same_site loose": slip("'lax', 'strict' or 'none'", same_site="loose"),
    "https_only in quotes": slip("write True", https_only="true"),
    "https_only 1": slip("write True", https_only=1),
    "https_only off": slip("write False", https_only="off"),
    "partitioned as text": slip("True or False", partitioned="yes", doors=NOT_FLASK),
    "partitioned None": slip("True or False", partitioned=None, doors=NOT_FLASK),
    "a name with a space": slip("letters, digits", session_cookie="my session"),
    "a URL for a name, by its place": slip("no name for a cookie", "store=", session_cookie=URL),
    "a URL for a domain": slip("'localhost'", domain=URL),
    "a URL for an owner key": slip("name of a session key", owner_key=[URL, 1]),
    "a URL for an outage's policy": slip("readonly-empty", on_outage=URL),
    "a URL for a namespace": slip("line break", namespace=f"{URL}\n"),
    "a URL for a path": slip("begin with '/'", path=URL),
    "a URL for max_age": slip("whole number of seconds", max_age=URL, doors=NOT_FLASK),
    "a URL for a timeout": slip("number of seconds", store_timeout=URL),
    "a name with a semicolon": slip("letters, digits", session_cookie="a;b"),
    "__Host- with a domain": slip(
        "remove domain", session_cookie="__Host-s", domain="example.org"
    ),
    "__host- with a path": slip("remove domain", session_cookie="__host-s", path="/shop"),
    "__Host- without Secure": slip("https_only", session_cookie="__Host-s", https_only=False),
    "SameSite=None without Secure": slip("https_only", same_site="None", https_only=False),
    # who is signed in
    "owner_key None": slip("name of a session key", owner_key=None, doors=NOT_FLASK),
    "owner_key empty": slip("name of a session key", owner_key=""),
    "owner_key with None in it": slip("name of a session key", owner_key=["user_id", None]),
    "owner_key a function": slip("name of a session key", owner_key=lambda session: 1),
    "owner_key bytes": slip("name of a session key", owner_key=b"user_id"),
    "owner_key a way into a dict": noted("session['user.id']", "itself", owner_key="user.id"),
    "owner_key in brackets": noted("itself", owner_key="user['id']"),
    "sign_in_names False": slip("() is none", sign_in_names=False),
    "sign_in_names of numbers": slip("name of a session key", sign_in_names=[1]),
    "on_owner_change True": slip("'drop' or 'keep'", on_owner_change=True),
    "on_owner_change nearly": slip("write 'drop'", on_owner_change="drops"),
    # the rest
    "namespace None": slip("text", namespace=None, doors=NOT_FLASK),
    "namespace a number": slip("text", namespace=1),
    "namespace from a file": slip("line break", namespace="shop\n"),
    "on_outage nearly": slip("write 'readonly-empty'", on_outage="readonly_empty"),
    "on_outage a status": slip("'error', 'readonly-empty' or a function", on_outage=503),
    "on_outage without arguments": slip("(request, error)", on_outage=lambda: "error"),
    "on_outage with one argument": slip("(request, error)", on_outage=lambda request: "error"),
    "on_outage that is awaited": slip("not awaited", on_outage=asgi_application),
    "near_cache the class": slip("NearCache(", near_cache=NearCache),
    "near_cache a number": slip("near_cache", "NearCache(", near_cache=30),
    "near_cache as text": slip("near_cache", near_cache="true"),
    "near_cache misspelt inside": slip("write 'max_entries'", near_cache={"max_entrys": 10}),
    "near_cache with a lease in milliseconds": slip("60 seconds", near_cache={"lease": 1000}),
    "near_cache by an older name": slip("write 'max_bytes'", near_cache={"megabytes": 64}),
    "near_cache with a text": slip("max_entries of a NearCache", near_cache={"max_entries": "10"}),
    # arguments of other packages, and of this one elsewhere
    "secure": names("https_only", "secure", True),
    "cookie_https_only": names("https_only", "cookie_https_only", True),
    "https": names("https_only", "https", True),
    "samesite": names("same_site", "samesite", in_flask="SESSION_COOKIE_SAMESITE"),
    "cookie_same_site": names("same_site", "cookie_same_site", in_flask="SESSION_COOKIE_SAMESITE"),
    "httponly": names("always HttpOnly", "httponly", True),
    "cookie_name": names("session_cookie", "cookie_name", in_flask="SESSION_COOKIE_NAME"),
    "cookie_domain": names("domain", "cookie_domain", in_flask="SESSION_COOKIE_DOMAIN"),
    "cookie_path": names("path", "cookie_path", in_flask="SESSION_COOKIE_PATH"),
    "expires": names("max_age", "expires", 60, in_flask=LIFETIME),
    "lifetime": names("max_age", "lifetime", 60, in_flask=LIFETIME),
    "ttl": names("max_age", "ttl", 60, in_flask=LIFETIME),
    "session_cookie_age": names("max_age", "session_cookie_age", 60, in_flask=LIFETIME),
    "permanent_session_lifetime": names(
        "max_age", "permanent_session_lifetime", 60, in_flask=LIFETIME
    ),
    "secret as an argument": names("secret_key", "secret", SECRET, in_flask="SECRET_KEY"),
    "secret_keys": names("secret_key", "secret_keys", [SECRET], in_flask="SECRET_KEY"),
    "key": names("session_cookie", "key", SECRET),
    "url": names("store", "url", URL),
    "redis_url": names("store", "redis_url", URL),
    "backend": names("store", "backend"),
    "redis": names("store", "redis"),
    "client": names("store", "client"),
    "prefix": names("namespace", "prefix"),
    "rolling": names("by itself", "rolling", True),
    "serializer": names("one format", "serializer"),
    "use_signer": names("always signed", "use_signer", True),
    "permanent": names("max_age=None", "permanent", True),
    "SECRET_KEY": names("secret_key", "SECRET_KEY", SECRET, in_flask="SECRET_KEY"),
    "maxage": names("max_age", "maxage", 60, in_flask=LIFETIME),
    "absolut_timeout": names("absolute_timeout", "absolut_timeout", 60),
    "nearcache": names("near_cache", "nearcache", True),
    "no name at all": names("there are", "colour"),
}  # fmt: skip

ROWS = [
    pytest.param(each, door, id=f"{door}: {name}")
    for name, one in SLIPS.items()
    for each in (one if isinstance(one, list) else [one])
    for door in each.doors
]


@pytest.mark.parametrize(("slip", "door"), ROWS)
def test_a_wrong_setting_says_what_to_do(
    slip: Slip, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In every door: it is refused at construction, or works and is logged, without the secret."""
    settings = {"secret_key": KEY, "store": "memory://", **slip.settings}

    refused, said = hear(lambda: DOORS[door](**settings), caplog)

    assert (refused is not None) is slip.refused, refused or said
    for each in slip.says.split("\n"):
        assert each in (refused or said)
    assert SECRET not in f"{refused}{said}"


# --- the environment ------------------------------------------------------------------------------

ENVIRONMENT: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a number with a unit": ("MAX_AGE", "14d", ("SHAREDSESSION_MAX_AGE", "write 1209600")),
    "minutes": ("MAX_AGE", "30m", ("write 1800",)),
    "hours in words": ("ABSOLUTE_TIMEOUT", "12 hours", ("write 43200",)),
    "a number with an underscore": ("MAX_AGE", "1_000", ("write 1000",)),
    "a number with an exponent": ("MAX_AGE", "1e3", ("write 1000",)),
    "a sum": ("MAX_AGE", "60*60", ("number of seconds", "60*60")),
    "no number": ("MAX_AGE", "", ("number of seconds",)),
    "milliseconds for the store": ("STORE_TIMEOUT", "500", ("SHAREDSESSION_STORE_TIMEOUT", "60")),
    "yes": ("HTTPS_ONLY", "yes", ("write true",)),
    "1 for true": ("HTTPS_ONLY", "1", ("SHAREDSESSION_HTTPS_ONLY", "write true")),
    "off for false": ("PARTITIONED", "off", ("write false",)),
    "an empty truth": ("HTTPS_ONLY", "", ("true or false",)),
    "quotes left in a truth": ("HTTPS_ONLY", '"true"', ("quotation mark",)),
    "quotes left around a key": ("SECRET_KEY", f'"{SECRET}{KEY}"', ("quotation mark", "Docker")),
    "quotes left around a URL": ("STORE", f"'{URL}'", ("SHAREDSESSION_STORE", "quotation mark")),
    "a list without quotes": ("SECRET_KEY", f"[{SECRET}, {KEY}]", ("double quotes",)),
    "half a list": ("SECRET_KEY", f'["{SECRET}"', ("SHAREDSESSION_SECRET_KEY", "JSON array")),
    "a list as Python writes it": ("SECRET_KEY", f"['{SECRET}']", ("double quotes",)),
    "an empty list of keys": ("SECRET_KEY", "[]", ("No secret key",)),
    "an empty key": ("SECRET_KEY", "", ("No secret key", "SHAREDSESSION_SECRET_KEY")),
    "an empty store": ("STORE", "", ("No session store", "SHAREDSESSION_STORE")),
    "names with a comma": ("OWNER_KEY", "user, admin", ('["user", "admin"]',)),
    "sign-in names with a comma": ("SIGN_IN_NAMES", "a,b", ('["a", "b"]',)),
    "a near cache in words": ("NEAR_CACHE", "yes", ("true, false or a JSON object",)),
    "a domain with a scheme": ("DOMAIN", "https://a.example", ("SHAREDSESSION_DOMAIN",)),
    "a SameSite that is none": ("SAME_SITE", "loose", ("SHAREDSESSION_SAME_SITE",)),
}  # fmt: skip


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_wrong_variable_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, by its own name where it has one, and without the secret."""
    variable, value, says = ENVIRONMENT[name]
    monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", KEY)
    monkeypatch.setenv("SHAREDSESSION_STORE", "memory://")
    monkeypatch.setenv(f"SHAREDSESSION_{variable}", value)

    refused, _ = hear(DOORS["asgi"], caplog)

    assert refused is not None
    assert all(each in refused for each in says), refused
    assert SECRET not in refused


UNKNOWN = {
    "SHAREDSESSION_MAXAGE": "write SHAREDSESSION_MAX_AGE",
    "SHAREDSESSION_KEY_PREFIX": "write SHAREDSESSION_NAMESPACE",
    "SHAREDSESSION_SECRET": "write SHAREDSESSION_SECRET_KEY",
    "SHAREDSESSION_REDIS_URL": "write SHAREDSESSION_STORE",
    "SHAREDSESSION_URL": "write SHAREDSESSION_STORE",
    "SHAREDSESSION_SECURE": "write SHAREDSESSION_HTTPS_ONLY",
    "SHAREDSESSION_SAMESITE": "write SHAREDSESSION_SAME_SITE",
    "SHAREDSESSION_SECRET_KEY_FILE": "write SHAREDSESSION_SECRET_KEY",
    "SHAREDSESSION_HTTPONLY": "always HttpOnly",
    "SHAREDSESSION_COLOUR": "SHAREDSESSION_MAX_AGE, ",
}


@pytest.mark.parametrize("door", EVERY)
@pytest.mark.parametrize("variable", UNKNOWN)
def test_a_variable_that_is_read_by_nothing_is_warned_of(
    variable: str, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a middleware, with the nearest name and without its value."""
    monkeypatch.setenv(variable, SECRET)

    with pytest.warns(RuntimeWarning, match=f"{variable} is read by nothing") as warned:
        DOORS[door](secret_key=KEY, store="memory://")

    (only,) = warned
    assert UNKNOWN[variable] in str(only.message)
    assert SECRET not in str(only.message)


@pytest.mark.parametrize(
    "variable",
    [
        "SHAREDSESSION_SERVICE_HOST",
        "SHAREDSESSION_PORT",
        "SHAREDSESSION_PORT_6379_TCP_ADDR",
        "SHAREDSESSION_REDIS_SERVICE_PORT_HTTP",
        "SHAREDSESSION_REDIS_PORT_6379_TCP",
    ],
)
def test_a_service_of_kubernetes_is_no_slip(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every container beside a service called sharedsession has such variables."""
    monkeypatch.setenv(variable, "tcp://10.0.0.11:6379")

    assert hear(lambda: DOORS["wsgi"](secret_key=KEY, store="memory://"), caplog) == (None, "")


# --- Flask's configuration ------------------------------------------------------------------------


def configured(**options: Any) -> Callable[[], object]:
    """An application with these options, whose session has been used."""

    def make() -> object:
        app = Flask("shop")
        app.config.update({"SECRET_KEY": KEY, "SESSION_STORE": "memory://", **options})
        SharedSession(app)
        with app.test_request_context():
            return flask.session.get("a")

    return make


def both_extensions() -> None:
    app = Flask("shop")
    app.secret_key = KEY
    SharedSession(app, store="memory://")
    SharedSession(app, store="memory://another")


class AnothersInterface(flask.sessions.SecureCookieSessionInterface):
    """Of another session extension."""


def replaced_afterwards() -> None:
    app = Flask("shop")
    app.secret_key = KEY
    SharedSession(app, store="memory://")
    app.session_interface = AnothersInterface()
    app.test_client().get("/")
    app.test_client().get("/")


# What is done, what is said of it, and whether it is refused.
FLASK: dict[str, tuple[Callable[[], object], tuple[str, ...], bool]] = {
    "SESSION_TYPE": (configured(SESSION_TYPE="redis"), ("SESSION_TYPE", "SESSION_STORE"), False),
    "SESSION_REDIS": (
        configured(SESSION_REDIS=redis.Redis.from_url(URL)), ("SESSION_STORE",), False,
    ),
    "SESSION_SQLALCHEMY": (configured(SESSION_SQLALCHEMY=1), ("SQLStore(db.engine)",), False),
    "SESSION_FILE_DIR": (configured(SESSION_FILE_DIR="/tmp"), ("sqlite:///",), False),
    "SESSION_PERMANENT": (configured(SESSION_PERMANENT=True), ("session.permanent",), False),
    "SESSION_USE_SIGNER": (configured(SESSION_USE_SIGNER=True), ("always signed",), False),
    "SESSION_KEY_PREFIX": (configured(SESSION_KEY_PREFIX="s:"), ("SESSION_NAMESPACE",), False),
    "SESSION_STOR": (configured(SESSION_STOR=URL), ("SESSION_STORE",), False),
    "SESSION_COOKIE_SAME_SITE": (
        configured(SESSION_COOKIE_SAME_SITE="Lax"), ("SESSION_COOKIE_SAMESITE",), False,
    ),
    "SESSION_COOKIE_HTTPS_ONLY": (
        configured(SESSION_COOKIE_HTTPS_ONLY=True), ("SESSION_COOKIE_SECURE",), False,
    ),
    "SESSION_LIFETIME": (configured(SESSION_LIFETIME=60), (LIFETIME,), False),
    "a lifetime as text": (configured(**{LIFETIME: "3600"}), (LIFETIME, "timedelta"), True),
    "no lifetime": (configured(**{LIFETIME: None}), (LIFETIME, "timedelta"), True),
    "secure as text": (
        configured(SESSION_COOKIE_SECURE="false"), ("SESSION_COOKIE_SECURE", "write False"), True,
    ),
    "fallbacks in one text": (
        configured(SECRET_KEY_FALLBACKS=SECRET), ("SECRET_KEY_FALLBACKS", "list"), True,
    ),
    "a fallback that is empty": (
        configured(SECRET_KEY_FALLBACKS=[None]), ("SECRET_KEY", "empty"), True,
    ),
    "a weak fallback": (configured(SECRET_KEY_FALLBACKS=["old"]), ("Secret key 2 of 2",), False),
    "an outage's policy": (
        configured(SESSION_ON_OUTAGE="readonly"), ("SESSION_ON_OUTAGE",), True,
    ),
    "a timeout of a session": (
        configured(SESSION_TIMEOUT=1800),
        ("SESSION_TIMEOUT", LIFETIME, "SESSION_STORE_TIMEOUT"), False,
    ),
    "a lifetime as the store's": (
        configured(SESSION_STORE_TIMEOUT=1800), ("SESSION_STORE_TIMEOUT", "max_age"), True,
    ),
    "max_age as an argument": (
        lambda: SharedSession(Flask("x"), max_age=60), (LIFETIME,), True,
    ),
    "the key as an argument": (
        lambda: SharedSession(Flask("x"), secret_key=SECRET),
        ("app.config['SECRET_KEY']",), True,
    ),
    "the cookie's name as an argument": (
        lambda: SharedSession(Flask("x"), session_cookie="s"),
        ("SESSION_COOKIE_NAME",), True,
    ),
    "environ_key": (
        lambda: SharedSession(Flask("x"), environ_key="s"),
        ("flask.session",), True,
    ),
    "two of ours on one application": (both_extensions, ("leave one of the two lines",), False),
    "another's set after ours": (
        replaced_afterwards, ("AnothersInterface", "leave it out"), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLASK)
def test_a_slip_with_flask_says_what_to_do(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its own option is named, once, and an option of another extension is not passed over."""
    make, says, is_refused = FLASK[name]

    refused, said = hear(make, caplog)

    assert (refused is not None) is is_refused, refused or said
    assert all(each in (refused or said) for each in says), refused or said
    assert len((refused or said).splitlines()) == 1
    assert SECRET not in f"{refused}{said}"


# --- applications of another kind -----------------------------------------------------------------


def asked(app: FastAPI) -> object:
    return TestClient(app).get("/")


def wsgi_class_on_fastapi() -> object:
    app = FastAPI()
    app.add_middleware(wsgi.SessionMiddleware, secret_key=KEY, store="memory://")
    return asked(app)


def extension_by_add_middleware() -> object:
    app = FastAPI()
    app.add_middleware(SharedSession, store="memory://")
    return asked(app)


def asgi_class_on_flask() -> None:
    app = Flask("shop")
    app.wsgi_app = asgi.SessionMiddleware(app.wsgi_app, KEY, store="memory://")


def asgi_class_around_ours_on_flask() -> None:
    app = Flask("shop")
    SharedSession(app, store="memory://")
    asgi.SessionMiddleware(app.wsgi_app, KEY, store="memory://")


def on_asgi(app: Any) -> Callable[[], object]:
    return lambda: asgi.SessionMiddleware(app, KEY, store="memory://")


def on_wsgi(app: Any) -> Callable[[], object]:
    return lambda: wsgi.SessionMiddleware(app, KEY, store="memory://")


def extension_on(app: Any) -> Callable[[], object]:
    return lambda: SharedSession(app, store="memory://")


def view(request: Any) -> None:
    """As Django gives one to each of its middlewares."""


async def async_view(request: Any) -> None:
    """The same under ASGI."""


OURS_FOR_ASGI = "from sharedsession.asgi import SessionMiddleware"
OURS_FOR_WSGI = "from sharedsession.wsgi import SessionMiddleware"
OURS_FOR_FLASK = "from sharedsession.flask import SharedSession"
APPLICATIONS: dict[str, tuple[Callable[[], object], str]] = {
    "the WSGI class by add_middleware": (wsgi_class_on_fastapi, OURS_FOR_ASGI),
    "the WSGI class on FastAPI": (on_wsgi(FastAPI()), OURS_FOR_ASGI),
    "the WSGI class on Starlette": (on_wsgi(Starlette()), OURS_FOR_ASGI),
    "the WSGI class on an ASGI function": (on_wsgi(asgi_application), OURS_FOR_ASGI),
    "the WSGI class in Django's MIDDLEWARE": (on_wsgi(view), "get_wsgi_application()"),
    "the ASGI class as Flask's wsgi_app": (asgi_class_on_flask, OURS_FOR_FLASK),
    "the ASGI class around our extension": (asgi_class_around_ours_on_flask, OURS_FOR_FLASK),
    "the ASGI class on Flask": (on_asgi(Flask("x")), OURS_FOR_FLASK),
    "the ASGI class on a WSGI function": (on_asgi(wsgi_application), OURS_FOR_WSGI),
    "the ASGI class in Django's MIDDLEWARE": (on_asgi(async_view), "get_asgi_application()"),
    "the ASGI class on a text": (on_asgi("app:app"), "(scope, receive, send)"),
    "the extension on FastAPI": (extension_on(FastAPI()), OURS_FOR_ASGI),
    "the extension on Starlette": (extension_on(Starlette()), OURS_FOR_ASGI),
    "the extension on a WSGI function": (extension_on(wsgi_application), OURS_FOR_WSGI),
    "the extension on wsgi_app": (extension_on(Flask("x").wsgi_app), "app.wsgi_app"),
    "the extension on a blueprint": (extension_on(flask.Blueprint("b", "b")), "Flask(__name__)"),
    "the extension on a module": (extension_on(ModuleType("app")), "Flask(__name__)"),
    "the extension on the class": (extension_on(Flask), "Flask(__name__)"),
    "the extension on a URL": (extension_on(URL), "store="),
    "init_app(None)": (lambda: SharedSession(store="memory://").init_app(None), "Flask"),
}  # fmt: skip


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_of_another_kind_is_refused(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By a sentence that names what is to be used for it."""
    make, says = APPLICATIONS[name]

    refused, _ = hear(make, caplog)

    assert refused is not None
    assert says in refused
    assert SECRET not in refused


@Request.application
def by_werkzeug(request: Request) -> Response:
    """Made a WSGI application by its decorator, and says that it takes a request."""
    return Response(str(request.environ["sharedsession.session"].is_new))


def made_asgi(application: Any) -> Any:
    @wraps(application)
    async def call(scope: Any, receive: Any, send: Any) -> None:
        await asgi_application(scope, receive, send)

    return call


class Iterated:
    """A WSGI application that is a class (PEP 3333)."""

    def __init__(self, environ: Any, start_response: Any) -> None:
        start_response("204 No Content", [])

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


ACCEPTED: dict[str, Callable[[], object]] = {
    "werkzeug's decorator": on_wsgi(by_werkzeug),
    "a class": on_wsgi(Iterated),
    "a WSGI function with one more parameter": on_wsgi(lambda environ, start, more=None: []),
    "a function of any arguments under WSGI": on_wsgi(lambda *arguments: []),
    "a function of any arguments under ASGI": on_asgi(lambda *arguments: None),
    "an ASGI application around a view": on_asgi(made_asgi(view)),
    "an ASGI application around one for WSGI": on_asgi(made_asgi(wsgi_application)),
    "an ASGI function with an argument given": on_asgi(
        partial(lambda app, scope, receive, send: None, None)
    ),
    "a mock under WSGI": on_wsgi(Mock()),
    "a mock under ASGI": on_asgi(AsyncMock()),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_application_that_can_be_called_is_no_slip(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is made by, and whatever it says of what is inside it."""
    assert hear(ACCEPTED[name], caplog) == (None, "")


# --- stores of one's own making -------------------------------------------------------------------

STORES: dict[str, tuple[Callable[[], object], str]] = {
    "a URL in the place of a client": (lambda: RedisStore(URL), "RedisStore.from_url(url)"),
    "an async client": (lambda: RedisStore(redis.asyncio.Redis()), "Use AsyncRedisStore"),
    "a sync client": (lambda: AsyncRedisStore(redis.Redis()), "Use RedisStore"),
    "a client that decodes": (
        lambda: RedisStore(redis.Redis(decode_responses=True)), "decode_responses",
    ),
    "a pipeline": (lambda: RedisStore(redis.Redis().pipeline()), "Pass the client"),
    "a URL in the place of an engine": (lambda: SQLStore(URL), "SQLStore.from_url(url)"),
    "an async engine": (lambda: SQLStore(ASYNC_ENGINE), "AsyncSQLStore"),
    "an engine": (lambda: AsyncSQLStore(ENGINE), "SQLStore"),
    "a URL for async SQL": (lambda: AsyncSQLStore(URL), "AsyncSQLStore.from_url(url)"),
    "a client that is not pooled": (
        lambda: MemcachedStore(pymemcache.Client(("h", 11211))), "PooledClient",
    ),
    "a URL in the place of a Memcached client": (
        lambda: MemcachedStore(f"memcached://{SECRET}"), "MemcachedStore.from_url(url)",
    ),
    "a URL in the place of settings": (lambda: Sessions(URL), "settings by their names"),
    "no entries in memory": (lambda: MemoryStore(0), "at least 1"),
    "a URL in the place of a bound": (lambda: MemoryStore("memory://"), "max_entries"),
    "a lease of minutes": (lambda: NearCache(lease=300), "60 seconds"),
    "entries of copies": (lambda: NearCache(entries=10), "write max_entries="),
    "megabytes of copies": (lambda: NearCache(megabytes=64), "write max_bytes="),
    "a lease of pushes": (lambda: NearCache(pushed_lease=60), "write lease_with_push="),
    "a bound as text": (lambda: NearCache(max_entries="10"), "max_entries of a NearCache"),
    "a truth for a number": (lambda: NearCache(max_bytes=True), "max_bytes of a NearCache"),
    "an async store under WSGI": (
        lambda: wsgi.SessionMiddleware(
            wsgi_application, KEY, store=AsyncRedisStore(redis.asyncio.Redis())
        ),
        "use RedisStore here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_cannot_work_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """When it is made, with the name of the right one."""
    make, says = STORES[name]

    refused, _ = hear(make, caplog)

    assert refused is not None
    assert says in refused
    assert SECRET not in refused


BY_URL = "from sharedsession.adapter import Sessions as S; "
TYPED = (
    "from sharedsession import Session; from sharedsession.typed import TypedSession; "
    "TypedSession(Session(), Session, on_mismatch='drop')"
)
EXTRAS = {
    "redis": ("redis", "from sharedsession.stores.redis import RedisStore"),
    "redis by URL": ("redis", BY_URL + "S(secret_key='k' * 32, store='redis://localhost')"),
    "sql": ("sqlalchemy", "from sharedsession.stores.sql import SQLStore"),
    "sql by URL": ("sqlalchemy", BY_URL + "S(secret_key='k' * 32, store='sqlite:///sessions.db')"),
    "memcached": ("pymemcache", "from sharedsession.stores.memcached import MemcachedStore"),
    "memcached by URL": ("pymemcache", BY_URL + "S(secret_key='k' * 32, store='memcached://h')"),
    "flask": ("flask", "from sharedsession.flask import SharedSession"),
    "fastapi": ("fastapi", "from sharedsession.fastapi import SessionDep"),
    "typed": ("pydantic", TYPED),
    "quart": ("quart", "from sharedsession.quart import SharedSession"),
    "litestar": ("litestar", "from sharedsession.litestar import SharedSessionConfig"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTRAS)
def test_a_library_that_is_not_installed_names_the_extra(name: str) -> None:
    """Where the class is imported, as well as where a URL asks for it."""
    library, line = EXTRAS[name]
    without = f"import sys; sys.modules[{library!r}] = None\n{line}"

    process = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, check=False
    )

    last = process.stderr.splitlines()[-1]
    assert f"pip install 'sharedsession[{name.partition(' ')[0]}]'" in last


# --- what is no slip ------------------------------------------------------------------------------


@pytest.mark.parametrize("door", EVERY)
def test_a_duration_may_be_a_timedelta(door: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every setting in seconds takes one, and whole seconds as a float."""
    settings: dict[str, Any] = {
        "max_age": timedelta(hours=1),
        "absolute_timeout": timedelta(days=1),
        "store_timeout": timedelta(milliseconds=500),
        "stale_if_error": timedelta(seconds=30),
        "near_cache": True,
    }

    made: Any = DOORS[door](secret_key=KEY, store="memory://durations", **settings)
    made = made.extensions["sharedsession"] if door == "flask" else getattr(made, "sessions", made)
    read = made.manager.settings

    assert (read.max_age, type(read.max_age)) == (3600, int)
    assert (read.absolute_timeout, read.store_timeout, read.stale_if_error) == (86400, 0.5, 30)
    whole: Any = asgi.SessionMiddleware(asgi_application, KEY, max_age=3600.0, store="memory://")
    assert (whole.manager.settings.max_age, type(whole.manager.settings.max_age)) == (3600, int)
    assert caplog.records == []


OWN_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the store's URL": ({"SESSION_REDIS_URL": "memory://"}, {"store": "memory://"}),
    "the store's URL, as the option": (
        {"SESSION_URL": "memory://", "SESSION_STORE": "memory://"}, {},
    ),
    "minutes of the lifetime": (
        {f"{LIFETIME}_MINUTES": 5, LIFETIME: timedelta(minutes=5)}, {"store": "memory://"},
    ),
    "of Flask-Login": ({"SESSION_PROTECTION": "strong"}, {"store": "memory://"}),
    "Flask's own, left as they are": ({"SESSION_COOKIE_HTTPONLY": True}, {"store": "memory://"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_an_option_of_the_applications_own_is_no_slip(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the setting that it resembles was made: the application may make that of it."""
    config, arguments = OWN_OPTIONS[name]
    app = Flask("shop")
    app.config.update(config, SECRET_KEY=KEY)
    assert hear(lambda: SharedSession(app, **arguments), caplog) == (None, "")


@pytest.mark.parametrize(
    "key",
    [
        "b[5S1|,On3CM'Lpw'8X/Uj~Fdu7-lY?U4Vi@1mnIo+i1`iLEE:",
        b"/&,0\xbc\xa9\x89/e\xb1g@\xa15\xe7\xc5\xc9\xc7\xe9\xfc\xdf\x96x\xc1U\xfbq\x91",
        repr(b"b\",\x8e?\xcc\xd2_p\x14\xf6\x88\x8c\xae\x1c\xf6\x94~VN\x17'\x0b[\x98\x1e"),
        "%" + KEY,
        "$" + KEY + "$",
        "[" + KEY + ", " + KEY,
    ],
)
@pytest.mark.parametrize("door", EVERY)
def test_a_random_key_of_any_characters_is_no_slip(
    key: str | bytes, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A comma in it, as every second password of punctuation has, makes no list of it."""
    made = partial(DOORS[door], secret_key=key, store="memory://")
    assert hear(made, caplog) == (None, "")


def test_a_random_key_in_the_environment_may_begin_with_a_bracket(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What makes a JSON array is the quotation mark behind it, or the other bracket."""
    monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", f"[{KEY}")
    made: Any = DOORS["adapter"](store="memory://")
    assert made.manager.settings.secret_keys == (f"[{KEY}".encode(),)
    assert caplog.records == []


@pytest.mark.parametrize("written", [KEY, KEY + "\n", f" {KEY}\r\n", f"{KEY}\n".encode()])
def test_a_line_break_at_the_end_of_a_key_does_not_count(
    written: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that reads a file with its last line break knows the others' cookies."""
    monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", KEY + "\n")
    plain: Any = DOORS["wsgi"](secret_key=KEY, store="memory://")
    given: Any = DOORS["wsgi"](secret_key=written, store=" memory://\n")
    read: Any = DOORS["wsgi"](store="memory://")

    keys = [each.sessions.manager.settings.secret_keys for each in (plain, given, read)]

    assert keys == [(KEY.encode(),)] * 3


RIGHT: dict[str, dict[str, Any]] = {
    "a dot before a domain": {"domain": ".example.org"},
    "an underscore in a domain": {"domain": "my_host.example.org"},
    "a domain in another script": {"domain": "xn--e1afmkfd.xn--p1ai"},
    "SameSite in capitals": {"same_site": "LAX"},
    "no owner key": {"owner_key": ()},
    "Flask-Principal's key": {"owner_key": "identity.id"},
    "a key of pydantic's": {"secret_key": SecretStr(KEY)},
    "a key of random bytes": {"secret_key": bytes(range(100, 132))},
    "sessions that end at once": {"max_age": 0},
    "a function of two arguments": {"on_outage": lambda request, error: "error"},
    "a function of any arguments": {"on_outage": print},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_taken_in_silence(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """No error, no warning, nothing in the log."""
    given = {"secret_key": KEY, "store": "memory://", **RIGHT[name]}

    assert hear(lambda: DOORS["asgi"](**given), caplog) == (None, "")
