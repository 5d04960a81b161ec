"""What sources have in common whose sessions are records under a prefix and the session ID."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from .arguments import seconds_of
from .moments import epoch_of
from .records import Records
from .source import Found, Source


class RecordSource(Source):
    """Sessions in records; a cookie holds the bare ID, unless a subclass knows better."""

    has_records = True
    id: ClassVar[re.Pattern[str]]
    """What all IDs of the old package look like: nothing else reaches its store."""

    def __init__(
        self,
        records: Records,
        prefixes: Sequence[str],
        cookie: str | None,
        path: str,
        domain: str | None,
        max_age: float | timedelta,
    ) -> None:
        self.cookie, self.path, self.domain = cookie, path, domain
        self.lifetime = seconds_of(max_age)
        self._records = records
        self._prefixes = prefixes

    @abstractmethod
    def _decode(
        self, stored: Any, expires: float, keys: Sequence[bytes]
    ) -> Found | None:  # Any: bytes, or what a column holds
        """Return the session of a record; None: it does not count."""

    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        return text if self.id.fullmatch(text) else None

    def read(self, value: str, keys: Sequence[bytes], now: float) -> Found | None:
        if not self.id.fullmatch(value):
            return None
        for prefix in self._prefixes:
            raw = self._records.load(prefix + value, now)
            if raw is not None and raw.data:
                expires = now + self.lifetime if raw.expires is None else self._end(raw.expires)
                return self._decode(raw.data, expires, keys) if expires > now else None
        return None

    def _end(self, expires: Any) -> float:  # Any: a number, or what a column holds
        return epoch_of(expires)

    def delete(self, value: str) -> None:
        for prefix in self._prefixes:
            self._records.delete(prefix + value)

    def values(self) -> Iterator[str]:
        for prefix in self._prefixes:
            for key in self._records.keys(prefix):
                if self.id.fullmatch(value := key.removeprefix(prefix)):
                    yield value

    def close(self) -> None:
        self._records.close()
