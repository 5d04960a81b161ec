"""The invalidations of PostgreSQL, by a trigger and LISTEN."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from sharedsession import cli
from sharedsession._core.settings import NearCache
from sharedsession.stores import open_store
from sharedsession.stores.base import FRESHEST, READY, StorePair
from sharedsession.stores.near import AsyncNearStore, NearStore, invalidation, with_copies
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import LoopThread, new_key
from tests.stores.test_push import invalidations_of, ours, rest, until
from tests.stores.test_redis_pushes import LEASE, PATIENT, is_heard, near_to, with_a_copy
from tests.support.databases import PASSWORD, MariaDB, PgBouncer, PostgreSQL
from tests.support.proxy import Proxy


@pytest.fixture
def near(postgresql: PostgreSQL) -> Iterator[NearStore]:
    for sync, _ in near_to(postgresql.url):
        yield sync


def triggers(server: PostgreSQL, table: str) -> list[str]:
    rows = server.in_app(
        "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        f"WHERE relname = '{table}' ORDER BY 1"
    )
    return [row[0] for row in rows]


TRIGGERS = [f"sharedsession_tell_{event}" for event in ("delete", "truncate", "update")]

FOREIGN: dict[str, str] = {
    "delete": "DELETE FROM sharedsession WHERE key = '{key}'",
    "change": "UPDATE sharedsession SET data = 'x', tokens = 'y' WHERE key = '{key}'",
    "other data": "UPDATE sharedsession SET data = 'x' WHERE key = '{key}'",
    "an earlier end": "UPDATE sharedsession SET expires = 0 WHERE key = '{key}'",
    "TRUNCATE": "TRUNCATE sharedsession",
}


def test_a_listener_takes_no_connection_of_the_pool(postgresql: PostgreSQL) -> None:
    """It has one of its own, beside as many as ``pool_size`` says."""
    store, key = SQLStore.from_url(f"{postgresql.url}?pool_size=1", 2.0), new_key()
    assert store.create(key, b"data", 60)
    with closing(store.listen("listener")) as events:  # type: ignore[type-var]  # a generator
        assert next(events) is READY
        assert store.load(key)
    store.close()


@pytest.mark.parametrize("what", FOREIGN)
def test_what_a_person_does_is_heard(near: NearStore, postgresql: PostgreSQL, what: str) -> None:
    """Whoever changes a session by hand ends the copies of all servers."""
    key, _ = with_a_copy(near)
    postgresql.in_app(FOREIGN[what].format(key=key))
    is_heard(near, key)


@pytest.mark.parametrize("verb", ["replace", "delete"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "async psycopg"])
def test_a_write_by_another_server_is_heard(
    near: NearStore, postgresql: PostgreSQL, driver: str, verb: str
) -> None:
    """By whichever driver another server writes, the copies of this one end."""
    key, loaded = with_a_copy(near)
    url = postgresql.asyncpg_url if driver == "asyncpg" else postgresql.url
    other = open_store(url + "?pool_size=2", PATIENT)
    plain, awaited = other.sync, other.asynchronous
    assert plain is not None
    assert awaited is not None
    if driver == "psycopg":
        plain.delete(key) if verb == "delete" else plain.replace(key, loaded, b"new", 600)
    else:
        with LoopThread() as loop:
            if verb == "delete":
                loop.run(awaited.delete(key))
            else:
                assert loop.run(awaited.replace(key, loaded, b"new", 600)) is not None
    is_heard(near, key)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_heartbeats_go_by_the_loop(postgresql: PostgreSQL, driver: str) -> None:
    """Under ASGI the loop's own connections send them, also those of a driver without LISTEN."""
    url = postgresql.asyncpg_url if driver == "asyncpg" else postgresql.url
    for near, awaited in near_to(url):
        invalidations = invalidations_of(near)
        with LoopThread() as loop:
            until(
                lambda: (
                    loop.run(awaited.load("nobody")) is None
                    and invalidations.covers(time.monotonic(), time.monotonic())
                )
            )


def test_a_touch_is_not_told(near: NearStore, postgresql: PostgreSQL) -> None:
    """It changes no data; the copies of other servers stay, and know an earlier end."""
    key, _ = with_a_copy(near)
    other = SQLStore.from_url(postgresql.url, PATIENT)
    assert other.touch(key, 900)
    other.close()
    time.sleep(0.2)
    assert near.peek(key) is not None


def test_a_sweep_of_what_expired_long_ago_is_not_told(
    near: NearStore, postgresql: PostgreSQL
) -> None:
    """Nobody holds a copy of that, and a sweep of thousands would wake everybody."""
    near.load("nobody")
    with postgresql.connect("app") as connection:
        number = connection.execute("SELECT 'sharedsession'::regclass::oid").fetchone()
        assert number is not None
        connection.execute(f'LISTEN "sharedsession_{number[0]}"')
        now = time.time()
        for age in (1000.0, 5.0):
            connection.execute(
                "INSERT INTO sharedsession (key, version, tokens, data, expires) VALUES "
                "(%s, 1, '', '', %s)",
                [f"expired {age:g}", now - age],
            )
        SQLStore.from_url(postgresql.url, PATIENT).sweep(1000)
        told = {each.payload for each in connection.notifies(timeout=0.5)}
    assert "expired 5" in told
    assert "expired 1000" not in told


