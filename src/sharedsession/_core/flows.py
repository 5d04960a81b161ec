"""The order of steps: opening, closing, renewing, ending; written once for sync and async.

Rules that the interleavings taught, each of them a test:

* A session found ended, at load or at commit, stays ended, and the response carries no Set-Cookie.
  Only the request that ends a session removes its cookie: a removal that arrives late would sign
  out a user who has just signed in.
* For the same reason the last store call before any Set-Cookie for an ID that the client already
  has is one that saw the session alive: the compare-and-set itself, or a load after a touch.
* A renewal creates the new session first and then swaps the old record for a tombstone; the cookie
  is set only when the tombstone stands.
* What a request did is relative to one base, the data of the record that was last seen alive.
  Whenever another record is seen the steps are replayed over it, or nothing is written.
* A write whose outcome is unknown leaves the exchange in doubt: no later commit of the request
  writes anything, until ``reload()`` has made sure that it has happened or never will.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from ..exceptions import (
    LateChange,
    NotSerializable,
    SessionGone,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)
from ..stores.base import Entry
from .adopting import adopting, retiring
from .changes import Asked, Call, Function, ReplayFailed, same_data
from .cookie import Cookie, new_id
from .decide import Action, bring_up_to_date, decide, others_to_end
from .identity import last_owner, names_user, new_identities, owner_name, signs_in
from .record import EMPTY, Record, Tombstone, decode_data, encode_record, lifetime_of
from .state import TOUCH_AFTER, Pending, Progress, State, Trust
from .steps import Create, Delete, Flow, Load, NotSent, Pause, Replace, Touch, Write
from .work import Outcome

T = TypeVar("T")

TOMBSTONE_KEPT = 300  # seconds that a tombstone stays, for requests that are still on their way
TOUCHES_APART = 5.0  # seconds in which a process touches a session once, at most

log = logging.getLogger("sharedsession")


# --- opening --------------------------------------------------------------------------------------


def opening(state: State, *, outdated: bool = False, adopts: bool = True) -> Flow[None]:
    """Find the first of the client's sessions that is alive; none: a new, empty one.

    ``outdated``: from copies, during an outage, in which nothing can be prolonged. ``adopts``:
    whether one of another package is taken over, where there is none of ours.
    """
    manager = state.manager
    state.ended, state.tombstones, state.outdated = False, (), outdated
    for cookie in state.cookies:
        key = state.key_of(cookie)
        entry = yield Load(key, manager.floor(cookie, outdated=outdated))
        found = state.look(key, entry)
        if isinstance(found, Record):
            state.adopt(cookie, key, entry, found)
            # Else it was stored under an earlier setting, and is to be ended.
            state.was_found = manager.settings.idle_timeout > 0
            if not state.was_found:
                state.found = None
            if entry.version < cookie.version:  # the store has lost writes that it acknowledged
                manager.report("rewound", key, logging.WARNING)
            break
        state.meet(key, found)
    else:
        if state.foreign and adopts and not outdated and manager.settings.idle_timeout > 0:
            yield from adopting(state)
    state.opened = True
    if state.trust is Trust.LOAD_FAILED:
        state.trust_again()


# --- closing --------------------------------------------------------------------------------------


def closing(
    state: State, *, late: bool, repeat: bool = False, own: Call | None = None
) -> Flow[Outcome]:
    """Commit what the request did to its session, whatever others do meanwhile.

    ``late``: the headers have left. ``repeat``: hand out the cookie even if the client has nothing
    to learn from it. ``own`` is a function whose result waits for this commit: when that fails, it
    is no step.
    """
    state.began = state.manager.clock()
    outcome = state.take(own)
    try:
        yield from _closing(state, outcome, late=late, repeat=repeat)
    except ReplayFailed as failure:
        state.take_back(outcome)
        if failure.call is not own:
            _fail(state, failure.error)
        else:
            _drop(state, own)
            if state.record is None:  # over nothing
                raise gone("committed") from failure.error
        raise failure.error from None
    except BaseException:
        state.take_back(outcome)
        if own is not None:
            _drop(state, own)
        raise
    # It is committed, and shown: whatever fails from here on, it is not done again.
    yield from _after(state, repeat=repeat)
    return outcome


def _closing(state: State, outcome: Outcome, *, late: bool, repeat: bool) -> Flow[None]:
    if state.is_distrusted and not _can_be_done_twice(state, outcome):
        assert state.error is not None
        raise state.error.with_traceback(None)
    if not state.opened:  # destroy() needs no loaded session, but its end has to find it
        yield from opening(state, adopts=not outcome.ends)
    yield from _end_others(state)  # what an earlier commit has left
    shown, begun_with = state.key, outcome.encoded
    for rounds in count(1):
        if state.record is not None and not state.manager.alive(state.record):
            state.lose()
        bring_up_to_date(state, outcome)
        action = decide(state, outcome, late=late, repeat=repeat)
        if late and action in (Action.CREATE, Action.RENEW):
            raise _too_late()
        state.to_end = others_to_end(state, outcome, action, shown)
        done = False
        try:
            done = yield from _carry_out(action, state, outcome, repeat=repeat)
        finally:
            if not done and not state.is_distrusted:  # else reload() finds out
                state.to_end, state.pending = (), None
        if done:
            break
        # Another request came first: what is there now is looked at, and the steps replayed.
        if rounds > 1:
            yield Pause(random.uniform(0, min(0.05, 0.001 * 2**rounds)))
        if action is not Action.END_SUCCESSOR:
            yield from _look_again(state)
    _settle(state, outcome, begun_with)


def _can_be_done_twice(state: State, outcome: Outcome) -> bool:
    """Whether this is an end, and all that is wrong is an outage: it may be done in doubt."""
    # By itself: what a function asks for rests on data that are in doubt.
    ends = outcome.ends and Asked.DESTROYED in outcome.asked_outside
    return ends and state.trust is Trust.IN_DOUBT and isinstance(state.error, StoreUnavailable)


def _carry_out(action: Action, state: State, outcome: Outcome, *, repeat: bool) -> Flow[bool]:
    """Do it; return whether the commit is complete, and no other request came first."""
    match action:
        case Action.CREATE:
            _adopt(state, (yield from _create(state, outcome)), "created")
        case Action.RENEW:
            return (yield from _renew(state, outcome))
        case Action.END:
            return (yield from _end(state))
        case Action.REPLACE:
            return (yield from _replace(state, outcome, repeat=repeat))
        case Action.TOUCH:
            yield from _touch(state, repeat=repeat)
        case Action.REISSUE:
            yield from _prolong(state, touch=False)
        case Action.END_SUCCESSOR:
            # No cookie is removed: the client may hold that of a later sign-in.
            while state.tombstones:
                yield from end_chain(state, state.tombstones[0])
                state.tombstones = state.tombstones[1:]
            return False
        case Action.NOTHING:
            if state.entry is None and state.ended and outcome.changed:
                state.manager.report("gone", state.key, logging.INFO)
            if state.manager.settings.idle_timeout <= 0 and outcome.changed:
                state.removed |= not outcome.is_empty  # as Starlette: its cookie is worthless
    return True


def _settle(state: State, outcome: Outcome, begun_with: bytes) -> None:
    """Let the session show what was committed, with what came meanwhile on top."""
    committed = EMPTY
    if state.entry is not None:
        committed = outcome.encoded
    elif state.ended and not outcome.ends:
        state.forget(outcome)
        return
    elif state.key is None and outcome.is_empty:  # Flask's mark alone stays in sight, not stored
        committed = begun_with
    try:
        state.settle(outcome, begun_with, committed)
    except ReplayFailed as failure:
        _fail(state, failure.error)
    except NotSerializable:
        pass  # of another task's change; the next commit will say so


def _after(state: State, *, repeat: bool) -> Flow[None]:
    """Do what is left after a commit: other sessions end, the client's cookie is looked after."""
    if state.is_distrusted:  # destroy() has ended what was in doubt
        if state.pending is not None:
            yield from _bury(state, state.key_of(state.pending.cookie))
        state.trust_again()
        state.pending = None
    if state.entry is not None and state.entry.repeated:
        yield from _look_again(state)
        if state.entry is not None:
            state.inform(repeat=repeat)
    if state.to_end:
        yield from _end_others(state)
        if state.reply is not None:  # for a session that may have ended meanwhile
            yield from _look_again(state)


