"""The order of steps: opening, closing, renewing, ending, and the two drivers that run them.

A flow is a generator. It yields what it needs, ``(verb, *arguments)`` with a verb of the store or
``("pause", seconds)``, is sent the answer, and returns its result; it composes by ``yield from``.
An error of the store is thrown into it; one that is closed has been given up. `drive` runs a flow
with a plain store, `adrive` one that awaits; nothing else differs between sync and async. A flow
never repeats a store's command: only the store does that, with the same token.

Rules that the interleavings taught, each of them a test:

* A session found ended, at load or at commit, stays ended, and the response carries no Set-Cookie.
  Only the request that ends a session removes its cookie: a removal that arrives late would sign
  out somebody who has just signed in.
* For the same reason the last store call before any Set-Cookie for an ID that the client already
  has is one that saw the session alive: the compare-and-set itself, or a load after a touch.
* A renewal creates the new session first and then swaps the old record for an end mark; the cookie
  is set only when the mark stands.
* What a request did is relative to one base, the data of the record that was last seen alive.
  Whenever another record is seen the steps are done again over it, or nothing is written.
* A write whose outcome is unknown leaves the exchange in doubt: no later commit of the request
  writes anything, until ``reload()`` has made sure that it has happened or never will.
"""

from __future__ import annotations

import dataclasses
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
from typing import Any, NamedTuple, TypeVar

from .concurrency import DeadlinePassed
from .cookie import Cookie, CookieCodec, new_id, store_key
from .exceptions import (
    DamagedRecord,
    LateChange,
    NotEncodable,
    SessionError,
    SessionGone,
    StoreFull,
    StoreUnavailable,
    TooLarge,
    UndecodableHere,
    UnknownFormat,
)
from .record import (
    EMPTY,
    Data,
    EndMark,
    Record,
    decode_data,
    decode_record,
    encode_record,
    identities,
    names_new_owner,
    owner_name,
    owners,
    same_data,
)
from .session import (
    Asked,
    Call,
    EmptyInOutage,
    Intent,
    OverSession,
    ReplayFailed,
    Session,
    UnusedSession,
)
from .settings import Settings
from .stores.base import FRESHEST, Entry, Store

T = TypeVar("T")
Step = tuple[Any, ...]  # a verb and its arguments, which differ from verb to verb
Flow = Generator[Step, Any, T]  # what is sent in is the verb's answer

MARK_KEPT = 300  # seconds that an end mark stays, for requests that are still on their way
QUIET = 10.0  # seconds after an end in which a request with the old cookie stores nothing
TOUCH_AFTER = 0.1  # share of the idle timeout between two touches
CLOCKS_APART = 2  # seconds, with what is lost of a cookie's time by rounding it
NO_VERSION = 0  # of a cookie whose ID was made by a server without copies
# Sign-in names that also name drafts, visitors and form fields: in a lost race they decide nothing.
AMBIGUOUS = frozenset(("id", "uid", "email"))
# Those that say that a user is signed in, and not who.
FLAGS = ("logged_in", "loggedin", "is_authenticated", "authenticated", "admin")
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

    def report(
        self,
        event: str,
        handle: str | None,
        level: int = logging.DEBUG,
        reason: Exception | None = None,
    ) -> None:
        """Count an event, and log it with the first 12 characters of the store key."""
        self.counts[event] += 1
        why = "" if reason is None else f": {reason}"
        message = "%s: session %s%s"
        log.log(level, message, event, (handle or "-")[:12], why, extra={"event": event})

    def patience(self) -> float:
        """Seconds that opening or closing may take now."""
        return self.breaker.patience(self.settings.timeout)

    def floor(self, cookie: Cookie, *, outdated: bool = False) -> int:
        """Return the version below which a copy must not answer this client.

        Answers may arrive in another order than they were given, and the older cookie last. So for
        a while after it was written no copy will do: by then they all are newer. (``outdated``: in
        an outage one does.) Nor will one ever do for a cookie without a version.
        """
        lag = 0.0 if outdated else self.lag
        fresh = lag and self.clock() - cookie.timestamp < lag + CLOCKS_APART
        return FRESHEST if fresh or cookie.version == NO_VERSION else cookie.version

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

    @property
    def first_version(self) -> int:
        """The version in the cookie of a new ID: whether it has one is decided here, for good."""
        return 1 if self.lag else NO_VERSION

    def ttl(self, record: Record) -> int:
        """Whole seconds, at least 1, until the idle or the absolute end."""
        end = self.absolute_end(record)
        idle = self.settings.idle_timeout
        return max(1, idle if end is None else min(idle, ceil(end - self.clock())))


