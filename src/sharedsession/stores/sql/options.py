"""The options of a database's URL, for both drivers that one URL stands for.

Each driver has its own names, refuses those of the other, and some only when it connects, so a URL
is read here when the store is made: what is usual is translated, TLS above all, and the rest is
refused. Limits of time are left out, because the store's own timeout counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ...exceptions import ConfigurationError
from .._support.addresses import options_of, unknown_option

Dict = dict[str, Any]  # Any: keyword arguments of many types
TIMES = frozenset("connect_timeout timeout read_timeout write_timeout command_timeout".split())

# --- PostgreSQL: libpq's names, which asyncpg reads from a DSN where it has the same --------------

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
IN_A_DSN = frozenset(
    "sslmode sslcert sslkey sslpassword sslrootcert sslcrl ssl_min_protocol_version "
    "ssl_max_protocol_version target_session_attrs passfile service krbsrvname gsslib".split()
)
OF_LIBPQ = IN_A_DSN | frozenset(
    "application_name fallback_application_name options channel_binding client_encoding hostaddr "
    "keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout "
    "sslnegotiation sslcompression sslcertmode sslcrldir sslsni requirepeer require_auth "
    "min_protocol_version max_protocol_version gssencmode gssdelegation load_balance_hosts".split()
)
OF_ASYNCPG = frozenset(  # numbers, all of them; psycopg prepares nothing here
    "prepared_statement_cache_size statement_cache_size max_cached_statement_lifetime "
    "max_cacheable_statement_size".split()
)
FILES = frozenset(
    "sslcert sslkey sslrootcert sslcrl passfile ssl_ca ssl_cert ssl_key read_default_file".split()
)
STORES_OWN = {  # and why
    "init_command": "the store uses it for settings of its own",
    "sql_mode": "the store sets the strict one",
    "autocommit": "the store's calls commit by themselves",
    "isolation_level": "the store's calls commit by themselves",
}


def of_postgresql(options: Mapping[str, str], scheme: str, driver: str) -> Dict:
    """Return the arguments that a URL's options are for psycopg or for asyncpg."""
    asyncpg_too = scheme.endswith("+asyncpg")
    known = OF_LIBPQ | TIMES | {"ssl"} | (OF_ASYNCPG if asyncpg_too else frozenset())
    _check(options, known, f"A {scheme}:// URL")
    given = {name: value for name, value in options.items() if name not in TIMES}
    numbers = {name: _number(name, given.pop(name)) for name in OF_ASYNCPG & given.keys()}
    if "ssl" in given:
        if "sslmode" in given:
            raise ConfigurationError("The URL has both ssl and sslmode, which are one: choose one.")
        given["sslmode"] = given.pop("ssl")
    if given.get("sslmode", "disable") not in SSL_MODES:
        raise ConfigurationError(f"sslmode (or ssl) is one of: {', '.join(SSL_MODES)}.")
    if not asyncpg_too:
        return given
    for name in sorted(given.keys() - IN_A_DSN - {"application_name", "options"}):
        raise ConfigurationError(
            f"asyncpg has nothing like {name}: take it out of the URL, or use psycopg, by "
            "postgresql://…."
        )
    if driver == "psycopg":
        return given
    settings = {name: given[name] for name in ("application_name", "options") if name in given}
    in_dsn = {name: value for name, value in given.items() if name not in settings}
    dsn = {"dsn": f"postgresql://?{urlencode(in_dsn)}"} if in_dsn else {}
    return {**numbers, **dsn, "server_settings": settings}


# --- MySQL and MariaDB: what PyMySQL and asyncmy both take ----------------------------------------

TLS = frozenset(
    "ssl_ca ssl_capath ssl_cert ssl_key ssl_key_password ssl_cipher ssl_check_hostname "
    "ssl_verify_cert ssl_verify_identity ssl_disabled ssl_mode ssl".split()
)
FLAGS = frozenset("ssl ssl_disabled ssl_check_hostname ssl_verify_cert ssl_verify_identity".split())
TLS_MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
OF_MYSQL = TLS | frozenset(
    "charset use_unicode unix_socket read_default_file read_default_group program_name "
    "client_flag local_infile max_allowed_packet".split()
)


