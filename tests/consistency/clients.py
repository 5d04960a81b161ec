"""Clients with cookie jars, who send several requests at a time and note what they see.

Where servers hold copies, half of the cookies are sent with an older timestamp, signed anew: under
young ones the store itself is read, and clients would have to rest for seconds before copies
answer. Cookies of earlier versions are sent as well, as after answers that overtook each other.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from urllib.parse import quote

from itsdangerous.encoding import base64_decode, bytes_to_int

from sharedsession.cookie import CookieCodec
from sharedsession.settings import gather
from tests.guarantees.driver import SECRET

from .balancer import Answer, Balancer, NeverSent, NoAnswer
from .history import Cookie, History, Kind, Operation, Outcome, Shown
from .world import Server

RETRY = 0.02  # seconds that a client waits after a request that came to nothing
SURE = 0.6  # share of the requests in which the application itself waits for the store
KEYS = ("k", "l")
USUAL = {
    Kind.READ: 40,
    Kind.MUTATE: 25,
    Kind.WRITE: 20,
    Kind.RENEW: 8,
    Kind.SIGN_OUT: 4,
    Kind.SIGN_IN: 3,
    Kind.SWITCH: 2,
}
KINDS, WEIGHTS = list(USUAL), list(USUAL.values())
HARMLESS = [Kind.READ, Kind.MUTATE, Kind.WRITE]  # what is tried with cookies of ended sessions
SURE_READ = 0.2  # the same of those that only read, where there are copies
OLD = 0.2  # share of the rounds in which a cookie that has been replaced is sent
RESTS = 0.5  # share of the rounds after which a client rests, where sessions expire
SHORT_RESTS = 0.15  # the same where copies grow old
OLD_COPY = 2.0  # seconds, more than a lease
RESTED = (0.7, 1.5)  # shares of that, or of the idle timeout, for which it does at the most
READS = 5  # times as often as elsewhere, where copies answer or use prolongs a session
AGED = 0.5  # share of the cookies that are sent as if they were older, where there are copies
AGE = 60  # seconds by which they are
CROWD = [1, 1, 2, 2, 3]  # requests at a time
MOODS = (0.2, 1, 5)  # no two clients are alike: rare things meet only where neither is rare


class Client:
    """One browser, and the history of what it did and saw."""

    def __init__(
        self,
        name: str,
        balancer: Balancer,
        chance: Random,
        numbers: Iterator[int],
        bound: float = 0.0,
        max_age: float = math.inf,
    ) -> None:
        self.name = name
        self.history = History(name, numbers, time.time() - time.monotonic())
        self._balancer, self._chance = balancer, chance
        self._bound, self._max_age = bound, max_age
        self._ages = bound > 0 and max_age == math.inf
        self._rests = RESTS if max_age < math.inf else SHORT_RESTS if bound else 0.0
        self._weights = [weight * chance.choice(MOODS) for weight in WEIGHTS]
        if bound or max_age < math.inf:
            self._weights[KINDS.index(Kind.READ)] *= READS
        self._jar: str | None = None
        self._old: list[str] = []  # cookies of sessions that are no longer in the jar
        self._earlier: list[str] = []  # cookies of the session in the jar, of earlier versions
        self._signed_in = False

    async def run(self, rounds: int, is_over: Callable[[], bool]) -> History:
        while rounds and not is_over():
            rounds -= 1
            await self._round()
            if self._rests and self._chance.random() < self._rests:
                share = self._chance.random() * self._chance.choice(RESTED)
                await asyncio.sleep(share * min(self._max_age, OLD_COPY))
        await self._end()
        return self.history

    async def _end(self) -> None:
        """At the end all is there, and nothing else, on every server: no copy is as old by then."""
        await asyncio.sleep(self._bound)
        left = [*self._old[-3:], *self._earlier[-1:]]
        for server in self._balancer.servers:
            await self._send(Kind.READ, server=server)
            for old in left:
                if self._bound or server is self._balancer.servers[0]:
                    await self._send(Kind.READ, server=server, replayed=old)

    async def _round(self) -> None:
        chance = self._chance
        if not self._signed_in:
            asked = [self._send(chance.choice([Kind.SIGN_IN, Kind.SIGN_IN, Kind.SWITCH]))]
        else:
            crowd = chance.choice(CROWD)
            asked = [self._send(kind) for kind in chance.choices(KINDS, self._weights, k=crowd)]
        for those in (self._old, self._earlier):
            if those and chance.random() < OLD:
                old = chance.choice(those[-3:])
                asked.append(self._send(chance.choice(HARMLESS), replayed=old))
        done = await asyncio.gather(*asked)
        own = [each for each in done if not each.note]
        if any(each.acknowledged for each in own):
            self._signed_in = self._jar is not None and any(each.shown for each in own)
        else:
            await asyncio.sleep(RETRY)

    async def _send(
        self, kind: Kind, *, server: Server | None = None, replayed: str | None = None
    ) -> Operation:
        """Send one request; what is replayed leaves the jar alone."""
        chance = self._chance
        key = chance.choice(KEYS) if kind is Kind.WRITE else None
        raw = replayed or self._jar
        if raw is not None and self._ages and chance.random() < AGED:
            raw = aged(raw)
        operation = self.history.begin(kind, time.monotonic(), _cookie(raw), key)
        if replayed:
            operation.note = "an old cookie"
        sure = SURE_READ if self._bound and kind is Kind.READ else SURE
        how = "sure" if chance.random() < sure else "-"
        word = quote(key or self.name)
        path = f"/{kind.name.lower()}/{operation.number}/{word}/{how}"
        try:
            line = await self._balancer.reach(server)
            operation.server = line.server.name
            answer = await self._balancer.ask(line, path, raw)
        except NeverSent:
            operation.outcome = Outcome.FAILED
        except NoAnswer as error:
            operation.note = operation.note or str(error)
        else:
            self._note(operation, answer)
            if not replayed:
                self._take(answer)
        return operation

    def _note(self, operation: Operation, answer: Answer) -> None:
        operation.end = time.monotonic()
        if answer.status == 503:
            operation.end, operation.note = float("inf"), operation.note or "503"
            return
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.body!r} to {operation}")
        operation.outcome = Outcome.ACKNOWLEDGED
        operation.sure, shown = json.loads(answer.body)
        if shown is not None:
            who, life, done, keys = shown
            operation.shown = Shown(who, life, tuple(done), keys)
        for header in answer.cookies:
            operation.given = _cookie(_value(header))

    def _take(self, answer: Answer) -> None:
        """Put the cookie into the jar, as a browser does: the answer that comes last wins."""
        for header in answer.cookies:
            new, was = _value(header), self._jar
            if was is not None and _session(new) != _session(was):
                self._old.append(was)
                self._earlier.clear()
            elif was is not None and self._bound:
                self._earlier.append(was)
            self._jar = new


def _value(header: str) -> str | None:
    """The value of a Set-Cookie header; None when it removes the cookie."""
    pair, _, attributes = header.partition(";")
    return None if "01 Jan 1970" in attributes else pair.partition("=")[2]


def _session(raw: str | None) -> str | None:
    return None if raw is None else raw.partition(".")[0]


def _cookie(raw: str | None) -> Cookie | None:
    if raw is None:
        return None
    session, version, timestamp, _ = raw.split(".")
    return Cookie(session[:12], int(version), bytes_to_int(base64_decode(timestamp)))


CODEC = CookieCodec(gather({"secret_key": SECRET, "store": "memory://"}))


def aged(raw: str) -> str:
    """The same cookie as if the session had last been written long ago."""
    cookie = CODEC.verify(raw)
    assert cookie is not None
    return CODEC.sign(replace(cookie, timestamp=cookie.timestamp - AGE))
