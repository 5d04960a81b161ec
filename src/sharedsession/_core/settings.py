"""Arguments, framework configuration and environment become one frozen, validated `Settings`.

Every setting is looked for in that order: an argument, the framework's own configuration, the
environment variable ``SHAREDSESSION_<NAME>``, the default. What contradicts itself is refused here,
at start-up: browsers drop such cookies silently.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from .._doors import advice
from ..exceptions import ConfigurationError, StoreUnavailable
from .record import LONGEST, whole_seconds
from .source import Source

if TYPE_CHECKING:
    from ..stores.base import AsyncStore, Store

DEFAULT_IDLE_TIMEOUT: Final = 14 * 24 * 60 * 60
DEFAULT_OWNER_KEYS: Final = ("user_id", "_user_id", "_auth_user_id")
# Keys other than those under which applications note who is signed in: Flask's and Starlette's
# tutorials, Flask-Principal (identity.id), Authlib's examples (user, userinfo), FastHTML (auth),
# CTFd (id), ….
DEFAULT_SIGN_IN_NAMES: Final = (
    *("user", "username", "uid", "userid", "id", "email", "account_id", "current_user"),
    *("logged_in", "loggedin", "is_authenticated", "authenticated", "admin", "userinfo"),
    *("auth", "identity.id", "auth.userid"),
)
LARGEST_COOKIE: Final = 4096  # bytes of name and value; browsers drop what is larger (RFC 6265bis)
LARGEST_VALUE: Final = 118  # of our cookie: see the shape in cookie.py

LONGEST_CALL: Final = 60  # seconds that a store may take; 1800 would be meant for max_age

log = logging.getLogger("sharedsession")

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


def quoted(value: object) -> str:
    """Return a value as errors show it: of a URL, without its user and password."""
    return re.sub(r"://.*@", "://***@", repr(value))


@dataclass(frozen=True, slots=True)
class NearCache:
    """How many copies of sessions a server keeps in its own memory, and for how long.

    Whichever of the bounds is met first counts; what was not used for longest goes first.

    Args:
        max_entries: how many sessions at most, default 10,000.
        max_bytes: how many bytes of memory they may take, default 64 * 2**20.
        lease: seconds for which a copy may be behind the store, default 1: a sign-out is effective
            everywhere within that time.
        lease_with_push: seconds for which a copy may be used where the store publishes its writes
            (Redis, Valkey, PostgreSQL), default 600; 0 asks no store to tell.

    Raises:
        ConfigurationError: a number makes no sense.
    """

    max_entries: int = 10_000
    max_bytes: int = 64 * 2**20
    lease: float = 1.0
    lease_with_push: float = 600.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigurationError(
                    f"{each.name} of a NearCache is a number, 0 or more, not {quoted(value)}."
                )
        if self.max_entries < 1 or not 0 < self.lease <= 60:
            raise ConfigurationError(
                "A NearCache has at least one entry, and a lease of above 0 and up to 60 seconds: "
                "for so long a session may be used on this server after it was ended on another."
            )


# The signature stays what it is, for type checkers too.
NearCache.__init__ = advice.with_known_arguments({})(NearCache.__init__)  # type: ignore[method-assign]


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
    store_timeout: float = 1.0
    on_outage: OnOutage = "error"
    near_cache: NearCache | None = None
    stale_if_error: float = 0.0
    replica: str | Store | AsyncStore | None = field(default=None, repr=False)
    adopt: tuple[Source, ...] = field(default=(), repr=False)
    # Seconds without use after which a session ends; zero or less ends it at once.
    idle_timeout: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        idle = DEFAULT_IDLE_TIMEOUT if self.max_age is None else self.max_age
        object.__setattr__(self, "idle_timeout", idle)

    @property
    def cookie_names(self) -> tuple[str, ...]:
        """The names of the cookies that a request is looked through for: ours, and old ones."""
        old = [each.cookie or self.session_cookie for each in self.adopt]
        return tuple(dict.fromkeys((self.session_cookie, *old)))

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
            raise ConfigurationError(f"on_outage answered {quoted(policy)}, not one of {POLICIES}.")
        return policy == "readonly-empty"


NAMES: Final = (
    "secret_key",
    *(each.name for each in fields(Settings) if each.init and each.name != "secret_keys"),
)


def gather(
    arguments: Mapping[str, Any],  # values as the application gave them, checked here
    framework: Mapping[str, Any] | None = None,  # the same, from the framework's configuration
    environ: Mapping[str, str] = os.environ,
    options: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings, or raise an error with a sentence that says what to do.

    ``options`` are the names that settings have in the framework's configuration: a sentence names
    what was written, the argument, the option or the environment variable.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: the store is none, but something that a store is made with.
    """
    given: dict[str, Any] = {"secret_key": None, "store": None}
    shown = {**{name: name for name in NAMES}, **(options or {})}
    for name in NAMES:
        variable = f"{advice.PREFIX}{name.upper()}"
        if arguments.get(name, UNSET) is not UNSET:
            given[name], shown[name] = arguments[name], name
        elif framework is not None and name in framework:
            given[name] = framework[name]
        elif variable in environ:
            given[name], shown[name] = (
                _from_environment(name, variable, environ[variable]),
                variable,
            )
    checked = {name: _CHECKS[name](shown[name], value) for name, value in given.items()}
    settings = Settings(secret_keys=checked.pop("secret_key"), **checked)
    return _check_together(settings, shown)


