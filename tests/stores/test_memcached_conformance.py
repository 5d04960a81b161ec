"""Memcached held to the public contract: one server, three, a socket, the user's own client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pymemcache
import pytest

from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.testing.stores import AsyncStoreConformance, StoreConformance
from tests.support.memcached_servers import (
    MemcachedServer,
    advancing,
    memcached_servers,
    url_of,
)

PATIENT = 10.0  # for tests that are not about time, on a machine that may be busy
OPTIONS = ("-I", "4m")  # for values of a mebibyte


@pytest.fixture(scope="module")
def three() -> Iterator[list[MemcachedServer]]:
    with memcached_servers(3, *OPTIONS) as servers:
        yield servers


@pytest.fixture(scope="module")
def by_socket() -> Iterator[MemcachedServer]:
    with MemcachedServer(*OPTIONS, by_socket=True) as server:
        yield server


class TestOneServer(StoreConformance):
    @pytest.fixture
    def servers(self, three: list[MemcachedServer]) -> list[MemcachedServer]:
        return three[:1]

    @pytest.fixture
    def url(self, servers: list[MemcachedServer]) -> str:
        return f"{url_of(servers)}?prefix={len(servers)}:"

    @pytest.fixture
    def store(self, url: str) -> Iterator[MemcachedStore]:
        store = MemcachedStore.from_url(url, PATIENT)
        yield store
        store.close()

    @pytest.fixture
    def advance(self, servers: list[MemcachedServer]) -> Callable[[float], None]:
        return advancing(servers)


class TestThreeServers(TestOneServer):
    @pytest.fixture
    def servers(self, three: list[MemcachedServer]) -> list[MemcachedServer]:
        return three


class TestASocket(TestOneServer):
    @pytest.fixture
    def servers(self, by_socket: MemcachedServer) -> list[MemcachedServer]:
        return [by_socket]


class TestTheUsersClients(TestThreeServers):
    @pytest.fixture
    def store(self, servers: list[MemcachedServer]) -> Iterator[MemcachedStore]:
        clients = [pymemcache.PooledClient(("127.0.0.1", each.port)) for each in servers]
        yield MemcachedStore(clients, prefix="theirs:")
        for client in clients:
            client.close()


class TestAsyncOneServer(AsyncStoreConformance):
    @pytest.fixture
    def servers(self, three: list[MemcachedServer]) -> list[MemcachedServer]:
        return three[:1]

    @pytest.fixture
    def store(self, servers: list[MemcachedServer]) -> AsyncMemcachedStore:
        url = f"{url_of(servers)}?prefix={len(servers)}:"
        return AsyncMemcachedStore.from_url(url, PATIENT)

    @pytest.fixture
    def advance(self, servers: list[MemcachedServer]) -> Callable[[float], None]:
        return advancing(servers)


class TestAsyncThreeServers(TestAsyncOneServer):
    @pytest.fixture
    def servers(self, three: list[MemcachedServer]) -> list[MemcachedServer]:
        return three


class TestAsyncSocket(TestAsyncOneServer):
    @pytest.fixture
    def servers(self, by_socket: MemcachedServer) -> list[MemcachedServer]:
        return [by_socket]