class Pending(NamedTuple):
    """A new session that is being stored, in the place of another one or not."""

    cookie: Cookie
    renews: bool


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
    wrote = False  # new data under the ID that the client has
    # What every later commit raises: the outage in which a write was lost, whose outcome is in
    # doubt, or the error of a function that had returned its result before it ran again.
    trouble: Exception | None = None
    in_doubt: str | None = None  # the key of that write
    pending: Pending | None = None  # a new session that is not known to stand yet
    # Keys of which the sessions are to be ended, each with those that it was renewed to; what could
    # not be ended in one commit is left for the next.
    to_end: Sequence[str] = ()
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
            session._base = session._checkpoint = self.record.data
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
        version = self.entry.version if self.cookie.version else NO_VERSION
        self.cookie = self.answer = Cookie(self.cookie.id, version, seconds)
        self.removed = False

    def is_due(self) -> bool:
        """Whether the client's cookie is to have a new time: old enough, or of another clock."""
        assert self.cookie is not None
        age = self.manager.clock() - self.cookie.timestamp
        return age < -CLOCKS_APART or age >= self.manager.settings.idle_timeout * TOUCH_AFTER

    def inform(self, *, repeat: bool = False) -> None:
        """Hand out the cookie after a write, where the client has something to learn from it."""
        assert self.cookie is not None
        if repeat or self.cookie.version or self.is_due():
            self.issue(self.manager.clock())

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
        except UndecodableHere as error:
            self.manager.report("undecodable-here", key, logging.ERROR, error)
            raise
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
        entry = yield "load", key, manager.floor(cookie, outdated=outdated)
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
            # One that was set by a clock ahead of this one was set just now.
            visit.ended |= manager.clock() - found.marked_at < QUIET
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
    settings, asked = visit.manager.settings, intent.asked
    if visit.entry is None or visit.cookie is None:
        if (intent.ends or Asked.DESTROYED in asked) and visit.marked:
            return Action.END_SUCCESSOR
        if intent.empty or settings.idle_timeout <= 0:
            return Action.NOTHING
        if visit.ended and not (intent.from_nothing and names_user(intent.data, settings)):
            return Action.NOTHING
        return Action.CREATE
    if intent.ends or settings.idle_timeout <= 0:
        return Action.END
    if asked:
        return Action.RENEW
    if intent.changed and not same_data(intent.base, intent.encoded):
        if intent.empty:
            return Action.END
        return Action.RENEW if changes_user(visit, intent) else Action.REPLACE
    return upkeep(visit, repeat=repeat) if used else Action.NOTHING


def upkeep(visit: Visit, *, repeat: bool = False) -> Action:
    """Say what a session that was used, and not changed, needs."""
    assert visit.entry is not None
    assert visit.cookie is not None
    if visit.late or visit.outdated:
        return Action.NOTHING
    if visit.answer is not None:  # of a commit() some time ago: the session may have ended since
        return Action.REISSUE
    if visit.is_due():
        return Action.TOUCH
    older = visit.cookie.version and visit.entry.version != visit.cookie.version
    return Action.REISSUE if repeat or older else Action.NOTHING


# Who is signed in. An owner key is exact: each change counts. A sign-in name says it by what stands
# under it, and only that another identity came there.


def changes_user(visit: Visit, intent: Intent) -> bool:
    """Whether the ID is to be renewed because of who is signed in now (ASVS 7.2.4)."""
    settings, before = visit.manager.settings, decode_data(intent.base)
    if owners(before, settings.owner_key) != owners(intent.data, settings.owner_key):
        return True
    # Nobody can have planted an ID that no client has had yet.
    return visit.was_found and bool(_new_identities(before, intent.data, settings.sign_in_names))


