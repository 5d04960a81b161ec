"""What a request did to its session so far: noted by the session, taken up by a commit.

Everything is relative to one base. Whenever another record is seen, the base moves and the steps
are replayed over it, or nothing is written: a compare-and-set against a fresh record with data made
from an old one would be none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from ..exceptions import NotSerializable
from .changes import (
    Asked,
    Call,
    Edit,
    Function,
    ReplayFailed,
    Step,
    assigned_by,
    compare,
    refuse_async,
    same_data,
)
from .record import EMPTY, PERMANENT, Convert, Data, check_data, decode_data, encode_data
from .session import Facts, Session, give_exchange

T = TypeVar("T")


class View(Protocol):
    """Another form of a session's data, which the application may change: a typed one, say."""

    def put_back(self) -> None:
        """Put into the session what was changed in that form."""

    def read_again(self) -> None:
        """Show what the session holds, whatever was changed in that form."""


class Work:
    """What was done to a session. The steps, over ``base``, come to ``reached``.

    What the data at hand differ from that is the step that is not noted yet.
    """

    session: Session
    _facts: Facts
    convert: Convert | None = None  # the framework's, for values that cannot be encoded
    used = False
    base = EMPTY
    reached = EMPTY
    steps: tuple[Step, ...] = ()
    assigned: set[Any] | None = None  # keys that the application set since the last step
    from_empty = False  # the steps begin with an empty session, whatever is stored
    asked = Asked.NOTHING  # outside of functions; while one runs, by it
    running = False  # inside a function given to mutate() or commit()
    replaying = False  # such a function runs again, on a session of its own
    views: tuple[View, ...] = ()  # each puts back what it shows before the data are looked at
    reads_as_empty = False

    @property
    def facts(self) -> Facts:
        """What is known of the session, also to a function that runs again."""
        return self._facts

    @property
    def is_loaded(self) -> bool:
        """Whether its data are at hand."""
        return True

    # --- what the session tells ---

    def begun(self, session: Session) -> Self:
        return self

    def use(self, session: Session) -> None:
        self.used = True

    def write(self) -> None:
        self.check()
        self.used = True

    def check(self) -> None:
        """Raise where a change would be lost."""
        if self.replaying:
            raise TypeError(
                "A function given to mutate() or commit() must change the session that it is "
                "given: when it runs again, over newer data, that is another one."
            )

    def assign(self, keys: Iterable[Any]) -> None:
        if self.assigned is None:
            self.assigned = set(keys)
        else:
            self.assigned.update(keys)

    def ask(self, asked: Asked) -> None:
        self.check()
        self.asked |= asked

    def empty(self, asked: Asked) -> None:
        self.used = True
        self.asked |= asked
        self.assigned = None
        if not self.running:  # a function does it again when it runs again
            self.from_empty = True
            self.steps, self.reached = (), EMPTY
        if self.views:
            dict.clear(self.session)
            self.show_views()

    def commit(self, function: Function | None) -> Any:
        raise self.inside("commit()")

    def reload(self) -> Any:
        raise self.inside("reload()")

    def inside(self, name: str) -> TypeError:
        """Return what a verb raises that is called inside a function."""
        return TypeError(
            f"{name} cannot be called inside a function given to mutate() or commit(): the "
            "function may run several times, and is itself part of a commit."
        )

    # --- data ---

    def data(self) -> Data:
        """Return a plain dict of what the session holds; no read of `Session` is overridden."""
        for view in self.views:
            view.put_back()
        return {**self.session}

    def show_in(self, view: View) -> None:
        """Let a view put back what is changed in it, from now on."""
        self.views = (*self.views, view)

    def show_views(self) -> None:
        """The session holds other data: its views show these, whatever they were changed to."""
        for view in self.views:
            view.read_again()

    def encoded(self, data: Data) -> bytes:
        return encode_data(data, self.convert)

    @property
    def is_untouched(self) -> bool:
        """Whether this request has done nothing to it, nor inside its values."""
        return not self.assigned and self.is_unchanged

    @property
    def is_unchanged(self) -> bool:
        """The same, where setting a key to the value that it had is nothing."""
        if self.steps or self.from_empty or self.asked:
            return False
        try:
            return encode_data(self.data(), self.convert) == self.reached
        except NotSerializable:
            return False

    def comes_to(self, data: Data, encoded: bytes) -> bool:
        try:
            return self.encoded(data) == encoded
        except NotSerializable:
            return False

    def note(self) -> Data:
        """Make a step of what was changed since the last one; return the data as they are stored.

        Raises:
            NotSerializable: something cannot be stored.
        """
        data = self.data()
        encoded = self.encoded(data)
        if encoded == self.reached and not self.assigned:
            return data
        if encoded != self.reached:
            check_data(data)
        earlier = assigned_by(self.steps) if self.steps else frozenset()
        step = Edit(self.reached, encoded, frozenset(self.assigned or ()), earlier)
        self.steps = (*self.steps, step)
        self.reached, self.assigned = encoded, None
        return data

    # --- functions ---

    def mutate(self, function: Callable[[Session], T]) -> T:
        self.check()
        result: T = self.run_inside(function) if self.running else self.run(function).result
        return result

    def run(self, function: Function) -> Call:
        """Run a function and note it as a step; one that raises leaves nothing behind."""
        self.note()
        before, held, asked = self.reached, self.data(), self.asked
        call = Call(function)
        self.asked, self.running = Asked.NOTHING, True
        try:
            call.result = function(self.session)
            refuse_async(function, call.result)
            data = self.data()
            encoded = self.encoded(data)
            check_data(data)
            if assigned_by(self.steps):  # but for what the function has put in their place
                call.replaced = frozenset(key for key, _ in compare(before, data).changed)
        except BaseException:
            self.show(before, held)
            raise
        else:
            call.asked = self.asked
            self.reached = encoded
            self.steps = (*self.steps, call)
        finally:
            self.asked, self.running, self.assigned = asked, False, None
        return call

    def run_inside(self, function: Callable[[Session], T]) -> T:
        """Run a function within another one, as a part of it; one that raises leaves nothing."""
        held, asked = self.data(), self.asked
        before = self.encoded(self.data())
        try:
            result = function(self.session)
            refuse_async(function, result)
        except BaseException:
            self.show(before, held)
            self.asked = asked
            raise
        return result

    # --- commits ---

    def take(self, own: Call | None = None) -> Outcome:
        """Give what this request did to a commit; what comes meanwhile is for the next one.

        Raises:
            NotSerializable: something cannot be stored.
        """
        data = self.note()
        outcome = Outcome(self, self.base, data, self.reached, own)
        self.from_empty, self.asked = False, Asked.NOTHING
        return outcome

    def take_back(self, outcome: Outcome) -> None:
        """That commit has failed: its steps are for the next one."""
        self.asked |= outcome.asked_outside
        if not self.from_empty:  # else the session was emptied meanwhile, and they are moot
            self.from_empty = outcome.from_empty

    def settle(self, outcome: Outcome, shown: bytes, committed: bytes) -> None:
        """Show what was committed, and begin anew from there.

        What other tasks of the request did while the commit was under way is replayed over it.
        ``shown`` is what the session showed when the commit began.
        """
        if self.from_empty:  # emptied meanwhile
            self.base = committed
            return
        self.steps = self.steps[len(outcome.steps) :]
        self.base = shown
        if committed != shown:
            self.move(committed, outcome.handed_out)

    def forget(self, outcome: Outcome) -> None:
        """The steps of a commit are dropped: the session has ended. They stay in sight.

        The base stays: an owner who is assigned again, with the value that it had, is no sign-in.
        """
        if not self.from_empty:
            self.steps = self.steps[len(outcome.steps) :]

    def drop(self, call: Call, base: bytes | None) -> None:
        """Show the session as it is without a function, over another base if there is one."""
        self.note()
        self.steps = tuple(step for step in self.steps if step is not call)
        self.move(self.base if base is None else base)

    def move(self, base: bytes, made: Data | None = None) -> None:
        """Replay the steps over another base, and show what they come to.

        ``made``: values that are to be the session's own, since a function has handed them out.
        """
        self.note()
        outcome = Outcome(self, self.base, {}, EMPTY)
        outcome.replay_over(base)
        self.show(outcome.encoded, self.data(), made)
        self.base, self.reached = base, outcome.encoded

    def show(self, encoded: bytes, held: Data, made: Data | None = None) -> None:
        """Hold these data; what is unchanged stays the very object that ``made`` or ``held`` has.

        The application may still hold it, too: a later change inside it is a change of the session.
        """
        dict.clear(self.session)
        for key, value in decode_data(encoded).items():
            packed = encode_data({key: value})
            known = [each[key] for each in (made or {}, held) if key in each]
            same = (each for each in known if self.comes_to({key: each}, packed))
            dict.__setitem__(self.session, key, next(same, value))
        self.show_views()

    def reset(self, stored: bytes, *, base: bytes | None = None) -> None:
        """Drop what this request did, whatever it is, and show what is stored."""
        self.used = True  # no read of what is shown now is noticed
        self.session.__class__ = self.session.becomes
        dict.clear(self.session)
        dict.update(self.session, decode_data(stored))
        self.steps, self.reached, self.assigned = (), stored, None
        self.from_empty, self.asked = False, Asked.NOTHING
        self.base = stored if base is None else base
        self.show_views()


