"""What a request costs in the process of the application, without HTTP around it.

Each contender has a process of its own, and a server of its own where it uses one. They take turns:
in each round every contender does every work once, in an order that is drawn anew, so that what
else the machine does meets all of them alike.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.support.databases import PostgreSQL
from tests.support.memcached_servers import MemcachedServer
from tests.support.servers import RedisServer, binaries

from .contenders import CONTENDERS, Contender
from .driving import Failed, Order, Taken, contend

PATIENCE = 2  # times that something is done again
Server = RedisServer | PostgreSQL | MemcachedServer
Figures = dict[str, dict[str, dict[str, list[float]]]]  # order, contender, "cpu" or "wall": rounds


def new_server(kind: str) -> Server:
    """Return a server; a Redis that knows HEXPIRE, which fastapi-redis-sdk asks for."""
    if kind == "postgresql":
        return PostgreSQL()
    if kind == "memcached":
        return MemcachedServer()
    return RedisServer(binaries().get("valkey"))


class Rival:
    """The process of one contender, as seen from outside."""

    def __init__(self, contender: Contender, connection: Connection, server: Server | None) -> None:
        self.contender, self.server = contender, server
        self._connection = connection

    def do(self, order: Any) -> Any:
        """Have something done there, and return the answer."""
        self._connection.send(order)
        answer = self._connection.recv()
        if isinstance(answer, Failed):
            raise RuntimeError(answer.why)  # noqa: TRY004 - it went wrong over there
        return answer


@contextlib.contextmanager
def rival(contender: Contender, server: Server | None = None) -> Iterator[Rival]:
    """Start a contender's process, on a server of its own unless one is given, and end it."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        if contender.server and server is None:
            server = stack.enter_context(new_server(contender.server))
        url = server.url if server else ""
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(theirs, contender, url), daemon=True)
        process.start()
        theirs.close()
        stack.callback(process.join, 10)
        stack.callback(ours.send, None)
        yield Rival(contender, ours, server)


def patiently(each: Rival, order: Order) -> Taken:
    """Do it again where the machine was too busy for the deadline of a store, which is a second."""
    for _ in range(PATIENCE):
        try:
            return each.do(order)  # type: ignore[no-any-return]  # an order is answered so
        except RuntimeError as error:
            print(f"once more: {error}", flush=True)
    return each.do(order)  # type: ignore[no-any-return]  # the same


def take_turns(rivals: Mapping[str, Rival], orders: Mapping[str, Order], rounds: int) -> Figures:
    """Let each do every order once a round, and return each one's time in each round."""
    figures: Figures = {key: {name: {"cpu": [], "wall": []} for name in rivals} for key in orders}
    for each in rivals.values():
        each.do([])  # none is warmed up while others are still being imported
    for each in rivals.values():
        each.do(list(orders.values()))
    for _ in range(rounds):
        for key, order in orders.items():
            for name in random.sample(list(rivals), len(rivals)):
                taken = patiently(rivals[name], order)
                figures[key][name]["cpu"].append(taken.cpu)
                figures[key][name]["wall"].append(taken.wall)
    return figures


def measure(
    names: Sequence[str],
    works: Sequence[str],
    concurrent: Sequence[int],
    rounds: int,
    seconds: float,
) -> Figures:
    """Compare contenders at some works, with so many clients at a time."""
    orders = {
        f"{work}, {each}": Order(work, each, seconds) for each in concurrent for work in works
    }
    with contextlib.ExitStack() as stack:
        rivals = {name: stack.enter_context(rival(CONTENDERS[name])) for name in names}
        return take_turns(rivals, orders, rounds)


def chosen(kind: str, wanted: Sequence[str] = ()) -> list[str]:
    """Return the installed contenders of one kind: all, or some and their bare applications.

    Those on other servers than Redis have parts of their own.
    """
    bare = [CONTENDERS[name].bare for name in wanted]
    return [
        each.name
        for each in CONTENDERS.values()
        if each.kind == kind
        and each.server in {"", "redis"}
        and each.installed
        and (not wanted or each.name in (*wanted, *bare))
    ]


def on(server: str, wanted: Sequence[str] = ()) -> list[str]:
    """Return the installed contenders on one kind of server, and their bare applications."""
    stored = [
        each
        for each in CONTENDERS.values()
        if each.server == server and each.installed and (not wanted or each.name in wanted)
    ]
    names = {each.name for each in stored} | {each.bare for each in stored}
    return [name for name in CONTENDERS if name in names]
