"""Starlette's own session: the data in a signed cookie, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import sha1

from . import decoding
from .arguments import DAY, Secrets
from .in_cookies import CookieSource
from .signing import Sign, by_itsdangerous

HOW = (
    b"itsdangerous.Signer",
    "django-concat",
    sha1,
)  # what itsdangerous does when it is told nothing


class StarletteCookie(CookieSource):
    """The sessions that Starlette's ``SessionMiddleware`` keeps in a signed cookie.

    Args:
        secret_key: its ``secret_key``, or a list, newest first; default: sharedsession's own.
            Pass it where it begins or ends with white space, which sharedsession removes.
        cookie: its ``session_cookie``; default: the name of sharedsession's cookie.
        path: its ``path``, default ``"/"``.
        domain: its ``domain``, default None.
        max_age: its ``max_age`` in seconds or as a `timedelta`, default 14 days. Where that was
            None, the longest age of a cookie that is to be adopted.

    Raises:
        ConfigurationError: a key or the lifetime is none.
    """

    kind = "starlette"

    def __init__(
        self,
        secret_key: Secrets = None,
        *,
        cookie: str | None = None,
        path: str = "/",
        domain: str | None = None,
        max_age: float | timedelta = 14 * DAY,
    ) -> None:
        super().__init__(secret_key, cookie, path, domain, max_age)

    def _signs(self, keys: Sequence[bytes]) -> Iterable[Sign]:
        # Starlette signs with str(secret_key), of bytes too.
        return [by_itsdangerous(form, *HOW) for key in keys for form in (key, str(key).encode())]

    def _decode(self, payload: str) -> decoding.Data:
        return decoding.from_json(decoding.from_base64(payload, url_safe=False))
