"""Clients that go on and on while a fault happens, and what they count.

Each client has a cookie jar, a name, and *lives*: it signs in, sends rounds of overlapping requests
to the servers in turn, each of which appends one numbered operation by `mutate` and sets a key of
its own, and some clients sign out and begin anew. Every answer shows the whole session, so that
an operation that was acknowledged and is missing, one that appears twice, or one of somebody else
is seen at once. The cookies of ended sessions are kept, and tried again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sharedsession import Session
from tests.guarantees.driver import Answer, Application, Browser, Running, Server

LIMIT = 60.0
PAD = 200  # bytes of each operation
RETRY = 0.03  # seconds that a client waits after a 503


Moment = tuple[float, float]  # when a request began and when it was answered


@dataclass
class Span:
    """When the server may have forgotten what it acknowledged, and when the fault was over."""

    since: float = 0.0
    until: float = 0.0  # before `since`: it has forgotten nothing
    over: float = 0.0

    def covers(self, moment: Moment) -> bool:
        begun, ended = moment
        return ended >= self.since and begun <= self.until


@dataclass
class Tally:
    """What happened."""

    requests: int = 0
    unavailable: int = 0
    late: int = 0  # 503s of requests that began when the fault was over
    other: int = 0  # statuses but 200 and 503, or answers that are none
    longest: float = 0.0
    signed_out: int = 0
    lost: list[Moment] = field(default_factory=list)  # when what is missing was acknowledged
    twice: int = 0
    revived: list[Moment] = field(default_factory=list)  # when their end was acknowledged
    foreign: int = 0
    recovery: dict[str, float] = field(default_factory=dict)  # seconds, by server
    span: Span = field(default_factory=Span)
    wrong: list[object] = field(default_factory=list)

    @property
    def lost_by_us(self) -> int:
        return sum(not self.span.covers(moment) for moment in self.lost)

    @property
    def lost_by_server(self) -> int:
        return len(self.lost) - self.lost_by_us

    @property
    def revived_by_us(self) -> int:
        return sum(not self.span.covers(moment) for moment in self.revived)

    @property
    def revived_by_server(self) -> int:
        return len(self.revived) - self.revived_by_us


@dataclass
class Life:
    """One session of a client."""

    number: int
    browser: Browser
    acknowledged: dict[int, Moment]  # by operation; the sign-in is number 0
    leaving: bool = False  # a sign-out was asked for; without an answer it may be done or not


# --- what the clients ask for ---------------------------------------------------------------------

Shown = tuple[str, int, list[int], dict[str, int]]


def shown(session: Session) -> Shown | None:
    if "who" not in session:
        return None
    slots = {key: value for key, value in session.items() if str(key).startswith("at ")}
    return session["who"], session["life"], [done for done, _ in session["done"]], slots


def sign_in(who: str, life: int) -> Application:
    def application(session: Session) -> Shown | None:
        session.clear()
        session.update(user_id=who, who=who, life=life, done=[(0, "")])
        return shown(session)

    return application


def operate(operation: int, slot: str) -> Application:
    """Do something to the session, if there is one: nobody is signed in by a lost session."""

    def application(session: Session) -> Shown | None:
        if "who" not in session:
            return None
        session.mutate(lambda now: now["done"].append((operation, "." * PAD)))
        session[f"at {slot}"] = operation
        return shown(session)

    return application


def sign_out(session: Session) -> None:
    session.destroy()


# --- the clients ----------------------------------------------------------------------------------


class Client(threading.Thread):
    """One user with one browser."""

    def __init__(self, run: Run, number: int) -> None:
        super().__init__(daemon=True)
        self.run_, self.number = run, number
        self.who = f"user {number}"
        self.leaves = number % 2 == 0
        self.life: Life | None = None
        self.ended: list[tuple[Browser, Moment]] = []
        self.turns = number
        self.operations = 0
        self.lives = 0
        self.rounds = 0  # that succeeded
        self.chance = random.Random(number)

    def run(self) -> None:
        try:
            while not self.run_.done.is_set():
                self.round()
                time.sleep(self.run_.pause * self.chance.random())
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            self.run_.tally.wrong.append(error)

    def round(self) -> None:
        if self.life is None:
            worked = self.begin_life()
        elif self.life.leaving or self.wants_to_leave(self.life):
            worked = self.end_life(self.life)
        else:
            worked = self.work(self.life)
        if worked:
            self.rounds += 1
        else:
            time.sleep(RETRY)

    def wants_to_leave(self, life: Life) -> bool:
        return self.leaves and len(life.acknowledged) > 8 and self.chance.random() < 0.3

    def server(self) -> str:
        self.turns += 1
        return self.run_.names[self.turns % len(self.run_.names)]

    def begin_life(self) -> bool:
        self.lives += 1
        browser = Browser()
        request = self.run_.begin(self.server(), browser, sign_in(self.who, self.lives))
        if request.end().status != 200:
            return False
        self.life = Life(self.lives, browser, {0: request.moment})
        return True

    def end_life(self, life: Life) -> bool:
        """Sign out, and try the cookie again at another server."""
        life.leaving = True
        old = life.browser.copy()
        request = self.run_.begin(self.server(), life.browser, sign_out)
        if request.end().status != 200:
            return False
        self.run_.tally.signed_out += 1
        self.ended.append((old, request.moment))
        self.life = None
        self.try_again(*self.ended[-1])
        return True

    def try_again(self, old: Browser, when: Moment) -> None:
        """See whether a session that was signed out is still ended."""
        answer = self.run_.ask(self.server(), old.copy(), shown)
        if answer.status == 200 and answer.value is not None:
            self.run_.tally.revived.append(when)

    def work(self, life: Life) -> bool:
        """Send two overlapping requests, to two servers."""
        sent = dict(life.acknowledged)  # as of now
        going = []
        for _ in range(2):
            self.operations += 1
            server = self.server()
            going.append(
                (
                    self.operations,
                    self.run_.begin(server, life.browser, operate(self.operations, server)),
                )
            )
        worked = True
        for operation, request in going:
            answer = request.end()
            if answer.status != 200:
                worked = False
            elif self.check(life, answer.value, sent):
                life.acknowledged[operation] = request.moment
        return worked

    def check(self, life: Life, value: Shown | None, sent: Mapping[int, Moment]) -> bool:
        """Compare what an answer shows with what was acknowledged before it was asked for."""
        tally = self.run_.tally
        if value is None:
            tally.lost += life.acknowledged.values()
            life.acknowledged.clear()
            self.life = None
            return False
        who, number, done, _ = value
        if (who, number) != (self.who, life.number):
            tally.foreign += 1
            return False
        tally.twice += len(done) - len(set(done))
        for operation in sent.keys() - set(done):
            if operation in life.acknowledged:
                tally.lost.append(life.acknowledged.pop(operation))
        return True

    def finish(self) -> None:
        """When all is over: look at every server whether all is there, and the ended are ended."""
        for name in self.run_.names:
            if self.life is not None and not self.life.leaving:
                answer = self.run_.ask(name, self.life.browser, shown)
                if answer.status == 200:
                    self.check(self.life, answer.value, dict(self.life.acknowledged))
        for old, when in self.ended:
            self.try_again(old, when)


class Request:
    """One on its way, timed as its client sees it."""

    def __init__(self, run: Run, server: str, begin: Callable[[], Running]) -> None:
        self._run, self._server = run, server
        self._begun = self._ended = time.monotonic()
        self._running = begin()
        self._running.end.add_done_callback(self._note)

    def _note(self, _: object) -> None:
        self._ended = time.monotonic()

    @property
    def moment(self) -> Moment:
        return self._begun, self._ended

    def end(self) -> Answer:
        answer = self._running.end.result(LIMIT)
        if self._ended == self._begun:  # whoever waits may be woken before the callback has run
            self._ended = time.monotonic()
        self._running.browser.take(answer)
        self._run.count(self._server, answer, self._begun, self._ended - self._begun)
        return answer


class Run:
    """Servers, clients and what they count, while something happens."""

    def __init__(
        self, servers: Mapping[str, Server], clients: int = 6, pause: float = 0.02
    ) -> None:
        self.servers = servers
        self.names = list(servers)
        self.pause = pause
        self.tally = Tally()
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._clients = [Client(self, number) for number in range(clients)]

    def go(self, happen: Callable[[Span], object]) -> Tally:
        """Let it happen in the middle of it all; return what was counted."""
        tally = self.tally
        for client in self._clients:
            client.start()
        try:
            self._wait(lambda: all(client.rounds >= 3 for client in self._clients))
            happen(tally.span)
            tally.span.over = tally.span.over or time.monotonic()
            seen = [client.rounds for client in self._clients]
            self._wait(
                lambda: (
                    len(tally.recovery) == len(self.names)
                    and all(
                        client.rounds > before + 1
                        for client, before in zip(self._clients, seen, strict=True)
                    )
                )
            )
        finally:
            self.done.set()
            for client in self._clients:
                client.join(LIMIT)
        for client in self._clients:
            client.finish()
        return tally

    def _wait(self, holds: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT
        while not holds():
            assert not self.tally.wrong, self.tally.wrong
            assert time.monotonic() < limit, f"it never came to that: {self.tally}"
            time.sleep(0.005)

    def begin(self, name: str, browser: Browser, application: Application) -> Request:
        return Request(self, name, lambda: self.servers[name].begin(browser, application))

    def ask(self, name: str, browser: Browser, application: Application) -> Answer:
        return self.begin(name, browser, application).end()

    def count(self, name: str, answer: Answer, begun: float, seconds: float) -> None:
        tally, over = self.tally, self.tally.span.over
        with self._lock:
            tally.requests += 1
            tally.longest = max(tally.longest, seconds)
            if answer.status == 503:
                tally.unavailable += 1
                tally.late += bool(over and begun > over)
            elif answer.status != 200 or answer.error is not None:
                tally.other += 1
                tally.wrong.append(answer)
            elif over and begun > over and name not in tally.recovery:
                tally.recovery[name] = begun + seconds - over
