"""Litestar's server-side sessions: records in Redis, as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from . import decoding
from .arguments import DAY
from .in_records import RecordSource
from .records import open_records
from .source import Found

# Of a `RedisStore` with the default namespace: as it is, and from `with_namespace("sessions")`,
# which a `StoreRegistry` makes of it where it is the `default_factory`.
PREFIXES = "LITESTAR:", "LITESTAR_sessions:"


class Litestar(RecordSource):
    """The sessions of Litestar's `ServerSideSessionConfig` in its `RedisStore`.

    Those of its `CookieBackendConfig`, which are encrypted, and of its other stores are not read.

    Args:
        store: a URL (redis, rediss, unix, valkey) or a `redis.Redis` client, not an awaited one.
        prefix: what stands before the ID: the ``namespace`` of the `RedisStore` and a colon, or
            ``""`` without one. Default: both ``"LITESTAR:"`` and ``"LITESTAR_sessions:"``, the
            latter of a store that ``with_namespace("sessions")`` has made.
        cookie: the ``key`` of its configuration; default: the name of sharedsession's cookie.
        path: its ``path``, default ``"/"``.
        domain: its ``domain``, default None.
        max_age: its ``max_age`` in seconds or as a `timedelta`, default 14 days.
        timeout: seconds that the old store may take for an answer, default 1; a client is used as
            it was configured.

    Raises:
        ConfigurationError: the URL or the lifetime is none.
        TypeError: the store is neither a URL nor a client that is known.
        ModuleNotFoundError: redis-py is not installed; the message names the extra.
    """

    kind = "litestar"
    id = re.compile(r"(?:[0-9a-f]{2}){16,128}")  # 32 bytes, if `session_id_bytes` says no other

    def __init__(
        self,
        store: object,
        *,
        prefix: str | None = None,
        cookie: str | None = None,
        path: str = "/",
        domain: str | None = None,
        max_age: float | timedelta = 14 * DAY,
        timeout: float = 1.0,
    ) -> None:
        records = open_records(store, timeout, ["redis"])
        prefixes = PREFIXES if prefix is None else [prefix]
        super().__init__(records, prefixes, cookie, path, domain, max_age)

    def _decode(self, stored: Any, expires: float, keys: Sequence[bytes]) -> Found:
        return Found(decoding.from_json(decoding.as_bytes(stored)), expires)
