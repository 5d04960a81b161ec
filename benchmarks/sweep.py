"""What removing 100,000 expired sessions does to requests: SQLite and PostgreSQL, 200,000 rows.

    python benchmarks/sweep.py

Four threads of one process read, and now and then write, sessions that live; another process then
removes the half that has expired, as ``sharedsession sweep`` does it. The table has the latency of
single store calls before, during and after that.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sharedsession.stores.base import new_token, with_token
from sharedsession.stores.sql import SQLStore
from tests.support.databases import PostgreSQL

SESSIONS = 200_000
BYTES = 400
THREADS = 4
PAUSE = 0.01  # between two requests of a thread
SECONDS = 8.0  # before the sweep, and after it
TIMEOUT = 5.0


def name(number: int) -> str:
    return f"{number:064x}"


def fill(store: SQLStore) -> None:
    """Lay down all rows at once; every second one has expired."""
    store.load("nobody")
    now, data = time.time(), os.urandom(BYTES)
    with store._engine.begin() as connection:
        for start in range(0, SESSIONS, 5000):
            rows = [
                {
                    "key": name(number),
                    "version": 1,
                    "tokens": with_token(new_token()),
                    "data": data,
                    "expires": now + (100_000 if number % 2 else -1 - random.random() * 1000),
                    "owner": None,
                }
                for number in range(start, start + 5000)
            ]
            connection.execute(store._statements.table.insert(), rows)


class Requests:
    """Threads that load sessions, and replace every fifth."""

    def __init__(self, store: SQLStore) -> None:
        self._store = store
        self._going = True
        self.phase = "before"
        self.taken: dict[tuple[str, str], list[float]] = {}
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()

    def _run(self, mine: int) -> None:
        dice = random.Random(mine)
        while self._going:
            key = name(2 * (dice.randrange(SESSIONS // 2 // THREADS) * THREADS + mine) + 1)
            phase, begun = self.phase, time.perf_counter()
            entry = self._store.load(key)
            self._note(phase, "read", begun)
            assert entry is not None
            if dice.random() < 0.2:
                begun = time.perf_counter()
                assert self._store.replace(key, entry, entry.data, 100_000)
                self._note(phase, "write", begun)
            time.sleep(PAUSE)

    def _note(self, phase: str, kind: str, begun: float) -> None:
        self.taken.setdefault((phase, kind), []).append(time.perf_counter() - begun)


def measure(title: str, url: str) -> None:
    store = SQLStore.from_url(url, TIMEOUT)
    fill(store)
    requests = Requests(store)
    time.sleep(SECONDS)
    requests.phase = "during"
    begun = time.monotonic()
    command = [sys.executable, "-m", "sharedsession", "sweep", "--store", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    swept = time.monotonic() - begun
    requests.phase = "after"
    time.sleep(SECONDS)
    requests.stop()
    store.close()
    print(f"\n{title}: {said[:-1]} in {swept:.1f} s, start of the command included")
    print(f"{'':8} {'':6} {'calls':>7} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}")
    for (phase, kind), taken in sorted(requests.taken.items(), key=order):
        taken.sort()
        parts = taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1]
        numbers = "".join(f" {each * 1000:8.2f}" for each in parts)
        print(f"{phase:8} {kind:6} {len(taken):7}{numbers}")


def order(item: tuple[tuple[str, str], list[float]]) -> tuple[int, str]:
    (phase, kind), _ = item
    return ("before", "during", "after").index(phase), kind


@contextmanager
def places() -> Iterator[list[tuple[str, str]]]:
    with tempfile.TemporaryDirectory() as folder, PostgreSQL("fsync=on") as server:
        yield [("SQLite", f"sqlite:///{folder}/sessions.db"), ("PostgreSQL", server.url)]


def main() -> None:
    with places() as chosen:
        for title, url in chosen:
            measure(title, url)


if __name__ == "__main__":
    main()
