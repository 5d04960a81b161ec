"""The order of steps: opening, closing, renewing, ending, and the two drivers that run them.

A flow is a generator. It yields what it needs, ``(verb, *arguments)`` with a verb of the store or
``("pause", seconds)``, is sent the answer, and returns its result; it composes by ``yield from``.
`drive` runs a flow with a plain store, `adrive` one that awaits; nothing else differs between sync
and async. A flow never repeats a store's command: only the store does that, with the same token.

Rules that the interleavings taught, each of them a test:

* A session found ended, at load or at commit, stays ended, and the response carries no Set-Cookie.
  Only the request that ends a session removes its cookie: a removal that arrives late would sign
  out somebody who has just signed in.
* For the same reason the last store call before any Set-Cookie for an ID that the client already
  has is one that saw the session alive: the compare-and-set itself, or a load after a touch.
* A renewal creates the new session first and then swaps the old record for an end mark; the cookie
  is set only when the mark stands.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import count
from math import ceil
from typing import Any, TypeVar

from .concurrency import DeadlinePassed
from .cookie import Cookie, CookieCodec, new_id, store_key
from .exceptions import (
    DamagedRecord,
    LateChange,
    SessionError,
    SessionGone,
    StoreUnavailable,
    TooLarge,
    UnknownFormat,
)
from .record import (
    EMPTY,
    Data,
    EndMark,
    Record,
    decode_data,
    decode_record,
    encode_data,
    encode_record,
    owner_name,
    owners,
    same_data,
)
from .session import EmptyInOutage, Intent, Session, UnusedSession
from .settings import Settings
from .stores.base import FRESHEST, Entry, Store

T = TypeVar("T")
Step = tuple[Any, ...]  # a verb and its arguments, which differ from verb to verb
Flow = Generator[Step, Any, T]  # what is sent in is the verb's answer

MARK_KEPT = 300  # seconds that an end mark stays, for requests that are still on their way
QUIET = 10.0  # seconds after an end in which a request with the old cookie stores nothing
TOUCH_AFTER = 0.1  # share of the idle timeout between two touches
CLOCKS_APART = 2  # seconds, with what is lost of a cookie's time by rounding it
BREAKER_TIMEOUT = 0.1  # seconds that an attempt may take while the store is known to be down,
BREAKER_PAUSE = 2.0  # but for one in so many seconds, which may take its full time

log = logging.getLogger("sharedsession")


class Breaker:
    """Shortens the attempts while the store does not answer in time; it never refuses one.

    A store that fails at once, a refused connection for example, costs nobody any time: then the
    next attempt has all of its own.
    """

    def __init__(self) -> None:
        self.down = False  # the store has kept somebody waiting, in vain, when it was last asked
        self._retry_at = 0.0  # when an attempt may take its full time again, monotonic
        self._answered_at = 0.0  # when the store last answered, on the same clock

    def answered(self) -> None:
        """The store has answered."""
        self.down = False
        self._answered_at = time.monotonic()

    def failed(self, seconds: float) -> None:
        """The store has failed, after so long."""
        self.down = seconds >= BREAKER_TIMEOUT

    def too_late(self, patience: float) -> None:
        """The deadline has passed; many writers of one session may use it up, with the store up."""
        self.down = time.monotonic() - self._answered_at > patience

    def patience(self, timeout: float) -> float:
        """Seconds that opening or closing may take: few while the store is known to be down.

        Once in a while an attempt has its full time even then: a store that is back, but far away,
        would never be noticed otherwise.
        """
        now = time.monotonic()
        if self.down and now < self._retry_at:
            return min(timeout, BREAKER_TIMEOUT)
        self._retry_at = now + BREAKER_PAUSE
        return timeout


class Manager:
    """What the requests of one middleware share: settings, cookies, clock, counters, breaker.

    ``like``: another manager of the same store, whose clock, counters and breaker it shares.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        like: Manager | None = None,
    ) -> None:
        self.settings = settings
        self.codec = CookieCodec(settings)
        self.clock: Callable[[], float] = clock if like is None else like.clock
        self.counts: Counter[str] = Counter() if like is None else like.counts
        self.breaker: Breaker = Breaker() if like is None else like.breaker
        self.lag: float = 0.0 if like is None else like.lag  # seconds by which copies may be behind

    def report(self, event: str, handle: str | None, level: int = logging.DEBUG) -> None:
        """Count an event, and log it with the first 12 characters of the store key."""
        self.counts[event] += 1
        log.log(level, "%s: session %s", event, (handle or "-")[:12], extra={"event": event})

    def patience(self) -> float:
        """Seconds that opening or closing may take now."""
        return self.breaker.patience(self.settings.timeout)

    def floor(self, cookie: Cookie) -> int:
        """Return the version below which a copy must not answer this client.

        Answers may arrive in another order than they were given, and the older cookie last. So for
        a while after it was written no copy will do: by then they all are newer.
        """
        fresh = self.lag and self.clock() - cookie.timestamp < self.lag + CLOCKS_APART
        return FRESHEST if fresh else cookie.version

    def absolute_end(self, record: Record) -> float | None:
        """The hard end of a session: as stored, or earlier when the setting is stricter by now."""
        limit = self.settings.absolute_timeout
        if limit is None:
            return record.absolute_end
        end = (record.authenticated_at or record.created) + limit
        return end if record.absolute_end is None else min(end, record.absolute_end)

    def alive(self, record: Record) -> bool:
        """Whether the absolute clock still runs (ASVS 7.3.2); the idle one is the store's."""
        if record.absolute_end is None and self.settings.absolute_timeout is None:
            return True
        end = self.absolute_end(record)
        return end is None or end > self.clock()

    def ttl(self, record: Record) -> int:
        """Whole seconds, at least 1, until the idle or the absolute end."""
        end = self.absolute_end(record)
        idle = self.settings.idle_timeout
        return max(1, idle if end is None else min(idle, ceil(end - self.clock())))


