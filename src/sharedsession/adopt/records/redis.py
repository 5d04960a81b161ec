"""Records in Redis or Valkey: strings, which the server expires."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import redis
import redis.retry
from redis.backoff import NoBackoff

from ...exceptions import ConfigurationError
from ...stores._support.deadline import within
from ...stores.redis.clients import name_of
from ...stores.redis.connections import keeping, settings
from ...stores.redis.url import connection_class, decodes, read_url
from .. import decoding
from . import Raw, outage

T = TypeVar("T")
BATCH = 1000  # keys that one SCAN looks at
CONNECTIONS = 32  # at most, of one process
OUTAGES = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)


class RedisRecords:
    """Strings in Redis, by a URL or a client of the user's own."""

    def __init__(self, store: object, timeout: float) -> None:
        self._timeout: float | None = None
        self._client: Any  # redis-py: most of it carries no annotations
        if isinstance(store, str):
            self._client, self._place = _open(store, timeout)
            self._timeout = timeout
        elif isinstance(store, redis.Redis | redis.RedisCluster):
            if store.get_encoder().decode_responses:
                raise ConfigurationError(decodes("The source of old sessions"))
            self._client, self._place = store, name_of(store)
        else:
            raise TypeError(
                "The old sessions are read by a redis.Redis or redis.RedisCluster client, not "
                f"{type(store).__module__}.{type(store).__name__}: pass one of these, also where "
                "the old package awaits its own, or the URL."
            )

    def load(self, key: str, now: float) -> Raw | None:
        data, left = self._ask(
            lambda client: (
                client.pipeline(transaction=False).get(key).pttl(key).execute(raise_on_error=False)
            )
        )
        for answer in (data, left):
            if isinstance(answer, Exception):
                if str(answer).startswith("WRONGTYPE"):
                    raise decoding.damaged("its key holds no string")
                raise self._outage(answer) from answer
        if data is None or left == -2:
            return None
        return Raw(data, None if left < 0 else now + left / 1000)

    def delete(self, key: str) -> None:
        self._ask(lambda client: client.delete(key))

    def keys(self, prefix: str) -> Iterator[str]:
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        found = self._ask(lambda client: client.scan_iter(match=pattern, count=BATCH))
        while (key := self._ask(lambda _: next(found, None))) is not None:
            yield key.decode(errors="replace")

    def close(self) -> None:
        if self._timeout is not None:
            self._client.close()

    def _ask(self, call: Callable[[Any], T]) -> T:
        try:
            with within(self._timeout):
                return call(self._client)
        except OUTAGES as error:
            raise self._outage(error) from error

    def _outage(self, error: Exception) -> Exception:
        # What the server says of an unknown command repeats its arguments.
        said = str(error).partition(", with args")[0].rstrip(".") or type(error).__name__
        return outage(self._place, said)


def _open(url: str, timeout: float) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    place = read_url(f"{scheme.lower().replace('valkey', 'redis')}://{rest}")
    options = {**settings(timeout), **place.options}
    options.pop("timeout", None)
    options["connection_class"] = keeping(connection_class(place), timeout, pooled=True)
    options["retry"] = redis.retry.Retry(NoBackoff(), 1, (redis.ConnectionError,))
    # One that waits for a connection while all are in use, as long as a call may take.
    pool = redis.BlockingConnectionPool(timeout=timeout, max_connections=CONNECTIONS, **options)  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(pool), place.name
