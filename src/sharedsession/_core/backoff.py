"""How long an attempt may take while a store, or one of its servers, does not answer in time."""

from __future__ import annotations

import time

SHORT = 0.1  # seconds that an attempt may take while there has been no answer in time,
PAUSE = 2.0  # but for one in so many seconds, which may take its full time


class Backoff:
    """Shortens the attempts while there is no answer in time; it never refuses one.

    What fails at once, a refused connection for example, costs no time: then the next attempt has
    all of its own.
    """

    def __init__(self) -> None:
        self.is_down = False  # the last caller was kept waiting, in vain
        self._retry_at = 0.0  # when an attempt may take its full time again, monotonic
        self._answered_at = 0.0  # when there last was an answer, on the same clock

    def answered(self) -> None:
        """There was an answer."""
        self.is_down = False
        self._answered_at = time.monotonic()

    def failed(self, seconds: float) -> None:
        """An attempt has failed, after so long."""
        self.is_down = seconds >= SHORT

    def too_late(self, timeout: float) -> None:
        """The deadline has passed; many writers of one session may use it up, with the store up."""
        self.is_down = time.monotonic() - self._answered_at > timeout

    def timeout(self, full: float) -> float:
        """Return how many seconds an attempt may take, at most ``full``.

        Once in a while that is all, also while there is no answer: a store that is back, but far
        away, would never be noticed otherwise.
        """
        now = time.monotonic()
        if self.is_down and now < self._retry_at:
            return min(full, SHORT)
        self._retry_at = now + PAUSE
        return full