def _fail(state: State, error: Exception) -> None:
    """What this request has said may be untrue: nothing of it is written any more."""
    state.fail(error)
    state.manager.counts["replay_failed"] += 1
    log.error(
        "replay_failed: a function given to mutate() raised when it ran again: session %s",
        (state.key or "-")[:12],
        exc_info=error,
        extra={"event": "replay_failed"},
    )


def _drop(state: State, call: Call) -> None:
    """Show the session without a function, over the newest base that was seen."""
    try:
        state.drop(call, None if state.record is None else state.record.data)
    except ReplayFailed as failure:
        _fail(state, failure.error)
    except NotSerializable:
        pass  # of another task's change; the next commit will say so


def _too_late() -> LateChange:
    return LateChange(
        "The session was changed after the response's headers had left, or in a socket's "
        "event, which has none, in a way that needs a new cookie: a new session, a "
        "renewal, or another owner. Make this change in a request, before the response "
        "starts, or call commit() there."
    )


# --- writes ---------------------------------------------------------------------------------------


def _write(state: State, step: Write) -> Generator[Write, Any, Any]:
    """Make a write; one whose outcome stays unknown leaves the exchange in doubt."""
    try:
        return (yield step)
    except (StoreFull, TooLarge, NotSent):
        raise  # nothing was written
    except StoreUnavailable as error:
        state.doubt(error, step.key)
        raise
    except GeneratorExit:  # by the deadline, or by the application, which goes on without it
        given_up = "A write of this session was given up before the store had answered."
        state.doubt(StoreUnavailable(given_up), step.key)
        raise


