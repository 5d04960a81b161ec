"""What the judge demands of every call that reaches the store.

A write is compared with what it should have come to, which `effects` works out from the request's
steps and from what the store held. The judge knows nothing of versions, merging or the core's own
notes: a *lineage* is what a user calls "my session", a dict that goes on under a new key when it is
renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sharedsession._core.cookie import store_key
from sharedsession._core.record import Record, decode_record
from sharedsession.stores.base import Entry

from .effects import (
    PERMANENT,
    Data,
    Done,
    Outcome,
    Refused,
    identified,
    identity,
    is_empty,
    new_owner,
    over,
    over_nothing,
    owned,
    owner,
    reset_by,
)
from .ledger import (
    REFUSES,
    Issued,
    Landing,
    Ledger,
    Lineage,
    Private,
    Problem,
    demand,
    differs,
    fits,
    made_by,
    variants,
)

QUIET = 10  # seconds after an end in which a request with the old cookie stores nothing


class Writes:
    """Looks on at the store. ``mixed``: the servers disagree about the owner keys."""

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
        ledger.ended = ledger.ended_shown = False
        ledger.refused_for_room = ledger.trouble = False
        if kind == "opening":
            keys = (store_key(each.id, "") for each in ledger.cookies)
            ledger.shown = [(key, self.of[key]) for key in keys if key in self.of]

    def issue(self, ledger: Ledger) -> Issued:
        done = [each for each in ledger.done if each in ledger.committing]
        room, fence = ledger.refused_for_room, ledger.kind == "reload"
        return Issued(ledger, done, self.clock(), ledger.begun, ledger.reloads, room, fence)

    def refused(self, ledger: Ledger) -> None:
        """The store has no room for what it was given: nothing was written."""
        ledger.trouble = ledger.refused_for_room = True

    def faulted(self, ledger: Ledger, verb: str, arguments: Sequence[Any]) -> None:
        """A call has failed, or its flow was cancelled while it waited for the answer."""
        ledger.trouble = ledger.ever_in_trouble = True
        if verb in ("create", "replace") or (verb == "delete" and arguments[1] is not None):
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
                self._touched(issued, after)
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

    def _touched(self, issued: Issued, after: Entry | None) -> None:
        found = self._read(after)
        if found is not None and after is not None and found[0].absolute_end is not None:
            end = found[0].absolute_end + self.clock() - issued.begun
            demand((after.expires or 0) < end + 1, "G8: a touch went beyond the absolute end")

    def _wrote(self, issued: Issued, key: str, before: Entry | None, after: Entry | None) -> None:
        ledger = issued.ledger
        record, data = (None, {}) if after is None else decode_record(after.data)
        live = isinstance(record, Record)
        if key in self.dead:
            demand(not live, "G3: a dead session came back")
            demand(after is not None, "G3: a tombstone was removed")
            return
        lineage = self._lineage(key)
        if before is None and lineage is not None:
            self.dead.add(key)  # it had expired
            lineage.key = None
            demand(not live, "G3: an expired session came back")
            return
        if live:
            late = issued.reloads != ledger.reloads
            demand(not late, "G2: a write in doubt took place after reload()")
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
        if not (issued.fence and key in self.private and data == self.private[key].data):
            self._allow(ledger, issued)
        if key in self.private:
            owner_of_key = self.private[key].ledger
            demand(owner_of_key is ledger, "G5: a request wrote under another's new ID")
        else:
            ledger.made.append(key)
        self.private[key] = Private(ledger, record, data)

    def _allow(self, ledger: Ledger, issued: Issued) -> None:
        """Nothing is stored after a failure; what was on its way before may still arrive."""
        demand(issued.late or not ledger.blocked, "G2: stored after a failure, before reload()")

    def _replaced(self, issued: Issued, lineage: Lineage, record: Any, data: Data) -> None:
        ledger = issued.ledger
        if data == lineage.data and issued.fence:
            demand(
                record.absolute_end == lineage.record.absolute_end,
                "G8: reload() moved the absolute clock",
            )
            lineage.record = record
            ledger.looks[str(lineage.key)] = data
            return
        self._allow(ledger, issued)
        demand(lineage.key == ledger.key, "G5: a request wrote to a session that is not its own")
        demand(data != lineage.data, "G2: a request that changed nothing has written")
        self._judge_write(issued, lineage, record, data, renewed=False)

    def _renewed(self, issued: Issued, lineage: Lineage, successor: str) -> None:
        ledger, old = issued.ledger, lineage.key
        self._allow(ledger, issued)
        demand(old == ledger.key, "G5: a request renewed a session that is not its own")
        fresh = self.private.pop(successor, None)
        demand(fresh is not None, "G5: renewed, and there is no session under the new ID")
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
            demand(issued.refused_for_room, "G3: ended without a tombstone, though there is room")
        own = lineage.key == ledger.key
        left = self._left(issued, lineage)
        if own:
            demand(
                is_empty(left.data) or destroys or left.reset != "",
                "G2: ended, although something was left",
                repr(dict(left.data)),
            )
        else:
            demand(
                any(each is lineage for _, each in ledger.shown),
                "G3: a request ended a session that it was not shown",
            )
            demand(
                ledger.ends_all
                or ledger.may_end_all
                or destroys
                or ledger.emptied
                or self._signs_out(ledger, left)
                or self._signs_out_anew(issued),
                "G3: a request ended another session without a sign-out",
            )
        ledger.ends_all |= destroys or self._signs_out(ledger, left)
        self.dead.add(str(lineage.key))
        lineage.key = None
        ledger.ended = True
        ledger.may_end_all |= own
        ledger.ended_shown |= any(each is lineage for _, each in ledger.shown)
        if own and is_empty(left.data):
            ledger.landing = Landing({}, left.results)
            self._consume(issued)
            # What it stores from now on is a new session.
            ledger.key, ledger.base, ledger.quiet = None, {}, False

    def _left(self, issued: Issued, lineage: Lineage) -> Outcome:
        """Return what a request that ends a session has left of it, or of its own."""
        ledger = issued.ledger
        data = lineage.data if lineage.key == ledger.key else ledger.base
        try:
            outcomes = [over(done, data) for done in variants(issued.done)]
        except Refused:
            return over_nothing(issued.done)
        if self._switched(ledger, lineage, outcomes[0]):
            return over_nothing(issued.done)
        return next((each for each in outcomes if is_empty(each.data)), outcomes[0])

    def _signs_out_anew(self, issued: Issued) -> bool:
        """Whether a sign-in leaves another user's name behind, which was theirs before it."""
        alone = over_nothing(issued.done)
        return bool(alone.data) and self._signs_out(issued.ledger, alone)

    def _switched(self, ledger: Ledger, lineage: Lineage, outcome: Outcome) -> str | None:
        """Return the user whose session another one has taken over, if that is so."""
        last = owner(lineage.data, ledger.owner_keys) or lineage.last_owner
        now = owner(outcome.data, ledger.owner_keys)
        other = last is not None and now is not None and now != last
        if owned(lineage.data, ledger.owner_keys):
            other = other and new_owner(lineage.data, outcome.data, ledger.owner_keys)
        return last if other and not outcome.reset else None

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
        for done in variants(issued.done):
            outcome, problem = self._compare(ledger, lineage, done, data)
            if problem is None:
                break
        fits(problem)
        assert outcome is not None
        self._judge_id(lineage, ledger, data, outcome, renewed=renewed)
        self._judge_clock(issued, old, before, record, data, outcome)
        destroyed = outcome.data.destroyed or outcome.reset == "destroy"
        out = destroyed or self._signs_out(ledger, outcome)
        signed_in = owned(data, ledger.owner_keys)
        over_it = bool(signed_in) and signed_in != owned(before, ledger.owner_keys)
        ledger.may_end_all |= out
        ledger.ends_all |= out and (destroyed or not over_it)
        ledger.changed_lifetime |= before.get(PERMANENT) != data.get(PERMANENT)
        lineage.data, lineage.record = data, record
        last = owner(before, ledger.owner_keys) or lineage.last_owner
        if outcome.reset in ("clear", "destroy") or outcome.data.destroyed:
            last = None  # nothing of theirs is left
        lineage.last_owner = owner(data, ledger.owner_keys) or last
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
        last = self._switched(ledger, lineage, merged)
        if last is None:
            return merged, differs(data, merged, lineage.data)
        alone = over_nothing(done)
        problem = self._foreign(ledger, data, alone, last)
        if problem is None:
            return alone, None
        if self.mixed or owner(alone.data, keys) is None:  # a function that did not sign in
            return merged, problem if differs(data, merged, lineage.data) else None
        return None, problem

    def _foreign(self, ledger: Ledger, data: Data, alone: Outcome, last: object) -> Problem:
        """Say what is wrong with a session that holds only what its request set."""
        for key, value in alone.data.items():
            if key not in data or data[key] != value:
                return "G2: a key was lost when nothing else went along", f"{key} in {data}"
        for key, value in data.items():
            own = key in alone.data or (key, repr(value)) in ledger.assigned
            if not own and not made_by(ledger.number, value):
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
            demand(
                changed or named or asked or outcome.reset != "",
                "G5: renewed without a reason",
                f"{before} became {data}",
            )
        else:
            demand(not changed, "G5: another owner under the same ID", f"{before}, {data}")
            ours = lineage.maker is ledger and not lineage.held  # nobody can have planted this ID
            demand(ours or not named, "G5: signed in under the same ID", f"{before}, {data}")
            asked = outcome.renews or outcome.authenticates
            demand(not asked, "G5: renew() or mark_authenticated(), and the same ID")
            again = outcome.reset in ("clear", "destroy") or outcome.data.destroyed
            demand(not again, "G5: cleared and filled again under the same ID")

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
        known = {} if outcome.reset in ("clear", "destroy") else before
        anew = outcome.authenticates or new_owner(known, data, keys)
        end = record.absolute_end
        assert old.absolute_end is not None
        fresh = end is not None and issued.begun <= end - self.absolute <= self.clock()
        if anew:
            demand(fresh, "G8: an authentication did not begin the absolute clock anew")
        elif not (outcome.reset == "destroy" or outcome.data.destroyed):
            demand(
                end is not None and end <= old.absolute_end,
                "G8: the absolute clock began anew without an authentication",
            )
