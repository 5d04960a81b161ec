"""How the URLs of stores are taken apart: hosts, logins and options, with the errors of each.

`urllib.parse.urlsplit` is of no use: it refuses a list of hosts in which IPv6 comes after a name,
drops a fragment, and takes the first of two options. No sentence here quotes a URL: what looks like
a port or an option may be half a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv6Address
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

from ...exceptions import ConfigurationError

ENCODED = "In a password write %2F, %23, %3F and %40 for / # ? and @."


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in its parts, which are decoded but for ``hosts``."""

    username: str | None
    password: str | None
    hosts: str
    path: str
    options: dict[str, str]


def take_apart(url: str, *, form: str, blank: Collection[str] = ()) -> Address:
    """Return the parts of a URL; ``form`` is an example of one, for the errors.

    Options that are named in ``blank`` may be empty.

    Raises:
        ConfigurationError: the URL has a fragment, an option twice or without a value, or something
            that looks like a password whose characters were not encoded.
    """
    rest = url.partition("://")[2]
    netloc, after = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    before, has_fragment, _ = after.partition("#")
    path, _, query = before.partition("?")
    login, at, hosts = netloc.rpartition("@")
    bare = any("=" not in part for part in query.split("&") if part)
    if has_fragment or bare or (not at and "@" in after and netloc):
        raise ConfigurationError(f"The URL cannot be read: {form} is its form. {ENCODED}")
    name, colon, password = login.partition(":")
    return Address(
        unquote(name) or None if at else None,
        unquote(password) if colon else None,
        hosts,
        unquote(path),
        options_of(parse_qsl(query, keep_blank_values=True), form, blank),
    )


def options_of(
    pairs: Iterable[tuple[str, str]], form: str, blank: Collection[str] = ()
) -> dict[str, str]:
    """Return options by their names; refuse one that stands twice, or without a value."""
    options: dict[str, str] = {}
    for name, value in pairs:
        if not re.fullmatch(r"[\w-]+", name):
            raise ConfigurationError(f"The URL cannot be read: {form} is its form. {ENCODED}")
        if name in options:
            raise ConfigurationError(f"The URL has the option {name} twice: leave one out.")
        if not value and name not in blank:
            raise ConfigurationError(f"The option {name} of the URL has no value: …?{name}=….")
        options[name] = value
    return options


def host_and_port(text: str, port: int, *, form: str) -> tuple[str, int]:
    """Return one host of a URL and its port, by default ``port``.

    Raises:
        ConfigurationError: it is empty, has a port that is no number from 1 to 65535, or is an IPv6
            address without brackets.
    """
    host, given = text, None
    if text.startswith("["):
        host, closed, given = text[1:].partition("]")
        if not closed or (given and not given.startswith(":")) or not _is_ipv6(host):
            raise ConfigurationError(
                f"In brackets stands an IPv6 address, as in [::1]:{port}: {form} is a URL's form. "
                f"{ENCODED}"
            )
        given = given[1:] if given else None
    elif text.count(":") > 1 and re.fullmatch(r"[0-9A-Fa-f:.]+(%\w+)?", text):
        raise ConfigurationError(
            f"An IPv6 address stands in brackets in a URL, as in [::1]:{port}: {form} is its form."
        )
    elif ":" in text:
        host, _, given = text.partition(":")
    if not host or set(host) & set("@[] \t\n"):
        raise ConfigurationError(
            f"The URL names no host, or an empty one: {form} is its form. {ENCODED}"
        )
    if given is None:
        return host, port
    if not (given.isascii() and given.isdecimal() and 0 < int(given) < 65536):
        raise ConfigurationError(
            f"A port in the URL is not a number from 1 to 65535: {form} is its form. {ENCODED}"
        )
    return host, int(given)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """Return a host as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def unknown_option(name: str, known: Collection[str], of: str) -> NoReturn:
    """Refuse an option that a URL cannot have, and name the nearest that it can.

    ``of``: whose options they are, as "a Redis URL".
    """
    close = get_close_matches(name, known, 1, 0.6)
    hint = f" Is {close[0]!r} meant?" if close else ""
    raise ConfigurationError(f"{of} has no option that is called {name!r}.{hint}")