def signs_in(intent: Intent, settings: Settings, *, by_owner: bool = False) -> bool:
    """Whether this request itself signed a user in: also the same one, after clear()."""
    before = {} if Asked.EMPTIED in intent.asked else decode_data(intent.base)
    if names_new_owner(before, intent.data, settings.owner_key):
        return True
    if by_owner:
        return False
    # A flag that was set already tells nothing, whatever it is set to: a time, say.
    known = identities(before, FLAGS)
    found = _new_identities(before, intent.data, _telling_names(settings))
    return any(name not in known for name in found)


def signs_out(intent: Intent, settings: Settings) -> bool:
    """Whether this request left nobody signed in under a key where a user was."""
    if not intent.changed or intent.from_nothing:  # over nothing another user signs in
        return False
    before, names = decode_data(intent.base), settings.sign_in_names
    if owners(before, settings.owner_key) and not owners(intent.data, settings.owner_key):
        return True
    return bool(identities(before, names).keys() - identities(intent.data, names).keys())


def names_user(data: Data, settings: Settings) -> bool:
    """Whether these data say that a user is signed in."""
    names = _telling_names(settings)
    return bool(owners(data, settings.owner_key) or identities(data, names))


def _new_identities(before: Data, data: Data, names: tuple[str, ...]) -> list[str]:
    known = identities(before, names)
    return [name for name, who in identities(data, names).items() if known.get(name) != who]


def _telling_names(settings: Settings) -> tuple[str, ...]:
    return tuple(name for name in settings.sign_in_names if name not in AMBIGUOUS)


def closing(
    visit: Visit, session: Session, *, repeat: bool = False, own: Call | None = None
) -> Flow[Intent]:
    """Commit what the request did to its session, whatever others do meanwhile.

    ``own`` is a function whose result waits for this commit: when that fails, it is no step.
    """
    intent = session._take_up(own)
    try:
        yield from _closing(visit, session, intent, repeat=repeat)
    except ReplayFailed as failure:
        session._take_back(intent)
        if failure.call is not own:
            fail(visit, failure.error)
        else:
            _drop(visit, session, own)
            if visit.record is None:  # over nothing
                raise _gone("committed") from failure.error
        raise failure.error from None
    except BaseException:
        session._take_back(intent)
        if own is not None:
            _drop(visit, session, own)
        raise
    # It is committed and settled: whatever fails from here on, it is not done again.
    yield from _after(visit, repeat=repeat)
    return intent


def fail(visit: Visit, error: Exception) -> None:
    """What this request has said may be untrue: nothing of it is written any more."""
    if visit.in_doubt is None:  # else there is a write of which reload() has to find out first
        visit.trouble = error
    visit.manager.counts["replay_failed"] += 1
    log.error(
        "replay_failed: a function given to mutate() raised when it ran again: session %s",
        (visit.key or "-")[:12],
        exc_info=error,
        extra={"event": "replay_failed"},
    )


def _drop(visit: Visit, session: Session, call: Call) -> None:
    """Show the session without a function, over the newest base that was seen."""
    try:
        session._drop(call, None if visit.record is None else visit.record.data)
    except ReplayFailed as failure:
        fail(visit, failure.error)
    except NotEncodable:
        pass  # of another task's change; the next commit will say so


def _closing(visit: Visit, session: Session, intent: Intent, *, repeat: bool) -> Flow[None]:
    manager = visit.manager
    if visit.trouble is not None and not _can_be_done_twice(visit, intent):
        raise visit.trouble.with_traceback(None)
    if not visit.opened:  # destroy() needs no loaded session, but its end has to find it
        yield from opening(visit)
    yield from _end_others(visit)  # what an earlier commit has left
    shown = visit.key
    for rounds in count(1):
        if visit.record is not None and not manager.alive(visit.record):
            visit.lose()
        _bring_up_to_date(visit, intent)
        used = session._used or session.accessed
        action = decide(visit, intent, used=used, repeat=repeat)
        if visit.late and action in (Action.CREATE, Action.RENEW):
            raise LateChange(
                "The session was changed after the response's headers had left, or in a socket's "
                "event, which has none, in a way that needs a new cookie: a new session, a "
                "renewal, or another owner. Make this change in a request, before the response "
                "starts, or call commit() there."
            )
        visit.to_end = _others_to_end(visit, intent, action, shown)
        done = False
        try:
            done = yield from _carry_out(action, visit, intent, repeat=repeat)
        finally:
            if not done and visit.trouble is None:  # else reload() finds out
                visit.to_end, visit.pending = (), None
        if done:
            break
        # Another request came first: what is there now is looked at, and the steps done over it.
        if rounds > 1:
            yield "pause", random.uniform(0, min(0.05, 0.001 * 2**rounds))
        if action is not Action.END_SUCCESSOR:
            yield from _look_again(visit)
    _settle(visit, session, intent)