class Visit:
    """One session during one request: what the client showed, what was found, what it must learn.

    ``answer`` is the cookie to hand out, ``removed`` says that it is to be removed instead. An
    adapter makes one, with ``run(session, name, flow)``, which drives a flow to its result (under
    ASGI: to an awaitable of it).
    """

    # Class-level defaults: most requests change few of them.
    cookie: Cookie | None = None  # of the session at hand
    key: str | None = None
    entry: Entry | None = None  # None: there is no live session at hand
    record: Record | None = None
    was_found = False
    ended = False  # it ended meanwhile, or a moment ago: only a sign-in stores anything
    marked: Sequence[str] = ()  # keys at which end marks were met
    outdated = False  # opened from a copy, because the store did not answer
    late = False  # the headers have left
    busy = False  # a commit() or reload() is running
    met_outage = False  # commit() or reload() raised one into the application
    answer: Cookie | None = None
    removed = False

    def __init__(
        self,
        manager: Manager,
        cookies: Sequence[Cookie] = (),
        run: Callable[[Session, str, Flow[Any]], Any] | None = None,
    ) -> None:
        self.manager = manager
        self.cookies = cookies
        self.run = run
        self.opened = not cookies
        self.data: Data = {}  # as loaded

    # What a `Session` asks of its backing.

    @property
    def is_new(self) -> bool:
        return not self.was_found

    @property
    def handle(self) -> str | None:
        return None if self.entry is None else self.key

    @property
    def created_at(self) -> float:
        return self.manager.clock() if self.record is None else self.record.created

    @property
    def authenticated_at(self) -> float | None:
        return None if self.record is None else self.record.authenticated_at

    def commit(self, session: Session, function: Callable[[Session], Any] | None) -> Any:
        assert self.run is not None
        return self.run(session, "commit()", committing(self, session, function))

    def reload(self, session: Session) -> Any:
        assert self.run is not None
        return self.run(session, "reload()", reloading(self, session))

    # What the flows ask of it.

    @property
    def floor(self) -> int:
        """The version that this client has seen."""
        return 0 if self.cookie is None else self.cookie.version

    def key_of(self, cookie: Cookie) -> str:
        return store_key(cookie.id, self.manager.settings.namespace)

    def adopt(self, cookie: Cookie, key: str, entry: Entry, record: Record) -> None:
        """From now on this is the session at hand."""
        self.cookie, self.key, self.entry, self.record = cookie, key, entry, record
        self.ended, self.marked = False, ()

    def fill(self, session: Session) -> None:
        """Put what was found into a session that is new."""
        dict.update(session, self.data)
        if self.record is not None:
            session._before = self.record.data
        session._backing = self

    def begin(self, name: str) -> None:
        """Note that a flow runs; two at once would each do the same steps."""
        if self.busy:
            raise SessionError(
                f"{name} came while a commit() or reload() of this request was running: await "
                "them one after the other."
            )
        self.busy = True

    def issue(self, timestamp: float | None = None) -> None:
        """Hand the client its cookie, with a new timestamp or the one that it came with."""
        assert self.cookie is not None
        assert self.entry is not None
        seconds = self.cookie.timestamp if timestamp is None else int(timestamp)
        self.cookie = self.answer = Cookie(self.cookie.id, self.entry.version, seconds)
        self.removed = False

    def lose(self, found: object = None) -> None:
        """There is no live session any more; ``found`` is what stands in its place."""
        self.entry = self.record = self.answer = None
        self.ended = True
        self.marked = [self.key] if isinstance(found, EndMark) and self.key else ()

    def look(self, key: str, entry: Entry | None) -> tuple[Record, Data] | EndMark | None:
        """Say what an entry is: a live record with its data, an end mark, or nothing that counts.

        Raises `UnknownFormat`: a newer version wrote it, which is an outage, never an absence.
        """
        if entry is None:
            return None
        try:
            record = entry._decoded
            if isinstance(record, Record):
                data = decode_data(record.data)  # a request changes what it is given
            else:
                record, data = decode_record(entry.data)
                object.__setattr__(entry, "_decoded", record)
        except UnknownFormat:
            self.manager.report("unknown-format", key, logging.ERROR)
            raise
        except DamagedRecord:
            # Left where it is until it expires: it may still tell somebody what happened.
            self.manager.report("damaged", key, logging.ERROR)
            return None
        if isinstance(record, EndMark):
            return record
        return (record, data) if self.manager.alive(record) else None


