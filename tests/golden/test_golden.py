"""Each release reads what the ones before wrote: cookies, records, and what stores keep of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis

from sharedsession.adapter import Sessions
from sharedsession.adopt import FlaskSession
from sharedsession.stores import open_store
from tests.support.servers import RedisServer

from .kinds import DATA, NAMESPACE, SECRET_KEY, Kept, kept_of, releases

KEPT: list[Any] = [  # pytest's own type of a parameter is private
    pytest.param(each, id=f"{release}-{number}-{each.kind}")
    for release in releases()
    for number, each in enumerate(kept_of(release))
]
ENDED = ("ended", "renewed")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def in_redis(kept: Kept, server: RedisServer) -> str:
    client = redis.Redis(port=server.port)
    client.flushdb()
    client.set(f"sharedsession:{kept.key}", bytes.fromhex(kept.redis), ex=1000)
    return server.url


def in_sqlite(kept: Kept, folder: Path) -> str:
    url = f"sqlite:///{folder}/kept.db"
    store = open_store(url, 5.0).sync
    assert store is not None
    store.create_table()  # type: ignore[attr-defined]  # of the SQL store
    row = {**kept.sql, **{name: bytes.fromhex(kept.sql[name]) for name in ("tokens", "data")}}
    with sqlite3.connect(folder / "kept.db") as database:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        database.execute(f"INSERT INTO sharedsession ({names}) VALUES ({marks})", (*row.values(),))
    return url


@pytest.fixture(params=["Redis", "SQLite"])
def url(request: pytest.FixtureRequest, kept: Kept, server: RedisServer, tmp_path: Path) -> str:
    return in_redis(kept, server) if request.param == "Redis" else in_sqlite(kept, tmp_path)


def opened(url: str, **settings: Any) -> Sessions:
    return Sessions(secret_key=SECRET_KEY, store=url, namespace=NAMESPACE, **settings)


@pytest.mark.parametrize("kept", [each for each in KEPT if not each.values[0].claim])
def test_what_a_release_wrote_is_read(kept: Kept, url: str) -> None:
    """A client of an earlier release finds its session, with every value as it was; and goes on."""
    sessions = opened(url)
    session = sessions.open(f"session={kept.cookie}")
    found, expected = dict(session), DATA[kept.kind]
    assert (found, [*map(type, found.values())]) == (expected, [*map(type, expected.values())])
    session["more"] = 1
    sent = dict(sessions.commit(session, [], https=False))
    sessions.finish(session)
    if kept.kind in ENDED:  # its ID is dead; what is new begins under another one
        assert kept.cookie.partition(".")[0] not in sent.get("Set-Cookie", "")
        return
    cookie = sent.get("Set-Cookie", f"session={kept.cookie};").partition(";")[0]
    assert dict(opened(url).open(cookie)) == {**expected, "more": 1}


class Empty(FlaskSession):
    """An old store that has nothing any more."""

    def read(self, value: str, keys: object, now: float) -> None:
        return None

    def delete(self, value: str) -> None: ...


@pytest.mark.parametrize("kept", [each for each in KEPT if each.values[0].claim])
def test_a_claim_that_a_release_made_counts(kept: Kept, server: RedisServer) -> None:
    """What was adopted under an earlier release is found again by the old cookie."""
    url = in_redis(kept, server)
    assert kept.claim is not None
    claim = b"\x00\x07" + bytes(7) + bytes.fromhex(kept.claim["record"])
    redis.Redis(port=server.port).set(f"sharedsession:{kept.claim['key']}", claim, ex=1000)
    session = opened(url, adopt=Empty("redis://127.0.0.1:1/0")).open(f"session={kept.cookie}")
    assert dict(session) == DATA[kept.kind]


def test_this_release_is_kept() -> None:
    """What this version writes is among them: ``python -m tests.golden`` makes it, once."""
    assert version("sharedsession") in releases()
