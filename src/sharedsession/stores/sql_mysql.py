"""Connections of PyMySQL that keep to a deadline, and do not read all certificates each time.

Without a word about TLS, PyMySQL tries it, and builds the context anew for each connection: with
the system's certificates, which it does not use, that is a tenth of a second of a processor. After
an outage, when all connections are opened at once, the database would come back seconds late.
"""

from __future__ import annotations

import functools
import ssl
import time
from typing import Any

from pymysql.connections import Connection

from .waiting import deadline

KEPT = 600  # seconds, at most, that a context is used: certificates are replaced now and then


class BoundedConnection(Connection):  # type: ignore[misc]  # PyMySQL carries no types
    """A connection that keeps to the `deadline` of the thread that uses it."""

    _longest: float | None = None

    def _left(self) -> float | None:
        left = deadline.left()
        if left == float("inf"):
            return self._longest
        return max(0.001, left if self._longest is None else min(left, self._longest))

    def _keep(self, seconds: float | None) -> None:
        self._longest = seconds

    # Looked at before each packet that is read or written.
    _read_timeout = _write_timeout = property(_left, _keep)

    def _create_ssl_ctx(self, options: Any) -> ssl.SSLContext:  # Any: a dict, or a context
        return context(options)


def context(options: Any) -> ssl.SSLContext:
    """Return the context that PyMySQL makes of such options, of which asyncmy has the same."""
    if isinstance(options, ssl.SSLContext):
        return options
    return _made(tuple(sorted(options.items())), int(time.monotonic() // KEPT))


@functools.lru_cache(maxsize=8)
def _made(options: tuple[tuple[str, object], ...], _when: int) -> ssl.SSLContext:
    # It makes no use of the connection, which needs the context in order to be made.
    made: ssl.SSLContext = Connection._create_ssl_ctx(None, dict(options))
    return made
