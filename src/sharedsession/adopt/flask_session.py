"""Flask-Session: records in Redis, Memcached or an SQL table, as msgpack or JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha1
from typing import Any

from . import decoding
from .arguments import DAY, Secrets, keys_of
from .in_records import RecordSource
from .records import Table, open_records
from .signing import by_itsdangerous, signed_part
from .source import Found

HOW = b"flask-session", "hmac", sha1


class FlaskSession(RecordSource):
    """The sessions that Flask-Session keeps in Redis, Memcached or through Flask-SQLAlchemy.

    Since 0.7 they are written as msgpack or JSON, which are both read. Those of 0.6 and before are
    pickled, which are not.

    Args:
        store: a URL (redis, rediss, unix, valkey, memcached, postgresql, mysql, sqlite), a
            `redis.Redis` client or an SQLAlchemy engine.
        prefix: ``SESSION_KEY_PREFIX``, default ``"session:"``.
        cookie: ``SESSION_COOKIE_NAME``; default: the name of sharedsession's cookie.
        path: ``SESSION_COOKIE_PATH``, default ``"/"``.
        domain: ``SESSION_COOKIE_DOMAIN``, default None.
        secret_key: Flask's ``SECRET_KEY``, where ``use_signer`` is set; default: sharedsession's
            own.
        use_signer: ``SESSION_USE_SIGNER``, default False.
        max_age: ``PERMANENT_SESSION_LIFETIME`` in seconds or as a `timedelta`, default 31 days.
        table: ``SESSION_SQLALCHEMY_TABLE``, default ``"sessions"``.
        schema: ``SESSION_SQLALCHEMY_SCHEMA``, default None.
        timeout: seconds that the old store may take for an answer, default 1; a client or an
            engine is used as it was configured.

    Raises:
        ConfigurationError: the URL, a key or the lifetime is none.
        TypeError: the store is neither a URL nor a client that is known.
        ModuleNotFoundError: the client library is not installed; the message names the extra.
    """

    kind = "flask-session"
    id = re.compile(r"[A-Za-z0-9_-]{11,128}")  # of 8 bytes and more; before 0.6 a UUID

    def __init__(
        self,
        store: object,
        *,
        prefix: str = "session:",
        cookie: str | None = None,
        path: str = "/",
        domain: str | None = None,
        secret_key: Secrets = None,
        use_signer: bool = False,
        max_age: float | timedelta = 31 * DAY,
        table: str = "sessions",
        schema: str | None = None,
        timeout: float = 1.0,
    ) -> None:
        where = Table(table, "session_id", "data", "expiry", schema)
        records = open_records(store, timeout, ["redis", "memcached", "sql"], where)
        super().__init__(records, [prefix], cookie, path, domain, max_age)
        self._own_keys = keys_of(secret_key)
        self._use_signer = use_signer

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        if self._use_signer:
            signs = [by_itsdangerous(key, *HOW) for key in self._own_keys or keys]
            text = signed_part(text, ".", signs) or ""
        return super().recognise(text, keys)

    def _decode(self, stored: Any, expires: float, keys: Sequence[bytes]) -> Found:
        """Read either format: the first byte tells them apart."""
        encoded = decoding.as_bytes(stored)
        decoding.refuse_pickle(encoded)
        is_json = encoded.startswith(b"{")
        return Found((decoding.from_json if is_json else decoding.from_msgpack)(encoded), expires)
