"""What sources are told about the old package, checked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from .._core.record import LONGEST, whole_seconds
from ..exceptions import ConfigurationError

Secrets = str | bytes | Sequence[str | bytes] | None
DAY: Final = 24 * 60 * 60  # seconds


def seconds_of(lifetime: float | timedelta) -> int:
    """Return a lifetime in whole seconds; refuse what is none."""
    seconds = whole_seconds(lifetime)
    if seconds is None or not 0 < seconds <= LONGEST:
        raise ConfigurationError(
            f"The lifetime of old sessions must be a positive number of seconds, got {lifetime!r}."
        )
    return seconds


def keys_of(secret_key: Secrets) -> tuple[bytes, ...] | None:
    """Return secret keys as bytes, as they are: what signed the old cookies stripped nothing."""
    if secret_key is None:
        return None
    single = isinstance(secret_key, str | bytes) or not isinstance(secret_key, Sequence)
    keys = tuple(map(_key, [secret_key] if single else secret_key))
    if not keys or not all(keys):
        raise ConfigurationError(
            "The secret key of an old package must not be empty: pass what it signed with, or "
            "leave it out where it was sharedsession's own."
        )
    return keys


def _key(given: object) -> bytes:
    if type(given).__name__ == "Secret":  # Starlette's, whose text it is
        given = str(given)
    if not isinstance(given, str | bytes):
        raise ConfigurationError(
            "The secret key of an old package must be a text, bytes, or a list of them, newest "
            f"first; got {type(given).__name__}."
        )
    return given.encode(errors="surrogateescape") if isinstance(given, str) else given
