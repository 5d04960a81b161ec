"""Each store against a simple model, in any order of calls, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sharedsession.stores.base import TOKENS_KEPT, Entry, Store, Sweeper, new_token
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Awaited, Clock, LoopThread, new_key
from tests.conftest import advance_server
from tests.support.servers import RedisServer


@dataclass
class Row:
    """What the model knows of a key: the writes are numbered, newest first."""

    data: bytes
    version: int
    expires: float
    writes: list[int]


@dataclass
class Subject:
    store: Store
    pin: Callable[[bytes | None], None]
    advance: Callable[[float], None]


@dataclass
class Seen:
    """An entry that some caller holds, of the write with this number."""

    key: str
    entry: Entry
    write: int


@dataclass
class Model:
    now: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)

    def alive(self, key: str) -> Row | None:
        row = self.rows.get(key)
        return row if row is not None and row.expires > self.now else None


def machine(subject: Subject) -> type[RuleBasedStateMachine]:
    store = subject.store

    class Machine(RuleBasedStateMachine):
        seen = Bundle("seen")
        keys = st.integers(0, 2)
        data = st.binary(max_size=20)
        # Far enough apart that the time the test itself takes makes no difference.
        ttls = st.sampled_from([100, 1000, 10_000])
        floors = st.sampled_from([0, 0, 1, 3, 50])
        again = st.sampled_from([0, 0, 0, 1, 2])

        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.names = [new_key() for _ in range(3)]
            self.write = 0

        @rule(target=seen, number=keys, data=data, ttl=ttls, again=again)
        def create(self, number: int, data: bytes, ttl: int, again: int) -> Any:
            key, self.write = self.names[number], self.write + 1
            free = self.model.alive(key) is None
            if free:
                self.model.rows[key] = Row(data, 1, self.model.now + ttl, [self.write])
            return self.repeat(key, lambda: store.create(key, data, ttl), free, data, 1, again)

        @rule(target=seen, old=seen, data=data, ttl=ttls, floor=floors, again=again)
        def replace(self, old: Seen, data: bytes, ttl: int, floor: int, again: int) -> Any:
            key, self.write = old.key, self.write + 1
            row = self.model.alive(key)
            fits = row is not None and row.writes[0] == old.write
            version = max(old.entry.version, floor) + 1
            if row is not None and fits:
                writes = [self.write, *row.writes][:TOKENS_KEPT]
                self.model.rows[key] = Row(data, version, self.model.now + ttl, writes)
            return self.repeat(
                key,
                lambda: store.replace(key, old.entry, data, ttl, at_least=floor),
                fits,
                data,
                version,
                again,
            )

        def repeat(
            self,
            key: str,
            call: Callable[[], Entry | None],
            succeeds: bool,
            data: bytes,
            version: int,
            again: int,
        ) -> Any:
            """Make a write, as often as if its answer had been lost that many times."""
            subject.pin(new_token())
            answers = [call() for _ in range(1 + again)]
            subject.pin(None)
            assert [answer is not None for answer in answers] == [succeeds] * (1 + again)
            for answer in answers:
                assert answer is None or (answer.data, answer.version) == (data, version)
            assert [answer is not None and answer.repeated for answer in answers] == [
                succeeds and n > 0 for n in range(1 + again)
            ]
            return multiple(
                *(Seen(key, answer, self.write) for answer in answers if answer is not None)
            )

        @rule(target=seen, old=seen, data=data, others=st.integers(0, 5))
        def overtaken(self, old: Seen, data: bytes, others: int) -> Any:
            """The answer of a replace is lost, others write, and the replace is repeated."""
            key, row = old.key, self.model.alive(old.key)
            if row is None or row.writes[0] != old.write:
                return multiple()
            token, mine = new_token(), self.write + 1
            subject.pin(token)
            entry = store.replace(key, old.entry, data, 1000)
            subject.pin(None)
            writes = [mine, *row.writes]
            assert entry is not None
            for _ in range(others):
                entry = store.replace(key, entry, b"others", 1000)
                assert entry is not None
                writes.insert(0, mine + len(writes))
            subject.pin(token)
            answer = store.replace(key, old.entry, data, 1000)
            subject.pin(None)
            assert (answer is not None) == (mine in writes[:TOKENS_KEPT])
            assert answer is None or answer.repeated
            self.write = max(writes)
            self.model.rows[key] = Row(
                b"others" if others else data,
                entry.version,
                self.model.now + 1000,
                writes[:TOKENS_KEPT],
            )
            return Seen(key, entry, writes[0])

        @rule(target=seen, number=keys, floor=floors)
        def load(self, number: int, floor: int) -> Any:
            key = self.names[number]
            entry, row = store.load(key, floor), self.model.alive(key)
            if row is None:
                assert entry is None
                return multiple()
            assert entry is not None
            assert (entry.data, entry.version) == (row.data, row.version)
            return Seen(key, entry, row.writes[0])

        @rule(number=keys, ttl=ttls)
        def touch(self, number: int, ttl: int) -> None:
            row = self.model.alive(self.names[number])
            assert store.touch(self.names[number], ttl) == (row is not None)
            if row is not None:
                row.expires = self.model.now + ttl

        @rule(number=keys)
        def delete(self, number: int) -> None:
            assert store.delete(self.names[number]) is True
            self.model.rows.pop(self.names[number], None)

        @rule(old=seen)
        def delete_what_is_held(self, old: Seen) -> None:
            row = self.model.alive(old.key)
            held = row is not None and row.writes[0] == old.write
            assert store.delete(old.key, old.entry) is held
            if held:
                del self.model.rows[old.key]

        @rule(seconds=st.sampled_from([50, 100, 500, 1000, 5000]))
        def advance(self, seconds: int) -> None:
            subject.advance(seconds)
            self.model.now += seconds

        @rule(limit=st.integers(0, 5))
        def sweep(self, limit: int) -> None:
            if isinstance(store, Sweeper):
                assert 0 <= store.sweep(limit) <= limit

        def teardown(self) -> None:
            for name in self.names:
                store.delete(name)

    return Machine


class Pinned:
    """Lets a test decide the write tokens of a store."""

    def __init__(self, store: Any) -> None:
        self._store, self._own = store, store._new_token

    def __call__(self, token: bytes | None) -> None:
        self._store._new_token = self._own if token is None else lambda: token


@pytest.fixture
def memory() -> Subject:
    clock = Clock()
    store = MemoryStore(clock=clock)
    return Subject(store, Pinned(store), clock.advance)


@pytest.fixture
def bounded() -> Subject:
    clock = Clock()
    store = MemoryStore(max_entries=50, clock=clock)
    return Subject(store, Pinned(store), clock.advance)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Subject]:
    clock = Clock()
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", clock=clock)
    yield Subject(store, Pinned(store), clock.advance)
    store.close()


@pytest.fixture
def redis_sync(server: RedisServer) -> Iterator[Subject]:
    store = RedisStore.from_url(server.url)
    with redis.Redis.from_url(server.url) as admin:
        yield Subject(store, Pinned(store), lambda seconds: advance_server(admin, seconds))
    store.close()


@pytest.fixture
def redis_async(server: RedisServer) -> Iterator[Subject]:
    store = AsyncRedisStore.from_url(server.url)
    with redis.Redis.from_url(server.url) as admin, LoopThread() as loop:
        awaited = Awaited(store, loop)
        yield Subject(awaited, Pinned(store), lambda seconds: advance_server(admin, seconds))


@pytest.mark.parametrize("name", ["memory", "bounded", "sqlite", "redis_sync", "redis_async"])
def test_a_store_behaves_as_its_model(name: str, request: pytest.FixtureRequest) -> None:
    """Any sequence of calls, lost answers and passing time has the answers of the model."""
    subject: Subject = request.getfixturevalue(name)
    run_state_machine_as_test(
        machine(subject),
        settings=settings(
            max_examples=100 if name in ("memory", "bounded") else 50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
