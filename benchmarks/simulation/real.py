"""The real thing, for the measures and for the check of the model: sessions over a real Redis.

A `Server` is what one process of an application does for its sessions, without HTTP around it; a
`Browser` keeps its cookie; a `Meter` says what Redis was sent meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from sharedsession._core.record import Record, encode_data, encode_record
from sharedsession._core.session import Session
from sharedsession.adapter import Sessions
from sharedsession.stores.redis import RedisStore

SECRET = "a secret of this benchmark"
Work = Callable[[Session], object]


def session_data(record_bytes: int, **more: Any) -> dict[str, Any]:
    """Return a session whose stored record has so many bytes."""
    data = {
        "user_id": 4711,
        "_csrf": "c" * 43,
        "language": "en",
        "seen": 100,
        "cart": [{"product": f"a-{number}", "count": number} for number in range(4)],
        "last_page": "/" * 40,
        **more,
    }
    data["last_page"] += "p" * (record_bytes - len(record_of(data)))
    while len(record_of(data)) > record_bytes:  # a longer text has a longer head
        data["last_page"] = data["last_page"][:-1]
    return data


def record_of(data: dict[str, Any]) -> bytes:
    """Return what is stored of a session."""
    owner = str(data["user_id"]) if "user_id" in data else None
    return encode_record(Record(time.time(), None, owner, time.time(), encode_data(data)))


class Server:
    """One process of an application, with copies and a connection of its own."""

    def __init__(self, port: int, **settings: Any) -> None:
        # A store object, not a URL: what is made from one URL is shared within a process.
        self.client = redis.Redis(port=port)
        self.sessions = Sessions(secret_key=SECRET, store=RedisStore(self.client), **settings)

    def close(self) -> None:
        del self.sessions  # and with it the threads that listen
        self.client.close()


class Browser:
    """A client with its cookie."""

    def __init__(self) -> None:
        self.cookie: str | None = None
        self.told = 0  # bytes of the Set-Cookie header in the latest answer

    def ask(self, server: Server, work: Work) -> None:
        self.answer(server, self.begin(server, work))

    def begin(self, server: Server, work: Work) -> Session:
        session = server.sessions.open(self.cookie)
        work(session)
        return session

    def answer(self, server: Server, session: Session) -> None:
        self.told = 0
        for name, value in server.sessions.commit(session, [], https=True):
            if name == "Set-Cookie":
                self.told = len(f"{name}: {value}\r\n")
                self.cookie = value.partition(";")[0]


@dataclass(frozen=True)
class Usage:
    """What Redis has been sent and has sent, and its CPU time in microseconds."""

    commands: Counter[str]
    bytes_in: int
    bytes_out: int
    cpu: float

    def minus(self, other: Usage) -> Usage:
        return Usage(
            self.commands - other.commands,
            self.bytes_in - other.bytes_in,
            self.bytes_out - other.bytes_out,
            self.cpu - other.cpu,
        )


class Meter:
    """Counts by Redis' own figures; what the asking takes is taken off."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port)
        self._before = self._usage()

    def close(self) -> None:
        self._client.close()

    def start(self) -> None:
        first = self._usage()
        self._before = self._usage()
        self._own = self._before.minus(first)

    def stop(self) -> Usage:
        return self._usage().minus(self._before).minus(self._own)

    def _usage(self) -> Usage:
        found = self._client.info("everything")
        cpu = found["used_cpu_user"] + found["used_cpu_sys"]
        return Usage(
            _sent(found),
            found["total_net_input_bytes"],
            found["total_net_output_bytes"],
            cpu * 1e6,
        )


def _sent(found: dict[str, Any]) -> Counter[str]:
    """Return how often each command was sent by a client.

    Redis counts what a script calls as well: with us PTTL and GET in a look, GETRANGE in a write,
    and SET in one that succeeds. What is left of SET are heartbeats.
    """
    calls = Counter(
        {
            name.partition("_")[2].upper(): each["calls"]
            for name, each in found.items()
            if name.startswith("cmdstat_")
        }
    )
    return Counter(
        {
            "GET": calls["GET"] - calls["PTTL"],
            "EVALSHA": calls["EVALSHA"],
            "EXPIRE": calls["EXPIRE"],
            "SET": calls["SET"] - calls["GETRANGE"],
        }
    )
