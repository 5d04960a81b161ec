"""Fixtures: a demo for everybody, demos of one's own, and the page of a browser."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from tests.demo.browser import Browser, Page, browser
from tests.demo.demos import Demo, running_demo


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
def chromium(told_to_stop: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page without cookies."""
    with chromium.page() as fresh:
        yield fresh
