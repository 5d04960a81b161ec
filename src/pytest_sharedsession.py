"""Fixtures for pytest: a store that fails on demand, and time that a test moves.

It stands beside the package so that pytest, which loads it each time, loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sharedsession.testing import Clock, FailingStore


@pytest.fixture
def session_clock() -> Clock:
    """A clock that stands still, at first at the present, until ``advance(seconds)`` is called."""
    import time

    from sharedsession.testing import Clock

    return Clock(float(int(time.time())))


@pytest.fixture
def session_store(session_clock: Clock) -> FailingStore:
    """A store in memory, on ``session_clock``: ``with session_store.outage(): …``."""
    from sharedsession.testing import FailingStore

    return FailingStore(clock=session_clock)
