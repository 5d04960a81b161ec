"""Every fault on every store, with real servers and requests running: what becomes of users.

Clients with cookie jars go on and on, through ASGI, WSGI and Flask in turn (asyncpg: two ASGI
applications), while a server is killed, hangs, loses its answers and so on; tests/reliability has
the clients and the faults. Then clients go away in the middle of their requests, 10,000 on each
store. Prints one Markdown table for each, and ends with status 1 if a promise was broken.

    make reliability
    python benchmarks/reliability.py --places Redis SQLite --faults "kill -9" --cancelled 1000
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.guarantees.asgi import AsgiServer, close_loops
from tests.reliability.cancelling import cancel
from tests.reliability.faults import EVERY, run
from tests.reliability.harness import Tally
from tests.reliability.judging import is_as_promised
from tests.reliability.places import PLACES, ProxiedStore

TIMEOUT, LASTS, CLIENTS = 1.0, 2.0, 8
PATIENT = 5.0  # the cancelled requests are not about deadlines
FAULT_HEAD = """\
| store | fault | requests | 503 | of them late | longest, s | back after, s | lost by us | \
lost by the server | signed out | revived by us | revived by the server |
|---|---|---|---|---|---|---|---|---|---|---|---|"""
CANCEL_HEAD = """\
| store | cancelled | answered | 503 | foreign data | seconds |
|---|---|---|---|---|---|"""


def say(line: str) -> None:
    print(line, flush=True)


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def told(place: ProxiedStore, fault: str, tally: Tally) -> str:
    return row(
        place.name,
        fault,
        tally.requests,
        tally.unavailable,
        tally.late,
        f"{tally.longest:.2f}",
        f"{max(tally.recovery.values()):.2f}",
        tally.lost_by_us,
        tally.lost_by_server,
        tally.signed_out,
        tally.revived_by_us,
        tally.revived_by_server,
    )


@contextmanager
def broken(promises: list[str], what: str) -> Iterator[None]:
    """Note a promise that was not kept, and go on."""
    try:
        yield
    except AssertionError as error:
        promises.append(f"{what}: {str(error).splitlines()[0]}")


def faults(names: list[str], words: list[str], promises: list[str]) -> None:
    say(FAULT_HEAD)
    for name in names:
        with PLACES[name]() as place:
            for fault in EVERY:
                wanted = not words or any(word in fault.name for word in words)
                if wanted and fault.where(place):
                    with broken(promises, f"{place.name}, {fault.name}"):
                        tally = run(fault, place, TIMEOUT, LASTS, CLIENTS)
                        say(told(place, fault.name, tally))
                        is_as_promised(tally, TIMEOUT)


def cancellations(names: list[str], count: int, promises: list[str]) -> None:
    say(f"\n{CANCEL_HEAD}")
    for name in names:
        with PLACES[name]() as place, broken(promises, f"{place.name}, cancelled"):
            started = [place.servers(PATIENT) for _ in range(2)]
            site, other = (servers["ASGI"] for servers in started)
            assert isinstance(site, AsgiServer)
            assert isinstance(other, AsgiServer)
            done = cancel(site, other, count)
            for server in (server for servers in started for server in servers.values()):
                server.close()
            foreign = len(done.foreign)
            cells = (done.cancelled, done.answered, done.unavailable, foreign)
            say(row(place.name, *cells, f"{done.seconds:.0f}"))
            assert not foreign, "somebody saw another's session"


def main() -> int:
    parser = argparse.ArgumentParser(description="Every fault on every store.")
    parser.add_argument("--places", nargs="+", choices=list(PLACES), default=list(PLACES))
    parser.add_argument("--faults", nargs="+", default=[], help="words that their names contain")
    parser.add_argument("--cancelled", type=int, default=10_000, help="on each store; 0: none")
    options = parser.parse_args()
    logging.getLogger("sharedsession").setLevel(logging.CRITICAL)
    begun = time.monotonic()
    promises: list[str] = []
    faults(options.places, options.faults, promises)
    if options.cancelled:
        same = {"Redis, snapshots", "Redis, in memory"}  # as Redis, to clients that go away
        names = [name for name in options.places if name not in same]
        cancellations(names, options.cancelled, promises)
    close_loops()
    say(f"\n{time.monotonic() - begun:.0f} seconds; promises broken: {len(promises)}")
    for promise in promises:
        say(f"- {promise}")
    return bool(promises)


if __name__ == "__main__":
    sys.exit(main())
