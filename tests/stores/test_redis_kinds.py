"""One Redis server in every way that it can be spoken to: the contract, sharing, and access."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores import StorePair, open_store
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.testing.stores import (
    AsyncStoreConformance,
    Awaited,
    LoopThread,
    StoreConformance,
    new_key,
)
from tests.stores.sharing import assert_shared
from tests.support.redis_servers import TLSServer, advance
from tests.support.servers import RedisServer, valkey_binary

PATIENT = 10.0
USER, PASSWORD = "app", "p@ss/word#1"
WRITTEN = "p%40ss%2Fword%231"
WRONG = "(?i)certificate" if redis.__version__ >= "6" else "Error 1 connecting"  # and no reason


@pytest.fixture(scope="module")
def server() -> Iterator[TLSServer]:
    """Redis with TLS, a user that may do what the store does, and nothing else."""
    with TLSServer() as server, redis.Redis(port=server.port) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~sharedsession:*"),
            *("+get", "+mget", "+set", "+getrange", "+setrange", "+unlink", "+expire"),
            *("+eval", "+evalsha", "+wait", "+select"),
        )
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with RedisServer(valkey_binary()) as server:
        yield server


@pytest.fixture
def advance_both(server: TLSServer, valkey: RedisServer) -> Iterator[Callable[[float], None]]:
    admins = [redis.Redis(port=port, db=db) for port in (server.port, valkey.port) for db in (0, 5)]
    for admin in admins:
        admin.flushdb()
    yield partial(advance, admins)
    for admin in admins:
        admin.close()


def urls(server: TLSServer, valkey: RedisServer) -> dict[str, str]:
    return {
        "tls": server.tls_url,
        "unix": f"unix://{server.unix_socket}?db=5",
        "valkey by unix": f"unix://{valkey.unix_socket}",
        "valkey by tcp": f"valkey://127.0.0.1:{valkey.port}/5",
        "a user, tls": f"rediss://{USER}:{WRITTEN}@{server.tls_url.removeprefix('rediss://')}",
    }


class TestEveryWay(StoreConformance):
    @pytest.fixture(params=["tls", "unix", "valkey by unix"])
    def store(
        self, request: pytest.FixtureRequest, server: TLSServer, valkey: RedisServer
    ) -> Iterator[RedisStore]:
        store = RedisStore.from_url(urls(server, valkey)[request.param], PATIENT)
        yield store
        store.close()

    @pytest.fixture
    def advance(self, advance_both: Callable[[float], None]) -> Callable[[float], None]:
        return advance_both


class TestEveryWayAsync(AsyncStoreConformance):
    @pytest.fixture(params=["tls", "unix", "valkey by unix"])
    def store(
        self, request: pytest.FixtureRequest, server: TLSServer, valkey: RedisServer
    ) -> AsyncRedisStore:
        return AsyncRedisStore.from_url(urls(server, valkey)[request.param], PATIENT)

    @pytest.fixture
    def advance(self, advance_both: Callable[[float], None]) -> Callable[[float], None]:
        return advance_both


class TheUsersProvider(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return USER, PASSWORD


class TestTheUsersClient(StoreConformance):
    @pytest.fixture
    def store(self, server: TLSServer) -> Iterator[RedisStore]:
        with redis.Redis(port=server.port, credential_provider=TheUsersProvider()) as client:
            yield RedisStore(client)

    @pytest.fixture
    def advance(self, advance_both: Callable[[float], None]) -> Callable[[float], None]:
        return advance_both


class TestTheUsersAsyncClient(AsyncStoreConformance):
    @pytest.fixture
    def store(self, server: TLSServer, loop: LoopThread) -> Iterator[AsyncRedisStore]:
        client = redis.asyncio.Redis(
            port=server.port, credential_provider=TheUsersProvider(), protocol=3
        )
        yield AsyncRedisStore(client)
        loop.run(client.aclose())

    @pytest.fixture
    def advance(self, advance_both: Callable[[float], None]) -> Callable[[float], None]:
        return advance_both


def both(pair: StorePair) -> Iterator[Any]:
    """The sync store, then the async one as an ordinary one."""
    assert isinstance(pair.sync, RedisStore)
    assert pair.asynchronous is not None
    yield pair.sync
    pair.sync.close()
    with LoopThread() as loop:
        yield Awaited(pair.asynchronous, loop)


@pytest.mark.parametrize("way", ["tls", "unix", "valkey by unix", "valkey by tcp", "a user, tls"])
def test_both_colours_share_sessions(server: TLSServer, valkey: RedisServer, way: str) -> None:
    """A WSGI and an ASGI application see each other's changes of one session."""
    assert_shared(urls(server, valkey)[way])


def test_the_number_of_a_database_is_kept_to(server: TLSServer) -> None:
    """Another number is another set of sessions, by TCP, by TLS and by a socket."""
    for url in (
        f"redis://127.0.0.1:{server.port}/3",
        server.tls_url.replace("/0?", "/3?"),
        f"unix://{server.unix_socket}?db=3",
    ):
        key = new_key()
        for store in both(open_store(url)):
            store.create(key, b"data", 60)
        with redis.Redis(port=server.port, db=3) as admin:
            assert admin.exists(f"sharedsession:{key}")


def test_a_user_may_do_what_the_store_needs_and_no_more(
    server: TLSServer, caplog: pytest.LogCaptureFixture
) -> None:
    """No right to ask for settings is needed; a password that is wrong is an outage, unshown."""
    url = f"redis://{USER}:{WRITTEN}@127.0.0.1:{server.port}/0"
    for store in both(open_store(url)):
        key = new_key()
        entry = store.create(key, b"data", 60)
        assert store.replace(key, entry, b"new", 60)
        store.delete(key)
        assert store.load(key) is None
    for store in both(open_store(url.replace("word", "ward"))):
        with pytest.raises(StoreUnavailable, match="invalid username-password") as caught:
            store.load("key")
        assert "ward" not in str(caught.value)
    assert caplog.text == ""


def test_a_certificate_is_checked(server: TLSServer) -> None:
    """Without the authority that signed it, or under another name, there is no connection."""
    for url in (
        server.tls_url.partition("?")[0],
        server.tls_url.replace("localhost", "127.1"),  # the same address
    ):
        for store in both(open_store(url)):
            with pytest.raises(StoreUnavailable, match=WRONG):
                store.load("key")
    for store in both(open_store(server.tls_url.partition("?")[0] + "?ssl_cert_reqs=none")):
        assert store.load(new_key()) is None
