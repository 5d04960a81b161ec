"""starsessions: records in Redis, as JSON, with what the package notes beside the data."""

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

METADATA = "__metadata__"


class Starsessions(RecordSource):
    """The sessions that starsessions keeps in Redis by its own `JsonSerializer`.

    Those of its `InMemoryStore` are in one process and end with it; its `CookieStore` is not read.

    Args:
        store: a URL (redis, rediss, unix, valkey) or a `redis.Redis` client, not an awaited one.
        prefix: the ``prefix`` of its `RedisStore`, default ``"starsessions."``; of a function,
            what that puts in front of the ID.
        cookie: its ``cookie_name``; default: the name of sharedsession's cookie.
        path: its ``cookie_path``, default ``"/"``.
        domain: its ``cookie_domain``, default None.
        lifetime: its ``lifetime`` in seconds or as a `timedelta`; where that is 0, its ``gc_ttl``,
            whose default of 30 days is the default here.
        timeout: seconds that the old store may take for an answer, default 1; a client is used as
            it was configured.

    Raises:
        ConfigurationError: the URL or the lifetime is none.
        TypeError: the store is neither a URL nor a client that is known.
        ModuleNotFoundError: redis-py is not installed; the message names the extra.
    """

    kind = "starsessions"
    id = re.compile(r"[0-9a-f]{32}")

    def __init__(
        self,
        store: object,
        *,
        prefix: str = "starsessions.",
        cookie: str | None = None,
        path: str = "/",
        domain: str | None = None,
        lifetime: float | timedelta = 30 * DAY,
        timeout: float = 1.0,
    ) -> None:
        records = open_records(store, timeout, ["redis"])
        super().__init__(records, [prefix], cookie, path, domain, lifetime)

    def _decode(self, stored: Any, expires: float, keys: Sequence[bytes]) -> Found:
        data = decoding.from_json(decoding.as_bytes(stored))
        noted = data.pop(METADATA, None)
        created = noted.get("created") if isinstance(noted, dict) else None
        return Found(data, expires, decoding.as_time(created))
