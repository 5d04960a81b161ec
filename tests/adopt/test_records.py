"""Sources whose sessions are records: what stands in them, and stores that fail."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event
from typing import Any

import pymemcache
import pytest
import redis
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sharedsession import adopt
from sharedsession.adopt.records import NoRecords, Raw
from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from tests.adopt.conftest import KEYS
from tests.adopt.sites import FlaskSite, StarsessionsSite
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.memcached_servers import MemcachedServer, memcached_servers, url_of
from tests.support.redis_servers import SixNodes, Watched
from tests.support.servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")
ID = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


class OneRecord(NoRecords):
    """Has the same under each key."""

    def __init__(self, data: Any, expires: Any = NOW + 60) -> None:
        self._raw = Raw(data, expires)

    def load(self, key: str, now: float) -> Raw | None:
        return self._raw


def sources(records: Any) -> Iterator[adopt.Source]:
    """Yield each kind of source, reading these records."""
    url = "redis://127.0.0.1:1"
    made: list[adopt.Source] = [
        adopt.FlaskSession(url),
        adopt.Starsessions(url),
        adopt.Litestar(url),
        adopt.Django(url, engine="cache"),
        adopt.Django("sqlite:///none.sqlite"),
    ]
    for source in made:
        source._records = records  # type: ignore[attr-defined]
        yield source


def outcome(source: adopt.Source) -> str:
    """Say what became of a record; anything else that is raised fails the test."""
    value = ID * 2 if source.kind == "litestar" else ID
    try:
        return "none" if source.read(value, KEYS, NOW) is None else "session"
    except adopt.NotAdoptable as refused:
        return refused.reason if ID not in str(refused) else "its message has the ID"


# --- what stands in a record ----------------------------------------------------------------------


class Runs:
    """What a pickle can do to who reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle was read",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_never_read(
    protocol: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its bytes, of every protocol."""
    for data in ({"user_id": 7, "x": Runs()}, {}):
        for source in sources(OneRecord(pickle.dumps(data, protocol))):
            is_text = source.kind == "django" and not source._copies.endswith("cache")  # type: ignore[attr-defined]
            expected = {"damaged"} if is_text else {"pickle", "damaged"}
            expected = {"pickle"} if source.kind == "flask-session" else expected
            assert outcome(source) in expected
    assert capsys.readouterr().out == ""


def test_what_flask_session_pickled_is_refused(old_redis: RedisServer) -> None:
    """Until 0.6 it did, under the same keys."""
    with redis.Redis.from_url(old_redis.url) as client:
        client.set(f"session:{ID}", pickle.dumps({"user_id": 7, "_permanent": True}), ex=60)
    source = adopt.FlaskSession(old_redis.url)
    assert outcome(source) == "pickle"
    source.close()


@pytest.mark.parametrize(
    "data",
    [
        *[b"\x80\x00", b"\x90", b"\x01", b"\xc1", b"\x81\xa1\xff\x01", b"\xde\xff\xff", b"no"],
        *[b"{", b"{}x", b"\x81" * 5000, b"\x91" * 100_000, b"[" * 100_000, b"\x81\x80\x01"],
        *["text", 7, 1.5],
    ],
    ids=lambda data: repr(data)[:20],
)
def test_what_is_no_session_is_damaged(data: Any) -> None:
    """Bytes, and values of types that no column should have."""
    for source in sources(OneRecord(data)):
        is_signed = source.kind == "django" and type(data) is str
        assert outcome(source) in ({"signature", "damaged"} if is_signed else {"damaged"})


def test_values_that_msgpack_was_taught_are_refused() -> None:
    """What they stood for is not known."""
    assert outcome(next(sources(OneRecord(b"\x81\xa1a\xd4\x05x")))) == "unknown types"


@settings(max_examples=400, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.text(max_size=40)), head=st.booleans())
def test_random_records_raise_nothing_else(data: bytes | str, head: bool) -> None:
    """Each is a session, none, or `NotAdoptable`."""
    if head and isinstance(data, bytes):
        data = b"\x81\xa1a" + data
    for source in sources(OneRecord(data)):
        known = {"session", "none", "damaged", "unknown types", "pickle", "signature"}
        assert outcome(source) in known


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=140))
def test_random_cookies_raise_nothing(text: str) -> None:
    """What is recognised is the text itself."""
    for source in sources(OneRecord(b"\x80")):
        assert source.recognise(text, KEYS) in (None, text)


@pytest.mark.parametrize("end", ["", "never", b"x", "9999-99-99", [], float("nan")], ids=repr)
def test_an_end_that_is_no_time_is_damaged(end: Any) -> None:
    """As a column may hold anything."""
    assert outcome(next(sources(OneRecord(b"\x80", end)))) == "damaged"


def test_a_key_of_another_type_is_damaged(old_redis: RedisServer) -> None:
    """A list where a string should be is no outage: it would stay one."""
    with redis.Redis.from_url(old_redis.url) as client:
        client.delete(f"session:{ID}")
        client.rpush(f"session:{ID}", "x")
    source = adopt.FlaskSession(old_redis.url)
    assert outcome(source) == "damaged"
    source.close()


def test_a_record_that_redis_never_expires_has_a_whole_lifetime(old_redis: RedisServer) -> None:
    """From now on."""
    with redis.Redis.from_url(old_redis.url) as client:
        client.set(f"session:{ID}", b"\x80")
        source = adopt.FlaskSession(client, max_age=100)
        assert source.read(ID, KEYS, NOW) == adopt.Found({}, NOW + 100)


# --- SQL ------------------------------------------------------------------------------------------


def filled(url: str, count: int) -> sa.Engine:
    """Return an engine to a table like Flask-Session's, with so many rows."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS sessions"))
        connection.execute(
            sa.text("CREATE TABLE sessions (session_id VARCHAR(255), data BLOB, expiry DATETIME)")
        )
        if count:
            connection.execute(
                sa.text("INSERT INTO sessions VALUES (:id, :data, '2033-01-01 00:00:00.000000')"),
                [{"id": f"session:AbC-{each:028}", "data": b"\x80"} for each in range(count)],
            )
    return engine


