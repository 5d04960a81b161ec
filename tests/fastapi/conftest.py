"""Servers on one store that notes its calls, and whose time a test moves."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from sharedsession.testing import Clock
from tests.fastapi.site import Server
from tests.support.fixtures import clock, no_settings_from_outside, store
from tests.support.watched import WatchedStore

__all__ = ["clock", "no_settings_from_outside", "store"]


@pytest.fixture
def server(store: WatchedStore, clock: Clock) -> Server:
    return Server(store, clock)


@pytest.fixture
def other(store: WatchedStore, clock: Clock) -> Server:
    return Server(store, clock)


@pytest.fixture
def browser(server: Server) -> TestClient:
    return server.browser()