# --- opening --------------------------------------------------------------------------------------


def opening(visit: Visit, *, outdated: bool = False) -> Flow[None]:
    """Find the first of the client's sessions that is alive; none: a new, empty one.

    ``outdated``: from copies, during an outage, in which nothing can be prolonged.
    """
    manager = visit.manager
    visit.ended, visit.marked, visit.outdated = False, (), outdated
    for cookie in visit.cookies:
        key = visit.key_of(cookie)
        entry = yield "load", key, cookie.version if outdated else manager.floor(cookie)
        found = visit.look(key, entry)
        if isinstance(found, tuple):
            record, visit.data = found
            visit.adopt(cookie, key, entry, record)
            visit.was_found = manager.settings.idle_timeout > 0
            if not visit.was_found:  # stored under an earlier setting, and to be ended
                visit.data = {}
            if entry.version < cookie.version:  # the store has lost writes that it acknowledged
                manager.report("rewound", key, logging.WARNING)
            break
        manager.report("ended" if isinstance(found, EndMark) else "unknown", key)
        if isinstance(found, EndMark):
            visit.marked = [*visit.marked, key]
            # On its way when the session ended: a session of its own would displace, in the
            # browser, the one of somebody who has just signed in.
            visit.ended |= abs(manager.clock() - found.marked_at) < QUIET
    visit.opened = True


# --- closing --------------------------------------------------------------------------------------


class Action(Enum):
    """What a commit comes to."""

    NOTHING = auto()
    CREATE = auto()
    REPLACE = auto()
    RENEW = auto()
    END = auto()
    END_SUCCESSOR = auto()
    TOUCH = auto()
    REISSUE = auto()


