"""The same requests for the model and for the real thing: what each says of the store.

Servers with copies on a real Redis are asked in real time, each session by its browser; the model
is told when that really was.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

from sharedsession import NearCache
from sharedsession._core.session import Session

from .costs import HEARTBEAT, HEARTBEATS_A_SECOND, LOOK, PUSH, WRITE
from .model import Answer, Counts, Model, World, stream
from .real import Browser, Meter, Server, Usage, session_data

SECONDS = 12.0
LIMIT = 30.0  # seconds until every server must hear of writes
# Busier sessions than anybody has, so that a few seconds show what hours do.
STICKY = World(Answer.STICKY, servers=4, sessions=60, rate=150, writes=0.02, lease_with_push=5.0)
POINTS = {
    "sticky, pushed": STICKY,
    "any server, pushed, little room": replace(
        STICKY, answer=Answer.COPIES, writes=0.05, entries=25, skew=0.5
    ),
    "sticky, not pushed": replace(STICKY, writes=0.01, lease_with_push=0.0),
}


@dataclass(frozen=True)
class Compared:
    """What the model says, and what was."""

    model: Counts
    real: Counts
    sent: Usage  # what Redis was sent, and sent
    seconds: float
    world: World

    def rows(self) -> list[tuple[str, float, float]]:
        """Return what is compared: what it is, by the model, and in fact; per request."""
        model, each = self.model, 1 / self.model.requests
        return [
            ("store reads", model.by_store * each, self.real.by_store * each),
            ("commands", model.commands * each, self.sent.commands["EVALSHA"] * each),
            ("bytes", self._bytes() * each, (self.sent.bytes_in + self.sent.bytes_out) * each),
        ]

    def _bytes(self) -> float:
        record, world, model = self.world.record_bytes, self.world, self.model
        found = model.by_store * (LOOK + record) + model.writes * (WRITE + record)
        if world.pushes:
            found += model.changes * world.servers * PUSH
            found += HEARTBEATS_A_SECOND * self.seconds * world.servers * HEARTBEAT
        return found


def read(session: Session) -> None:
    session.get("language")


def write(session: Session) -> None:
    session["seen"] = session["seen"] % 200 + 1 if session["seen"] > 150 else 200


def compared(port: int, world: World, seconds: float = SECONDS) -> Compared:
    """Ask real servers as the stream says, tell the model, and return what both found."""
    limits = NearCache(
        max_entries=world.entries, lease=world.lease, lease_with_push=world.lease_with_push
    )
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(contextlib.closing(Server(port, near_cache=limits)))
            for _ in range(world.servers)
        ]
        _wait_until_all_hear(servers, world)
        browsers = [Browser() for _ in range(world.sessions)]
        written = []
        for browser in browsers:
            written.append(time.time())
            browser.ask(
                servers[0], lambda session: session.update(session_data(world.record_bytes))
            )
        model = Model(world, written)
        before = [server.sessions.counts for server in servers]
        meter = stack.enter_context(contextlib.closing(Meter(port)))
        meter.start()
        begun = time.time()
        first: float | None = None
        for request in stream(world, seconds):
            first = request.at if first is None else first
            time.sleep(max(0.0, begun + request.at - first - time.time()))
            model.take(request._replace(at=time.time()))
            work = write if request.writes else read
            browsers[request.session].ask(servers[request.server], work)
        took, sent = time.time() - begun, meter.stop()
        real = Counts(requests=model.counts.requests)
        for server, counts in zip(servers, before, strict=True):
            real.by_copy += server.sessions.counts.get("copy", 0) - counts.get("copy", 0)
            real.by_store += server.sessions.counts["store"] - counts.get("store", 0)
        return Compared(model.finish(), real, sent, took, world)


def _wait_until_all_hear(servers: list[Server], world: World) -> None:
    """Read until copies answer that are older than a lease: the servers hear of writes by then."""
    browser = Browser()
    browser.ask(servers[0], lambda session: session.update(session_data(world.record_bytes)))
    for server in servers:
        server.sessions.manager.clock = lambda: time.time() + 60  # it was written long ago
    started = time.monotonic()
    loaded = dict.fromkeys(servers, started)
    while any(time.monotonic() - each < 1.1 * world.lease for each in loaded.values()):
        for server in servers:
            before = server.sessions.counts.get("store", 0)
            browser.ask(server, read)
            if server.sessions.counts["store"] > before and world.pushes:
                loaded[server] = time.monotonic()
        assert time.monotonic() - started < LIMIT, "a server hears of no write"
        time.sleep(0.05)
    for server in servers:
        server.sessions.manager.clock = time.time
