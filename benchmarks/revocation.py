"""How long a session that was ended on one server can still be used on the others.

Three real servers (uvicorn, uvicorn, gunicorn) on a real store, in each of the modes in which
servers or a replica hold copies. A client signs in, and shows its cookie to the other two servers
until they answer from copies. Then it signs out at the first one; from the moment at which the
answer arrives, the other two are asked again and again, each by a thread of its own, until they no
longer show the session. Prints the distribution of those times, one Markdown row for each mode.

    python benchmarks/revocation.py
    python benchmarks/revocation.py --modes redis-near --rounds 500
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.consistency.clients import aged
from tests.consistency.world import MODES, world

DEFAULT = [
    "redis",
    "redis-near",
    "postgresql-near",
    "redis-near-leased",
    "sqlite-near",
    "memcached-near",
    "redis-replica",
    "postgresql-replica",
]
ROUNDS, LEASED_ROUNDS = 200, 40  # of modes that push, and of those in which a lease must pass
LIMIT = 5.0  # seconds
HEAD = """\
| mode | sign-outs | still usable on another server, ms: median | 99th percentile | longest |
|---|---|---|---|---|"""


class Client:
    """A connection that is kept, to one server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(self, path: str, cookie: str | None = None) -> tuple[bool, str | None]:
        """Return whether the answer shows a session, and the cookie that it sets."""
        headers = {} if cookie is None else {"cookie": f"session={cookie}"}
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        _, shown = json.loads(answer.read())
        given = answer.getheader("set-cookie")
        value = None if given is None else given.partition(";")[0].partition("=")[2]
        return shown is not None, value

    def usable_for(self, cookie: str, since: list[float], found: list[float]) -> None:
        """Ask until the session is no longer shown; note how late a request still found it."""
        asked = latest = time.monotonic()
        while self.ask("/read/0/-/-", cookie)[0]:
            latest, asked = asked, time.monotonic()
            if since and latest - since[0] > LIMIT:
                raise AssertionError("the session can still be used")
        found.append(max(0.0, latest - since[0]) if since else 0.0)


def measure(mode: str, rounds: int) -> list[float]:
    """Return how long each session could still be used on each of the others, in seconds."""
    found: list[float] = []
    with world(MODES[mode]) as started:
        first, *others = [Client(server.port) for server in started.servers]
        number = 0
        for _ in range(rounds):
            number += 1
            _, cookie = first.ask(f"/sign_in/{number}/ada/-")
            assert cookie is not None
            cookie = aged(cookie)  # for some seconds after a write no copy answers
            for other in others:
                for _ in range(3):
                    assert other.ask("/read/0/-/-", cookie)[0]
            since: list[float] = []
            threads = [
                threading.Thread(target=other.usable_for, args=(cookie, since, found))
                for other in others
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.01)
            number += 1
            first.ask(f"/sign_out/{number}/ada/-", cookie)
            since.append(time.monotonic())
            for thread in threads:
                thread.join()
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=DEFAULT)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    print(HEAD)
    for mode in given.modes:
        pushed = mode in ("redis", "redis-near", "postgresql-near")
        times = measure(mode, given.rounds or (ROUNDS if pushed else LEASED_ROUNDS))
        middle, high = times[len(times) // 2], times[int(len(times) * 0.99)]
        cells = [f"{seconds * 1000:.1f}" for seconds in (middle, high, times[-1])]
        print(f"| {mode} | {len(times)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
