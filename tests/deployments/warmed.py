"""Four applications in one, each on a store of its own, which was used before the server forked.

``/redis`` and ``/sqlite`` have a store made from a URL, ``/own-redis`` and ``/own-sql`` one around
a client that was handed over, whose calls go through threads. ``/state`` says by which connections
the process that answers has asked.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
import sqlalchemy as sa
from redis.connection import AbstractConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from sharedsession.stores.redis import RedisStore
from sharedsession.stores.sql import SQLStore
from sharedsession.wsgi import Environ, StartResponse
from tests.deployments.flask_app import make_app

LOADED_BY = os.getpid()
sent_by: defaultdict[int, set[int]] = defaultdict(set)  # process: ports it has sent to Redis from
foreign: list[str] = []  # uses of an SQL connection that another process had opened
send = AbstractConnection.send_packed_command


def send_noted(self: Any, command: Any, *more: Any, **named: Any) -> None:
    if self._sock is None:
        self.connect()
    sent_by[os.getpid()].add(self._sock.getsockname()[1])
    send(self, command, *more, **named)


@sa.event.listens_for(Pool, "connect")
def note_opening(_: object, record: ConnectionPoolEntry) -> None:
    record.info["opened by"] = os.getpid()


@sa.event.listens_for(Pool, "checkout")
def note_use(_: object, record: ConnectionPoolEntry, __: object) -> None:
    if record.info["opened by"] != os.getpid():
        foreign.append(f"{os.getpid()} uses a connection of {record.info['opened by']}")


AbstractConnection.send_packed_command = send_noted  # type: ignore[method-assign]
redis_url, file = os.environ["STORE"], os.environ["FILE"]
apps = {
    "redis": make_app(redis_url, "redis"),
    "sqlite": make_app(f"sqlite:///{file}-1", "sqlite"),
    "own-redis": make_app(RedisStore(redis.Redis.from_url(redis_url)), "own-redis"),
    "own-sql": make_app(SQLStore(sa.create_engine(f"sqlite:///{file}-2")), "own-sql"),
}


def warm_up(_: int) -> None:
    for name, one in apps.items():
        browser = one.test_client()
        browser.post("/sign-in/warm")
        browser.post("/count")
        answer = browser.get("/me").get_json()
        assert answer["session"] == {"user_id": "warm", "n": 1}, name


with ThreadPoolExecutor(4) as threads:
    list(threads.map(warm_up, range(8)))


def state(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = {
        "pid": os.getpid(),
        "loaded by": LOADED_BY,
        "ports": sorted(sent_by[os.getpid()]),
        "ports before": sorted(sent_by[LOADED_BY]),
        "foreign": foreign,
    }
    return [json.dumps(answer).encode()]


app = DispatcherMiddleware(state, {f"/{name}": one for name, one in apps.items()})
