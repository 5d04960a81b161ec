"""The judge of random scripts: rules written from the guarantees, asked at each store call.

It sees what every request does to its session, every call that reaches the store, and what the
application is told. It knows nothing of versions, merging or the core's own notes: a *lineage* is
what a user calls "my session", a dict that goes on under a new key when it is renewed. What a
write should have come to is worked out by `effects`, from the request's steps and from what the
store held. A violation begins with the guarantee's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sharedsession import SessionGone, StoreUnavailable
from sharedsession.cookie import Cookie, store_key
from sharedsession.exceptions import LateChange, TooLarge
from sharedsession.record import Record, decode_record
from sharedsession.stores.base import Entry

from .effects import (
    TOKEN,
    Data,
    Done,
    Function,
    Mirror,
    Outcome,
    Refused,
    identified,
    identity,
    is_empty,
    over,
    over_nothing,
    owned,
    owner,
    reset_by,
    signs_in,
)

QUIET = 10  # seconds after an end in which a request with the old cookie stores nothing
REFUSES = "G2: stored, although a function refuses when it is run again"
Problem = tuple[str, str] | None  # a rule that was broken, and the values
TENTH = 0.1  # share of the idle timeout after which a cookie is due for a new time


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
    ends_all: bool = False  # in this flow it signs out: every session that it was shown is over
    refused_for_room: bool = False  # in this flow
    trouble: bool = False  # a fault in this flow
    ever_in_trouble: bool = False
    acknowledged: bool = False  # its response
    created: bool = False  # a session of its own
    destroyed: bool = False  # since it was last certain of what is stored: this can be done twice
    reloads: int = 0

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
    begun: float
    reloads: int
    refused_for_room: bool
    fence: bool  # of a reload(): the same data again
    late: bool = False  # its flow had been told that it failed


class Judge:
    """Looks on. ``mixed``: the servers disagree about the owner keys, and so may the data."""

    def __init__(
        self,
        clock: Callable[[], float],
        look: Callable[[str], Entry | None],
        *,
        idle: int,
        absolute: int | None,
        mixed: bool = False,
    ) -> None:
        self.clock = clock
        self.look = look
        self.idle = idle
        self.absolute = absolute
        self.mixed = mixed
        self.lineages: list[Lineage] = []
        self.of: dict[str, Lineage] = {}  # by every key that it ever had
        self.dead: set[str] = set()
        self.private: dict[str, Private] = {}
        self.ledgers: list[Ledger] = []
        self.tokens: set[object] = set()
        self.gone: Callable[[], int] = lambda: 0

    # --- what is there ---

    def begin_with(
        self, key: str, entry: Entry, last_owner: str | None, *, held: bool = True
    ) -> None:
        record, data = decode_record(entry.data)
        if isinstance(record, Record):
            self._add(Lineage(key, data, record, last_owner, held))
        else:
            self.dead.add(key)

    def alive(self, key: str | None) -> bool:
        return key is not None and self._read(self.look(key)) is not None

    def describe(self, entry: Entry | None) -> str:
        if entry is None:
            return "gone"
        record, data = decode_record(entry.data)
        return repr(data) if isinstance(record, Record) else repr(record)

    def _read(self, entry: Entry | None) -> tuple[Record, Data] | None:
        if entry is None:
            return None
        record, data = decode_record(entry.data)
        if not isinstance(record, Record):
            return None
        over_by_now = record.absolute_end is not None and record.absolute_end <= self.clock()
        return None if over_by_now else (record, data)

    def _add(self, lineage: Lineage) -> None:
        self.lineages.append(lineage)
        self.of[str(lineage.key)] = lineage

    def _lineage(self, key: str | None) -> Lineage | None:
        found = self.of.get(str(key))
        return found if found is not None and found.key == key else None

    # --- a flow begins, and calls the store ---

    def begin(self, ledger: Ledger, kind: str) -> None:
        ledger.kind, ledger.begun = kind, self.clock()
        ledger.committing = set(ledger.done)
        ledger.emptied = reset_by(ledger.done) != ""
        ledger.landing = None
        ledger.ended = ledger.ends_all = ledger.refused_for_room = ledger.trouble = False
        if kind == "opening":
            keys = (store_key(each.id, "") for each in ledger.cookies)
            ledger.shown = [(key, self.of[key]) for key in keys if key in self.of]

    def issue(self, ledger: Ledger) -> Issued:
        done = [each for each in ledger.done if each in ledger.committing]
        room, fence = ledger.refused_for_room, ledger.kind == "reload"
        return Issued(ledger, done, ledger.begun, ledger.reloads, room, fence)

    def refused(self, ledger: Ledger) -> None:
        """The store has no room for what it was given: nothing was written."""
        ledger.trouble = ledger.refused_for_room = True

    def faulted(self, ledger: Ledger, verb: str, arguments: Sequence[Any]) -> None:
        """A call has failed, or its flow was cancelled while it waited for the answer."""
        ledger.trouble = ledger.ever_in_trouble = True
        if verb in ("create", "replace") or (verb == "delete" and len(arguments) > 1):
            ledger.in_doubt = True

    def called(
        self, issued: Issued, verb: str, key: str, before: Entry | None, after: Entry | None
    ) -> None:
        """A call has reached the store."""
        ledger = issued.ledger
        if verb == "load":
            self._seen(ledger, key, after)
        elif after is not before:
            if verb == "touch":
                self._touched(key, after)
            else:
                self._wrote(issued, key, before, after)

    def _seen(self, ledger: Ledger, key: str, entry: Entry | None) -> None:
        found = self._read(entry)
        if found is not None:
            ledger.looks[key] = found[1]
            if ledger.key is None and ledger.kind == "opening":
                ledger.key, ledger.lineage = key, self.of.get(key)
            if key == ledger.key:
                ledger.base = found[1]
        elif entry is not None and ledger.kind == "opening":
            marked_at = getattr(decode_record(entry.data)[0], "marked_at", None)
            ledger.quiet |= marked_at is not None and self.clock() - marked_at < QUIET

    def _touched(self, key: str, after: Entry | None) -> None:
        found = self._read(after)
        if found is not None and after is not None and found[0].absolute_end is not None:
            _demand(
                (after.expires or 0) < found[0].absolute_end + 1,
                "G8: a touch extended a session beyond its absolute end",
            )

    def _wrote(
        self, issued: Issued, key: str, before: Entry | None, after: Entry | None
    ) -> None:
        ledger = issued.ledger
        record, data = (None, {}) if after is None else decode_record(after.data)
        live = isinstance(record, Record)
        if key in self.dead:
            _demand(not live, "G3: a dead session came back")
            _demand(after is not None, "G3: a tombstone was removed")
            return
        lineage = self._lineage(key)
        if before is None and lineage is not None:
            self.dead.add(key)  # it had expired
            lineage.key = None
            _demand(not live, "G3: an expired session came back")
            return
        if live:
            late = issued.reloads != ledger.reloads
            _demand(not late, "G2: a write in doubt took place after reload()")
        if before is None or key in self.private:
            self._wrote_private(issued, key, record, data)
            return
        assert lineage is not None
        assert before is not None
        if live:
            self._replaced(issued, lineage, record, data)
        elif getattr(record, "successor", None) is not None:
            self._renewed(issued, lineage, record.successor)
        else:
            self._ended(issued, lineage, deleted=after is None)

    def _wrote_private(self, issued: Issued, key: str, record: Any, data: Data) -> None:
        """Nobody else knows the key: what is there is judged when somebody may."""
        ledger = issued.ledger
        if not isinstance(record, Record):
            self.private.pop(key, None)
            self.dead.add(key)
            return
        self._allow(ledger, issued)
        if key in self.private:
            owner_of_key = self.private[key].ledger
            _demand(owner_of_key is ledger, "G5: a request wrote under another's new ID")
        else:
            ledger.made.append(key)
        self.private[key] = Private(ledger, record, data)

    def _allow(self, ledger: Ledger, issued: Issued) -> None:
        """Nothing is stored after a failure; what was on its way before may still arrive."""
        _demand(issued.late or not ledger.blocked, "G2: stored after a failure, before reload()")

    def _replaced(self, issued: Issued, lineage: Lineage, record: Any, data: Data) -> None:
        ledger = issued.ledger
        if data == lineage.data and issued.fence:
            _demand(
                record.absolute_end == lineage.record.absolute_end,
                "G8: reload() moved the absolute clock",
            )
            lineage.record = record
            ledger.looks[str(lineage.key)] = data
            return
        self._allow(ledger, issued)
        _demand(lineage.key == ledger.key, "G5: a request wrote to a session that is not its own")
        _demand(data != lineage.data, "G2: a request that changed nothing has written")
        self._judge_write(issued, lineage, record, data, renewed=False)

    def _renewed(self, issued: Issued, lineage: Lineage, successor: str) -> None:
        ledger, old = issued.ledger, lineage.key
        self._allow(ledger, issued)
        _demand(old == ledger.key, "G5: a request renewed a session that is not its own")
        fresh = self.private.pop(successor, None)
        _demand(fresh is not None, "G5: renewed, and there is no session under the new ID")
        assert fresh is not None
        self.dead.add(str(old))
        lineage.key, lineage.held, lineage.maker = successor, False, ledger
        self.of[successor] = lineage
        self._judge_write(issued, lineage, fresh.record, fresh.data, renewed=True)
        ledger.key = successor

    def _ended(self, issued: Issued, lineage: Lineage, *, deleted: bool) -> None:
        ledger = issued.ledger
        destroys = ledger.destroyed
        if not destroys:
            self._allow(ledger, issued)
        if deleted:
            _demand(issued.refused_for_room, "G3: ended without a tombstone, though there is room")
        own = lineage.key == ledger.key
        left = self._left(issued, lineage.data if own else ledger.base)
        if own:
            _demand(
                is_empty(left.data) or destroys or left.reset != "",
                "G2: ended, although something was left",
                repr(dict(left.data)),
            )
        else:
            _demand(
                any(each is lineage for _, each in ledger.shown),
                "G3: a request ended a session that it was not shown",
            )
            _demand(
                ledger.ends_all
                or destroys
                or ledger.emptied
                or self._signs_out(ledger, left)
                or self._signs_out(ledger, over_nothing(issued.done)),
                "G3: a request ended another session without a sign-out",
            )
        ledger.ends_all |= destroys or self._signs_out(ledger, left)
        self.dead.add(str(lineage.key))
        lineage.key = None
        ledger.ended = True
        if own and is_empty(left.data):
            ledger.landing = Landing({}, left.results)
            self._consume(issued)
            # What it stores from now on is a new session.
            ledger.key, ledger.base, ledger.quiet = None, {}, False

    def _left(self, issued: Issued, data: Data) -> Outcome:
        try:
            outcomes = [over(done, data) for done in _variants(issued.done)]
        except Refused:
            return over_nothing(issued.done)
        return next((each for each in outcomes if is_empty(each.data)), outcomes[0])

    def _signs_out(self, ledger: Ledger, outcome: Outcome) -> bool:
        before, after = ledger.base, outcome.data
        if owned(before, ledger.owner_keys) and not owned(after, ledger.owner_keys):
            return True
        return any(
            identity(before.get(name)) is not None and identity(after.get(name)) is None
            for name in ledger.names
        )

    # --- what a write came to ---

    def _judge_write(
        self, issued: Issued, lineage: Lineage, record: Record, data: Data, *, renewed: bool
    ) -> None:
        ledger, before, old = issued.ledger, lineage.data, lineage.record
        outcome, problem = None, None
        for done in _variants(issued.done):
            outcome, problem = self._compare(ledger, lineage, done, data)
            if problem is None:
                break
        _fits(problem)
        assert outcome is not None
        self._judge_id(lineage, ledger, data, outcome, renewed=renewed)
        self._judge_clock(issued, old, before, record, data, outcome)
        ledger.ends_all |= outcome.data.destroyed or self._signs_out(ledger, outcome)
        lineage.data, lineage.record = data, record
        if outcome.reset in ("clear", "destroy") or outcome.data.destroyed:
            lineage.last_owner = None  # nothing of theirs is left
        lineage.last_owner = owner(data, ledger.owner_keys) or lineage.last_owner
        ledger.base = ledger.looks[str(lineage.key)] = data
        ledger.landing = Landing(data, outcome.results)
        self._consume(issued)

    def _consume(self, issued: Issued) -> None:
        gone = set(issued.done)
        issued.ledger.done = [each for each in issued.ledger.done if each not in gone]

    def _compare(
        self, ledger: Ledger, lineage: Lineage, done: list[Done], data: Data
    ) -> tuple[Outcome | None, Problem]:
        """Compare what a live session was replaced by with what the request did."""
        keys = ledger.owner_keys
        try:
            merged = over(done, lineage.data)
        except Refused as refused:
            return None, (REFUSES, repr(refused.function))
        last = owner(lineage.data, keys) or lineage.last_owner
        now = owner(merged.data, keys)
        switched = last is not None and now is not None and now != last and not merged.reset
        if not switched:
            return merged, _differs(data, merged, lineage.data)
        alone = over_nothing(done)
        problem = self._foreign(ledger, data, alone, last)
        if problem is None:
            return alone, None
        if self.mixed or owner(alone.data, keys) is None:  # a function that did not sign in
            return merged, problem if _differs(data, merged, lineage.data) else None
        return None, problem

    def _foreign(self, ledger: Ledger, data: Data, alone: Outcome, last: object) -> Problem:
        """Say what is wrong with a session that holds only what its request set."""
        for key, value in alone.data.items():
            if key not in data or data[key] != value:
                return "G2: a key was lost when nothing else went along", f"{key} in {data}"
        for key, value in data.items():
            own = key in alone.data or (key, repr(value)) in ledger.assigned
            if not own and not _made_by(ledger.number, value):
                whose = "another user's" if last else "an ended session's"
                return f"G5: {whose} data went along", f"{key}={value!r}"
        return None

    def _judge_id(
        self, lineage: Lineage, ledger: Ledger, data: Data, outcome: Outcome, *, renewed: bool
    ) -> None:
        before = lineage.data
        changed = owned(before, ledger.owner_keys) != owned(data, ledger.owner_keys)
        named = identified(before, data, ledger.names)
        if renewed:
            asked = outcome.renews or outcome.authenticates or outcome.data.destroyed
            _demand(
                changed or named or asked or outcome.reset != "",
                "G5: renewed without a reason",
                f"{before} became {data}",
            )
        else:
            _demand(not changed, "G5: another owner under the same ID", f"{before}, {data}")
            ours = lineage.maker is ledger and not lineage.held  # nobody can have planted this ID
            _demand(ours or not named, "G5: signed in under the same ID", f"{before}, {data}")
            asked = outcome.renews or outcome.authenticates
            _demand(not asked, "G5: renew() or authenticated(), and the same ID")
            again = outcome.reset in ("clear", "destroy") or outcome.data.destroyed
            _demand(not again, "G5: cleared and filled again under the same ID")

    def _judge_clock(
        self,
        issued: Issued,
        old: Record,
        before: Data,
        record: Record,
        data: Data,
        outcome: Outcome,
    ) -> None:
        if self.absolute is None:
            return
        keys = issued.ledger.owner_keys
        known = [] if outcome.reset in ("clear", "destroy") else owned(before, keys)
        anew = outcome.authenticates or any(each not in known for each in owned(data, keys))
        end = record.absolute_end
        assert old.absolute_end is not None
        fresh = end is not None and issued.begun <= end - self.absolute <= self.clock()
        if anew:
            _demand(fresh, "G8: an authentication did not begin the absolute clock anew")
        elif not (outcome.reset == "destroy" or outcome.data.destroyed):
            _demand(
                end is not None and end <= old.absolute_end,
                "G8: the absolute clock began anew without an authentication",
            )

    # --- a flow has ended ---

    def end(
        self,
        ledger: Ledger,
        error: BaseException | None,
        session: Any,
        handle: str | None,
        function: Function | None = None,
        result: object = None,
    ) -> None:
        """Judge what the application is told; ``error`` None: all is well.

        ``handle`` is the key of the session at hand, as the core has it.
        """
        own = next((each for each in ledger.done if each.function is function is not None), None)
        if error is None:
            if ledger.kind == "reload":
                self._reloaded(ledger, session, handle)
            elif ledger.kind != "opening":
                self._acknowledged(ledger, session, handle, function, result)
        elif isinstance(error, SessionGone):
            self._told_gone(ledger, own)
        elif isinstance(error, Refused):
            if own is None or error.function is not function:
                _demand(error.function.refused, "G2: told of a function that did not refuse")
                ledger.failed = True
        elif isinstance(error, StoreUnavailable):
            told = ledger.trouble or ledger.blocked or ledger.loose
            _demand(told, "G9: an outage without one", repr(error))
        else:
            replayed = any(each.function and each.function.refused for each in ledger.done)
            told = isinstance(error, LateChange | TooLarge) or replayed or ledger.failed
            _demand(told, f"G0: raised {type(error).__name__}", str(error))
        if error is not None and own in ledger.done:
            ledger.done.remove(own)  # the application was told that it is not done
        if error is not None and handle in self.private and not ledger.blocked:
            self._adopt(ledger, str(handle), judged=False)
        if error is not None and not ledger.trouble and not ledger.ever_in_trouble:
            self._no_orphans(ledger, None)

    def cancelled(self, ledger: Ledger, function: Function | None) -> None:
        """The flow was closed: its own function is not done, unless that is on its way."""
        if function is not None:
            ledger.done = [each for each in ledger.done if each.function is not function]

    def _no_orphans(self, ledger: Ledger, key: str | None) -> None:
        for made in ledger.made:
            _demand(
                made == key or made not in self.private or not self.alive(made),
                "G5: a live session that nobody holds",
            )

    def _told_gone(self, ledger: Ledger, own: Done | None) -> None:
        refused = own is not None and own.function is not None and own.function.refused
        never = not (ledger.lineage or ledger.created or ledger.quiet or ledger.loose)
        _demand(refused or not never, "G2: told that a session is gone which there never was")
        _demand(
            refused or not self.alive(ledger.key), "G2: told that the session is gone, it is alive"
        )
        if ledger.kind == "reload":
            self._after_reload(ledger, None)
        elif not refused and not ledger.blocked:
            _demand(
                self._signs_in(ledger) != "yes", "G5: a sign-in was lost: its session had ended"
            )
        for each in ledger.done:  # of another task's steps nothing was said
            each.maybe |= ledger.kind == "reload" or each in ledger.committing

    def _signs_in(self, ledger: Ledger) -> str:
        done = [each for each in ledger.done if each in ledger.committing and not each.maybe]
        return signs_in(done, ledger.base, ledger.owner_keys, ledger.names)

    def _reloaded(self, ledger: Ledger, session: Any, key: str | None) -> None:
        if key is not None:
            _demand(key in ledger.looks, "G1: reload() shows a session that it has not looked at")
            self._adopt(ledger, key, judged=False)
        shown = dict(dict.items(session))
        expected = ledger.looks.get(key, {}) if key is not None else {}
        _demand(shown == expected, "G1: reload() shows what is not stored", f"{shown}, {expected}")
        ledger.base = expected
        ledger.done = []
        ledger.key = key
        self._after_reload(ledger, key)

    def _after_reload(self, ledger: Ledger, key: str | None) -> None:
        if ledger.in_doubt:
            self._no_orphans(ledger, key)
        ledger.in_doubt = ledger.failed = ledger.destroyed = False
        ledger.reloads += 1

    def _adopt(self, ledger: Ledger, key: str, *, judged: bool = True) -> None:
        """The session at hand is by now the one that this request has created."""
        fresh = self.private.get(key)
        if fresh is None:
            return
        ledger.created = True
        if judged:
            self._judge_creation(ledger, fresh)
        del self.private[key]
        last = owner(fresh.data, ledger.owner_keys)
        self._add(Lineage(key, fresh.data, fresh.record, last, False, ledger))
        ledger.key = key
        ledger.base = ledger.looks[key] = fresh.data

    def _judge_creation(self, ledger: Ledger, fresh: Private) -> None:
        _demand(ledger.kind != "late", "G5: a session was created after the headers had left")
        _demand(not self.alive(ledger.key), "G5: one session became two")
        done = [each for each in ledger.done if each in ledger.committing]
        had_one = ledger.key is not None
        if had_one or ledger.quiet:
            signing = self._signs_in(ledger) if not any(e.maybe for e in done) else "unclear"
            may = signing != "no" or ledger.loose or reset_by(done) == "destroy"
            _demand(may, "G3: a request whose session had ended stored anew", repr(fresh.data))
        problem: Problem = None
        for each in _variants(done):
            try:
                outcome = over_nothing(each) if had_one or ledger.quiet else over(each, {})
            except Refused as refused:
                problem = REFUSES, repr(refused.function)
                continue
            problem = self._foreign(ledger, fresh.data, outcome, None)
            if problem is None:
                break
        _fits(problem)
        ledger.landing = Landing(fresh.data, outcome.results)
        gone = set(done)
        ledger.done = [each for each in ledger.done if each not in gone]

    def _acknowledged(
        self,
        ledger: Ledger,
        session: Any,
        handle: str | None,
        function: Function | None,
        result: object,
    ) -> None:
        done = [each for each in ledger.done if each in ledger.committing]
        hard = [each for each in done if not each.maybe]
        ledger.ends_all |= reset_by(hard) == "destroy"
        ends = reset_by(hard) != "" and is_empty(over_nothing(hard).data)
        if ledger.blocked:
            _demand(ledger.destroyed, "G2: acknowledged after a failure, before reload()")
            ledger.in_doubt = ledger.failed = False
            ledger.loose = True
        if handle is not None and handle in self.private:
            self._adopt(ledger, handle)
        elif ledger.landing is None and not ends and not ledger.loose:
            self._judge_nothing(ledger, done)
        if not ledger.ever_in_trouble:
            self._no_orphans(ledger, handle)
        if ends or ledger.ended or ledger.ends_all:
            self._judge_end(ledger, handle, ends=ends or reset_by(hard) == "destroy")
        if function is not None and ledger.landing and function in ledger.landing.results:
            expected = ledger.landing.results[function]
            _demand(
                result == expected,
                "G2: commit() returned what another run returned",
                f"{function}: {result!r}, {expected!r}",
            )
        if function is not None and function.kind == TOKEN and result is not None:
            _demand(result not in self.tokens, "G2: a one-time token was handed out twice")
            self.tokens.add(result)
        rest = [each for each in ledger.done if each not in ledger.committing]
        if ledger.landing is not None and handle is not None and ledger.kind == "commit":
            self._judge_shown(ledger, session, rest)
        if ledger.landing is None and not ends and not self.alive(ledger.key):
            for each in ledger.done:
                each.maybe = True
        else:
            ledger.done = rest
        if ends and ledger.landing is None:
            # Ended by others before: what is written now is stored, or not.
            ledger.loose = True
            ledger.key, ledger.base, ledger.quiet = None, {}, False

    def _judge_shown(self, ledger: Ledger, session: Any, rest: list[Done]) -> None:
        assert ledger.landing is not None
        try:
            expected = over(rest, ledger.landing.data)
        except Refused:
            return
        shown = dict(dict.items(session))
        problem = _differs(shown, expected, ledger.landing.data)
        if problem is not None:
            raise Violation("G1: after commit() the session shows something else", problem[1])

    def _judge_nothing(self, ledger: Ledger, done: list[Done]) -> None:
        """Acknowledged, and nothing written: there was nothing to write, or no session any more."""
        hard = [each for each in done if not each.maybe]
        if self.alive(ledger.key):
            try:
                outcome = over(hard, ledger.base)
            except Refused as refused:
                raise Violation("G2: acknowledged, although a function refuses", repr(hard)) from refused
            asked = outcome.renews or outcome.authenticates
            same = _differs(ledger.base, outcome, ledger.base) is None
            _demand(same and not asked, "G2: acknowledged and not stored", repr(hard))
            return
        if ledger.key is None and not ledger.quiet:
            try:
                nothing = is_empty(over(hard, {}).data)
            except Refused:
                nothing = False
            _demand(nothing, "G2: acknowledged and not stored", repr(hard))
            return
        _demand(self._signs_in(ledger) != "yes", "G5: a sign-in was lost: its session had ended")
        if ledger.kind == "commit":
            lost = hard and not is_empty(over_nothing(hard).data)
            _demand(not lost, "G2: commit() did not say that the session is gone", repr(hard))

    def _judge_end(self, ledger: Ledger, handle: str | None, *, ends: bool) -> None:
        """An end was acknowledged: every session whose cookie was shown is over."""
        for key, lineage in ledger.shown:
            own = lineage is ledger.lineage
            if not (ends if own else ledger.ends_all):
                continue
            if ledger.created and lineage.key != key:
                continue  # of two sign-ins at once a sign-out ends one
            known = self.look(key) is not None  # else its tombstone has expired, or it was deleted
            still = lineage.key is not None and lineage.key != handle and self.alive(lineage.key)
            _demand(not (known and still), "G3: a session is alive after its sign-out")

    # --- the answer ---

    def answered(self, ledger: Ledger, visit: Any, error: BaseException | None) -> None:
        """The response leaves: with a cookie, a removal, or neither."""
        answer: Cookie | None = visit.answer
        if error is not None:
            if ledger.blocked:  # what leaves carries no cookie where the core says that it failed
                known = getattr(visit, "trouble", None) is not None
                _demand(known or answer is None, "G5: a cookie after a failure")
            return
        ledger.acknowledged = True
        key = ledger.key
        lineage = self._lineage(key)
        if answer is not None:
            given = store_key(answer.id, "")
            _demand(given not in self.dead, "G5: a cookie for a session that is dead")
            self._judge_need(ledger, answer)
            held = self._lineage(given)
            if held is not None:
                held.held = True
        if visit.removed:
            _demand(ledger.ended, "G5: a removal cookie without an end at the response's start")
        if lineage is not None and lineage.maker is ledger and self.alive(key):
            _demand(lineage.held, "G5: a new ID that the client is not told")

    def _judge_need(self, ledger: Ledger, answer: Cookie) -> None:
        shown = next((each for each in ledger.cookies if each.id == answer.id), None)
        if shown is None or shown.version:  # a new ID, or one whose cookies carry versions
            return
        due = self.clock() - shown.timestamp >= self.idle * TENTH
        _demand(due, "G5: a cookie of the old ID that the client has no need of")

    def removed(self, jar: Cookie | None) -> None:
        """A removal has reached the browser, which holds this by now."""
        found = jar is not None and self.alive(store_key(jar.id, ""))
        _demand(not found, "G5: a removal took away the cookie of a session that is alive")

    # --- at rest ---

    def at_rest(self) -> None:
        """Every answer has left: what is alive is held by a client."""
        for lineage in self.lineages:
            maker = lineage.maker
            excused = maker is not None and not maker.acknowledged
            _demand(
                lineage.held or excused or not self.alive(lineage.key),
                "G5: a live session that nobody holds",
            )
        for key, fresh in self.private.items():
            _demand(
                fresh.ledger.ever_in_trouble or not self.alive(key),
                "G5: a live session that nobody holds",
            )


def _demand(holds: object, rule: str, values: str = "") -> None:
    if not holds:
        raise Violation(rule, values)


def _fits(problem: tuple[str, str] | None) -> None:
    if problem is not None:
        raise Violation(*problem)


def _variants(done: list[Done]) -> list[list[Done]]:
    """With and without what may have been dropped."""
    hard = [each for each in done if not each.maybe]
    return [done] if len(hard) == len(done) else [hard, done]


def _differs(data: Data, expected: Outcome, before: Data) -> Problem:
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


def _made_by(number: int, value: object) -> bool:
    """Whether a request made this value itself: what it makes begins with its number."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, str) and each.startswith(f"{number}.") for each in values)
