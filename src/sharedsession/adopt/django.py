"""Django's sessions: rows, cached values or signed cookies, as JSON that Django has signed.

Its signatures are made here anew: a key that SHA-256 derives from the salt and the secret, and
HMAC-SHA256 of the payload and the time, parted by colons, both in base 64 or 62 without padding.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import ceil, isfinite
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .._core.record import PERMANENT
from ..exceptions import ConfigurationError
from . import decoding
from .arguments import DAY, Secrets, keys_of
from .in_records import RecordSource
from .moments import epoch_of
from .records import NoRecords, Records, Table, open_records
from .signing import Sign, end_of, signed_part
from .source import Found, NotAdoptable

Engine = Literal["db", "cached_db", "cache", "signed_cookies"]
ENGINES = ("db", "cached_db", "cache", "signed_cookies")
SALTS = {
    "db": "django.contrib.sessions.SessionStore",
    "cached_db": "django.contrib.sessions.SessionStore",
    "signed_cookies": "django.contrib.sessions.backends.signed_cookies",
}
EXPIRY = "_session_expiry"
_BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TIME = re.compile(r"[0-9A-Za-z]{1,10}")


class Django(RecordSource):
    """The sessions of Django, by its default `JSONSerializer`.

    A lifetime that ``set_expiry`` gave a session is kept: as a number of seconds, or that it ends
    with the browser, in ``_permanent``; a fixed date becomes the seconds that are left until then.

    Args:
        store: where the sessions are: the database's URL or an SQLAlchemy engine for the engines
            "db" and "cached_db", the cache's URL (redis, rediss, unix, valkey, memcached) or a
            `redis.Redis` client for "cache", nothing for "signed_cookies".
        engine: the last part of ``SESSION_ENGINE``, default ``"db"``. Of "cache" only values are
            read that a serializer of your own writes as JSON: Django's are pickled.
        secret_key: ``SECRET_KEY``, or a list that begins with it and goes on with
            ``SECRET_KEY_FALLBACKS``; default: sharedsession's own.
        cookie: ``SESSION_COOKIE_NAME``, default ``"sessionid"``.
        path: ``SESSION_COOKIE_PATH``, default ``"/"``.
        domain: ``SESSION_COOKIE_DOMAIN``, default None.
        max_age: ``SESSION_COOKIE_AGE`` in seconds or as a `timedelta`, default 14 days.
        table: the table of the sessions, default ``"django_session"``.
        cache: for "cached_db", the URL or the client of the cache that holds copies, which are
            deleted with the rows. Of a cache in the memory of Django's processes: engine="db".
        key_prefix: ``KEY_PREFIX`` of the cache, default ``""``.
        version: ``VERSION`` of the cache, default 1.
        salt: what the signatures' key is derived with, of a `SessionStore` with another name.
        time_zone: ``TIME_ZONE`` where ``USE_TZ`` is False and the database is MySQL or SQLite,
            default ``"UTC"``.
        timeout: seconds that each old store may take for an answer, default 1; a client or an
            engine is used as it was configured.

    Raises:
        ConfigurationError: the engine, a store, a key, the lifetime or the time zone is none.
        TypeError: a store is neither a URL nor a client that is known.
        ModuleNotFoundError: a client library is not installed; the message names the extra.
    """

    kind = "django"
    id = re.compile(r"[0-9a-z]{32}")

    def __init__(
        self,
        store: object = None,
        *,
        engine: Engine = "db",
        secret_key: Secrets = None,
        cookie: str | None = "sessionid",
        path: str = "/",
        domain: str | None = None,
        max_age: float | timedelta = 14 * DAY,
        table: str = "django_session",
        cache: object = None,
        key_prefix: str = "",
        version: int = 1,
        salt: str | None = None,
        time_zone: str = "UTC",
        timeout: float = 1.0,
    ) -> None:
        _check(engine, store, cache)
        cached = f"{key_prefix}:{version}:django.contrib.sessions.{engine}"
        self._cache: Records | None = None
        records: Records = NoRecords()
        if engine in ("db", "cached_db"):
            where = Table(table, "session_key", "session_data", "expire_date")
            records = open_records(store, timeout, ["sql"], where)
        elif engine == "cache":
            records = open_records(store, timeout, ["redis", "memcached"])
        if engine == "cached_db":
            self._cache = open_records(cache, timeout, ["redis", "memcached"])
        prefix = cached if engine == "cache" else ""
        super().__init__(records, [prefix], cookie, path, domain, max_age)
        self.has_records = engine != "signed_cookies"
        self._engine = engine
        self._copies = cached
        self._own_keys = keys_of(secret_key)
        self._salt = (salt or SALTS.get(engine, "")).encode()
        self._zone = _zone(time_zone)

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        if self.has_records:
            return super().recognise(text, keys)
        return text if self._signed(text, keys) else None

    def _signed(self, text: str, keys: Sequence[bytes]) -> str | None:
        return signed_part(text, ":", [_sign(self._salt, key) for key in self._own_keys or keys])

    def read(self, value: str, keys: Sequence[bytes], now: float) -> Found | None:
        if self.has_records:
            found = super().read(value, keys, now)
            return found and self._without_bookkeeping(found, now)
        signed = self._signed(value, keys)
        if signed is None:
            return None
        payload, _, time = signed.rpartition(":")
        signed_at = time_of(time)
        expires = end_of(signed_at, self.lifetime, now)
        if expires <= now:
            return None
        return self._without_bookkeeping(Found(_payload(payload), expires), now, signed_at)

    def _end(self, expires: Any) -> float:
        return epoch_of(expires, self._zone)

    def _decode(self, stored: Any, expires: float, keys: Sequence[bytes]) -> Found:
        if self._engine == "cache":
            encoded = decoding.as_bytes(stored)
            decoding.refuse_pickle(encoded)
            return Found(decoding.from_json(encoded), expires)
        if not isinstance(stored, str):
            raise decoding.damaged("it is no text")
        signed = self._signed(stored, keys)
        if signed is None:
            raise NotAdoptable(
                "signature",
                "An old session was signed with another secret key, or altered: pass Django's "
                "SECRET_KEY and SECRET_KEY_FALLBACKS as secret_key.",
            )
        return Found(_payload(signed.rpartition(":")[0]), expires)

    def _without_bookkeeping(
        self, found: Found, now: float, saved: float | None = None
    ) -> Found | None:
        """Turn ``set_expiry`` into ``_permanent``; what was ``saved`` in a cookie counts from then.

        Of a row or a cached value the store knows the end.
        """
        expiry, end = found.data.pop(EXPIRY, None), found.expires
        if expiry is None:
            return found
        if isinstance(expiry, str):
            end = epoch_of(expiry, self._zone)
            lifetime = ceil(end - now)
        elif isinstance(expiry, int) or (isinstance(expiry, float) and isfinite(expiry)):
            lifetime = ceil(expiry)
            end = end if saved is None or not lifetime else saved + lifetime
        else:
            raise decoding.damaged("its own lifetime is none")
        found.data[PERMANENT] = lifetime or False
        expires = min(found.expires, end)
        return found._replace(expires=expires) if expires > now else None

    def delete(self, value: str) -> None:
        super().delete(value)
        if self._cache is not None:  # after the row, from which a server would cache it again
            self._cache.delete(self._copies + value)

    def values(self) -> Iterator[str]:
        if not self.has_records:
            raise TypeError(
                "Django's signed cookies are with the clients, and no server can list them. Each "
                "is adopted with its client's next request."
            )
        return super().values()

    def close(self) -> None:
        super().close()
        if self._cache is not None:
            self._cache.close()


def _check(engine: str, store: object, cache: object) -> None:
    """Refuse what contradicts itself, and copies of which nothing is known."""
    if engine not in ENGINES:
        raise ConfigurationError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if (store is None) != (engine == "signed_cookies"):
        raise ConfigurationError(
            "Sessions in signed_cookies have no store: leave it out."
            if store is not None
            else f"The engine {engine!r} needs the store of Django's sessions: its URL, first."
        )
    if (cache is None) == (engine == "cached_db"):
        raise ConfigurationError(
            "Only cached_db has copies in a cache: leave cache out."
            if cache is not None
            else "cached_db keeps copies, which would live on: pass cache='redis://…', or "
            "engine='db' where each process of Django has a cache of its own."
        )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ConfigurationError(
            f"This machine knows no time zone {name!r}: write Django's TIME_ZONE, or install the "
            "package tzdata."
        ) from None


def _sign(salt: bytes, key: bytes) -> Sign:
    derived = hashlib.sha256(salt + b"signer" + key).digest()

    def sign(signed: bytes) -> bytes:
        return urlsafe_b64encode(hmac.digest(derived, signed, "sha256")).rstrip(b"=")

    return sign


def time_of(text: str) -> int | None:
    """Return the time that Django writes before its signature; None for what is none."""
    if not _TIME.fullmatch(text):
        return None
    seconds = 0
    for digit in text:
        seconds = seconds * 62 + _BASE_62.index(digit)
    return seconds


def _payload(payload: str) -> decoding.Data:
    encoded = decoding.from_base64(payload.removeprefix("."), url_safe=True)
    if payload.startswith("."):
        encoded = decoding.unpacked(encoded)
    decoding.refuse_pickle(encoded)
    return decoding.from_json(encoded.decode("latin-1"))
