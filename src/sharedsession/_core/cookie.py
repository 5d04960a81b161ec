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
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from itsdangerous import TimestampSigner
from itsdangerous.encoding import base64_decode, base64_encode, bytes_to_int, int_to_bytes

from .settings import LARGEST_VALUE, Settings
from .source import Source

LONGEST_REMEMBERED = 1024  # characters of a Cookie header with what was found in it
REMEMBERED = 4096  # cookies of the most recent clients, with what was found out about them
CANDIDATES = 4  # cookies of our name that are looked up, when a client sends several that verify
_SHAPE = re.compile(
    r"([A-Za-z0-9_-]{43})\.([0-9]{1,18})\.([A-Za-z0-9_-]{1,11})\.([A-Za-z0-9_-]{43})", re.ASCII
)
# A cookie in a header, with what parts it from the one before. Servers and proxies join the headers
# of one name by commas; but one in a quoted value, which may hold any text, parts nothing.
_VALUE = r"""(?:^|([;,]))[ \t]*+{name}[ \t]*+=[ \t]*+"?([^;,"]*+)(?:"[ \t]*+)?(?=[;,]|\Z)"""
_QUOTED = r"""=[ \t]*+"(?:[^"\\;]|\\[^;])*+\""""
# What itsdangerous signs with a timestamp, as Starlette's and Flask's own sessions are, and ours.
_TIMED = re.compile(r".+\.([A-Za-z0-9_-]{6})\.[A-Za-z0-9_-]{27,}", re.ASCII)
_EXPIRED = "expires=Thu, 01 Jan 1970 00:00:00 GMT"


def finder(name: str) -> Callable[[str], list[tuple[str, str]]]:
    """Return what finds the cookies of a name in a header: what parts each off, and its text."""
    pattern = rf"{_VALUE.format(name=re.escape(name))}|{_QUOTED}"
    return re.compile(pattern, re.ASCII).findall


def removal(source: Source) -> str:
    """Return the Set-Cookie value that removes the cookie of another package."""
    domain = "" if source.domain is None else f"; domain={source.domain}"
    # Without it browsers refuse whatever sets a cookie with one of these prefixes.
    demands = (source.cookie or "").lower().startswith(("__host-", "__secure-"))
    secure = "; secure" if demands else ""
    return f"{source.cookie}=; path={source.path}; {_EXPIRED}; httponly{secure}{domain}"


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

    A hash, so that a reader of the store, of a dump or of a slow log cannot become a user. With 256
    random bits in the ID it needs no secret.
    """
    digest = hashlib.sha256(f"{namespace}\0{session_id}".encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_key(text: object) -> bool:
    """Say whether this has the shape of a store key: what a user typed may be anything."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


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
        self._ours = finder(self._name)
        self._known: OrderedDict[str, Cookie | None] = OrderedDict()
        self._read_one = lru_cache(REMEMBERED)(self._read)

    def read(self, headers: Sequence[str]) -> Sequence[Cookie]:
        """Return the cookies of our name that verify, in the client's order, at most four.

        Every header counts (HTTP/2 splits them), and a foreign cookie with an illegal name or
        value does not hide ours. What stands behind a comma may be part of a foreign value all the
        same, so it comes last.
        """
        if len(headers) == 1 and len(headers[0]) <= LONGEST_REMEMBERED:
            return self._read_one(headers[0])
        return self._read(*headers)

    def _read(self, *headers: str) -> Sequence[Cookie]:
        found: dict[str, Cookie] = {}
        texts = [each for header in headers for each in self._ours(header)]
        for _, text in sorted(texts, key=lambda each: each[0] == ","):
            if len(found) == CANDIDATES:
                break
            value = text.rstrip(" \t")
            # What is longer is none of ours, and need not be remembered either.
            cookie = self.verify(value) if len(value) <= LARGEST_VALUE else None
            if cookie is not None:
                known = found.get(cookie.id)
                if known is None or known.order < cookie.order:
                    found[cookie.id] = cookie
        return tuple(found.values())

    def made_elsewhere(self, headers: Iterable[str]) -> Iterator[tuple[int, bool]]:
        """Yield when something else has signed cookies of our name, and whether this package did.

        For cookies of which none verifies. Nothing vouches for what they say.
        """
        for header in headers:
            for _, text in self._ours(header):
                value = text.rstrip(" \t")
                if timed := _TIMED.fullmatch(value):
                    made = bytes_to_int(base64_decode(timed[1]))
                    yield made, _SHAPE.fullmatch(value) is not None

    def verify(self, value: str) -> Cookie | None:
        """Return the cookie, or None for whatever this package did not issue."""
        try:
            return self._known[value]
        except KeyError:
            return self._remember(value, self._verify(value))

    def _remember(self, value: str, cookie: Cookie | None) -> Cookie | None:
        self._known[value] = cookie
        if len(self._known) > REMEMBERED:
            with suppress(KeyError):  # another thread was quicker
                self._known.popitem(last=False)
        return cookie

    def _verify(self, value: str) -> Cookie | None:
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
        value += f".{self._signer.get_signature(value).decode()}"
        self._remember(value, cookie)  # it comes back with the client's next request
        return value

    def issue(
        self,
        cookie: Cookie,
        *,
        https: bool,
        lifetime: int | Literal["permanent", "browser"] | None = None,
    ) -> str:
        """Return the Set-Cookie value that hands ``cookie`` to the client.

        ``lifetime`` is the session's own, in seconds where it has a number or an end.
        """
        match lifetime:
            case None:
                seconds = self._settings.max_age
            case "browser":
                seconds = None
            case "permanent":
                seconds = self._settings.idle_timeout
            case _:
                seconds = lifetime
        expiry = "" if seconds is None else f"Max-Age={seconds}; "
        return self._header(self.sign(cookie), expiry, https)

    def remove(self, *, https: bool) -> str:
        """Return the Set-Cookie value that removes the cookie.

        With the path, domain and flags that it was set with, or browsers keep the old one.
        """
        # Starlette's own spelling where sessions end at once: Max-Age=0, or what was set.
        ends_at_once = self._settings.idle_timeout <= 0
        expiry = f"Max-Age={self._settings.idle_timeout}" if ends_at_once else _EXPIRED
        return self._header("null", f"{expiry}; ", https)

    def _header(self, value: str, expiry: str, https: bool) -> str:
        settings = self._settings
        secure = https if settings.https_only is None else settings.https_only
        header = (
            f"{self._name}={value}; path={settings.path}; {expiry}"
            f"httponly; samesite={settings.same_site}"
        )
        if secure:
            header += "; secure"
        if settings.domain is not None:
            header += f"; domain={settings.domain}"
        if settings.partitioned:
            header += "; partitioned"
        return header
