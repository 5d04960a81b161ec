"""Fixtures that the tests of several doors have in common: one store, one clock, no environment.

A ``conftest.py`` imports those that it wants, and names them in its ``__all__``.
"""

from __future__ import annotations

import os

import pytest

from sharedsession.testing import Clock
from tests.support.watched import WatchedStore


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the test run says about sessions is not meant for the tests."""
    for name in list(os.environ):
        if name.startswith("SHAREDSESSION_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Clock:
    """Time that the test moves."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> WatchedStore:
    """A memory that notes its calls."""
    return WatchedStore(clock)
