"""What a store tells of its own accord, and beats: how a server knows that it still hears.

A connection that is half open, a pooler that drops subscriptions, a replica whose link is broken, a
process that was paused: all of them look like a store in which nothing happens. So a server sends
numbered beats by the way that writes take, a few times within a lease, and believes what it hears,
or what a replica shows, for as long as its own beats come back.

The threads here work only while somebody needs them, and while their owner is there.
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

from ..concurrency import threads_run
from .base import ALL, READY, Event, NoPush, Pushing

BEATS = 4  # within a lease, or within what makes a connection be given up
IDLE = 30.0  # seconds without any use, after which the threads rest
DEAF = 3.0  # seconds without a beat, after which a connection is given up
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds between two tries to listen, or two beats

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
        """Say whether nobody needs it any more; the thread then ends."""
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


class Pulse(Worker):
    """Sends numbered beats; whoever meets beat n has all that was stored before ``sent(n)``."""

    def __init__(self, lease: float) -> None:
        super().__init__("pulse", _beat)
        self.listener = secrets.token_hex(8)
        self.every = max(min(lease, DEAF) / BEATS, SHORTEST_PAUSE)
        self.send: Callable[[int], None] | None = None
        self.trouble = ""  # why the latest beat could not be sent
        self._number = 0
        self._sent: dict[int, float] = {}

    def sent(self, number: int) -> float:
        """Return when a beat was sent, on the monotonic clock; -inf when that is long ago."""
        return self._sent.get(number, -math.inf)

    def next(self) -> int:
        """Note that the next beat is sent now, and return its number."""
        self._number += 1
        self._sent[self._number] = time.monotonic()
        self._sent.pop(self._number - 100, None)
        return self._number


def _beat(reference: weakref.ref[Worker]) -> None:
    while True:
        pulse = reference()
        if not isinstance(pulse, Pulse) or pulse.may_rest():
            return
        send, every = pulse.send, pulse.every
        number = pulse.next()
        del pulse
        trouble = ""
        try:
            if send is not None:
                send(number)
        except Exception as error:  # noqa: BLE001 - it shows when the beat does not come back
            trouble = str(error) or type(error).__name__
        del send
        pulse = reference()
        if isinstance(pulse, Pulse):
            pulse.trouble = trouble
        del pulse
        time.sleep(every)


class Hearing(Worker):
    """Listens to a store; says whether everything that happened to it has been heard."""

    def __init__(
        self,
        store: Pushing | None,
        lease: float,
        tell: Callable[[Event], None],
    ) -> None:
        super().__init__("listener", _listen)
        self.store, self.pulse = store, Pulse(lease)
        self._lease = lease
        self._tell = tell
        self._since = math.inf  # since when everything is told, monotonic
        self._heard = -math.inf  # when the latest beat that came back was sent
        self._warned: set[str] = set()

    def need(self, now: float) -> None:
        if self.store is not None:
            super().need(now)
            self.pulse.need(now)

    def covers(self, as_of: float, now: float) -> bool:
        """Say whether all that happened since then, but for less than a lease, has been heard."""
        return as_of >= self._since and now - self._heard < self._lease

    def known(self, as_of: float) -> float:
        """Return until when it is known that nothing happened, to what was so then."""
        return max(as_of, self._heard) if as_of >= self._since else as_of

    def hear(self, event: Event) -> None:
        """Take in what the store says; raise when it does not say what it should."""
        now = time.monotonic()
        if event is READY:
            self._since, self._heard = now, -math.inf
        elif event.beat is not None:
            self._heard = max(self._heard, self.pulse.sent(event.beat))
        elif event is ALL or event.key is not None:
            self._tell(event)
        if now - max(self._since, self._heard) > DEAF:
            if self.pulse.trouble:
                raise NoPush(f"no beat can be sent to listen for ({self.pulse.trouble})")
            raise NoPush(
                "no beat has come back: something between drops subscriptions (a pooler in front "
                "of PostgreSQL, for example), or writes go elsewhere"
            )

    def lament(self, error: Exception) -> None:
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
            "The session store does not tell of its writes, so copies are used for %g s only: %s",
            self._lease,
            reason,
        )


def _listen(reference: weakref.ref[Worker]) -> None:
    pause = SHORTEST_PAUSE
    while True:
        hearing = reference()
        if not isinstance(hearing, Hearing) or hearing.store is None or hearing.may_rest():
            return
        listen, begun = partial(hearing.store.listen, hearing.pulse.listener), time.monotonic()
        del hearing
        try:
            with contextlib.closing(listen()) as events:  # type: ignore[type-var]  # a generator
                del listen
                for event in events:
                    hearing = reference()
                    if not isinstance(hearing, Hearing) or hearing.may_rest():
                        return
                    hearing.hear(event)
                    del hearing
        except Exception as error:  # noqa: BLE001 - of a client library, or of what is between
            hearing = reference()
            if isinstance(hearing, Hearing):
                hearing.lament(error)
            del hearing
        held = time.monotonic() - begun > 2 * DEAF
        pause = SHORTEST_PAUSE if held else min(pause * 2, LONGEST_PAUSE)
        time.sleep(pause)
