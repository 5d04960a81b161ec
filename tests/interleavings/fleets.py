"""A fleet of servers with copies and servers without, and the requests of one client in any order.

A request leaves the browser with the cookie that is there, its flows ask the store call by call,
its answer is decided, and arrives; between any two of these, other requests take their steps and
time passes. What a server with copies asks for may be answered, in the store's place, by any state
that a copy of the last `LAG` seconds can hold and that is new enough for what was asked.

All states that can be reached are visited once. A flow is a generator and cannot be copied; but
what it does depends on nothing but the answers that it was given and when, so a request is its
history, and is done again from the beginning for each step (and remembered).

Each writing request sets a key of its own, so what a client has read is the set of these keys, and
nothing here needs to know what a version means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from sharedsession._core.cookie import Cookie, new_id, store_key
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import opening
from sharedsession._core.manager import Manager, Process
from sharedsession._core.record import Record, encode_data, encode_record
from sharedsession._core.settings import gather
from sharedsession._core.steps import Pause
from sharedsession.stores.base import FRESHEST, Entry

LAG = 1.0  # seconds by which a copy may be behind
START = 1_000_000
IDLE = 10_000
COOKIE_AGE = 50  # seconds: no copy is ruled out by it, and no touch is due

View = frozenset[str]  # keys: what is read
Answer = tuple[float, Any]  # when, and what the store answered


@dataclass(frozen=True)
class Sort:
    """What a request does, and on which server: with copies, or without."""

    writes: bool
    copies: bool


@dataclass(frozen=True)
class Request:
    """How far a request has come: not sent without a cookie, answered with a view."""

    cookie: Cookie | None = None
    had: View = frozenset()  # what the client had read when it was sent
    set_back: bool = False  # whether its cookie was of an older answer by then
    history: tuple[Answer, ...] = ()
    read: View | None = None
    view: View | None = None  # as its answer left the session
    answer: Cookie | None = None
    arrived: bool = False


@dataclass(frozen=True)
class State:
    now: float
    paused: int
    stored: tuple[tuple[Entry, float], ...]  # each with the time at which the next one came
    jar: Cookie
    set_back: bool
    received: View
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Step:
    """What the flow of a request asks next; with ``verb`` None it has ended."""

    verb: str | None = None
    arguments: tuple[Any, ...] = ()
    read: View = frozenset()
    view: View = frozenset()
    answer: Cookie | None = None


@dataclass
class Fleet:
    """The servers, and everything that happens to one client's requests."""

    sorts: Sequence[Sort]
    versions: bool  # whether the ID has any
    pauses: Sequence[float]  # seconds that pass at once, one after the other
    managers: dict[bool, Manager] = field(default_factory=dict)
    now: float = START
    by_copies: int = 0  # loads that were answered with an older state
    set_back: bool = False  # the stated exception has been seen

    def __post_init__(self) -> None:
        settings = gather({"secret_key": "k", "store": "memory://", "max_age": IDLE}, environ={})
        for copies in (False, True):
            process = Process(lambda: self.now, LAG if copies else 0.0)
            self.managers[copies] = Manager(settings, process=process)
        self.first = Cookie(new_id(), int(self.versions), START - COOKIE_AGE)
        self.key = store_key(self.first.id, "")
        self.advance = cache(self._advance)

    # --- one request ---

    def _advance(
        self, number: int, cookie: Cookie, history: tuple[Answer, ...], now: float
    ) -> Step:
        """Do a request from the beginning; say what it asks after these answers."""
        sort = self.sorts[number]
        exchange = Exchange(self.managers[sort.copies], [cookie])
        session, found = exchange.session, View()
        answers = iter([*history, (now, None)])

        def flow() -> Iterator[Any]:
            nonlocal found
            yield from opening(exchange)
            found = View(exchange.found or ())
            exchange.fill(session)
            session.get("a")
            if sort.writes:
                session[f"w{number}"] = True
            yield from exchange.respond(200, ()) or ()

        running: Any = flow()
        self.now, answer = history[0][0] if history else now, None
        for each in answers:
            try:
                step = running.send(answer)
                while isinstance(step, Pause):
                    step = running.send(None)
            except StopIteration:
                return Step(None, (), found, View(dict.keys(session)), exchange.reply)
            self.now, answer = each
        return Step(type(step).__name__.lower(), tuple(step), found)

    # --- all of them ---

    def begin(self) -> State:
        data = encode_data({"a": 1})
        record = encode_record(Record(START, None, None, None, data))
        entry = Entry(record, 1, None, 0)
        requests = tuple(Request() for _ in self.sorts)
        return State(START, 0, ((entry, float("inf")),), self.first, False, View({"a"}), requests)

    def explore(self) -> int:
        """Visit every state, and return how many there are."""
        todo, seen = [self.begin()], set[State]()
        while todo:
            for state in self.following(todo.pop()):
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return len(seen)

    def following(self, state: State) -> Iterator[State]:
        """What may come next."""
        if all(each.arrived for each in state.requests):
            return
        if state.paused < len(self.pauses):
            now = state.now + self.pauses[state.paused]
            yield replace(state, now=now, paused=state.paused + 1)
        for number, each in enumerate(state.requests):
            if each.cookie is None:
                sent = Request(state.jar, state.received, state.set_back)
                # Requests of one sort are interchangeable: the first is sent first.
                same = self.sorts[:number]
                if all(
                    other.cookie is not None
                    for sort, other in zip(same, state.requests, strict=False)
                    if sort == self.sorts[number]
                ):
                    yield self._with(state, number, sent)
            elif each.view is None:
                yield from self._asked(state, number, each)
            elif not each.arrived:
                yield self._arrive(state, number, each)

    def _with(self, state: State, number: int, request: Request, **more: Any) -> State:
        requests = (*state.requests[:number], request, *state.requests[number + 1 :])
        return replace(state, requests=requests, **more)

    def _asked(self, state: State, number: int, request: Request) -> Iterator[State]:
        """The store, or a copy, answers what the request asks."""
        assert request.cookie is not None
        # What it asks was decided when it was given its last answer, or when it began.
        asks = self.advance(number, request.cookie, request.history, state.now)
        assert asks.verb in ("load", "replace"), asks
        if asks.verb == "load":
            for entry in self._loads(state, number, *asks.arguments):
                yield self._told(state, number, request, entry)
            return
        _, entry, data, _, _, at_least = asks.arguments
        current = state.stored[-1][0]
        if entry.token != current.token:
            yield self._told(state, number, request, None)
            return
        written = Entry(data, max(entry.version, at_least) + 1, None, int(current.token) + 1)
        stored = (*state.stored[:-1], (current, state.now), (written, float("inf")))
        yield self._told(replace(state, stored=stored), number, request, written)

    def _loads(self, state: State, number: int, key: str, at_least: int) -> Iterator[Entry]:
        assert key == self.key
        for entry, until in state.stored:
            is_current = until == float("inf")
            is_copy = self.sorts[number].copies and at_least < FRESHEST
            if not is_current and is_copy:
                is_copy = entry.version >= at_least and state.now - until < LAG
                self.by_copies += is_copy
            if is_current or is_copy:
                yield entry

    def _told(self, state: State, number: int, request: Request, answer: Any) -> State:
        assert request.cookie is not None
        history = (*request.history, (state.now, answer))
        step = self.advance(number, request.cookie, history, state.now)
        told = replace(request, history=history)
        if request.read is None:
            told = replace(told, read=step.read)
            older = not step.read >= request.had
            assert not older or (request.set_back and self.versions), (
                f"G15 read {sorted(step.read)} after an answer with {sorted(request.had)}: "
                f"request {number} of {self.sorts}"
            )
            self.set_back |= older
        if step.verb is None:
            told = replace(told, view=step.view, answer=step.answer)
        return self._with(state, number, told)

    def _arrive(self, state: State, number: int, request: Request) -> State:
        assert request.view is not None
        received, jar, set_back = state.received | request.view, state.jar, state.set_back
        if request.answer is not None:
            jar, set_back = request.answer, not request.view >= state.received
        arrived = replace(request, arrived=True)
        return self._with(state, number, arrived, received=received, jar=jar, set_back=set_back)
