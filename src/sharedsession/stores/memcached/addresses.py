"""What Memcached servers are called, in URLs and in the ring."""

from __future__ import annotations

from ...exceptions import ConfigurationError
from .._support.addresses import host_and_port, take_apart, unknown_option

PREFIX = "sharedsession:"
PORT = 11211
FORM = "memcached://host1:11211,host2:11211?prefix=…, or memcached:///run/memcached.sock"
Address = tuple[str, int] | str  # host and port, or the path of a socket


def parse(url: str) -> tuple[list[str], str]:
    """Return the names of the servers and the prefix that a URL has; it may not be quoted."""
    parts = take_apart(url, form=FORM, blank=["prefix"])
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"A Memcached URL has no user and no password: {FORM}.")
    for name in parts.options:
        if name != "prefix":
            unknown_option(name, ["prefix"], "A Memcached URL")
    if bool(parts.hosts) == (parts.path not in ("", "/")):
        raise ConfigurationError(f"A Memcached URL names servers, or one socket: {FORM}.")
    servers = [normal(name) for name in parts.hosts.split(",")] if parts.hosts else [parts.path]
    return servers, parts.options.get("prefix", PREFIX)


def normal(name: str) -> str:
    """Return a server's name as it stands in the ring: with its port, in small letters."""
    if name.startswith("/"):
        return name
    if set(name) & set("/?#"):
        raise ConfigurationError(
            "A Memcached server is named as host, host:11211 or [::1]:11211, several in a list."
        )
    host, port = host_and_port(name, PORT, form=FORM)
    return name_of((host.lower(), port))


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
