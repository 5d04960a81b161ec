"""The table as a DBA sees it: what is indexed, which updates are HOT, what one sweep looks at."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sharedsession import cli
from sharedsession.stores.sql import SQLStore
from sharedsession.stores.sql.dialects import CHUNK_ROWS
from sharedsession.testing.stores import Clock, new_key
from tests.stores.sql_stores import DRIVERS, opened, server_of
from tests.support.databases import PostgreSQL

LIFETIME = 14 * 24 * 3600
SESSIONS = 500
COUNTED = 60.0  # seconds after which the server has told what it has counted


# what is indexed


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "sqlite"])
def test_nothing_is_indexed_but_the_key(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Calls look for the primary key; no other index is made, on first use or by command."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/sessions.db?table=indexed"
    else:
        url = f"{request.getfixturevalue(kind).url}?table=indexed"
    store = SQLStore.from_url(url, 20.0)
    store.load("nobody")
    assert cli.main(["create-table", "--store", url]) == 0
    with store._engine.connect() as connection:
        looked = sa.inspect(connection)
        assert looked.get_pk_constraint("indexed")["constrained_columns"] == ["key"]
        assert looked.get_indexes("indexed") == []
    store.close()


@pytest.mark.parametrize("how", ["psycopg by URL", "async psycopg by URL", "asyncpg by URL"])
def test_updates_of_postgresql_are_hot(postgresql: PostgreSQL, how: str) -> None:
    """At least 95 % of writes and touches, a tenth of the lifetime apart, change no index."""
    table = "hot_by_" + how.replace(" ", "_")
    clock = Clock(time.time())
    with opened(how, f"{postgresql.url}?table={table}", clock=clock) as subject:
        store = subject.store
        entries = {key: store.create(key, random.randbytes(300), LIFETIME) for key in keys()}
        for _ in range(4):
            clock.advance(LIFETIME / 10)
            for key in random.sample(list(entries), SESSIONS):
                if random.random() < 0.5:
                    assert store.touch(key, LIFETIME)
                    continue
                data = random.randbytes(300)
                entries[key] = store.replace(key, entries[key], data, LIFETIME)
                assert entries[key] is not None
    updated, hot = counted(postgresql, table, 4 * SESSIONS)
    assert hot >= 0.95 * updated


def keys() -> list[str]:
    return [new_key() for _ in range(SESSIONS)]


def counted(server: PostgreSQL, table: str, updates: int) -> tuple[int, int]:
    """How many updates there were, and how many of them HOT; connections tell that late."""
    limit = time.monotonic() + COUNTED
    while True:
        ((all_, hot),) = server.in_app(
            f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{table}'"
        )
        if all_ >= updates:
            return all_, hot
        assert time.monotonic() < limit, f"{all_} of {updates} updates were counted"
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "sqlite"])
def test_a_table_with_the_old_indices_serves(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A table of an earlier release works; the check says, in one finding, how to drop them."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/sessions.db?table=old"
    else:
        url = f"{request.getfixturevalue(kind).url}?table=old"
    store = SQLStore.from_url(url, 20.0)
    store.create_table()
    with store._engine.begin() as connection:
        for column in ("expires", "owner"):
            connection.exec_driver_sql(f"CREATE INDEX ix_old_{column} ON old ({column})")
    created = store.create("key", b"data", 60, "owner")
    assert created is not None
    assert store.replace("key", created, b"new", 60, "another")
    assert cli.main(["check", "--store", url]) == 0
    (found,) = [line for line in capsys.readouterr().out.splitlines() if "DROP INDEX" in line]
    assert found.startswith("warning")
    statements = found[found.index("DROP") :].rstrip(".").split("; ")
    with store._engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        assert sa.inspect(connection).get_indexes("old") == []
    assert cli.main(["check", "--store", url]) == 0
    assert "DROP INDEX" not in capsys.readouterr().out
    store.close()


# sweeping


def test_a_sweep_of_postgresql_looks_at_a_range_of_blocks(postgresql: PostgreSQL) -> None:
    """Neither the whole table nor an index is read: a range of row addresses, then those rows."""
    store = SQLStore.from_url(f"{postgresql.url}?table=ranges", 20.0)
    store.create_table()
    postgresql.in_app(
        "INSERT INTO ranges (key, version, tokens, data, expires) SELECT i, 1, 't', "
        "convert_to(repeat('d', 400), 'UTF8'), 0 FROM generate_series(1, 20000) AS i"
    )
    values = {"position": 128, "end": 256, "limit": 250}
    sweep: Any = store._statements.sweep
    with store._engine.connect() as connection:
        query = sweep.compile(connection.engine)
        rows = connection.exec_driver_sql("EXPLAIN " + str(query), query.construct_params(values))
        plan = "\n".join(row[0] for row in rows)
    assert re.search(r"Tid Range Scan on ranges .*\n *TID Cond: .*'128'.*'256'", plan), plan
    assert "Tid Scan on ranges" in plan
    assert "Seq Scan" not in plan
    assert "Index" not in plan
    store.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "sqlite"])
def test_a_sweep_goes_on_where_it_stopped(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Chunk by chunk to the end of a table of several, whatever lives in between, and round."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/sessions.db?table=chunks"
    else:
        url = f"{request.getfixturevalue(kind).url}?table=chunks"
    clock = Clock(time.time())
    store = SQLStore.from_url(url, 20.0, clock=clock)
    count = 2 * CHUNK_ROWS + 100
    store.create_table()
    with store._engine.begin() as connection:
        rows = [
            {"key": new_key(), "version": 1, "tokens": b"t" * 8, "data": b"d" * 900}
            | {"expires": clock.now + (60 if number % 10 else 6000), "owner": None}
            for number in range(count)
        ]
        connection.execute(store._statements.table.insert(), rows)
    assert store.sweep(10) == 0
    clock.advance(60)
    swept = [store.sweep(700) for _ in range(4)]
    assert swept == [700, 700, count * 9 // 10 - 1400, 0]
    clock.advance(6000)
    assert store.sweep(10_000) == count // 10
    store.close()


@pytest.mark.parametrize("how", [f"{driver} by URL" for driver in DRIVERS])
def test_a_create_sweeps_beside_it(
    how: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred does, by any driver, and removes what has expired, not what lives."""
    table = "beside_" + how.replace(" ", "_")
    url = f"{request.getfixturevalue(server_of(how)).url}?table={table}"
    clock, other = Clock(time.time()), SQLStore.from_url(url, 20.0)
    chance = 1.0
    monkeypatch.setattr(random, "random", lambda: chance)
    with opened(how, url, clock=clock) as subject:
        for _ in range(20):
            assert subject.store.create(new_key(), b"data", 60)
        clock.advance(60)
        assert subject.store.create(new_key(), b"data", 600)
        assert row_count(other) == 21
        chance = 0.0
        created, limit = 1, time.monotonic() + 20
        # A sweep begins anywhere, and the one of an async store ends later.
        while row_count(other) != created:
            assert time.monotonic() < limit
            assert subject.store.create(new_key(), b"data", 600)
            created += 1
    other.close()


def row_count(store: SQLStore) -> int:
    """Return how many the store's table has, expired or not."""
    counted = sa.select(sa.func.count()).select_from(store._statements.table)
    with store._engine.connect() as connection:
        return connection.execute(counted).scalar_one()
