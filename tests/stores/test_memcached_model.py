"""Memcached against the model of a store, and eight processes on one of its items."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sharedsession.stores import open_store
from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.testing.stores import Awaited, LoopThread
from tests.stores.processes import run_python
from tests.stores.test_model import Pinned, Subject, machine
from tests.stores.test_processes import ASYNC, EACH, PROCESSES, SYNC
from tests.support.memcached_servers import MemcachedServer, advancing, memcached_servers, url_of

PATIENT = 20.0


@pytest.fixture(scope="module")
def two() -> Iterator[list[MemcachedServer]]:
    with memcached_servers(2) as servers:
        yield servers


@pytest.fixture(params=["sync", "async"])
def subject(two: list[MemcachedServer], request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "sync":
        store = MemcachedStore.from_url(url_of(two), PATIENT)
        yield Subject(store, Pinned(store), advancing(two))
        store.close()
    else:
        awaited = AsyncMemcachedStore.from_url(url_of(two), PATIENT)
        with LoopThread() as loop:
            yield Subject(Awaited(awaited, loop), Pinned(awaited), advancing(two))


def test_memcached_behaves_as_its_model(subject: Subject) -> None:
    """Any sequence of calls, lost answers and passing time has the answers of the model."""
    run_state_machine_as_test(
        machine(subject),
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("code", [SYNC, ASYNC], ids=["sync", "async"])
def test_increments_of_eight_processes_add_up(two: list[MemcachedServer], code: str) -> None:
    """N increments add up to N, though all processes begin at once on servers nobody has used."""
    for server in two:
        server.restart()
    url = url_of(two)
    begin = "from sharedsession.stores import open_store\n"
    lost = run_python(PROCESSES, begin + code, url=url, each=EACH)
    pair = open_store(url, PATIENT)
    assert isinstance(pair.sync, MemcachedStore)
    entry = pair.sync.load("row")
    assert entry is not None
    assert entry.data == b"%d" % (PROCESSES * EACH)
    assert entry.version == PROCESSES * EACH + 1
    assert sum(map(int, lost)) > 0  # they did meet
    pair.sync.close()
