"""Sessions that are larger than a database takes: `TooLarge`, by each driver, and no outage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sharedsession.exceptions import TooLarge
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import new_key
from tests.stores.sql_stores import OF_MYSQL, OPENED, opened
from tests.support.databases import MariaDB, PostgreSQL

PACKET = 2**20


@pytest.fixture(scope="module")
def small_packets() -> Iterator[MariaDB]:
    with MariaDB(f"--max-allowed-packet={PACKET}") as server:
        yield server


@pytest.mark.parametrize("how", OF_MYSQL)
@pytest.mark.parametrize("size", [PACKET // 2, PACKET, 20 * PACKET])
def test_what_is_larger_than_a_packet_is_too_large(
    small_packets: MariaDB, how: str, size: int
) -> None:
    """The server would refuse it or hang up: the request's error, no outage, nothing stored."""
    with opened(how, small_packets.url) as subject:
        store, key, free = subject.store, new_key(), new_key()
        entry = store.create(key, b"small", 60)
        with pytest.raises(TooLarge, match=f"max_allowed_packet = {PACKET}") as raised:
            store.replace(key, entry, bytes(size), 60)
        assert raised.value.size == size
        assert raised.value.limit < size
        with pytest.raises(TooLarge):
            store.create(free, bytes(size), 60)
        assert store.load(free) is None
        largest = bytes(raised.value.limit)
        assert store.replace(key, entry, largest, 60, "ō" * 255) is not None
        assert store.load(key).data == largest


@pytest.mark.parametrize("how", [how for how in OPENED if how not in OF_MYSQL])
def test_more_than_a_gigabyte_is_too_large_for_postgresql(postgresql: PostgreSQL, how: str) -> None:
    """It is refused before it is sent."""
    with opened(how, postgresql.url) as subject:
        with pytest.raises(TooLarge, match="gigabyte"):
            subject.store.create(new_key(), bytes(2**30), 60)
        assert subject.store.create(new_key(), b"small", 60)


def test_what_sqlite_does_not_take_is_too_large(tmp_path: Path) -> None:
    """The limit is that of the connection, a thousand million bytes unless it was lowered."""
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", 20.0)
    with pytest.raises(TooLarge, match="SQLITE_LIMIT_LENGTH"):
        store.create("key", bytes(10**9), 60)
    assert store.create("key", b"small", 60)
    store.close()
