"""What the judge of random scripts keeps: of each session, of each request, and of each call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sharedsession._core.cookie import Cookie
from sharedsession._core.record import Record

from .effects import Data, Done, Function, Mirror, Outcome

REFUSES = "G2: stored, although a function refuses when it is run again"
Problem = tuple[str, str] | None  # a rule that was broken, and the values


class Violation(AssertionError):
    """A guarantee was broken: ``rule`` says which and how, the rest with which values."""

    def __init__(self, rule: str, values: str = "") -> None:
        super().__init__(f"{rule}: {values}" if values else rule)
        self.rule = rule


@dataclass(eq=False)
class Lineage:
    """One session, as a user sees it."""

    key: str | None  # None: it has ended
    data: Data
    record: Record
    last_owner: str | None
    held: bool  # by a client, as far as anybody knows
    maker: Ledger | None = None  # whose answer has to hand it out


@dataclass(eq=False)
class Private:
    """A session stored under a key that nobody else knows yet."""

    ledger: Ledger
    record: Record
    data: Data


@dataclass(frozen=True)
class Landing:
    """A write that took place: what the session came to, and what its functions returned."""

    data: Data
    results: dict[Function, Any]


@dataclass(eq=False)
class Ledger:
    """What the judge keeps of one request."""

    number: int
    cookies: Sequence[Cookie]
    owner_keys: tuple[str, ...]
    names: tuple[str, ...]  # under which a sign-in may stand as well
    done: list[Done] = field(default_factory=list)  # and not committed yet
    kind: str = "opening"  # of the flow that runs
    begun: float = 0  # when it did
    committing: set[Done] = field(default_factory=set)  # what it commits
    key: str | None = None  # of the session at hand, dead or alive
    lineage: Lineage | None = None  # that it found when it came
    base: Data = field(default_factory=dict)  # of that session when it was last seen alive
    looks: dict[str, Data] = field(default_factory=dict)  # the same, of every session looked at
    shown: list[tuple[str, Lineage]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    assigned: set[tuple[str, str]] = field(default_factory=set)  # all that it ever did
    quiet: bool = False  # its session had ended a moment before it came
    in_doubt: bool = False
    failed: bool = False  # a function whose result was handed out refused at a replay
    loose: bool = False  # both is right by now: to store, and not to
    landing: Landing | None = None  # of this flow
    ended: bool = False  # in this flow, by this request
    emptied: bool = False  # in this flow, by whatever means
    ends_all: bool = False  # it has signed out: every session that it was shown is over
    ended_shown: bool = False  # in this flow it has ended a session whose cookie it was shown
    may_end_all: bool = False  # as a sign-in does that leaves another name behind
    refused_for_room: bool = False  # in this flow
    trouble: bool = False  # a fault in this flow
    counted: bool = False  # this flow, as one whose session had gone
    ever_in_trouble: bool = False
    acknowledged: bool = False  # its response
    created: bool = False  # a session of its own
    destroyed: bool = False  # since it was last certain of what is stored: this can be done twice
    reloads: int = 0
    changed_lifetime: bool = False  # of its session, so that the client needs another cookie

    def note(self, done: Done) -> None:
        self.done.append(done)
        self.destroyed |= done.key == "destroy"
        self.destroyed |= done.function is not None and done.function.kind == "destroy"
        if done.what in ("assign", "same", "change"):
            self.assigned.add((done.key, repr(done.value)))

    @property
    def blocked(self) -> bool:
        return self.in_doubt or self.failed


@dataclass(frozen=True)
class Issued:
    """A call as it left its request; it may reach the store later."""

    ledger: Ledger
    done: list[Done]
    at: float
    begun: float  # when its flow did
    reloads: int
    refused_for_room: bool
    fence: bool  # of a reload(): the same data again
    late: bool = False  # its flow had been told that it failed


def demand(holds: object, rule: str, values: str = "") -> None:
    if not holds:
        raise Violation(rule, values)


def fits(problem: tuple[str, str] | None) -> None:
    if problem is not None:
        raise Violation(*problem)


def variants(done: list[Done]) -> list[list[Done]]:
    """With and without what may have been dropped: at some moment, and all before it."""
    doubtful = [number for number, each in enumerate(done) if each.maybe]
    hard = [each for each in done if not each.maybe]
    later = [done[number + 1 :] for number in doubtful]
    return [hard, done, *later] if doubtful else [done]


def differs(data: Data, expected: Outcome, before: Data) -> Problem:
    """Say where data differ from what was expected, or nothing."""
    if data == expected.data:
        return None
    missing: Mirror = expected.data
    for key in [*missing, *(each for each in data if each not in missing)]:
        stored, wanted, was = data.get(key), missing.get(key), before.get(key)
        if stored == wanted or (key in expected.undecided and stored == was):
            continue
        kind = "something stale" if key in before or key not in missing else "something lost"
        return f"G2: {kind} was stored", f"{key}: {stored!r}, wanted {wanted!r}, before {was!r}"
    return None


def made_by(number: int, value: object) -> bool:
    """Whether a request made this value itself: what it makes begins with its number."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, str) and each.startswith(f"{number}.") for each in values)