def _others_to_end(
    visit: Visit, intent: Intent, action: Action, shown: str | None
) -> Sequence[str]:
    """Return the keys of the other sessions that a sign-out ends: all whose cookies were shown."""
    out = intent.ends or Asked.DESTROYED in intent.asked
    if action is not Action.NOTHING:  # else it comes to nothing: the session has ended
        out |= signs_out(intent, visit.manager.settings)
    if not out or len(visit.cookies) < 2:
        return ()
    return [key for key in map(visit.key_of, visit.cookies) if key != shown]


def _after(visit: Visit, *, repeat: bool) -> Flow[None]:
    """Do what is left after a commit: other sessions end, the client's cookie is looked after."""
    if visit.trouble is not None:  # destroy() has ended what was in doubt
        if visit.pending is not None:
            yield from _bury(visit, visit.key_of(visit.pending.cookie))
        visit.trouble = visit.in_doubt = visit.pending = None
    if visit.entry is not None and visit.entry.repeated:
        yield from _look_again(visit)
        if visit.entry is not None:
            visit.inform(repeat=repeat)
    if visit.to_end:
        yield from _end_others(visit)
        if visit.answer is not None:  # for a session that may have ended meanwhile
            yield from _look_again(visit)


def _can_be_done_twice(visit: Visit, intent: Intent) -> bool:
    """Whether this is an end, and all that is wrong is an outage: it may be done in doubt."""
    # By itself: what a function asks for rests on data that are in doubt.
    ends = intent.ends and Asked.DESTROYED in intent.asked_outside
    return ends and isinstance(visit.trouble, StoreUnavailable)


def _bring_up_to_date(visit: Visit, intent: Intent) -> None:
    """Make the intent one over what is there now; over nothing, where that is not the user's."""
    settings, record = visit.manager.settings, visit.record
    if record is None:
        if visit.ended and not intent.from_nothing and signs_in(intent, settings):
            intent.over_nothing(ended=True)
        return
    if intent.from_nothing or record.data != intent.base:
        intent.over(record.data)
    dropping = intent.changed and settings.on_owner_change == "drop"
    if dropping and passes_to_another_user(record, intent.data, settings):
        known = owners(decode_data(record.data), settings.owner_key)
        signed_in = {
            name: intent.data[name]
            for name, value in owners(intent.data, settings.owner_key)
            if (name, value) not in known
        }
        intent.over_nothing(ended=False)
        by_function = any(isinstance(step, Call) for step in intent.steps)
        settled = Asked.EMPTIED in intent.asked or owners(intent.data, settings.owner_key)
        if by_function and not settled:
            intent.put(signed_in)  # the function has signed in by what it found: a name, say


def passes_to_another_user(record: Record, data: Data, settings: Settings) -> bool:
    """Whether what is stored is, or was last, of another user than the one in ``data``."""
    names, before = settings.owner_key, decode_data(record.data)
    if owners(before, names):
        return names_new_owner(before, data, names)
    owner = owner_name(data, names)
    return owner is not None and record.last_owner not in (None, owner)


def last_owner(record: Record, settings: Settings) -> str | None:
    """Whose the data of a session are: its owner's, or its last one's."""
    return owner_name(decode_data(record.data), settings.owner_key) or record.last_owner


