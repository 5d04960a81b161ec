"""How costs grow: with the number of sessions in the store, and with the size of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from sharedsession.asgi import SessionMiddleware
from sharedsession.stores.memory import MemoryStore
from tests.support.servers import RedisServer

from .asgi_apps import LIFETIME, SECRET, starlette
from .contenders import CONTENDERS, Contender
from .costs import multiply, one_session
from .driving import Call, Order
from .in_process import Figures, Rival, rival, take_turns

CLIENTS = 32
SIZES = {"0.5 KB": 512, "4 KB": 4096, "32 KB": 32768, "256 KB": 262_144, "1 MB": 1_048_576}
GROWING = ("memory", "redis", "near", "starsessions", "litestar-redis", "redis-sdk")


# --- the number of sessions -----------------------------------------------------------------------


class _Watched(MemoryStore):
    """A memory store that remembers what it was given last."""

    data = b""

    def create(self, key: str, data: bytes, *more: Any, **named: Any) -> Any:
        self.data = data
        return super().create(key, data, *more, **named)


def _filled(_: str) -> Any:
    app = starlette()
    app.state.store = _Watched()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=app.state.store)
    return app


def _fill(app: Any, sessions: int) -> float:
    """Put in as many sessions as there shall be, and return the memory of each."""
    store, data = app.state.store, app.state.store.data
    before = _resident()
    for _ in range(sessions):
        store.create(secrets.token_urlsafe(32), bytes(bytearray(data)), LIFETIME)
    return (_resident() - before) / sessions


def _resident() -> int:
    """Return the memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


IN_MEMORY = Contender("memory", "asgi", "sharedsession, memory", _filled, bare="starlette")


def _crowd(each: Rival, sessions: int) -> float:
    """Fill a store with sessions of other clients, and return the memory of each."""
    if each.server is None:
        each.do([Order("write", 1, 0.01)])
        return float(each.do(Call(_fill, (sessions,))))
    with redis.Redis(port=each.server.port) as client:
        keys = one_session(each, client)
        before = client.info("memory")["used_memory"]
        multiply(client, keys, sessions)
        return float(client.info("memory")["used_memory"] - before) / (sessions - 1)


def by_number(numbers: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    """Return times and memory with so many sessions in the store."""
    orders = {work: Order(work, CLIENTS, seconds) for work in ("read", "write")}
    found: dict[str, Any] = {}
    for name, contender in (("memory", IN_MEMORY), ("redis", CONTENDERS["redis"])):
        with contextlib.ExitStack() as stack:
            rivals = {}
            for number in numbers:
                server = stack.enter_context(RedisServer()) if contender.server else None
                rivals[str(number)] = stack.enter_context(rival(contender, server))
            memory = {key: _crowd(each, int(key)) for key, each in rivals.items()}
            found[name] = {"memory": memory, "times": take_turns(rivals, orders, rounds)}
    return found


# --- the size of a session ------------------------------------------------------------------------


def by_size(sizes: Sequence[str], rounds: int, seconds: float) -> Figures:
    """Return the times of one client whose session has so many bytes."""
    orders = {
        f"{work}, {size}": Order(work, 1, seconds, f"/grow/{SIZES[size]}")
        for size in sizes
        for work in ("read", "write")
    }
    growing = [CONTENDERS[name] for name in GROWING if CONTENDERS[name].installed]
    with contextlib.ExitStack() as stack:
        rivals = {each.name: stack.enter_context(rival(each)) for each in growing}
        return take_turns(rivals, orders, rounds)