def _replace(state: State, outcome: Outcome, *, repeat: bool) -> Flow[bool]:
    old, lifetime = state.record, lifetime_of(outcome.data)
    assert old is not None
    repeat |= lifetime != old.lifetime  # else the client does not learn of it
    clocks = old.created, old.absolute_end, old.owner, old.authenticated_at
    record = Record(*clocks, outcome.encoded, old.last_owner, lifetime)
    entry = yield from _write(state, _replacement(state, record))
    if entry is None:
        return False
    state.remember(entry, record)
    state.entry, state.record, state.wrote = entry, record, True
    if not entry.repeated:  # else others may have written since, or ended it
        state.inform(repeat=repeat)
    return True


def _replacement(state: State, record: Record) -> Replace:
    assert state.key is not None
    assert state.entry is not None
    stored, ttl = encode_record(record), state.manager.ttl(record)
    return Replace(state.key, state.entry, stored, ttl, record.owner, state.floor)


def _look_again(state: State) -> Flow[None]:
    """Learn what is under the key by now: another request came first, or an answer was late.

    Nothing may be handed out for a session that was ended in the meantime.
    """
    assert state.key is not None
    entry = yield Load(state.key)
    found = state.look(state.key, entry)
    if isinstance(found, Record):
        state.entry, state.record = entry, found
    else:
        state.lose(found)


def _touch(state: State, *, repeat: bool) -> Flow[None]:
    """Give the session a new lifetime, unless another request of this process is just doing so.

    Nor does this one hand out a cookie then: it would rest on what the other one saw, and could
    leave after the answer to a sign-in that came in between. Where the client has something else
    to learn, it gets the cookie that it has, after a look.
    """
    assert state.cookie is not None
    touches, cookie = state.manager.process.touches, state.cookie
    apart = min(TOUCHES_APART, state.manager.idle_timeout(state.record) * TOUCH_AFTER)
    if not touches.begin(cookie, state.manager.clock(), apart):
        if repeat or state.is_newer or state.reply is not None:
            yield from _prolong(state, touch=False)
        return
    try:
        yield from _prolong(state, touch=True)
    except BaseException:
        touches.give_up(cookie)
        raise


