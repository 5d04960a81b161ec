"""What a request did to its session, as steps that can be done again over other data.

*Steps* are the functions given to `mutate` and `commit` and, before, between and after them, plain
changes of top-level keys. There is one operation, the *replay*: the same steps over other data. It
serves a conflict (over fresh data), a sign-in in a session that has ended (over nothing), and what
other tasks of the request did while a commit was under way (over what was committed).

Encodings are compared whole. Keys are looked at when a step is replayed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntFlag, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from .record import Data, decode_data, pack, unpack

if TYPE_CHECKING:
    from .session import Session

Function = Callable[["Session"], Any]  # Any: whatever it returns, which its caller gets


class Asked(IntFlag):
    """What an application asked for, besides changes of keys."""

    NOTHING = 0
    EMPTIED = auto()  # clear() or destroy(): what is stored afterwards has a new ID
    DESTROYED = auto()
    RENEWED = auto()
    AUTHENTICATED = auto()
    KEPT = auto()  # it is stored although it holds nothing


class Changes(NamedTuple):
    """What became of top-level keys: with another value, or removed; never deeper.

    ``own`` are those whose value is the request's own: assigned by it, whether that changed
    anything or not. What was changed inside a value that it found belongs to the session.
    """

    changed: tuple[tuple[Any, bytes], ...] = ()
    removed: tuple[Any, ...] = ()
    own: tuple[tuple[Any, bytes], ...] = ()

    def apply(self, data: Data, *, over_nothing: bool = False) -> None:
        """Make the same changes with values of its own; over nothing, only what is its own."""
        for key in self.removed:
            dict.pop(data, key, None)
        for key, value in self.own if over_nothing else self.changed:
            dict.__setitem__(data, key, unpack(value))


def compare(before: bytes, after: Data, own: Collection[Any] = ()) -> Changes:
    """Return what became of the keys between ``before`` (encoded) and ``after``.

    ``own``: keys whose values are the request's own.
    """
    old = {pack(key): (key, pack(value)) for key, value in decode_data(before).items()}
    changed, kept = [], []
    for key, value in after.items():
        encoded = pack(value)
        known = old.pop(pack(key), None)
        if known is None or known[1] != encoded:
            changed.append((key, encoded))
        if key in own:
            kept.append((key, encoded))
    return Changes(tuple(changed), tuple(key for key, _ in old.values()), tuple(kept))


def same_data(encoded: bytes, other: bytes) -> bool:
    """Say whether two encoded dicts hold the same; the order of top-level keys does not count."""
    if encoded == other:
        return True
    if len(encoded) != len(other):
        return False
    found = compare(encoded, decode_data(other))
    return not (found.changed or found.removed)


@dataclass(slots=True, eq=False)
class Edit:
    """Plain changes: the data as they were, and as they became.

    ``assigned`` are the keys that the application set itself since the last step; ``earlier`` those
    that it had set before, so that what it changes inside their values is its own, too.
    """

    before: bytes
    after: bytes
    assigned: frozenset[Any] = frozenset()
    earlier: frozenset[Any] = frozenset()
    _changes: Changes | None = None

    def apply(self, session: Session, *, over_nothing: bool) -> None:
        """Make the same changes; over nothing, only of what was assigned."""
        if self._changes is None:
            self._changes = self._compared()
        self._changes.apply(session, over_nothing=over_nothing)

    def _compared(self) -> Changes:
        changed, removed, own = compare(
            self.before, decode_data(self.after), self.assigned | self.earlier
        )
        differing = {pack(key) for key, _ in changed}
        kept = (each for each in own if each[0] in self.assigned or pack(each[0]) in differing)
        return Changes(changed, removed, tuple(kept))


@dataclass(slots=True, eq=False)
class Call:
    """A function given to `mutate` or `commit`, with what came of its latest run.

    ``replaced`` are the keys to which its first run gave another value.
    """

    function: Function
    asked: Asked = Asked.NOTHING
    result: Any = None
    replaced: frozenset[Any] = frozenset()


Step = Edit | Call


def assigned_by(steps: tuple[Step, ...]) -> frozenset[Any]:
    """Return the keys whose values were assigned by these steps, and not by a function."""
    keys: frozenset[Any] = frozenset()
    for step in steps:
        keys = keys - step.replaced if isinstance(step, Call) else keys | step.assigned
    return keys


class ReplayFailed(Exception):
    """A function raised ``error`` when it ran again, over data that it had not seen."""

    def __init__(self, call: Call, error: Exception) -> None:
        super().__init__()
        self.call, self.error = call, error


def refuse_async(function: Callable[..., object], result: object = None) -> None:
    """Raise TypeError for an async function, known as one or by what it has returned."""
    runs_later = (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )
    if runs_later or inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            "mutate() and commit() take a plain function, which may run several times: await what "
            "you need first, then change the session in a function without await."
        )
