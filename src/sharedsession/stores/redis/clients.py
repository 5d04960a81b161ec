"""From a URL to clients of Redis or Valkey, and which clients of the user's own will do.

A client made here repeats a command once when its connection broke, so that a server's restart
goes unnoticed, and never one that ran into a timeout. Every wait of a sync client, for a
connection, a sentinel, a node or an answer, ends by one deadline for the whole call (`within`).
Each new connection to the primary of a Sentinel service is made to whom the sentinels name at that
moment, and is asked whether it is the primary.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import queue
import ssl
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlencode

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.connection
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

try:
    from hiredis import pack_command
except ImportError:  # an extra of redis-py's, redis[hiredis]
    pack_command = None  # type: ignore[assignment]

from ...exceptions import ConfigurationError
from .._support.addresses import (
    ENCODED,
    Address,
    host_and_port,
    in_url,
    take_apart,
    unknown_option,
)
from .._support.deadline import alook_up, bounded, deadline, look_up

CONNECTIONS = 64
TICKETS = 3  # that a server sends after a handshake, at most; OpenSSL sends two
SENTINEL_SHARE = 5  # a sentinel that hangs may cost this fraction of the timeout
OURS = ("wait_replicas", "sentinel_username", "sentinel_password")
PORTS = {"sentinel": 26379, "cluster": 6379}
FORMS = {
    "single": "redis://user:password@host:6379/0",
    "sentinel": "redis+sentinel://user:password@host1:26379,host2:26379/service/0",
    "cluster": "redis+cluster://user:password@host1:6379,host2:6379",
}

library: Any = redis  # as it is called here: most of it carries no annotations
SyncClient = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
CLUSTERS = (redis.RedisCluster, redis.asyncio.RedisCluster)
Options = dict[str, Any]  # Any: keyword arguments of many types


# --- the URL --------------------------------------------------------------------------------------


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
        connection_of(place, asynchronous=True)(
            **{**_of_connection(pool.connection_kwargs), **_pool_of(kind)}
        )
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
    if place.options.get("decode_responses"):
        raise ConfigurationError(_decodes("The store of this URL"))
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


def _pool_of(kind: str) -> Options:
    """Return what a connection to the primary of a service is made with, to be looked at only."""
    return {"connection_pool": None} if kind == "sentinel" else {}


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


# --- sync clients ---------------------------------------------------------------------------------


class _Bounded(redis.connection.AbstractConnection):
    """A connection whose every wait ends by the deadline of the call that uses it."""

    longest: float  # that a single wait may take

    def _left(self) -> float:
        return max(0.001, min(self.longest, deadline.left()))

    def _bind(self) -> None:
        if self._sock is not None:
            self._sock.settimeout(self._left())

    # Looked at for each address of a name, of which there may be several.
    socket_connect_timeout = socket_timeout = property(_left, lambda *_: None)

    def _connect(self) -> Any:  # a socket, as redis-py makes it
        host, port = getattr(self, "host", None), getattr(self, "port", 0)
        connect: Callable[[], Any] = super()._connect  # type: ignore[safe-super]
        try:
            if host:
                look_up(host, port, self._left())
            # It looks the name up again, and tries each of its addresses.
            return bounded(self._left(), connect, lambda late: late.close())
        except TimeoutError as error:
            raise redis.TimeoutError(str(error)) from None

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        if self._sock is None:
            self.connect()  # type: ignore[no-untyped-call]  # where there are sentinels, asks them
        self._bind()
        super().send_packed_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def can_read(self, timeout: float = 0) -> bool:
        """Say whether there is data that no command asked for; the tickets of TLS are none.

        Of such data the first byte is taken, for the connection is of no use. With a timeout a
        listener asks, and will read it.
        """
        if timeout:
            return bool(super().can_read(timeout))
        for _ in range(TICKETS + 1):
            if not super().can_read():
                return False
            if not isinstance(self._sock, ssl.SSLSocket):
                return True
            self._sock.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                self._sock.recv(1)
                return True
        return True

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._bind()
        return super().read_response(*arguments, **options)


@functools.cache
def keeping(kind: Any, longest: float) -> Any:
    """Return the class of connections of that kind that keep to the deadline."""
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {"longest": longest})


def make_client(place: Place, timeout: float) -> SyncClient:
    """Return a client of the place; for a cluster, this asks its nodes who has what."""
    options = {**_settings(redis.retry.Retry, timeout), **_of_connection(place.options)}
    options["connection_class"] = keeping(cast(Any, connection_of(place)), timeout / 2)
    if place.kind == "single":
        return redis.Redis.from_pool(library.BlockingConnectionPool(**options))
    if place.kind == "sentinel":
        return redis.Redis.from_pool(_SentinelPool(place, timeout, **options))
    for given in ("host", "port", "retry", "db"):
        options.pop(given, None)
    pool = functools.partial(redis.BlockingConnectionPool, **options)
    first, *others = [library.cluster.ClusterNode(*host) for host in place.hosts]
    return redis.RedisCluster(
        url=f"redis://{in_url(first.host)}:{first.port}",
        startup_nodes=others,
        retry=redis.retry.Retry(NoBackoff(), 0),
        require_full_coverage=False,
        connection_pool_class=pool,
        protocol=2,
    )


class _SentinelPool(redis.BlockingConnectionPool):
    """A pool of connections to the primary of a service; redis-py's own does not wait."""

    def __init__(self, place: Place, limit: float, **options: Any) -> None:
        for given in ("host", "port"):
            options.pop(given, None)
        options["redis_connect_func"] = _check_role
        super().__init__(connection_pool=self, **options)  # type: ignore[no-untyped-call]
        self.is_master, self.check_connection = True, False  # what a connection asks of its pool
        self.service_name = place.service
        self._address: tuple[str, int] | None = None
        self._sentinels: list[Any] = [
            redis.Redis.from_pool(redis.ConnectionPool(**each))
            for each in _sentinels(place, limit, redis.retry.Retry)
        ]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(service={self.service_name!r})>"

    def get_master_address(self) -> tuple[str, int]:
        """Ask the sentinels; when it is another one than before, give up what is idle."""
        address = self._ask()
        if address != self._address:
            self._address = address
            drop_idle(self)
        return address

    def _ask(self) -> tuple[str, int]:
        reason = ""
        for sentinel in list(self._sentinels):
            try:
                address = _healthy(sentinel.sentinel_masters().get(self.service_name))
            except _UNHEARD as error:
                reason = f": {error}"
                continue
            if address is not None:
                # The next connection begins with the one that answered.
                self._sentinels.sort(key=lambda each: each is not sentinel)
                return address
        raise redis.ConnectionError(_NO_PRIMARY + reason)

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(*([inuse_connections] if IDLE_ALONE else []))
        for sentinel in self._sentinels if inuse_connections else []:
            sentinel.close()


