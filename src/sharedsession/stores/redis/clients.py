"""Which clients of the user's own will do, and what they are called."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.client
import redis.cluster
import redis.sentinel

from ...exceptions import ConfigurationError
from . import compat
from .url import decodes, describe

SyncClient = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
CLUSTERS = (redis.RedisCluster, redis.asyncio.RedisCluster)

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
        raise ConfigurationError(decodes(store))
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


def name_of(client: SyncClient | AsyncClient) -> str:
    """Name the place of the user's own client in a sentence."""
    if isinstance(client, CLUSTERS):
        names = sorted(node.name for node in compat.startup_nodes(client))
        return f"Redis Cluster at {', '.join(names)}"
    service = getattr(client.connection_pool, "service_name", None)
    if service is not None:
        return f"Redis service {service!r}"
    return describe(client.connection_pool.connection_kwargs)