def decide(visit: Visit, intent: Intent, *, used: bool, repeat: bool = False) -> Action:
    """Say what a commit comes to, from what was found and what this request did.

    ``repeat``: the client is to get its cookie, whether it has anything to learn or not.
    """
    settings = visit.manager.settings
    if visit.entry is None or visit.cookie is None:
        if (intent.ends or intent.destroyed) and visit.marked:
            return Action.END_SUCCESSOR
        if intent.empty or settings.idle_timeout <= 0:
            return Action.NOTHING
        if visit.ended and not signs_in(intent, settings.owner_key):
            return Action.NOTHING
        return Action.CREATE
    if intent.ends or settings.idle_timeout <= 0:
        return Action.END
    if intent.renew or intent.authenticated or intent.fresh_id:
        return Action.RENEW
    if intent.changed and not same_data(intent.before, intent.encoded):
        if intent.empty:
            return Action.END
        before = owners(decode_data(intent.before), settings.owner_key)
        stays = before == owners(intent.data, settings.owner_key)
        return Action.REPLACE if stays else Action.RENEW
    return upkeep(visit, repeat=repeat) if used else Action.NOTHING


def upkeep(visit: Visit, *, repeat: bool = False) -> Action:
    """Say what a session that was used, and not changed, needs."""
    assert visit.entry is not None
    assert visit.cookie is not None
    if visit.late or visit.outdated:
        return Action.NOTHING
    if visit.answer is not None:  # of a commit() some time ago: the session may have ended since
        return Action.REISSUE
    age = visit.manager.clock() - visit.cookie.timestamp
    if age >= visit.manager.settings.idle_timeout * TOUCH_AFTER:
        return Action.TOUCH
    if repeat or visit.entry.version != visit.cookie.version:
        return Action.REISSUE
    return Action.NOTHING


def signs_in(intent: Intent, names: tuple[str, ...]) -> bool:
    """Whether this request itself set an owner."""
    # After destroy() nobody is signed in, so the same user signs in anew.
    before = EMPTY if intent.destroyed else intent.before
    known = owners(decode_data(before), names)
    return any(owner not in known for owner in owners(intent.data, names))


def closing(visit: Visit, session: Session, *, repeat: bool = False) -> Flow[Intent]:
    """Commit what the request did to its session, whatever others do meanwhile."""
    manager = visit.manager
    intent = session._intent()
    if not visit.opened:  # destroy() needs no loaded session, but its end has to find it
        yield from opening(visit)
        if visit.record is not None:
            intent.before = visit.record.data
    fresh: _Fresh | None = None  # of a renewal: created, while the old session is not yet marked
    for rounds in count(1):
        if visit.record is not None and not manager.alive(visit.record):
            visit.lose()
        used = session._used or session.accessed
        action = decide(visit, intent, used=used, repeat=repeat)
        if visit.late and action in (Action.CREATE, Action.RENEW):
            raise LateChange(
                "The session was changed after the response's headers had left, in a way that "
                "needs a new cookie: a new session, a renewal, or another owner. Make this change "
                "before the response starts, or call commit() there."
            )
        if action in (Action.CREATE, Action.RENEW):
            fresh = yield from _create(visit, intent, fresh)
        elif fresh is not None:  # of a renewal that came to nothing
            yield "delete", fresh.key
            fresh = None
        match action:
            case Action.CREATE:
                assert fresh is not None
                done = _adopt(visit, fresh, "created")
            case Action.RENEW | Action.END:
                done = yield from _end(visit, fresh if action is Action.RENEW else None)
            case Action.REPLACE:
                done = yield from _replace(visit, intent)
            case Action.TOUCH | Action.REISSUE:
                yield from _prolong(visit, touch=action is Action.TOUCH)
                done = True
            case Action.END_SUCCESSOR:
                yield from _end_successors(visit)
                continue
            case Action.NOTHING:
                if visit.entry is None and visit.ended and intent.changed:
                    manager.report("gone", visit.key, logging.INFO)
                done = True
        if done:
            break
        # Somebody else came first: do this request's own steps again over what they left.
        if rounds > 1:
            yield "pause", random.uniform(0, min(0.05, 0.001 * 2**rounds))
        yield from _look_again(visit)
        if visit.record is not None:
            try:
                intent.over(visit.record.data)
            except Exception:  # of the application's function, on data it had not seen
                if fresh is not None:
                    yield "delete", fresh.key
                raise
    _settle(visit, session, intent)
    return intent


