"""What `stores/redis/compat.py` repairs: each test fails when redis-py needs it no more."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path

import hiredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.connection

from sharedsession.stores.redis import compat

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

pytestmark = pytest.mark.newest


def lowest() -> tuple[int, ...]:
    """Return the lowest version of redis-py that is allowed."""
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    (found,) = [re.match(r"redis>=([\d.]+)", each) for each in extras["redis"]]
    assert found is not None
    return tuple(map(int, found[1].split(".")))


def test_a_connection_reads_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is told not to name itself: `unnamed`."""
    read: list[str] = []
    usual = importlib.metadata.version

    def version(name: str) -> str:
        read.append(name)
        return usual(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    redis.Connection()  # type: ignore[no-untyped-call]
    assert read, "`compat.unnamed` can go"
    read.clear()
    redis.Connection(**compat.unnamed())
    assert not read


def test_hiredis_packs_for_threads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under asyncio redis-py packs by itself: `PacksByHiredis`."""
    packed: list[object] = []
    usual = hiredis.pack_command

    def pack(words: object) -> bytes:
        packed.append(words)
        return bytes(usual(words))

    for module in (redis.connection, redis.asyncio.connection, compat):
        monkeypatch.setattr(module, "pack_command", pack, raising=False)
    monkeypatch.setattr(hiredis, "pack_command", pack)
    commands = [("GET", "key"), ("PING",)]
    plain = redis.asyncio.Connection().pack_commands(commands)
    assert not packed, "`compat.PacksByHiredis` can go"
    kind = type("Packing", (compat.PacksByHiredis, redis.asyncio.Connection), {})
    assert b"".join(kind().pack_commands(commands)) == b"".join(plain)
    assert len(packed) == 2


def test_a_cluster_takes_no_class_of_connections() -> None:
    """So it is given after the client was made."""
    known = inspect.signature(redis.asyncio.RedisCluster.__init__).parameters
    assert "connection_class" not in known, "`cluster.make_async_client` can pass it"


def test_versions_before_6_are_allowed() -> None:
    """For them are `drop_idle`, `startup_nodes`, `refreshing` and `TAKEN_FOR`."""
    assert lowest() < (6,), "what compat.py has for redis-py 5 can go"