# --- the trigger ----------------------------------------------------------------------------------


def test_the_trigger_is_made_by_itself(postgresql: PostgreSQL) -> None:
    """Where the application may make its table it makes the trigger too, once."""
    url = f"{postgresql.url}?table=by_itself"
    for near, _ in near_to(url):
        with_a_copy(near)
        assert triggers(postgresql, "by_itself") == TRIGGERS
    for near, _ in near_to(url):
        with_a_copy(near)


@pytest.mark.parametrize("query", ['table=Their "own" table', "schema=Web site&table=It's"])
def test_names_that_need_quoting(postgresql: PostgreSQL, query: str) -> None:
    """Schema and table may have any name."""
    schema = "Web site" if "schema" in query else None
    if schema is not None:
        postgresql.in_app('CREATE SCHEMA IF NOT EXISTS "Web site" AUTHORIZATION app')
    for near, _ in near_to(f"{postgresql.url}?{query.replace(' ', '+').replace(chr(34), '%22')}"):
        key, _ = with_a_copy(near)
        primary: Any = near._primary
        primary.delete(key)
        is_heard(near, key)


def test_init_makes_it(postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]) -> None:
    """``create-table --near-cache`` makes the table and the trigger, again and again."""
    url = f"{postgresql.url}?table=by_init"
    for _ in range(2):
        assert cli.main(["create-table", "--near-cache", "--store", url]) == 0
        assert "trigger" in capsys.readouterr().out
        assert triggers(postgresql, "by_init") == TRIGGERS
    assert cli.main(["create-table", "--store", f"{postgresql.url}?table=without"]) == 0
    assert triggers(postgresql, "without") == []


def test_init_prints_it(postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed can be run as it is, and is all that listening needs."""
    url = f"{postgresql.url}?table=printed_near"
    assert cli.main(["create-table", "--print", "--near-cache", "--store", url]) == 0
    postgresql.in_app(f"SET ROLE app; {capsys.readouterr().out}")
    assert triggers(postgresql, "printed_near") == TRIGGERS
    for near, _ in near_to(url):
        with_a_copy(near)


def test_another_store_needs_no_trigger(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """Where nothing tells, create-table says so."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    assert cli.main(["create-table", "--near-cache", "--store", url]) == 0
    assert "needs nothing more" in capsys.readouterr().out
    assert cli.main(["create-table", "--print", "--near-cache", "--store", url]) == 0
    assert "TRIGGER" not in capsys.readouterr().out


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno >= logging.WARNING and "publishes no invalidations" in each.getMessage()
    ]


def short_lease_only(near: NearStore) -> None:
    """Copies answer, and each of them for the short lease."""
    key = new_key()
    near.create(key, b"data", 600)
    before, begun = near.counts, time.monotonic()
    while time.monotonic() < begun + 3 * LEASE:
        assert near.load(key) is not None
        time.sleep(0.01)
    assert 3 <= near.counts["store"] - before.get("store", 0) <= 5
    assert near.counts["copy"] - before.get("copy", 0) > 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without heartbeats is given up sooner."""
    monkeypatch.setattr(invalidation, "DEAF", 1.0)
    monkeypatch.setattr(invalidation, "LONGEST_PAUSE", 0.3)


def test_a_missing_right_is_said_once(
    postgresql: PostgreSQL, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may not make the trigger is told, once, what somebody else has to run."""
    assert cli.main(["create-table", "--store", postgresql.url]) == 0
    postgresql.in_app("CREATE TABLE granted (LIKE sharedsession INCLUDING ALL)")
    postgresql.in_app("GRANT SELECT, INSERT, UPDATE, DELETE ON granted TO app")
    for near, _ in near_to(f"{postgresql.url}?table=granted"):
        short_lease_only(near)
        (told,) = warnings_of(caplog)
        assert "sharedsession create-table --near-cache" in told
        assert "\n" not in told
        administrator = f"postgresql://root@127.0.0.1:{postgresql.port}/app?table=granted"
        assert cli.main(["create-table", "--near-cache", "--store", administrator]) == 0
        with_a_copy(near)  # without a restart


