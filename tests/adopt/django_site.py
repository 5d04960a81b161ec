"""An application on Django's own sessions, which answers questions: each a line of JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import django
import pymysql
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

SECRET = "what the old servers signed with"
state: dict[str, Any] = {}


class PlainJSON:
    """A serializer of values in a cache, for Django's Redis and for pymemcache."""

    def dumps(self, value: object) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> object:
        return json.loads(data)

    def serialize(self, _: str, value: object) -> tuple[bytes, int]:
        return self.dumps(value), 0

    def deserialize(self, _: str, data: bytes, _flags: int) -> object:
        return self.loads(data)


def write(request: HttpRequest) -> HttpResponse:
    from django.contrib import messages

    request.session.update(state["values"])
    if "expiry" in state:
        request.session.set_expiry(state["expiry"])
    messages.info(request, "written")
    return HttpResponse()


def sign_in(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import login
    from django.contrib.auth.models import User

    login(request, User.objects.get_or_create(username="ada")[0])
    return HttpResponse()


def show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(json.dumps(dict(request.session.items())))


urlpatterns = [path("write", write), path("sign-in", sign_in), path("show", show)]


def database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path[1:]}
    backend = "postgresql"
    if parts.scheme == "mariadb":
        pymysql.install_as_MySQLdb()
        backend = "mysql"
    return {
        "ENGINE": f"django.db.backends.{backend}",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


def cache(url: str | None, *, pickled: bool, **more: Any) -> dict[str, Any]:
    base = "django.core.cache.backends"
    if url is None:
        return {"BACKEND": f"{base}.locmem.LocMemCache"}
    if url.startswith("memcached:"):
        options = {} if pickled else {"serde": PlainJSON()}
        where = {"BACKEND": f"{base}.memcached.PyMemcacheCache", "LOCATION": urlsplit(url).netloc}
    else:
        options = {} if pickled else {"serializer": "tests.adopt.django_site.PlainJSON"}
        where = {"BACKEND": f"{base}.redis.RedisCache", "LOCATION": url}
    return {**where, "OPTIONS": options, **more}


def set_up(engine: str, **given: Any) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        CACHES={
            "default": cache(
                given.get("cache"), pickled=given.get("pickled", False), **given.get("caches", {})
            )
        },
        DATABASES={"default": database(given["database"])},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        ROOT_URLCONF="tests.adopt.django_site",
        SECRET_KEY=SECRET,
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
        **given.get("settings", {}),
    )
    django.setup()
    if "TIME_ZONE" in given.get("settings", {}):  # which Django does for a module of settings
        os.environ["TZ"] = settings.TIME_ZONE
        time.tzset()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


def answer(question: dict[str, Any]) -> object:
    from django.test import Client

    client = Client()
    state.clear()
    state.update(question)
    expiry = state.pop("expiry", None)
    if expiry is not None:
        state["expiry"] = timedelta(**expiry) if isinstance(expiry, dict) else expiry
    if "cookie" in question:
        client.cookies["sessionid"] = question["cookie"]
    response = client.get(question["path"])
    if question["path"] == "/show":
        return json.loads(response.content)
    return client.cookies["sessionid"].value


def main() -> None:
    set_up(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