def announce(settings: Settings, said: set[str] | None = None) -> None:
    """Log what works but may be a mistake; not what was ``said`` before."""
    said = set() if said is None else said
    for sentence in (
        *advice.about_keys(settings.secret_keys),
        *advice.about_domain(settings.domain),
        *advice.about_lifetime(settings.max_age),
        *advice.about_names(settings.owner_key, DEFAULT_SIGN_IN_NAMES),
    ):
        if sentence not in said:
            said.add(sentence)
            log.warning("%s", sentence)


# --- the environment: text becomes a value --------------------------------------------------------

_SECONDS: Final = frozenset(("max_age", "absolute_timeout", "store_timeout", "stale_if_error"))
_FLAGS: Final = frozenset(("https_only", "partitioned"))
_LISTS: Final = frozenset(("secret_key", "owner_key", "sign_in_names"))
_SECRET: Final = frozenset(("secret_key", "store", "replica"))  # whose values no sentence shows
_A_LIST: Final = re.compile(r"\[(\s*([\"']|$)|.*\]$)", re.DOTALL)  # and no key that begins like one
_NOTHING: Final = frozenset(("null", "none"))
_YES: Final = frozenset(("1", "y", "yes", "on", "t"))
_NO: Final = frozenset(("0", "n", "no", "off", "f"))


def _from_environment(name: str, variable: str, raw: str) -> Any:  # the setting's own type
    if name == "adopt":
        raise ConfigurationError(
            f"{variable} cannot be set: what sessions are taken over from is an object. Pass "
            "adopt=FlaskSession(…), for one, from sharedsession.adopt."
        )
    text = raw.strip()  # a file that a secret comes from ends with a line break
    shown = "" if name in _SECRET else f", not {quoted(text)}"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        raise ConfigurationError(
            f"{variable} begins and ends with a quotation mark: remove both. A shell takes them "
            "away, an environment file of Docker keeps them as a part of the value."
        )
    if name in _SECONDS:
        return _number(variable, text)
    if name in _FLAGS:
        known = {"true": True, "false": False, **dict.fromkeys(_NOTHING)}
        if text.lower() in known:
            return known[text.lower()]
        meant = "true" if text.lower() in _YES else "false" if text.lower() in _NO else None
        remedy = f": write {meant}" if meant else ""
        raise ConfigurationError(f"{variable} is true or false{shown}{remedy}.")
    if name == "near_cache" and text.lower() in ("true", "false", *_NOTHING):
        return text.lower() == "true"
    if name == "near_cache" or (name in _LISTS and _A_LIST.match(text)):
        try:
            return json.loads(text)
        except ValueError:
            what = "true, false or a JSON object" if name == "near_cache" else "a JSON array"
            raise ConfigurationError(
                f"{variable} is {what}, which has double quotes around each name or text, and "
                f"cannot be read{shown}."
            ) from None
    if name in ("owner_key", "sign_in_names") and "," in text:
        raise ConfigurationError(
            f"{variable} is one name or a JSON array of them{shown}: write "
            f"{json.dumps([each.strip() for each in text.split(',')])}."
        )
    return text


def _number(variable: str, text: str) -> int | float | None:
    if text.lower() in _NOTHING:
        return None
    try:
        return int(text) if re.fullmatch(r"-?\d+", text, re.ASCII) else float(_decimal(text))
    except ValueError:
        meant = _seconds_in(text)
        remedy = "" if meant is None else f": write {meant}"
        raise ConfigurationError(
            f"{variable} is a number of seconds, not {quoted(text)}{remedy}."
        ) from None