_disconnect = inspect.signature(redis.BlockingConnectionPool.disconnect)
IDLE_ALONE = "inuse_connections" in _disconnect.parameters  # not in redis-py 5


def drop_idle(pool: Any) -> None:
    """Close the connections of a pool that no caller uses."""
    if IDLE_ALONE or not isinstance(pool, redis.BlockingConnectionPool):
        pool.disconnect(inuse_connections=False)
        return
    idle = []
    with contextlib.suppress(queue.Empty):
        while True:
            idle.append(pool.pool.get_nowait())
    for connection in reversed(idle):
        if connection is not None:
            connection.disconnect()
        pool.pool.put_nowait(connection)


def _check_role(connection: Any) -> None:
    connection.on_connect()
    connection.send_command("ROLE")
    try:
        role = connection.read_response()
    except redis.ResponseError:
        return  # this user may not ask
    if role[0] not in ("master", b"master"):
        raise redis.ConnectionError(_NOT_PRIMARY)


def _healthy(state: Any) -> tuple[str, int] | None:
    """Return the address of a primary of which its sentinel thinks well."""
    if not state or not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        return None
    return state["ip"], state["port"]


_UNHEARD = (redis.RedisError, OSError)
_NO_PRIMARY = "no sentinel that answers knows a primary of that name"
_NOT_PRIMARY = "whom the sentinels named is a replica"


# --- async clients --------------------------------------------------------------------------------


