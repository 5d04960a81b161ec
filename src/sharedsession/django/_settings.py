"""Django's settings become ours: SESSION_COOKIE_* and SECRET_KEY are Django's own.

``SHAREDSESSION`` has the others, by the names of our arguments in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.functional import Promise

from .._core.settings import NAMES, Settings, announce, gather
from .._doors import advice
from ..exceptions import ConfigurationError
from ._databases import SCHEME, place_of

# What Django has settings of its own for.
DJANGOS = {
    "secret_key": "SECRET_KEY",
    "session_cookie": "SESSION_COOKIE_NAME",
    "max_age": "SESSION_COOKIE_AGE",
    "path": "SESSION_COOKIE_PATH",
    "domain": "SESSION_COOKIE_DOMAIN",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "https_only": "SESSION_COOKIE_SECURE",
}
BESIDE = ("SECRET_KEY", "SWITCH_AT", "BEFORE")  # what SHAREDSESSION may have beside these
OWN = {name.upper(): name for name in NAMES if name not in {*DJANGOS, "partitioned"}}
NAMED = {**DJANGOS, **{name: f"SHAREDSESSION[{capital!r}]" for capital, name in OWN.items()}}
SEEN = {
    *DJANGOS.values(),
    *("SECRET_KEY_FALLBACKS", "SESSION_COOKIE_HTTPONLY", "SESSION_EXPIRE_AT_BROWSER_CLOSE"),
    *("SESSION_SERIALIZER", "SHAREDSESSION", "DATABASES"),
}


def own_settings() -> Mapping[str, Any]:  # Any: each setting's own type
    """Return ``SHAREDSESSION``; what is no dict, or names what is no setting, is refused.

    Raises:
        ConfigurationError: it does, with the right name.
    """
    given: object = getattr(settings, "SHAREDSESSION", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"SHAREDSESSION must be a dict, {{'STORE': 'redis://…'}}, got {type(given).__name__}."
        )
    for name in given:
        if name in OWN or name in BESIDE:
            continue
        meant = str(name).lower()
        if meant in DJANGOS:
            right = f"it is Django's setting {DJANGOS[meant]}"
        else:
            right = advice.instead_of(meant, list(OWN.values()), {})
            right = right.replace(meant, meant.upper())
        raise ConfigurationError(f"SHAREDSESSION has no key {name!r}: {right}.")
    return given


def gathered() -> Settings:
    """Return the settings of this project.

    Raises:
        ConfigurationError: one is missing, wrong, or contradicts another.
        TypeError: the store is none.
    """
    given = own_settings()
    advice.warn_of_variables(os.environ, NAMES)
    arguments = {name: given[capital] for capital, name in OWN.items() if capital in given}
    store = arguments.get("store")
    if store is None and f"{advice.PREFIX}STORE" not in os.environ:
        raise ConfigurationError(
            "No session store was chosen. Say which: SHAREDSESSION = {'STORE': "
            "'redis://localhost:6379/0'}, or 'django://default' for one of DATABASES, or set "
            "SHAREDSESSION_STORE."
        )
    if isinstance(store, str) and store.startswith(f"{SCHEME}:"):
        arguments["store"] = place_of(store)
    if "SECRET_KEY" in given:  # one that is shared with other applications
        arguments["secret_key"] = given["SECRET_KEY"]
    found = gather(arguments, _djangos(), options=NAMED)
    announce(found)
    return found


def _djangos() -> dict[str, Any]:  # Any: as the project wrote them
    """Return what Django's own settings say, in our words."""
    fallbacks = settings.SECRET_KEY_FALLBACKS
    if isinstance(fallbacks, str | bytes):  # each of its characters would be a key
        raise ConfigurationError("SECRET_KEY_FALLBACKS must be a list of keys: write [key].")
    options: dict[str, Any] = {
        "secret_key": tuple(
            str(each) if isinstance(each, Promise) else each
            for each in (settings.SECRET_KEY, *fallbacks)
        ),
        "session_cookie": settings.SESSION_COOKIE_NAME,
        "max_age": settings.SESSION_COOKIE_AGE,
        "path": settings.SESSION_COOKIE_PATH,
        "domain": settings.SESSION_COOKIE_DOMAIN or None,
    }
    if settings.SESSION_COOKIE_SAMESITE:  # False: Django sends none
        options["same_site"] = str(settings.SESSION_COOKIE_SAMESITE).lower()
    if settings.SESSION_COOKIE_SECURE:  # False, the default, forbids nothing
        options["https_only"] = True
    return options
