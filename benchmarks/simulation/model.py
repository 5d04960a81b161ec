"""A small model of sessions on several servers, request by request.

It knows what decides how often the store is asked: which server a request comes to, how often each
session is used, that for ``lease + 2`` seconds after a cookie was written no copy answers, how long
a copy may answer, that a write ends the copies of all servers, and how many copies there is room
for. It knows nothing of time that anything takes. ``checked`` compares it with the real thing.

A client of the model sends one request at a time, so a copy never disagrees with its cookie. A
"server" is a process: each has copies of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from itertools import accumulate
from math import floor
from random import Random
from typing import NamedTuple

SEED = 6
BEGINNING = 1_000_000.0  # seconds, on the clock that cookies show
TOUCH_AFTER = 0.1  # share of the idle timeout
CLOCKS_APART = 2
IN_THE_MODEL = 60_000  # requests of a run: a part of the sessions, each used as often as all are
FEWEST = 500  # sessions in a run


class Answer(Enum):
    """What keeps a session from being missing on the other servers."""

    OWN = "own memory"  # sticky
    CLUSTERED = "clustered"
    STORE = "one store"
    COPIES = "copies"  # any server
    STICKY = "sticky copies"

    @property
    def sticks(self) -> bool:
        return self in (Answer.OWN, Answer.STICKY)

    @property
    def has_store(self) -> bool:
        return self not in (Answer.OWN, Answer.CLUSTERED)

    @property
    def has_copies(self) -> bool:
        return self in (Answer.COPIES, Answer.STICKY)


@dataclass(frozen=True)
class World:
    """What is asked of how many servers. ``skew``: popularity falls by rank to this power."""

    answer: Answer = Answer.STORE
    servers: int = 16
    sessions: int = 100_000
    rate: float = 10_000.0  # requests a second, all together
    writes: float = 0.05  # share of the requests
    skew: float = 0.0  # 0: all sessions are used alike
    idle_timeout: float = 14 * 24 * 3600
    record_bytes: int = 400
    lease: float = 1.0
    lease_with_push: float = 60.0  # as docs/scale.md says; 0: the store does not push
    entries: int = 10_000  # copies on each server

    @property
    def pushes(self) -> bool:
        return self.answer.has_copies and self.lease_with_push > self.lease

    def part(self) -> tuple[World, float]:
        """Return a world with a part of the sessions and of all that grows with them, and which.

        What a session costs does not depend on how many others there are, as long as the room for
        copies shrinks with them.
        """
        seconds = sum(self.phases())
        of_each = seconds * self.rate / self.sessions
        wanted = max(FEWEST, IN_THE_MODEL / of_each)
        share = min(1.0, wanted / self.sessions)
        smaller = replace(
            self,
            sessions=round(self.sessions * share),
            rate=self.rate * share,
            entries=max(1, round(self.entries * share)),
        )
        return smaller, share

    def phases(self) -> tuple[float, float]:
        """Return for how many seconds to run before anything is counted, and then."""
        longest = max(self.lease_with_push, self.lease, min(self.idle_timeout * TOUCH_AFTER, 240))
        return (1.5 * longest, 1.5 * longest) if self.answer.has_copies else (1.0, 1.5 * longest)


class Request(NamedTuple):
    """Who asks which server when, and whether it changes its session."""

    at: float
    session: int
    server: int
    writes: bool


@dataclass
class Counts:
    """What happened, and how many copies there were in the end."""

    requests: int = 0
    by_copy: int = 0
    by_store: int = 0
    writes: int = 0
    touches: int = 0
    missing: int = 0  # the session was on a server that has died
    copies: int = 0

    @property
    def commands(self) -> int:
        """How many commands the store was sent: a touch looks once more whether it is alive."""
        return self.by_store + self.writes + 2 * self.touches

    @property
    def changes(self) -> int:
        """How many changes every listening server was told of."""
        return self.writes + self.touches


def homes_of(world: World, seed: int = SEED) -> list[int]:
    """Return where a balancer sends each session as long as that server lives."""
    homes = [number % world.servers for number in range(world.sessions)]
    Random(seed).shuffle(homes)
    return homes


def stream(
    world: World, seconds: float, seed: int = SEED, dies_at: float | None = None
) -> Iterator[Request]:
    """Yield requests at random times, as many a second as the world has; server 0 may die."""
    random, turns, homes = Random(seed), Random(seed), homes_of(world, seed)
    weights = list(accumulate((rank + 1) ** -world.skew for rank in range(world.sessions)))
    now = 0.0
    while True:
        sessions = random.choices(range(world.sessions), cum_weights=weights, k=1000)
        for session in sessions:
            now += random.expovariate(world.rate)
            if now >= seconds:
                return
            dead = dies_at is not None and now >= dies_at
            if world.answer.sticks:
                server = homes[session]
                if dead and server == 0:
                    server = 1 + session % (world.servers - 1)
            else:
                server = turns.randrange(int(dead), world.servers)
            yield Request(BEGINNING + now, session, server, random.random() < world.writes)


class Model:
    """Servers, their copies, and what each client's cookie shows."""

    def __init__(self, world: World, written: Iterable[float]) -> None:
        """``written``: when each session's cookie was written, on the clock of the requests."""
        self.world = world
        self.counts = Counts()
        self._stamps = [floor(at) for at in written]
        self._copies: list[OrderedDict[int, float]] = [OrderedDict() for _ in range(world.servers)]
        self._holders: list[set[int]] = [set() for _ in self._stamps]
        self._found_on = homes_of(world)  # where there is no store

    def take(self, request: Request) -> None:
        """Let one request happen."""
        counts, world = self.counts, self.world
        counts.requests += 1
        if world.answer is Answer.OWN:
            counts.missing += self._found_on[request.session] != request.server
            self._found_on[request.session] = request.server
        elif world.answer.has_copies:
            if self._by_copy(request):
                counts.by_copy += 1
            else:
                counts.by_store += 1
                self._keep(request)
        elif world.answer.has_store:
            counts.by_store += 1
        if request.writes:
            counts.writes += 1
            self._changed(request)
        elif request.at - self._stamps[request.session] >= world.idle_timeout * TOUCH_AFTER:
            counts.touches += 1
            self._changed(request)
            if world.answer.has_copies and not world.pushes:
                self._keep(request)  # the look at the store that comes last

    def _by_copy(self, request: Request) -> bool:
        world, copies = self.world, self._copies[request.server]
        if request.at - self._stamps[request.session] < world.lease + CLOCKS_APART:
            return False
        as_of = copies.get(request.session)
        if as_of is None or request.at - as_of >= max(world.lease, world.lease_with_push):
            return False
        copies.move_to_end(request.session)
        return True

    def _keep(self, request: Request) -> None:
        copies = self._copies[request.server]
        copies[request.session] = request.at
        copies.move_to_end(request.session)
        self._holders[request.session].add(request.server)
        if len(copies) > self.world.entries:
            oldest, _ = copies.popitem(last=False)
            self._holders[oldest].discard(request.server)

    def _changed(self, request: Request) -> None:
        """No copy answers this client again: a push has ended it, or its cookie asks for more."""
        self._stamps[request.session] = floor(request.at)
        for server in self._holders[request.session]:
            del self._copies[server][request.session]
        self._holders[request.session].clear()

    def finish(self) -> Counts:
        self.counts.copies = sum(len(copies) for copies in self._copies)
        return self.counts


