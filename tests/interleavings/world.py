"""A world of one store, one clock and one browser, in which requests are stepped by hand.

Every store call of every request is one step; between two steps any other request may take one.
`explore` runs a scenario through all orders. With ``copies``, a load that says which version is new
enough may be answered, in the store's place, by whatever state of that version or a newer one has
ever been stored: what a near cache on another server may hold, and a lease does not rule out. After
each step the world compares the store with a model of its own, which knows nothing of versions,
records or merging: a *lineage* is what a user calls "my session", a dict that goes on under a new
key when it is renewed. A violation is an AssertionError that begins with the guarantee's number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from sharedsession import SessionGone, StoreUnavailable
from sharedsession._core.cookie import Cookie, new_id, store_key
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import closing, committing, opening
from sharedsession._core.manager import Manager, Process
from sharedsession._core.record import Record, Tombstone, decode_record, encode_data, encode_record
from sharedsession._core.session import Session
from sharedsession._core.settings import gather
from sharedsession._core.steps import Pause
from sharedsession.stores.base import FRESHEST, Entry
from sharedsession.stores.memory import MemoryStore

RUNS = Counter[str]()
IDLE = 1000
START = 1_000_000.0
MOST_COPIES = 2  # that answer one request: a loop that asks copies only would never end
INITIAL: dict[str, Any] = {"a": 1, "b": 2, "cart": [0], "n": 0}

Effect = Callable[[dict[str, Any], "Request"], None]


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Kind:
    """What a request does, and what that means to the model, said independently."""

    name: str
    application: Callable[[Session, Request], Any]
    effect: Effect = lambda model, request: None
    signs_in: bool = False
    ends: bool = False


@dataclass
class Lineage:
    data: dict[str, Any]
    key: str | None  # None: it has ended
    owner: Any = None  # whose the data are, signed in or not

    def __post_init__(self) -> None:
        self.owner = self.data.get("user_id")

    def apply(self, request: Request) -> None:
        """What a request does; the data of a former user stay behind."""
        request.kind.effect(self.data, request)
        owner = self.data.get("user_id")
        if None not in (owner, self.owner) and owner != self.owner:
            self.data.clear()
            request.kind.effect(self.data, request)
        self.owner = self.owner if owner is None else owner


@dataclass
class Request:
    number: int
    kind: Kind
    exchange: Exchange | None = None
    session: Session | None = None
    loaded: dict[str, Any] = field(default_factory=dict)
    cookie_sent: Cookie | None = None
    done: bool = False
    outage: bool = False
    gone: bool = False
    answer: Cookie | None = None
    removed: bool = False
    ended_at: int = 0
    writes: int = 0
    counted: bool = False  # its effect is in the model
    lineage: Lineage | None = None  # that its answer handed out
    committed: bool = False  # its commit() is in the model
    copies: int = 0  # that answered one of its loads
    created: list[str] = field(default_factory=list)
    private: set[str] = field(default_factory=set)  # of these, the ones that nobody can know yet


@dataclass(frozen=True)
class Fault:
    """What happens to the n-th write (from 1) of a request."""

    request: int
    write: int
    what: str  # "repeated", "unknown" (done, nobody knows), "refused" (not done, nobody knows)


class World:
    def __init__(
        self,
        kinds: Sequence[Kind],
        *,
        fault: Fault | None = None,
        initial: dict[str, Any] | None = None,
        cookie_age: float = 0,
        store_class: type[MemoryStore] = MemoryStore,
        repeat: bool = False,  # every request hands out its cookie again, as Flask's may
        copies: bool = False,
    ) -> None:
        self.repeat = repeat
        self.choose: Callable[[int], int] = lambda number: 0
        self.states: dict[str, list[Entry]] | None = {} if copies else None  # as they were stored
        self.clock = Clock()
        self.store = store_class(clock=self.clock)
        self.manager = _manager(self.clock)
        self.fault = fault
        data = dict(INITIAL if initial is None else initial)
        cookie = Cookie(new_id(), 1, int(START))
        key = store_key(cookie.id, "")
        record = Record(START, None, None, None, encode_data(data))
        entry = self.store.create(key, encode_record(record), IDLE)
        assert entry is not None
        if self.states is not None:
            self.states[key] = [entry]
        self.clock.now += cookie_age
        self.first = cookie
        self.jar: Cookie | None = cookie
        self.lineages = [Lineage(data, key)]
        self.dead: set[str] = set()
        self.issued: set[str] = {key}
        self.steps = 0
        self.requests = [Request(number, kind) for number, kind in enumerate(kinds, 1)]
        self.running = [self._serve(request) for request in self.requests]

    # --- one request, as an adapter would serve it ---

    def _serve(self, request: Request) -> Generator[None, None, None]:
        yield
        if request.kind is EXPIRE:
            yield
            self.clock.now += IDLE + 1
            for lineage in self.lineages:
                if lineage.key is not None and self.store.load(lineage.key) is None:
                    lineage.key = None
            return
        request.cookie_sent = self.jar
        exchange = request.exchange = Exchange(self.manager, [self.jar] if self.jar else [])
        session = request.session = exchange.session
        yield from self._steps(request, opening(exchange))
        request.loaded = _copy(exchange.found or {})
        exchange.fill(session)
        if self.repeat:
            yield  # the application takes its time; without a write nothing else would show it
        try:
            steps = request.kind.application(session, request)
            if steps is not None:
                yield from self._steps(request, steps)
            yield from self._steps(request, closing(exchange, late=False, repeat=self.repeat))
        except StoreUnavailable:
            request.outage = True
            return
        except SessionGone:
            request.gone = True
            return
        request.gone = exchange.entry is None and exchange.ended
        if not (request.gone or request.counted or request.created):
            was = self.lineages[0].data if self.lineages[0].key else request.loaded
            model = _copy(was)
            request.kind.effect(model, request)
            assert model == was, f"G2 {request.kind.name} was lost in silence"
        request.answer, request.removed = exchange.reply, exchange.removed
        if request.answer is not None:
            key = store_key(request.answer.id, "")
            self.issued.add(key)
            known = any(lineage.key == key for lineage in self.lineages)
            if not known and key in request.created and self.store.load(key) is not None:
                data = decode_record(self._entry(key).data)[1]
                self.lineages.append(Lineage(data, key))
                expected: dict[str, Any] = {}
                request.kind.effect(expected, request)
                assert data == expected, f"G5 a second session of {data}, not only {expected}"
        if request.answer is not None:
            key = store_key(request.answer.id, "")
            request.lineage = next((each for each in self.lineages if each.key == key), None)
            self.jar = request.answer
        elif request.removed:
            self.jar = None

    def _steps(self, request: Request, flow: Any) -> Generator[None, None, Any]:
        alone = False
        try:
            step = flow.send(None)
            while True:
                if isinstance(step, Pause):
                    step = flow.send(None)
                    continue
                verb, arguments = type(step).__name__.lower(), list(step)
                # What happens under a key that nobody else knows yet commutes with every step of
                # the others: no order is lost when it is taken together with the step before.
                alone = verb == "create" or arguments[0] in request.private
                if not alone:
                    yield
                try:
                    answer = yield from self._call(request, verb, arguments)
                except StoreUnavailable as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as result:
            if alone:
                yield  # the answer leaves later
            return result.value
        finally:
            flow.close()

    def _call(
        self, request: Request, verb: str, arguments: list[Any]
    ) -> Generator[None, None, Any]:
        self.steps += 1
        call = getattr(self.store, verb)
        if verb == "load":
            return self._copy(request, *arguments) or call(*arguments)
        request.writes += 1
        fault = self.fault
        what = (
            fault.what
            if fault and (fault.request, fault.write) == (request.number, request.writes)
            else None
        )
        if what == "refused":
            raise StoreUnavailable("refused")
        token = self.store._new_token()
        self.store._new_token = lambda: token  # type: ignore[method-assign]
        key = arguments[0]
        before = self.store.load(key)
        answer = call(*arguments)
        del self.store._new_token  # type: ignore[method-assign]
        self._observe(request, key, before)
        if what == "unknown":
            raise StoreUnavailable("the answer was lost")
        if what == "repeated":
            yield  # others take their steps before the store repeats the command
            self.store._new_token = lambda: token  # type: ignore[method-assign]
            before = self.store.load(key)
            answer = call(*arguments)
            del self.store._new_token  # type: ignore[method-assign]
            self._observe(request, key, before)
        return answer

    def _copy(self, request: Request, key: str, at_least: int) -> Entry | None:
        """Return what a copy may answer; None: the store itself does."""
        if self.states is None or at_least >= FRESHEST or request.copies == MOST_COPIES:
            return None
        states = [each for each in self.states.get(key, []) if each.version >= at_least]
        choice = self.choose(1 + len(states)) if states else 0
        if not choice:
            return None
        request.copies += 1
        RUNS["copies"] += 1
        return states[choice - 1]

    # --- the model ---

    def _entry(self, key: str) -> Any:
        entry = self.store.load(key)
        assert entry is not None, "G1 a session that was handed out is not there"
        return entry

    def _observe(self, request: Request, key: str, before: Any) -> None:
        """Compare what a write did with what it should mean."""
        after = self.store.load(key)
        if before is not None and after is not None and before.data == after.data:
            return
        if self.states is not None and after is not None:
            self.states.setdefault(key, []).append(after)
        lineage = next((each for each in self.lineages if each.key == key), None)
        if before is None and after is not None:
            assert key not in self.dead, "G3 a dead session came back"
            request.created.append(key)
            request.private.add(key)
            return
        if lineage is None:
            assert key not in self.dead or _is_mark(after), "G3 a dead session came back"
            return
        if after is None:  # deleted outright, as the controls do: an end or a renewal without mark
            self.dead.add(key)
            lineage.key = request.created[-1] if request.created else None
            if lineage.key is not None:
                lineage.apply(request)
                data = decode_record(self._entry(lineage.key).data)[1]
                assert data == lineage.data, f"G2 went on as {data}, expected {lineage.data}"
            return
        record, data = decode_record(after.data)
        if isinstance(record, Tombstone):
            self.dead.add(key)
            request.private.discard(record.successor or "")
            if record.successor is None:
                if not request.kind.ends:  # emptied key by key: nobody else's write may be lost
                    model = _copy(lineage.data)
                    request.kind.effect(model, request)
                    assert model == {}, f"G2 ended although {model} was left"
                lineage.key = None
                request.counted = True
                return
            lineage.key = record.successor
            data = decode_record(self._entry(record.successor).data)[1]
        if request.kind.name == "renew, commit, renew" and request.committed:
            pass  # its one change is in the model already
        else:
            lineage.apply(request)
            request.committed = True
        assert data == lineage.data, f"G2 stored {data}, expected {lineage.data}"
        request.counted = True

    def check_each_step(self) -> None:
        for key in self.dead:
            entry = self.store.load(key)
            assert entry is None or _is_mark(entry), "G3 a dead session is alive"

    def check_at_rest(self) -> None:
        """After the last answer: what the client finds, whatever order the answers took."""
        live = [
            key
            for key in list(self.store._entries)
            if (entry := self.store.load(key)) is not None and not _is_mark(entry)
        ]
        sign_ins = sum(request.kind.signs_in for request in self.requests)
        creations = sum(
            1
            for request in self.requests
            if request.answer is not None
            and not request.kind.signs_in
            and store_key(request.answer.id, "") in request.created
        )
        reachable = [key for key in live if key in self.issued]
        expired = any(request.kind is EXPIRE for request in self.requests)
        # A sign-in that meets a session renewed by somebody else goes on alone: two, by the rule.
        renewals = any(request.kind in (RENEW, RENEW_TWICE, SIGN_OUT) for request in self.requests)
        limit = max(1, sign_ins + renewals) + (creations if expired else 0)
        assert len(reachable) <= limit, f"G5 {len(reachable)} live sessions out of one"
        if self.fault is None or self.fault.what == "repeated":
            assert len(live) == len(reachable), "G5 a live session that nobody holds"
        # In the order in which the answers ended.
        self._check_found(self.jar, in_order=True)
        # In every other order: only what no order may break.
        answers = [each for each in self.requests if each.answer is not None or each.removed]
        overlap = all(each.cookie_sent is self.first for each in answers)
        if overlap and all(each.kind.signs_in for each in self.requests):
            for order in permutations(answers):
                self._check_found(order[-1].answer, in_order=False)

    def _check_found(self, cookie: Cookie | None, *, in_order: bool) -> None:
        """What the client finds with ``cookie``: the session that its last answers left."""
        found = None
        if cookie is not None:
            key = store_key(cookie.id, "")
            found = next((each for each in self.lineages if each.key == key), None)
        if found is not None:
            data = decode_record(self._entry(key).data)[1]
            assert data == found.data, f"G1 found {data}, left was {found.data}"
        signed_in = [each.lineage for each in self.requests if each.kind.signs_in and each.lineage]
        if any(lineage.key is not None for lineage in signed_in) and not self._displaced():
            assert found is not None, "G5 a user who has just signed in is signed out"
            kinds = {each.kind.name for each in self.requests}
            if not kinds & {SIGN_OUT.name, EMPTY_KEYS.name}:
                assert found.data.get("user_id") is not None, "G5 signed in, yet nobody"
        first = self.lineages[0]
        trouble = any(each.outage for each in self.requests)
        if first.key is not None and not trouble and not signed_in and in_order:
            assert found is first, "G1 the client has lost its session"

    def _displaced(self) -> bool:
        """Whether an answer that nobody can hold back may take the place of a sign-in's.

        A renewal whose answer is under way for long (it went on after commit(), or its mark had to
        be sent twice), and a new session of a request whose old one had expired: like two first
        requests without a cookie, they are two sessions, and the last Set-Cookie wins.
        """
        kinds = {each.kind.name for each in self.requests}
        if RENEW_TWICE.name in kinds:
            return True
        if EXPIRE.name in kinds:
            return any(not each.kind.signs_in and each.lineage for each in self.requests)
        renewing = {RENEW.name, SIGN_OUT.name, SIGN_IN.name, REFILL.name}
        repeated = self.fault is not None and self.fault.what == "repeated"
        plain = kinds & {RENEW.name, SIGN_OUT.name, DESTROY.name, CLEAR.name}
        return repeated and bool(kinds & renewing) and bool(plain)


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, list) else value for key, value in data.items()}


def _is_mark(entry: Any) -> bool:
    return entry is None or isinstance(decode_record(entry.data)[0], Tombstone)


_SETTINGS = gather({"secret_key": "secret", "store": "memory://", "max_age": IDLE}, environ={})


def _manager(clock: Clock) -> Manager:
    manager = Manager.__new__(Manager)  # without the keys of its cookies, which take their time
    process = Process(clock)
    shared = {"process": process, "clock": clock, "counts": process.counts}
    manager.__dict__.update(_TEMPLATE.__dict__, **shared)
    return manager


_TEMPLATE = Manager(_SETTINGS)


# --- the kinds of requests ------------------------------------------------------------------------


def _set(key: str) -> Kind:
    def application(session: Session, request: Request) -> None:
        session[key] = request.number

    def effect(model: dict[str, Any], request: Request) -> None:
        model[key] = request.number

    return Kind(f"set {key}", application, effect)


def _append(session: Session, request: Request) -> None:
    session.setdefault("cart", []).append(request.number)


def _appended(model: dict[str, Any], request: Request) -> None:
    model["cart"] = [*request.loaded.get("cart", ()), request.number]


def _same(session: Session, request: Request) -> None:
    if "a" in session:
        session["a"] = request.loaded["a"]


def _remove(session: Session, request: Request) -> None:
    session.pop("b", None)


def _removed(model: dict[str, Any], request: Request) -> None:
    model.pop("b", None)


def _increment(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


def _incremented(model: dict[str, Any], request: Request) -> None:
    model["n"] = model.get("n", 0) + 1


def _mutate(session: Session, request: Request) -> None:
    session.mutate(_increment)


def _commit(session: Session, request: Request) -> Any:
    return committing(request.exchange, _increment)  # type: ignore[arg-type]


def _empty(session: Session, request: Request) -> None:
    for key in list(session):
        del session[key]


def _emptied(model: dict[str, Any], request: Request) -> None:
    for key in request.loaded:
        model.pop(key, None)


def _refill(session: Session, request: Request) -> None:
    session.clear()
    session.update(user_id=request.number, a=INITIAL["a"])


def _refilled(model: dict[str, Any], request: Request) -> None:
    model.clear()
    model.update(user_id=request.number, a=INITIAL["a"])


def _sign_in(session: Session, request: Request) -> None:
    session["user_id"] = request.number


def _signed_in(model: dict[str, Any], request: Request) -> None:
    model["user_id"] = request.number


def _sign_out(session: Session, request: Request) -> None:
    session.pop("user_id", None)


def _signed_out(model: dict[str, Any], request: Request) -> None:
    if "user_id" in request.loaded:
        model.pop("user_id", None)


def _renew_twice(session: Session, request: Request) -> Iterator[Any]:
    session.renew()
    session["x"] = request.number
    assert request.exchange is not None
    yield from committing(request.exchange, None)
    session.renew()


SET_X = _set("x")
SET_Y = _set("y")
SET_SAME = Kind("set the same", _same)
REMOVE = Kind("remove", _remove, _removed)
READ = Kind("read", lambda session, request: session.get("a") and None)
NESTED = Kind("nested change", _append, _appended)
MUTATE = Kind("mutate", _mutate, _incremented)
COMMIT = Kind("commit with a function", _commit, _incremented)
EMPTY_KEYS = Kind("empty key by key", _empty, _emptied)
CLEAR = Kind("clear", lambda session, request: session.clear(), ends=True)
REFILL = Kind("clear and refill", _refill, _refilled, signs_in=True)
DESTROY = Kind("destroy", lambda session, request: session.destroy(), ends=True)
RENEW = Kind("renew", lambda session, request: session.renew())
RENEW_TWICE = Kind(
    "renew, commit, renew", _renew_twice, lambda model, request: model.update(x=request.number)
)
SIGN_IN = Kind("sign in", _sign_in, _signed_in, signs_in=True)
SIGN_OUT = Kind("sign out by key", _sign_out, _signed_out)
EXPIRE = Kind("expiry in between", lambda session, request: None)

KINDS = [
    SET_X,
    SET_Y,
    SET_SAME,
    REMOVE,
    READ,
    NESTED,
    MUTATE,
    COMMIT,
    EMPTY_KEYS,
    CLEAR,
    REFILL,
    DESTROY,
    RENEW,
    RENEW_TWICE,
    SIGN_IN,
    SIGN_OUT,
]


# --- all orders -----------------------------------------------------------------------------------


def explore(make: Callable[[], World], *, at_once: bool = False) -> int:
    """Run a scenario through all orders of its steps, check each, and return how many there were.

    ``at_once``: every request has left the browser before the first step.
    """
    prefix: list[int] = []
    runs = 0
    while True:
        world = make()
        trail: list[tuple[int, int]] = []  # (choice, number of choices)

        def choose(number: int) -> int:
            choice = prefix[len(trail)] if len(trail) < len(prefix) else 0
            trail.append((choice, number))
            return choice

        world.choose = choose
        running = list(world.running)
        for each in running:
            next(each)
        if at_once:
            running = [each for each in running if _advances(each)]
        try:
            while running:
                choice = choose(len(running))
                if not _advances(running[choice]):
                    del running[choice]
                world.check_each_step()
            world.check_at_rest()
        except AssertionError as violation:
            names = ", ".join(f"{each.number}: {each.kind.name}" for each in world.requests)
            order = [choice for choice, _ in trail]
            violation.add_note(f"requests {names}; fault {world.fault}; choices {order}")
            raise
        runs += 1
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return runs
        prefix = [choice for choice, _ in trail]
        prefix[-1] += 1


def _advances(running: Generator[None, None, None]) -> bool:
    try:
        next(running)
    except StopIteration:
        return False
    return True
