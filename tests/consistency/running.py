"""One run: clients on servers while faults happen, each history judged when its client is done."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random

from .balancer import Balancer, Weather
from .checking import Violation, check
from .clients import Client
from .world import Mode, StartedMode, world

ROUNDS = 60  # of one client, until its history is judged and another one comes
RESTFUL_ROUNDS = 12  # the same of one that rests in between
LASTS = (0.2, 1.4)  # seconds of a fault, shorter and longer than the deadline of 1 s
CALM = (0.3, 1.5)  # seconds between two faults


@dataclass
class Report:
    """What happened in a run, and what was wrong with it."""

    mode: str
    seed: int
    operations: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)  # by where from, where there are copies
    violations: list[tuple[str, Violation]] = field(default_factory=list)

    @property
    def rules(self) -> set[str]:
        return {violation.rule.value for _, violation in self.violations}

    def told(self) -> str:
        """The violations, for a person."""
        lines = [f"{name}, {each}" for name, each in self.violations]
        return "\n\n".join([f"{self.mode}, seed {self.seed}", *lines])


@dataclass
class Run:
    """How much of everything; a run ends with whichever limit comes first."""

    operations: int = 2000
    seconds: float = 10.0
    seed: int = 1
    clients: int = 6
    faults: bool = True
    enough: int = 20  # violations after which it is over
    weather: Weather = field(default_factory=Weather)


def run(mode: Mode, how: Run, control: str = "") -> Report:
    """Run a mode, or a control on it."""
    with world(mode, control) as started:
        return asyncio.run(_Running(started, how).go())


class _Running:
    def __init__(self, started: StartedMode, how: Run) -> None:
        self.world, self.how = started, how
        self.report = Report(started.mode.name, how.seed)
        self.chance = Random(how.seed)
        self.numbers, self.names = count(1), count(1)
        self.begun = time.monotonic()

    def is_over(self) -> bool:
        return (
            self.report.operations >= self.how.operations
            or time.monotonic() - self.begun >= self.how.seconds
            or len(self.report.violations) >= self.how.enough
        )

    async def go(self) -> Report:
        world = self.world
        balancer = Balancer(world.servers, self.chance, self.how.weather, world.readers)
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as going:
                going.create_task(self._faults(stop))
                try:
                    async with asyncio.TaskGroup() as clients:
                        for _ in range(self.how.clients * self.world.mode.crowd):
                            clients.create_task(self._clients(balancer))
                finally:
                    stop.set()
        finally:
            await balancer.close()
        for server in self.world.servers:
            self.report.loads.update(await asyncio.to_thread(server.loads))
        self.report.faults["answer dropped"] = balancer.dropped
        self.report.seconds = time.monotonic() - self.begun
        return self.report

    async def _clients(self, balancer: Balancer) -> None:
        """One client after the other."""
        bound, max_age = self.world.mode.bound, self.world.mode.max_age
        rounds = ROUNDS if max_age == math.inf else RESTFUL_ROUNDS
        while not self.is_over():
            name = f"client {next(self.names)}"
            chance = Random(f"{self.how.seed} {name}")
            client = Client(name, balancer, chance, self.numbers, bound, max_age)
            history = await client.run(rounds, self.is_over)
            report = self.report
            report.operations += len(history.operations)
            report.outcomes.update(each.outcome.name for each in history.operations)
            report.kinds.update(each.kind.value for each in history.operations)
            mode, place = self.world.mode, self.world.place
            found = check(
                history,
                bound,
                max_age,
                mode.window,
                mode.rewinds,
                self.world.plain,
                place.periods,
                self.world.readers,
            )
            report.violations += [(name, violation) for violation in found]

    async def _faults(self, stop: asyncio.Event) -> None:
        """One fault after the other, with some calm in between."""
        possible = self.world.faults() if self.how.faults else {}
        while possible and not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), self.chance.uniform(*CALM))
            except TimeoutError:
                name = self.chance.choice(list(possible))
                happen = self.chance.choice(possible[name])
                happened = await asyncio.to_thread(happen, self.chance.uniform(*LASTS))
                self.report.faults[name] += happened is not False
