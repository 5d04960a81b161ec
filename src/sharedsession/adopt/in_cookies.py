"""What sources have in common whose sessions are in signed cookies, and nowhere else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from . import decoding
from .arguments import Secrets, keys_of, seconds_of
from .signing import Sign, end_of, signed_part, time_of
from .source import Found, Source


class CookieSource(Source):
    """Sessions in cookies that itsdangerous has signed: payload, time and signature."""

    has_records = False

    def __init__(
        self,
        secret_key: Secrets,
        cookie: str | None,
        path: str,
        domain: str | None,
        max_age: float | timedelta,
    ) -> None:
        self.cookie, self.path, self.domain = cookie, path, domain
        self.lifetime = seconds_of(max_age)
        self._own_keys = keys_of(secret_key)

    @abstractmethod
    def _signs(self, keys: Sequence[bytes]) -> Iterable[Sign]:
        """Return how each key signs."""

    @abstractmethod
    def _decode(self, payload: str) -> decoding.Data:
        """Return the data."""

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        return text if self._signed(text, keys) else None

    def _signed(self, text: str, keys: Sequence[bytes]) -> str | None:
        return signed_part(text, ".", self._signs(self._own_keys or keys))

    def read(self, value: str, keys: Sequence[bytes], now: float) -> Found | None:
        signed = self._signed(value, keys)
        if signed is None:
            return None
        payload, _, time = signed.rpartition(".")
        expires = end_of(time_of(time), self.lifetime, now)
        return Found(self._decode(payload), expires) if expires > now else None

    def delete(self, value: str) -> None:
        """Do nothing: what a client holds cannot be deleted."""

    def values(self) -> Iterator[str]:
        raise TypeError(
            f"The sessions of {type(self).__name__} are in the clients' cookies, which no server "
            "can list. Each is adopted with its client's next request."
        )

    def close(self) -> None:
        """Do nothing: there is no store."""
