"""The invalidations of Redis and Valkey: whatever ends a session elsewhere ends its copy here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from sharedsession._core.settings import NearCache
from sharedsession.stores import open_store
from sharedsession.stores.base import Entry, StorePair
from sharedsession.stores.near import AsyncNearStore, NearStore, invalidation, with_copies
from sharedsession.stores.redis import PREFIX, RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import LoopThread, new_key
from tests.stores.test_near import in_a_child
from tests.stores.test_push import invalidations_of, listening, ours, rest, until
from tests.support.proxy import Proxy
from tests.support.redis_servers import TLSServer, Watched
from tests.support.servers import RedisServer

PATIENT = 10.0
LEASE = 0.5


def near_to(url: str, **limits: Any) -> Iterator[tuple[NearStore, AsyncNearStore]]:
    """Both colours of a server with copies, whose threads end with it."""
    pair = open_store(url, PATIENT)
    copies = with_copies(pair, NearCache(lease=LEASE, **limits), None, 0.0)
    assert isinstance(copies.sync, NearStore)
    assert isinstance(copies.asynchronous, AsyncNearStore)
    yield copies.sync, copies.asynchronous
    rest(copies.sync)
    assert isinstance(pair.sync, RedisStore | SQLStore)
    pair.sync.close()


@pytest.fixture
def near(shared_server: RedisServer) -> Iterator[NearStore]:
    """A server with copies, on each type of Redis."""
    for sync, _ in near_to(shared_server.url):
        yield sync


@pytest.fixture
def admin(shared_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=shared_server.port) as client:
        yield client


def with_a_copy(store: NearStore, ttl: int = 600) -> tuple[str, Entry]:
    """Return a session of which there is a copy that is older than the short lease."""
    listening(store)
    key = new_key()
    assert store.create(key, b"data", ttl) is not None

    def outlives_the_short_lease() -> bool:
        time.sleep(0.05)  # the push of one's own write ends a copy as well
        store.load(key)
        before, begun = store.counts["store"], time.monotonic()
        while time.monotonic() < begun + LEASE + 0.2:
            store.load(key)
            time.sleep(0.01)
        return store.counts["store"] == before

    until(outlives_the_short_lease)
    loaded = store.load(key)
    assert loaded is not None
    return key, loaded


def is_heard(store: NearStore, key: str, within: float = 0.3) -> None:
    begun = time.monotonic()
    until(lambda: store.peek(key) is None)
    # Far below the lease, at whose end the copy would have gone anyway.
    assert time.monotonic() - begun < within


FOREIGN: dict[str, Callable[[redis.Redis, str], object]] = {
    "write": lambda client, name: client.set(name, b"other" * 20, ex=600),
    "delete": lambda client, name: client.delete(name),
    "unlink": lambda client, name: client.unlink(name),
    "a shorter life": lambda client, name: client.expire(name, 5),
    "a change in place": lambda client, name: client.setrange(name, 50, b"x"),
    "FLUSHALL": lambda client, name: client.flushall(),
    "FLUSHDB": lambda client, name: client.flushdb(),
    "rename": lambda client, name: client.rename(name, "elsewhere"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_a_foreign_client_does_is_heard(
    near: NearStore, admin: redis.Redis, what: str
) -> None:
    """Whoever changes a session by hand ends the copies of all servers, without our protocol."""
    key, _ = with_a_copy(near)
    FOREIGN[what](admin, PREFIX + key)
    is_heard(near, key)


def test_expiry_is_heard(near: NearStore, admin: redis.Redis) -> None:
    """The server's own clock ends a session, and with it the copy."""
    key, _ = with_a_copy(near)
    admin.pexpire(PREFIX + key, 60)
    is_heard(near, key)  # of the shorter life
    near.load(key)
    time.sleep(0.1)
    admin.get(PREFIX + key)  # the server looks
    is_heard(near, key)


def test_eviction_is_heard() -> None:
    """A server whose memory is full removes sessions, and says so."""
    with RedisServer(None, "--maxmemory-policy", "allkeys-lru") as server:
        for near, _ in near_to(server.url):
            key, _ = with_a_copy(near)
            with redis.Redis(port=server.port) as admin:
                admin.config_set("maxmemory", "1")
                until(lambda: admin.dbsize() == 0 or admin.execute_command("PING") is None)
                is_heard(near, key, within=1.0)


@pytest.mark.parametrize("verb", ["replace", "touch", "delete", "delete what is held"])
def test_a_write_by_another_server_is_heard(
    near: NearStore, shared_server: RedisServer, verb: str
) -> None:
    """Another server with copies, or without: its writes end the copies of this one."""
    key, loaded = with_a_copy(near)
    other = RedisStore.from_url(shared_server.url, PATIENT)
    if verb == "replace":
        assert other.replace(key, loaded, b"new", 600) is not None
    elif verb == "touch":
        assert other.touch(key, 300)
    elif verb == "delete":
        assert other.delete(key)
    else:
        assert other.delete(key, loaded)
    is_heard(near, key)
    other.close()


