"""Connections have an age, so that a process that only reads notices that a name leads elsewhere.

An old primary that was replaced may go on to answer reads, for as long as a client is connected to
it: sessions that have ended since would be found there.
"""

from __future__ import annotations

import time
import weakref

CONNECTION_AGE = 10.0  # seconds after which a connection is made anew, at its next use


class Ages:
    """Which connections have been in use for too long.

    Those that were in use before the latest renewal: one comes by itself after a while, and one
    whenever connections are found to lead to the wrong server.
    """

    def __init__(self) -> None:
        self._renewals: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._latest = 0
        self._renew_at = time.monotonic() + CONNECTION_AGE

    def renew(self) -> None:
        """Every connection is too old from now on."""
        self._latest += 1
        self._renew_at = time.monotonic() + CONNECTION_AGE

    def is_old(self, connection: object) -> bool:
        """Say whether a connection that is about to be used must be made anew."""
        if time.monotonic() >= self._renew_at:
            self.renew()
        before = self._renewals.get(connection, self._latest)
        self._renewals[connection] = self._latest
        return before < self._latest
