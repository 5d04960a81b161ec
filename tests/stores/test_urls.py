"""From a URL to a store: which ones there are, what is refused, and with which words."""

from __future__ import annotations

import gc
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sharedsession.exceptions import ConfigurationError
from sharedsession.stores import open_store
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing import race
from tests.servers import RedisServer


def test_memory() -> None:
    """`memory://` never blocks, and serves both colours."""
    pair = open_store("memory://")
    assert isinstance(pair.sync, MemoryStore)
    assert pair.asynchronous is None
    assert pair.sync.blocking is False


def test_a_named_memory_is_its_own() -> None:
    """The same URL is the same memory, whatever the deadline; another name is another one."""
    pairs = [open_store(url) for url in ("memory://", "memory://shop", "memory://admin")]
    assert len({id(pair.sync) for pair in pairs}) == 3
    assert open_store("memory://shop", 5.0) is pairs[1]
    assert pairs[1].sync.create("key", b"data", 60)
    assert pairs[2].sync.load("key") is None


def test_a_memory_can_be_bounded() -> None:
    """`max_entries` bounds it."""
    store = open_store("memory://small?max_entries=2").sync
    for key in "abc":
        assert store.create(key, b"", 60)
    assert [bool(store.load(key)) for key in "abc"] == [False, True, True]


def test_sqlite(tmp_path: Path) -> None:
    """A file that blocks, so under ASGI it is called in threads; no async twin."""
    pair = open_store(f"sqlite:///{tmp_path}/sessions.db")
    assert isinstance(pair.sync, SQLStore)
    assert pair.asynchronous is None
    assert pair.sync.blocking is True
    assert pair.sync.create("key", b"data", 60)
    assert (tmp_path / "sessions.db").exists()


@pytest.mark.parametrize("scheme", ["redis", "valkey", "REDIS"])
def test_redis(server: RedisServer, scheme: str) -> None:
    """Redis and Valkey have both colours, on the database that the URL names."""
    pair = open_store(f"{scheme}://127.0.0.1:{server.port}/3")
    assert isinstance(pair.sync, RedisStore)
    assert isinstance(pair.asynchronous, AsyncRedisStore)
    assert pair.sync.create("key", b"data", 60)
    assert pair.sync._way.client.connection_pool.connection_kwargs["db"] == 3
    pair.sync.close()


def test_redis_by_a_unix_socket(server: RedisServer) -> None:
    """A socket's path instead of a host."""
    pair = open_store(f"unix://{server.unix_socket}?db=2")
    assert isinstance(pair.sync, RedisStore)
    assert pair.sync.create("key", b"data", 60)
    pair.sync.close()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_redis_by_tls(scheme: str) -> None:
    """The schemes with an s use TLS."""
    pair = open_store(f"{scheme}://localhost:6379/0")
    assert isinstance(pair.sync, RedisStore)
    assert "SSL" in pair.sync._way.client.connection_pool.connection_class.__name__


def test_the_same_url_is_the_same_pair(tmp_path: Path) -> None:
    """As long as somebody holds it; another deadline is another pair, for its client differs."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    pair = open_store(url)
    assert open_store(url) is pair
    assert open_store(url, 2.0) is not pair
    identity = id(pair.sync)
    del pair
    gc.collect()
    others = [object() for _ in range(10)]
    assert id(open_store(url).sync) != identity or others


def test_threads_that_open_at_once_share_a_pair() -> None:
    """Nobody gets a second memory because two asked at the same moment."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(100):
            pairs = race([partial(open_store, f"memory://at-once-{number}")] * 8)
            assert len({id(pair) for pair in pairs}) == 1
    finally:
        sys.setswitchinterval(before)