def of_mysql(options: Mapping[str, str], scheme: str, driver: str) -> Dict:
    """Return the arguments that a URL's options are for PyMySQL or for asyncmy.

    Those for TLS become one, ``ssl``, as `mysql.context` reads it.
    """
    modes = dict.fromkeys(["ssl-mode", "sslmode"], "ssl_mode")
    plain = options_of([(modes.get(name, name), options[name]) for name in options], scheme)
    _check(plain, OF_MYSQL | TIMES, f"A {scheme}:// URL")
    given: Dict = {name: value for name, value in plain.items() if name not in TIMES | TLS}
    for name in ("client_flag", "max_allowed_packet"):
        if name in given:
            given[name] = _number(name, given[name])
    for name in ("use_unicode", "local_infile"):
        if name in given:
            given[name] = _flag(name, given[name])
    tls = _tls({name: value for name, value in plain.items() if name in TLS})
    if tls is not None:
        given["ssl"] = tls
    elif driver == "pymysql" and TLS & plain.keys():  # asyncmy uses none unless it is told to
        given["ssl_disabled"] = True
    return given


def _tls(options: Dict) -> Dict | None:
    """Return what TLS is to be like; None where it is not to be used, or nothing is said."""
    flags = {name: _flag(name, options.pop(name)) for name in sorted(options) if name in FLAGS}
    mode = str(options.pop("ssl_mode", "")).upper().replace("-", "_")
    if mode and mode not in TLS_MODES:
        raise ConfigurationError(f"ssl_mode is one of: {', '.join(TLS_MODES)}.")
    off = mode == "DISABLED" or flags.get("ssl_disabled") or flags.get("ssl") is False
    others = {name for name, value in flags.items() if value and name != "ssl_disabled"}
    if off:
        if options or others or mode not in ("", "DISABLED"):
            raise ConfigurationError(
                "The URL both asks for TLS and turns it off: leave one of the options out."
            )
        return None
    if not (options or mode or flags.keys() - {"ssl_disabled"}):
        return None  # ssl_disabled=false says nothing
    authority = "ssl_ca" in options or "ssl_capath" in options
    verified = mode.startswith("VERIFY") or flags.get("ssl_verify_identity")
    verified = bool(verified or flags.get("ssl_verify_cert", authority))
    named = mode != "VERIFY_CA" and verified
    for name in ("ssl_check_hostname", "ssl_verify_identity"):
        named = flags.get(name, named)
    if named and not verified:
        raise ConfigurationError(
            "ssl_check_hostname compares the name in a certificate that is verified: add "
            "ssl_ca=…, or ssl_verify_cert=true for an authority that the system knows."
        )
    parts = {name.removeprefix("ssl_"): value for name, value in options.items()}
    return {**parts, "verify": verified, "check_hostname": named}


# --- SQLite ---------------------------------------------------------------------------------------

OF_SQLITE = frozenset("timeout uri cached_statements".split())
IN_A_URI = frozenset("mode cache psow nolock immutable vfs modeof".split())


def of_sqlite(options: Mapping[str, str]) -> None:
    """Refuse options of a SQLite file that are not known, or would not count."""
    is_uri = _flag("uri", options.get("uri", "false"))
    _check(options, OF_SQLITE | IN_A_URI, "A sqlite:// URL")
    _number("cached_statements", options.get("cached_statements", "1"))
    for name in sorted(IN_A_URI & options.keys()) if not is_uri else ():
        raise ConfigurationError(
            f"{name} is an option of SQLite's own URIs: sqlite:///file:sessions.db?uri=true&{name}=…"
        )


# --- what all have --------------------------------------------------------------------------------


def _check(options: Mapping[str, str], known: frozenset[str], of: str) -> None:
    for name, value in options.items():
        if name in STORES_OWN:
            raise ConfigurationError(f"Take {name} out of the URL: {STORES_OWN[name]}.")
        if name not in known:
            unknown_option(name, known, of)
        if name in FILES and value != "system" and not Path(value).expanduser().exists():
            raise ConfigurationError(f"The file that {name} names in the URL is not there.")


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f"{name} in the URL is a number.")
    return int(text)


def _flag(name: str, text: str) -> bool:
    flags = {"true": True, "1": True, "yes": True, "on": True}
    flags |= {"false": False, "0": False, "no": False, "off": False}
    if text.lower() not in flags:
        raise ConfigurationError(f"{name} in the URL is true or false.")
    return flags[text.lower()]