def test_thousands_of_rows_are_listed_page_by_page(tmp_path: Path) -> None:
    """Each of them once, and those of another prefix not."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    engine = filled(url, 2500)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO sessions VALUES ('other:{ID}', x'80', NULL)"))
    source = adopt.FlaskSession(engine)
    assert sorted(source.values()) == [f"AbC-{each:028}" for each in range(2500)]
    assert source.read(f"AbC-{7:028}", KEYS, NOW) is not None
    engine.dispose()


def test_a_row_without_an_end_or_data_is_none(tmp_path: Path) -> None:
    """Flask-Session removes the one, and starts anew on the other."""
    engine = filled(f"sqlite:///{tmp_path / 'old.sqlite'}", 0)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO sessions VALUES ('session:{ID}', x'80', NULL)"))
        connection.execute(
            sa.text(f"INSERT INTO sessions VALUES ('session:{ID[::-1]}', NULL, '2033-01-01')")
        )
    source = adopt.FlaskSession(engine)
    assert source.read(ID, KEYS, NOW) is None
    assert source.read(ID[::-1], KEYS, NOW) is None
    engine.dispose()


def test_mariadb_takes_no_other_spelling_for_an_id(old_mariadb: MariaDB) -> None:
    """It compares without regard to case: each spelling would be adopted once more."""
    source = adopt.FlaskSession(old_mariadb.url)
    engine = filled(old_mariadb.url.replace("mariadb:", "mariadb+pymysql:"), 1)
    value = f"AbC-{0:028}"
    assert source.read(value.lower(), KEYS, NOW) is None
    assert source.read(value, KEYS, NOW) is not None
    source.close()
    engine.dispose()


def test_a_sqlite_file_of_another_package_stays_as_it_is(tmp_path: Path) -> None:
    """Its journal too."""
    file = tmp_path / "old.sqlite"
    engine = filled(f"sqlite:///{file}", 1)
    before = file.read_bytes()
    source = adopt.FlaskSession(f"sqlite:///{file}")
    assert source.read(f"AbC-{0:028}", KEYS, NOW) is not None
    source.close()
    assert file.read_bytes() == before
    engine.dispose()


def test_a_read_waits_for_a_connection_in_use(old_postgresql: PostgreSQL) -> None:
    """For as long as it has time: longer than the pool itself would."""
    old_postgresql.in_app("DROP TABLE IF EXISTS sessions")
    uri = old_postgresql.url.replace("postgresql:", "postgresql+psycopg:")
    site = FlaskSite(SESSION_TYPE="sqlalchemy", SQLALCHEMY_DATABASE_URI=uri)
    value = site.write({"a": 1})
    source: Any = adopt.FlaskSession(f"{old_postgresql.url}?pool_size=1")
    held = Event()

    def hold(_: sa.Connection) -> None:
        held.set()
        time.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(source._records._ask, hold)
        held.wait()
        assert source.read(value, KEYS, time.time()) is not None
        holding.result()
    source.close()
    site.close()


# --- Memcached ------------------------------------------------------------------------------------


def test_a_key_is_found_on_whichever_memcached_has_it() -> None:
    """By another rule than ours, and after a change of the list; it is ended on all."""
    with memcached_servers(3) as servers:
        source = adopt.FlaskSession(url_of(servers))
        clients = [pymemcache.Client(server.name) for server in servers]
        clients[1].set(f"session:{ID}", b"\x81\xa1a\x01", expire=50, noreply=False)
        clients[2].set(f"session:{ID}", b"\x81\xa1a\x02", expire=500, noreply=False)
        found = source.read(ID, KEYS, NOW)
        assert found is not None
        assert found.data == {"a": 2}
        assert 498 <= found.expires - NOW <= 500
        source.delete(ID)
        assert [client.get(f"session:{ID}") for client in clients] == [None] * 3
        servers[0].kill()
        for call in (lambda: source.read(ID, KEYS, NOW), lambda: source.delete(ID)):
            with pytest.raises(StoreUnavailable, match="Memcached at 127"):
                call()
        source.close()
        for client in clients:
            client.close()


def test_a_long_lifetime_in_memcached_is_known() -> None:
    """Longer than 30 days, it is a point in time there."""
    with MemcachedServer() as server:
        client = pymemcache.Client(server.name)
        client.set(f"session:{ID}", b"\x80", expire=int(time.time()) + 31 * 86400, noreply=False)
        client.set(f"session:{ID[::-1]}", b"\x80", expire=0, noreply=False)
        source = adopt.FlaskSession(server.url, max_age=7)
        found = source.read(ID, KEYS, NOW)
        assert found is not None
        assert abs(found.expires - NOW - 31 * 86400) <= 2
        assert source.read(ID[::-1], KEYS, NOW) == adopt.Found({}, NOW + 7)
        client.close()
        source.close()


# --- outages --------------------------------------------------------------------------------------


def outages(source: adopt.Source, value: str) -> float:
    """Ask for everything; return the seconds that the longest took.

    What is ended is another one: a server that hangs may do so when it goes on.
    """
    longest = 0.0
    for call in (
        lambda: source.read(value, KEYS, NOW),
        lambda: source.delete(ID),
        lambda: list(source.values()),
    ):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="old session store") as caught:
            call()
        assert value not in str(caught.value)
        assert "secret" not in str(caught.value).lower()
        longest = max(longest, time.monotonic() - begun)
    return longest


def test_an_outage_of_redis_is_told_in_time() -> None:
    """Killed or hanging; when it is back, so are the sessions."""
    with RedisServer() as server:
        source = adopt.FlaskSession(server.url, timeout=0.5)
        site = FlaskSite(
            SESSION_TYPE="redis", SESSION_REDIS=(client := redis.Redis(port=server.port))
        )
        value = site.write({"a": 1})
        assert source.read(value, KEYS, time.time()) is not None
        server.pause()
        assert outages(source, value) < 1.5
        server.resume()
        assert source.read(value, KEYS, time.time()) is not None
        server.restart()
        assert source.read(value, KEYS, time.time()) is None
        server.kill()
        assert outages(source, value) < 1.5
        source.close()
        client.close()


def test_an_outage_of_postgresql_is_told_in_time() -> None:
    """The same of an SQL server."""
    with PostgreSQL() as server:
        source = adopt.FlaskSession(server.url, timeout=0.5)
        site = FlaskSite(
            SESSION_TYPE="sqlalchemy",
            SQLALCHEMY_DATABASE_URI=server.url.replace("postgresql:", "postgresql+psycopg:"),
        )
        value = site.write({"a": 1})
        assert source.read(value, KEYS, time.time()) is not None
        server.pause()
        assert outages(source, value) < 2
        server.resume()
        assert source.read(value, KEYS, time.time()) is not None
        server.restart()
        assert source.read(value, KEYS, time.time()) is not None
        server.kill()
        assert outages(source, value) < 2
        source.close()
        site.close()


def test_an_outage_of_memcached_is_told_in_time() -> None:
    """The same, and a server that came back is used by an idle connection's successor."""
    with MemcachedServer() as server:
        source = adopt.FlaskSession(server.url, timeout=0.5)
        assert source.read(ID, KEYS, NOW) is None
        server.restart()
        assert source.read(ID, KEYS, NOW) is None
        server.pause()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            source.read(ID, KEYS, NOW)
        assert time.monotonic() - begun < 1.5
        server.resume()
        source.delete(ID)
        source.close()


