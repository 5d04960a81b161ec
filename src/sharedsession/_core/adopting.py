"""Taking over another package's session: once, however many requests ask for it.

The *claim* is a record under a key that is made of the old cookie's verified value. It names the
session of ours that took the old one's place, and to create it is the moment of adoption: of all
requests that try, one does. It is kept until no server can accept the old value any more, so that a
cookie that was kept adopts nothing after its session has ended.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from logging import INFO, WARNING
from math import isnan
from typing import NamedTuple

from itsdangerous.encoding import base64_decode

from ..exceptions import CorruptRecord, NotSerializable, StoreFull, TooLarge
from ..stores.base import Entry
from .cookie import Cookie, new_id, store_key
from .identity import owner_name
from .manager import Manager
from .record import (
    DAMAGE,
    FORMAT,
    LONGEST,
    Record,
    check_data,
    encode_data,
    encode_record,
    lifetime_of,
    pack,
    read_format,
    unpack,
)
from .source import Foreign, Found, NotAdoptable
from .state import TOUCH_AFTER, State
from .steps import Create, Delete, EndOld, Flow, Load, ReadOld

A_DAY = 86_400  # seconds that a claim outlives the last moment at which its value could count
_MARK = "adopt"


class Claim(NamedTuple):
    """Which session has taken an old one's place.

    ``versioned``: whether its cookies have versions. ``expires``: when it was to end as it came
    over, in epoch seconds; not all stores can say that of an entry.
    """

    session_id: str
    versioned: bool
    expires: int

    def __repr__(self) -> str:  # the ID must not get into a log by way of a repr (ASVS 16.2.5)
        return f"Claim(versioned={self.versioned})"


# Creates the session that takes an old one's place, if any, and then the claim.
Make = Callable[[State, Foreign, str, Found], Flow[Claim | None]]


def adopting(state: State) -> Flow[None]:
    """Make the first of the old sessions that the client shows, and that lives, this request's."""
    for foreign in state.foreign:
        try:
            claim = yield from claiming(state, foreign)
        except (NotAdoptable, NotSerializable, TooLarge, CorruptRecord) as reason:
            # Left where it is until it ends by itself: the client begins a new session.
            key = claim_key(foreign, state.manager)
            if state.manager.is_first(f"not-adoptable: {reason}"):
                state.manager.report("not-adoptable", key, WARNING, reason)
            else:
                state.manager.report("not-adoptable", key, reason=reason)
            continue
        if claim is None:
            continue
        state.replaced = (*state.replaced, foreign.source)
        if (yield from _take_over(state, claim)):
            state.foreign = [each for each in state.foreign if each != foreign]
            return


def retiring(state: State, foreign: Foreign) -> Flow[str | None]:
    """End an old session whose cookie was shown; return the key of ours in its place, if any.

    It is claimed for no session, so that the old cookie is worth nothing any more. An end needs no
    room: where the store is full, and the old package has records, ending that has to do.
    """
    try:
        claim = yield from _claim(state, foreign, _claim_for_none)
    except (NotAdoptable, CorruptRecord):  # it cannot come over either
        claim = None
    except StoreFull:
        if not foreign.source.has_records:
            raise
        claim = None
    yield EndOld(foreign)
    state.replaced = (*state.replaced, foreign.source)
    return None if claim is None else store_key(claim.session_id, state.manager.settings.namespace)


def _claim_for_none(state: State, foreign: Foreign, key: str, found: Found) -> Flow[Claim | None]:
    """Claim an old session for no session of ours; None: another request has claimed it."""
    claim = Claim(new_id(), versioned=False, expires=0)
    kept = _kept(foreign, _left(found, state.manager))
    made = yield Create(key, _sealed(claim, foreign.value), kept)
    return None if made is None else claim


def _left(found: Found, manager: Manager) -> int:
    """Return how many seconds an old session would have lived on."""
    return int(min(found.expires - manager.clock(), LONGEST))


def _kept(foreign: Foreign, left: int = 0) -> int:
    """Return for how many seconds a claim is kept: as long as the old value could count.

    ``left``: those of the record, which may outlive the lifetime that its source was given.
    """
    return max(foreign.source.lifetime, left) + A_DAY


def claim_key(foreign: Foreign, manager: Manager) -> str:
    """Return the key of the record that says what became of an old session."""
    name = f"{_MARK}\0{foreign.source.kind}\0{foreign.value}"
    return store_key(name, manager.settings.namespace)


