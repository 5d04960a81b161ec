"""The shops of both examples, running; the browser of the demo's tests serves here as well."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.demo.conftest import chromium, page, told_to_stop
from tests.examples.serving import EXAMPLES, commands, running

__all__ = ["chromium", "page", "shops", "told_to_stop"]


class Shops(NamedTuple):
    """The addresses of servers on one store, two of each framework."""

    fastapi: list[str]
    flask: list[str]


@pytest.fixture(scope="session")
def shops(told_to_stop: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shops]:
    """Both examples on one SQLite file, each by all the commands of its page.

    The first command of a page is for trying, the second for production; they share a key here
    because both are told that they run for development.
    """
    folder = tmp_path_factory.mktemp("shops")
    launches = [
        (command, EXAMPLES / name)
        for name in Shops._fields
        for command in commands(EXAMPLES / name / "README.md")
    ]
    environment = {
        "APP_ENV": "development",
        "SHAREDSESSION_STORE": f"sqlite:///{folder / 'sessions.db'}",
        "HOME": str(folder),  # where gunicorn puts a socket of its own
    }
    with running(*launches, **environment) as addresses:
        yield Shops(addresses[:2], addresses[2:])