def _carry_out(action: Action, visit: Visit, intent: Intent, *, repeat: bool) -> Flow[bool]:
    """Do it; return whether that settled the commit, and no other request came first."""
    match action:
        case Action.CREATE:
            _adopt(visit, (yield from _create(visit, intent)), "created")
        case Action.RENEW:
            return (yield from _renew(visit, intent))
        case Action.END:
            return (yield from _end(visit))
        case Action.REPLACE:
            return (yield from _replace(visit, intent, repeat=repeat))
        case Action.TOUCH | Action.REISSUE:
            yield from _prolong(visit, touch=action is Action.TOUCH)
        case Action.END_SUCCESSOR:
            # No cookie is removed: the client may hold that of a later sign-in.
            while visit.marked:
                yield from _end_chain(visit, visit.marked[0])
                visit.marked = visit.marked[1:]
            return False
        case Action.NOTHING:
            if visit.entry is None and visit.ended and intent.changed:
                visit.manager.report("gone", visit.key, logging.INFO)
    return True


def _write(visit: Visit, *step: Any) -> Flow[Any]:
    """Make a write; one whose outcome stays unknown leaves the exchange in doubt."""
    try:
        return (yield step)
    except (StoreFull, TooLarge, _NotSent):
        raise  # nothing was written
    except StoreUnavailable as error:
        visit.trouble, visit.in_doubt = error, step[1]
        raise
    except GeneratorExit:  # by the deadline, or by the application, which goes on without it
        given_up = "A write of this session was given up before the store had answered."
        visit.trouble, visit.in_doubt = StoreUnavailable(given_up), step[1]
        raise


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
    if visit.trouble is not None or visit.to_end:
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
    """Let the session show what was committed, with what came meanwhile on top."""
    committed = EMPTY
    if visit.entry is not None:
        committed = intent.encoded
    elif visit.ended and not intent.ends:
        session._forget(intent)
        return
    elif visit.key is None and intent.empty:  # Flask's mark alone is not stored, but stays in sight
        committed = intent.shown
    try:
        session._settle(intent, committed)
    except ReplayFailed as failure:
        fail(visit, failure.error)
    except NotEncodable:
        pass  # of another task's change; the next commit will say so


def instead(session: Session, status: int, error: Exception, known: object) -> int | None:
    """Say which status takes the application's place when the commit at its start has raised.

    ``known`` is the trouble that there was before: a status below 400, and a 500, would confirm
    what is not known; any other is the application's own answer to it, and leaves (None). An error
    that is not the core's to answer is raised.
    """
    if error is known and status >= 400 and status != 500:
        return None
    if isinstance(error, StoreUnavailable):
        return 503
    if error is trouble(session):
        return 500
    raise error


def trouble(session: Session) -> Exception | None:
    """Return what each commit of this request raises; None: it can be trusted."""
    visit = session._backing
    return visit.trouble if isinstance(visit, Visit) else None


def over(session: Session) -> None:
    """The request is over: from now on a change of its session is an error."""
    session._over = True
    if not isinstance(session, UnusedSession):
        session.__class__ = OverSession


def _replace(visit: Visit, intent: Intent, *, repeat: bool) -> Flow[bool]:
    assert visit.record is not None
    record = dataclasses.replace(visit.record, data=intent.encoded)
    stored, ttl = encode_record(record), visit.manager.ttl(record)
    entry = yield from _write(
        visit, "replace", visit.key, visit.entry, stored, ttl, record.owner, visit.floor
    )
    if entry is None:
        return False
    visit.entry, visit.record, visit.wrote = entry, record, True
    if not entry.repeated:  # else others may have written since, or ended it
        visit.inform(repeat=repeat)
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


def _fresh_record(visit: Visit, intent: Intent) -> Record:
    """Return the record of a new or a renewed session: when its clocks began, and who owns it."""
    now, settings = visit.manager.clock(), visit.manager.settings
    old = None if Asked.DESTROYED in intent.asked else visit.record
    limit = settings.absolute_timeout
    created, absolute_end, authenticated_at = now, None if limit is None else now + limit, None
    owner = owner_name(intent.data, settings.owner_key)
    if old is not None:
        created, authenticated_at = old.created, old.authenticated_at
        absolute_end = visit.manager.absolute_end(old)
    signed_in = signs_in(intent, settings, by_owner=True) or (owner is not None and old is None)
    if signed_in or Asked.AUTHENTICATED in intent.asked:
        authenticated_at = now
        absolute_end = None if limit is None else now + limit
    elif authenticated_at is not None and owner is None:
        # A sign-out that keeps the session: the clock that began at the authentication goes on.
        created, authenticated_at = authenticated_at, None
    last = None
    if old is not None and owner is None and Asked.EMPTIED not in intent.asked:
        last = last_owner(old, settings)
    return Record(created, absolute_end, owner, authenticated_at, intent.encoded, last)


