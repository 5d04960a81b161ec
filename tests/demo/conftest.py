"""Fixtures: a demo for everybody, demos of one's own, and the page of a browser."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from tests.demo.demos import Demo, running_demo
from tests.support.chromium import Chromium, Page, running_chromium


@pytest.fixture(scope="session")
def told_to_stop() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl+C does, so that what it has started is stopped as well."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def start_demo(told_to_stop: None) -> Iterator[Callable[..., Demo]]:
    """A function that runs a demo with some arguments, until the test ends."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(running_demo(*arguments))


@pytest.fixture(scope="session")
def demo(told_to_stop: None) -> Iterator[Demo]:
    """A demo with the defaults, for tests that leave all its servers running."""
    with running_demo() as running:
        yield running


@pytest.fixture(scope="session")
def local_demo(told_to_stop: None) -> Iterator[Demo]:
    """A demo whose servers keep sessions to themselves."""
    with running_demo("--sessions", "local", "--servers", "2") as running:
        yield running


@pytest.fixture(scope="session")
def chromium(told_to_stop: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for all tests."""
    with running_chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A page without cookies; no test makes its scripts fail, or ask another host."""
    with chromium.page() as fresh:
        fresh.report()
        yield fresh
        assert not fresh.reported("Runtime.exceptionThrown")
        said = [each["entry"] for each in fresh.reported("Log.entryAdded")]
        assert not [entry for entry in said if entry["source"] != "network"]
        asked = [each["request"]["url"] for each in fresh.reported("Network.requestWillBeSent")]
        hosts = {urlsplit(url).hostname for url in asked if not url.startswith("data:")}
        assert hosts <= {"127.0.0.1"}