def test_sync_and_async_hear(shared_server: RedisServer) -> None:
    """Under ASGI heartbeats go by the loop's own connection; one listener serves sync and async."""
    for near, awaited in near_to(shared_server.url):
        with LoopThread() as loop:
            invalidations = invalidations_of(near)

            def covered() -> bool:
                loop.run(awaited.load("nobody"))
                now = time.monotonic()
                return invalidations.covers(now, now)

            until(covered)
            key = new_key()
            loop.run(awaited.create(key, b"data", 600))

            def outlives_the_short_lease(key: str = key) -> bool:
                time.sleep(0.1)  # the push of one's own write ends a copy as well
                loop.run(awaited.load(key))
                time.sleep(LEASE + 0.1)
                return awaited.peek(key) is not None

            until(outlives_the_short_lease)
            assert near.peek(key) is not None
            near.delete(key)
            assert awaited.peek(key) is None
            assert sorted(ours()) == ["sharedsession-heartbeat", "sharedsession-listener"]


def test_heartbeats_go_on_when_their_loop_ends(shared_server: RedisServer) -> None:
    """A loop may live for one request: the next one, or a thread, goes on to send them."""
    for near, awaited in near_to(shared_server.url):
        invalidations = invalidations_of(near)
        for _ in range(3):
            with LoopThread() as loop:
                until(
                    lambda: (
                        loop.run(awaited.load("nobody")) is None
                        and invalidations.covers(time.monotonic(), time.monotonic())
                    )
                )
                assert invalidations.sender.send is not None
        time.sleep(LEASE + 0.1)
        assert not invalidations.covers(time.monotonic(), time.monotonic())
        listening(near)


def test_own_heartbeats_are_all_that_a_listener_is_told_of(
    near: NearStore, admin: redis.Redis
) -> None:
    """Heartbeats of one server do not disturb the copies of another, and are soon gone."""
    key, _ = with_a_copy(near)
    for number in range(50):
        admin.set(f"sharedsession;heartbeat:other:{number}", b"", ex=10)
    time.sleep(0.1)
    assert near.peek(key) is not None
    left = [admin.ttl(name) for name in admin.scan_iter(match="sharedsession;heartbeat:*")]
    assert left
    assert all(seconds <= 10 and seconds != -1 for seconds in left)  # -1: it would stay


def test_a_child_listens_for_itself(near: NearStore, admin: redis.Redis) -> None:
    """A process forked while threads run has its own connection, and leaves the parent's alone."""
    key, loaded = with_a_copy(near)
    parents = invalidations_of(near).sender.listener

    def child() -> bytes:
        before = near.peek(key), ours()
        mine, _ = with_a_copy(near)
        admin.connection_pool.reset()
        admin.delete(PREFIX + mine)
        is_heard(near, mine)
        return repr((before, invalidations_of(near).sender.listener != parents)).encode()

    assert in_a_child(child) == b"((None, []), True)"
    assert near.peek(key) is not None
    assert near.load(key) == loaded
    admin.delete(PREFIX + key)
    is_heard(near, key)


# --- what befalls the connection ------------------------------------------------------------------


def test_a_killed_connection_is_opened_anew(near: NearStore, admin: redis.Redis) -> None:
    """What was written while nobody listened is stale for the short lease at most."""
    key, _ = with_a_copy(near)
    admin.client_kill_filter(_type="normal", skipme=True)
    admin.client_kill_filter(_type="pubsub", skipme=True)
    begun = time.monotonic()
    admin.delete(PREFIX + key)
    until(lambda: near.peek(key) is None)
    assert time.monotonic() - begun < LEASE + 0.3
    assert near.load(key) is None
    with_a_copy(near)


@pytest.mark.parametrize("how", ["silence", "reset"])
def test_pushes_that_stop_alone_are_noticed(shared_server: RedisServer, how: str) -> None:
    """All is well but the connection for pushes: copies have the short lease until it is new."""
    with Proxy(shared_server.port) as proxy, redis.Redis(port=shared_server.port) as admin:
        for near, _ in near_to(f"redis://127.0.0.1:{proxy.port}/0"):
            key, _ = with_a_copy(near)
            proxy.silence_pushes() if how == "silence" else proxy.reset_pushes()
            begun = time.monotonic()
            admin.delete(PREFIX + key)
            until(lambda: near.peek(key) is None)
            assert time.monotonic() - begun < LEASE + 0.3
            with_a_copy(near)


def test_late_pushes_are_noticed(shared_server: RedisServer) -> None:
    """Pushes and heartbeats that take longer than a lease: no copy outlives the lease."""
    with Proxy(shared_server.port) as proxy, redis.Redis(port=shared_server.port) as admin:
        for near, _ in near_to(f"redis://127.0.0.1:{proxy.port}/0"):
            key, _ = with_a_copy(near)
            proxy.push_delay = 2 * LEASE
            time.sleep(0.1)
            begun = time.monotonic()
            admin.delete(PREFIX + key)
            until(lambda: near.peek(key) is None)
            assert time.monotonic() - begun < LEASE + 0.3