def _create(visit: Visit, intent: Intent) -> Flow[_Fresh]:
    """Store what the intent comes to under a new ID."""
    manager = visit.manager
    record = _fresh_record(visit, intent)
    stored, ttl = encode_record(record), manager.ttl(record)
    while True:
        cookie = Cookie(new_id(), manager.first_version, int(manager.clock()))
        visit.pending = Pending(cookie, renews=visit.entry is not None)
        key = visit.key_of(cookie)
        entry = yield from _write(visit, "create", key, stored, ttl, record.owner)
        if entry is not None:
            return _Fresh(cookie, key, entry, record)


def _adopt(visit: Visit, fresh: _Fresh, event: str) -> None:
    visit.adopt(fresh.cookie, fresh.key, fresh.entry, fresh.record)
    visit.pending = None
    visit.issue()
    visit.manager.report(event, fresh.key)


def _renew(visit: Visit, intent: Intent) -> Flow[bool]:
    """Create the new session, then swap the old record for an end mark that names it."""
    fresh = yield from _create(visit, intent)
    mark = EndMark(visit.manager.clock(), fresh.key)
    try:
        entry = yield from _entomb(visit, visit.key, visit.entry, mark)
    except StoreUnavailable:
        if visit.trouble is None:  # nothing was written: no client will ever hold the new one
            yield "delete", fresh.key
        raise
    if entry is None:
        # Made anew with what the other request has written, which may be refused: too large, say.
        yield "delete", fresh.key
        visit.pending = None
        return False
    _tell_of_sign_in_name(visit, intent)
    if entry.repeated:  # others may have ended the new one since
        fresh = dataclasses.replace(fresh, entry=dataclasses.replace(fresh.entry, repeated=True))
    _adopt(visit, fresh, "renewed")
    return True


def _tell_of_sign_in_name(visit: Visit, intent: Intent) -> None:
    """Say, at the first renewal by a guessed name, that it was one, and how to switch that off."""
    settings, before = visit.manager.settings, decode_data(intent.base)
    names = _new_identities(before, intent.data, settings.sign_in_names)
    if intent.asked or not names or signs_in(intent, settings, by_owner=True):
        return
    visit.manager.counts["renewed-by-name"] += 1
    if visit.manager.counts["renewed-by-name"] == 1:
        log.info(
            "The session's ID was renewed because %r, a key under which applications note who is "
            "signed in, holds another identity: see the setting sign_in_names, () switches it off.",
            names[0],
            extra={"event": "renewed-by-name"},
        )


def _end(visit: Visit) -> Flow[bool]:
    """Swap the record for an end mark."""
    mark = EndMark(visit.manager.clock(), None)
    entry = yield from _entomb(visit, visit.key, visit.entry, mark)
    if entry is None:
        return False
    visit.manager.report("destroyed", visit.key)
    # Not after a lost answer, nor of a cookie that the client never had: the user may have signed
    # in since, and the removal would sign them out; the cookie that stays is worthless as it is.
    had = visit.cookie is not None and visit.cookie.id in {each.id for each in visit.cookies}
    visit.lose()
    visit.ended, visit.removed = False, had and not entry.repeated
    return True


def _entomb(visit: Visit, key: str | None, entry: Entry | None, mark: EndMark) -> Flow[Any]:
    """Put an end mark in the place of an entry; None: another request came first.

    An end needs no room: where the store is full the record is removed instead, while it is the
    one that was loaded. A blind removal could take away the mark of a renewal that came between.
    """
    stored = encode_record(mark)
    try:
        return (
            yield from _write(visit, "replace", key, entry, stored, MARK_KEPT, None, visit.floor)
        )
    except StoreFull:
        if mark.successor is not None:
            raise  # a renewal without its mark would leave a sign-out nothing to follow
    return entry if (yield from _write(visit, "delete", key, entry)) else None


