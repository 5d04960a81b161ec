"""Redis, Valkey and a cluster that cannot be reached, held to the public contract."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import AsyncOutageConformance, Outage, OutageConformance
from tests.stores.outages import TIMEOUT, hanging
from tests.support.servers import RedisServer, binaries


@pytest.fixture(scope="module", params=list(binaries()))
def hung(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def outage(hung: RedisServer) -> Outage:
    return partial(hanging, hung)


class TestRedis(OutageConformance):
    @pytest.fixture
    def store(self, hung: RedisServer) -> Iterator[RedisStore]:
        store = RedisStore.from_url(hung.url, TIMEOUT)
        yield store
        store.close()


class TestAsyncRedis(AsyncOutageConformance):
    @pytest.fixture
    def store(self, hung: RedisServer) -> AsyncRedisStore:
        return AsyncRedisStore.from_url(hung.url, TIMEOUT)
