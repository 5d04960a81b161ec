"""The WSGI applications: the same four routes as those of ASGI."""

from __future__ import annotations

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


def redis(url: str) -> Any:
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


def django_redis(url: str) -> Any:
    return django(
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": url,
                "OPTIONS": {"max_connections": CONNECTIONS},
            }
        },
    )
