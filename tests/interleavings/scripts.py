"""Random scripts: requests of one browser, each a few steps, in any order, with faults.

A `Case` says everything about a run: what the store holds at first, what each request does, which
of its store calls fails and how, what the clock does, and the order in which all of them take
their steps. So a run can be repeated, and made smaller while it still breaks a guarantee. Each
store call is a step; between two steps any other request may take one. The judge looks on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import islice
from typing import Any

from sharedsession import StoreUnavailable
from sharedsession._core.cookie import Cookie, new_id, store_key
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import TOMBSTONE_KEPT, committing, opening, reloading
from sharedsession._core.manager import Manager, Process
from sharedsession._core.session import Session
from sharedsession._core.settings import gather
from sharedsession._core.steps import Flow, Pause
from sharedsession.exceptions import SessionError, StoreFull, TooLarge
from sharedsession.stores.base import Entry, fate_of
from sharedsession.stores.memory import MemoryStore

from .effects import TOKEN, Done, Function, Refused, owner
from .judge import Judge
from .ledger import Issued, Ledger, Violation

IDLE = 1000
ABSOLUTE = 2500
START = 1_000_000.0
ROOM = 260  # bytes of a record that a small store takes

Step = tuple[Any, ...]  # a name and its arguments


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


class Store(MemoryStore):
    """A memory store that repeats a command when it is told to: with the token that it had."""

    token: bytes | None = None

    def _new_token(self) -> bytes:
        return super()._new_token() if self.token is None else self.token


# --- a case ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """What one request does. ``late``: by background tasks, once the headers have left."""

    steps: tuple[Step, ...] = ()
    late: tuple[Step, ...] = ()
    beside: tuple[Step, ...] = ()  # by another task, while the response's commit is under way
    second: str = ""  # a cookie shown after (or, "first …", before) the browser's own
    server: str = ""
    faults: tuple[tuple[int, str], ...] = ()  # which of its store calls fails, and how

    def __str__(self) -> str:
        words = [" ".join(map(str, each)) for each in self.steps]
        more = (f"{each.name}: {getattr(self, each.name)}" for each in fields(self)[1:])
        return "; ".join([*words, *(each for each in more if not each.endswith((": ()", ": ")))])


@dataclass(frozen=True)
class Case:
    initial: str = "anonymous"
    scripts: tuple[Script, ...] = ()
    clock: tuple[int, ...] = ()  # by how many seconds it is moved, at some moment
    absolute: bool = False
    full: bool = False  # the store is full from some moment to some moment
    small: bool = False  # the store refuses what is too large
    at_once: bool = False  # every request has left the browser before the first step
    held_back: bool = False  # answers arrive in any order
    order: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = [f"{each.name}: {getattr(self, each.name)}" for each in fields(self)]
        lines[1:2] = [f"  {number}: {each}" for number, each in enumerate(self.scripts, 1)]
        return "\n".join(line for line in lines if not line.endswith((": ()", "False")))


INITIAL = {
    "anonymous": {},
    "signed in": {"user_id": "A"},
    "signed in under a name": {"username": "A", "logged_in": True},
    "signed in by Flask-Login": {"_user_id": "A"},
    "signed out": {},
    "none": {},
}
SECOND = ("unknown", "ended", "alive", "first unknown", "first ended", "first alive")
FAULTS = ("refused", "lost", "late", "cancelled", "cancelled when done", "cancelled, late", "again")
WHO = ("A", "B", "C")
PLAIN: tuple[tuple[int, Step], ...] = (
    (5, ("own",)),
    (3, ("shared", "x")),
    (2, ("shared", "y")),
    (2, ("remove", "x")),
    (1, ("remove", "_fresh")),
    (1, ("same",)),
    (2, ("nested own",)),
    (2, ("nested",)),
    (1, ("read",)),
    (1, ("permanent",)),
    (5, ("mutate", "add")),
    (3, ("mutate", "limit")),
    (1, ("mutate", "refuse")),
    (1, ("mutate", "needs")),
    (1, ("mutate", "renew")),
    (1, ("mutate", "mark_authenticated")),
    (1, ("mutate", "destroy")),
)
ENDS: tuple[tuple[int, Step], ...] = (
    (2, ("renew",)),
    (1, ("mark_authenticated",)),
    (2, ("destroy",)),
    (1, ("clear",)),
    (2, ("refill",)),
    (2, ("refill", "user_id", "A")),
    (1, ("replaced",)),
    (1, ("replaced", "user_id", "B")),
    (1, ("empty",)),
    (1, ("sign out", "user_id")),
    (1, ("sign out", "_user_id")),
    (1, ("sign out", "username")),
    (1, ("sign out", "user")),
    (1, ("logged out",)),
    *((2, ("sign in", "user_id", who)) for who in WHO),
    *((1, ("sign in", "_user_id", who)) for who in WHO),
    *((1, ("sign in", "username", who)) for who in WHO),
    *((1, ("user", who)) for who in WHO),
    (1, ("logged in",)),
)
COMMITS: tuple[tuple[int, Step], ...] = (
    (4, ("commit", "")),
    (3, ("commit", "add")),
    (2, ("commit", TOKEN)),
    (2, ("commit", "limit")),
    (1, ("commit", "refuse")),
    (1, ("commit", "needs")),
    (2, ("reload",)),
)
BESIDE = PLAIN[:9] + PLAIN[10:12]
SECONDS = (1, 8, 11, 150, 350, IDLE + 1, ABSOLUTE - 400)


def make(seed: int) -> Case:
    """Return the case of this number."""
    rng = random.Random(seed)

    def chance(share: float) -> bool:
        return rng.random() < share

    def one_of(weighted: Sequence[tuple[int, Step]]) -> Step:
        return rng.choices([each for _, each in weighted], [weight for weight, _ in weighted])[0]

    def step() -> Step:
        kind = rng.random()
        if kind < 0.45:
            return one_of(PLAIN)
        if kind < 0.7:
            return one_of(ENDS)
        chosen = one_of(COMMITS)
        if chosen[0] == "commit" and chance(0.25):
            return (*chosen, rng.randint(1, 3), one_of(BESIDE))
        return chosen

    def steps() -> Iterator[Step]:
        for _ in range(rng.randint(1, 5)):
            yield (chosen := step())
            if chosen[0] == "commit" and troubled and chance(0.3):
                yield ("reload",)
        if full and chance(0.4):
            yield ("destroy",)

    troubled, mixed, two, full = chance(0.5), chance(0.08), chance(0.15), chance(0.12)

    def script() -> Script:
        faults = [(rng.randint(2, 7), rng.choice(FAULTS))] if troubled and chance(0.5) else []
        if faults and chance(0.3):
            faults.append((rng.randint(2, 9), rng.choice(FAULTS)))
        return Script(
            tuple(islice(steps(), 5)),
            (one_of(BESIDE),) if chance(0.08) else (),
            (one_of(BESIDE),) if chance(0.08) else (),
            rng.choice(SECOND) if two and chance(0.6) else "",
            "other" if mixed and chance(0.5) else "",
            tuple(faults),
        )

    return Case(
        rng.choices(list(INITIAL), [5, 4, 2, 2, 3, 1])[0],
        tuple(script() for _ in range(rng.choice((2, 2, 2, 3, 3, 4)))),
        tuple(rng.choice(SECONDS) for _ in range(rng.randint(1, 2))) if chance(0.25) else (),
        chance(0.3),
        full,
        chance(0.05),
        chance(0.6),
        chance(0.3),
        tuple(rng.randrange(12) for _ in range(90)),
    )


# --- a run ----------------------------------------------------------------------------------------

CLOCK = Clock()  # of the run at hand


@cache
def manager(absolute: bool, server: str = "") -> Manager:
    given: dict[str, Any] = {"secret_key": "secret", "store": "memory://", "max_age": IDLE}
    if absolute:
        given["absolute_timeout"] = ABSOLUTE
    if server:
        given["owner_key"] = ["account"]
    return Manager(gather(given, environ={}), process=Process(CLOCK))


@dataclass(frozen=True)
class Stored:
    """A session as it was left by an earlier request, to begin with."""

    cookie: Cookie
    entry: Entry | None
    last_owner: str | None


@cache
def stored(kind: str, absolute: bool) -> Stored:
    """Let the core itself make a session, once for all runs."""
    CLOCK.now = START
    store, cookies = MemoryStore(clock=CLOCK), []
    data = {"base": 1, "x": "0.1", "cart": ["0.2"], "list0": ["0.3"], "n": 0, "_fresh": True}
    data |= {TOKEN: kind} | INITIAL.get(kind, {})
    if kind in ("signed out", "ended"):
        data["user_id"] = "A"
    changes: list[Callable[[Session], Any]] = [lambda session: session.update(data)]
    if kind == "signed out":
        changes.append(lambda session: session.pop("user_id"))
    if kind == "ended":
        changes.append(lambda session: session.destroy())
    for change in changes:
        exchange = Exchange(manager(absolute), cookies)
        _drive(opening(exchange), store)
        exchange.fill(exchange.session)
        change(exchange.session)
        _drive(exchange.respond(200, ()), store)
        cookies = cookies if exchange.reply is None else [exchange.reply]
    entry = store.load(store_key(cookies[0].id, ""))
    return Stored(cookies[0], entry, owner(data, ("user_id", "_user_id")))


def _drive(flow: Any, store: MemoryStore) -> None:
    answer = None
    try:
        while flow is not None:
            step = flow.send(answer)
            answer = None if isinstance(step, Pause) else step.on(store)
    except StopIteration:
        pass


def finishing(exchange: Exchange) -> Flow[None]:
    """End the request."""
    yield from exchange.finish() or ()


def answering(exchange: Exchange) -> Flow[None]:
    """Answer 200; what is answered in its place is raised."""
    if (yield from exchange.respond(200, ()) or ()) is not None:
        assert exchange.cause is not None
        raise exchange.cause


class Cancelled(Exception):
    """The application's own timeout has passed, while a flow was waiting for the store."""