def is_settled(session: Session, *, late: bool = False, repeat: bool = False) -> bool:
    """Whether there is nothing to do at the end that `finishing` is for: most often.

    Nobody has used the session, or it could not be loaded; or it lives and was only read, and all
    else can stay as it is.
    """
    visit = session._backing
    unknown = isinstance(session, (UnusedSession, EmptyInOutage))
    if unknown or not (session._used or session.accessed):
        if isinstance(visit, Visit):
            visit.late = True
        return True
    if not isinstance(visit, Visit) or visit.record is None or visit.busy:
        return False
    if not session._is_as_before():
        return False
    settled = late or (
        visit.manager.settings.idle_timeout > 0
        and visit.manager.alive(visit.record)
        and upkeep(visit, repeat=repeat) is Action.NOTHING
    )
    visit.late = True
    return settled


def finishing(session: Session, *, late: bool = False, repeat: bool = False) -> Flow[None]:
    """The end of the response's headers, or, ``late``, of the whole request: commit.

    For a session of which `is_settled` does not say that there is nothing to do. ``repeat``: hand
    out the cookie even if the client has nothing to learn from it.
    """
    visit = session._backed("the end of a request")
    assert isinstance(visit, Visit)
    visit.begin("The end of the request" if late else "The end of the response's headers")
    visit.late = late
    try:
        yield from closing(visit, session, repeat=repeat)
    finally:
        visit.late, visit.busy = True, False


def _settle(visit: Visit, session: Session, intent: Intent) -> None:
    if visit.record is not None:
        # Nothing written: what others wrote is not shown either.
        wrote = intent.changed or intent.replayed or intent.renew or intent.authenticated
        if wrote or intent.steps:
            session._settle(visit.record.data if wrote else intent.before, intent)
    elif not visit.ended:
        # Flask's mark alone is not stored, but stays in sight.
        kept = visit.key is None and intent.empty
        session._settle(intent.shown if kept else EMPTY, intent)
    else:
        session._settle(intent.shown, intent)


def _replace(visit: Visit, intent: Intent) -> Flow[bool]:
    assert visit.record is not None
    old = visit.record
    record = Record(old.created, old.absolute_end, old.owner, old.authenticated_at, intent.encoded)
    entry = yield (
        "replace",
        visit.key,
        visit.entry,
        encode_record(record),
        visit.manager.ttl(record),
        record.owner,
        visit.floor,
    )
    if entry is None:
        return False
    visit.entry, visit.record = entry, record
    if entry.repeated:
        yield from _look_again(visit)
    if visit.entry is not None:
        visit.issue(visit.manager.clock())
    return True


def _look_again(visit: Visit) -> Flow[None]:
    """Learn what is under the key by now: somebody else came first, or an answer was late.

    Nothing may be handed out for a session that was ended in the meantime.
    """
    entry = yield "load", visit.key, FRESHEST
    found = visit.look(visit.key or "", entry)
    if isinstance(found, tuple):
        visit.entry, visit.record = entry, found[0]
    else:
        visit.lose(found)


