"""What ``manage.py check`` says of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Doubt
from django.db import connections
from django.utils.module_loading import import_string

from ..exceptions import ConfigurationError
from ._databases import alias_of
from ._engine import engine
from ._settings import own_settings

ENGINE = "sharedsession.django"
MIDDLEWARE = f"{ENGINE}.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
JSON = "django.contrib.sessions.serializers.JSONSerializer"
IDLE = ("SESSION_CACHE_ALIAS", "SESSION_FILE_PATH")


def check_settings(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001 - as Django calls it
    **_: object,
) -> list[CheckMessage]:
    """Return what is wrong, or may be."""
    return [*_of_the_place(), *_of_the_store(), *_of_the_rest()]


def _of_the_place() -> Iterator[CheckMessage]:
    if settings.SESSION_ENGINE != ENGINE:
        yield Error(
            f"SESSION_ENGINE must be {ENGINE!r}, got {settings.SESSION_ENGINE!r}: sessions are in "
            "no shared store.",
            hint=f"Set SESSION_ENGINE = {ENGINE!r}, or take {ENGINE!r} out of INSTALLED_APPS.",
            id="sharedsession.E001",
        )
    elif not any(_is_ours(each) for each in settings.MIDDLEWARE):
        there = DJANGOS in settings.MIDDLEWARE
        yield Error(
            f"MIDDLEWARE must have {MIDDLEWARE!r}"
            + (f" in the place of {DJANGOS!r}." if there else ": there is no session middleware."),
            hint="With Django's own no session is merged, and its cookies are not understood.",
            id="sharedsession.E002",
        )


def _is_ours(path: str) -> bool:
    from ._middleware import SessionMiddleware

    try:
        found = import_string(path)
    except ImportError:  # Django's own error says so
        return False
    return isinstance(found, type) and issubclass(found, SessionMiddleware)


def _of_the_store() -> Iterator[CheckMessage]:
    try:
        engine()
    except (ConfigurationError, TypeError, ModuleNotFoundError) as error:
        yield Error(str(error), id="sharedsession.E003")
        return
    given = own_settings()
    store = engine().manager.settings.store
    if isinstance(store, str) and store.startswith("memory:") and not settings.DEBUG:
        yield Doubt(
            "SHAREDSESSION['STORE'] keeps sessions in the memory of one process: another worker, "
            "another server, and this one after a restart, do not find them.",
            hint="Use redis://…, postgresql://…, django://default, or sqlite:///… on one machine.",
            id="sharedsession.W001",
        )
    alias = alias_of(given.get("STORE"))
    if alias is not None and connections[alias].vendor == "sqlite":
        yield Doubt(
            f"SHAREDSESSION['STORE'] is the SQLite database {alias!r}, which one connection writes "
            "at a time: a view that saves its session inside a transaction waits for itself, and "
            "is answered with a 503.",
            hint="Give the sessions a file of their own: sqlite:///sessions.db.",
            id="sharedsession.W002",
        )


def _of_the_rest() -> Iterator[CheckMessage]:
    if settings.SESSION_SERIALIZER != JSON:
        yield Doubt(
            f"SESSION_SERIALIZER is {settings.SESSION_SERIALIZER!r}: records have an encoding of "
            "their own here, and the serializer is asked only what to store in the place of a "
            "value of another type, as far as it writes JSON.",
            hint="docs/values.md has the types that are stored as they are.",
            id="sharedsession.W003",
        )
    for name in IDLE:
        if getattr(settings, name, None) not in (None, "default"):
            yield Doubt(
                f"{name} is set, and read by another session engine only.",
                hint=f"Remove {name}; SHAREDSESSION['STORE'] says where sessions are kept.",
                id="sharedsession.W004",
            )