def make_async_client(place: Place, timeout: float, opened: Opened) -> AsyncClient:
    """Return a client of the place, for the running loop; nothing is asked yet.

    ``opened`` is to hold its connections, of whatever pool. Its waits have no timeouts of their
    own: one clock over a whole flight costs less.
    """
    options = {
        **_settings(redis.asyncio.retry.Retry, timeout),
        "socket_timeout": None,
        **_of_connection(place.options),
        "connection_class": _noted(connection_of(place, asynchronous=True), opened),
    }
    if place.kind == "single":
        return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool(**options))
    if place.kind == "sentinel":
        return redis.asyncio.Redis.from_pool(_AsyncSentinelPool(place, timeout, opened, **options))
    for given in ("host", "port", "timeout", "db"):
        options.pop(given, None)
    connection = options.pop("connection_class")
    client = redis.asyncio.RedisCluster(
        startup_nodes=[redis.asyncio.cluster.ClusterNode(*host) for host in place.hosts],
        require_full_coverage=False,
        ssl=place.url.startswith("rediss"),
        **{**options, "retry": redis.asyncio.retry.Retry(NoBackoff(), 0)},
    )
    client.connection_kwargs["connection_class"] = connection  # which it takes only from itself
    for node in _startup_nodes(client):
        node.connection_class = connection
    return client


class NotedConnection(redis.asyncio.connection.AbstractConnection):
    """A connection that is noted, and looks its server's name up before the loop would."""

    opened: Opened

    async def _connect(self) -> None:
        self.opened.add(self)
        host, port = getattr(self, "host", None), getattr(self, "port", 0)
        if host:
            await alook_up(host, port)
        await super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:  # Any: redis-py's
        """Let hiredis pack, where it is installed; redis-py does so where nothing is awaited."""
        if pack_command is None or self.encoder.encoding != "utf-8":
            packed: list[bytes] = super().pack_commands(commands)
            return packed
        return [b"".join([pack_command(tuple(each)) for each in commands])]

    def abort(self) -> None:
        """Close it at once."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = self._reader = None


Opened = weakref.WeakSet[NotedConnection]


def _noted(kind: type[Any], opened: Opened) -> type[Any]:
    return type(f"Noted{kind.__name__}", (NotedConnection, kind), {"opened": opened})


class _AsyncSentinelConnection(redis.asyncio.sentinel.SentinelManagedConnection):
    """A connection that asks the sentinels anew, also when it broke between two tries."""

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(*arguments, **options)


class _AsyncSentinelSSLConnection(
    _AsyncSentinelConnection, redis.asyncio.sentinel.SentinelManagedSSLConnection
):
    """The same with TLS."""


class _AsyncSentinelPool(redis.asyncio.BlockingConnectionPool):
    """The async twin of `_SentinelPool`."""

    def __init__(self, place: Place, limit: float, opened: Opened, **options: Any) -> None:
        for given in ("host", "port"):
            options.pop(given, None)
        options["redis_connect_func"] = _acheck_role
        super().__init__(connection_pool=self, **options)
        self.is_master, self.check_connection = True, False
        self.service_name = place.service
        self._address: tuple[str, int] | None = None
        self._sentinels: list[Any] = [
            redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**each))
            for each in _sentinels(place, limit, redis.asyncio.retry.Retry, opened)
        ]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(service={self.service_name!r})>"

    async def get_master_address(self) -> tuple[str, int]:
        """Ask the sentinels; when it is another one than before, give up what is idle."""
        address = await self._ask()
        if address != self._address:
            self._address = address
            await self.disconnect(inuse_connections=False)
        return address

    async def _ask(self) -> tuple[str, int]:
        reason = ""
        for sentinel in list(self._sentinels):
            try:
                address = _healthy((await sentinel.sentinel_masters()).get(self.service_name))
            except _UNHEARD as error:
                reason = f": {error}"
                continue
            if address is not None:
                self._sentinels.sort(key=lambda each: each is not sentinel)
                return address
        raise redis.ConnectionError(_NO_PRIMARY + reason)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self._sentinels if inuse_connections else []:
            await sentinel.aclose()


async def _acheck_role(connection: Any) -> None:
    await connection.on_connect()
    await connection.send_command("ROLE")
    try:
        role = await connection.read_response()
    except redis.ResponseError:
        return  # this user may not ask
    if role[0] not in ("master", b"master"):
        raise redis.ConnectionError(_NOT_PRIMARY)


# --- what both are made with ----------------------------------------------------------------------


def connection_of(place: Place, *, asynchronous: bool = False) -> type[Any]:
    """Return redis-py's class of connections for the place."""
    kind: type[Any] = place.options.get("connection_class", redis.Connection)
    if place.kind != "sentinel":
        return getattr(redis.asyncio.connection, kind.__name__) if asynchronous else kind
    tls = place.url.startswith("rediss")
    if asynchronous:
        return _AsyncSentinelSSLConnection if tls else _AsyncSentinelConnection
    sentinel = redis.sentinel
    return sentinel.SentinelManagedSSLConnection if tls else sentinel.SentinelManagedConnection


