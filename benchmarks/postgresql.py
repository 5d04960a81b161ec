"""What writes and touches cost PostgreSQL: HOT updates, WAL and the index, counted by the server.

    python benchmarks/postgresql.py [FILLFACTOR …]

Ten thousand sessions with 300 bytes of data, a row of about 400. In each round every one of them is
written or touched once, in random order, a tenth of the lifetime after the round before, by a clock
that is moved. "All" are writes of new data, "part" those that change its first 20 bytes.

WAL is counted after a checkpoint and a round that is not counted: the first change of a page after
a checkpoint brings an image of the whole page, 8 KB. "Images" is a round of writes with these.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sharedsession.stores.base import Entry
from sharedsession.stores.sql import SQLStore
from sharedsession.testing.stores import Clock, new_key
from tests.support.databases import PostgreSQL

SESSIONS = 10_000
BYTES = 300
PART = 20
LIFETIME = 14 * 24 * 3600
SETTINGS = ("full_page_writes=on", "checkpoint_timeout=1h", "max_wal_size=4GB")
TOLD = 2.0  # seconds within which a connection that was closed has told its counts


class Table:
    """A table of sessions, and what the server has counted of it."""

    def __init__(self, server: PostgreSQL, fillfactor: int | None) -> None:
        self._server = server
        self._clock = Clock(time.time())
        self.store = SQLStore.from_url(server.url, 30.0, clock=self._clock)
        self.store.create_table()
        if fillfactor is not None:
            server.in_app(f"ALTER TABLE sharedsession SET (fillfactor = {fillfactor})")
        self._entries: dict[str, Entry] = {}
        for _ in range(SESSIONS):
            key = new_key()
            entry = self.store.create(key, os.urandom(BYTES), LIFETIME)
            assert entry is not None
            self._entries[key] = entry

    def write(self, key: str) -> None:
        self._replace(key, os.urandom(BYTES))

    def write_part(self, key: str) -> None:
        self._replace(key, os.urandom(PART) + self._entries[key].data[PART:])

    def touch(self, key: str) -> None:
        assert self.store.touch(key, LIFETIME)

    def _replace(self, key: str, data: bytes) -> None:
        entry = self.store.replace(key, self._entries[key], data, LIFETIME)
        assert entry is not None
        self._entries[key] = entry

    def wal_of(self, change: Callable[[str], None]) -> tuple[int, int]:
        """Return the bytes of WAL of one change: right after a checkpoint, and a round later."""
        self._server.in_app("CHECKPOINT")
        first, second = self._wal_of_a_round(change), self._wal_of_a_round(change)
        return first, second

    def _wal_of_a_round(self, change: Callable[[str], None]) -> int:
        self._clock.advance(LIFETIME / 10)
        before = self._number("SELECT pg_current_wal_lsn() - '0/0'")
        for key in random.sample(list(self._entries), SESSIONS):
            change(key)
        return round((self._number("SELECT pg_current_wal_lsn() - '0/0'") - before) / SESSIONS)

    def hot(self) -> tuple[int, float]:
        """Return how many updates there were, and which share of them was HOT."""
        self.store.close()
        time.sleep(TOLD)
        all_ = self._number("SELECT n_tup_upd FROM pg_stat_user_tables")
        return all_, self._number("SELECT n_tup_hot_upd FROM pg_stat_user_tables") / all_

    def bytes_of(self, function: str) -> int:
        return self._number(f"SELECT {function}('sharedsession')") // SESSIONS

    def _number(self, question: str) -> int:
        ((answer,),) = self._server.in_app(question)
        return int(answer)


def measure(fillfactor: int | None) -> None:
    with PostgreSQL(*SETTINGS) as server:
        table = Table(server, fillfactor)
        images, all_ = table.wal_of(table.write)
        _, part = table.wal_of(table.write_part)
        _, touch = table.wal_of(table.touch)
        updates, hot = table.hot()
        heap, index = table.bytes_of("pg_relation_size"), table.bytes_of("pg_indexes_size")
    shown = "the table's" if fillfactor is None else f"{fillfactor}"
    print(
        f"{shown:>11} {updates:9} {hot:8.1%} {all_:7} {part:7} {touch:7} {images:7}"
        f" {heap:7} {index:7}",
        flush=True,
    )


def main() -> None:
    print(f"{'':11} {'':9} {'':8}  WAL, bytes each: writes, touches  bytes of a session")
    names = ("HOT", "all", "part", "touch", "images", "heap", "index")
    print(f" fillfactor   updates {names[0]:>8}" + "".join(f" {each:>7}" for each in names[1:]))
    for fillfactor in [int(each) for each in sys.argv[1:]] or [None]:
        measure(fillfactor)


if __name__ == "__main__":
    main()