@dataclass(eq=False)
class Request:
    number: int
    script: Script
    exchange: Any = None
    session: Any = None
    ledger: Any = None
    calls: int = 0
    made: int = 0

    def mark(self) -> str:
        """Return a value that nobody else sets."""
        self.made += 1
        return f"{self.number}.{self.made}"


class Run:
    """One case, run once. ``notes``: what happened, for a reader."""

    def __init__(
        self,
        case: Case,
        *,
        store_class: type[Store] = Store,
        notes: list[str] | None = None,
    ) -> None:
        self.case = case
        self.notes = notes
        CLOCK.now = START
        self.store = store_class(clock=CLOCK)
        self.full = False
        self.jar: Cookie | None = None
        self.begun: set[str] = set()  # the sessions that earlier requests have left
        mixed = any(each.server for each in case.scripts)
        self.judge = Judge(
            CLOCK,
            self.store.load,
            idle=IDLE,
            absolute=ABSOLUTE if case.absolute else None,
            mixed=mixed,
        )
        if case.initial != "none":
            self.jar = self._begin_with(case.initial)
        self.requests = [Request(number, each) for number, each in enumerate(case.scripts, 1)]
        self.running: list[tuple[str, Generator[None, None, None]]] = []

    def _begin_with(self, kind: str) -> Cookie:
        found = stored(kind, self.case.absolute)
        key = store_key(found.cookie.id, "")
        if found.entry is not None and key not in self.begun:
            self.begun.add(key)
            entry = self.store.create(key, found.entry.data, IDLE)
            assert entry is not None
            self.judge.begin_with(key, entry, found.last_owner)
        return found.cookie

    def go(self) -> None:
        for request in self.requests:
            self._start(f"request {request.number}", self._serve(request))
        for seconds in self.case.clock:
            self._start("clock", self._move(seconds))
        if self.case.full:
            self._start("full", self._fill())
        if self.case.at_once:
            for _, each in self.running[: len(self.requests)]:
                next(each)
        order = iter(self.case.order)
        while self.running:
            choice = next(order, 0) % len(self.running)
            try:
                next(self.running[choice][1])
            except StopIteration:
                del self.running[choice]
        self.judge.at_rest()

    def _start(self, name: str, process: Generator[None, None, None]) -> None:
        next(process)
        self.running.append((name, process))

    def _note(self, text: str) -> None:
        if self.notes is not None:
            self.notes.append(text)

    def _move(self, seconds: int) -> Generator[None, None, None]:
        yield
        self._note(f"{seconds} s pass")
        CLOCK.now += seconds

    def _fill(self) -> Generator[None, None, None]:
        yield
        self._note("the store is full")
        self.full = True
        yield
        yield
        self._note("the store has room")
        self.full = False

    # --- one request ---

    def _serve(self, request: Request) -> Generator[None, None, None]:
        yield
        script, settings = request.script, manager(self.case.absolute, request.script.server)
        exchange = request.exchange = Exchange(settings, self._cookies(request))
        names = getattr(settings.settings, "sign_in_names", ())
        ledger = Ledger(request.number, exchange.cookies, settings.settings.owner_key, tuple(names))
        request.ledger = ledger
        if self.case.at_once:
            yield
        request.session = exchange.session
        if (yield from self._flow(request, "opening", opening(exchange))) is not None:
            return  # 503
        exchange.fill(exchange.session)
        for step in script.steps:
            yield from self._step(request, step)
        error = yield from self._flow(
            request, "response", answering(exchange), beside=[(1, each) for each in script.beside]
        )
        if isinstance(error, Cancelled):
            return
        self._note(f"request {request.number} answers {exchange.reply}, removal {exchange.removed}")
        self.judge.answered(ledger, exchange, error)
        answer, removed = exchange.reply, exchange.removed
        if error is None:
            if self.case.held_back:
                yield
            if answer is not None:
                self.jar = answer
            elif removed:
                self.jar = None
            if script.late or script.beside:
                for step in script.late:
                    self._plain(request, step)
                yield from self._flow(request, "late", finishing(exchange))

    def _cookies(self, request: Request) -> list[Cookie]:
        cookies = [] if self.jar is None else [self.jar]
        second = request.script.second.removeprefix("first ")
        if second:
            shown = Cookie(_UNKNOWN, 0, int(START))
            if second != "unknown":
                shown = self._begin_with(second)
            place = 0 if request.script.second.startswith("first") else len(cookies)
            cookies.insert(place, shown)
        return cookies

    def _step(self, request: Request, step: Step) -> Generator[None, None, None]:
        if step[0] == "commit":
            function = Function(step[1], request.mark()) if step[1] else None
            if function is not None:
                request.ledger.note(Done("call", function=function))
            flow = committing(request.exchange, function)
            yield from self._flow(request, "commit", flow, function, [step[2:]] if step[2:] else ())
        elif step[0] == "reload":
            yield from self._flow(request, "reload", reloading(request.exchange))
        else:
            self._plain(request, step)

    def _flow(
        self,
        request: Request,
        kind: str,
        flow: Any,
        function: Function | None = None,
        beside: Sequence[Any] = (),
    ) -> Generator[None, None, BaseException | None]:
        """Run a flow, as an adapter does, and return what it raised."""
        ledger, waiting = request.ledger, list(beside)
        error: BaseException | None = None
        result = None
        self._note(f"request {request.number} {kind} {function or ''}: {ledger.done}")
        self.judge.begin(ledger, kind)
        counts = request.exchange.manager.counts
        calls, answer, failure, gone = 0, None, None, counts["gone"]
        try:
            while True:
                step = flow.throw(failure) if failure else flow.send(answer)
                answer = failure = None
                if isinstance(step, Pause):
                    continue
                verb, arguments = type(step).__name__.lower(), list(step)
                yield
                calls += 1
                if waiting and waiting[0][0] <= calls:
                    self._plain(request, waiting.pop(0)[1])
                answer, failure = yield from self._call(request, verb, arguments)
                if isinstance(failure, Cancelled):
                    flow.close()
                    raise failure
        except StopIteration as stop:
            result = stop.value
        except (SessionError, Refused, Cancelled) as raised:
            error = raised
        self._note(f"request {request.number} {kind}: {error!r} {result!r}")
        handle = request.exchange.handle
        # What a flow that failed has dropped was counted then.
        earlier = ledger.ever_in_trouble and ledger.counted
        ledger.counted = earlier or counts["gone"] > gone
        if not isinstance(error, Cancelled):
            self.judge.end(ledger, error, request.session, handle, function, result)
        else:
            self.judge.cancelled(ledger, function, handle)
        for _, step in waiting:
            self._plain(request, step)
        return error

    def _call(
        self, request: Request, verb: str, arguments: list[Any]
    ) -> Generator[None, None, tuple[Any, Exception | None]]:
        """Make a store call, or let it fail; return its answer and its failure."""
        request.calls += 1
        ledger, judge = request.ledger, self.judge
        fault = dict(request.script.faults).get(request.calls)
        if verb in ("create", "replace"):
            data = arguments[1] if verb == "create" else arguments[2]
            if self.full or (self.case.small and len(data) > ROOM):
                self._note(f"    {verb} {arguments[0][:6]} refused: no room")
                judge.refused(ledger)
                failure = StoreFull("full") if self.full else TooLarge("too large", len(data), ROOM)
                return None, failure
        issued = judge.issue(ledger)
        if verb == "load":
            fault = {"again": None, "lost": "refused", "late": "refused"}.get(fault or "", fault)
        if fault == "again" and verb not in ("create", "replace"):
            fault = None  # these have no token to know their own repetition by
        failure = None if fault in (None, "again") else self._failure(fault)
        if failure is not None and fault.endswith("late"):
            self._start(f"late {verb}", self._arrive(issued, verb, arguments))
        answer = None
        if fault in (None, "lost", "cancelled when done"):
            answer = self._reach(issued, verb, arguments)
        elif fault == "again":
            self.store.token = token = MemoryStore._new_token(self.store)
            answer, sent = self._reach(issued, verb, arguments), CLOCK.now
            self.store.token = None
            yield
            if CLOCK.now == sent:  # a store repeats a command at once
                self.store.token = token
                answer = self._reach(issued, verb, arguments)
                self.store.token = None
                if answer is None and self._is_unknown(verb, arguments, token):
                    failure, fault = self._failure("lost"), "lost"
        if failure is not None:
            self._note(f"    {verb} {arguments[0][:6]} {fault}")
            judge.faulted(ledger, verb, arguments)
        return answer, failure

    def _is_unknown(self, verb: str, arguments: list[Any], token: bytes) -> bool:
        """Whether others have written so often that a repetition does not know itself."""
        current = self.store.load(arguments[0])
        compared = arguments[1].token if verb == "replace" else b""
        if current is None:
            return False
        return fate_of(current.token, token, compared, repeated=True) == "unknown"

    def _failure(self, fault: str) -> Exception:
        return Cancelled() if fault.startswith("cancelled") else StoreUnavailable(fault)

    def _reach(self, issued: Issued, verb: str, arguments: list[Any]) -> Any:
        key = arguments[0]
        if verb == "load":
            answer = before = after = self.store.load(*arguments)
        else:
            before = self.store.load(key)
            answer = getattr(self.store, verb)(*arguments)
            after = self.store.load(key)
        self._note(
            f"    request {issued.ledger.number} {verb} {key[:6]}: "
            + ("nothing" if not answer else self.judge.describe(after))
        )
        self.judge.called(issued, verb, key, before, after)
        return answer

    def _arrive(
        self, issued: Issued, verb: str, arguments: list[Any]
    ) -> Generator[None, None, None]:
        sent = CLOCK.now
        yield
        if CLOCK.now - sent >= TOMBSTONE_KEPT:  # no network holds a command back for so long
            return
        self._note(f"    a late {verb} arrives")
        self._reach(replace(issued, late=True), verb, arguments)

    # --- what a step does, and what the judge is told of it ---

    def _plain(self, request: Request, step: Step) -> None:
        name, *arguments = step
        session, note = request.session, request.ledger.note
        match name:
            case "own":
                self._assign(request, f"own{request.number}", request.mark())
            case "shared":
                self._assign(request, arguments[0], request.mark())
            case "remove":
                self._remove(request, arguments[0])
            case "same":
                if "_fresh" in session:
                    self._assign(request, "_fresh", session["_fresh"])
            case "nested own":
                self._append(request, f"list{request.number}")
            case "nested":
                self._append(request, "cart")
            case "read":
                session.get("x")
            case "permanent":
                what = "same" if session.get("_permanent") is True else "assign"
                session.permanent = True
                note(Done(what, "_permanent", True))
            case "mutate":
                function = Function(arguments[0], request.mark())
                try:
                    session.mutate(function)
                except Refused:
                    return
                note(Done("call", function=function))
            case "renew" | "mark_authenticated":
                getattr(session, name)()
                note(Done(name))
            case "destroy" | "clear":
                getattr(session, name)()
                note(Done("reset", name))
            case "refill":
                session.clear()
                note(Done("reset", "clear"))
                self._refill(request, arguments)
            case "replaced":
                data = {f"own{request.number}": request.mark()}
                data |= dict([arguments] if arguments else [])
                request.exchange.replaced_by(data)
                note(Done("reset", "dict"))
                for key, value in data.items():
                    note(Done("assign", key, value))
            case "empty":
                for key in list(session):
                    self._remove(request, key)
            case "sign in":
                self._assign(request, *arguments)
            case "user":
                self._assign(request, "user", {"id": arguments[0], "name": request.mark()})
            case "logged in":
                self._assign(request, "logged_in", True)
            case "logged out":
                self._assign(request, "logged_in", False)
            case "sign out":
                self._remove(request, arguments[0])

    def _refill(self, request: Request, arguments: list[Any]) -> None:
        self._assign(request, f"own{request.number}", request.mark())
        if arguments:
            self._assign(request, *arguments)

    def _assign(self, request: Request, key: str, value: Any) -> None:
        session = request.session
        same = key in session and session[key] == value
        session[key] = value
        request.ledger.note(Done("same" if same else "assign", key, value))

    def _append(self, request: Request, key: str) -> None:
        session = request.session
        what = "change" if key in session else "assign"
        if what == "change":
            session[key].append(request.mark())
        else:
            session[key] = [request.mark()]
        request.ledger.note(Done(what, key, list(session[key])))

    def _remove(self, request: Request, key: str) -> None:
        if request.session.pop(key, None) is not None:
            request.ledger.note(Done("remove", key))


