"""From a URL to a store: which ones there are, what is refused, and with which words."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import redis

from sharedsession.exceptions import ConfigurationError, StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import race
from tests.support.servers import RedisServer


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
    with redis.Redis(port=server.port, db=3) as admin:
        assert admin.dbsize() == 1
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
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pair = open_store(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/0", timeout=1.0)
        assert isinstance(pair.sync, RedisStore)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(pair.sync.load, "key")
            with listening.accept()[0] as connection:
                assert connection.recv(1) == b"\x16"  # a handshake of TLS begins
            assert isinstance(asking.exception(), StoreUnavailable)


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


BRACKETS = "stands in brackets"
FORM = "is its form"
PORT = "not a number from 1 to 65535"
OF_SERVERS = {  # a URL of each kind, and whether it may name several servers
    "redis://{}/0": False,
    "rediss://{}": False,
    "valkey://{}/": False,
    "redis+sentinel://{}/service/0": True,
    "valkeys+sentinel://{}/service": True,
    "redis+cluster://{}": True,
    "rediss+cluster://{}": True,
    "memcached://{}": True,
    "memcached://{}/?prefix=shop:": True,
    "postgresql://{}/name": False,
    "postgresql+asyncpg://{}/name": False,
    "mysql://{}/name": False,
    "mariadb+asyncmy://{}/name": False,
}
ONE_HOST = ["host", "host:1", "HOST.example.org:65535", "10.0.0.1", "[::1]", "[::1]:7", "[fe80::a]"]
SEVERAL = ["h1,h2", "h1:1,[::1]:1", "[::1]:1,h1", "h1,[::1],[fd00::2]:7", "[::1],[::2]"]
WRONG_HOSTS = {
    "::1": BRACKETS,
    "::1:6379": BRACKETS,
    "fe80::1": BRACKETS,
    "h:port": PORT,
    "h:0": PORT,
    "h:65536": PORT,
    "h:-1": PORT,
    "h:": PORT,
    "h:6379:1": PORT,
    "[::1": "In brackets stands an IPv6 address",
    "[name]:1": "In brackets stands an IPv6 address",
    "[::1]x": "In brackets stands an IPv6 address",
    ":1": "no host",
}
WRONG_LISTS = {"h1,,h2": "no host", "h1,": "no host", ",h1": "no host", "h1,::1": BRACKETS}


def opens(url: str) -> None:
    """Read a URL to the end, whether or not its driver's clients can be made here."""
    pair = open_store(url)
    assert pair.sync is not None
    assert pair.asynchronous is not None


@pytest.mark.parametrize("form", OF_SERVERS)
def test_hosts_are_read_in_every_url(form: str) -> None:
    """Names, IPv4, IPv6 in brackets, in any order where there may be several; with a login too."""
    for hosts in ONE_HOST + (SEVERAL if OF_SERVERS[form] else []):
        opens(form.format(hosts))
        if "memcached" not in form:
            opens(form.format(f"user:p%40%2F%23%3Fss@{hosts}"))


@pytest.mark.parametrize("form", OF_SERVERS)
def test_hosts_that_are_wrong_are_refused_in_every_url(form: str) -> None:
    """Each sentence says what is wrong, and none has the password that may stand in the URL."""
    wrong = {**WRONG_HOSTS, **(WRONG_LISTS if OF_SERVERS[form] else {})}
    for hosts, words in wrong.items():
        logins = [""] if "memcached" in form else ["", "user:secret@", ":secret@"]
        for login in logins:
            assert words in refusal(form.format(login + hosts)), (hosts, login)


@pytest.mark.parametrize("form", [form for form in OF_SERVERS if "memcached" not in form])
@pytest.mark.parametrize("password", ["sec/ret", "sec?ret", "sec#ret"])
def test_a_password_that_was_not_encoded(form: str, password: str) -> None:
    """The sentence says how to write it, and does not have it."""
    said = refusal(form.format(f"user:{password}@host:1"))
    assert "In a password write %2F" in said


@pytest.mark.parametrize("form", [form for form in OF_SERVERS if "memcached" not in form])
def test_a_password_with_brackets_and_more(form: str) -> None:
    """What needs no encoding is taken as it is."""
    opens(form.format("user:p[s]s+w=d&!$@host:1"))


