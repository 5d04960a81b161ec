"""Servers on one store that notes its calls, and whose time a test moves."""

from __future__ import annotations

import os

import pytest
from fastapi.testclient import TestClient

from sharedsession.testing import Clock
from tests.fastapi.site import Server
from tests.support.watched import WatchedStore


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
def server(store: WatchedStore, clock: Clock) -> Server:
    return Server(store, clock)


@pytest.fixture
def other(store: WatchedStore, clock: Clock) -> Server:
    return Server(store, clock)


@pytest.fixture
def browser(server: Server) -> TestClient:
    return server.browser()