def claiming(state: State, foreign: Foreign) -> Flow[Claim | None]:
    """Return what the old session was claimed for, by this request or before; None: there is none.

    Whenever there is a claim the old record is ended again: an old server may have saved it since.

    Raises:
        NotAdoptable, NotSerializable, TooLarge: it cannot come over, and is left as it is.
        CorruptRecord: what stands in the place of the claim is none.
    """
    claim = yield from _claim(state, foreign, _make)
    if claim is not None:
        yield EndOld(foreign)
    return claim


def _claim(state: State, foreign: Foreign, make: Make) -> Flow[Claim | None]:
    """Return the claim of an old session; ``make`` creates it, where there is none yet."""
    manager, key = state.manager, claim_key(foreign, state.manager)
    while True:
        claim = _opened((yield Load(key)), foreign)
        if claim is not None:
            return claim
        found = yield ReadOld(foreign, manager.settings.secret_keys, manager.clock())
        if found is None:  # or another request has adopted it between the two looks
            return _opened((yield Load(key)), foreign)
        claim = yield from make(state, foreign, key, found)
        if claim is not None:
            return claim


def _make(state: State, foreign: Foreign, key: str, found: Found) -> Flow[Claim | None]:
    """Create the session, then its claim; None: another request has made one meanwhile."""
    manager = state.manager
    record = record_of(found, manager)
    left = _left(found, manager)
    ttl = max(1, min(left, manager.ttl(record)))
    claim = Claim(new_id(), bool(manager.first_version), int(manager.clock()) + ttl)
    session_key = store_key(claim.session_id, manager.settings.namespace)
    created = yield Create(session_key, encode_record(record), ttl, record.owner)
    if created is None:
        return None
    sealed = _sealed(claim, foreign.value)
    if (yield Create(key, sealed, _kept(foreign, left))) is None:
        yield Delete(session_key)
        return None
    manager.report("adopted", session_key, INFO)
    return claim


def record_of(found: Found, manager: Manager) -> Record:
    """Return the record of an old session. When its user authenticated is not known."""
    if not isinstance(found.data, dict) or isnan(found.expires):
        raise NotAdoptable("damaged", "What the source has read is no session.")
    check_data(found.data)
    encoded = encode_data(found.data)
    owner = owner_name(found.data, manager.settings.owner_key)
    now, limit = manager.clock(), manager.settings.absolute_timeout
    created = now if found.created is None else min(found.created, now)
    absolute_end = None if limit is None else created + limit
    return Record(created, absolute_end, owner, None, encoded, lifetime=lifetime_of(found.data))


def _take_over(state: State, claim: Claim) -> Flow[bool]:
    """Make the session of a claim this request's, if it lives; the client gets its cookie.

    The cookie is dated by when the session was given its lifetime, as far as that is known, so that
    the first use touches it when a tenth of that has passed: else an active user would be signed
    out by what was left. Not due, it is dated by now, since answers may overtake each other.
    """
    manager = state.manager
    key = store_key(claim.session_id, manager.settings.namespace)
    entry = yield Load(key)
    found = state.look(key, entry)
    if not isinstance(found, Record):
        state.meet(key, found)
        return False
    assert entry is not None
    idle, now = manager.idle_timeout(found), manager.clock()
    dated = max(claim.expires, entry.expires or 0) - idle
    if now - dated < idle * TOUCH_AFTER:
        dated = now
    version = entry.version if claim.versioned else 0
    state.adopt(Cookie(claim.session_id, version, int(dated)), key, entry, found)
    state.was_found, state.reply = True, state.cookie
    return True


# --- a claim, as it is stored ---------------------------------------------------------------------


def _sealed(claim: Claim, value: str) -> bytes:
    """Return the bytes that a store keeps; who reads them without the old cookie learns no ID."""
    veiled = _veil(base64_decode(claim.session_id), value)
    return FORMAT + pack([_MARK, veiled, claim.versioned, claim.expires])


def _opened(entry: Entry | None, foreign: Foreign) -> Claim | None:
    if entry is None:
        return None
    read_format(entry.data)
    try:
        _, veiled, versioned, expires = unpack(entry.data[1:])
        session_id = urlsafe_b64encode(_veil(veiled, foreign.value)).rstrip(b"=").decode()
        return Claim(session_id, bool(versioned), int(expires))
    except DAMAGE as error:
        raise CorruptRecord(f"The stored bytes are no claim: {error!r}") from error


def _veil(session_id: bytes, value: str) -> bytes:
    """Return the ID, combined with what only the holder of the old cookie can work out."""
    mask = hmac.digest(value.encode(), b"sharedsession adopt", hashlib.sha256)
    return bytes(each ^ other for each, other in zip(session_id, mask, strict=True))
