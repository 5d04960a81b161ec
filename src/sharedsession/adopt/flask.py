"""Flask's own session: the data in a signed cookie, as tagged JSON."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import new, sha1
from typing import Any
from uuid import UUID

from .._core.record import Markup  # type: ignore[attr-defined]  # or what stands in for it
from ..exceptions import ConfigurationError
from . import decoding
from .arguments import DAY, Secrets
from .in_cookies import CookieSource
from .signing import Sign, by_itsdangerous

_TAG = re.compile(" [a-z]+")


class FlaskCookie(CookieSource):
    """The sessions that Flask itself keeps in a signed cookie.

    Args:
        secret_key: Flask's ``SECRET_KEY``, or a list that begins with it and goes on with
            ``SECRET_KEY_FALLBACKS``; default: sharedsession's own. Pass it where it begins or ends
            with white space, which sharedsession removes.
        cookie: ``SESSION_COOKIE_NAME``; default: the name of sharedsession's cookie.
        path: ``SESSION_COOKIE_PATH``, default ``"/"``.
        domain: ``SESSION_COOKIE_DOMAIN``, default None.
        max_age: ``PERMANENT_SESSION_LIFETIME`` in seconds or as a `timedelta`, default 31 days.
        salt: the salt of the session interface, default ``"cookie-session"``.
        digest: hashlib's name of its digest, default ``"sha1"``.
        key_derivation: itsdangerous' name of how it derives keys, default ``"hmac"``.

    Raises:
        ConfigurationError: a key, the lifetime or the digest is none.
    """

    kind = "flask"

    def __init__(
        self,
        secret_key: Secrets = None,
        *,
        cookie: str | None = None,
        path: str = "/",
        domain: str | None = None,
        max_age: float | timedelta = 31 * DAY,
        salt: str = "cookie-session",
        digest: str = "sha1",
        key_derivation: str = "hmac",
    ) -> None:
        super().__init__(secret_key, cookie, path, domain, max_age)
        self._how = salt.encode(), key_derivation, _digest(digest)

    def _signs(self, keys: Sequence[bytes]) -> Iterable[Sign]:
        return [by_itsdangerous(key, *self._how) for key in keys]

    def _decode(self, payload: str) -> decoding.Data:
        encoded = decoding.from_base64(payload.removeprefix("."), url_safe=True)
        if payload.startswith("."):
            encoded = decoding.unpacked(encoded)
        return untagged(decoding.from_json(encoded))


def untagged(data: dict[str, Any]) -> decoding.Data:
    """Return what Flask's `TaggedJSONSerializer` makes of JSON.

    Raises:
        NotAdoptable: a value is no value of its tag, or the tag is one that Flask was taught.
    """
    made = decoding.reading(lambda: _untag(data), "a value does not fit its tag")
    if type(made) is not dict:
        raise decoding.damaged("it is no dict")
    return made


def _untag(value: Any) -> Any:  # Any: what JSON makes, and values of the tags' types
    if isinstance(value, list):
        return [*map(_untag, value)]
    if not isinstance(value, dict):
        return value
    made = {key: _untag(each) for key, each in value.items()}
    if len(made) != 1:
        return made
    ((tag, inner),) = made.items()
    if tag in _TAGS:
        return _TAGS[tag](inner)
    if _TAG.fullmatch(tag):
        raise decoding.unsupported("a value with a tag that is not Flask's own")
    return made


def _dict_like_a_tag(value: dict[str, Any]) -> dict[str, Any]:
    ((key, inner),) = value.items()
    return {key[:-2]: inner}


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None  # as Werkzeug does
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_TAGS: dict[str, Callable[[Any], Any]] = {
    " di": _dict_like_a_tag,
    " t": tuple,
    " b": b64decode,
    " m": Markup,
    " u": UUID,
    " d": _moment,
}


def _digest(name: str) -> Any:  # hashlib's functions, as itsdangerous annotates them
    if name == "sha1":
        return sha1
    try:
        new(name)
    except ValueError:
        raise ConfigurationError(
            f"The digest must be one that hashlib knows, such as 'sha1', got {name!r}."
        ) from None
    return lambda data=b"": new(name, data)
