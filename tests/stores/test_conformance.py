"""Every store here, held to the public contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import AsyncStoreConformance, Clock, StoreConformance


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(clock=clock)


class TestBoundedMemory(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(max_entries=20, clock=clock)


class TestSQLite(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Iterator[SQLStore]:
        store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 10.0, clock=clock)
        yield store
        store.close()


class TestSQLiteWithTheUsersEngine(StoreConformance):
    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Iterator[SQLStore]:
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/sessions.db")
        yield SQLStore(engine, table="their sessions", clock=clock)
        engine.dispose()


class TestRedis(StoreConformance):
    @pytest.fixture
    def store(self, redis_url: str) -> Iterator[RedisStore]:
        store = RedisStore.from_url(redis_url, 10.0)
        yield store
        store.close()

    @pytest.fixture
    def advance(self, advance_redis: Callable[[float], None]) -> Callable[[float], None]:
        return advance_redis


class TestAsyncRedis(AsyncStoreConformance):
    @pytest.fixture
    def store(self, redis_url: str) -> AsyncRedisStore:
        return AsyncRedisStore.from_url(redis_url, 10.0)

    @pytest.fixture
    def advance(self, advance_redis: Callable[[float], None]) -> Callable[[float], None]:
        return advance_redis
