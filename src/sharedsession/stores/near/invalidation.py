"""Invalidations and heartbeats: what a store publishes, and how a server knows it still receives.

A connection that is half open, a pooler that drops subscriptions, a replica whose link is broken, a
process that was paused: all of them look like a store in which nothing happens. So a server sends
numbered heartbeats by the way that writes take, a few times within a lease. It believes what it
receives, or what a replica shows, for as long as its own heartbeats come back.

The threads here work only while a caller needs them, and while their owner exists.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial

from ..._core.runtime import threads_run
from ..base import ALL, READY, Event, NoPush, Pushing

HEARTBEATS = 4  # within a lease, or within what makes a connection be given up
IDLE = 30.0  # seconds without any use, after which the threads rest
DEAF = 3.0  # seconds without a heartbeat, after which a connection is given up
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds between two tries to listen, or two heartbeats

log = logging.getLogger("sharedsession")


class Worker:
    """A thread for as long as it is needed; ``run`` is given a weak reference to this."""

    def __init__(self, name: str, run: Callable[[weakref.ref[Worker]], None]) -> None:
        self._name, self._run = name, run
        self._needed_at = -math.inf
        self._runs = False
        self._lock = threading.Lock()

    def need(self, now: float) -> None:
        """Work from now on, for a while."""
        self._needed_at = now
        if not self._runs:
            self._start()

    def may_rest(self) -> bool:
        """Say whether no caller needs it any more; the thread then ends."""
        with self._lock:
            if time.monotonic() - self._needed_at >= IDLE:
                self._runs = False
            return not self._runs

    def _start(self) -> None:
        with self._lock:
            if self._runs or not threads_run():
                return
            arguments = (weakref.ref(self),)
            thread = threading.Thread(
                target=self._run, args=arguments, name=f"sharedsession-{self._name}", daemon=True
            )
            self._runs = True
            try:
                thread.start()
            except RuntimeError as error:  # too many, or the interpreter is about to end
                self._runs = False
                log.debug("no thread for the %s: %s", self._name, error)


class HeartbeatSender(Worker):
    """Sends numbered heartbeats; who meets number n has all that was stored before ``sent(n)``."""

    def __init__(self, lease: float) -> None:
        super().__init__("heartbeat", _heartbeat)
        self.listener = secrets.token_hex(8)
        self.every = max(min(lease, DEAF) / HEARTBEATS, SHORTEST_PAUSE)
        self.send: Callable[[int], None] | None = None
        self.trouble = ""  # why the latest heartbeat could not be sent
        self._number = 0
        self._sent: dict[int, float] = {}

    def sent(self, number: int) -> float:
        """Return when a heartbeat was sent, on the monotonic clock; -inf when that is long ago."""
        return self._sent.get(number, -math.inf)

    def next(self) -> int:
        """Note that the next heartbeat is sent now, and return its number."""
        self._number += 1
        self._sent[self._number] = time.monotonic()
        self._sent.pop(self._number - 100, None)
        return self._number


def _heartbeat(reference: weakref.ref[Worker]) -> None:
    while True:
        sender = reference()
        if not isinstance(sender, HeartbeatSender) or sender.may_rest():
            return
        send, every = sender.send, sender.every
        number = sender.next()
        del sender
        trouble = ""
        try:
            if send is not None:
                send(number)
        except Exception as error:  # noqa: BLE001 - it shows when the heartbeat does not come back
            trouble = str(error) or type(error).__name__
        del send
        sender = reference()
        if isinstance(sender, HeartbeatSender):
            sender.trouble = trouble
        del sender
        time.sleep(every)


class InvalidationListener(Worker):
    """Listens to a store; says whether everything that happened to it has been heard."""

    def __init__(
        self,
        store: Pushing | None,
        lease: float,
        tell: Callable[[Event], None],
    ) -> None:
        super().__init__("listener", _listen)
        self.store, self.sender = store, HeartbeatSender(lease)
        self._lease = lease
        self._tell = tell
        self._since = math.inf  # since when everything is told, monotonic
        self._heard = -math.inf  # when the latest heartbeat that came back was sent
        self._warned: set[str] = set()

    def need(self, now: float) -> None:
        if self.store is not None:
            super().need(now)
            self.sender.need(now)

    def covers(self, as_of: float, now: float) -> bool:
        """Say whether all that happened since then, but for less than a lease, has been heard."""
        return as_of >= self._since and now - self._heard < self._lease

    def known(self, as_of: float) -> float:
        """Return until when it is known that nothing happened, to what was so then."""
        return max(as_of, self._heard) if as_of >= self._since else as_of

    def receive(self, event: Event) -> None:
        """Take in what the store says; raise when it does not say what it should."""
        now = time.monotonic()
        if event is READY:
            self._since, self._heard = now, -math.inf
        elif event.heartbeat is not None:
            self._heard = max(self._heard, self.sender.sent(event.heartbeat))
        elif event is ALL or event.key is not None:
            self._tell(event)
        if now - max(self._since, self._heard) > DEAF:
            if self.sender.trouble:
                raise NoPush(f"no heartbeat can be sent to listen for ({self.sender.trouble})")
            raise NoPush(
                "no heartbeat has come back: something between drops subscriptions (a pooler in "
                "front of PostgreSQL, for example), or writes go elsewhere"
            )

    def report(self, error: Exception) -> None:
        """Say, once, that copies live for the short lease only.

        A connection that has worked until now will most often work again in a moment.
        """
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if time.monotonic() - self._heard < self._lease:
            log.info("The session store hung up on its listener: %s", reason)
            return
        level = logging.DEBUG if reason in self._warned else logging.WARNING
        self._warned.add(reason)
        log.log(
            level,
            "The session store publishes no invalidations, so copies are used for %g s only: %s",
            self._lease,
            reason,
        )


def _listen(reference: weakref.ref[Worker]) -> None:
    pause = SHORTEST_PAUSE
    while True:
        invalidations = reference()
        if (
            not isinstance(invalidations, InvalidationListener)
            or invalidations.store is None
            or invalidations.may_rest()
        ):
            return
        listen, begun = (
            partial(invalidations.store.listen, invalidations.sender.listener),
            time.monotonic(),
        )
        del invalidations
        try:
            with contextlib.closing(listen()) as events:  # type: ignore[type-var]  # a generator
                del listen
                for event in events:
                    invalidations = reference()
                    if (
                        not isinstance(invalidations, InvalidationListener)
                        or invalidations.may_rest()
                    ):
                        return
                    invalidations.receive(event)
                    del invalidations
        except Exception as error:  # noqa: BLE001 - of a client library, or of what is between
            invalidations = reference()
            if isinstance(invalidations, InvalidationListener):
                invalidations.report(error)
            del invalidations
        held = time.monotonic() - begun > 2 * DEAF
        pause = SHORTEST_PAUSE if held else min(pause * 2, LONGEST_PAUSE)
        time.sleep(pause)
