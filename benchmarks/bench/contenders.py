"""Who takes part, and what each is compared with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import asgi_apps, wsgi_apps

# What a person has who is signed in: about 240 bytes when this package stores it.
SESSION: dict[str, Any] = {
    "user_id": 4711,
    "_csrf": "c" * 43,
    "language": "en",
    "seen": 1000,
    "cart": [{"product": f"a-{number}", "count": number} for number in range(4)],
    "last_page": "/orders/2026/11",
}
LINE = "a line of what somebody has written to somebody"


def session_of(size: int) -> dict[str, Any]:
    """Return a session of about so many bytes: the same one, and lines of text."""
    more = max(0, size - 240) // (len(LINE) + 2)
    return SESSION | {"draft": [LINE] * more}


@dataclass(frozen=True)
class Contender:
    """One way to keep sessions, in the smallest application that shows its cost."""

    name: str
    kind: Literal["asgi", "wsgi"]
    label: str
    make: Callable[[str], Any]  # an application, by the URL of its store
    needs: tuple[str, ...] = ()  # modules that are no part of this package's own tests
    server: str = ""  # where it keeps sessions: "redis", "postgresql", "memcached"
    bare: str = ""  # the same application without sessions
    near: bool = False  # answers reads by copies

    @property
    def ours(self) -> bool:
        """Say whether it is this package."""
        return self.label.startswith("sharedsession")

    @property
    def installed(self) -> bool:
        """Say whether its package is here."""
        return all(importlib.util.find_spec(each) for each in self.needs)


def _contenders() -> list[Contender]:
    starlette, flask = "starlette", "flask"
    asgi, wsgi = asgi_apps, wsgi_apps
    return [
        Contender("starlette", "asgi", "Starlette, bare", asgi.starlette),
        Contender("fastapi", "asgi", "FastAPI, bare", asgi.fastapi, ("fastapi",)),
        Contender("litestar", "asgi", "Litestar, bare", asgi.litestar, ("litestar",)),
        Contender("cookie", "asgi", "Starlette's cookie", asgi.cookie, bare=starlette),
        Contender(
            "starsessions",
            "asgi",
            "starsessions, Redis",
            asgi.starsessions,
            ("starsessions",),
            server="redis",
            bare=starlette,
        ),
        Contender(
            "litestar-redis",
            "asgi",
            "Litestar, Redis",
            asgi.litestar_redis,
            ("litestar",),
            server="redis",
            bare="litestar",
        ),
        Contender(
            "redis-sdk",
            "asgi",
            "fastapi-redis-sdk",
            asgi.redis_sdk,
            ("redis_fastapi",),
            server="redis",
            bare="fastapi",
        ),
        Contender("memory", "asgi", "sharedsession, memory", asgi.memory, bare=starlette),
        Contender(
            "redis",
            "asgi",
            "sharedsession, Redis",
            asgi.shared,
            server="redis",
            bare=starlette,
        ),
        Contender(
            "near",
            "asgi",
            "sharedsession, near copies",
            asgi.near,
            server="redis",
            bare=starlette,
            near=True,
        ),
        Contender("flask", "wsgi", "Flask, bare", wsgi.flask),
        Contender("django", "wsgi", "Django, bare", wsgi.django, ("django",)),
        Contender("flask-cookie", "wsgi", "Flask's cookie", wsgi.cookie, bare=flask),
        Contender(
            "flask-session",
            "wsgi",
            "Flask-Session, Redis",
            wsgi.flask_session,
            ("flask_session",),
            server="redis",
            bare=flask,
        ),
        Contender(
            "django-redis",
            "wsgi",
            "Django's cache engine, Redis",
            wsgi.django_redis,
            ("django",),
            server="redis",
            bare="django",
        ),
        Contender(
            "django-shared",
            "wsgi",
            "sharedsession, Django, Redis",
            wsgi.django_shared,
            ("django",),
            server="redis",
            bare="django",
        ),
        Contender("flask-memory", "wsgi", "sharedsession, Flask, memory", wsgi.memory, bare=flask),
        Contender(
            "flask-redis",
            "wsgi",
            "sharedsession, Flask, Redis",
            wsgi.shared,
            server="redis",
            bare=flask,
        ),
        *_on_postgresql(),
        *_on_memcached(),
    ]


def _on_postgresql() -> list[Contender]:
    server = "postgresql"
    return [
        Contender(
            "flask-session-postgresql",
            "wsgi",
            "Flask-Session, PostgreSQL",
            wsgi_apps.flask_session_postgresql,
            ("flask_session", "flask_sqlalchemy", "psycopg"),
            server,
            bare="flask",
        ),
        Contender(
            "django-postgresql",
            "wsgi",
            "Django's database engine, PostgreSQL",
            wsgi_apps.django_postgresql,
            ("django", "psycopg"),
            server,
            bare="django",
        ),
        Contender(
            "flask-postgresql",
            "wsgi",
            "sharedsession, Flask, PostgreSQL",
            wsgi_apps.shared,
            server=server,
            bare="flask",
        ),
        Contender(
            "postgresql",
            "asgi",
            "sharedsession, Starlette, PostgreSQL",
            asgi_apps.shared,
            server=server,
            bare="starlette",
        ),
    ]


def _on_memcached() -> list[Contender]:
    server = "memcached"
    return [
        Contender(
            "flask-session-memcached",
            "wsgi",
            "Flask-Session, Memcached",
            wsgi_apps.flask_session_memcached,
            ("flask_session", "pymemcache"),
            server,
            bare="flask",
        ),
        Contender(
            "django-memcached",
            "wsgi",
            "Django's cache engine, Memcached",
            wsgi_apps.django_memcached,
            ("django", "pymemcache"),
            server,
            bare="django",
        ),
        Contender(
            "flask-memcached",
            "wsgi",
            "sharedsession, Flask, Memcached",
            wsgi_apps.shared,
            server=server,
            bare="flask",
        ),
    ]


CONTENDERS = {each.name: each for each in _contenders()}
