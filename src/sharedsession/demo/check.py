"""The check: clients with cookie jars, parallel requests, a server killed half-way, and a count.

Each client signs in and then, round by round, sends five requests of its session at once (two set
keys of their own, two count one up on the same key, one reads) and looks afterwards at what is
there. What was acknowledged must be there from then on, whichever server answers. A request that
died with the killed server was acknowledged by nobody: its outcome is unknown and it is counted
apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from .balancer import NO_CERTIFICATES
from .servers import FRAMEWORKS, Server

CLIENTS = 6
ROUNDS = 8
REQUESTS_OF_A_ROUND = 6
SIGN_INS = 5  # tries


@dataclass
class Outcome:
    """What one run came to."""

    sessions: str
    killed: str
    answered: Counter[str]
    frameworks: dict[str, str]
    requests: int = 0
    died: int = 0
    failed: int = 0
    not_found: int = 0
    updates: int = 0
    updates_lost: int = 0

    @property
    def lost_nothing(self) -> bool:
        """Whether every session was found, every update kept, and nothing failed but the killed."""
        return not (self.not_found or self.updates_lost or self.failed) and self.updates > 0


async def run(sessions: str, address: str, servers: Sequence[Server]) -> Outcome:
    """Send the requests to the balancer at ``address``, kill one of its servers half-way, count."""
    victim = servers[1]
    outcome = Outcome(
        sessions,
        victim.name,
        answered=Counter({server.name: 0 for server in servers}),
        frameworks={server.name: FRAMEWORKS[server.framework] for server in servers},
    )
    half_way = asyncio.Event()

    async def kill() -> None:
        await half_way.wait()
        await asyncio.to_thread(victim.kill)

    killing = asyncio.create_task(kill())
    clients = [Client(f"client-{n}", address, outcome, half_way) for n in range(CLIENTS)]
    await asyncio.gather(*(client.run() for client in clients))
    half_way.set()  # clients that could not even sign in do not get that far
    await killing
    return outcome


class Client:
    """One browser: a cookie jar, and the memory of what it was told is stored."""

    def __init__(self, name: str, address: str, outcome: Outcome, half_way: asyncio.Event) -> None:
        self.name = name
        self.http = httpx.AsyncClient(
            base_url=address, timeout=30, trust_env=False, verify=NO_CERTIFICATES
        )
        self.outcome = outcome
        self.half_way = half_way
        self.counted = 0
        self.notes: dict[str, str] = {}
        self.counts_missing = 0
        self.notes_missing: set[str] = set()

    async def run(self) -> None:
        """Sign in, go through the rounds, and add what was lost to the outcome."""
        async with self.http:
            if not await self.sign_in():
                return
            for number in range(ROUNDS):
                async with asyncio.TaskGroup() as at_once:
                    at_once.create_task(self.note(f"{number}-a"))
                    at_once.create_task(self.note(f"{number}-b"))
                    at_once.create_task(self.count())
                    at_once.create_task(self.count())
                    at_once.create_task(self.look())
                self.compare(await self.look())
        self.outcome.updates += self.counted + len(self.notes)
        self.outcome.updates_lost += self.counts_missing + len(self.notes_missing)

    async def sign_in(self) -> bool:
        """Sign in, again when the request died; False when that is not to be had."""
        for _ in range(SIGN_INS):
            if await self.ask("POST", "/sign-in", data={"name": self.name}):
                return True
        return False

    async def note(self, key: str) -> None:
        """Set a key that nobody else sets."""
        if await self.look("POST", f"/api/notes/{key}", content=self.name) is not None:
            self.notes[f"note:{key}"] = self.name

    async def count(self) -> None:
        """Count one up on the key that everybody counts on."""
        if await self.look("POST", "/api/count") is not None:
            self.counted += 1

    async def look(
        self, method: str = "GET", path: str = "/api/session", content: str | None = None
    ) -> dict[str, Any] | None:
        """Return the session as the answer shows it, None without one; note a session not found."""
        response = await self.ask(method, path, content=content)
        if response is None:
            return None
        session: dict[str, Any] = response.json()
        if session.get("user_id") != self.name:
            self.outcome.not_found += 1
        return session

    async def ask(
        self,
        method: str,
        path: str,
        content: str | None = None,
        data: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """Send one request and count its fate; None when it brought no answer of a server."""
        outcome = self.outcome
        outcome.requests += 1
        if outcome.requests >= CLIENTS * ROUNDS * REQUESTS_OF_A_ROUND // 2:
            self.half_way.set()
        died = None
        response: httpx.Response | None = None
        try:
            response = await self.http.request(method, path, content=content, data=data)
            died = response.headers.get("x-demo-died")
        except httpx.RemoteProtocolError:  # cut in the middle of the answer
            died = outcome.killed
        except httpx.TransportError:
            pass
        if died == outcome.killed and self.half_way.is_set():
            outcome.died += 1
        elif response is None or response.is_error:
            outcome.failed += 1
        else:
            outcome.answered[response.headers["x-demo-server"]] += 1
            return response
        return None

    def compare(self, session: dict[str, Any] | None) -> None:
        """Hold what is there against what was acknowledged; once missing is lost."""
        if session is None:
            return
        self.counts_missing = max(self.counts_missing, self.counted - session.get("count", 0))
        self.notes_missing |= {key for key in self.notes if session.get(key) != self.notes[key]}


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes side by side, one column each."""
    rows = [("", [outcome.sessions for outcome in outcomes])]

    def row(title: str, *numbers: int) -> None:
        rows.append((title, [str(number) for number in numbers]))

    row("requests", *(outcome.requests for outcome in outcomes))
    for name in outcomes[0].answered:
        killed = ", killed half-way" if name == outcomes[0].killed else ""
        who = f"{name} ({outcomes[0].frameworks[name]})"
        row(f"  answered by {who}{killed}", *(outcome.answered[name] for outcome in outcomes))
    row("  died with it, outcome unknown", *(outcome.died for outcome in outcomes))
    row("  failed otherwise", *(outcome.failed for outcome in outcomes))
    row("sessions not found", *(outcome.not_found for outcome in outcomes))
    row("updates acknowledged", *(outcome.updates for outcome in outcomes))
    row("updates lost", *(outcome.updates_lost for outcome in outcomes))
    return "\n".join(
        f"{title:<48}" + "".join(f"{cell:>9}" for cell in cells) for title, cells in rows
    )
