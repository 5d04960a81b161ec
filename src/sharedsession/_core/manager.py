"""What the requests of a middleware share: its settings and cookies, and the state of its process.

Flask has a manager for each combination of options; all of them share one `Process`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from logging import INFO, WARNING
from math import ceil

from ..stores.base import FRESHEST
from .backoff import Backoff
from .cookie import CANDIDATES, Cookie, CookieCodec, finder
from .record import LONGEST, Record
from .runtime import OwnThreads
from .settings import LARGEST_VALUE, Settings
from .source import Foreign, Source

CLOCKS_APART = 2  # seconds, with what is lost of a cookie's time by rounding it
NO_VERSION = 0  # of a cookie whose ID was made by a server without copies
TOUCHES_KNOWN = 4096  # cookies
MOST_TEXTS = 20  # of one name, that are looked at for those of another package

FOREIGN_COOKIE = (
    "The cookie %r must be this application's alone, and a client shows one that something else "
    "has set since this process started: another application on the same host name, on whatever "
    "port, a server of this one with another secret_key or namespace, or another session package, "
    "as in the middle of a rolling deployment. Each takes the other's sessions away: give this "
    "application a name of its own (session_cookie=…, in Flask SESSION_COOKIE_NAME), and its "
    "servers the same settings."
)
UNKNOWN_KEY = (
    "A client shows a cookie %r that was signed with another secret_key or namespace, before this "
    "process started. Either the key was changed, or another application on the same host name, "
    "on whatever port, uses the same name; then give this one a name of its own "
    "(session_cookie=…, in Flask SESSION_COOKIE_NAME)."
)

log = logging.getLogger("sharedsession")


class Touches:
    """Which cookies a process has renewed a moment ago.

    A page makes dozens of requests at once, each with the same old cookie. One of them touches; the
    client gets its cookie with the answer to that one. A client that shows the old one later has
    not taken it, and is given another with each request from then on.
    """

    def __init__(self) -> None:
        self._begun: OrderedDict[Cookie, float] = OrderedDict()  # without a lock, for forks

    def begin(self, cookie: Cookie, now: float, apart: float) -> bool:
        """Say whether to touch now; not, where another request has begun to less than that ago."""
        before = self._begun.get(cookie)
        if before is not None:
            return not 0 <= now - before < apart
        self._begun[cookie] = now
        if len(self._begun) > TOUCHES_KNOWN:
            with suppress(KeyError):  # another thread was quicker
                self._begun.popitem(last=False)
        return True

    def give_up(self, cookie: Cookie) -> None:
        """It did not come to its end: the next request touches."""
        self._begun.pop(cookie, None)


class Process:
    """The state of one process: clock, counters, backoff, what was logged already.

    ``lag`` is by how many seconds copies may be behind the store; zero where there are none.
    """

    def __init__(self, clock: Callable[[], float] = time.time, lag: float = 0.0) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.backoff = Backoff()
        # Of the stores that sessions are taken over from, which may hang without harm to others.
        self.old_backoff, self.old_threads = Backoff(), OwnThreads()
        self.lag = lag
        self.since = clock()
        self.told: set[tuple[str, int]] = set()  # what was logged, at which level
        self.touches = Touches()
        self.threads = OwnThreads()  # for calls of a store that may wait


class Manager:
    """What a request needs to know: the settings, the cookies they describe, and the process."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        process: Process | None = None,
    ) -> None:
        self.settings = settings
        self.codec = CookieCodec(settings)
        self.process = process or Process(clock)
        self.counts = self.process.counts
        self.identity_names = frozenset((*settings.owner_key, *settings.sign_in_names))
        name = settings.session_cookie
        self._adopts = [(each, finder(each.cookie or name)) for each in settings.adopt]

    @property
    def clock(self) -> Callable[[], float]:
        """What tells the time, in epoch seconds, to all requests of the process."""
        return self.process.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self.process.clock = clock

    def report(
        self,
        event: str,
        handle: str | None,
        level: int = logging.DEBUG,
        reason: Exception | None = None,
    ) -> None:
        """Count an event, and log it with the first 12 characters of the store key."""
        self.counts[event] += 1
        if log.isEnabledFor(level):
            why = "" if reason is None else f": {reason}"
            message = "%s: session %s%s"
            log.log(level, message, event, (handle or "-")[:12], why, extra={"event": event})

    def tell_once(self, event: str, message: str, *values: object, level: int = WARNING) -> None:
        """Log something that concerns all requests, at the first of them."""
        if self.is_first(event, level):
            log.log(level, message, *values, extra={"event": event})

    def is_first(self, event: str, level: int = WARNING) -> bool:
        """Whether this is the first time that this is asked of this event."""
        known = (event, level) in self.process.told
        self.process.told.add((event, level))
        return not known

    def read(self, headers: Sequence[str]) -> Sequence[Cookie]:
        """Return the client's cookies that verify; say, once, when something else issues them.

        One from before this process is no news where this package did not make it: the client comes
        from the sessions that were used before. Where it did, the key may have been changed.
        """
        cookies = self.codec.read(headers)
        if not (cookies or self._adopts):
            self._look_for_others(headers)
        return cookies

    def recognise(self, headers: Sequence[str]) -> Sequence[Foreign]:
        """Return the cookies of other packages that verify and whose sessions may be adopted."""
        if not self._adopts:
            return ()
        keys = self.settings.secret_keys
        found: list[Foreign] = []
        for source, find in self._adopts:
            texts = [text.rstrip(" \t") for header in headers for _, text in find(header)]
            values = (
                source.recognise(text, keys) for text in texts[:MOST_TEXTS] if not self._ours(text)
            )
            known = dict.fromkeys(each for each in values if each is not None)
            found += [Foreign(source, value) for value in islice(known, CANDIDATES)]
        return tuple(found)

    def _ours(self, text: str) -> bool:
        return len(text) <= LARGEST_VALUE and self.codec.verify(text) is not None

    def has_our_name(self, source: Source) -> bool:
        """Whether the cookie of a source is called as ours is."""
        return source.cookie in (None, self.settings.session_cookie)

    def _look_for_others(self, headers: Sequence[str]) -> None:
        name, told = self.settings.session_cookie, self.process.told
        if ("foreign-cookie", WARNING) in told:
            return
        for made, by_us in self.codec.made_elsewhere(headers):
            if made >= int(self.process.since):
                if ("cookie-conflict", WARNING) not in told:  # else it is known whose it is
                    self.tell_once("foreign-cookie", FOREIGN_COOKIE, name)
            elif by_us:
                self.tell_once("foreign-cookie", UNKNOWN_KEY, name, level=INFO)

    def timeout(self) -> float:
        """Seconds that opening or closing may take now."""
        return self.process.backoff.timeout(self.settings.store_timeout)

    def floor(self, cookie: Cookie, *, outdated: bool = False) -> int:
        """Return the version below which a copy must not answer this client.

        Answers may arrive in another order than they were given, and the older cookie last. So for
        a while after it was written no copy will do: by then they all are newer. (``outdated``: in
        an outage one does.) Nor will one ever do for a cookie without a version.
        """
        if cookie.version == NO_VERSION:
            return FRESHEST
        lag = 0.0 if outdated else self.process.lag
        fresh = lag and self.clock() - cookie.timestamp < lag + CLOCKS_APART
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
        own = record.lifetime
        if isinstance(own, datetime) and own.timestamp() <= self.clock():
            return False
        if record.absolute_end is None and self.settings.absolute_timeout is None:
            return True
        end = self.absolute_end(record)
        return end is None or end > self.clock()

    @property
    def first_version(self) -> int:
        """The version in the cookie of a new ID: whether it has one is decided here, for good."""
        return 1 if self.process.lag else NO_VERSION

    def idle_timeout(self, record: Record | None) -> int:
        """Seconds without use after which a session ends: its own, or those of the settings."""
        own = None if record is None else record.lifetime
        if isinstance(own, datetime):  # whether it is used or not
            return max(1, min(LONGEST, ceil(own.timestamp() - self.clock())))
        return own if isinstance(own, int) else self.settings.idle_timeout

    def ttl(self, record: Record) -> int:
        """Whole seconds, at least 1, until the idle or the absolute end."""
        end = self.absolute_end(record)
        idle = self.idle_timeout(record)
        return max(1, idle if end is None else min(idle, ceil(end - self.clock())))
