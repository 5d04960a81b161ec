"""For all tests: which of them `make test` runs, and the Redis-type servers of this machine."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import redis

pytest.register_assert_rewrite("sharedsession.testing.stores")

from pytest_sharedsession import session_clock, session_store  # noqa: E402 - after the line above
from tests.support.processes import ServerMissing  # noqa: E402 - after the line above
from tests.support.servers import RedisServer, binaries  # noqa: E402 - after the line above

__all__ = ["session_clock", "session_store"]  # as the plugin gives them to applications' tests

# --- tiers ----------------------------------------------------------------------------------------

TESTS = Path(__file__).parent
# Files, or tests of a file, that have a marker; `make test` runs none of these.
TIERS = {
    "servers": """
        adopt/*::*memcached* adopt/*::*postgresql* adopt/*::*mariadb*
        adopt/test_records.py::*of_many* adopt/test_stores.py::*Memcached*
        adopt/test_stores.py::*PostgreSQL* adopt/test_stores.py::*MariaDB*
        adopt/test_records.py::test_a_read_waits*
        applications/elsewhere/* benchmarks/* consistency/* django/test_databases.py
        kubernetes/* load_balancers/* reliability/*
        stores/test_full.py stores/test_memcached*.py stores/test_redis_*.py
        stores/test_repeated.py stores/test_replica.py stores/test_sql_*.py
        stores/test_storm.py
    """.split(),
    "slow": """
        adopt/test_django.py adopt/test_doors.py::*django* adopt/test_every_source.py::*django*
        adopt/test_generations.py adopt/test_records.py::test_random_records*
        applications/* demo/* deployments/* examples/*
        asgi/test_misconfigured.py::test_a_server_does_not_start*
        django/test_servers.py django/test_settings.py::*migration* django/test_moving_in.py
        fastapi/test_openapi.py::test_try_it_out* fastapi/test_types.py
        flask/test_outages.py::*test_requests_leave_no_garbage*
        flask/test_sockets.py::test_events_by_a_real_client*
        guarantees/test_cancelled.py::test_two_thousand*
        guarantees/test_g2_processes.py guarantees/test_uvicorn.py
        stores/test_conformance_controls.py stores/test_processes.py
        stores/test_redis.py::test_a_write_that_was_repeated_is_confirmed*
        stores/test_redis.py::test_too_few_replicas*
        stores/test_redis.py::test_two_thousand*
        stores/test_urls.py::test_who_chose_asyncpg*
        test_adapter.py::test_the_exit_of_a_process*
        testing/test_fixtures.py::test_the_*
        test_check.py::test_a_server_that_hangs*
        test_slips.py::test_a_library_that_is_not_installed* test_starlettes_place.py
    """.split(),
    "again": """
        adopt/test_doors.py::*starsessions* adopt/test_doors.py::*litestar*
        adopt/test_doors.py::*redis-json* adopt/test_doors.py::*session-s*
        adopt/test_every_source.py::*[[]litestar-* adopt/test_every_source.py::*[[]starsessions-*
        asgi/*::*[[-]sqlite* asgi/*::*[[-]redis*
        asgi/test_record.py::TestChanges* asgi/test_zones.py::TestOnOtherServers*
        flask/test_values.py::*test_with_a_commit_in_the_same_request*
        guarantees/test_g11_every_framework.py::*[[]SQLite*
        guarantees/test_g11_every_framework.py::*[[]memory*
        guarantees/test_g9_bounded_outage.py::test_g9_a_store_that_never_answers*SQLite*
        guarantees/test_g9_bounded_outage.py::*Redis?[hku]*
        guarantees/test_g9_bounded_outage.py::*[[][AFS]*SQLite?locked*
        interleavings/test_copies.py interleavings/test_fleets.py
        interleavings/test_lost_answers.py interleavings/test_three_requests.py
        interleavings/test_scripts.py::test_random_scripts_break_no_guarantee[[][!0]*
        interleavings/test_scripts.py::*is_caught*
        interleavings/test_two_requests.py::*signed?in?before*
        stores/*::*[[-]redis[]-]* stores/test_conformance.py::TestBoundedMemory*
        stores/test_conformance.py::TestSQLiteWithTheUsersEngine*
        stores/test_model.py stores/test_near.py::TestAsyncRedis* stores/test_near.py::TestSQLite*
        stores/test_near.py::TestAwaitedMemory* stores/test_near.py::TestFewCopies*
        stores/test_near.py::test_bounds_hold* stores/test_redis.py::test_a_hanging_server*[[][ctd]*
        test_slips.py::test_a_wrong_setting*[[]adapter:*
        test_slips.py::test_a_wrong_setting*[[]wsgi:*
    """.split(),
}
# Where `make test` tries a promise: by each adapter on one store. On the memory, the first adapter
# sees all combinations of a test's further values, the other one each value once; another store
# sees one combination.
PLACES = {"memory": "ASGI Flask", "SQLite": "WSGI", "Redis": "Starlette"}
FIRST = ("memory", "ASGI")


def tier_of(path: Path, name: str = "") -> str | None:
    """Return the marker of a test, or of all tests of a file."""
    for tier, names in patterns_of(path):
        if names is None or fnmatch(name, names):
            return tier
    return None


@cache
def patterns_of(path: Path) -> list[tuple[str, str | None]]:
    """Return the tiers that a file's tests may have, each with their names, or None for all."""
    file = path.relative_to(TESTS).as_posix()
    return [
        (tier, names if which else None)
        for tier, patterns in TIERS.items()
        for files, which, names in (each.partition("::") for each in patterns)
        if fnmatch(file, files)
    ]


class Seen:
    """What tests of this run have shown so far, in the order in which they are collected."""

    def __init__(self) -> None:
        self._values: set[tuple[object, ...]] = set()

    def again(self, item: pytest.Item) -> bool:
        """Say whether a test demands what others have demanded, of another store or adapter."""
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            return False
        chosen = item.callspec.params
        place, adapter = chosen.get("place"), chosen.get("adapter")
        if place in PLACES and adapter not in (None, *PLACES[place].split()):
            return True
        if adapter is None or (place, adapter) == FIRST:
            return False
        test = item.path, item.cls, item.originalname, place, adapter
        values: set[tuple[object, ...]] = {test}
        if place in (None, "memory"):
            values |= {(*test, name, id(value)) for name, value in chosen.items()}
        new = values - self._values
        self._values |= values
        return not new


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of a file whose tests are not to run."""
    if collection_path.suffix != ".py" or not collection_path.is_relative_to(TESTS):
        return None
    tier, wanted = tier_of(collection_path), config.option.markexpr
    if tier is not None:  # all of its tests are of this one
        return True if f"not {tier}" in wanted or (wanted == "servers" != tier) else None
    has_servers = any(of == "servers" for of, _ in patterns_of(collection_path))
    return True if wanted == "servers" and not has_servers else None


@pytest.hookimpl(tryfirst=True)  # markers are looked at by another hook of this name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen = Seen()
    for item in items:
        name = item.nodeid.partition("::")[2]
        tier = tier_of(item.path, name) or ("again" if seen.again(item) else None)
        if tier is not None:
            item.add_marker(tier)


def pytest_collection_finish() -> None:
    """Keep the collected tests, half a million objects, out of each later search for garbage.

    Hypothesis comes before that, whose plugin imports it at the end of a run anyway: it looks for
    who refers to a random generator, and finds nobody who is kept out.
    """
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


# --- servers --------------------------------------------------------------------------------------

try:
    KINDS = list(binaries())
except ServerMissing:
    KINDS = ["none"]  # the fixtures fail then, with a sentence that says what to install


@pytest.fixture(scope="session", params=KINDS)
def shared_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server of each type for the whole run; nobody kills or empties it."""
    with RedisServer(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed, paused or emptied."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(shared_server: RedisServer) -> str:
    """Address of the server that is shared."""
    return shared_server.url


@pytest.fixture
def advance_redis(shared_server: RedisServer) -> Iterator[Callable[[float], None]]:
    """Let time pass on the shared server: every key's remaining lifetime shrinks."""
    with redis.Redis(port=shared_server.port) as admin:
        yield lambda seconds: advance_server(admin, seconds)


def advance_server(admin: redis.Redis, seconds: float) -> None:
    keys = list(admin.scan_iter(count=1000))
    with admin.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
        left = pipeline.execute()
        for key, milliseconds in zip(keys, left, strict=True):
            if milliseconds >= 0:
                pipeline.pexpire(key, int(milliseconds - seconds * 1000))
        pipeline.execute()
