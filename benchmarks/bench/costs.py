"""What a request, and what a session costs Redis: commands, bytes, memory. By its own counts."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from statistics import mean
from typing import Any

import redis

from tests.support.servers import RedisServer, binaries

from .contenders import CONTENDERS, Contender
from .driving import AFTER_A_WRITE, FIRST_BEAT, Asked, Crowd
from .in_process import Rival, rival

REQUESTS = {"unused": "/unused", "read": "/read", "write": "/write"}
OVER = "the requests are over"
BEATS_APART = 0.05  # commands a request: what comes by the clock is none of a request's
A_BEAT = 120_000  # milliseconds; what lives longer is a session's
BATCH = 5000
COPY = """
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
    redis.call('COPY', KEYS[1], ARGV[1] .. string.format('%016d', number))
end
"""
SAME = ("near", "flask-redis")  # store what "redis" stores


def stored() -> list[Contender]:
    """Return all who keep sessions on Redis."""
    return [each for each in CONTENDERS.values() if each.server == "redis" and each.installed]


# --- requests -------------------------------------------------------------------------------------


def commands(port: int, work: Callable[[], object]) -> Counter[str]:
    """Return what clients have sent meanwhile; what a script calls is not counted."""
    found: Counter[str] = Counter()
    with redis.Redis(port=port) as client, redis.Redis(port=port) as watching:
        with watching.monitor() as monitor:
            work()
            client.echo(OVER)
            while OVER not in (sent := monitor.next_command())["command"]:
                if sent["client_type"] != "lua":
                    found[sent["command"].partition(" ")[0].upper()] += 1
    return found


def traffic(port: int, work: Callable[[], object]) -> tuple[int, int]:
    """Return the bytes to and from Redis, without those of asking for them."""
    with redis.Redis(port=port) as client:

        def look() -> tuple[int, int]:
            found = client.info("stats")
            return found["total_net_input_bytes"], found["total_net_output_bytes"]

        first, before = look(), look()
        work()
        after = look()
    into, out = (
        now - then - (then - earlier)
        for now, then, earlier in zip(after, before, first, strict=True)
    )
    return into, out


def of_requests(each: Rival, clients: int) -> dict[str, Any]:
    """Return commands and bytes of each kind of request."""
    for order in (Crowd(2), Asked("/read"), Asked("/write")):
        each.do(order)  # what a first request asks, no other will
    found = {"sign-in": _counted(each, Crowd(clients), clients)}
    for name, path in REQUESTS.items():
        settle(each)
        found[name] = _counted(each, Asked(path), clients)
    return found


def settle(each: Rival) -> None:
    """Let near copies have what was written."""
    if each.contender.near:
        time.sleep(AFTER_A_WRITE)
        each.do(Asked("/read"))
        time.sleep(FIRST_BEAT)
        each.do(Asked("/read"))


def _counted(each: Rival, order: Any, times: int) -> dict[str, Any]:
    assert each.server is not None
    port = each.server.port
    sent = commands(port, lambda: each.do(order))
    if order == Asked("/write"):
        settle(each)
    into, out = traffic(port, lambda: each.do(order))
    return {
        "commands": {
            command: round(number / times, 1)
            for command, number in sorted(sent.items())
            if number / times > BEATS_APART
        },
        "in": into / times,
        "out": out / times,
    }


def measure_requests(clients: int) -> dict[str, Any]:
    """Return it for each contender."""
    with contextlib.ExitStack() as stack:
        rivals = [stack.enter_context(rival(contender)) for contender in stored()]
        return {each.contender.name: of_requests(each, clients) for each in rivals}


# --- memory ---------------------------------------------------------------------------------------


def multiply(client: redis.Redis, keys: list[bytes], sessions: int) -> None:
    """Copy what one session has in Redis, under names of the same length."""
    copy = client.register_script(COPY)
    for first in range(1, sessions, BATCH):
        last = min(first + BATCH, sessions) - 1
        for key in keys:
            copy([key], [key[:-16], first, last])


def one_session(each: Rival, client: redis.Redis) -> list[bytes]:
    """Have one session stored, alone, and return its keys."""
    each.do(Crowd(1))  # scripts are known, and connections are there
    client.flushdb()
    each.do(Crowd(1))
    return [key for key in client.scan_iter() if client.pttl(key) > A_BEAT]


def of_a_session(each: Rival, sessions: int) -> dict[str, float]:
    """Return bytes in Redis for each session, with keys and what the server adds."""
    assert each.server is not None
    with redis.Redis(port=each.server.port) as client:
        keys = one_session(each, client)
        value = mean([len(client.dump(key) or b"") for key in keys])
        before = client.info("memory")["used_memory"]
        multiply(client, keys, sessions)
        after = client.info("memory")["used_memory"]
        lengths = [client.strlen(key) for key in keys if client.type(key) == b"string"]
    return {
        "keys": len(keys),
        "value": sum(lengths) or value,
        "memory": (after - before) / (sessions - 1),
    }


def measure_memory(sessions: int) -> dict[str, Any]:
    """Return it for each contender, on each kind of server."""
    found: dict[str, Any] = {}
    for kind, binary in binaries().items():
        found[kind] = {}
        with contextlib.ExitStack() as stack:
            rivals = [
                stack.enter_context(rival(each, stack.enter_context(RedisServer(binary))))
                for each in stored()
                if each.name not in SAME
            ]
            for each in rivals:
                try:
                    found[kind][each.contender.name] = of_a_session(each, sessions)
                except RuntimeError:
                    if each.contender.name != "redis-sdk":
                        raise  # that one wants HEXPIRE, which Redis has from 7.4 on
    return found
