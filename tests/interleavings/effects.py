"""What the steps of a script mean, said without the core: plain dicts, and steps done again.

The judge asks here what a write should have come to. Nothing is encoded, compared or merged: a
request's doings are a list of `Done`, and `over` does them again over whatever data it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PERMANENT = "_permanent"
TOKEN = "token"  # the key of the one-time token
# These also name drafts, visitors and form fields: in a lost race they are no sign-in.
NO_SIGN_IN = frozenset(("id", "uid", "email"))
IDENTITY = ("sub", "id", "user_id", "uid", "username", "email")

Data = dict[str, Any]


class Refused(Exception):
    """A function of the application says no."""

    def __init__(self, function: Function) -> None:
        super().__init__(f"{function} refused")
        self.function = function


class Mirror(dict[str, Any]):
    """Stands in for a session where a function is run again by the judge."""

    renewed = False
    authenticated_now = False
    destroyed = False

    def renew(self) -> None:
        self.renewed = True

    def mark_authenticated(self) -> None:
        self.authenticated_now = True

    def destroy(self) -> None:
        self.clear()
        self.destroyed = True


class Function:
    """A function for `mutate` or `commit`: what it does depends on the session alone."""

    def __init__(self, kind: str, mark: str) -> None:
        self.kind = kind
        self.mark = mark  # unique, so that the log shows what was lost and what was counted twice
        self.seen: int | None = None  # the counter, at the first run
        self.refused = False  # at its last run on a real session

    def __repr__(self) -> str:
        return f"<{self.kind} {self.mark}>"

    def __call__(self, session: Any) -> Any:
        if self.seen is None:
            self.seen = session.get("n", 0)
        self.refused = True
        result = self.body(session)
        self.refused = False
        return result

    def body(self, session: Any) -> Any:
        match self.kind:
            case "token":
                return session.pop(TOKEN, None)
            case "refuse":
                session["half"] = self.mark
                session.get("cart", []).append(self.mark)
                raise Refused(self)
            case "needs":
                session["half"] = self.mark
                if "base" not in session:
                    raise Refused(self)
                del session["half"]
            case "renew" | "mark_authenticated" | "destroy" if session.get("n", 0) == self.seen:
                getattr(session, self.kind)()
            case "limit" if session.get("n", 0) > (self.seen or 0):
                session["half"] = self.mark
                raise Refused(self)
        session["n"] = session.get("n", 0) + 1
        session["log"] = [*session.get("log", ()), self.mark]
        return session["n"]


@dataclass(slots=True, eq=False)
class Done:
    """One thing that a request has done to its session.

    ``what``: assign, same (assigned, with the value that it had), change (inside a value), remove,
    call, reset (``key`` says how), renew, mark_authenticated. ``maybe``: dropped or not, both are
    right.
    """

    what: str
    key: str = ""
    value: Any = None
    function: Function | None = None
    maybe: bool = False

    def __repr__(self) -> str:
        return f"{self.what} {self.function or self.key}" + ("?" if self.maybe else "")


@dataclass(slots=True)
class Outcome:
    data: Mirror
    results: dict[Function, Any] = field(default_factory=dict)
    renews: bool = False
    authenticates: bool = False
    reset: str = ""  # how the session was emptied, outside functions
    undecided: set[str] = field(default_factory=set)  # what others left may stand under these keys


def copied(data: Data) -> Data:
    return {key: copy_of(value) for key, value in data.items()}


def copy_of(value: Any) -> Any:
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def over(done: Sequence[Done], data: Data) -> Outcome:
    """Do the steps again over ``data``; raises `Refused` when one of its functions does."""
    outcome = _begin(done)
    if not outcome.reset:
        outcome.data.update(copied(data))
    touched: set[str] = set()
    for each in _after_reset(done):
        if each.what in ("assign", "change"):
            if each.key in touched:
                outcome.undecided.add(each.key)
            outcome.data[each.key] = copy_of(each.value)
        elif each.what == "remove":
            if each.key in touched:
                outcome.undecided.add(each.key)
            outcome.data.pop(each.key, None)
        elif each.function is not None:
            outcome.results[each.function] = each.function.body(outcome.data)
        touched.add(each.key)
    return _finish(outcome)


def over_nothing(done: Sequence[Done]) -> Outcome:
    """Do them over nothing: only what was assigned counts, and functions that do not refuse."""
    outcome = _begin(done)
    for each in _after_reset(done):
        if each.what in ("assign", "same") or (each.what == "change" and each.key in outcome.data):
            outcome.data[each.key] = copy_of(each.value)
        elif each.what == "remove":
            outcome.data.pop(each.key, None)
        elif each.function is not None:
            before = Mirror(copied(outcome.data))
            before.__dict__.update(outcome.data.__dict__)
            try:
                outcome.results[each.function] = each.function.body(outcome.data)
            except Refused:
                outcome.data = before
    return _finish(outcome)


def reset_by(done: Iterable[Done]) -> str:
    """Return how the session was emptied, by what says most."""
    kinds = {each.key for each in done if each.what == "reset"}
    return next((kind for kind in ("destroy", "clear", "dict") if kind in kinds), "")


def _begin(done: Sequence[Done]) -> Outcome:
    outcome = Outcome(Mirror(), reset=reset_by(done))
    for each in done:
        outcome.renews |= each.what == "renew"
        outcome.authenticates |= each.what == "mark_authenticated"
    return outcome


def _after_reset(done: Sequence[Done]) -> Iterable[Done]:
    for place in range(len(done) - 1, -1, -1):
        if done[place].what == "reset":
            return done[place + 1 :]
    return done


def _finish(outcome: Outcome) -> Outcome:
    outcome.renews |= outcome.data.renewed
    outcome.authenticates |= outcome.data.authenticated_now
    return outcome


def is_empty(data: Data) -> bool:
    """Whether there is nothing worth keeping."""
    return data.keys() <= {PERMANENT}


def owned(data: Data, keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return what stands under the owner keys; None is nobody."""
    return [(key, data[key]) for key in keys if data.get(key) is not None]