def _prolong(visit: Visit, *, touch: bool) -> Flow[None]:
    """Give the session and its cookie a new lifetime, or the cookie a new version.

    A touch cannot tell a session from an end mark, and a cookie for a session that was renewed
    meanwhile would displace the new one: so look, last of all, whether it is alive.
    """
    assert visit.record is not None
    now = visit.manager.clock()
    alive = True
    if touch:
        alive = yield "touch", visit.key, visit.manager.ttl(visit.record)
    entry = (yield "load", visit.key, FRESHEST) if alive else None
    found = visit.look(visit.key or "", entry)
    if isinstance(found, tuple):
        visit.issue(now if touch else None)
        return
    if touch and found is not None:
        yield "touch", visit.key, MARK_KEPT
    visit.lose(found)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A session just stored under an ID that nobody knows yet."""

    cookie: Cookie
    key: str
    entry: Entry
    record: Record


def _fresh_record(visit: Visit, intent: Intent, data: Data) -> Record:
    """Return the record of a new or a renewed session: when its clocks began, and who owns it."""
    now, settings = visit.manager.clock(), visit.manager.settings
    old = None if intent.destroyed else visit.record
    limit = settings.absolute_timeout
    created, absolute_end, authenticated_at = now, None if limit is None else now + limit, None
    if old is not None:
        created, authenticated_at = old.created, old.authenticated_at
        absolute_end = visit.manager.absolute_end(old)
    named = bool(owners(data, settings.owner_key))
    if intent.authenticated or signs_in(intent, settings.owner_key) or (named and old is None):
        authenticated_at = now
        absolute_end = None if limit is None else now + limit
    elif authenticated_at is not None and not named:
        # A sign-out that keeps the session: the clock that began at the authentication goes on.
        created, authenticated_at = authenticated_at, None
    owner = owner_name(data, settings.owner_key)
    return Record(created, absolute_end, owner, authenticated_at, encode_data(data))


def _create(visit: Visit, intent: Intent, earlier: _Fresh | None) -> Flow[_Fresh]:
    """Store this request's view under a new ID, or under the one it has made before."""
    manager = visit.manager
    data = intent.own() if visit.ended else intent.data
    record = _fresh_record(visit, intent, data)
    stored, ttl = encode_record(record), manager.ttl(record)
    if earlier is not None:
        entry = yield "replace", earlier.key, earlier.entry, stored, ttl, record.owner
        if entry is not None:
            return _Fresh(earlier.cookie, earlier.key, entry, record)
    while True:
        cookie = Cookie(new_id(), 1, int(manager.clock()))
        key = visit.key_of(cookie)
        entry = yield "create", key, stored, ttl, record.owner
        if entry is not None:
            return _Fresh(cookie, key, entry, record)


def _adopt(visit: Visit, fresh: _Fresh, event: str) -> bool:
    visit.adopt(fresh.cookie, fresh.key, fresh.entry, fresh.record)
    visit.issue()
    visit.manager.report(event, fresh.key)
    return True


def _end(visit: Visit, successor: _Fresh | None) -> Flow[bool]:
    """Swap the record for an end mark: of a renewal, when it has a successor."""
    mark = EndMark(visit.manager.clock(), None if successor is None else successor.key)
    entry = yield (
        "replace",
        visit.key,
        visit.entry,
        encode_record(mark),
        MARK_KEPT,
        None,
        visit.floor,
    )
    if entry is None:
        return False
    if successor is None:
        visit.manager.report("destroyed", visit.key)
        visit.lose()
        # Not after a lost answer: somebody may have signed in since, and the removal would sign
        # them out; the cookie that stays is worthless as it is.
        visit.ended, visit.removed = False, not entry.repeated and bool(visit.cookies)
        return True
    _adopt(visit, successor, "renewed")
    if entry.repeated:
        yield from _look_again(visit)
    return True


def _end_successors(visit: Visit) -> Flow[None]:
    """Follow the end marks to the sessions that go on after them, and end those.

    No cookie is removed: the client may hold that of a later sign-in, which is none of these.
    """
    marked, visit.marked = visit.marked, ()
    for start in marked:
        key: str | None = start
        while key is not None:
            entry = yield "load", key, FRESHEST
            found = visit.look(key, entry)
            if isinstance(found, EndMark):
                key = found.successor
            elif found is None:
                break
            else:
                mark = encode_record(EndMark(visit.manager.clock(), None))
                if (yield "replace", key, entry, mark, MARK_KEPT) is not None:
                    visit.manager.report("destroyed", key)
                    break


# --- what an application may ask for in between ---------------------------------------------------


def committing(
    visit: Visit, session: Session, function: Callable[[Session], T] | None
) -> Flow[T | None]:
    """`Session.commit`: write now, and return what the function returned when it counted."""
    result = None if function is None else session._run(function)
    intent = yield from closing(visit, session)
    if visit.ended and not (intent.ends or intent.destroyed):
        raise SessionGone(
            "The session ended before it could be written: signed out, renewed by another request, "
            "or expired. Nothing was stored; ask the user to sign in again."
        )
    return intent.result if intent.replayed and function is not None else result  # type: ignore[return-value]  # the function's own result, from its last run