def _prolong(state: State, *, touch: bool) -> Flow[None]:
    """Give the session and its cookie a new lifetime, or the cookie a new version.

    A touch cannot tell a session from a tombstone, and a cookie for a session that was renewed
    meanwhile would displace the new one: so look, last of all, whether it is alive.
    """
    assert state.record is not None
    assert state.key is not None
    alive = True
    if touch:
        alive = yield Touch(state.key, state.manager.ttl(state.record))
    entry = (yield Load(state.key)) if alive else None
    found = state.look(state.key, entry)
    if isinstance(found, Record):
        state.issue(state.began if touch else None)
        return
    if touch and found is not None:
        yield Touch(state.key, TOMBSTONE_KEPT)
    state.lose(found)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A session just stored under an ID that no client knows yet."""

    cookie: Cookie
    key: str
    entry: Entry
    record: Record


def _fresh_record(state: State, outcome: Outcome) -> Record:
    """Return the record of a new or a renewed session: when its clocks began, and who owns it."""
    now, settings = state.manager.clock(), state.manager.settings
    old = None if Asked.DESTROYED in outcome.asked else state.record
    limit = settings.absolute_timeout
    created, absolute_end, authenticated_at = now, None if limit is None else now + limit, None
    owner = owner_name(outcome.data, settings.owner_key)
    if old is not None:
        created, authenticated_at = old.created, old.authenticated_at
        absolute_end = state.manager.absolute_end(old)
    signed_in = signs_in(outcome, settings, by_owner=True) or (owner is not None and old is None)
    if signed_in or Asked.AUTHENTICATED in outcome.asked:
        authenticated_at = now
        absolute_end = None if limit is None else now + limit
    elif authenticated_at is not None and owner is None:
        # A sign-out that keeps the session: the clock that began at the authentication goes on.
        created, authenticated_at = authenticated_at, None
    last = None
    if old is not None and owner is None and Asked.EMPTIED not in outcome.asked:
        last = last_owner(old, settings)
    lifetime = lifetime_of(outcome.data)
    clocks = created, absolute_end, owner, authenticated_at
    return Record(*clocks, outcome.encoded, last, lifetime)


def _create(state: State, outcome: Outcome) -> Flow[_Fresh]:
    """Store what the request did under a new ID."""
    manager = state.manager
    record = _fresh_record(state, outcome)
    stored, ttl = encode_record(record), manager.ttl(record)
    while True:
        chosen, state.planned = state.planned or new_id(), None
        cookie = Cookie(chosen, manager.first_version, int(manager.clock()))
        state.pending = Pending(cookie, renews=state.entry is not None)
        key = state.key_of(cookie)
        entry = yield from _write(state, Create(key, stored, ttl, record.owner))
        if entry is not None:
            state.remember(entry, record)
            return _Fresh(cookie, key, entry, record)


def _adopt(state: State, fresh: _Fresh, event: str) -> None:
    state.adopt(fresh.cookie, fresh.key, fresh.entry, fresh.record)
    state.pending = None
    state.issue()
    state.manager.report(event, fresh.key)


def _renew(state: State, outcome: Outcome) -> Flow[bool]:
    """Create the new session, then swap the old record for a tombstone that names it."""
    assert state.key is not None
    assert state.entry is not None
    planned = state.planned
    fresh = yield from _create(state, outcome)
    tombstone = Tombstone(state.manager.clock(), fresh.key)
    try:
        entry = yield from _entomb(state, state.key, state.entry, tombstone)
    except StoreUnavailable:
        if not state.is_distrusted:  # nothing was written: no client will ever hold the new one
            yield Delete(fresh.key)
        raise
    if entry is None:
        # Made anew with what the other request has written, which may be refused: too large, say.
        yield Delete(fresh.key)
        state.pending, state.planned = None, planned
        return False
    _tell_of_sign_in_name(state, outcome)
    if entry.repeated:  # others may have ended the new one since
        fresh = dataclasses.replace(fresh, entry=dataclasses.replace(fresh.entry, repeated=True))
    _adopt(state, fresh, "renewed")
    return True


def _tell_of_sign_in_name(state: State, outcome: Outcome) -> None:
    """Say, at the first renewal by a guessed name, that it was one, and how to switch that off."""
    settings, counts = state.manager.settings, state.manager.counts
    names = new_identities(outcome.before, outcome.data, settings.sign_in_names)
    if outcome.asked or not names or signs_in(outcome, settings, by_owner=True):
        return
    counts["renewed-by-name"] += 1
    if counts["renewed-by-name"] == 1:
        log.info(
            "The session's ID was renewed because %r, a key under which applications note who is "
            "signed in, holds another identity: see the setting sign_in_names, () switches it off.",
            names[0],
            extra={"event": "renewed-by-name"},
        )


# --- ends -----------------------------------------------------------------------------------------


def _end(state: State) -> Flow[bool]:
    """Swap the record for a tombstone."""
    assert state.key is not None
    assert state.entry is not None
    tombstone = Tombstone(state.manager.clock(), None)
    entry = yield from _entomb(state, state.key, state.entry, tombstone)
    if entry is None:
        return False
    state.manager.report("destroyed", state.key)
    # Not after a lost answer, nor of a cookie that the client never had: the user may have signed
    # in since, and the removal would sign them out; the cookie that stays is worthless as it is.
    had = state.cookie is not None and state.cookie.id in {each.id for each in state.cookies}
    had |= any(map(state.manager.has_our_name, state.replaced))
    state.lose()
    state.ended, state.removed = False, had and not entry.repeated
    return True


def _entomb(state: State, key: str, entry: Entry, tombstone: Tombstone) -> Flow[Entry | None]:
    """Put a tombstone in the place of an entry; None: another request came first.

    An end needs no room: where the store is full the record is removed instead, while it is the
    one that was loaded. A blind removal could take away the tombstone of a renewal that came
    between.
    """
    stored = encode_record(tombstone)
    step = Replace(key, entry, stored, TOMBSTONE_KEPT, None, state.floor)
    try:
        written: Entry | None = yield from _write(state, step)
    except StoreFull:
        if tombstone.successor is not None:
            raise  # a renewal without its tombstone would leave a sign-out nothing to follow
    else:
        return written
    return entry if (yield from _write(state, Delete(key, entry))) else None


def end_chain(state: State, start: str) -> Flow[bool]:
    """End the session under a key, or the one that goes on after it; never the one at hand.

    Return whether there was one.
    """
    key: str | None = start
    while key is not None and (state.entry is None or key != state.key):
        entry = yield Load(key)
        found = state.look(key, entry)
        if isinstance(found, Tombstone):
            key = found.successor
        elif found is None:
            return False
        else:
            tombstone = Tombstone(state.manager.clock(), None)
            if (yield from _entomb(state, key, entry, tombstone)) is not None:
                state.manager.report("destroyed", key)
                return True
    return False


def _end_others(state: State) -> Flow[None]:
    """End the other sessions whose cookies the client showed at a sign-out."""
    while state.to_end:
        other = state.to_end[0]
        key: str | None
        if isinstance(other, str):
            key = other
        else:
            key = yield from retiring(state, other)
            state.removed |= state.entry is None and state.manager.has_our_name(other.source)
        if key is not None:
            yield from end_chain(state, key)
        state.to_end = state.to_end[1:]


# --- what an application may ask for in between ---------------------------------------------------


def committing(state: State, function: Function | None) -> Flow[Any]:
    """`Session.commit`: write now, and return what the function returned when it counted."""
    if state.trust is Trust.LOAD_FAILED:  # the store may be back
        yield from opening(state)
        _show_found(state)
    call = None
    if function is not None:
        if state.is_distrusted:
            assert state.error is not None
            raise state.error.with_traceback(None)
        call = state.run(function)
    try:
        late = state.progress is not Progress.OPEN
        outcome = yield from closing(state, late=late, own=call)
    finally:
        # A removal would leave with the response, after a sign-in, perhaps, that came meanwhile.
        state.removed = False
    if state.entry is None and state.ended and not outcome.ends:
        raise gone("committed")
    state.met_outage = False
    return None if call is None else call.result


def reloading(state: State) -> Flow[None]:
    """`Session.reload`: from the store itself, whatever copies there are."""
    state.began = state.manager.clock()
    if state.in_doubt is not None:
        key, own = state.key, state.pending is not None or state.in_doubt == state.key
        yield from _resolve(state)
        # Else the sign-out itself was certain, and only the end of another session in doubt.
        if own and state.key == key and not _has_signed_out(state):
            state.to_end = ()
    else:
        if not state.opened or state.outdated:
            yield from opening(state)
        if state.entry is not None:
            yield from _look_again(state)
    state.trust_again()
    state.met_outage = False
    _show_found(state)
    if state.ended:
        raise gone("read again")


def _has_signed_out(state: State) -> bool:
    """Whether a write that was in doubt has left no user signed in where it was made."""
    if state.record is None:
        return True
    changed = not same_data(state.record.data, state.base)
    return changed and not names_user(decode_data(state.record.data), state.manager.settings)


def _show_found(state: State) -> None:
    """Begin anew from what was found; when that is an end, what was known before stays the base."""
    found = EMPTY if state.record is None else state.record.data
    state.reset(found, base=state.base if state.ended else found)


def gone(done: str) -> SessionGone:
    """Return what is raised where a session has ended before something was done to it."""
    return SessionGone(
        f"The session ended before it could be {done}: signed out, renewed by another request, or "
        "expired. Nothing was stored; ask the user to sign in again."
    )


# --- a write in doubt -----------------------------------------------------------------------------


def _resolve(state: State) -> Flow[None]:
    """Find out what became of a write in doubt, so that it has happened or never will.

    A look is not enough: the write may still be on its way, in an abandoned thread or a socket's
    buffer. One of the same data takes its place in line: what comes after it finds another token.
    """
    pending, found = state.pending, None
    if pending is None and state.in_doubt not in (None, state.key):  # the end of another session
        assert state.in_doubt is not None
        yield from _fence(state, state.in_doubt)
    if state.key is not None and (pending is None or pending.renews):
        found = yield from _fence_own(state)
    if pending is None:
        return
    key = state.key_of(pending.cookie)
    if not pending.renews or (isinstance(found, Tombstone) and found.successor == key):
        # A creation, or a renewal whose tombstone stands: if the new session is there, it goes on.
        entry, fresh = yield from _fence(state, key)
        if isinstance(fresh, Record) and entry is not None:
            state.adopt(pending.cookie, key, entry, fresh)
            state.issue()
            state.pending = None
            return
    yield from _bury(state, key)
    state.pending = None


def _fence_own(state: State) -> Flow[Record | Tombstone | None]:
    """Fence the session at hand; return what was found in its place."""
    assert state.key is not None
    entry, found = yield from _fence(state, state.key)
    if isinstance(found, Record):
        state.entry, state.record = entry, found
        state.inform()
    else:
        state.lose(found)
    return found


def _fence(state: State, key: str) -> Flow[tuple[Entry | None, Record | Tombstone | None]]:
    """Replace what is under a key by the same data; return what was found there."""
    while True:
        entry = yield Load(key)
        found = state.look(key, entry)
        if not isinstance(found, Record):
            return entry, found
        ttl = state.manager.ttl(found)
        step = Replace(key, entry, entry.data, ttl, found.owner, state.floor)
        written = yield from _write(state, step)
        if written is not None and not written.repeated:
            return written, found


def _bury(state: State, key: str) -> Flow[None]:
    """Put a tombstone where a creation in doubt has landed or may still land."""
    tombstone = Tombstone(state.manager.clock(), None)
    while True:
        stored = encode_record(tombstone)
        if (yield from _write(state, Create(key, stored, TOMBSTONE_KEPT))) is not None:
            return
        entry = yield Load(key)
        if isinstance(state.look(key, entry), Record):
            if (yield from _entomb(state, key, entry, tombstone)) is not None:
                return
        elif entry is not None:
            return
