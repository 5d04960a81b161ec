"""The check: the same requests to every strategy, a server killed half-way, and a count.

First all strategies at the same time: each has clients that sign in and then, round by round, send
five requests of their session at once (two set keys of their own, two count one up on the same
key, one reads) and look afterwards at what is there. What was acknowledged must be there from then
on, whichever server answers. A request that died with the killed server was not acknowledged:
its outcome is unknown and it is counted apart.

Then, one strategy after the other, the same clients only read, one request at a time: so their
times can be compared, and it shows where the session is read from.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, NamedTuple

import httpx

from .balancer import INSIDE, NO_CERTIFICATES, READ
from .servers import FRAMEWORKS, Server
from .strategies import Strategy

CLIENTS = 6
ROUNDS = 8
REQUESTS_OF_A_ROUND = 6
READS = 20  # of each client, in the calm after the rounds
SIGN_INS = 5  # tries
AT_ONCE = 8  # clients of all strategies that are at a round: servers must not be starved
COPIES_ANSWER = (
    3.2  # seconds after which copies answer under a cookie that was written: lease, and two
)
WAYS = {
    "memory": "the server's own memory",
    "store": "the store",
    "replica": "a replica",
    "copy": "a copy in the server",
}


class Asked(NamedTuple):
    """One request of a signed-in client: whose, when, and what became of it.

    ``sent`` is in seconds from the beginning. ``read`` is where its session was read from: a key of
    `WAYS`, or nowhere.
    """

    client: str
    sent: float
    fate: Literal["found", "lost", "died", "failed"]
    read: str = ""


@dataclass
class Outcome:
    """What one strategy came to."""

    strategy: Strategy
    answered: Counter[str]
    frameworks: dict[str, str]
    killed: str = ""
    killed_at: float = 0.0  # seconds from the beginning
    clients_killed: int = 0  # whom the killed server had just answered
    requests: int = 0
    died: int = 0
    failed: int = 0
    not_found: int = 0
    updates: int = 0
    updates_lost: int = 0
    updates_twice: int = 0
    reads: Counter[str] = field(default_factory=Counter)  # by where the session was
    times: list[float] = field(default_factory=list)  # milliseconds of each calm read
    asked: list[Asked] = field(default_factory=list)

    @property
    def lost_nothing(self) -> bool:
        """Whether every session was found, and every update is there, once."""
        return not (self.not_found or self.updates_lost or self.updates_twice) and self.updates > 0


class Stage:
    """What all clients of a check share: the clock, and the moment at which the server dies."""

    def __init__(self, strategies: int) -> None:
        self.begun = time.monotonic()
        self.half_way = asyncio.Event()
        self.room = asyncio.Semaphore(AT_ONCE)
        self._left = strategies * CLIENTS * ROUNDS * REQUESTS_OF_A_ROUND // 2

    @property
    def now(self) -> float:
        """Seconds from the beginning."""
        return time.monotonic() - self.begun

    def count_down(self) -> None:
        """One request more; half of them is half-way."""
        self._left -= 1
        if self._left <= 0:
            self.half_way.set()


async def checking(
    strategies: Sequence[Strategy], address: str, servers: Sequence[Server]
) -> list[Outcome]:
    """Send the requests to the balancer at ``address``, kill one of its servers half-way, count."""
    stage = Stage(len(strategies))
    outcomes = [
        Outcome(
            strategy,
            answered=Counter({server.name: 0 for server in servers}),
            frameworks={server.name: FRAMEWORKS[server.framework] for server in servers},
        )
        for strategy in strategies
    ]
    groups = [
        [Client(f"client-{n}", address, outcome, stage) for n in range(CLIENTS)]
        for outcome in outcomes
    ]

    async def kill() -> None:
        await stage.half_way.wait()
        victim = most_wanted(servers, groups)
        for outcome, group in zip(outcomes, groups, strict=True):
            outcome.killed, outcome.killed_at = victim.name, stage.now
            outcome.clients_killed = sum(victim.name in client.met for client in group)
        await asyncio.to_thread(victim.kill)

    async with AsyncExitStack() as stack:
        for client in each_of(groups):
            await stack.enter_async_context(client.http)
        await asyncio.gather(*(client.sign_in() for client in each_of(groups)))
        killing = asyncio.create_task(kill())
        await asyncio.gather(*(client.run() for client in each_of(groups)))
        stage.half_way.set()  # clients that could not even sign in do not get that far
        await killing
        await asyncio.sleep(COPIES_ANSWER)
        for group in groups:
            for _ in range(READS):
                for client in group:
                    await client.read_calmly()
            for client in group:
                client.add_up()
    return outcomes


def each_of(groups: Sequence[Sequence[Client]]) -> Iterator[Client]:
    """The first clients of all strategies, then the second ones: so no client is always first."""
    for row in zip(*groups, strict=True):
        yield from row


def most_wanted(servers: Sequence[Server], groups: Sequence[Sequence[Client]]) -> Server:
    """Return a server that every strategy has clients at, the more the better: its death counts."""

    def wanted(server: Server) -> tuple[int, int]:
        numbers = [sum(server.name in client.met for client in group) for group in groups]
        return min(numbers), sum(numbers)

    return max(servers, key=wanted)


class Client:
    """One browser: a cookie jar, and the memory of what it was told is stored."""

    def __init__(self, name: str, address: str, outcome: Outcome, stage: Stage) -> None:
        self.name = name
        self.http = httpx.AsyncClient(
            base_url=f"{address}{INSIDE}{outcome.strategy.name}",
            timeout=30,
            trust_env=False,
            verify=NO_CERTIFICATES,
        )
        self.outcome = outcome
        self.stage = stage
        self.signed_in = False
        self.met = deque[str](maxlen=REQUESTS_OF_A_ROUND)  # who answered last
        self.counted = 0
        self.unknown = 0  # of its counts it was not told whether they took place
        self.notes: dict[str, str] = {}
        self.counts_missing = self.counts_twice = 0
        self.notes_missing: set[str] = set()

    async def run(self) -> None:
        """Go through the rounds."""
        for number in range(ROUNDS if self.signed_in else 0):
            async with self.stage.room:
                await self.go_round(number)

    async def go_round(self, number: int) -> None:
        """Send five requests at once, and look afterwards at what is there."""
        async with asyncio.TaskGroup() as at_once:
            at_once.create_task(self.note(f"{number}-a"))
            at_once.create_task(self.note(f"{number}-b"))
            at_once.create_task(self.count())
            at_once.create_task(self.count())
            at_once.create_task(self.look())
        self.compare(await self.look())

    async def sign_in(self) -> None:
        """Sign in, again when the request fails."""
        for _ in range(SIGN_INS):
            if await self.ask("POST", "/sign-in", data={"name": self.name}):
                self.signed_in = True
                return

    async def note(self, key: str) -> None:
        """Set a key that no other request sets."""
        if await self.look("POST", f"/api/notes/{key}", content=self.name) is not None:
            self.notes[f"note:{key}"] = self.name

    async def count(self) -> None:
        """Count one up on the key that everybody counts on."""
        if await self.look("POST", "/api/count") is None:
            self.unknown += 1
        else:
            self.counted += 1

    async def read_calmly(self) -> None:
        """Read while nothing else happens, and note how long that took."""
        if self.signed_in:
            begun = time.perf_counter()
            session = await self.look()
            if session is not None:
                self.outcome.times.append((time.perf_counter() - begun) * 1000)
            self.compare(session)

    def add_up(self) -> None:
        """Add what was acknowledged, and what of it was lost, to the outcome."""
        self.outcome.updates += self.counted + len(self.notes)
        self.outcome.updates_lost += self.counts_missing + len(self.notes_missing)
        self.outcome.updates_twice += self.counts_twice

    async def look(
        self, method: str = "GET", path: str = "/api/session", content: str | None = None
    ) -> dict[str, Any] | None:
        """Return the session as the answer shows it, None without one; note a session not found."""
        sent = self.stage.now
        response = await self.ask(method, path, content=content)
        if response is None:
            return None
        session: dict[str, Any] = response.json()
        found = session.get("user_id") == self.name
        self.outcome.not_found += not found
        read = response.headers.get(READ, "")
        self.outcome.reads[read] += 1
        self.outcome.asked.append(Asked(self.name, sent, "found" if found else "lost", read))
        return session

    async def ask(
        self,
        method: str,
        path: str,
        content: str | None = None,
        data: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """Send one request and count its fate; None when it brought no answer of a server."""
        outcome, sent = self.outcome, self.stage.now
        outcome.requests += 1
        self.stage.count_down()
        died = ""
        try:
            response = await self.http.request(method, path, content=content, data=data)
            if not response.is_error:
                server = response.headers["x-demo-server"]
                outcome.answered[server] += 1
                self.met.append(server)
                return response
            died = response.headers.get("x-demo-died", "")
        except httpx.RemoteProtocolError:  # cut in the middle of the answer
            died = outcome.killed
        except httpx.TransportError:
            pass
        fate: Literal["died", "failed"] = "died" if died and died == outcome.killed else "failed"
        if fate == "died":
            outcome.died += 1
        else:
            outcome.failed += 1
        if self.signed_in:
            outcome.asked.append(Asked(self.name, sent, fate))
        return None

    def compare(self, session: dict[str, Any] | None) -> None:
        """Hold what is there against what was acknowledged; once missing is lost."""
        if session is None:
            return
        count = session.get("count", 0)
        self.counts_missing = max(self.counts_missing, self.counted - count)
        self.counts_twice = max(self.counts_twice, count - self.counted - self.unknown)
        self.notes_missing |= {key for key in self.notes if session.get(key) != self.notes[key]}


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes side by side, one column each."""
    first = outcomes[0]
    rows = [
        ("", [each.strategy.keeps for each in outcomes]),
        ("", [each.strategy.label for each in outcomes]),
    ]

    def row(title: str, *numbers: int) -> None:
        rows.append((title, [str(number) for number in numbers]))

    row("requests", *(each.requests for each in outcomes))
    for name in first.answered:
        killed = ", killed half-way" if name == first.killed else ""
        who = f"{name} ({first.frameworks[name]})"
        row(f"  answered by {who}{killed}", *(each.answered[name] for each in outcomes))
    row("  clients that it had just answered", *(each.clients_killed for each in outcomes))
    row("  died with it, outcome unknown", *(each.died for each in outcomes))
    row("  failed otherwise", *(each.failed for each in outcomes))
    row("sessions not found", *(each.not_found for each in outcomes))
    row("updates acknowledged", *(each.updates for each in outcomes))
    row("updates lost", *(each.updates_lost for each in outcomes))
    row("updates made twice", *(each.updates_twice for each in outcomes))
    for way, where in WAYS.items():
        row(f"session read from {where}", *(each.reads[way] for each in outcomes))
    rows.append(("median time of a read, ms", [_median(each.times) for each in outcomes]))
    return "\n".join(
        f"{title:<46}" + "".join(f"{cell:>11}" for cell in cells) for title, cells in rows
    )


def _median(times: Sequence[float]) -> str:
    return f"{median(times):.1f}" if times else "-"
