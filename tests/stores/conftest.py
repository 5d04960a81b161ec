"""The databases of several files; each file starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import MariaDB, PostgreSQL


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server
