"""What the tests of the Litestar door stand on: one store, one clock, and a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from sharedsession.litestar import SharedSessionConfig
from sharedsession.testing.stores import Clock
from tests.support.watched import WatchedStore

SECRET = "a secret of the tests, long enough for them"
MakeConfig = Callable[..., SharedSessionConfig]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the test run says about sessions is not meant for the tests."""
    for name in list(os.environ):
        if name.startswith("SHAREDSESSION_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> WatchedStore:
    return WatchedStore(clock)


@pytest.fixture
def make_config(store: WatchedStore, clock: Clock) -> MakeConfig:
    """Configurations on the same store and clock."""

    def make(**arguments: Any) -> SharedSessionConfig:
        config = SharedSessionConfig(SECRET, store=store, store_timeout=10, **arguments)
        config.layer.manager.clock = clock
        return config

    return make


@pytest.fixture
def config(make_config: MakeConfig) -> SharedSessionConfig:
    return make_config()
