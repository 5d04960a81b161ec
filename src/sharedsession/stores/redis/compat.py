"""Where versions of redis-py differ, or do what a session store cannot live with.

Each names the version that shows it; `tests/stores/test_redis_compat.py` fails when the newest one
needs it no more, or when the oldest one that is allowed does not.
"""

from __future__ import annotations

import contextlib
import inspect
import queue
from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio.connection
import redis.connection

try:
    from hiredis import pack_command
except ImportError:  # an extra of redis-py's, redis[hiredis]
    pack_command = None  # type: ignore[assignment]

# What a pool wants to know of a connection's use: before redis-py 5.3 the name of a command.
_named = inspect.signature(redis.ConnectionPool.get_connection).parameters.get("command_name")
TAKEN_FOR = () if _named is None or _named.default is not inspect.Parameter.empty else ("EVALSHA",)

_disconnect = inspect.signature(redis.BlockingConnectionPool.disconnect)
_IDLE_ALONE = "inuse_connections" in _disconnect.parameters  # not in redis-py 5


def unnamed() -> dict[str, None]:
    """Return what keeps each connection from reading package metadata from disk (all versions)."""
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    return dict.fromkeys(["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"])


def drop_idle(pool: Any) -> None:
    """Close the connections of a pool that no caller uses; redis-py 5 has no way to say so."""
    if _IDLE_ALONE or not isinstance(pool, redis.BlockingConnectionPool):
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


def startup_nodes(client: Any) -> Iterable[Any]:
    """Return the nodes that a cluster's client was told of; redis-py 5 has them only there."""
    nodes: Iterable[Any] = client.nodes_manager.startup_nodes.values()
    return nodes


def refreshing(manager: Any, failed: str | None) -> dict[str, Any]:
    """Return the argument that has a failed node asked last; redis-py 5 does not know it."""
    known = inspect.signature(manager.initialize).parameters
    return {"last_failed_node_name": failed} if "last_failed_node_name" in known else {}


class PacksByHiredis(redis.asyncio.connection.AbstractConnection):
    """A connection whose commands hiredis packs; redis-py has it do so only for threads (8.1)."""

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:  # Any: redis-py's
        """Return the bytes of several commands."""
        if pack_command is None or self.encoder.encoding != "utf-8":
            packed: list[bytes] = super().pack_commands(commands)
            return packed
        return [b"".join([pack_command(tuple(each)) for each in commands])]
