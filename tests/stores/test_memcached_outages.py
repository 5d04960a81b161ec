"""Memcached that cannot be reached, held to the public contract."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.testing.stores import AsyncOutageConformance, Outage, OutageConformance
from tests.stores.outages import TIMEOUT, hanging
from tests.support.memcached_servers import MemcachedServer


@pytest.fixture(scope="module")
def hung() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def outage(hung: MemcachedServer) -> Outage:
    return partial(hanging, hung)


class TestMemcached(OutageConformance):
    @pytest.fixture
    def store(self, hung: MemcachedServer) -> Iterator[MemcachedStore]:
        store = MemcachedStore.from_url(hung.url, TIMEOUT)
        yield store
        store.close()


class TestAsyncMemcached(AsyncOutageConformance):
    @pytest.fixture
    def store(self, hung: MemcachedServer) -> AsyncMemcachedStore:
        return AsyncMemcachedStore.from_url(hung.url, TIMEOUT)
