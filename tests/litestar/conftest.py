"""What the tests of the Litestar door stand on: one store, one clock, and a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sharedsession.litestar import SharedSessionConfig
from sharedsession.testing.stores import Clock
from tests.support.fixtures import clock, no_settings_from_outside, store
from tests.support.watched import WatchedStore

__all__ = ["clock", "no_settings_from_outside", "store"]

SECRET = "a secret of the tests, long enough for them"
MakeConfig = Callable[..., SharedSessionConfig]


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
