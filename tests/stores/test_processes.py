"""Eight processes on one row: what stores promise when nobody shares a memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharedsession.stores import open_store
from tests.stores.processes import run_python
from tests.support.servers import RedisServer

PROCESSES = 8
EACH = 15

SYNC = """
store = open_store(url, 20.0).sync
wait_for_all()
store.create("row", b"0", 600)
assert store.create(f"row of {number}", b"", 600)
lost = 0
for _ in range(each):
    while True:
        entry = store.load("row")
        if store.replace("row", entry, b"%d" % (int(entry.data) + 1), 600):
            break
        lost += 1
print(lost)
"""

ASYNC = """
import asyncio
store = open_store(url, 20.0).asynchronous

async def increment():
    lost = 0
    while True:
        entry = await store.load("row")
        if await store.replace("row", entry, b"%d" % (int(entry.data) + 1), 600):
            return lost
        lost += 1

async def main():
    await store.create("row", b"0", 600)
    print(sum(await asyncio.gather(*(increment() for _ in range(each)))))

wait_for_all()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "code"),
    [("sqlite", SYNC), ("redis", SYNC), ("redis", ASYNC)],
    ids=["SQLite", "Redis", "async Redis"],
)
def test_increments_of_eight_processes_add_up(
    kind: str, code: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """N increments add up to N, and versions count them; so does a file that nobody had set up."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("server")
        url = server.url
    begin = "from sharedsession.stores import open_store\n"
    lost = run_python(PROCESSES, begin + code, url=url, each=EACH)
    pair = open_store(url, 20.0)
    entry = pair.sync.load("row")
    assert entry is not None
    assert entry.data == b"%d" % (PROCESSES * EACH)
    assert entry.version == PROCESSES * EACH + 1
    assert sum(map(int, lost)) > 0  # they did meet