class Rehearsal(Work):
    """The work of a session on which functions run again."""

    def __init__(self, work: Work, start: bytes) -> None:
        self._facts, self.convert = work.facts, work.convert
        self.running, self.reached = True, start
        self.session = Session(decode_data(start))
        give_exchange(self.session, self)


class Outcome:
    """What a request did, as one commit takes it up, and what it comes to.

    ``own`` is the function that this very commit was given: its caller has no result of it yet.
    """

    over_nothing = False  # what the steps come to is without the session's data
    same_people: bool | None = None  # once it is known: who is signed in, before and after
    _before: Data | None = None

    def __init__(
        self, work: Work, base: bytes, data: Data, encoded: bytes, own: Call | None = None
    ) -> None:
        self.work, self.base, self.own = work, base, own
        self.steps, self.from_empty, self.asked_outside = work.steps, work.from_empty, work.asked
        self.data, self.encoded = data, encoded
        self.made: Data = {}  # the objects that functions left when they ran again

    @property
    def before(self) -> Data:
        """The base, decoded."""
        if self._before is None:
            self._before = decode_data(self.base)
        return self._before

    @property
    def asked(self) -> Asked:
        asked = self.asked_outside
        for step in self.steps:
            if isinstance(step, Call):
                asked |= step.asked
        return asked

    @property
    def changed(self) -> bool:
        # Without a step it differs only by what an earlier commit has found gone.
        return self.from_empty or (bool(self.steps) and self.encoded != self.base)

    @property
    def changes_data(self) -> bool:
        """Whether there is something to write; the order of top-level keys is none."""
        if not self.changed or self.base == self.encoded:
            return False
        # Of keys in the same order, other bytes are other values.
        return list(self.before) == list(self.data) or not same_data(self.base, self.encoded)

    @property
    def ends(self) -> bool:
        """Whether this request wants the session ended, whatever others wrote."""
        return self.is_empty and (self.from_empty or Asked.EMPTIED in self.asked)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing worth keeping: Flask's mark of a permanent session is not."""
        return len(self.data) < 2 and self.data.keys() <= {PERMANENT}

    @property
    def handed_out(self) -> Data:
        """The value that the caller of ``own`` is given, where it is one of the session's."""
        if self.own is None:
            return {}
        return {key: value for key, value in self.made.items() if value is self.own.result}

    def replay_over(self, base: bytes) -> None:
        """Replay the steps over ``base``, the data of a record that another request left."""
        self._replay(EMPTY if self.from_empty else base)
        self.base, self._before = base, None

    def replay_over_nothing(self, *, ended: bool) -> None:
        """Replay the steps without the session's data: it has ended, or is another user's now.

        A function that raises there contributes nothing; ``own`` raises `ReplayFailed` as always,
        where there is no session any more that it could have been done over.
        """
        self._replay(EMPTY, over_nothing=True, must_run=self.own if ended else None)

    def put(self, data: Data) -> None:
        """Add to what the steps come to."""
        self.data.update(data)
        self.encoded, self.same_people = encode_data(self.data), None

    def _replay(
        self, start: bytes, *, over_nothing: bool = False, must_run: Call | None = None
    ) -> None:
        rehearsal = Rehearsal(self.work, start)
        scratch = rehearsal.session
        for step in self.steps:
            if isinstance(step, Edit):
                step.apply(scratch, over_nothing=over_nothing)
                continue
            before = rehearsal.encoded(rehearsal.data()) if over_nothing else EMPTY
            rehearsal.asked = step.asked = Asked.NOTHING
            try:
                step.result = self._call(step.function, rehearsal)
            except Exception as error:
                if step is must_run or not over_nothing:
                    raise ReplayFailed(step, error) from error
                dict.clear(scratch)
                dict.update(scratch, decode_data(before))
            else:
                step.asked = rehearsal.asked
        self.made, self.data = rehearsal.data(), rehearsal.data()
        self.encoded = rehearsal.encoded(self.data)
        self.over_nothing, self.same_people = over_nothing, None

    def _call(self, function: Function, rehearsal: Rehearsal) -> Any:
        self.work.replaying = True
        try:
            result = function(rehearsal.session)
            data = rehearsal.data()
            rehearsal.encoded(data)
            check_data(data)
        except StopIteration as error:  # which a flow, a generator, cannot raise
            raise RuntimeError("A function given to mutate() raised StopIteration.") from error
        finally:
            self.work.replaying = False
            rehearsal.views = ()  # what they show is this function's
        return result