def reloading(visit: Visit, session: Session) -> Flow[None]:
    """`Session.reload`: from the store itself, whatever copies there are."""
    if not visit.opened:
        yield from opening(visit)
    if visit.entry is not None:
        entry = yield "load", visit.key, FRESHEST
        found = visit.look(visit.key or "", entry)
        if isinstance(found, tuple):
            visit.entry, visit.record = entry, found[0]
            session._show(visit.record.data)
            return
        visit.lose(found)
    if visit.ended:
        raise SessionGone(
            "The session has ended: signed out, renewed by another request, or expired."
        )
    session._show(EMPTY)


# --- the two drivers ------------------------------------------------------------------------------


Within = Callable[[float, Callable[[], Any]], Any]  # Any: whatever the call returns


Peek = Callable[[str, int], Entry | None]


def first_step(flow: Flow[Any], peek: Peek | None) -> Step:
    """Begin a flow, and return the first step that no copy at hand can answer.

    Raises StopIteration when the flow has ended, which it most often has.
    """
    step = flow.send(None)
    while peek is not None and step[0] == "load" and (entry := peek(step[1], step[2])) is not None:
        step = flow.send(entry)
    return step


def drive(
    flow: Flow[T],
    store: Store,
    manager: Manager,
    within: Within | None = None,
    peek: Peek | None = None,
) -> T:
    """Run a flow with a store of plain functions; the deadline is checked between its calls.

    ``within(seconds, call)`` makes a call that may take only so long, and raises `DeadlinePassed`
    when it takes longer; without it a call takes as long as the store lets it. ``peek`` is asked
    first for what is loaded first.
    """
    patience = 0.0
    deadline: float | None = None
    answer: Any = None
    step: Step | None = None
    try:
        step = first_step(flow, peek)
        while True:
            verb, *arguments = flow.send(answer) if step is None else step
            step = None
            begun = time.monotonic()
            if deadline is None:
                patience = manager.patience()
                deadline = begun + patience
            left = deadline - begun
            if left <= 0:
                raise too_late(manager, patience)
            if verb == "pause":
                time.sleep(min(left, *arguments))
                answer = None
                continue
            call = partial(getattr(store, verb), *arguments)
            try:
                answer = call() if within is None else within(left, call)
            except DeadlinePassed:
                raise too_late(manager, patience) from None
            except TooLarge:  # an answer, not an outage
                manager.breaker.answered()
                raise
            except StoreUnavailable as error:
                outage(error, manager, begun)
                raise
            except Exception as error:  # a store that raises is a store that did not answer
                raise outage(error, manager, begun) from error
            manager.breaker.answered()
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


async def adrive(
    flow: Flow[T],
    call: Callable[..., Awaitable[Any]],
    pause: Callable[[float], Awaitable[None]],
    manager: Manager,
    step: Step | None = None,
) -> T:
    """Run a flow with a store whose verbs are awaited; the caller sets the deadline.

    ``step`` is the flow's first, for a caller that has looked whether there is any.
    """
    answer: Any = None
    try:
        while True:
            verb, *arguments = flow.send(answer) if step is None else step
            step = None
            if verb == "pause":
                await pause(*arguments)
                answer = None
            else:
                begun = time.monotonic()
                try:
                    answer = await call(verb, *arguments)
                except TooLarge:  # as in `drive`
                    manager.breaker.answered()
                    raise
                except StoreUnavailable as error:
                    outage(error, manager, begun)
                    raise
                except Exception as error:  # as in `drive`
                    raise outage(error, manager, begun) from error
                manager.breaker.answered()
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


def outage(error: Exception, manager: Manager, begun: float) -> StoreUnavailable:
    """Return the outage that a store's error means, of a call that began then."""
    manager.breaker.failed(time.monotonic() - begun)
    manager.counts["outage"] += 1
    if isinstance(error, StoreUnavailable):
        log.error("outage: %s", error, extra={"event": "outage"})
        return error
    log.error("outage: the session store failed", exc_info=error, extra={"event": "outage"})
    return StoreUnavailable(f"The session store failed: {type(error).__name__}.")


def too_late(manager: Manager, patience: float) -> StoreUnavailable:
    """Return the outage that it means when an attempt has had so many seconds, in vain."""
    manager.counts["outage"] += 1
    log.error("outage: the deadline has passed", extra={"event": "outage"})
    manager.breaker.too_late(patience)
    return StoreUnavailable(f"The session store did not answer within {patience:g} s.")