_UNKNOWN = new_id()


# --- many runs, and a smaller one -----------------------------------------------------------------


def violation_of(case: Case, **more: Any) -> Violation | None:
    """Run a case; return the guarantee that it broke, if any."""
    try:
        Run(case, **more).go()
    except Violation as violation:
        return violation
    return None


def explain(case: Case, seed: int | None = None, **more: Any) -> str:
    """Say what a case does, and in which order, up to the guarantee that it breaks."""
    notes: list[str] = []
    violation = violation_of(case, notes=notes, **more)
    begin = "" if seed is None else f"seed {seed}\n"
    return "\n".join([f"{begin}{violation}", str(case), *notes])


def shrink(case: Case, **more: Any) -> Case:
    """Leave out what a case does not need to break the same guarantee."""
    first = violation_of(case, **more)
    assert first is not None
    again = True
    while again:
        again = False
        for smaller in _smaller(case):
            found = violation_of(smaller, **more)
            if found is not None and found.rule == first.rule:
                case, again = smaller, True
                break
    return case


def _smaller(case: Case) -> Generator[Case, None, None]:
    for place, script in enumerate(case.scripts):
        before, after = case.scripts[:place], case.scripts[place + 1 :]
        if len(case.scripts) > 1:
            yield replace(case, scripts=before + after)
        for name in ("steps", "late", "beside", "faults"):
            held = getattr(script, name)
            for index, each in enumerate(held):
                fewer = replace(script, **{name: held[:index] + held[index + 1 :]})
                yield replace(case, scripts=(*before, fewer, *after))
                if name == "steps" and each[0] == "commit" and each[2:]:
                    alone = replace(script, steps=(*held[:index], each[:2], *held[index + 1 :]))
                    yield replace(case, scripts=(*before, alone, *after))
        for name in ("second", "server"):
            if getattr(script, name):
                yield replace(case, scripts=(*before, replace(script, **{name: ""}), *after))
    for index in range(len(case.clock)):
        yield replace(case, clock=case.clock[:index] + case.clock[index + 1 :])
    for name in ("absolute", "full", "small", "held_back"):
        if getattr(case, name):
            yield replace(case, **{name: False})
    if case.initial != "anonymous":
        yield replace(case, initial="anonymous")
    for length in (0, len(case.order) // 2, len(case.order) - 1):
        if 0 <= length < len(case.order):
            yield replace(case, order=case.order[:length])
    for index, choice in enumerate(case.order):
        if choice:
            yield replace(case, order=(*case.order[:index], 0, *case.order[index + 1 :]))