def _decimal(text: str) -> str:
    if not re.fullmatch(r"-?\d+\.\d+", text, re.ASCII):
        raise ValueError
    return text


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(
    r"(\d+) ?(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?|w|weeks?)", re.ASCII
)


def _seconds_in(text: str) -> int | None:
    """Return the seconds that a text such as 14d, 1_000 or 1e3 was meant to be."""
    if found := _DURATION.fullmatch(text.strip().lower()):
        return int(found[1]) * _UNITS[found[2][0]]
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) else None


# --- one setting after the other: the name that was written, the value, and what becomes of it ----


def _secret_keys(shown: str, given: Any) -> tuple[bytes, ...]:
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray)
    keys = [_secret_key(shown, key) for key in (given if several else [given])]
    if not keys or not all(keys):
        which = f" {shown} has one that is empty." if any(keys) else ""
        raise ConfigurationError(
            f"No secret key to sign cookies with:{which} pass secret_key=… or set "
            "SHAREDSESSION_SECRET_KEY to a long random value, the same on every server "
            f"({advice.NEW_KEY})."
        )
    return tuple(keys)


def _secret_key(shown: str, key: Any) -> bytes:
    if hasattr(key, "get_secret_value"):  # pydantic's, whose str() is a row of stars
        key = key.get_secret_value()
    elif type(key).__name__ == "Secret":  # Starlette's
        key = str(key)
    if key is None:
        return b""
    if not isinstance(key, str | bytes):
        hint = ": pass what it holds, path.read_text()" if isinstance(key, PurePath) else ""
        raise ConfigurationError(
            f"{shown} is a text, bytes, or a list of them, newest first; not a "
            f"{type(key).__name__}{hint}."
        )
    try:
        # Of a file, one server reads the last line break as well, another does not.
        return (key.encode(errors="surrogateescape") if isinstance(key, str) else key).strip()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{shown} holds a character that is none, half a pair.") from None


_MAKERS: Final = (  # what people hand over in the place of a store, by its module
    ("redis.asyncio", "around a redis.asyncio client there is AsyncRedisStore(client)"),
    ("redis", "around a redis client there is RedisStore(client)"),
    ("valkey", "pass its URL, valkey://host:6379/0"),
    ("sqlalchemy.ext.asyncio", "around an async engine there is AsyncSQLStore(engine)"),
    ("sqlalchemy.engine.url", "pass its text, url.render_as_string(hide_password=False)"),
    ("sqlalchemy", "around an engine there is SQLStore(engine)"),
    ("flask_sqlalchemy", "around its engine there is SQLStore(db.engine)"),
    ("pymemcache", "around a PooledClient there is MemcachedStore(client)"),
    ("pydantic", "pass its text, str(url)"),
    ("pathlib", "pass its URL, f'sqlite:///{path}'"),
    ("builtins.bytes", "pass a text, .decode() makes one of bytes"),
)
VERBS: Final = ("load", "create", "replace", "touch", "delete")


def _store(shown: str, given: Any) -> Any:
    if isinstance(given, str):
        given = given.strip()
    if given is None or given == "":
        raise ConfigurationError(
            f"No session store was chosen. Say which: {STORES}, or set SHAREDSESSION_STORE."
        )
    if isinstance(given, str):
        return given
    if isinstance(given, type):
        raise TypeError(
            f"{shown} is the class {given.__name__}, not a store: make one of it, "
            f"{given.__name__}(client), or pass a URL such as 'redis://localhost:6379/0'."
        )
    if not all(callable(getattr(given, verb, None)) for verb in VERBS):
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
        hint = next((f" {why[0].upper()}{why[1:]}." for of, why in _MAKERS if _is_of(kind, of)), "")
        raise TypeError(
            f"{shown}={kind.removeprefix('builtins.')} is no session store: pass a URL such as "
            f"'redis://localhost:6379/0', or a store object such as RedisStore(client).{hint}"
        )
    return given


def _is_of(kind: str, module: str) -> bool:
    return f"{kind}.".startswith(f"{module}.")


def _replica(shown: str, given: Any) -> Any:
    return None if given is None or given == "" else _store(shown, given)


_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)  # RFC 6265: a cookie's name
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*", re.ASCII)  # what may stand in Path and Domain
_HOST = re.compile(r"\.?[a-z0-9_]([a-z0-9_-]*)(\.[a-z0-9_][a-z0-9_-]*)*", re.ASCII | re.IGNORECASE)


