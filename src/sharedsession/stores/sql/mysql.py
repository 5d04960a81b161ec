"""Connections of PyMySQL that keep to a deadline, and do not read all certificates each time.

Without a word about TLS, PyMySQL tries it, and builds the context anew for each connection: with
the system's certificates, which it does not use, that is a tenth of a second of a processor. After
an outage, when all connections are opened at once, the database would come back seconds late. Nor
do PyMySQL and asyncmy read the same options in the same way, so the context is made here for both.
"""

from __future__ import annotations

import functools
import ssl
import time
from typing import Any

from pymysql.connections import Connection

from .._support.deadline import deadline

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
        return options if isinstance(options, ssl.SSLContext) else context({})


def context(options: dict[str, Any]) -> ssl.SSLContext:
    """Return the context for what `options.of_mysql` has found; {}: nothing is verified."""
    return _made(tuple(sorted(options.items())), int(time.monotonic() // KEPT))


@functools.lru_cache(maxsize=8)
def _made(given: tuple[tuple[str, Any], ...], _when: int) -> ssl.SSLContext:
    options = dict(given)
    if options.get("verify"):
        made = ssl.create_default_context(cafile=options.get("ca"), capath=options.get("capath"))
        # From Python 3.13 on; the certificates that MySQL makes for itself do not pass it.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        made.check_hostname = options["check_hostname"]
    else:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if "cert" in options:
        made.load_cert_chain(options["cert"], options.get("key"), options.get("key_password"))
    if "cipher" in options:
        made.set_ciphers(options["cipher"])
    return made