def owner(data: Data, keys: tuple[str, ...]) -> str | None:
    """Return the owner, as text: that of the first owner key that holds something."""
    found = owned(data, keys)
    return str(found[0][1]) if found else None


def new_owner(before: Data, data: Data, keys: tuple[str, ...]) -> bool:
    """Whether another owner is there than before, or the first; not where one of two is left."""
    was, now = owned(before, keys), owned(data, keys)
    left = all(each in was for each in now)
    return owner(data, keys) not in (None, owner(before, keys)) and not left


def identity(value: Any) -> Any:
    """Return who is meant by what stands under a sign-in name; None is nobody."""
    if isinstance(value, dict):
        for key in IDENTITY:
            if value.get(key):
                return key, value[key]
        return bool(value) or None
    return value or None


def identified(before: Data, after: Data, names: Iterable[str]) -> bool:
    """Whether somebody else is meant by a sign-in name than before."""
    return any(
        (found := identity(after.get(name))) is not None and found != identity(before.get(name))
        for name in names
    )


def signs_in(done: Sequence[Done], base: Data, keys: tuple[str, ...], names: Iterable[str]) -> str:
    """Say whether the request itself signs in, when its session has ended: yes, no, or unclear.

    It does when its steps do so over the session that it knew, and name a user over nothing.
    """
    alone = over_nothing(done)
    if not owned(alone.data, keys) and not identified({}, alone.data, set(names) - NO_SIGN_IN):
        return "no"
    try:
        known = over(done, base)
    except Refused:
        known = alone
    said = {_signs_in(each, base, keys, names) for each in (known, alone)}
    destroys = any(each.function and each.function.kind == "destroy" for each in done)
    return "unclear" if len(said) > 1 or destroys else said.pop()


def _signs_in(outcome: Outcome, base: Data, keys: tuple[str, ...], names: Iterable[str]) -> str:
    found = owned(outcome.data, keys)
    if found and outcome.reset in ("clear", "destroy"):
        return "yes"
    if new_owner(base, outcome.data, keys):
        return "yes"
    if identified(base, outcome.data, set(names) - NO_SIGN_IN):
        return "yes"
    if outcome.reset or any(each not in owned(base, keys) for each in found):
        return "unclear"
    return "no"
