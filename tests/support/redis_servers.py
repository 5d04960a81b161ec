"""Redis with TLS, a service watched by Sentinels, and a cluster: real servers, on loopback."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import ServerMissing, free_port
from tests.support.servers import RedisServer, redis_binary, valkey_binary

LIMIT = 30.0
SLOTS = 16384
SERVICE = "sessions"
NAMED = ["CLUSTER"] if redis.__version__ < "6" else []  # what a pool wants to be told


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that takes servers a moment."""
    limit = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < limit, f"not within {LIMIT} s: {what}"
        time.sleep(0.02)


def a_redis() -> Path:
    """Return Redis itself, which some tests are about, or say what to install."""
    binary = redis_binary()
    if binary is None:
        raise ServerMissing("These tests need Redis 7 or later: install redis-server.")
    return binary


def advance(admins: list[redis.Redis], seconds: float) -> None:
    """Let time pass: the remaining lifetime of every key shrinks."""
    for admin in admins:
        for key in admin.scan_iter(count=1000):
            left = admin.pttl(key)
            if left >= 0:
                admin.pexpire(key, int(left - seconds * 1000))


def replicated(admin: Any) -> bool:
    """Say whether a replica has everything: WAIT looks at what its own connection wrote."""
    admin.set("{settled}", "", px=1)
    return bool(admin.wait(1, 1000) == 1)


def _client(port: int) -> Any:
    return redis.Redis(port=port, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))


class TLSServer(RedisServer):
    """A server with a port for TLS beside the plain one, which is for the test itself."""

    def __init__(self) -> None:
        super().__init__(a_redis())
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.authority = self.folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        certificate.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))
        self.tls_port = free_port()
        self._options = (
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self.folder / "cert.pem")),
            *("--tls-key-file", str(self.folder / "key.pem")),
        )
        self.tls_url = f"rediss://localhost:{self.tls_port}/0?ssl_ca_certs={self.authority}"