@lru_cache
def steady(world: World, seed: int = SEED) -> tuple[Counts, float]:
    """Return what happens once copies are there, in a part of the world, and which part it is."""
    part, share = world.part()
    before, then = part.phases()
    random = Random(seed)
    oldest = part.idle_timeout * TOUCH_AFTER
    model = Model(part, [BEGINNING - random.uniform(0, oldest) for _ in range(part.sessions)])
    counted = False
    for request in stream(part, before + then, seed):
        if not counted and request.at >= BEGINNING + before:
            model.counts, counted = Counts(), True
        model.take(request)
    return model.finish(), share


def death(world: World, seed: int = SEED) -> tuple[float, float]:
    """Return what a server's death costs: the share of sessions lost, store reads for each other.

    Lost: of those that are used again. Reads: those beside the ones that there are without it, for
    each session that was on the server and is used again.
    """
    part, _ = world.part()
    before, then = part.phases()
    homes, used, counts = homes_of(part, seed), set[int](), []
    for dies_at in (None, before):
        model = Model(part, [BEGINNING - 1000] * part.sessions)
        for request in stream(part, before + then, seed, dies_at):
            model.take(request)
            if request.at >= BEGINNING + before:
                used.add(request.session)
        counts.append(model.counts)
    without, with_it = counts
    moved = sum(homes[session] == 0 for session in used)
    return with_it.missing / len(used), (with_it.by_store - without.by_store) / moved
