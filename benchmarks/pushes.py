"""What it costs Redis to tell ten servers of every write: its own tracking of keys, or a message.

Redis' tracking in broadcasting mode tells of the keys with our prefix, whoever writes them; the
other way is a PUBLISH in the script of the write. One connection writes sessions, ten listen, in
threads of this process; nothing else runs on the server. Its CPU time for each write is the
server's own figure; the delay is from before the write is sent until a listener has the message,
while the writer pauses a millisecond between two writes. The ways take turns; figures are medians.

    python benchmarks/pushes.py
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import redis

from sharedsession.stores.base import Entry
from sharedsession.stores.redis import RedisStore
from sharedsession.stores.redis.invalidation import listen
from sharedsession.stores.redis.scripts import SWAP
from sharedsession.stores.redis.servers import ClientServer
from tests.support.servers import RedisServer

LISTENERS, WRITES, TURNS, DELAYS = 10, 3000, 5, 400
DATA = b"d" * 300
PUBLISHED = "redis.call('PUBLISH', 'writes', KEYS[1]) "

Heard = Callable[[str], None]


def tracked(client: redis.Redis, heard: Heard, over: threading.Event) -> None:
    for event in listen(ClientServer(client).connect, "s:", "nobody"):
        if over.is_set():
            return
        if event.key is not None:
            heard(event.key)


def subscribed(client: redis.Redis, heard: Heard, over: threading.Event) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as messages:
        messages.subscribe("writes")
        while not over.is_set():
            message = messages.get_message(timeout=0.2)
            if message is not None:
                heard(message["data"].decode().partition(":")[2])


@contextlib.contextmanager
def listeners(way: Any, server: RedisServer, number: int, heard: Heard) -> Iterator[None]:
    over = threading.Event()
    clients = [redis.Redis(port=server.port) for _ in range(number)]
    threads = [threading.Thread(target=way, args=(each, heard, over)) for each in clients]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def cpu(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def cost(server: RedisServer, client: redis.Redis, write: Callable[[str], object]) -> float:
    """Return the server's CPU time for a write, in microseconds."""
    before = cpu(client)
    for number in range(WRITES):
        write(f"k{number % 500}")
    return (cpu(client) - before) / WRITES * 1e6


def delays(write: Callable[[str], object], arrived: dict[str, float]) -> list[float]:
    """Return how long after it was sent each write was heard of, in milliseconds."""
    taken = []
    for number in range(DELAYS):
        key = f"d{number}"
        arrived.pop(key, None)
        sent = time.perf_counter()
        write(key)
        while key not in arrived:
            time.sleep(0.0002)
        taken.append((arrived[key] - sent) * 1000)
        time.sleep(0.001)
    return sorted(taken)


def main() -> None:
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        store = RedisStore(client, prefix="s:")
        publishing = client.register_script(PUBLISHED + SWAP)
        entries: dict[str, Entry | None] = {}

        def plain(key: str) -> None:
            entry = entries.get(key)
            known = entry and store.replace(key, entry, DATA, 100)
            entries[key] = known or store.create(key, DATA, 100)

        def published(key: str) -> None:
            flow = store._write(key, entries.get(key), DATA, 100, 0)
            request = next(flow)
            _, _, _, _, *arguments = request.command
            try:
                flow.send(publishing(keys=[request.key], args=arguments))
            except StopIteration as done:
                entries[key] = done.value

        ways = {
            "nobody listens": (None, plain),
            "tracking": (tracked, plain),
            "published by the writer": (subscribed, published),
        }
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, (way, write) in ways.items():
                with listeners(way, server, LISTENERS if way else 0, lambda _: None):
                    costs[name].append(cost(server, client, write))
        for name, (way, write) in ways.items():
            line = f"{name:24} {statistics.median(costs[name]):6.1f} µs of the server's CPU a write"
            if way is not None:
                arrived: dict[str, float] = {}

                def heard(key: str, arrived: dict[str, float] = arrived) -> None:
                    arrived.setdefault(key, time.perf_counter())

                with listeners(way, server, 1, heard):
                    taken = delays(write, arrived)
                middle, high = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
                line += f"; heard after {middle:.2f} ms, 99th percentile {high:.2f}"
            print(line)


if __name__ == "__main__":
    main()
