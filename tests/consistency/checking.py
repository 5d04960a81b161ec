"""From a client's history to what is wrong with it. Plain functions of plain values.

What a session holds only ever grows in these histories: a life, the operations done in it, and for
each key a value that newer ones replace. Each such *fact* is known from the moment at which it was
acknowledged, or at which an answer showed it. An answer to a request that began later must show it
too. Where it does not, the rule that is broken is

* **lost update**: it was acknowledged, and no later answer shows it either;
* **read your writes**: it was acknowledged, and a later answer shows it again;
* **monotonic reads**: it was not acknowledged (yet), but an answer had shown it.

A life may be missing from an answer only when something that ends it had begun by then.

Where servers hold copies, ``bound`` says for how long a copy may be behind the store. It softens
the rules for answers that a copy can have given, and for these alone: not for what commit() and
reload() have seen, not within the time after a cookie's own timestamp in which the store itself is
read, and never below the version in the cookie that was sent. So a fact may be missing, for that
long, where the cookie sent stands for less: for an earlier version, as an answer that overtook
another leaves behind, or for the session before a renewal. An absence is always the store's word.

A server without copies, beside others that have some, excuses nothing, and neither does a cookie
without a version, which every server takes to the store.

A `Period` says what is so for a while: a store that is full still lets users sign out, and after a
switch-over a server that only reads may ask the old primary for as long as is stated.

With an idle timeout, ``max_age``, a session may also be missing when that much time has passed
since the time in its newest cookie, and must be when nobody can have used it for as long. Of the
requests that show an old cookie to one server together, one prolongs it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from .application import COINS
from .history import BEGINS, ENDS, LEAVES, History, Kind, Operation, Outcome, Period, Shown, told

ROUNDED = 1.0  # seconds, by which the time in a cookie may be too early
WINDOW = 2.0  # seconds beyond the bound in which the store is read, after a cookie's timestamp
SLACK = 0.05  # seconds by which clocks of one machine are read at different times
TOUCHED = 0.1  # share of the idle timeout after which a session is given a new one
SECOND = 1.0  # a cookie's time is in whole seconds
APART = (
    5.0  # seconds in which a server prolongs a session once, a share of a short lifetime at most
)
LOST = 2.0  # seconds that a server may be at a request whose client has given up


NO_VERSION = 0  # of a cookie whose session was begun by a server without copies
APPENDS = frozenset({Kind.MUTATE, Kind.PAY})


class Rule(Enum):
    READ_YOUR_WRITES = "read your writes"
    MONOTONIC_READS = "monotonic reads"
    LOST_UPDATE = "no lost acknowledged update"
    ONE_SESSION = "one session never two"
    SIGNED_OUT = "no use after sign-out"
    IDLE = "the idle timeout, and no other"
    FOREIGN_DATA = "no foreign data"
    SERVED = "served again, and never kept from signing out"


@dataclass(frozen=True)
class Violation:
    rule: Rule
    what: str
    concerned: tuple[Operation, ...]

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.what}\n{told(self.concerned)}"


def check(
    history: History,
    bound: float = 0.0,
    max_age: float = math.inf,
    window: bool = True,
    rewinds: bool = False,
    plain: Collection[str] = (),
    periods: Sequence[Period] = (),
    readers: Collection[str] = (),
) -> list[Violation]:
    """Return what is wrong; ``bound``: seconds for which a copy may be behind the store.

    ``window``: under young cookies the store itself is read, which cannot be during an outage.
    ``rewinds``: a failover may take back what was answered 503, after somebody has seen it.
    ``plain``: the servers that have no copies, where others have. ``readers``: those that are sent
    nothing but reads.
    """
    view = View(history, bound, max_age, window, rewinds, plain, periods, readers)
    rules = (
        foreign_data(view),
        one_session(view),
        signed_out(view),
        idle(view),
        facts(view),
        cookies(view),
        served(view),
    )
    return [violation for rule in rules for violation in rule]


class View:
    """A history, and what follows from it for sessions and lives."""

    def __init__(
        self,
        history: History,
        bound: float,
        max_age: float,
        window: bool,
        rewinds: bool,
        plain: Collection[str],
        periods: Sequence[Period],
        readers: Collection[str],
    ) -> None:
        self.client = history.client
        self.plain, self.periods, self.readers = plain, periods, readers
        self.window, self.rewinds = window, rewinds
        self.bound, self.epoch, self.max_age = bound, history.epoch, max_age
        self.operations = history.operations
        self.numbered = {each.number: each for each in history.operations}
        self.answers = [each for each in history.operations if each.acknowledged]
        self.by_session: dict[str, list[Operation]] = defaultdict(list)  # by the cookie sent
        self.came_from: dict[str, str] = {}  # session: the one whose cookie led to it
        self.life_of: dict[str, int] = {}
        self.given_at: dict[str, float] = {}
        for each in self.operations:
            if each.given is not None:
                self.given_at.setdefault(each.given.session, each.end)
            for session in _shown_by(each):
                self.by_session[session].append(each)
            if each.given is not None and each.shown is not None and each.shown.life is not None:
                self.life_of.setdefault(each.given.session, each.shown.life)
                if each.sent is not None and each.sent.session != each.given.session:
                    self.came_from.setdefault(each.given.session, each.sent.session)
        self.by_life: dict[int, list[Operation]] = defaultdict(list)
        for each in self.answers:
            life = self.life(each)
            if life is not None:
                self.by_life[life].append(each)

    def may_vanish(self, operation: Operation) -> bool:
        """Whether what an operation did may be taken back: nobody was told that it is stored."""
        return self.rewinds and operation.outcome is Outcome.UNKNOWN

    def life(self, operation: Operation) -> int | None:
        """The life that an answer shows, or else the one whose cookie was sent."""
        return self.left(operation) if operation.shown is None else operation.shown.life

    def left(self, operation: Operation) -> int | None:
        """The life whose cookie was sent."""
        return None if operation.sent is None else self.life_of.get(operation.sent.session)

    def lives_left(self, operation: Operation) -> Iterator[int | None]:
        """The lives of all cookies that were sent."""
        return (self.life_of.get(session) for session in _shown_by(operation))

    def enders(self, session: str) -> Iterator[Operation]:
        """What may have ended a session: who leaves also ends what its session has become."""
        for each in self.by_session[session]:
            if each.kind in ENDS and each.outcome is not Outcome.FAILED and not _in_vain(each):
                yield each
        for ancestor in self._ancestors(session):
            for each in self.by_session[ancestor]:
                if each.kind in LEAVES and each.outcome is not Outcome.FAILED:
                    yield each

    def may_have_ended(self, operation: Operation) -> bool:
        """Whether the session of the cookie sent may have ended before the answer came."""
        assert operation.sent is not None
        if self.may_have_expired(operation):
            return True
        ends = self.enders(operation.sent.session)
        return any(each.begin < operation.end for each in ends if each is not operation)

    def may_have_expired(self, operation: Operation) -> bool:
        """Whether the idle timeout may have passed before the answer came."""
        return operation.end + SLACK >= self._expiry(operation)

    def may_be_prolonged(self, operation: Operation) -> bool:
        """Whether another request was on its way that had begun before the timeout passed.

        The time counts at which it asked, and it may have waited, for a lock for example.
        """
        assert operation.sent is not None
        expiry = min(self._expiry(operation) + ROUNDED, operation.end)
        return any(
            each.begin < expiry and each.settled > operation.begin
            for each in self.by_session[operation.sent.session]
            if each is not operation and each.outcome is not Outcome.FAILED
        )

    def _expiry(self, operation: Operation) -> float:
        """When the session of the cookie sent ends, as far as its client knows at that time."""
        assert operation.sent is not None
        if self.max_age == math.inf:
            return math.inf
        given = (each.given for each in self.answers if each.before(operation))
        known = [operation.sent, *(each for each in given if each is not None)]
        times = [each.time for each in known if each.session == operation.sent.session]
        newest = max((time for time in times if time is not None), default=-math.inf)
        return newest + self.max_age - self.epoch

    def disturbed_by(self, operation: Operation) -> Iterator[Operation]:
        """What else can have ended its session while it ran, or since the copy that it saw."""
        if operation.sent is not None:
            lag = self.may_lag(operation)
            for each in self.enders(operation.sent.session):
                overlaps = each.begin < operation.end and operation.begin < each.settled + lag
                if overlaps and not each.is_with(operation):
                    yield each

    def effective(self, operation: Operation) -> bool:
        """Whether a change is known to be stored.

        Without a commit() of the application's own, a change of a session that ends meanwhile is
        dropped, and the answer does not say so. A sign-in is a sign-in all the same.
        """
        if not operation.acknowledged:
            return False
        if operation.sure:
            return True
        if operation.shown is None:
            return False
        if operation.kind in BEGINS or operation.sent is None:
            return True
        return not any(self.disturbed_by(operation)) and not self.may_have_expired(operation)

    def from_the_store(self, answer: Operation) -> bool:
        """Whether no copy can have given this answer."""
        if answer.sure or answer.server in self.plain:
            return True
        if answer.sent is not None and answer.sent.version == NO_VERSION:
            return True
        if not self.window or answer.sent is None or answer.sent.time is None:
            return False
        return answer.end + self.epoch < answer.sent.time + self.bound + WINDOW - SLACK

    def may_lag(self, answer: Operation) -> float:
        """Seconds for which an answer may show a session that has ended: a change may not."""
        changed = answer.kind is not Kind.READ and answer.given is not None
        lag = 0.0 if changed or self.from_the_store(answer) else self.bound
        return max(lag, self.behind(answer))

    def behind(self, answer: Operation) -> float:
        """Seconds by which an answer may be behind because it came from an old primary."""
        wrote = answer.kind is not Kind.READ and answer.shown is not None
        return 0.0 if wrote else self.since_switch(answer)

    def since_switch(self, answer: Operation) -> float:
        """Seconds since the switch-over after which an old primary may have been read."""
        reader = answer.server in self.readers
        met = [each for each in self.periods if each.behind and _meet(each, answer)]
        began = [each.begin for each in met if reader or not each.of_readers]
        return answer.begin - min(began) + SLACK if began else 0.0

    def excuses(self, answer: Operation, known: Operation) -> bool:
        """Whether a copy may have given an answer that lacks what was known before."""
        if behind := self.behind(answer):
            since = known.end
            if answer.shown is None and answer.sent is not None:  # it may not be there yet
                since = max(since, self.given_at.get(answer.sent.session, 0.0))
            if since + behind >= answer.begin:
                return True
        if answer.shown is None or self.from_the_store(answer):
            return False
        return known.end + self.bound >= answer.begin and self._asks_for_less(answer, known)

    def _asks_for_less(self, answer: Operation, known: Operation) -> bool:
        """Whether the cookie sent stands for less than what an earlier answer had shown."""
        asked, held = answer.sent, known.given or known.sent
        if asked is None or held is None:
            return False
        if asked.session != held.session:
            return asked.session in self._ancestors(held.session)
        # Nobody is given a newer version of a session that has ended, whatever the answer shows.
        at_least = known.given is None and self.may_have_ended(known)
        return at_least or asked.version < held.version

    def _ancestors(self, session: str) -> Iterator[str]:
        """The sessions that a session was before it was renewed."""
        seen = {session}
        while (session := self.came_from.get(session, "")) and session not in seen:
            seen.add(session)
            yield session


def _shown_by(operation: Operation) -> set[str]:
    """The sessions whose cookies a request showed."""
    cookies = [operation.sent, *operation.also]
    return {each.session for each in cookies if each is not None}


def _meet(period: Period, answer: Operation) -> bool:
    return answer.begin < period.end and period.begin < answer.end


def _in_vain(operation: Operation) -> bool:
    """Whether a renewal found that the session had ended already."""
    return operation.kind is Kind.RENEW and operation.acknowledged and operation.shown is None


# --- what only ever grows -------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """Something left by an operation.

    ``held`` says whether a session still holds it, ``seen`` whether it proves that it was left.
    """

    left_by: Operation
    what: str
    held: Callable[[Shown], bool]
    seen: Callable[[Shown], bool]


def facts(view: View) -> Iterator[Violation]:
    for life, operations in view.by_life.items():
        born = view.numbered.get(life)
        if born is None or born.kind not in BEGINS:
            continue  # foreign data
        if born.acknowledged and born.given is None and not _may_be_left(view, born):
            what = f"the sign-in #{life} left no session"
            yield Violation(Rule.LOST_UPDATE, what, (born, *view.disturbed_by(born)))
        yield from _complete(view, born, operations)
        for fact in _facts_of(view, life, born, operations):
            violation = _missing(view, fact, operations)
            if violation is not None:
                yield violation
                if fact.left_by is born:
                    break  # with the life all the rest is missing


def _may_be_left(view: View, born: Operation) -> bool:
    """Whether a sign-in may leave nothing: somebody signed out at the same time."""
    return any(each.kind in LEAVES for each in view.disturbed_by(born))


def _complete(view: View, born: Operation, operations: list[Operation]) -> Iterator[Violation]:
    """Whatever an operation or a sign-in leaves is there as a whole, and once."""
    for each in operations:
        if each.shown is None:
            continue
        twice = [number for number, times in Counter(each.shown.done).items() if times > 1]
        if twice:
            concerned = (*(o for o in operations if o.number in twice), each)
            yield Violation(Rule.LOST_UPDATE, f"#{twice[0]} was done twice", concerned)
            return
        paid = [n for n in each.shown.done if n in view.numbered and _pays(view.numbered[n])]
        if each.shown.coins not in (None, COINS - len(paid)):
            what = f"{each.shown.coins} coins of {COINS} are left after {len(paid)} payments"
            concerned = (born, *(o for o in operations if _pays(o)), each)
            yield Violation(Rule.LOST_UPDATE, what, concerned)
            return
        if each.shown.who is None:
            what = f"the session holds a part of what the sign-in #{born.number} put there"
            concerned = (born, *view.disturbed_by(born), each)
            yield Violation(Rule.LOST_UPDATE, what, concerned)
            return


def _pays(operation: Operation) -> bool:
    return operation.kind is Kind.PAY


def _facts_of(
    view: View, life: int, born: Operation, operations: list[Operation]
) -> Iterator[Fact]:

    def of_life(shown: Shown) -> bool:
        return shown.life == life

    if not view.may_vanish(born):
        yield Fact(born, f"the session of the sign-in #{life}", of_life, of_life)
    writes: dict[str, list[Operation]] = defaultdict(list)
    for each in view.operations:
        if each.sent is None or view.life_of.get(each.sent.session) != life:
            continue
        if view.may_vanish(each):
            continue
        number = each.number
        if each.kind in APPENDS:
            yield Fact(each, f"#{number}", _has_done(number), _has_done(number))
        elif each.kind is Kind.WRITE and each.key is not None:
            writes[each.key].append(each)
    for key, those in writes.items():
        for write in those:
            older = {each.number for each in those if _older(view, key, each, write, operations)}
            at_least = _has_not(key, older | {0})  # 0: not set at all
            what = f"{key}={write.number} or newer"
            yield Fact(write, what, at_least, _has(key, write.number))


def _has_done(number: int) -> Callable[[Shown], bool]:
    return lambda shown: number in shown.done


def _has(key: str, number: int) -> Callable[[Shown], bool]:
    return lambda shown: shown.keys.get(key) == number


def _has_not(key: str, numbers: set[int]) -> Callable[[Shown], bool]:
    return lambda shown: shown.keys.get(key, 0) not in numbers


def _older(
    view: View, key: str, one: Operation, other: Operation, operations: list[Operation]
) -> bool:
    """Whether one write surely came before the other: it was over, or was seen first."""
    if one is other or (view.effective(other) and other.before(one)):
        return False
    if view.effective(one) and one.before(other):
        return True
    first = next((o for o in _by_end(operations) if _proves(view, o, key, one)), None)
    return first is not None and any(
        first.before(each) and _proves(view, each, key, other) and not view.excuses(each, first)
        for each in operations
    )


def _proves(view: View, answer: Operation, key: str, write: Operation) -> bool:
    """Whether an answer shows that a write was the last one of its key."""
    if answer.shown is None or answer.shown.keys.get(key) != write.number:
        return False
    return not answer.is_with(write) or view.effective(write)


def _missing(view: View, fact: Fact, operations: list[Operation]) -> Violation | None:
    """The first answer that lacks a fact which its client knew when it asked."""
    showing = [
        each
        for each in _by_end(operations)
        if each.shown is not None
        and fact.seen(each.shown)
        and (not each.is_with(fact.left_by) or view.effective(fact.left_by))
    ]
    lacking = [each for each in operations if _lacks(view, fact, each)]
    acknowledged = [fact.left_by] if view.effective(fact.left_by) else []
    for known in acknowledged + showing:
        for each in lacking:
            if not known.before(each) or view.excuses(each, known):
                continue
            again = next((other for other in showing if other.end > each.end), None)
            rule = Rule.MONOTONIC_READS
            if known is fact.left_by:
                rule = Rule.LOST_UPDATE if again is None else Rule.READ_YOUR_WRITES
            between = [o for o in operations if o.kind in ENDS and o.begin < each.end]
            renewals = [o for o in between if o.settled > known.begin]
            shown = [fact.left_by, known, *renewals, each, *([again] if again else [])]
            what = f"#{each.number} does not show {fact.what}, known from #{known.number}"
            return Violation(rule, what, tuple(shown))
    return None


def _lacks(view: View, fact: Fact, answer: Operation) -> bool:
    """Whether an answer should show a fact, if that is known, and does not."""
    if answer.shown is not None:
        return not fact.held(answer.shown)
    if answer.kind is Kind.SIGN_OUT or fact.left_by.kind not in BEGINS:
        return False
    return not view.may_have_ended(answer)


def _by_end(operations: list[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda operation: operation.end)


def cookies(view: View) -> Iterator[Violation]:
    """The version in a cookie is what its client has seen: no answer takes it back.

    A session has versions or it has none, and without any its cookie comes once, until it is old.
    """
    due = view.max_age * TOUCHED
    for each in view.answers:
        sent, given = each.sent, each.given
        if sent is None or given is None or given.session != sent.session:
            continue
        if any(view.may_vanish(other) for other in view.by_session[sent.session]):
            continue
        if given.version < sent.version:
            what = f"the cookie goes back from {sent} to {given}"
            yield Violation(Rule.MONOTONIC_READS, what, (each,))
            return
        if sent.version != NO_VERSION:
            continue
        if given.version != NO_VERSION:
            what = f"the cookie {sent} is given a version, {given}, and the session had none"
            yield Violation(Rule.MONOTONIC_READS, what, (each,))
            return
        if sent.time is not None and each.end + view.epoch + SLACK < sent.time + due:
            what = f"the cookie {sent} is sent once more, and could displace a newer session's"
            yield Violation(Rule.ONE_SESSION, what, (each,))
            return


# --- sessions that should not be there ------------------------------------------------------------


def one_session(view: View) -> Iterator[Violation]:
    """A life has one live session: a renewal has one heir, and its old cookie shows nothing."""
    for session, operations in view.by_session.items():
        heirs = [o for o in operations if o.acknowledged and o.kind in ENDS and _renewed(o)]
        heirs = [o for o in heirs if not view.since_switch(o)]  # it may have found nothing
        twins = [each for each in heirs if each.kind is Kind.RENEW]
        if len({each.given.session for each in twins if each.given is not None}) > 1:
            yield Violation(Rule.ONE_SESSION, "two sessions have come out of one", tuple(twins))
        for each in operations:
            if each.shown is None or not each.acknowledged or each.kind in BEGINS:
                continue
            life = view.life_of.get(session)
            if life is not None and each.shown.life not in (life, None):
                what = f"the cookie of life {life} shows life {each.shown.life}"
                yield Violation(Rule.ONE_SESSION, what, (each,))
                break
            lag = view.may_lag(each)
            late = next((heir for heir in heirs if heir.end + lag < each.begin), None)
            if late is not None:
                what = f"the cookie that #{late.number} replaced shows a live session"
                yield Violation(Rule.ONE_SESSION, what, (late, each))
                break


def _renewed(operation: Operation) -> bool:
    return (
        operation.given is not None
        and operation.sent is not None
        and operation.given.session != operation.sent.session
    )


def signed_out(view: View) -> Iterator[Violation]:
    """After a sign-out nothing shows the life; what was found ended once stays ended."""
    for life, operations in view.by_life.items():
        outs = [o for o in view.answers if o.kind in LEAVES and life in view.lives_left(o)]
        outs = [o for o in outs if not view.since_switch(o)]  # it may have found nothing
        for each in operations:
            if each.shown is None:
                continue
            lag = view.may_lag(each)
            out = next((out for out in outs if out.end + lag < each.begin), None)
            if out is None and each.sent is not None:
                ended = view.by_session[each.sent.session]
                out = next((o for o in ended if _found_ended(view, o, each)), None)
            if out is not None:
                what = f"#{each.number} shows life {life}, which #{out.number} ended"
                if out.kind not in LEAVES:
                    what = f"#{each.number} shows a session that #{out.number} found ended"
                yield Violation(Rule.SIGNED_OUT, what, (out, each))
                break


def _found_ended(view: View, earlier: Operation, later: Operation) -> bool:
    return (
        later.sent is not None
        and earlier.acknowledged
        and earlier.shown is None
        and earlier.kind not in LEAVES
        and earlier.end + view.may_lag(later) < later.begin
        and later.kind not in BEGINS
        and view.may_have_ended(earlier)
        and not view.behind(earlier)
        and not any(view.may_vanish(each) for each in view.enders(later.sent.session))
        and not (view.may_have_expired(earlier) and view.may_be_prolonged(earlier))
        and not any(_renewed(each) for each in view.by_session[later.sent.session])
    )


def idle(view: View) -> Iterator[Violation]:
    """Who uses a session prolongs it in time; what nobody has used for long enough is gone."""
    if view.max_age == math.inf:
        return
    for session, operations in view.by_session.items():
        used = [*operations, *(o for o in view.answers if o.given and o.given.session == session)]
        for each in operations:
            if each.shown is None or not each.acknowledged or each.kind in BEGINS:
                continue
            others = [o for o in used if o is not each and o.begin < each.end]
            others = [o for o in others if o.outcome is not Outcome.FAILED]
            last = max(others, key=lambda o: o.settled, default=None)
            if last is not None and last.settled + view.max_age + view.bound < each.begin:
                what = f"#{each.number} shows a session that nobody has used since #{last.number}"
                yield Violation(Rule.IDLE, what, (last, each))
                break
            if _not_prolonged(view, each) and not any(
                _prolonged_beside(view, each, other) for other in operations if other is not each
            ):
                what = f"#{each.number} uses a session and does not prolong it"
                yield Violation(Rule.IDLE, what, (each,))
                break


def _not_prolonged(view: View, use: Operation) -> bool:
    """Whether a session was used whose cookie is old, and whose client was given none."""
    held = use.given or use.sent
    if held is None or held.time is None or view.may_have_ended(use):
        return False
    return use.begin + view.epoch - held.time > view.max_age * TOUCHED + SECOND + SLACK


def _prolonged_beside(view: View, use: Operation, other: Operation) -> bool:
    """Whether its server had prolonged that very cookie a moment before, or may have."""
    if other.sent != use.sent or other.server != use.server or other.outcome is Outcome.FAILED:
        return False
    if other.acknowledged and other.given is None:
        return False
    ended = other.end if other.end < math.inf else other.begin + LOST
    apart = min(APART, view.max_age * TOUCHED)
    return other.begin < use.end and use.begin < ended + apart + SLACK


# --- what is not refused --------------------------------------------------------------------------


def served(view: View) -> Iterator[Violation]:
    """Who is full, or was switched over, still answers what is said."""
    for period in view.periods:
        for each in view.operations:
            if each.kind not in period.answered or each.refused_at is None:
                continue
            if period.begin < each.begin and each.refused_at < period.end:
                yield Violation(Rule.SERVED, f"#{each.number} is refused", (each,))
                return


# --- data of others -------------------------------------------------------------------------------


def foreign_data(view: View) -> Iterator[Violation]:
    """A session shows what its own client put there, in this life, and nothing else."""
    for each in view.answers:
        what = None if each.shown is None else _foreign(view, each, each.shown)
        if what is not None:
            yield Violation(Rule.FOREIGN_DATA, f"#{each.number} shows {what}", (each,))
            return


def _foreign(view: View, operation: Operation, shown: Shown) -> str | None:
    if shown.who not in (view.client, None):
        return f"the session of {shown.who}"
    if not _left(view, operation, shown.life, BEGINS):
        return f"life {shown.life}, which nobody began"
    for number in shown.done:
        if not _left(view, operation, number, APPENDS, life=shown.life):
            return f"#{number}, which was not done in this life"
    if operation.kind is Kind.SIGN_OVER and not operation.sure:
        return None  # the former user's keys go when it is committed, after this was said
    for key, number in shown.keys.items():
        if not _left(view, operation, number, {Kind.WRITE}, key, shown.life):
            return f"{key}={number}, which was not written in this life"
    return None


def _left(
    view: View,
    answer: Operation,
    number: int | None,
    kinds: Collection[Kind],
    key: str | None = None,
    life: int | None = None,
) -> bool:
    """Whether an operation of such a kind and number may have left its trace before the answer."""
    if number is None:
        return False
    origin = view.numbered.get(number)
    if origin is None or origin.kind not in kinds or origin.outcome is Outcome.FAILED:
        return False
    meant = None if origin.sent is None else view.life_of.get(origin.sent.session)
    same_life = life is None or meant in (life, None)
    return origin.begin < answer.end and origin.key == key and same_life
