"""The WSGI applications: the same four routes as those of ASGI."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, session

from sharedsession.flask import SharedSession

from .asgi_apps import CONNECTIONS, SECRET


def flask(_: str = "") -> Any:
    app = Flask("bench")
    app.secret_key = SECRET

    @app.get("/unused")
    def unused() -> str:
        return "4711"

    @app.get("/read")
    def read() -> str:
        return str(session["user_id"])

    @app.get("/write")
    def write() -> str:
        session["seen"] += 1
        return str(session["seen"])

    @app.get("/sign-in")
    def sign_in() -> str:
        from .contenders import SESSION

        session.update(SESSION)
        return "4711"

    return app


cookie = flask  # it is Flask's own way, and not asked where nothing uses it


def memory(_: str) -> Any:
    app = flask()
    SharedSession(app, store="memory://")
    return app


def shared(url: str) -> Any:
    app = flask()
    SharedSession(app, store=url)
    return app


def flask_session(url: str) -> Any:
    from flask_session import Session
    from redis import Redis

    app = flask()
    app.config.update(
        SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(url, max_connections=CONNECTIONS)
    )
    Session(app)
    return app


def flask_session_postgresql(url: str) -> Any:
    from flask_session import Session
    from flask_sqlalchemy import SQLAlchemy

    app = flask()
    app.config["SQLALCHEMY_DATABASE_URI"] = url.replace("postgresql:", "postgresql+psycopg:")
    app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=SQLAlchemy(app))
    Session(app)
    return app


def flask_session_memcached(url: str) -> Any:
    """Give it a client that threads can share, and that waits for no ACK of a write before."""
    from flask_session import Session
    from pymemcache import PooledClient

    app = flask()
    client = PooledClient(url.removeprefix("memcached://"), no_delay=True)
    app.config.update(SESSION_TYPE="memcached", SESSION_MEMCACHED=client)
    Session(app)
    return app


def django(_: str = "", **settings: Any) -> Any:
    """Make the one Django application that a process can have."""
    import django as package
    from django.conf import settings as configured
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    from .contenders import SESSION

    def unused(request: HttpRequest) -> HttpResponse:
        return HttpResponse("4711", content_type="text/plain")

    def read(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.session["user_id"]), content_type="text/plain")

    def write(request: HttpRequest) -> HttpResponse:
        request.session["seen"] += 1
        return HttpResponse(str(request.session["seen"]), content_type="text/plain")

    def sign_in(request: HttpRequest) -> HttpResponse:
        request.session.update(SESSION)
        return HttpResponse("4711", content_type="text/plain")

    views: dict[str, Callable[..., Any]] = {
        "unused": unused,
        "read": read,
        "write": write,
        "sign-in": sign_in,
    }
    configured.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=tuple(path(route, view) for route, view in views.items()),
        SECRET_KEY=SECRET,
        LOGGING_CONFIG=None,
        **settings,
    )
    package.setup()
    return WSGIHandler()


def django_sessions(engine: str, **settings: Any) -> Any:
    return django(
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
        **settings,
    )


def django_redis(url: str) -> Any:
    cache = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": url,
        "OPTIONS": {"max_connections": CONNECTIONS},
    }
    return django_sessions("cache", CACHES={"default": cache})


def django_shared(url: str) -> Any:
    return django(
        MIDDLEWARE=["sharedsession.django.SessionMiddleware"],
        SESSION_ENGINE="sharedsession.django",
        SHAREDSESSION={"STORE": url},
    )


def django_memcached(url: str) -> Any:
    cache = {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": url.removeprefix("memcached://"),
    }
    return django_sessions("cache", CACHES={"default": cache})


def django_postgresql(url: str) -> Any:
    """Keep its connection, and make its table."""
    from django.core.management import call_command
    from psycopg.conninfo import conninfo_to_dict

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # one client is driven where an event loop runs
    told = conninfo_to_dict(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": told["dbname"],
        "CONN_MAX_AGE": None,
        **{name.upper(): told[name] for name in ("user", "password", "host", "port")},
    }
    app = django_sessions(
        "db", INSTALLED_APPS=["django.contrib.sessions"], DATABASES={"default": database}
    )
    call_command("migrate", verbosity=0)
    return app