def test_a_table_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    """A wrong setting signs no client out."""
    source = adopt.FlaskSession(f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert outages(source, ID) < 1
    source.close()


# --- which store ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *["localhost", "http://s3cret@host", "memcache://s3cret", "oracle://app:s3cret@host/x"],
        *["redis+sentinel://:s3cret@a,b/c", "redis+cluster://:s3cret@a,b", "", "://", "redis"],
    ],
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    """When the source is made; no error shows a password."""
    with pytest.raises(ConfigurationError, match="must be redis://") as caught:
        adopt.FlaskSession(url)
    assert "s3cret" not in str(caught.value)


def test_each_source_takes_the_stores_of_its_package() -> None:
    """And says which those are."""
    for make in (adopt.Starsessions, adopt.Litestar):
        for url in ("memcached://localhost", "sqlite:///x", "postgresql://localhost/x"):
            with pytest.raises(ConfigurationError, match="must be redis://"):
                make(url)
    with pytest.raises(ConfigurationError, match="must be postgresql://"):
        adopt.Django("redis://localhost")
    with pytest.raises(ConfigurationError, match="must be redis://"):
        adopt.Django("sqlite:///x", engine="cache")


def of_a_cluster(stack: ExitStack) -> Any:
    nodes = stack.enter_context(SixNodes())
    return stack.enter_context(closing(redis.RedisCluster("127.0.0.1", nodes.servers[0].port)))


