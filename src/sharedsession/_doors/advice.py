"""What people type in the place of a setting's name, and values that work but may be a mistake.

The names are those of other session packages, whose users move here. A value that is wrong is
refused in `settings`; here is what may be right in a test: it is logged, for people run their
tests with warnings as errors. No sentence shows a secret.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from ipaddress import ip_address
from typing import Final, ParamSpec

P = ParamSpec("P")

PREFIX: Final = "SHAREDSESSION_"
NEAR: Final = 0.7  # how alike two names must be for one to be a misspelling of the other
SHORTEST_KEY: Final = 16  # bytes
LONGEST_COOKIE: Final = 400 * 24 * 60 * 60  # seconds; browsers keep none for longer (RFC 6265bis)
NEW_KEY: Final = "python -c 'import secrets; print(secrets.token_hex(32))' makes one"

# --- names ----------------------------------------------------------------------------------------

# Of Starlette, starsessions, Litestar, Flask, Flask-Session, Django, Beaker, itsdangerous, Express.
_SAID_FOR: Final = {
    "https_only": "secure https cookie_secure cookie_https_only session_cookie_secure ssl ssl_only",
    "same_site": "samesite cookie_samesite cookie_same_site session_cookie_samesite",
    "session_cookie": "cookie_name cookie session_cookie_name name session_name cookie_key",
    "max_age": "expires expire expiry expiration lifetime ttl age cookie_age cookie_max_age "
    "session_max_age session_cookie_age permanent_session_lifetime session_lifetime max_lifetime "
    "idle_timeout session_timeout cookie_expires expire_after remember_for",
    "absolute_timeout": "absolute_lifetime hard_timeout hard_limit",
    "secret_key": "secret secrets secret_keys secretkey signing_key signing_secret session_secret "
    "session_secret_key app_secret validate_key secret_key_fallbacks fallbacks keys",
    "store": "url uri dsn redis_url store_url database_url db db_url database backend "
    "session_backend session_store storage redis redis_client client connection engine cache type "
    "session_type session_redis session_engine data_dir session_url",
    "path": "cookie_path session_cookie_path",
    "domain": "cookie_domain session_cookie_domain",
    "namespace": "prefix key_prefix session_key_prefix salt",
    "owner_key": "user_key user_id_key owner session_user_key",
    "store_timeout": "timeout socket_timeout connect_timeout timeout_seconds",
    "replica": "read_from replica_url read_url read_replica",
    "stale_if_error": "stale_if_outage stale_on_error max_stale",
    "near_cache": "local_cache copies",
    # Of `NearCache`.
    "max_entries": "entries maxsize max_size max_items",
    "max_bytes": "megabytes max_megabytes max_mb max_memory",
    "lease_with_push": "pushed_lease push_lease lease_pushed",
    "partitioned": "chips cookie_partitioned session_cookie_partitioned",
}
_MEANT: Final = {name: setting for setting, said in _SAID_FOR.items() for name in said.split()}
# What has no setting, and why; also where a name may mean several.
_NEEDLESS: Final = {
    **dict.fromkeys(
        ("httponly", "http_only", "cookie_httponly", "cookie_http_only", "session_cookie_httponly"),
        "leave it out, the cookie is always HttpOnly",
    ),
    **dict.fromkeys(
        ("rolling", "refresh_each_request", "session_refresh_each_request", "auto_refresh"),
        "leave it out, a session in use is prolonged by itself",
    ),
    **dict.fromkeys(
        ("permanent", "session_permanent", "expire_at_browser_close"),
        "max_age=None makes a cookie that ends with the browser, a number one that outlives it",
    ),
    **dict.fromkeys(
        ("use_signer", "session_use_signer", "signed", "serializer", "session_serializer"),
        "leave it out, cookies are always signed and data have one format",
    ),
    **dict.fromkeys(
        ("auto", "save_unmodified_session", "save_uninitialized", "resave", "autoload"),
        "leave it out, what was changed is stored by itself",
    ),
    "key": "session_cookie= names the cookie, secret_key= is what signs it",
}


def meant(name: str) -> str | None:
    """Return the setting that another package, or an older draft of this one, calls ``name``."""
    return _MEANT.get(name.lower().replace("-", "_"))


def instead_of(name: str, own: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Return what to do in the place of an argument that does not exist.

    ``own`` are the arguments that there are; ``elsewhere`` says where other settings are made.
    """
    plain = name.lower().replace("-", "_")
    if plain in _NEEDLESS:
        return _NEEDLESS[plain]
    wanted = plain if plain in {*own, *elsewhere} else _MEANT.get(plain)
    if wanted is None:
        near = get_close_matches(plain, [*own, *elsewhere], 1, NEAR)
        wanted = near[0] if near else None
    if wanted is not None and wanted in elsewhere:
        return elsewhere[wanted]
    if wanted is not None and wanted in own:
        return f"write {wanted}="
    return f"there are {', '.join(sorted(own))}"


