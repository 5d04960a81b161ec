"""Time that a test moves."""

from __future__ import annotations


class Clock:
    """A clock that stands still until it is told how many seconds have passed."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds
