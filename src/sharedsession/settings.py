"""Arguments, framework configuration and environment become one frozen, validated `Settings`.

Every setting is looked for in that order: an argument, the framework's own configuration, the
environment variable ``SHAREDSESSION_<NAME>``, the default. What contradicts itself is refused here,
at start-up: browsers drop such cookies silently.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from .exceptions import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from .stores.base import AsyncStore, Store

DEFAULT_IDLE_TIMEOUT: Final = 14 * 24 * 60 * 60
DEFAULT_OWNER_KEYS: Final = ("user_id", "_user_id", "_auth_user_id")
# Keys other than those under which applications note who is signed in: Flask's and Starlette's
# tutorials, Flask-Principal (identity.id), Authlib's examples (user, userinfo), CTFd (id), ….
DEFAULT_SIGN_IN_NAMES: Final = (
    *("user", "username", "uid", "userid", "id", "email", "account_id", "current_user"),
    *("logged_in", "loggedin", "is_authenticated", "authenticated", "admin", "userinfo"),
    *("identity.id", "auth.userid"),
)
LARGEST_COOKIE: Final = 4096  # bytes of name and value; browsers drop what is larger (RFC 6265bis)
LARGEST_VALUE: Final = 118  # of our cookie: see the shape in cookie.py

LONGEST: Final = 100 * 365 * 24 * 60 * 60  # seconds; stores refuse lifetimes out of all measure

STORES: Final = (
    "store='sqlite:///sessions.db' (one machine, many processes), "
    "store='redis://localhost:6379/0' (many machines) or store='memory://' (one process only)"
)


POLICIES: Final = ("error", "readonly-empty")
Policy = Literal["error", "readonly-empty"]
# Asked with the ASGI scope or the WSGI environment, whose values are the server's, and the outage.
OnOutage = Policy | Callable[[MutableMapping[str, Any], StoreUnavailable], Policy]


class Unset(Enum):
    """The type of `UNSET`, which stands for "not given": None is a value of some settings."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class NearCache:
    """How many copies of sessions a server keeps in its own memory, and for how long.

    Whichever of the bounds is met first counts; what was not used for longest goes first.

    Args:
        entries: how many sessions at most, default 10,000.
        megabytes: how much memory they may take, in units of 2**20 bytes, default 64.
        lease: seconds for which a copy may be behind the store, default 1: a sign-out is effective
            everywhere within that time.
        pushed_lease: seconds for which a copy may be used where the store tells of writes (Redis,
            Valkey, PostgreSQL), default 60; 0 asks no store to tell.

    Raises:
        ConfigurationError: a number makes no sense.
    """

    entries: int = 10_000
    megabytes: float = 64
    lease: float = 1.0
    pushed_lease: float = 60.0

    def __post_init__(self) -> None:
        numbers = [self.entries, self.megabytes, self.lease, self.pushed_lease]
        if not all(isinstance(each, int | float) and each >= 0 for each in numbers):
            raise ConfigurationError("The numbers of a NearCache are 0 or more.")
        if self.entries < 1 or not 0 < self.lease <= 60:
            raise ConfigurationError(
                "A NearCache has at least one entry, and a lease of above 0 and up to 60 seconds: "
                "for so long a session may be used on this server after it was ended on another."
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """What an application chose. Made by `gather`; docs/settings.md says what each field means."""

    store: str | Store | AsyncStore = field(repr=False)
    secret_keys: tuple[bytes, ...] = field(repr=False)
    session_cookie: str = "session"
    max_age: int | None = DEFAULT_IDLE_TIMEOUT
    absolute_timeout: int | None = None
    path: str = "/"
    same_site: Literal["lax", "strict", "none"] = "lax"
    https_only: bool | None = None
    domain: str | None = None
    partitioned: bool = False
    namespace: str = ""
    owner_key: tuple[str, ...] = DEFAULT_OWNER_KEYS
    sign_in_names: tuple[str, ...] = DEFAULT_SIGN_IN_NAMES
    on_owner_change: Literal["drop", "keep"] = "drop"
    timeout: float = 1.0
    on_outage: OnOutage = "error"
    near_cache: NearCache | None = None
    stale_if_outage: float = 0.0
    read_from: str | Store | AsyncStore | None = field(default=None, repr=False)

    @property
    def idle_timeout(self) -> int:
        """Seconds without use after which a session ends; zero or less ends it at once."""
        return DEFAULT_IDLE_TIMEOUT if self.max_age is None else self.max_age

    def tolerance(
        self, request: MutableMapping[str, Any] | None
    ) -> Callable[[Exception], bool] | None:
        """Return what says of a failed load whether its request goes on with an empty session.

        It holds on to the request only where a function of the application wants to see it.
        """
        if self.on_outage == "error":
            return None
        return partial(self._tolerates, request if callable(self.on_outage) else None)

    def _tolerates(self, request: MutableMapping[str, Any] | None, error: Exception) -> bool:
        if not isinstance(error, StoreUnavailable):
            return False
        policy = (
            self.on_outage(request or {}, error) if callable(self.on_outage) else self.on_outage
        )
        if policy not in POLICIES:
            raise ConfigurationError(f"on_outage answered {policy!r}, not one of {POLICIES}.")
        return policy == "readonly-empty"


def gather(
    arguments: Mapping[str, Any],  # values as the application gave them, checked here
    framework: Mapping[str, Any] | None = None,  # the same, from the framework's configuration
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings, or raise `ConfigurationError` with a sentence that says what to do."""
    given: dict[str, Any] = {}
    for name in ("secret_key", *(each.name for each in fields(Settings))):
        if name == "secret_keys":
            continue
        variable = f"SHAREDSESSION_{name.upper()}"
        if arguments.get(name, UNSET) is not UNSET:
            given[name] = arguments[name]
        elif framework is not None and name in framework:
            given[name] = framework[name]
        elif variable in environ:
            given[name] = _from_environment(name, variable, environ[variable])
    given["secret_keys"] = _secret_keys(given.pop("secret_key", None))
    if given.get("store") is None or given["store"] == "":
        raise ConfigurationError(
            f"No session store was chosen. Say which: {STORES}, or set SHAREDSESSION_STORE."
        )
    for name in ("owner_key", "sign_in_names"):
        if isinstance(given.get(name), str):
            given[name] = (given[name],)
        elif isinstance(given.get(name), Iterable):
            given[name] = tuple(given[name])
    if given.get("domain") == "":
        given["domain"] = None
    if isinstance(given.get("same_site"), str):
        given["same_site"] = given["same_site"].lower()
    given["near_cache"] = _near_cache(given.get("near_cache"))
    settings = Settings(**given)
    _check_types(settings)
    return _check_cookie(settings)


def _near_cache(given: object) -> NearCache | None:
    """Return what True, a mapping or nothing stands for."""
    match given:
        case None | False:
            return None
        case True:
            return NearCache()
        case NearCache():
            return given
        case Mapping():
            with suppress(TypeError):
                return NearCache(**given)
    raise ConfigurationError(
        "near_cache is True, False or NearCache(entries=…, megabytes=…, lease=…, pushed_lease=…), "
        "in the environment a JSON object with these names."
    )


_TEXT = frozenset(
    (
        "store",
        "session_cookie",
        "path",
        "same_site",
        "domain",
        "namespace",
        "on_outage",
        "on_owner_change",
        "read_from",
    )
)
_TEXT_OR_LIST = frozenset(("secret_key", "owner_key", "sign_in_names"))


def _from_environment(name: str, variable: str, raw: str) -> Any:  # the setting's own type
    if name in _TEXT or (name in _TEXT_OR_LIST and not raw.lstrip().startswith("[")):
        return raw
    try:
        is_json = raw.lstrip().startswith(("[", "{"))
        return json.loads("null" if raw.lower() == "none" else raw if is_json else raw.lower())
    except ValueError:
        shown = "" if name == "secret_key" else f" {raw!r}"
        raise ConfigurationError(
            f"The environment variable {variable} cannot be read{shown}: write a number, true, "
            "false, null, or a list as a JSON array."
        ) from None


def _secret_keys(given: object) -> tuple[bytes, ...]:
    keys = [_secret_key(key) for key in (given if isinstance(given, list | tuple) else [given])]
    if not keys or not all(key.strip() for key in keys):
        raise ConfigurationError(
            "No secret key to sign cookies with: pass secret_key=… or set "
            "SHAREDSESSION_SECRET_KEY to a long random value, the same on every server "
            "(python -c 'import secrets; print(secrets.token_hex(32))' makes one)."
        )
    return tuple(keys)


def _secret_key(key: Any) -> bytes:  # checked here
    if hasattr(key, "get_secret_value"):  # pydantic's, whose str() is a row of stars
        key = key.get_secret_value()
    elif type(key).__name__ == "Secret":  # Starlette's
        key = str(key)
    if key is None:
        return b""
    if not isinstance(key, str | bytes):
        raise ConfigurationError(
            f"secret_key is a text, bytes, or a list of them, newest first; not a "
            f"{type(key).__name__}."
        )
    return key.encode() if isinstance(key, str) else key


def _check_types(settings: Settings) -> None:
    def demand(holds: bool, sentence: str) -> None:
        if not holds:
            raise ConfigurationError(sentence)

    def is_int(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    demand(
        settings.max_age is None or (is_int(settings.max_age) and settings.max_age <= LONGEST),
        f"max_age is a whole number of seconds up to {LONGEST}, or None, not {settings.max_age!r}.",
    )
    demand(
        settings.absolute_timeout is None
        or (is_int(settings.absolute_timeout) and 0 < settings.absolute_timeout <= LONGEST),
        f"absolute_timeout is a whole number of seconds from 1 to {LONGEST}, or None, not "
        f"{settings.absolute_timeout!r}.",
    )
    demand(
        isinstance(settings.timeout, int | float)
        and not isinstance(settings.timeout, bool)
        and 0 < settings.timeout < 3600,
        f"timeout is the number of seconds that the store may take, above 0, not "
        f"{settings.timeout!r}.",
    )
    for setting in ("owner_key", "sign_in_names"):
        names = getattr(settings, setting)
        demand(
            isinstance(names, tuple) and all(isinstance(name, str) and name for name in names),
            f"{setting} is the name of a session key, or several, not {names!r}.",
        )
    demand(
        settings.on_owner_change in ("drop", "keep"),
        f"on_owner_change is 'drop' or 'keep', not {settings.on_owner_change!r}.",
    )
    demand(
        isinstance(settings.namespace, str) and "\0" not in settings.namespace,
        f"namespace is a text without NUL, not {settings.namespace!r}.",
    )
    demand(
        callable(settings.on_outage) or settings.on_outage in POLICIES,
        f"on_outage is 'error', 'readonly-empty' or a function that returns one of them, not "
        f"{settings.on_outage!r}.",
    )
    stale = settings.stale_if_outage
    demand(
        isinstance(stale, int | float) and not isinstance(stale, bool) and 0 <= stale <= LONGEST,
        f"stale_if_outage is a number of seconds, 0 or more, not {stale!r}.",
    )
    demand(
        not stale or settings.near_cache is not None,
        "stale_if_outage is for the copies of near_cache, which is not set: add near_cache=True.",
    )
    demand(
        isinstance(settings.https_only, bool | None) and isinstance(settings.partitioned, bool),
        "https_only is True, False or None, and partitioned is True or False.",
    )


_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)  # RFC 6265: a cookie's name
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*", re.ASCII)  # what may stand in Path and Domain


def _check_cookie(settings: Settings) -> Settings:
    """Refuse what a browser would drop, and settle `Secure` where something else demands it."""
    name = settings.session_cookie
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError(
            f"session_cookie={name!r} is no name for a cookie: use letters, digits, '-' and '_'."
        )
    if len(name) + LARGEST_VALUE > LARGEST_COOKIE:
        raise ConfigurationError(
            f"session_cookie is {len(name)} characters long; with its value the cookie would "
            f"exceed {LARGEST_COOKIE} bytes and browsers would drop it."
        )
    if settings.same_site not in ("lax", "strict", "none"):
        raise ConfigurationError(
            f"same_site is 'lax', 'strict' or 'none', not {settings.same_site!r}."
        )
    for attribute, value in (("path", settings.path), ("domain", settings.domain or "x")):
        if not isinstance(value, str) or not value or not _ATTRIBUTE.fullmatch(value):
            raise ConfigurationError(
                f"{attribute}={value!r} cannot stand in a cookie: no ';', no control characters, "
                "ASCII only."
            )
    if not settings.path.startswith("/"):
        raise ConfigurationError(
            f"path={settings.path!r} does not begin with '/', and browsers would ignore it."
        )
    if name.lower().startswith("__host-") and (settings.domain or settings.path != "/"):
        raise ConfigurationError(
            f"A cookie named {name!r} must have path='/' and no domain, or browsers drop it: "
            f"remove domain and path, or choose a name without the prefix __Host-."
        )
    demands = [
        reason
        for reason, holds in (
            (f"a cookie named {name!r}", name.lower().startswith(("__host-", "__secure-"))),
            ("same_site='none'", settings.same_site == "none"),
            ("partitioned=True", settings.partitioned),
        )
        if holds
    ]
    if demands and settings.https_only is False:
        raise ConfigurationError(
            f"{demands[0]} needs the Secure attribute, or browsers drop it: "
            "remove https_only=False."
        )
    if demands and settings.https_only is None:
        values = {each.name: getattr(settings, each.name) for each in fields(Settings)}
        return Settings(**{**values, "https_only": True})
    return settings
