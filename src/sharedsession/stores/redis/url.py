"""From a URL to what it says: which servers of Redis or Valkey, and how to talk to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import redis
import redis.asyncio.connection
import redis.connection

from ...exceptions import ConfigurationError
from .._support.addresses import (
    ENCODED,
    Address,
    host_and_port,
    in_url,
    take_apart,
    unknown_option,
)

OURS = ("wait_replicas", "sentinel_username", "sentinel_password")
PORTS = {"sentinel": 26379, "cluster": 6379}
FORMS = {
    "single": "redis://user:password@host:6379/0",
    "sentinel": "redis+sentinel://user:password@host1:26379,host2:26379/service/0",
    "cluster": "redis+cluster://user:password@host1:6379,host2:6379",
}

library: Any = redis  # as it is called here: most of it carries no annotations
Options = dict[str, Any]  # Any: keyword arguments of many types


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says: which servers, and how to talk to them."""

    kind: str  # "single", "sentinel" or "cluster"
    url: str  # one that redis-py reads; of several hosts it names the first
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: Options = field(default_factory=dict)  # of a connection, as redis-py reads the URL
    sentinel_options: Options = field(default_factory=dict)
    wait_replicas: int = 0

    @property
    def is_encrypted(self) -> bool:
        """Whether its connections are made with TLS."""
        return self.url.startswith("rediss:")

    @property
    def names(self) -> list[str]:
        """The hosts that are named, or the path of the socket."""
        if self.hosts:
            return [host for host, _ in self.hosts]
        return [self.options.get("path") or self.options.get("host", "localhost")]

    @property
    def name(self) -> str:
        """The place in a sentence, without a password."""
        if self.kind == "single":
            return describe(self.options)
        hosts = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        if self.kind == "sentinel":
            return f"Redis service {self.service!r} of the sentinels {hosts}"
        return f"Redis Cluster at {hosts}"


def describe(options: Options) -> str:
    """Name a single server by the options of its connections."""
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis at {where}"


KNOWN = frozenset(
    "username password db client_name max_connections timeout socket_timeout "
    "socket_connect_timeout socket_keepalive socket_read_size health_check_interval "
    "retry_on_timeout protocol encoding encoding_errors decode_responses lib_name lib_version "
    "ssl_keyfile ssl_certfile ssl_password ssl_cert_reqs ssl_ca_certs ssl_ca_path ssl_ca_data "
    "ssl_check_hostname ssl_min_version ssl_ciphers ssl_include_verify_flags "
    "ssl_exclude_verify_flags".split()
)


def read_url(url: str) -> Place:
    """Read a URL, and refuse now what redis-py would ignore, or refuse at the first request."""
    scheme, _, rest = url.partition("://")
    scheme, _, kind = scheme.lower().partition("+")
    kind = kind or "single"
    form = "unix:///run/redis.sock?db=0" if scheme == "unix" else FORMS[kind]
    parts = take_apart(f"{scheme}://{rest}", form=form, blank=OURS)
    _check_options(scheme, kind, parts.options)
    try:
        place = _read(scheme, kind, parts, form)
        pool = library.BlockingConnectionPool(**place.options)
        pool.connection_class(**pool.connection_kwargs)
        connection_class(place, asynchronous=True)(**pool.connection_kwargs)
    except TypeError as error:
        option = str(error).rpartition("argument ")[2]
        raise ConfigurationError(
            f"This version of redis-py does not know an option of the URL: {option}."
        ) from None
    except (ValueError, redis.RedisError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"An option of the Redis URL has a value that cannot be read ({error})."
        ) from None
    if place.options.get("max_connections", 1) < 1:
        raise ConfigurationError(
            "max_connections in the Redis URL must be at least 1, got "
            f"{place.options['max_connections']}."
        )
    if place.options.get("decode_responses"):
        raise ConfigurationError(decodes("The store of this URL"))
    return place