def _cookie_name(shown: str, name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = " A store's URL is given by name: store=." if "://" in str(name) else ""
        raise ConfigurationError(
            f"{shown}={quoted(name)} is no name for a cookie: use letters, digits, '-' and '_'."
            f"{hint}"
        )
    if len(name) + LARGEST_VALUE > LARGEST_COOKIE:
        raise ConfigurationError(
            f"{shown} is {len(name)} characters long; with its value the cookie would "
            f"exceed {LARGEST_COOKIE} bytes and browsers would drop it."
        )
    return name


def _attribute(shown: str, value: Any) -> str:
    if not isinstance(value, str) or not value or not _ATTRIBUTE.fullmatch(value):
        raise ConfigurationError(
            f"{shown}={quoted(value)} cannot stand in a cookie: no ';', no control characters, "
            "ASCII only."
        )
    return value


def _path(shown: str, value: Any) -> str:
    if not _attribute(shown, value).startswith("/"):
        raise ConfigurationError(
            f"{shown}={quoted(value)} does not begin with '/', and browsers would ignore it."
        )
    return str(value)


def check_domain(shown: str, value: Any) -> str | None:
    """Return a cookie's domain; refuse what is no name of a host: browsers drop the cookie."""
    if value is None or value == "":
        return None
    domain = _attribute(shown, value)
    host = re.sub(r"^[a-z]+://(.*@)?", "", domain.strip(), flags=re.IGNORECASE)
    host = re.split(r"[/:?#,\s]", host)[0].lstrip("*.").rstrip(".")
    is_address = bool(re.fullmatch(r"[0-9a-fA-F:]+", domain)) and ":" in domain
    if is_address or _HOST.fullmatch(domain):
        return domain
    is_meant = _HOST.fullmatch(host) and ("." in host or not re.search(r"[,\s]", domain))
    remedy = f"write {host!r}, or leave it out" if is_meant else "leave it out"
    raise ConfigurationError(
        f"{shown}={quoted(value)} is no host name, and browsers would drop the cookie: no scheme, "
        f"port, path, space, comma or wildcard. {remedy[0].upper()}{remedy[1:]}: the cookie is "
        "then for the host that sets it, alone."
    )


def _same_site(shown: str, value: Any) -> Any:
    lower = value.lower() if isinstance(value, str) else value
    if lower not in ("lax", "strict", "none"):
        hint = " ('none' is a text)" if value is None else ""
        raise ConfigurationError(
            f"{shown} is 'lax', 'strict' or 'none', not {quoted(value)}{hint}."
        )
    return lower


def _sources(shown: str, given: Any) -> tuple[Source, ...]:
    several = (given,) if given is None or isinstance(given, Source) else given
    sources = tuple(several) if isinstance(several, Iterable) else (several,)
    for each in sources:
        if each is not None and not isinstance(each, Source):
            raise ConfigurationError(
                f"{shown} must be a source, or several: FlaskSession('redis://…'), for one, from "
                f"sharedsession.adopt, got {quoted(each)}."
            )
    return tuple(each for each in sources if each is not None)


def _flag(shown: str, value: Any, *, or_none: bool = False) -> bool | None:
    if isinstance(value, bool) or (value is None and or_none):
        return value
    said = str(value).lower()
    meant = True if said in _YES | {"true"} else False if said in _NO | {"false"} else None
    remedy = "" if meant is None else f": write {meant}"
    choices = "True, False or None" if or_none else "True or False"
    raise ConfigurationError(f"{shown} is {choices}, not {quoted(value)}{remedy}.")


def _seconds(shown: str, value: Any, least: int | None) -> int | None:
    if value is None:
        return None
    number = whole_seconds(value)
    if number is None or number > LONGEST or (least is not None and number < least):
        bounds = f"up to {LONGEST}" if least is None else f"from {least} to {LONGEST}"
        meant = _seconds_in(value) if isinstance(value, str) else None
        remedy = "" if meant is None else f": write {meant}"
        raise ConfigurationError(
            f"{shown} is a whole number of seconds {bounds}, a timedelta, or None, not "
            f"{quoted(value)}{remedy}."
        )
    return number


def _amount(value: Any) -> float | None:
    """Return a number of seconds, which may have a fraction; None for what is none."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _timeout(shown: str, value: Any) -> float:
    amount = _amount(value)
    if amount is None or not 0 < amount <= LONGEST_CALL:
        long = amount is not None and amount > LONGEST_CALL
        hint = ". How long a session lasts is max_age" if long else ""
        raise ConfigurationError(
            f"{shown} is the number of seconds that the store may take, above 0 and up to "
            f"{LONGEST_CALL}, not {quoted(value)}{hint}."
        )
    return amount


def _stale(shown: str, value: Any) -> float:
    amount = _amount(value)
    if amount is None or not 0 <= amount <= LONGEST:
        raise ConfigurationError(f"{shown} is a number of seconds, 0 or more, not {quoted(value)}.")
    return amount


def _session_keys(shown: str, value: Any) -> tuple[str, ...]:
    names: Any = (value,) if isinstance(value, str) else value
    if isinstance(names, Iterable) and not isinstance(names, bytes | bytearray):
        names = tuple(names)
    if not isinstance(names, tuple) or not all(
        isinstance(name, str) and name.strip() for name in names
    ):
        raise ConfigurationError(
            f"{shown} is the name of a session key, or several, not {quoted(value)}: leave it "
            "out for the usual ones, () is none."
        )
    return names


def _choice(shown: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        listed = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
        raise ConfigurationError(
            f"{shown} is {listed}, not {quoted(value)}{_nearest(value, choices)}."
        )
    return value


def _nearest(value: object, choices: Iterable[str]) -> str:
    near = get_close_matches(str(value).lower(), [*choices], 1, advice.NEAR)
    return f": write {near[0]!r}" if near else ""


def _namespace(shown: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigurationError(f"{shown} is a text without NUL, not {quoted(value)}.")
    if value != value.strip():
        raise ConfigurationError(
            f"{shown} is a text that neither begins nor ends with a space or line break, not "
            f"{quoted(value)}: to another server it is another one without them."
        )
    return value


def _on_outage(shown: str, value: Any) -> Any:
    if isinstance(value, str) or not callable(value):
        if value in POLICIES:
            return value
        raise ConfigurationError(
            f"{shown} is 'error', 'readonly-empty' or a function that returns one of them, not "
            f"{quoted(value)}{_nearest(value, POLICIES)}."
        )
    if inspect.iscoroutinefunction(value):
        raise ConfigurationError(f"{shown} is a function that is not awaited: write def.")
    try:
        inspect.signature(value).bind({}, StoreUnavailable(""))
    except TypeError:
        raise ConfigurationError(
            f"{shown} is a function of two arguments: def {getattr(value, '__name__', 'choose')}"
            "(request, error)."
        ) from None
    except ValueError:  # a callable of C's says nothing
        pass
    return value


def _near_cache(shown: str, given: Any) -> NearCache | None:
    """Return what True, a mapping or nothing stands for."""
    known = [each.name for each in fields(NearCache)]
    wrong: list[str] = []
    match given:
        case None | False:
            return None
        case True:
            return NearCache()
        case NearCache():
            return given
        case Mapping():
            wrong = [str(name) for name in given if name not in known]
            if not wrong:
                return NearCache(**given)
    near = "".join(
        f": write {right!r}" if (right := advice.meant(name)) in known else _nearest(name, known)
        for name in wrong
    )
    raise ConfigurationError(
        f"{shown} is True, False or NearCache({'=…, '.join(known)}=…), in the environment a JSON "
        f"object with these names{f', not {wrong[0]!r}' if wrong else ''}{near}."
    )


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "secret_key": _secret_keys,
    "store": _store,
    "session_cookie": _cookie_name,
    "max_age": partial(_seconds, least=None),
    "absolute_timeout": partial(_seconds, least=1),
    "path": _path,
    "same_site": _same_site,
    "https_only": partial(_flag, or_none=True),
    "domain": check_domain,
    "partitioned": _flag,
    "namespace": _namespace,
    "owner_key": _session_keys,
    "sign_in_names": _session_keys,
    "on_owner_change": partial(_choice, choices=("drop", "keep")),
    "store_timeout": _timeout,
    "on_outage": _on_outage,
    "near_cache": _near_cache,
    "stale_if_error": _stale,
    "replica": _replica,
    "adopt": _sources,
}


# --- settings that demand or forbid each other ----------------------------------------------------


def _check_together(settings: Settings, shown: Mapping[str, str]) -> Settings:
    """Refuse what a browser would drop, and settle `Secure` where something else demands it."""
    if settings.stale_if_error and settings.near_cache is None:
        raise ConfigurationError(
            f"{shown['stale_if_error']} is for the copies of near_cache, which is not set: add "
            "near_cache=True."
        )
    name = settings.session_cookie
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
        return replace(settings, https_only=True)
    return settings