def _of_connection(options: Options) -> Options:
    return {name: value for name, value in options.items() if name != "connection_class"}


def _settings(
    retry: type[redis.retry.Retry | redis.asyncio.retry.Retry], timeout: float
) -> Options:
    return {
        **_unnamed(),
        "protocol": 2,
        "retry": retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "socket_timeout": timeout / 2,
        "socket_connect_timeout": timeout / 2,
        "health_check_interval": 0,
        "max_connections": CONNECTIONS,
        "timeout": timeout / 2,
    }


def _unnamed() -> Options:
    """Return what keeps connections from reading package metadata from disk, each time."""
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    return dict.fromkeys(["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"])


def _sentinels(
    place: Place, timeout: float, retry: Callable[..., Any], opened: Opened | None = None
) -> list[Options]:
    module = library.connection if opened is None else library.asyncio.connection
    kind = module.SSLConnection if place.url.startswith("rediss") else module.Connection
    share = timeout / SENTINEL_SHARE
    shared = {
        **_unnamed(),
        "protocol": 2,
        "retry": retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "socket_timeout": share,
        "socket_connect_timeout": share,
        "connection_class": keeping(kind, share) if opened is None else _noted(kind, opened),
        **place.sentinel_options,
    }
    return [{**shared, "host": host, "port": port} for host, port in place.hosts]


# --- the user's own clients -----------------------------------------------------------------------

_SYNC = (redis.Redis, redis.RedisCluster)
_ASYNC = (redis.asyncio.Redis, redis.asyncio.RedisCluster)
_PIPELINES = (
    redis.client.Pipeline,
    redis.cluster.ClusterPipeline,
    redis.asyncio.client.Pipeline,
    redis.asyncio.cluster.ClusterPipeline,
)
_SENTINELS = (redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel)


def check_client(client: object, store: str) -> None:
    """Refuse what is no client for this store, with a sentence that names the right one."""
    wanted, others = (_ASYNC, _SYNC) if store.startswith("Async") else (_SYNC, _ASYNC)
    if isinstance(client, _PIPELINES):
        advice = " Pass the client that made it: a pipeline only gathers commands."
    elif isinstance(client, _SENTINELS):
        advice = " Pass the client that its master_for('service name') returns."
    elif isinstance(client, others):
        advice = f" Use {'RedisStore' if store.startswith('Async') else 'AsyncRedisStore'} for it."
    elif isinstance(client, wanted):
        _check_settings(client, store)
        return
    elif isinstance(client, str):
        advice = f" From a URL {store}.from_url(url) makes one, or pass the URL as the store."
    else:
        advice = ""
    module = "redis.asyncio" if wanted is _ASYNC else "redis"
    raise TypeError(
        f"{store} needs a {module}.Redis or {module}.RedisCluster client, not "
        f"{type(client).__module__}.{type(client).__name__}.{advice}"
    )


def _check_settings(client: Any, store: str) -> None:
    if client.get_encoder().decode_responses:
        raise ConfigurationError(_decodes(store))
    holder = getattr(client, "nodes_manager", None) or client.connection_pool
    if getattr(holder, "cache", None) or getattr(holder, "_cache", None):
        raise ConfigurationError(
            f"{store} must see what other servers have just written, and this client answers from "
            "a cache of its own: make it without cache and cache_config."
        )
    if not getattr(holder, "is_master", True):
        raise ConfigurationError(
            f"{store} writes, and this client is connected to replicas: make it by master_for."
        )


def _startup_nodes(client: Any) -> Iterable[Any]:
    """Return the nodes that a cluster's client was told of; redis-py 5 has them only there."""
    nodes: Iterable[Any] = client.nodes_manager.startup_nodes.values()
    return nodes


def _decodes(store: str) -> str:
    return (
        f"{store} keeps bytes, and this client decodes what it reads as text: make it without "
        "decode_responses=True."
    )


def name_of(client: SyncClient | AsyncClient) -> str:
    """Name the place of the user's own client in a sentence."""
    if isinstance(client, CLUSTERS):
        names = sorted(node.name for node in _startup_nodes(client))
        return f"Redis Cluster at {', '.join(names)}"
    service = getattr(client.connection_pool, "service_name", None)
    if service is not None:
        return f"Redis service {service!r}"
    return describe(client.connection_pool.connection_kwargs)