def _check_options(scheme: str, kind: str, options: dict[str, str]) -> None:
    for name in options:
        if name not in KNOWN and name not in OURS:
            unknown_option(name, KNOWN.union(OURS), "A Redis URL")
        if name.startswith("ssl_") and scheme != "rediss":
            raise ConfigurationError(f"{name} is for TLS, which the URL asks for by rediss://.")
        if name in OURS[1:] and kind != "sentinel":
            raise ConfigurationError("Only a redis+sentinel:// URL has a password for sentinels.")


def _read(scheme: str, kind: str, parts: Address, form: str) -> Place:
    hosts: tuple[tuple[str, int], ...] = ()
    service, database = "", parts.path.strip("/")
    login = "" if parts.username is None else quote(parts.username, safe="")
    login += "" if parts.password is None else ":" + quote(parts.password, safe="")
    if scheme == "unix":
        if not database or parts.hosts:
            raise ConfigurationError(f"A unix:// URL names a socket after three slashes: {form}.")
        path, database = quote(parts.path), ""
        where = ""
    else:
        if kind == "single" and "," in parts.hosts:
            raise ConfigurationError(
                "A list of hosts is one of Sentinels or of a cluster's nodes: "
                f"{FORMS['sentinel']}, or {FORMS['cluster']}."
            )
        names = parts.hosts.split(",") if parts.hosts or kind != "single" else ["localhost"]
        hosts = tuple(host_and_port(name, PORTS.get(kind, 6379), form=form) for name in names)
        service, database = _service_of(kind, parts.path)
        where, path = f"{in_url(hosts[0][0])}:{hosts[0][1]}", f"/{database}"
    if database and not (database.isascii() and database.isdecimal()):
        raise ConfigurationError(
            f"The path of a Redis URL is the number of a database: …:6379/0. {ENCODED}"
        )
    if database and "db" in parts.options:
        raise ConfigurationError("The URL has the number of a database twice: leave out ?db=….")
    if kind == "cluster" and int(database or parts.options.get("db", "0") or 0):
        raise ConfigurationError("A Redis Cluster has no databases: the URL ends after the hosts.")
    own = {name: value for name, value in parts.options.items() if name in OURS}
    query = urlencode({name: parts.options[name] for name in parts.options if name not in OURS})
    at = "@" if login else ""
    url = f"{scheme}://{login}{at}{where}{path}?{query}"
    options = library.connection.parse_url(url)
    if scheme == "rediss":  # redis-py 5 does not look at the name in a certificate unless told to
        options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs") != "none")
    sentinel = {name.partition("_")[2]: own[name] for name in OURS[1:] if name in own}
    sentinel |= {name: options[name] for name in options if name.startswith("ssl_")}
    wait_replicas = replicas(own.get("wait_replicas", "0"))
    return Place(kind, url, hosts, service, options, sentinel, wait_replicas)


def connection_class(place: Place, *, asynchronous: bool = False) -> Any:  # a type, not annotated
    """Return redis-py's class of connections for the place."""
    kind: Any = place.options.get("connection_class", library.Connection)
    return getattr(redis.asyncio.connection, kind.__name__) if asynchronous else kind


def decodes(store: str) -> str:
    """Say what is wrong with a client that decodes."""
    return (
        f"{store} keeps bytes, and this client decodes what it reads as text: make it without "
        "decode_responses=True."
    )


def replicas(number: str | int) -> int:
    """Return ``wait_replicas`` as a number; refuse what is none."""
    if not str(number).isdecimal():
        raise ConfigurationError(
            "wait_replicas is the number of replicas that must confirm each write: 0, 1, 2, …"
        )
    return int(number)


def _service_of(kind: str, path: str) -> tuple[str, str]:
    names = path.strip("/").split("/")
    if kind != "sentinel":
        return "", "/".join(names)
    if not names[0] or len(names) > 2:
        raise ConfigurationError(
            "A redis+sentinel:// URL names the service after its hosts: "
            "redis+sentinel://host1:26379,host2:26379/service, or …/service/0 with a database."
        )
    return names[0], names[1] if len(names) > 1 else ""