def test_a_restarted_server_is_listened_to_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart that forgot everything is heard of within the lease, and warned of once."""
    for near, _ in near_to(server.url):
        key, _ = with_a_copy(near)
        server.restart()
        begun = time.monotonic()
        until(lambda: near.peek(key) is None)
        assert time.monotonic() - begun < LEASE + 0.3
        assert near.load(key) is None
        with_a_copy(near)
        told = [
            each for each in caplog.records if "publishes no invalidations" in each.getMessage()
        ]
        assert len([each for each in told if each.levelno >= logging.WARNING]) <= 2


def acl(admin: redis.Redis, *more: str) -> None:
    admin.execute_command(
        *("ACL", "SETUSER", "app", "reset", "on", ">s3cret", "~sharedsession:*"),
        *("+get", "+set", "+getrange", "+setrange", "+unlink", "+expire", "+pttl"),
        *("+eval", "+evalsha", "+select", *more),
    )


@pytest.mark.parametrize("missing", ["CLIENT TRACKING", "the heartbeats' keys"])
def test_a_missing_right_is_said_once(
    server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """Without the right there are copies for the short lease, and one warning that says why."""
    monkeypatch.setattr(invalidation, "DEAF", 0.6)
    with redis.Redis(port=server.port) as admin:
        acl(
            admin,
            *(["~sharedsession;heartbeat:*"] if missing == "CLIENT TRACKING" else ["+client"]),
        )
        for near, _ in near_to(f"redis://app:s3cret@127.0.0.1:{server.port}/0"):
            key = new_key()
            near.create(key, b"data", 600)
            begun = time.monotonic()
            while time.monotonic() < begun + 1.6:
                assert near.load(key) is not None
                time.sleep(0.01)
            assert 3 <= near.counts["store"] <= 5
            assert near.counts["copy"] > 20
            texts = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
            told = [each for each in texts if "publishes no invalidations" in each]
            assert len(told) == 1
            assert "no permissions" in told[0].lower()
            assert "s3cret" not in caplog.text
            acl(admin, "~sharedsession;heartbeat:*", "+client")
            with_a_copy(near)  # without a restart


# --- ways to a server -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tls", "unix", "another database"])
def test_every_way_to_a_server_hears(way: str) -> None:
    """TLS, a socket, and another database than the first: what is written is heard."""
    with TLSServer() as server, redis.Redis(port=server.port, db=5) as fifth:
        urls = {
            "tls": server.tls_url.replace("/0?", "/5?"),
            "unix": f"unix://{server.unix_socket}?db=5",
            "another database": f"redis://127.0.0.1:{server.port}/5",
        }
        for near, _ in near_to(urls[way]):
            key, _ = with_a_copy(near)
            fifth.delete(PREFIX + key)
            is_heard(near, key)


@pytest.mark.parametrize("prefix", ["", "web:", "sharedsession", "s*[a]?:"])
def test_any_prefix_hears(shared_server: RedisServer, prefix: str) -> None:
    """A prefix is taken as it is written, also none, or one below which the heartbeats are."""
    with redis.Redis(port=shared_server.port) as client:
        pair = StorePair(RedisStore(client, prefix), None)
        near = with_copies(pair, NearCache(lease=LEASE), None, 0.0).sync
        assert isinstance(near, NearStore)
        key, _ = with_a_copy(near)
        client.delete(prefix + key)
        is_heard(near, key)
        rest(near)


def test_a_users_own_client_hears(shared_server: RedisServer) -> None:
    """A client that the application configured is copied, protocol 2 or 3, whatever it decodes."""
    for protocol in (2, 3):
        with redis.Redis(port=shared_server.port, protocol=protocol, client_name="theirs") as own:
            pair = StorePair(RedisStore(own), None)
            near = with_copies(pair, NearCache(lease=LEASE), None, 0.0).sync
            assert isinstance(near, NearStore)
            key, _ = with_a_copy(near)
            own.delete(PREFIX + key)
            is_heard(near, key)
            rest(near)


def test_the_primary_of_a_sentinel_is_listened_to() -> None:
    """The primary tells, and after a failover the new one does."""
    with Watched(down_after=1000) as watched:
        for near, _ in near_to(watched.url):
            key, _ = with_a_copy(near)
            watched.admin(watched.primary).delete(PREFIX + key)
            is_heard(near, key)
            watched.primary.kill()
            watched.swap()
            until(lambda: _works(near))
            key, _ = with_a_copy(near)
            watched.admin(watched.primary).delete(PREFIX + key)
            is_heard(near, key)


def _works(near: NearStore) -> bool:
    try:
        return near.create(new_key(), b"", 60) is not None
    except Exception:  # noqa: BLE001 - not yet
        return False
