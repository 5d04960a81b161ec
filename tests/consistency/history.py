"""What one client did and saw: one `Operation` for each request, as the client itself knows it.

Clients share nothing, so the history of one client is judged alone. A *life* is what a user calls
"my session": it begins with a sign-in, whose number is its name, goes on under new cookies when it
is renewed, and ends with a sign-out or with the next sign-in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count


class Kind(Enum):
    READ = "read"
    WRITE = "write"  # of one key: the last writer wins
    MUTATE = "mutate"  # appends its own number: everybody wins
    PAY = "pay"  # the same for one of few coins; refused when there are none
    RENEW = "renew"
    SIGN_IN = "sign in"
    SIGN_OVER = "sign over"  # as another user, over what the former one has left there
    SIGN_OUT = "sign out"
    SWITCH = "switch"  # a sign-out and a sign-in in one


BEGINS = frozenset({Kind.SIGN_IN, Kind.SIGN_OVER, Kind.SWITCH})  # a life
LEAVES = frozenset({Kind.SIGN_OUT, Kind.SWITCH})  # the life, under whatever cookie it goes on
ENDS = frozenset({Kind.RENEW}) | BEGINS | LEAVES  # the session of the cookie sent


class Outcome(Enum):
    ACKNOWLEDGED = auto()
    UNKNOWN = auto()  # 503, or no answer: it happened once, happens yet, or never does
    FAILED = auto()  # it never happens: it reached no server, or the answer says so


@dataclass(frozen=True, slots=True)
class Cookie:
    """What a client can tell of a cookie: which session, and the version it stands for.

    ``time`` is its own timestamp, in seconds since 1970.
    """

    session: str
    version: int
    time: int | None = None

    def __str__(self) -> str:
        return f"{self.session[:4]}.{self.version}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer showed of the session, its own change included.

    Numbers are those of the operations that left them there.
    """

    who: str | None
    life: int | None
    done: tuple[int, ...] = ()
    keys: Mapping[str, int] = field(default_factory=dict)
    coins: int | None = None  # that are left to pay with

    def __str__(self) -> str:
        keys = " ".join(f"{key}={value}" for key, value in sorted(self.keys.items()))
        return f"life {self.life} of {self.who}, did {' '.join(map(str, self.done)) or '-'} {keys}"


@dataclass(slots=True)
class Operation:
    """What one request of one client does; times are in seconds, as the client saw them.

    A request that does several things, and commits in the middle, is as many operations.
    """

    number: int
    kind: Kind
    begin: float
    sent: Cookie | None = None
    key: str | None = None  # that a WRITE sets to its number
    end: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    sure: bool = False  # the answer says that the change is stored: commit() has returned
    shown: Shown | None = None  # None: no session, or one that has ended
    given: Cookie | None = None  # by the answer; nothing, most often
    also: tuple[Cookie, ...] = ()  # cookies of the name that were sent beside
    refused_at: float | None = None  # when the 503 came, where the store was given its time
    server: str = ""
    request: int = 0  # the number of the first operation of the same request, if it has several
    how: str = ""  # what the application does when a commit fails
    note: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.outcome is Outcome.ACKNOWLEDGED

    @property
    def settled(self) -> float:
        """When it has happened at the latest, if it has."""
        return self.end if self.acknowledged else math.inf

    def is_with(self, other: Operation) -> bool:
        """Whether one request did both."""
        return self is other or (self.request != 0 and self.request == other.request)

    def before(self, other: Operation) -> bool:
        """Whether its answer was there when the other began."""
        return self.end < other.begin


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which something befalls the store, and what is said of it.

    ``answered``: requests of these kinds are not refused in it. ``behind``: an answer that changes
    nothing may show the sessions as they were when it began; ``of_readers``: if the server that
    gave it is one that only reads.
    """

    begin: float
    end: float
    answered: frozenset[Kind] = frozenset()
    behind: bool = False
    of_readers: bool = False


class History:
    """The operations of one client, in the order in which they began.

    ``epoch`` is what makes seconds since 1970 of the times of the operations.
    """

    def __init__(
        self, client: str, numbers: Iterable[int] | None = None, epoch: float = 0.0
    ) -> None:
        self.client = client
        self.epoch = epoch
        self.operations: list[Operation] = []
        self._numbers = iter(count(1) if numbers is None else numbers)

    def begin(
        self, kind: Kind, now: float, sent: Cookie | None, key: str | None = None
    ) -> Operation:
        operation = Operation(next(self._numbers), kind, now, sent, key)
        self.operations.append(operation)
        return operation


def told(operations: Iterable[Operation]) -> str:
    """Return operations as a person can follow them: a line each, in milliseconds."""
    chosen = sorted({each.number: each for each in operations}.values(), key=lambda o: o.begin)
    start = chosen[0].begin if chosen else 0.0
    return "\n".join(_line(each, start) for each in chosen)


def _line(operation: Operation, start: float) -> str:
    begin, end = ((each - start) * 1000 for each in (operation.begin, operation.end))
    what = f"{operation.kind.value} {operation.key or ''}".strip()
    sent = " ".join(map(str, (operation.sent or "no cookie", *operation.also)))
    cookies = f"{sent} -> {operation.given or '='}"
    match operation.outcome:
        case Outcome.ACKNOWLEDGED:
            stored = "stored; " if operation.sure else ""
            came = f"{stored}{operation.shown or 'no session'}"
        case Outcome.UNKNOWN:
            came = "unknown"
        case Outcome.FAILED:
            came = "never sent"
    notes = ", ".join(each for each in (operation.how, operation.note) if each)
    note = f" ({notes})" if notes else ""
    return (
        f"{begin:9.1f} {end:9.1f} ms  #{operation.number:<4} {what:<9} "
        f"{operation.server:<9} {cookies:<18} {came}{note}"
    )
