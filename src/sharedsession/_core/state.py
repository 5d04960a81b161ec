"""What a request knows of its session: what the client showed, what was found, what it must learn.

The flows move it; decisions are made from it; an exchange adds the request around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum, auto
from logging import ERROR
from typing import NamedTuple

from ..exceptions import CorruptRecord, SessionError, UndecodableHere, UnknownFormat
from ..stores.base import Entry
from .cookie import Cookie, new_id, store_key
from .manager import CLOCKS_APART, NO_VERSION, Manager
from .record import Data, Record, Tombstone, decode_data, decode_record
from .source import Foreign, Source
from .work import Work

QUIET = 10.0  # seconds after an end in which a request with the old cookie stores nothing
TOUCH_AFTER = 0.1  # share of the idle timeout between two touches


class Progress(IntEnum):
    """How far the response is."""

    OPEN = 0
    ANSWERED = 1  # its headers have left, or there is none
    GIVEN_UP = 2  # the same, by an answer that confirms nothing: what comes is not stored
    OVER = 3  # so is the request


class Trust(Enum):
    """Whether what is known of the session can be relied on."""

    SOUND = auto()
    LOAD_FAILED = auto()  # the store did not answer when it was loaded
    FAILED = auto()  # a function raised when it ran again: what the request has said may be untrue
    IN_DOUBT = auto()  # the outcome of a write is not known


class Pending(NamedTuple):
    """A new session that is being stored, in the place of another one or not."""

    cookie: Cookie
    renews: bool


class State(Work):
    """A session during one request.

    ``reply`` is the cookie to hand out; ``removed`` says that it is to be removed instead. While
    the state is not to be trusted, ``error`` is what every commit raises.
    """

    # Class-level defaults: most requests change few of them.
    cookie: Cookie | None = None  # of the session at hand
    key: str | None = None
    entry: Entry | None = None  # None: there is no live session at hand
    record: Record | None = None
    found: Data | None = None  # the data of the record that was looked at last
    was_found = False
    progress = Progress.OPEN
    opened = False
    ended = False  # it ended meanwhile, or a moment ago: only a sign-in stores anything
    tombstones: Sequence[str] = ()  # keys at which tombstones were met
    outdated = False  # opened from a copy, because the store did not answer
    wrote = False  # new data under the ID that the client has
    busy = False  # a flow runs that writes
    began = 0.0  # when the last one began: what it wrote has its lifetime from then on, at least
    trust = Trust.SOUND
    error: Exception | None = None
    met_outage = False  # the application was told of one
    in_doubt: str | None = None  # the key of the write whose outcome is not known
    pending: Pending | None = None  # a new session that is not known to stand yet
    planned: str | None = None  # the ID of the next new session, whose key was asked for already
    # Sessions that are to be ended, ours by their keys and each with those that it was renewed to;
    # what could not be ended in one commit is left for the next.
    to_end: Sequence[str | Foreign] = ()
    reply: Cookie | None = None
    removed = False

    manager: Manager
    cookies: Sequence[Cookie]
    foreign: Sequence[Foreign] = ()  # of other packages, whose sessions are to be taken over
    replaced: Sequence[Source] = ()  # of those, the ones whose cookies are worth nothing any more

    # --- facts, for the session ---

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

    # --- what the flows ask of it ---

    @property
    def is_used(self) -> bool:
        """Whether the application used its session, or reached for it as frameworks count that."""
        return self.used or self.session.accessed

    @property
    def is_distrusted(self) -> bool:
        """Whether each commit raises `error`, until `reload` has found out."""
        return self.error is not None and self.trust is not Trust.LOAD_FAILED

    @property
    def floor(self) -> int:
        """The version that this client has seen."""
        return 0 if self.cookie is None else self.cookie.version

    def key_of(self, cookie: Cookie) -> str:
        return store_key(cookie.id, self.manager.settings.namespace)

    def plan(self) -> str:
        """Choose the ID of the next new session now; return the key that it will have."""
        self.planned = self.planned or new_id()
        return store_key(self.planned, self.manager.settings.namespace)

    def adopt(self, cookie: Cookie, key: str, entry: Entry, record: Record) -> None:
        """From now on this is the session at hand."""
        self.cookie, self.key, self.entry, self.record = cookie, key, entry, record
        self.ended, self.tombstones = False, ()

    def lose(self, found: object = None) -> None:
        """There is no live session any more; ``found`` is what stands in its place."""
        self.entry = self.record = self.reply = None
        self.ended = True
        self.tombstones = [self.key] if isinstance(found, Tombstone) and self.key else ()

    def meet(self, key: str, found: Tombstone | None) -> None:
        """Note that a session that the client shows has ended, or was never there."""
        self.manager.report("ended" if isinstance(found, Tombstone) else "unknown", key)
        if isinstance(found, Tombstone):
            self.tombstones = [*self.tombstones, key]
            # On its way when the session ended: a session of its own would displace, in the
            # browser, that of a user who has just signed in. A tombstone that was set by a clock
            # ahead of this one was set just now.
            self.ended |= self.manager.clock() - found.marked_at < QUIET

    def doubt(self, error: Exception, key: str) -> None:
        """The outcome of a write under this key is not known."""
        self.trust, self.error, self.in_doubt = Trust.IN_DOUBT, error, key

    def fail(self, error: Exception) -> None:
        """What this request has said may be untrue: nothing of it is written any more."""
        if self.in_doubt is None:  # else there is a write of which reload() has to find out first
            self.trust, self.error = Trust.FAILED, error

    def trust_again(self) -> None:
        self.trust, self.error, self.in_doubt = Trust.SOUND, None, None

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
        self.cookie = self.reply = Cookie(self.cookie.id, version, seconds)
        self.removed = False

    @property
    def is_newer(self) -> bool:
        """Whether the session has another version than the client has seen, and it counts them."""
        assert self.cookie is not None
        assert self.entry is not None
        return self.cookie.version not in (NO_VERSION, self.entry.version)

    def is_due(self) -> bool:
        """Whether the client's cookie is to have a new time: old enough, or of another clock."""
        assert self.cookie is not None
        age = self.manager.clock() - self.cookie.timestamp
        return age < -CLOCKS_APART or age >= self.manager.idle_timeout(self.record) * TOUCH_AFTER

    def inform(self, *, repeat: bool = False) -> None:
        """Hand out the cookie after a write, where the client has something to learn from it."""
        assert self.cookie is not None
        if repeat or self.cookie.version or self.is_due():
            self.issue(self.began)

    def remember(self, entry: Entry, record: Record | Tombstone) -> None:
        """This is what an entry says: a request that is given the same one need not decode it."""
        object.__setattr__(entry, "decoded", record)

    def look(self, key: str, entry: Entry | None) -> Record | Tombstone | None:
        """Say what an entry is: a live record, a tombstone, or nothing that counts.

        Raises:
            UnknownFormat: a newer version wrote it, which is an outage, never an absence.
        """
        if entry is None:
            return None
        try:
            record = entry.decoded
            if record is None:
                record, self.found = decode_record(entry.data)
                self.remember(entry, record)
            elif isinstance(record, Record):
                self.found = decode_data(record.data)  # a request changes what it is given
        except UndecodableHere as error:
            self.manager.report("undecodable-here", key, ERROR, error)
            raise
        except UnknownFormat:
            self.manager.report("unknown-format", key, ERROR)
            raise
        except CorruptRecord:
            # Left where it is until it expires: it may still tell an operator what happened.
            self.manager.report("damaged", key, ERROR)
            return None
        if isinstance(record, Record):
            return record if self.manager.alive(record) else None
        assert isinstance(record, Tombstone)
        return record
