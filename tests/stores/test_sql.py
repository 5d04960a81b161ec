"""What only the SQL store promises, on SQLite."""

from __future__ import annotations

import dataclasses
import gc
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores._support.deadline import within
from sharedsession.stores.base import Entry
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Clock, new_key
from tests.stores.processes import run_python


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[SQLStore]:
    store = SQLStore.from_url(f"sqlite:///{path}", 0.5, clock=clock)
    yield store
    store.close()


def query(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def stored(store: SQLStore, key: str = "key") -> Entry:
    entry = store.create(key, b"data", 60)
    assert entry is not None
    return entry


# the database


def test_the_table_is_made_on_first_use(store: SQLStore, path: Path) -> None:
    """A constructor touches nothing; the first call makes the table."""
    assert not path.exists()
    assert store.load("nobody") is None
    assert query(path, "SELECT count(*) FROM sharedsession") == [(0,)]


def test_a_file_is_set_up_for_many_processes(store: SQLStore, path: Path) -> None:
    """Write-ahead log, synchronous=NORMAL, and waits for a lock for what is left of a call."""
    store.load("nobody")
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    with within(0.5), store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        left = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        assert left is not None
        assert 0 < left <= 500


def test_a_row_holds_what_the_other_servers_need(store: SQLStore, path: Path, clock: Clock) -> None:
    """Key, version, the last writes' tokens, data, expiry in epoch seconds, owner."""
    created = store.create("key", b"data", 60, owner="Zoë")
    assert created is not None
    columns = "key, version, tokens, data, expires, owner"
    assert query(path, f"SELECT {columns} FROM sharedsession") == [
        ("key", 1, created.token, b"data", clock.now + 60, "Zoë")
    ]
    replaced = store.replace("key", created, b"new", 600, owner=None, at_least=8)
    assert replaced is not None
    assert query(path, f"SELECT {columns} FROM sharedsession") == [
        ("key", 9, replaced.token, b"new", clock.now + 600, None)
    ]
    assert isinstance(replaced.token, bytes)
    assert isinstance(created.token, bytes)
    assert replaced.token.endswith(created.token)


def test_a_child_opens_connections_of_its_own(path: Path) -> None:
    """After a fork the child uses none of its parent's connections, and both go on."""
    (output,) = run_python(
        1,
        """
        import os
        from sharedsession.stores.sql import SQLStore
        store = SQLStore.from_url(url, 10.0)
        entry = store.create("key", b"0", 60)
        pool = store._engine.pool
        child = os.fork()
        if not child:
            used = pool.checkedin(), pool.overflow()
            assert store.replace("key", entry, b"1", 60)
            assert store._engine.pool is not pool
            assert (pool.checkedin(), pool.overflow()) == used
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert store._engine.pool is pool
        print(store.load("key").data)
        """,
        url=f"sqlite:///{path}",
    )
    assert output == "b'1'\n"


def test_nothing_is_left_open(path: Path) -> None:
    """A store that was closed, and one that was only dropped, leave no connection behind."""
    for close in (True, False):
        store = SQLStore.from_url(f"sqlite:///{path}")
        stored(store, new_key())
        pool: Any = store._engine.pool
        assert pool.checkedin() == 1
        if close:
            store.close()
            assert stored(store, new_key())  # a closed store opens again
            store.close()
        del store
        gc.collect()
        assert pool.checkedin() == 0


def test_a_first_opening_waits_for_a_writer(store: SQLStore, path: Path) -> None:
    """Turning on the log needs a moment without a writer; SQLite itself would not wait for it."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.1, other.execute, ["ROLLBACK"])
    release.start()
    assert store.load("nobody") is None
    release.join()
    other.close()
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


# sweeping


def test_creating_sweeps_now_and_then(store: SQLStore, path: Path, clock: Clock) -> None:
    """About one create in a hundred removes a slice of what has expired."""
    for _ in range(300):
        store.create(new_key(), b"", 10)
    clock.advance(10)
    for created in range(1, 10_000):
        store.create(new_key(), b"", 100_000)
        ((count,),) = query(path, "SELECT count(*) FROM sharedsession")
        if count == created:
            return
    raise AssertionError(f"{count - created} rows that expired are left")


def test_a_sweep_spares_a_row_that_was_taken_anew(store: SQLStore, clock: Clock) -> None:
    """Between finding an expired row and removing it, another server may create it again."""
    stored(store)
    clock.advance(60)
    delete = store._statements.delete_expired
    taken: list[Entry | None] = []

    def meanwhile(*_: object) -> None:
        if not taken:
            taken.append(None)
            taken[0] = store.create("key", b"new", 60)

    sa.event.listen(
        store._engine,
        "before_execute",
        lambda _c, statement, *_: meanwhile() if statement is delete else None,
    )
    assert store.sweep(10) == 0
    entry = store.load("key")
    assert entry is not None
    assert entry == taken[0]


# a command whose answer was lost


def lose_answers(engine: sa.Engine, *texts: str) -> list[str]:
    """Break the connection after the next statement that begins with each of these texts."""
    left, lost = list(texts), []

    def broken(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if left and statement.startswith(left[0]):
            lost.append(left.pop(0))
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")

    sa.event.listen(engine, "after_cursor_execute", broken)
    return lost


def test_a_write_whose_answer_was_lost_knows_itself(store: SQLStore) -> None:
    """The statement took place, the connection broke: repeated, it succeeds, and says so."""
    store.load("nobody")
    first = lose_answers(store._engine, "INSERT")
    created = store.create("key", b"data", 60)
    assert created is not None
    assert created.repeated
    second = lose_answers(store._engine, "UPDATE")
    replaced = store.replace("key", created, b"new", 60)
    assert replaced is not None
    assert replaced.repeated
    third = lose_answers(store._engine, "UPDATE")
    assert store.touch("key", 600)
    loaded = store.load("key")
    assert loaded is not None
    assert (loaded.data, loaded.version, loaded.token) == (b"new", 2, replaced.token)
    fourth = lose_answers(store._engine, "DELETE")
    store.delete("key")
    assert store.load("key") is None
    assert first + second + third + fourth == ["INSERT", "UPDATE", "UPDATE", "DELETE"]


def test_a_command_is_repeated_once(store: SQLStore) -> None:
    """A connection that breaks twice in a row is an outage."""
    created = stored(store)
    lose_answers(store._engine, "UPDATE", "UPDATE")
    with pytest.raises(StoreUnavailable, match="closed database"):
        store.replace("key", created, b"new", 60)


def test_a_write_that_lost_is_no_success(store: SQLStore) -> None:
    """A lost answer does not make a stale entry fit, nor a taken key free."""
    created = stored(store)
    assert store.replace("key", created, b"new", 60)
    lose_answers(store._engine, "UPDATE")
    assert store.replace("key", created, b"stale", 60) is None
    assert store.create("key", b"taken", 60) is None


def test_an_idle_connection_that_broke_is_replaced(store: SQLStore) -> None:
    """A connection that broke in the pool costs nobody an answer."""
    stored(store)
    connection = store._engine.raw_connection()
    driver_connection: Any = connection.driver_connection
    driver_connection.close()
    connection.close()
    assert store.load("key")


# outages


def test_a_locked_database_is_an_outage_within_the_timeout(store: SQLStore, path: Path) -> None:
    """Writers wait for the lock as long as the timeout says; readers do not wait at all."""
    created = stored(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert store.load("key")
    assert time.monotonic() - began < 0.4
    with pytest.raises(StoreUnavailable, match=r"locked \(another process held"):
        store.replace("key", created, b"new", 60)
    assert 0.4 < time.monotonic() - began < 2.5
    other.execute("ROLLBACK")
    other.close()
    assert store.replace("key", created, b"new", 60)


def test_a_connection_in_use_when_its_store_is_closed(store: SQLStore) -> None:
    """It does its work, and is closed when it comes back: nobody would find it any more."""
    stored(store)
    with store._engine.connect() as connection:
        driver = connection.connection.driver_connection
        store.close()
        assert connection.scalar(sa.text("SELECT count(*) FROM sharedsession")) == 1
    assert isinstance(driver, sqlite3.Connection)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    assert store.load("key")


def test_a_folder_that_is_missing_is_an_outage(tmp_path: Path) -> None:
    """The sentence names the file and what to check; nothing is remembered of it."""
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/missing/sessions.db")
    with pytest.raises(StoreUnavailable, match=r"missing/sessions\.db.*folder exists"):
        store.load("key")
    (tmp_path / "missing").mkdir()
    assert store.load("key") is None
    store.close()


def test_a_read_only_file_is_an_outage_for_writers(store: SQLStore, path: Path) -> None:
    """What may only be read is read; a write says that the file is read-only."""
    created = stored(store)
    reader = SQLStore.from_url(f"sqlite:///file:{path}?mode=ro&uri=true", clock=store._clock)
    assert reader.load("key") == created
    with pytest.raises(StoreUnavailable, match="read-only"):
        reader.replace("key", created, b"new", 60)
    reader.close()


def test_a_file_that_vanishes_is_an_outage_and_then_a_new_file(store: SQLStore, path: Path) -> None:
    """Nothing goes on with the removed file, where no other process would find it."""
    created = stored(store)
    for name in list(path.parent.iterdir()):
        name.unlink()
    with pytest.raises(StoreUnavailable, match="removed"):
        store.replace("key", created, b"new", 60)
    assert store.load("key") is None
    assert stored(store)
    assert query(path, "SELECT count(*) FROM sharedsession") == [(1,)]


def test_a_file_that_is_replaced_is_followed(tmp_path: Path) -> None:
    """Another database under the same name, a restored one say, is used from the next call on."""
    stores = [SQLStore.from_url(f"sqlite:///{tmp_path}/{name}.db") for name in ("this", "that")]
    for number, store in enumerate(stores):
        assert store.create("key", b"%d" % number, 60)
    stores[1].close()
    for rest in ("this.db-wal", "this.db-shm"):  # else SQLite lays the old log over the new file
        (tmp_path / rest).unlink()
    (tmp_path / "that.db").rename(tmp_path / "this.db")
    entry = stores[0].load("key")
    assert entry is not None
    assert entry.data == b"1"
    stores[0].close()


def test_an_error_shows_nothing_of_a_session(store: SQLStore, path: Path) -> None:
    """A traceback in a log quotes nothing of what was to be stored, whoever made the engine."""
    engine = sa.create_engine(f"sqlite:///{path}")
    for failing in (store, SQLStore(engine)):
        stored(failing, new_key())
        query(path, "DROP TABLE sharedsession")
        with pytest.raises(StoreUnavailable) as caught:
            failing.create("key-of-somebody", b"private", 60, owner="alice")
        text = "".join(traceback.format_exception(caught.value))
        assert "no such table" in text
        assert not any(word in text for word in ("parameters:", "somebody'", "alice'"))
    engine.dispose()


def test_a_table_that_vanishes_is_made_again(store: SQLStore, path: Path) -> None:
    """An outage for the call that finds out, not for the next."""
    stored(store)
    query(path, "DROP TABLE sharedsession")
    with pytest.raises(StoreUnavailable, match="no such table"):
        store.load("key")
    assert stored(store)


def test_a_file_that_is_no_database_is_an_outage(path: Path) -> None:
    """A damaged file is reported, never taken for an empty one."""
    path.write_bytes(b"this is no database at all, " * 100)
    store = SQLStore.from_url(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="not a database"):
        store.load("key")
    store.close()


def test_a_pool_that_is_used_up_is_an_outage(path: Path) -> None:
    """Who finds no connection within the pool's timeout is told so."""
    engine = sa.create_engine(f"sqlite:///{path}", pool_size=1, max_overflow=0, pool_timeout=0.1)
    store = SQLStore(engine)
    store.load("key")
    with engine.connect(), pytest.raises(StoreUnavailable, match="QueuePool limit"):
        store.load("key")
    engine.dispose()


# the user's own engine


@pytest.mark.parametrize("begin", [None, "BEGIN", "BEGIN IMMEDIATE"])
def test_any_engine_of_the_users_works(path: Path, begin: str | None) -> None:
    """Not autocommit, or with transactions begun by an event hook: every call is committed."""
    engine = sa.create_engine(f"sqlite:///{path}")
    if begin is not None:
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    store, witness = (
        SQLStore(engine, table="theirs"),
        SQLStore.from_url(f"sqlite:///{path}", table="theirs"),
    )
    created = stored(store)
    assert store.create("key", b"taken", 60) is None
    assert (found := witness.load("key")) is not None
    assert found == dataclasses.replace(created, expires=found.expires)
    replaced = store.replace("key", created, b"new", 60)
    assert replaced is not None
    assert (found := witness.load("key")) is not None
    assert found == dataclasses.replace(replaced, expires=found.expires)
    assert store.touch("key", 600)
    store.close()  # theirs stays open
    pool: Any = engine.pool
    assert pool.checkedin() == 1
    store.delete("key")
    assert witness.load("key") is None
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM theirs")) == 0
    witness.close()
    engine.dispose()


def test_what_is_no_ordinary_engine_is_refused() -> None:
    """An async engine, or a URL where an engine belongs, is a TypeError that says what to do."""

    class AsyncEngine:
        """As SQLAlchemy calls its own, which cannot be imported without greenlet."""

    for wrong in (AsyncEngine(), "sqlite:///sessions.db"):
        with pytest.raises(TypeError, match=r"sqlalchemy\.create_engine"):
            SQLStore(wrong)  # type: ignore[arg-type]  # this is what is refused


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:name?mode=memory&uri=true",
    ],
)
@pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")
def test_a_database_in_memory_is_refused(url: str) -> None:
    """Each connection would have its own: the sentence points to the memory store."""
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLStore.from_url(url)
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLStore(sa.create_engine(url))


def test_threads_share_a_store(store: SQLStore) -> None:
    """Many threads on one row: every increment counts."""
    store.create("key", b"0", 60)
    patient = SQLStore.from_url(str(store._engine.url), 20.0, clock=store._clock)

    def work() -> None:
        for _ in range(10):
            while True:
                entry = patient.load("key")
                assert entry is not None
                if patient.replace("key", entry, b"%d" % (int(entry.data) + 1), 60):
                    break

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entry = patient.load("key")
    assert entry is not None
    assert entry.data == b"80"
    patient.close()
