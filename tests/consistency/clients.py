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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import quote

from itsdangerous.encoding import base64_decode, bytes_to_int

from sharedsession._core.cookie import CookieCodec
from sharedsession._core.settings import gather
from sharedsession.exceptions import NOT_STORED
from tests.guarantees.driver import SECRET

from .application import (
    AGAIN,
    APOLOGISES,
    APOLOGY,
    COMMIT,
    DROPPED,
    GIVES_UP,
    GOES_ON,
    NOW,
    REFUSED,
    RELOAD,
    STORED,
)
from .balancer import Answer, Balancer, NeverSent, NoAnswer
from .history import Cookie, History, Kind, Operation, Outcome, Shown
from .world import Server

RETRY = 0.02  # seconds that a client waits after a request that came to nothing
SURE = 0.6  # share of the requests in which the application itself waits for the store
SURE_READ = 0.2  # the same of those that only read, where there are copies
KEYS = ("k", "l")
USUAL = {
    Kind.READ: 40,
    Kind.MUTATE: 20,
    Kind.PAY: 5,
    Kind.WRITE: 20,
    Kind.RENEW: 8,
    Kind.SIGN_OUT: 4,
    Kind.SIGN_IN: 2,
    Kind.SIGN_OVER: 2,
    Kind.SWITCH: 2,
}
SIGN_INS = [Kind.SIGN_IN, Kind.SIGN_IN, Kind.SIGN_OVER, Kind.SWITCH]  # of who is signed out
FUNCTIONS = (Kind.MUTATE, Kind.PAY)  # are given to mutate() or commit()
MOODY = 0.3  # share of the changes after which the application goes on when a commit fails
HURRIED = 0.3  # share of these for which it waits for a moment only
MOMENTS = [1, 2, 4, 8, 16]  # milliseconds
SEVERAL = 0.15  # share of the changes that come with others in one request
OTHERS = [Kind.MUTATE, Kind.MUTATE, Kind.WRITE, Kind.WRITE, Kind.PAY, Kind.RENEW]
TWO_COOKIES = 0.5  # share of the sign-outs that show an old cookie as well
KINDS, WEIGHTS = list(USUAL), list(USUAL.values())
HARMLESS = [Kind.READ, Kind.MUTATE, Kind.WRITE]  # what is tried with cookies of ended sessions
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
            kinds = chance.choices(SIGN_INS, k=chance.choice([1, 1, 2]))
        else:
            kinds = chance.choices(KINDS, self._weights, k=chance.choice(CROWD))
        asked = [self._send(kind, *self._others(kind)) for kind in kinds]
        for those in (self._old, self._earlier):
            if those and chance.random() < OLD:
                old = chance.choice(those[-3:])
                asked.append(self._send(chance.choice(HARMLESS), replayed=old))
        done = [each for those in await asyncio.gather(*asked) for each in those]
        own = [each for each in done if not each.note]
        if any(each.acknowledged for each in own):
            self._signed_in = self._jar is not None and any(each.shown for each in own)
        else:
            await asyncio.sleep(RETRY)

    def _others(self, kind: Kind) -> list[Kind]:
        """What else a request does, most often nothing."""
        if kind not in OTHERS or self._chance.random() >= SEVERAL:
            return []
        return self._chance.choices(OTHERS, k=self._chance.choice([1, 2, 3]))

    async def _send(
        self, *kinds: Kind, server: Server | None = None, replayed: str | None = None
    ) -> list[Operation]:
        """Send one request, which does one thing or several; what is replayed leaves the jar."""
        chance = self._chance
        raw = replayed or self._jar
        if raw is not None and self._ages and chance.random() < AGED:
            raw = aged(raw)
        shown, beside = [] if raw is None else [raw], list[str]()
        if kinds == (Kind.SIGN_OUT,) and self._old and chance.random() < TWO_COOKIES:
            beside.append(chance.choice(self._old[-3:]))
            shown.insert(chance.randrange(len(shown) + 1), beside[0])
        operations, parts = [], []
        for kind in kinds:
            key = chance.choice(KEYS) if kind is Kind.WRITE else None
            operation = self.history.begin(kind, time.monotonic(), _cookie(raw), key)
            operation.also = tuple(map(_read, beside))
            operation.note = "an old cookie" if replayed else ""
            operation.request = operations[0].number if operations else operation.number
            operations.append(operation)
            parts += self._parts(operation)
        mood, hurry = self._mood(kinds), 0
        if mood != GIVES_UP:
            hurry = chance.choice(MOMENTS) if chance.random() < HURRIED else 0
            for each in operations:
                each.how = f"{mood} after {hurry} ms" if hurry else mood
        path = "/".join(["", mood, str(hurry), *parts])
        try:
            line = await self._balancer.reach(server, reads=kinds == (Kind.READ,))
            for each in operations:
                each.server = line.server.name
            answer = await self._balancer.ask(line, path, shown)
        except NeverSent:
            for each in operations:
                each.outcome = Outcome.FAILED
        except NoAnswer as error:
            for each in operations:
                each.note = each.note or str(error)
        else:
            waited = any(part == COMMIT or part.endswith(f":{NOW}") for part in parts)
            self._note(operations, answer, waited=waited)
            if answer.status == 503 and not hurry:  # else the application gave up
                for each in operations:
                    each.refused_at = time.monotonic()
            if not replayed:
                self._take(answer)
        return operations

    def _parts(self, operation: Operation) -> list[str]:
        """How a request is told to do it, and whether to wait for the store."""
        kind, chance = operation.kind, self._chance
        waits = chance.random() < (SURE_READ if self._bound and kind is Kind.READ else SURE)
        word = quote(operation.key or self.name)
        if kind in FUNCTIONS:
            word = NOW if waits and chance.random() < 0.5 else "-"
        part = f"{kind.name.lower()}:{operation.number}:{word}"
        if not waits or word == NOW:
            return [part]
        return [part, RELOAD if kind is Kind.READ else COMMIT]

    def _mood(self, kinds: Sequence[Kind]) -> str:
        if kinds == (Kind.READ,) or self._chance.random() >= MOODY:
            return GIVES_UP
        # Done again, a write could replace one that came between.
        again = [] if Kind.WRITE in kinds else [AGAIN, AGAIN]
        return self._chance.choice([GOES_ON, APOLOGISES, *again])

    def _note(self, operations: Sequence[Operation], answer: Answer, *, waited: bool) -> None:
        """Note what an answer says; ``waited``: a part may be stored though a later one is not."""
        now = time.monotonic()
        if answer.status == 503:
            for each in operations:
                each.note = each.note or "503"
            return
        if answer.status == 500 and answer.body.strip() == NOT_STORED.encode():
            for each in operations:
                each.outcome = Outcome.UNKNOWN if waited else Outcome.FAILED
                each.note = each.note or "500"
            return
        if answer.status not in (200, APOLOGY):
            raise AssertionError(f"{answer.status}: {answer.body!r} to {operations}")
        states, failed, shown = json.loads(answer.body)
        in_doubt = failed and answer.status == APOLOGY
        for each, state in zip(operations, states, strict=True):
            if state == REFUSED or (state == DROPPED and not in_doubt):
                each.outcome, each.note = Outcome.FAILED, each.note or state
            elif in_doubt:
                each.note = each.note or "402"
            else:
                each.end, each.outcome = now, Outcome.ACKNOWLEDGED
                each.sure = state == STORED
                each.shown = _shown(shown)
                for header in answer.cookies:
                    each.given = _cookie(_value(header))

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


def _shown(told: Sequence[Any] | None) -> Shown | None:
    if told is None:
        return None
    who, life, done, coins, keys = told
    return Shown(who, life, tuple(done or ()), keys, coins)


def _value(header: str) -> str | None:
    """The value of a Set-Cookie header; None when it removes the cookie."""
    pair, _, attributes = header.partition(";")
    return None if "01 Jan 1970" in attributes else pair.partition("=")[2]


def _session(raw: str | None) -> str | None:
    return None if raw is None else raw.partition(".")[0]


def _cookie(raw: str | None) -> Cookie | None:
    return None if raw is None else _read(raw)


def _read(raw: str) -> Cookie:
    session, version, timestamp, _ = raw.split(".")
    return Cookie(session[:12], int(version), bytes_to_int(base64_decode(timestamp)))


CODEC = CookieCodec(gather({"secret_key": SECRET, "store": "memory://"}))


def aged(raw: str) -> str:
    """The same cookie as if the session had last been written long ago."""
    cookie = CODEC.verify(raw)
    assert cookie is not None
    return CODEC.sign(replace(cookie, timestamp=cookie.timestamp - AGE))