def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    for chain in (caught.value, caught.value.__cause__):
        for secret in ("secret", "ret@", "'sec", "sec/", "sec?", "sec#"):
            assert secret not in str(chain)
    return str(caught.value)


REFUSED = [
    ("", "without '://'"),
    ("memory", "without '://'"),
    ("localhost:6379", "without '://'"),
    ("redis:/localhost", "without '://'"),
    ("sessions.db", "without '://'"),
    ("postgresql+psycopg2://u:secret@host/db", "postgresql+psycopg2://"),
    ("postgresql://u:secret@host/db?pool_size=0", "pool_size"),
    ("mysql://u:secret@host", "Name the database"),
    ("sqlite:///sessions.db?schema=other", "no schemas"),
    ("sqlite+aiosqlite:///sessions.db", "sqlite+aiosqlite://"),
    ("http://u:secret@host/", "http://"),
    ("memory:///path", "max_entries"),
    ("memory://?max_entries=0", "max_entries"),
    ("memory://?max_entries=", "max_entries of the URL has no value"),
    ("memory://?max_entries=many", "max_entries"),
    ("memory://?max_entry=5", "Is 'max_entries' meant?"),
    ("memory://?max_entries=5&max_entries=6", "max_entries twice"),
    ("sqlite://", "memory://"),
    ("sqlite:///:memory:", "memory://"),
    ("sqlite://sessions.db", "three slashes"),
    ("redis://:secret@h1,h2/0", "A list of hosts"),
    ("redis://:secret@host/name", "number of a database"),
    ("redis://:secret@host/0/1", "number of a database"),
    ("redis://:secret@host/-1", "number of a database"),
    ("redis+sentinel://h1/service/name", "number of a database"),
    ("redis+sentinel://h1", "names the service"),
    ("redis+cluster://h1/3", "no databases"),
    ("redis+cluster://h1?db=3", "no databases"),
    ("redis://:secret@host/0?db=3", "database twice"),
    ("redis://:secret@host?db=three", "value that cannot be read"),
    ("redis://:secret@host/0?db=", "db of the URL has no value"),
    ("redis://:secret@host/0?socket_timeout=soon", "value that cannot be read"),
    ("redis://:secret@host/0?socket_timeout=1&socket_timeout=2", "socket_timeout twice"),
    ("redis://:secret@host/0?unheard_of=1", "'unheard_of'"),
    ("redis://:secret@host/0?max_conections=1", "Is 'max_connections' meant?"),
    ("redis://:secret@host/0?wait_replica=1", "Is 'wait_replicas' meant?"),
    ("redis://:secret@host/0?sentinel_password=secret", "Only a redis+sentinel://"),
    ("redis://:secret@host/0?ssl_ca_certs=/ca.pem", "ssl_ca_certs is for TLS"),
    ("rediss://:secret@host/0?ssl_cert_reqs=perhaps", "value that cannot be read"),
    ("redis://:secret@host/0?decode_responses=yes", "decode_responses"),
    ("redis://host/0#1", FORM),
    ("unix://", "names a socket"),
    ("unix://run/redis.sock", "three slashes"),
    ("memcached://user:secret@h1", "no user and no password"),
    ("memcached://h1?prefx=a", "Is 'prefix' meant?"),
    ("memcached://h1/path", "servers, or one socket"),
    # the options of databases: what the driver does not know
    ("postgresql://u:secret@h/d?nonsense=1", "'nonsense'"),
    ("postgresql://u:secret@h/d?sslmod=require", "Is 'sslmode' meant?"),
    ("postgresql://u:secret@h/d?sslmode=yes", "one of: disable, allow"),
    ("postgresql://u:secret@h/d?ssl=true", "one of: disable, allow"),
    ("postgresql://u:secret@h/d?ssl=require&sslmode=require", "both ssl and sslmode"),
    ("postgresql://u:secret@h/d?sslmode=require&sslmode=disable", "sslmode twice"),
    ("postgresql://u:secret@h/d?sslrootcert=/nowhere.pem", "sslrootcert names in the URL is not"),
    ("postgresql://u:secret@h/d?statement_cache_size=0", "'statement_cache_size'"),
    ("postgresql+asyncpg://u:secret@h/d?sslkey=/nowhere.pem", "sslkey names in the URL is not"),
    ("postgresql+asyncpg://u:secret@h/d?statement_cache_size=no", "is a number"),
    ("postgresql+asyncpg://u:secret@h/d?channel_binding=require", "nothing like channel_binding"),
    ("postgresql+asyncpg://u:secret@h/d?sslcrldir=/tmp", "nothing like sslcrldir"),
    ("postgresql+asyncpg://u:secret@h/d?ssl=perhaps", "one of: disable, allow"),
    ("mysql://u:secret@h/d?nonsense=1", "'nonsense'"),
    ("mysql://u:secret@h/d?ssl_ac=/ca.pem", "Is 'ssl_ca' meant?"),
    ("mysql://u:secret@h/d?ssl_ca=/nowhere.pem", "ssl_ca names in the URL is not"),
    ("mysql://u:secret@h/d?ssl_mode=PREFERRED", "ssl_mode is one of"),
    ("mysql://u:secret@h/d?ssl_mode=REQUIRED&ssl-mode=DISABLED", "ssl_mode twice"),
    (
        "mysql://u:secret@h/d?ssl_disabled=true&ssl_verify_cert=true",
        "asks for TLS and turns it off",
    ),
    ("mysql://u:secret@h/d?ssl=perhaps", "true or false"),
    ("mysql://u:secret@h/d?ssl_check_hostname=true", "add ssl_ca"),
    ("mysql://u:secret@h/d?init_command=SET+x", "settings of its own"),
    ("mysql://u:secret@h/d?sql_mode=ANSI", "the strict one"),
    ("mariadb://u:secret@h/d?autocommit=1", "commit by themselves"),
    ("mariadb://u:secret@h/d?client_flag=many", "is a number"),
    ("sqlite:///sessions.db?mode=ro", "sqlite:///file:sessions.db?uri=true"),
    ("sqlite:///sessions.db?time=1", "Is 'timeout' meant?"),
    ("sqlite:///sessions.db?isolation_level=EXCLUSIVE", "commit by themselves"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED)
def test_a_url_that_is_wrong_is_refused_at_once(url: str, words: str) -> None:
    """With a sentence that says what is wrong with it, and never with the password in it."""
    assert words in refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host:6379/",
        "redis://host:6379/0/",
        "redis://host:6379?db=3",
        "redis://host/0?client_name=a%26b&health_check_interval=30&socket_keepalive=yes",
        "unix:///run/redis.sock?db=2",
        "unix://user:pw@/run/redis.sock",
        "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "redis+sentinel://h1,h2/a%20service/3?sentinel_username=u&sentinel_password=x%2By",
        "redis+cluster://h1/0",
        "postgresql://u@h/d?sslmode=require&connect_timeout=10&application_name=shop",
        "postgresql://u@h/d?sslmode=require&channel_binding=require&options=endpoint%3Done",
        "postgresql://u@h/d?ssl=require&keepalives_idle=30&target_session_attrs=read-write",
        "postgresql://u@h/d?host=h1:1&host=h2:2",
        "postgresql:///d?host=/run/postgresql",
        "postgresql+asyncpg://u@h/d?ssl=disable&prepared_statement_cache_size=0&command_timeout=9",
        "postgresql+asyncpg://u@h/d?sslmode=require&options=-c%20search_path%3Dshop",
        "mysql://u@h/d?charset=utf8mb4&connect_timeout=3&unix_socket=/run/mysqld.sock",
        "mysql://u@h/d?ssl-mode=REQUIRED",
        "mysql://u@h/d?ssl_disabled=true",
        "mysql://u@h/d?ssl_verify_cert=true&ssl_verify_identity=true&local_infile=0",
    ],
)
def test_what_is_usual_serves_both_drivers(url: str) -> None:
    """One URL stands for two clients: what the one knows by another name is translated for it."""
    opens(url)


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
    for name in [*sys.modules]:
        if name.startswith(("sharedsession.stores.sql", "sharedsession.stores.redis")):
            monkeypatch.delitem(sys.modules, name)
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
