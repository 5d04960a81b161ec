"""The cookie: ``<id>.<version>.<timestamp>.<signature>``, signed by itsdangerous.

The ID has 256 random bits (ASVS 7.2.3 asks for 128) and no meaning. The version is the session's
as this client last saw it: a floor for what may be read from copies. It is 0, none, for good where
the server that made the ID has no copies. The timestamp is the time of
the write or touch that last gave the record its lifetime, as far as this client knows. It never
decides whether a cookie verifies: timeouts are the server's (ASVS 7.3.1), and clocks differ.

A cookie that does not verify never reaches the store. Signatures are compared as text: base64
decodes leniently, so two texts can stand for one signature.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from itsdangerous import TimestampSigner
from itsdangerous.encoding import base64_decode, base64_encode, bytes_to_int, int_to_bytes

from .settings import LARGEST_VALUE, Settings

REMEMBERED = 4096  # cookies of the most recent clients, with what was found out about them
CANDIDATES = 4  # cookies of our name that are looked up, when a client sends several that verify
_SHAPE = re.compile(
    r"([A-Za-z0-9_-]{43})\.([0-9]{1,18})\.([A-Za-z0-9_-]{1,11})\.([A-Za-z0-9_-]{43})", re.ASCII
)
_EXPIRED = "expires=Thu, 01 Jan 1970 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Cookie:
    """What a client holds. ``timestamp`` is in epoch seconds."""

    id: str
    version: int
    timestamp: int

    @property
    def order(self) -> tuple[int, int]:
        """What tells the later of two cookies of one session: the greater one."""
        return self.version, self.timestamp

    def __repr__(self) -> str:  # the ID must not get into a log by way of a repr (ASVS 16.2.5)
        return f"Cookie(version={self.version}, timestamp={self.timestamp})"


def new_id() -> str:
    """Return a new session ID: 256 bits from the system's random generator."""
    return secrets.token_urlsafe(32)


@lru_cache(REMEMBERED)
def store_key(session_id: str, namespace: str) -> str:
    """Return the key under which the store keeps a session.

    A hash, so that whoever reads the store, a dump or a slow log cannot become a user. With 256
    random bits in the ID it needs no secret.
    """
    digest = hashlib.sha256(f"{namespace}\0{session_id}".encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


class _Signer(TimestampSigner):
    """itsdangerous' timestamp signer with its derived keys kept: it derives them on every call."""

    def keep_keys(self) -> None:
        self._kept = {
            secret: super(_Signer, self).derive_key(secret) for secret in self.secret_keys
        }
        self._newest_first = [self._kept[secret] for secret in reversed(self.secret_keys)]

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        if secret_key is None:
            return self._newest_first[0]
        return self._kept[secret_key if isinstance(secret_key, bytes) else secret_key.encode()]

    def signatures(self, value: bytes) -> Iterable[bytes]:
        """The signatures that would be right for ``value``, the newest key's first."""
        return (
            base64_encode(self.algorithm.get_signature(key, value)) for key in self._newest_first
        )


class CookieCodec:
    """Reads, verifies, issues and expires the cookie that the settings describe."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.session_cookie
        # The salt binds a signature to this package, the namespace and the cookie's name
        # (ASVS 9.2.2): one made for something else fails here.
        self._signer = _Signer(
            list(reversed(settings.secret_keys)),  # itsdangerous wants the newest key last
            salt="\0".join(("sharedsession", settings.namespace, self._name)),
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )
        self._signer.keep_keys()
        self._settings = settings
        name = re.escape(self._name)
        self._ours = re.compile(rf"(?:^|;)\s*{name}\s*=([^;]*)").findall  # the values in a header
        self.verify = lru_cache(REMEMBERED)(self._verify)

    def read(self, headers: Iterable[str]) -> list[Cookie]:
        """Return the cookies of our name that verify, in the client's order, at most four.

        Every header counts (HTTP/2 splits them), and a foreign cookie with an illegal name or
        value does not hide ours.
        """
        found: dict[str, Cookie] = {}
        for header in headers:
            for text in self._ours(header):
                if len(found) == CANDIDATES:
                    break
                value = text.strip().strip('"')
                # What is longer is none of ours, and need not be remembered either.
                cookie = self.verify(value) if len(value) <= LARGEST_VALUE else None
                if cookie is not None:
                    known = found.get(cookie.id)
                    if known is None or known.order < cookie.order:
                        found[cookie.id] = cookie
        return list(found.values())

    def _verify(self, value: str) -> Cookie | None:
        """Return the cookie, or None for whatever this package did not issue."""
        shape = _SHAPE.fullmatch(value)
        if shape is None:
            return None
        session_id, version, timestamp, signature = shape.groups()
        signed = value[: shape.start(4) - 1].encode()
        given = signature.encode()
        # Every key is tried, so that the time taken does not tell which one fitted.
        if not sum(hmac.compare_digest(right, given) for right in self._signer.signatures(signed)):
            return None
        return Cookie(session_id, int(version), bytes_to_int(base64_decode(timestamp)))

    def sign(self, cookie: Cookie) -> str:
        """Return the cookie's value."""
        timestamp = base64_encode(int_to_bytes(cookie.timestamp)).decode()
        value = f"{cookie.id}.{cookie.version}.{timestamp}"
        return f"{value}.{self._signer.get_signature(value).decode()}"

    def issue(self, cookie: Cookie, *, https: bool) -> str:
        """Return the Set-Cookie value that hands ``cookie`` to the client."""
        max_age = self._settings.max_age
        lifetime = "" if max_age is None else f"Max-Age={max_age}; "
        return self._header(self.sign(cookie), lifetime, https)

    def remove(self, *, https: bool) -> str:
        """Return the Set-Cookie value that removes the cookie.

        With the path, domain and flags that it was set with, or browsers keep the old one.
        """
        return self._header("null", f"{_EXPIRED}; ", https)

    def _header(self, value: str, lifetime: str, https: bool) -> str:
        settings = self._settings
        secure = https if settings.https_only is None else settings.https_only
        header = (
            f"{self._name}={value}; path={settings.path}; {lifetime}"
            f"httponly; samesite={settings.same_site}"
        )
        if secure:
            header += "; secure"
        if settings.domain is not None:
            header += f"; domain={settings.domain}"
        if settings.partitioned:
            header += "; partitioned"
        return header