REFUSED = [
    ("", "without '://'"),
    ("memory", "without '://'"),
    ("localhost:6379", "without '://'"),
    ("redis:/localhost", "without '://'"),
    ("sessions.db", "without '://'"),
    ("postgresql+psycopg2://u:secret@host/db", "postgresql+psycopg2://"),
    ("postgresql://u:secret@host:port/db", "cannot be read"),
    ("postgresql://u:secret@host/db?pool_size=0", "pool_size"),
    ("mysql://u:secret@host", "Name the database"),
    ("sqlite:///sessions.db?schema=other", "no schemas"),
    ("sqlite+aiosqlite:///sessions.db", "sqlite+aiosqlite://"),
    ("http://u:secret@host/", "http://"),
    ("memory:///path", "max_entries"),
    ("memory://?max_entries=0", "max_entries"),
    ("memory://?max_entries=", "max_entries"),
    ("memory://?max_entries=many", "max_entries"),
    ("memory://?max_entry=5", "max_entries"),
    ("sqlite://", "memory://"),
    ("sqlite:///:memory:", "memory://"),
    ("sqlite://sessions.db", "three slashes"),
    ("redis://:secret@host:port/0", "cannot be read"),
    ("redis://:secret@host:99999/0", "cannot be read"),
    ("redis://:sec/ret@host:6379/0", "cannot be read"),
    ("redis://:sec#ret@host:6379/0", "cannot be read"),
    ("redis://:sec?ret@host:6379/0", "cannot be read"),
    ("redis://[::1/0", "cannot be read"),
    ("redis://:secret@host/name", "number of a database"),
    ("redis://:secret@host/0?socket_timeout=soon", "cannot be read"),
    ("redis://:secret@host/0?unheard_of=1", "'unheard_of'"),
    ("redis://:secret@host/0?decode_responses=yes", "decode_responses"),
    ("unix://", "names a socket"),
    ("valkey://:secret@host:port/0", "cannot be read"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED)
def test_a_url_that_is_wrong_is_refused_at_once(url: str, words: str) -> None:
    """With a sentence that says what is wrong with it, and never with the password in it."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert words in str(caught.value)
    for chain in (caught.value, caught.value.__cause__):
        assert "secret" not in str(chain)
        assert "ret@" not in str(chain)
        assert "'sec" not in str(chain)


def test_an_unknown_store_lists_the_choices() -> None:
    """Whoever does not know the names finds all of them in the error."""
    with pytest.raises(ConfigurationError) as caught:
        open_store("dynamodb://table")
    for choice in ("memory://", "sqlite:///", "redis://", "rediss://", "unix://", "valkey://"):
        assert choice in str(caught.value)


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("sqlite:///sessions.db", "sqlalchemy", "sql"),
        ("postgresql://localhost/name", "sqlalchemy", "postgresql"),
        ("postgresql://localhost/name", "psycopg", "postgresql"),
        ("mysql://localhost/name", "pymysql", "mysql"),
        ("mariadb://localhost/name", "asyncmy", "mysql"),
        ("mysql://localhost/name", "greenlet", "mysql"),
        ("redis://localhost", "redis", "redis"),
        ("valkey://localhost", "redis", "redis"),
    ],
)
def test_a_missing_library_names_the_extra(
    url: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the client library the error says what to install."""
    for name in [*sys.modules]:
        if name == library or name.startswith(f"{library}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    for name in ("sql", "sql_dialects", "sql_psycopg", "redis"):
        monkeypatch.delitem(sys.modules, f"sharedsession.stores.{name}", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        open_store(url + "?")
    assert f"pip install 'sharedsession[{extra}]'" in str(caught.value)
    assert library in str(caught.value)


def test_no_client_library_is_imported_unasked() -> None:
    """Who keeps sessions in memory needs neither SQLAlchemy nor redis-py, nor their start-up."""
    code = (
        "import sys; from sharedsession.stores import open_store; open_store('memory://');"
        "print({'redis', 'sqlalchemy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("missing", "printed"),
    [
        ("psycopg", "None AsyncSQLStore\n"),
        ("asyncpg", "needs the package asyncpg, which is not installed: pip install asyncpg.\n"),
    ],
)
def test_who_chose_asyncpg_needs_no_other_driver(missing: str, printed: str) -> None:
    """Without psycopg there is no sync twin, and without asyncpg a sentence."""
    code = f"""
import sys
from sharedsession.stores import open_store
sys.modules[{missing!r}] = None
try:
    pair = open_store("postgresql+asyncpg://localhost/name")
    print(pair.sync, type(pair.asynchronous).__name__)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(printed)
