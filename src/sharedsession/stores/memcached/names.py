"""What Memcached servers are called, in URLs and in the ring."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from ...exceptions import ConfigurationError

PREFIX = "sharedsession:"
PORT = 11211
Address = tuple[str, int] | str  # host and port, or the path of a socket


def parse(url: str) -> tuple[list[str], str]:
    """Return the names of the servers and the prefix that a URL has; it may not be quoted."""
    form = "memcached://host1:11211,host2:11211 is its form, or memcached:///run/memcached.sock"
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        options, parts = {"": ""}, urlsplit("memcached://")
    prefix = options.pop("prefix", PREFIX)
    if options or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"The Memcached URL cannot be read: {form}, either with ?prefix=… and nothing else."
        )
    path = unquote(parts.path)
    if bool(parts.netloc) == (path not in ("", "/")):
        raise ConfigurationError(f"A Memcached URL names servers, or one socket: {form}.")
    return [normal(name) for name in parts.netloc.split(",")] if parts.netloc else [path], prefix


def normal(name: str) -> str:
    """Return a server's name as it stands in the ring: with its port, in small letters."""
    if name.startswith("/"):
        return name
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
    except ValueError:
        host, port = "", 0
    if not host or not port or name.endswith(":") or set(name) & set("/@?# "):
        raise ConfigurationError(
            "A Memcached server is named as host, host:11211 or [::1]:11211, several in a list."
        )
    return name_of((host, port))


def name_of(server: Address) -> str:
    """Return the name of an address; IPv6 stands in brackets."""
    if isinstance(server, str):
        return server
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


def address_of(name: str) -> Address:
    """Return where a server of that name is."""
    if name.startswith("/"):
        return name
    host, _, port = name.rpartition(":")
    return host.strip("[]"), int(port)