class _Group:
    """Servers that belong together, and are stopped together."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self._admins: dict[int, redis.Redis] = {}

    def admin(self, server: RedisServer) -> Any:
        """Return a client of one server."""
        if server.port not in self._admins:
            self._admins[server.port] = _client(server.port)
        return self._admins[server.port]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        for admin in self._admins.values():
            admin.close()
        for server in self.servers:
            server.stop()


class _Sentinel(RedisServer):
    """A Sentinel keeps what it learns in its configuration file, and cannot do without one.

    There it reads at its start what it would take ten seconds to learn: replica and companions.
    """

    def __init__(self, primary: RedisServer, password: str | None, down_after: int) -> None:
        super().__init__(primary.binary)
        self.identity = secrets.token_hex(20)
        self.lines = [
            f"sentinel myid {self.identity}",
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            "logfile server.log",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {down_after}",
            f"sentinel failover-timeout {SERVICE} 10000",
        ]
        if password is not None:
            self.lines.append(f"requirepass {password}")
        self._file = self.folder / "sentinel.conf"

    def tell(self, replica: RedisServer, others: list[_Sentinel]) -> None:
        self.lines.append(f"sentinel known-replica {SERVICE} 127.0.0.1 {replica.port}")
        for each in others:
            self.lines.append(
                f"sentinel known-sentinel {SERVICE} 127.0.0.1 {each.port} {each.identity}"
            )
        self._file.write_text("\n".join(self.lines) + "\n")

    def _command(self) -> list[str]:
        return [str(self.binary), str(self._file), "--sentinel"]

    def _answers(self) -> bool:
        with _client(self.port) as client:
            try:
                client.ping()
            except redis.AuthenticationError:
                return True
            except redis.RedisError:
                return False
        return True


class Watched(_Group):
    """A primary and a replica, watched by three Sentinels, who take it for dead after so long."""

    def __init__(self, password: str | None = None, down_after: int = 60000) -> None:
        super().__init__()
        binary = a_redis()
        self._password = password
        self._down_after = down_after
        # A primary that comes back with nothing would be believed, and everything lost.
        options = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        self.primary = RedisServer(binary, *options)
        follow = ("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica = RedisServer(binary, *options, *follow)
        self.sentinels: list[_Sentinel] = []

    def start(self) -> None:
        self.servers = [self.primary, self.replica]
        self.primary.start()
        self.replica.start()
        self.sentinels = [
            _Sentinel(self.primary, self._password, self._down_after) for _ in range(3)
        ]
        self.servers += self.sentinels
        for each in self.sentinels:
            each.tell(self.replica, [other for other in self.sentinels if other is not each])
            each.start()
        until(self.settle, "the replica follows")
        for each in self.sentinels:
            until(lambda: self._knows_all(each), "the Sentinels know each other and the replica")

    def _knows_all(self, sentinel: RedisServer) -> bool:
        state = self._ask(sentinel).sentinel_master(SERVICE)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)

    def _ask(self, sentinel: RedisServer) -> Any:
        admin = self.admin(sentinel)
        if self._password is not None:
            admin.connection_pool.connection_kwargs["password"] = self._password
        return admin

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        secret = "" if self._password is None else f"?sentinel_password={quote(self._password)}"
        return f"redis+sentinel://{hosts}/{SERVICE}/0{secret}"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", each.port) for each in self.sentinels]

    def settle(self) -> bool:
        """Say whether the replica has everything."""
        return replicated(self.admin(self.primary))

    def swap(self) -> None:
        """Wait until all Sentinels name the replica as the primary, which it is from now on."""
        self.primary, self.replica = self.replica, self.primary
        for each in self.sentinels:
            until(lambda: self._names(each) == self.primary.port, "the Sentinels agree")

    def follow(self) -> None:
        """Let the old primary follow the new one; the Sentinels would do it, ten seconds later."""
        admin = self.admin(self.replica)
        until(lambda: admin.replicaof("127.0.0.1", self.primary.port), "the old primary follows")
        self.ready()

    def ready(self) -> None:
        """Wait until the primary has its replica."""
        until(self.settle, "the replica follows")

    def _names(self, sentinel: RedisServer) -> int:
        state = self._ask(sentinel).sentinel_master(SERVICE)
        healthy = state["is_master"] and not (state["is_sdown"] or state["is_odown"])
        return int(state["port"]) if healthy else 0


class SixNodes(_Group):
    """A cluster of three primaries, each with a replica."""

    def __init__(self, binary: Path | None = None) -> None:
        super().__init__()
        self._binary = binary or valkey_binary() or a_redis()

    def start(self) -> None:
        for _ in range(6):
            server = RedisServer(
                self._binary,
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                *("--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"),
                *("--cluster-allow-replica-migration", "no"),
            )
            self.servers.append(server)
            server.start()
        for number, server in enumerate(self.servers):
            admin = self.admin(server)
            admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                begin, end = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                admin.execute_command("CLUSTER", "ADDSLOTSRANGE", begin, end)
            for other in self.servers[:number]:
                bus = other._options[3]
                admin.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        for server in self.servers:
            until(lambda: self._size(server) == 6, "the nodes know each other")
        for number, server in enumerate(self.servers[3:]):
            name = self.admin(self.servers[number]).execute_command("CLUSTER", "MYID")
            self.admin(server).execute_command("CLUSTER", "REPLICATE", name)
        self.ready()
        self.node_timeout(15000)  # nobody is taken for dead on a busy machine

    def _size(self, server: RedisServer) -> int:
        return len(self._lines(server))

    def _lines(self, server: RedisServer) -> list[str]:
        nodes: Any = self.admin(server).connection_pool.get_connection(*NAMED)
        try:
            nodes.send_command("CLUSTER", "NODES")
            text: str = nodes.read_response().decode()
        finally:
            self.admin(server).connection_pool.release(nodes)
        return [line for line in text.splitlines() if "handshake" not in line]

    def ready(self) -> None:
        """Wait until all slots are served, everybody knows, and each primary has its replica."""
        for server in self.servers:
            until(
                lambda: b"cluster_state:ok" in self._raw(server, "CLUSTER", "INFO"),
                "the cluster is up",
            )
            until(
                lambda: (
                    sum("slave" in line for line in self._lines(server)) == 3
                    and not any("fail" in line for line in self._lines(server))
                ),
                "every node knows the replicas",
            )
        for server in self.primaries():
            until(lambda: self.admin(server).wait(1, 100) == 1, "the replicas follow")

    def _raw(self, server: RedisServer, *command: str) -> bytes:
        connection: Any = self.admin(server).connection_pool.get_connection(*NAMED)
        try:
            connection.send_command(*command)
            answer: bytes = connection.read_response()
        finally:
            self.admin(server).connection_pool.release(connection)
        return answer

    def primaries(self) -> list[RedisServer]:
        return self.primaries_but(None)

    def primaries_but(self, failing: RedisServer | None) -> list[RedisServer]:
        """Return the primaries among those that have not failed."""
        alive = [each for each in self.servers if each is not failing]
        return [each for each in alive if self.admin(each).role()[0] in (b"master", "master")]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers[:2])
        return f"redis+cluster://{hosts}"

    def owner(self, slot: int) -> RedisServer:
        """Return the primary that has a slot."""
        for server in self.primaries():
            mine = next(line for line in self._lines(server) if "myself" in line)
            for part in mine.split()[8:]:
                begin, _, end = part.partition("-")
                if begin.isdecimal() and int(begin) <= slot <= int(end or begin):
                    return server
        raise AssertionError(f"nobody has slot {slot}")

    def node_timeout(self, milliseconds: int) -> None:
        """Let the nodes take a silent one for dead after so long."""
        for server in self.servers:
            self.admin(server).config_set("cluster-node-timeout", milliseconds)

    def empty(self) -> None:
        for server in self.primaries():
            self.admin(server).flushall()
