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
    stored: bool = False  # on Redis
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
            stored=True,
            bare=starlette,
        ),
        Contender(
            "litestar-redis",
            "asgi",
            "Litestar, Redis",
            asgi.litestar_redis,
            ("litestar",),
            stored=True,
            bare="litestar",
        ),
        Contender(
            "redis-sdk",
            "asgi",
            "fastapi-redis-sdk",
            asgi.redis_sdk,
            ("redis_fastapi",),
            stored=True,
            bare="fastapi",
        ),
        Contender("memory", "asgi", "sharedsession, memory", asgi.memory, bare=starlette),
        Contender("redis", "asgi", "sharedsession, Redis", asgi.redis, stored=True, bare=starlette),
        Contender(
            "near",
            "asgi",
            "sharedsession, near copies",
            asgi.near,
            stored=True,
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
            stored=True,
            bare=flask,
        ),
        Contender(
            "django-redis",
            "wsgi",
            "Django's cache engine, Redis",
            wsgi.django_redis,
            ("django",),
            stored=True,
            bare="django",
        ),
        Contender("flask-memory", "wsgi", "sharedsession, Flask, memory", wsgi.memory, bare=flask),
        Contender(
            "flask-redis",
            "wsgi",
            "sharedsession, Flask, Redis",
            wsgi.redis,
            stored=True,
            bare=flask,
        ),
    ]


CONTENDERS = {each.name: each for each in _contenders()}
