"""PostgreSQL and MariaDB that cannot be reached, by each of the drivers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from sharedsession.stores.sql import AsyncSQLStore, SQLStore
from sharedsession.testing.stores import AsyncOutageConformance, Outage, OutageConformance
from tests.stores.outages import TIMEOUT, hanging
from tests.support.databases import Database

SERVERS = {
    "psycopg": "postgresql",
    "asyncpg": "postgresql",
    "pymysql": "mariadb",
    "asyncmy": "mariadb",
}


@pytest.fixture
def hung(request: pytest.FixtureRequest, driver: str) -> Database:
    server: Database = request.getfixturevalue(SERVERS[driver])
    return server


@pytest.fixture
def url(hung: Database, driver: str) -> str:
    url: str = hung.url  # type: ignore[attr-defined]  # every server of a test has one
    return url.replace("://", f"+{driver}://", 1)


@pytest.fixture
def outage(hung: Database) -> Outage:
    return partial(hanging, hung)


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
class TestSQL(OutageConformance):
    @pytest.fixture
    def store(self, url: str) -> Iterator[SQLStore]:
        store = SQLStore.from_url(url, TIMEOUT)
        yield store
        store.close()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "asyncmy"])
class TestAsyncSQL(AsyncOutageConformance):
    @pytest.fixture
    def store(self, url: str) -> AsyncSQLStore:
        return AsyncSQLStore.from_url(url, TIMEOUT)