def _end_chain(visit: Visit, start: str) -> Flow[None]:
    """End the session under a key, or the one that goes on after it; never the one at hand."""
    key: str | None = start
    while key is not None and (visit.entry is None or key != visit.key):
        entry = yield "load", key, FRESHEST
        found = visit.look(key, entry)
        if isinstance(found, EndMark):
            key = found.successor
        elif found is None:
            return
        elif (
            yield from _entomb(visit, key, entry, EndMark(visit.manager.clock(), None))
        ) is not None:
            visit.manager.report("destroyed", key)
            return


def _end_others(visit: Visit) -> Flow[None]:
    """End the other sessions whose cookies the client showed at a sign-out."""
    while visit.to_end:
        yield from _end_chain(visit, visit.to_end[0])
        visit.to_end = visit.to_end[1:]


# --- what an application may ask for in between ---------------------------------------------------


def committing(
    visit: Visit, session: Session, function: Callable[[Session], T] | None
) -> Flow[T | None]:
    """`Session.commit`: write now, and return what the function returned when it counted."""
    if isinstance(session, EmptyInOutage):  # the store may be back
        yield from opening(visit)
        _show_found(visit, session)
    call = None
    if function is not None:
        if visit.trouble is not None:
            raise visit.trouble.with_traceback(None)
        call = session._run(function)
    try:
        intent = yield from closing(visit, session, own=call)
    finally:
        # A removal would leave with the response, after a sign-in, perhaps, that came meanwhile.
        visit.removed = False
    if visit.entry is None and visit.ended and not intent.ends:
        raise _gone("committed")
    visit.met_outage = False
    return None if call is None else call.result


def reloading(visit: Visit, session: Session) -> Flow[None]:
    """`Session.reload`: from the store itself, whatever copies there are."""
    if visit.in_doubt is not None:
        key, own = visit.key, visit.pending is not None or visit.in_doubt == visit.key
        yield from _resolve(visit)
        # Else the sign-out itself was certain, and only the end of another session in doubt.
        if own and visit.key == key and not _has_signed_out(visit, session):
            visit.to_end = ()
    else:
        if not visit.opened or visit.outdated:
            yield from opening(visit)
        if visit.entry is not None:
            yield from _look_again(visit)
    visit.trouble, visit.in_doubt, visit.met_outage = None, None, False
    _show_found(visit, session)
    if visit.ended:
        raise _gone("read again")


def _has_signed_out(visit: Visit, session: Session) -> bool:
    """Whether a write that was in doubt has left nobody signed in where it was made."""
    if visit.record is None:
        return True
    changed = not same_data(visit.record.data, session._base)
    return changed and not names_user(decode_data(visit.record.data), visit.manager.settings)


def _show_found(visit: Visit, session: Session) -> None:
    """Begin anew from what was found; when that is an end, what was known before stays the base."""
    found = EMPTY if visit.record is None else visit.record.data
    session._reset(found)
    if not visit.ended:
        session._base = found


def _gone(done: str) -> SessionGone:
    return SessionGone(
        f"The session ended before it could be {done}: signed out, renewed by another request, or "
        "expired. Nothing was stored; ask the user to sign in again."
    )


# --- a write in doubt -----------------------------------------------------------------------------


def _resolve(visit: Visit) -> Flow[None]:
    """Find out what became of a write in doubt, so that it has happened or never will.

    A look is not enough: the write may still be on its way, in an abandoned thread or a socket's
    buffer. One of the same data takes its place in line: what comes after it finds another token.
    """
    pending, found = visit.pending, None
    if pending is None and visit.in_doubt not in (None, visit.key):  # the end of another session
        yield from _fence(visit, visit.in_doubt)
    if visit.key is not None and (pending is None or pending.renews):
        found = yield from _fence_own(visit)
    if pending is None:
        return
    key = visit.key_of(pending.cookie)
    if not pending.renews or (isinstance(found, EndMark) and found.successor == key):
        # A creation, or a renewal whose end mark stands: if the new session is there, it goes on.
        entry, fresh = yield from _fence(visit, key)
        if isinstance(fresh, tuple) and entry is not None:
            visit.adopt(pending.cookie, key, entry, fresh[0])
            visit.issue()
            visit.pending = None
            return
    yield from _bury(visit, key)
    visit.pending = None