def refuse_unknown(
    given: Iterable[str], own: Collection[str], elsewhere: Mapping[str, str]
) -> None:
    """Raise a `TypeError` that names the right arguments, where wrong ones are given."""
    sentences = [
        f"There is no argument {name!r} here: {instead_of(name, own, elsewhere)}."
        for name in given
        if name not in own
    ]
    if sentences:
        raise TypeError(" ".join(sentences))


def with_known_arguments(
    elsewhere: Mapping[str, str],
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Let a constructor refuse an argument that it has not, with the name of the right one.

    A decorator, so that its signature stays what it is to people and type checkers.
    """

    def decorate(constructor: Callable[P, None]) -> Callable[P, None]:
        own = [*signature(constructor).parameters][1:]
        arguments = [name for name in own if name != "app"]

        @wraps(constructor)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            refuse_unknown([name for name in kwargs if name not in own], arguments, elsewhere)
            constructor(*args, **kwargs)

        return checked

    return decorate


# What Kubernetes gives to every container beside a service called sharedsession-….
_OF_A_SERVICE: Final = re.compile(r".*(_SERVICE_HOST|_(SERVICE_)?PORT(_.*)?)|(SERVICE|PORT)(_.*)?")


def warn_of_variables(environ: Mapping[str, str], names: Collection[str]) -> None:
    """Warn of each variable that looks like one of ours and is read by nothing."""
    for variable in environ:
        name = variable.removeprefix(PREFIX)
        if name == variable or name.lower() in names or _OF_A_SERVICE.fullmatch(name):
            continue
        said = instead_of(name, names, {})
        right = [f"write {PREFIX}{each.upper()}" for each in names if said == f"write {each}="]
        listed = f"there are {', '.join(PREFIX + each.upper() for each in sorted(names))}"
        advice = listed if said.startswith("there are") else "".join(right) or said
        _warn(f"The environment variable {variable} is read by nothing: {advice}.")


# --- Flask's configuration ------------------------------------------------------------------------

_STORE = "SESSION_STORE is the URL of the store, or a store object"
OTHERS_OPTIONS: Final = {  # of Flask-Session and Flask-KVSession
    "SESSION_TYPE": _STORE,
    "SESSION_REDIS": "SESSION_STORE is the URL of the store, or RedisStore(client)",
    "SESSION_MEMCACHED": "SESSION_STORE is the URL of the store, memcached://host:11211",
    "SESSION_SQLALCHEMY": "SESSION_STORE is the URL of the store, or SQLStore(db.engine)",
    "SESSION_SQLALCHEMY_TABLE": "SQLStore(engine, table) names the table",
    "SESSION_FILE_DIR": "SESSION_STORE='sqlite:///sessions.db' keeps sessions in a file",
    "SESSION_CACHELIB": _STORE,
    "SESSION_MONGODB": _STORE,
    "SESSION_DYNAMODB": _STORE,
    "SESSION_TIMEOUT": "PERMANENT_SESSION_LIFETIME is how long a session lasts, "
    "SESSION_STORE_TIMEOUT how long the store may take",
    "SESSION_PERMANENT": "session.permanent = True makes the cookie outlive the browser",
    "SESSION_USE_SIGNER": "cookies are always signed",
    "SESSION_KEY_PREFIX": "SESSION_NAMESPACE keeps applications on one store apart",
    "SESSION_ID_LENGTH": "an ID has always 256 random bits",
    "SESSION_SID_LENGTH": "an ID has always 256 random bits",
    "SESSION_SERIALIZATION_FORMAT": "data have one format",
    "SESSION_CLEANUP_N_REQUESTS": "expired sessions are removed by themselves",
    "SESSION_KEY_BITS": "an ID has always 256 random bits",
}


def warn_of_options(
    config: Mapping[str, object], names: Mapping[str, str], given: Container[str]
) -> None:
    """Warn of each option of another session extension, and of each one that is misspelt.

    ``names`` are the options that there are, by the names of the settings; ``given`` are those
    whose setting was made: another name for one of them may be the application's own.
    """
    for option in config:
        if isinstance(option, str) and option not in names.values():
            right = _option(option, names, given)
            said = OTHERS_OPTIONS.get(option) or (right and f"{right} is")
            if said:
                _warn(f"app.config[{option!r}] is read by nothing here: {said}. Remove it.")


def _option(written: str, names: Mapping[str, str], given: Container[str]) -> str | None:
    """Return the option that another name, which nothing reads, was meant to be."""
    if not written.startswith(("SESSION_", "PERMANENT_SESSION_")):
        return None
    plain = written.lower()
    for each in (plain, plain.removeprefix("session_"), plain.removeprefix("session_cookie_")):
        if each in _MEANT:
            right = names[_MEANT[each]]
            return None if right in given else right
    for near in get_close_matches(written, names.values(), 1, 0.85):
        is_own = near in given and written.startswith(f"{near}_")
        return None if is_own else near
    return None


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=4)


# --- values ---------------------------------------------------------------------------------------

# Only their letters and digits, in lower case.
_WELL_KNOWN: Final = frozenset(
    (
        *"secret secretkey mysecret mysecretkey supersecret supersecretkey topsecret".split(),
        *"verysecret verysecretkey averysecretkey thesecretkey asecretkey somesecret".split(),
        *"yoursecret yoursecretkey yoursecretkeyhere notsosecret keepitsecret".split(),
        *"changeme changethis pleasechangeme replaceme todo fixme insecure".split(),
        *"dev devkey development developmentkey debug local test testing testkey demo".split(),
        *"example key password passwd admin default hackme foobar random none null".split(),
        *"secretpassword somerandomstring arandomstring randomstring arandomvalue".split(),
        *"alongrandomvalue alongrandomstring randomvalue hardtoguessstring".split(),
        *"youwillneverguess thisisasecret thisisasecretkey thisshouldbeconfigured".split(),
        *"everybodyknowsthisone abc abc123 123456 12345678 1234567890 keyboardcat".split(),
        # Printed in the documentation of Flask, of FastAPI, and in a much-watched course on Flask.
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "5791628bb0b13ce0c676dfde280ba245",
        *"a0zr98j3yxrxhhjmnlwxrt 5y2lf4q8z 5y2lf4q8znxec".split(),
    )
)
_PLACEHOLDER: Final = re.compile(
    r"\$\{.*\}|\$\w+|\{\{.*\}\}|<.*>|%\w+%|%\(\w+\)s|.*change[ _-]?(me|this).*|django-insecure-.*"
    r"|.*replace[ _-]?(me|this).*|.*your[ _-]?(\w+[ _-])?secret.*|.*super[ _-]?secret.*",
    re.IGNORECASE | re.DOTALL,
)


def weakness(key: bytes) -> str | None:
    """Return what makes a key easy to guess: it is well known, short, or of a few characters.

    Or it is no key, but where one is kept.
    """
    text = key.decode(errors="replace").strip()
    if re.match(r"[a-z0-9+]+://", text):
        return "is a URL, which may be the store's,"
    if re.match(r"(/run|/var|/etc|/secrets|\.|\.\.|~)/", text):
        return "is the name of a file, not what it holds,"
    if re.sub(r"[^a-z0-9]", "", text.lower()) in _WELL_KNOWN or _PLACEHOLDER.fullmatch(text):
        return "is a well-known one"
    if len(key) < SHORTEST_KEY:
        return f"is shorter than {SHORTEST_KEY} bytes"
    if len(set(key)) < 5:
        return "repeats a few characters"
    return None


def about_keys(keys: Collection[bytes]) -> Iterator[str]:
    """Yield a sentence on each key that is no secret, and on keys that are not what they seem."""
    for number, key in enumerate(keys, 1):
        which = "The secret key" if len(keys) == 1 else f"Secret key {number} of {len(keys)}"
        if reason := weakness(key):
            yield (
                f"{which} {reason}, so others can sign cookies: before going live take a long "
                f"random value, the same on every server ({NEW_KEY})."
            )
        # Other characters are those of a password, of which a comma may be one.
        if re.fullmatch(rb"[\w+/=-]+(, ?[\w+/=-]+)+", key):
            yield (
                f"{which} holds a comma and counts as one key. If it was to be several, pass a "
                'list; in the environment a JSON array, \'["new", "old"]\'.'
            )
    if len({*keys}) < len(keys):
        yield "The list of secret keys holds one key twice: was one of them to be another?"


def about_domain(domain: str | None) -> Iterator[str]:
    """Yield a sentence on a domain that browsers take for one host only, or not at all."""
    if domain is None:
        return
    host = domain.strip(".")
    try:
        ip_address(host)
        what = "an IP address"
    except ValueError:
        what = "" if "." in host else "a name without a dot"
    if what:
        yield (
            f"The cookie's domain {domain!r} is {what}, which browsers accept for that very host "
            "or not at all: leave it out, and the cookie is for the host that sets it."
        )


def about_lifetime(seconds: int | None) -> Iterator[str]:
    """Yield a sentence on a lifetime that no cookie can have."""
    if seconds is not None and seconds > LONGEST_COOKIE:
        yield (
            f"max_age is {seconds} seconds, which are {seconds // 86400} days; browsers keep a "
            "cookie for 400 days at most. It is not in milliseconds."
        )


def about_names(names: Iterable[str], usual: Collection[str]) -> Iterator[str]:
    """Yield a sentence on each owner key that looks like a way into a value."""
    for name in names:
        if name not in usual and re.search(r"[.\[\]]", name):
            yield (
                f"owner_key {name!r} is the key session[{name!r}] itself, not a value inside "
                "another: name a key of the session whose value says who is signed in."
            )