@pytest.mark.parametrize(
    "how", ["DISABLE TRIGGER sharedsession_tell_delete", "DISABLE TRIGGER ALL", "dropped"]
)
def test_a_trigger_that_is_gone_stops_the_heartbeats(
    postgresql: PostgreSQL, impatient: None, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Heartbeats come back only while the trigger works: its end is noticed within a lease."""
    url = f"{postgresql.url}?table=spoilt"
    for near, _ in near_to(url):
        key, _ = with_a_copy(near)
        if how == "dropped":
            postgresql.in_app("DROP TRIGGER sharedsession_tell_delete ON spoilt")
        else:
            postgresql.in_app(f"ALTER TABLE spoilt {how}")
        begun = time.monotonic()
        postgresql.in_app(f"DELETE FROM spoilt WHERE key = '{key}'")
        until(lambda: near.peek(key) is None)
        assert time.monotonic() - begun < LEASE + 0.3
        if how == "dropped":
            with_a_copy(near)  # it is made again
        else:
            short_lease_only(near)
            assert "no heartbeat has come back" in warnings_of(caplog)[0]
            postgresql.in_app("ALTER TABLE spoilt ENABLE TRIGGER ALL")
            with_a_copy(near)


def test_a_table_made_anew_is_heard(postgresql: PostgreSQL, impatient: None) -> None:
    """A table that was dropped and made again has another number, and is listened to as well."""
    url = f"{postgresql.url}?table=made_anew"
    for near, _ in near_to(url):
        key, _ = with_a_copy(near)
        postgresql.in_app("DROP TABLE made_anew")
        begun = time.monotonic()
        until(lambda: near.peek(key) is None)
        assert time.monotonic() - begun < LEASE + 0.3
        until(lambda: _works(near))
        key, _ = with_a_copy(near)
        postgresql.in_app(f"DELETE FROM made_anew WHERE key = '{key}'")
        is_heard(near, key)


def _works(near: NearStore) -> bool:
    try:
        return near.create(new_key(), b"", 60) is not None
    except Exception:  # noqa: BLE001 - not yet
        return False


def test_copies_of_mariadbs_sessions(mariadb: MariaDB) -> None:
    """It tells of nothing: copies answer for the short lease, by both drivers, without a thread."""
    pair = open_store(mariadb.url, PATIENT)
    near = with_copies(pair, NearCache(lease=30), None, 0.0)
    assert isinstance(near.sync, NearStore)
    assert isinstance(near.asynchronous, AsyncNearStore)
    with LoopThread() as loop:
        key = new_key()
        created = near.sync.create(key, b"data", 60)
        loaded = loop.run(near.asynchronous.load(key))
        assert created is not None
        assert loaded is not None
        assert loaded == replace(created, expires=loaded.expires)
        assert near.sync.peek(key) == loaded
        assert near.sync.load(key, FRESHEST) == loaded
        near.sync.delete(key)
        assert near.sync.load(key) is None
    assert not ours()
    assert isinstance(pair.sync, SQLStore)
    pair.sync.close()


# --- what is between ------------------------------------------------------------------------------


CUTS: dict[str, Callable[[Proxy, PostgreSQL], object]] = {
    "silent pushes": lambda proxy, server: proxy.silence_pushes(),
    "reset pushes": lambda proxy, server: proxy.reset_pushes(),
    "terminated": lambda proxy, server: server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
    ),
}


@pytest.mark.parametrize("how", CUTS)
def test_a_broken_connection_is_noticed(postgresql: PostgreSQL, impatient: None, how: str) -> None:
    """What was written while nobody listened is stale for the short lease at most."""
    with Proxy(postgresql.port) as proxy:
        url = postgresql.url.replace(f":{postgresql.port}/", f":{proxy.port}/")
        for near, _ in near_to(f"{url}?sslmode=disable"):
            key, _ = with_a_copy(near)
            CUTS[how](proxy, postgresql)
            begun = time.monotonic()
            postgresql.in_app(f"DELETE FROM sharedsession WHERE key = '{key}'")
            until(lambda: near.peek(key) is None)
            assert time.monotonic() - begun < LEASE + 0.3
            with_a_copy(near)


def test_a_restart_is_no_missing_right(impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    """A database that is away is said to be that, on one line, and listened to when it is back."""
    with PostgreSQL() as server:
        for near, _ in near_to(server.url):
            with_a_copy(near)
            server.end()
            begun = time.monotonic()
            while time.monotonic() < begun + 1.5:
                near._shared.state().copies.invalidations.need(time.monotonic())  # type: ignore[union-attr]
                time.sleep(0.05)
            server.restart()
            until(lambda: _works(near))
            with_a_copy(near)
    told = warnings_of(caplog)
    assert 1 <= len(told) <= 3
    assert not any("init" in each or "\n" in each or PASSWORD in each for each in told), told


def test_a_pooler_by_transactions_is_noticed(
    postgresql: PostgreSQL, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It drops LISTEN without a word: copies have the short lease, and one warning says why."""
    with PgBouncer(postgresql) as pooler:
        for near, _ in near_to(f"{pooler.url}?pool_size=2"):
            short_lease_only(near)
            until(lambda: near.load("nobody") is None and warnings_of(caplog))
            assert "pooler" in warnings_of(caplog)[0]
            short_lease_only(near)
            assert len(warnings_of(caplog)) == 1


def test_a_users_own_engine_hears(postgresql: PostgreSQL) -> None:
    """An engine that the application made is listened to on a connection like its others."""
    engine = sa.create_engine(postgresql.url.replace("postgresql:", "postgresql+psycopg:"))
    near = with_copies(StorePair(SQLStore(engine), None), NearCache(lease=LEASE), None, 0.0).sync
    assert isinstance(near, NearStore)
    key, _ = with_a_copy(near)
    postgresql.in_app(f"DELETE FROM sharedsession WHERE key = '{key}'")
    is_heard(near, key)
    rest(near)
    engine.dispose()
