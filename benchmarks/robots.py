"""What a robot's session costs each store: a visitor who keeps no cookie, given something to keep.

    python benchmarks/robots.py [STORE …]

Twenty thousand robots each ask once for a page that is only for members: the application notes
the way back in the session and answers with a redirect to its form. The table has the bytes that
one of them takes in the store, its key and its indices included.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis

from sharedsession.wsgi import SessionMiddleware
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer

ROBOTS = 20_000
PATH = "/members/reports/2026/11"


def redirect(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    environ["sharedsession.session"]["next"] = PATH
    start_response("302 Found", [("Location", "/sign-in")])
    return [b""]


def visit(store: str, robots: int) -> None:
    application = SessionMiddleware(redirect, secret_key="k" * 32, store=store, store_timeout=30.0)
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": PATH, "wsgi.url_scheme": "http"}
    for _ in range(robots):
        for _ in application({**asked}, lambda *_: lambda _: None):
            pass


def bytes_each(url: str, size: Callable[[], int]) -> int:
    """Let robots come; return by how much each of them has made the store larger."""
    visit(url, ROBOTS // 10)  # what is set up once is no robot's
    before = size()
    visit(url, ROBOTS)
    return round((size() - before) / ROBOTS)


def in_redis() -> int:
    with RedisServer() as server, redis.Redis(port=server.port) as admin:
        return bytes_each(server.url, lambda: int(admin.info("memory")["used_memory"]))


def in_memcached() -> int:
    with MemcachedServer() as server:
        return bytes_each(server.url, lambda: int(server.stats()["bytes"]))


def in_postgresql() -> int:
    with PostgreSQL() as server:
        of = "SELECT pg_total_relation_size('sharedsession')"
        return bytes_each(server.url, lambda: int(server.in_app(of)[0][0]))


def in_mariadb() -> int:
    with MariaDB() as server:

        def size() -> int:
            server.execute("ANALYZE TABLE app.sharedsession")
            of = "SELECT data_length + index_length FROM information_schema.tables"
            return int(server.execute(f"{of} WHERE table_name = 'sharedsession'")[0][0])

        return bytes_each(server.url, size)


def in_sqlite() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sessions.db")

        def size() -> int:
            import sqlite3

            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return os.stat(file).st_size  # noqa: PTH116

        return bytes_each(f"sqlite:///{file}", size)


STORES = {
    "Redis": in_redis,
    "Memcached": in_memcached,
    "PostgreSQL": in_postgresql,
    "MariaDB": in_mariadb,
    "SQLite": in_sqlite,
}


def main(words: list[str]) -> None:
    print("| store | bytes for each |\n|---|---|")
    for name, measure in STORES.items():
        if not words or name in words:
            print(f"| {name} | {measure()} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