def _fence_own(visit: Visit) -> Flow[object]:
    """Fence the session at hand; return what was found in its place."""
    assert visit.key is not None
    entry, found = yield from _fence(visit, visit.key)
    if isinstance(found, tuple):
        visit.entry, visit.record = entry, found[0]
        visit.inform()
    else:
        visit.lose(found)
    return found


def _fence(visit: Visit, key: str) -> Flow[tuple[Entry | None, object]]:
    """Replace what is under a key by the same data; return what was found there."""
    while True:
        entry = yield "load", key, FRESHEST
        found = visit.look(key, entry)
        if not isinstance(found, tuple):
            return entry, found
        record = found[0]
        stored, ttl = entry.data, visit.manager.ttl(record)
        written = yield from _write(
            visit, "replace", key, entry, stored, ttl, record.owner, visit.floor
        )
        if written is not None and not written.repeated:
            return written, found


def _bury(visit: Visit, key: str) -> Flow[None]:
    """Put an end mark where a creation in doubt has landed or may still land."""
    mark = EndMark(visit.manager.clock(), None)
    while True:
        stored = encode_record(mark)
        if (yield from _write(visit, "create", key, stored, MARK_KEPT)) is not None:
            return
        entry = yield "load", key, FRESHEST
        if isinstance(visit.look(key, entry), tuple):
            if (yield from _entomb(visit, key, entry, mark)) is not None:
                return
        elif entry is not None:
            return


# --- the two drivers ------------------------------------------------------------------------------


Within = Callable[[float, Callable[[], Any]], Any]  # Any: whatever the call returns


Peek = Callable[[str, int], Entry | None]


class _NotSent(StoreUnavailable):
    """The deadline had passed before a command was handed to the store."""


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
    try:
        step = first_step(flow, peek)
        while True:
            verb, *arguments = step
            begun = time.monotonic()
            if deadline is None:
                patience = manager.patience()
                deadline = begun + patience
            left = deadline - begun
            if left <= 0:
                step = flow.throw(too_late(manager, patience, _NotSent))
                continue
            if verb == "pause":
                time.sleep(min(left, *arguments))
                step = flow.send(None)
                continue
            call = partial(getattr(store, verb), *arguments)
            try:
                answer = call() if within is None else within(left, call)
            except DeadlinePassed:
                step = flow.throw(too_late(manager, patience))
            except Exception as error:  # noqa: BLE001 - a store that raises did not answer
                step = flow.throw(_told(error, manager, begun))
            else:
                manager.breaker.answered()
                step = flow.send(answer)
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
    try:
        if step is None:
            step = flow.send(None)
        while True:
            verb, *arguments = step
            if verb == "pause":
                await pause(*arguments)
                step = flow.send(None)
                continue
            begun = time.monotonic()
            try:
                answer = await call(verb, *arguments)
            except Exception as error:  # noqa: BLE001 - as in `drive`
                step = flow.throw(_told(error, manager, begun))
            else:
                manager.breaker.answered()
                step = flow.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


def _told(error: Exception, manager: Manager, begun: float) -> Exception:
    """Return what a flow is told of a store's error."""
    if not isinstance(error, TooLarge):
        return outage(error, manager, begun)
    manager.breaker.answered()  # an answer, not an outage
    return error


def outage(error: Exception, manager: Manager, begun: float) -> StoreUnavailable:
    """Return the outage that a store's error means, of a call that began then."""
    manager.breaker.failed(time.monotonic() - begun)
    manager.counts["outage"] += 1
    if isinstance(error, StoreUnavailable):
        log.error("outage: %s", error, extra={"event": "outage"})
        return error
    log.error("outage: the session store failed", exc_info=error, extra={"event": "outage"})
    failed = StoreUnavailable(f"The session store failed: {type(error).__name__}.")
    failed.__cause__ = error
    return failed


def too_late(
    manager: Manager, patience: float, kind: type[StoreUnavailable] = StoreUnavailable
) -> StoreUnavailable:
    """Return the outage that it means when an attempt has had so many seconds, in vain."""
    manager.counts["outage"] += 1
    log.error("outage: the deadline has passed", extra={"event": "outage"})
    manager.breaker.too_late(patience)
    return kind(f"The session store did not answer within {patience:g} s.")
