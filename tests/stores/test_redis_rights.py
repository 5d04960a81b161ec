"""What the store's user of Redis or Valkey may do: the least that serves, and what is missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores import open_store
from sharedsession.testing.stores import Awaited, LoopThread, new_key
from tests.support.redis_servers import SixNodes
from tests.support.servers import RedisServer, binaries

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "stores" / "redis.md").read_text()
PATIENT = 10.0
USER = ("on", ">secret", "~sharedsession:*")
LEAST = "+get +getrange +set +setrange +unlink +expire +eval".split()
DOCUMENTED = [*LEAST, "+evalsha", "+mget"]
CLUSTER = ["+cluster|slots", "+command", *(["+info"] if redis.__version__ < "6" else [])]


@pytest.fixture(scope="module", params=list(binaries()))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as admin:
        admin.script_flush()
        yield admin


def stores(url: str) -> Iterator[Any]:
    """The store at the URL, plain and awaited."""
    pair = open_store(url, PATIENT)
    yield pair.sync
    pair.sync.close()
    with LoopThread() as loop:
        yield Awaited(pair.asynchronous, loop)


def opened(admin: redis.Redis, *rules: str, rest: str = "/0") -> Iterator[Any]:
    """The stores of a user who may do so much; each learns for itself what it may not."""
    admin.execute_command("ACL", "SETUSER", "app", "reset", *USER, *rules)
    port = admin.connection_pool.connection_kwargs["port"]
    yield from stores(f"redis://app:secret@127.0.0.1:{port}{rest}")


def use_every_verb(store: Any) -> None:
    for _ in range(2):
        key = new_key()
        created = store.create(key, b"data", 60)
        assert store.load(key) == created
        replaced = store.replace(key, created, b"new", 60)
        assert store.load_all([key])[0].data == b"new"
        assert store.touch(key, 60)
        assert not store.delete(key, created)
        assert store.delete(key, replaced)
        assert store.create(key, b"again", 60)
        assert store.delete(key)
        assert store.load(key) is None


def commands(admin: redis.Redis) -> dict[str, Any]:
    counted = admin.info("commandstats")
    admin.config_resetstat()
    return {name.removeprefix("cmdstat_"): figures for name, figures in counted.items()}


def test_the_page_names_the_rights(admin: redis.Redis) -> None:
    """With the rule that the page prints, and nothing more, every verb works."""
    (rule,) = re.findall(r"^ +ACL SETUSER app on >password (.*)$", PAGE, re.MULTILINE)
    keys, *rights = rule.split()
    assert keys == USER[-1]
    assert sorted(rights) == sorted(DOCUMENTED)
    for store in opened(admin, *rights):
        use_every_verb(store)


@pytest.mark.parametrize(
    "rules",
    [LEAST, [*LEAST[:-3], "+del", "-unlink", *LEAST[-2:]], ["+@all", "-@dangerous", "-@admin"]],
    ids=["the least", "DEL for UNLINK", "what many hosts give"],
)
def test_less_is_done_without(admin: redis.Redis, rules: list[str]) -> None:
    """Without MGET, EVALSHA and UNLINK every verb works, whatever travels together."""
    for store in opened(admin, *rules):
        use_every_verb(store)
        assert [store.load(new_key()) for _ in range(3)] == [None] * 3


def test_what_was_refused_is_not_tried_again(admin: redis.Redis) -> None:
    """One refusal is enough, for all loops: after it nothing is sent that will be refused."""
    for _ in opened(admin, *LEAST):
        pass
    port = admin.connection_pool.connection_kwargs["port"]
    store = open_store(f"redis://app:secret@127.0.0.1:{port}/0", PATIENT).asynchronous
    keys = [new_key() for _ in range(20)]

    async def at_once() -> None:
        created = await asyncio.gather(*(store.create(key, key.encode(), 60) for key in keys))
        loaded = await asyncio.gather(*(store.load(key) for key in keys))
        assert [entry.data for entry in loaded] == [key.encode() for key in keys]
        assert all(created)
        assert await asyncio.gather(*(store.delete(key) for key in keys)) == [True] * 20

    asyncio.run(at_once())
    commands(admin)
    asyncio.run(at_once())
    counted = commands(admin)
    assert not {"mget", "evalsha"} & set(counted)
    assert counted["get"]["calls"] == 20


# UNLINK has a substitute, and SETRANGE is for a write whose answer was lost.
@pytest.mark.parametrize("missing", sorted({*LEAST} - {"+unlink", "+setrange"}))
def test_what_is_missing_is_named(admin: redis.Redis, missing: str) -> None:
    """What cannot be done without is an outage that says which rule is to be added."""
    rules = [each for each in DOCUMENTED if each not in (missing, "+evalsha")]
    for store in opened(admin, *rules):
        with pytest.raises(StoreUnavailable) as caught:
            use_every_verb(store)
        said = str(caught.value)
        assert "ACL SETUSER <user> " in said
        assert missing in said
        assert "secret" not in said


def test_missing_keys_are_named(admin: redis.Redis) -> None:
    """A user who may not see the store's keys: the rule names them."""
    for store in opened(admin, "resetkeys", "~others:*", *DOCUMENTED):
        with pytest.raises(StoreUnavailable, match=r"SETUSER <user> ~sharedsession:\*"):
            store.load(new_key())
        with pytest.raises(StoreUnavailable, match=r"SETUSER <user> ~sharedsession:\*"):
            store.create(new_key(), b"data", 60)


@pytest.mark.parametrize(
    ("rest", "right"), [("/3", r"\+select"), ("/0?wait_replicas=1", r"\+wait")]
)
def test_what_an_option_needs_is_named(admin: redis.Redis, rest: str, right: str) -> None:
    """Another database, or confirmed writes: the error names the right."""
    for store in opened(admin, *DOCUMENTED, rest=rest):
        with pytest.raises(StoreUnavailable, match=right):
            store.create(new_key(), b"data", 60)


def test_a_cluster_needs_its_slots() -> None:
    """In a cluster the rights are the same, and those to ask who has which slots, and how."""
    with SixNodes() as cluster:
        for server in cluster.servers:
            cluster.admin(server).execute_command(
                "ACL", "SETUSER", "app", "reset", *USER, *LEAST, *CLUSTER
            )
        hosts = cluster.url.partition("://")[2]
        for store in stores(f"redis+cluster://app:secret@{hosts}"):
            use_every_verb(store)