def of_sentinels(stack: ExitStack) -> Any:
    watched = stack.enter_context(Watched())
    sentinel = redis.Sentinel(watched.addresses)
    for each in sentinel.sentinels:
        stack.enter_context(closing(each))
    service = watched.url.rpartition("/")[0].rpartition("/")[2]
    return stack.enter_context(closing(sentinel.master_for(service)))


@pytest.mark.parametrize("make", [of_a_cluster, of_sentinels])
def test_clients_of_many_redis_servers(make: Any) -> None:
    """Of a cluster and of Sentinels: all verbs, on whichever server has the key."""
    with ExitStack() as stack:
        client = make(stack)
        source = adopt.FlaskSession(client)
        values = [f"{ID}{each:03}" for each in range(30)]
        for value in values:
            client.set(f"session:{value}", b"\x81\xa1a\x01", ex=100)
        assert sorted(set(source.values())) == values
        found = [source.read(value, KEYS, NOW) for value in values]
        assert all(each and each.data == {"a": 1} and each.expires > NOW + 98 for each in found)
        for value in values:
            source.delete(value)
        assert list(source.values()) == []


@pytest.mark.parametrize("client", [7, None, b"redis://x", object(), redis.asyncio.Redis()])
def test_a_client_of_another_kind_is_refused(client: Any) -> None:
    """One that is awaited above all."""
    with pytest.raises(TypeError, match=r"redis\.Redis"):
        adopt.FlaskSession(client)


@pytest.mark.parametrize("timeout", [0, -1, True, 61, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    """When the source is made."""
    with pytest.raises(ConfigurationError, match="timeout must be"):
        adopt.Litestar("redis://localhost", timeout=timeout)


def test_a_client_that_decodes_is_refused() -> None:
    """It would fail on what is no text."""
    with redis.Redis(decode_responses=True) as client:
        with pytest.raises(ConfigurationError, match="decode_responses"):
            adopt.Starsessions(client)


@pytest.mark.parametrize(
    ("library", "url", "extra"),
    [
        ("redis", "redis://localhost", "redis"),
        ("pymemcache", "memcached://localhost", "memcached"),
        ("sqlalchemy", "sqlite:///x", "sql"),
        ("sqlalchemy", "postgresql://localhost/x", "postgresql"),
        ("sqlalchemy", "mariadb://localhost/x", "mysql"),
    ],
)
def test_a_library_that_is_missing_is_named(
    library: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra that installs it."""
    for name in [*sys.modules]:
        if name.startswith(("sharedsession.adopt.records.", "sharedsession.stores.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"'sharedsession\[{extra}\]'"):
        adopt.FlaskSession(url)


def test_a_prefix_is_no_pattern(old_redis: RedisServer) -> None:
    """Characters that SCAN would read as one are the prefix's own."""
    with redis.Redis.from_url(old_redis.url) as client:
        client.flushall()
        site = StarsessionsSite(old_redis.url, prefix="s[a-z]*?\\")
        value = site.write({"a": 1})
        client.set("sabc" + ID, b"{}")
        source = adopt.Starsessions(old_redis.url, prefix="s[a-z]*?\\")
        assert list(source.values()) == [value]
        source.close()
