"""Stores that were used before the server forked: no connection is shared with the children.

gunicorn does so with ``--preload``, uWSGI unless it is told otherwise.
"""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import httpx
import pytest
import redis

from tests.deployments.running import Deployment, Running, gunicorn, running, uwsgi
from tests.support.servers import RedisServer

DEPLOYMENTS = [
    gunicorn("-k gthread --threads 4 --preload", "warmed"),
    gunicorn("-k gevent --preload", "warmed"),
]
if sys.version_info < (3, 13):  # from there on uWSGI's children crash where threads ran before
    DEPLOYMENTS.append(uwsgi("warmed"))
# A process that uses its store, and a child that does not, and ends as gunicorn's workers do.
CHILD = """
import os, sys
import sqlalchemy
from sharedsession.stores import open_store

def note(connection, record):
    print(os.getpid() == parent, flush=True)

parent = os.getpid()
sqlalchemy.event.listen(sqlalchemy.pool.Pool, "close", note)
pair = open_store(sys.argv[1])
pair.sync.load("x")
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print("the child has ended", flush=True)
"""
STORES = ["redis", "sqlite", "own-redis", "own-sql"]
VISITORS, TURNS = 8, 24


def visit(servers: Running, name: str) -> None:
    """Come back again and again, by a new connection each time; find what was left, nothing else.

    The sessions of all four stores are in use at the same time.
    """
    address, dice = servers.addresses[0], random.Random(name)
    expected: dict[str, dict[str, object]] = {store: {"user_id": name} for store in STORES}
    with httpx.Client(
        trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
    ) as browser:
        for store in STORES:
            signed_in = browser.post(f"{address}/{store}/sign-in/{name}")
            assert signed_in.status_code == 200, store
        for turn in range(TURNS):
            store = STORES[turn % len(STORES)]
            if dice.random() < 0.5:
                expected[store]["n"] = int(str(expected[store].get("n", 0))) + 1
                answer = browser.post(f"{address}/{store}/count")
            else:
                answer = browser.get(f"{address}/{store}/me")
            assert answer.status_code == 200, store
            assert answer.json()["session"] == expected[store]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=str)
def test_no_connection_is_shared_with_the_children(
    deployment: Deployment, server: RedisServer, tmp_path: Path
) -> None:
    """Each child asks by connections of its own, and no session is mixed up in a hammering."""
    environment = {"FILE": str(tmp_path / "sessions.db")}
    if "gevent" in str(deployment):
        environment["PYTHONWARNINGS"] = "default"  # of gevent's: it patches what is loaded already
    with (
        running(deployment, server.url, **environment) as servers,
        ThreadPoolExecutor(VISITORS) as visitors,
        redis.Redis(port=server.port) as admin,
    ):
        for done in [visitors.submit(visit, servers, f"user-{n}") for n in range(VISITORS)]:
            done.result()

        states = servers.answers_of_all("/state")
        ports = {pid: set(state["ports"]) for pid, state in states.items()}
        for pid, state in states.items():
            assert state["loaded by"] != pid
            assert state["ports before"]
            assert state["foreign"] == []
            ports[state["loaded by"]] = set(state["ports before"])
        assert len(ports) == 3
        assert all(not one & other for one, other in combinations(ports.values(), 2))
        listed = {int(client["addr"].rpartition(":")[2]) for client in admin.client_list()}
        assert all(used & listed for used in ports.values())


def test_a_child_that_leaves_the_store_alone_closes_nothing(tmp_path: Path) -> None:
    """What the parent has opened is closed by the parent, at its end, and not by a child's."""
    words = [sys.executable, "-W", "error", "-c", CHILD, f"sqlite:///{tmp_path}/sessions.db"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert done.stderr == ""
    assert done.stdout.splitlines() == ["the child has ended", "True"]
