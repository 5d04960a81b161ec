"""The verbs: which command each is, and what its answer means; for the sync and the async store.

A flow yields a `Request`, and is sent its answer.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from typing import cast

from redis.exceptions import OutOfMemoryError

from ...exceptions import StoreFull, StoreUnavailable
from .._support.head import head_of, read_head
from .._support.verbs import Flow, Flows, outage, outcome
from ..base import Entry
from .invalidation import heartbeats_of
from .rights import Rights, advice
from .scripts import ERASE, ERASE_CONFIRMED, LOOK, SHAS, SWAP
from .server_settings import Look
from .servers import Command, Request, Wait
from .url import replicas

HEARTBEAT_TTL = 10  # seconds
FULL = re.compile(r"(?:^|-)OOM command not allowed")
WAIT_SHARE = 5  # replicas may take this fraction of the timeout, twice: with a script that is new


class Verbs(Flows):
    """What the sync and the async store share: commands, and what their answers mean."""

    _prefix: str
    _wait: Wait | None
    _place: str

    def __init__(
        self,
        place: str,
        prefix: str,
        wait_replicas: int,
        timeout: float = 1.0,
        *,
        spreads: bool,
    ) -> None:
        self.spreads = spreads  # over several servers: keys are not loaded together
        count = replicas(wait_replicas)
        self._wait = Wait(count, int(timeout * 1000 / WAIT_SHARE)) if count else None
        self._prefix = prefix
        self._place = place
        self._rights = Rights()
        self._look = Look()

    def _entry(self, value: object) -> Entry | None:
        if not isinstance(value, bytes):
            return None
        version, tokens, data = read_head(value)
        return Entry(value[data:], version, None, tokens)

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        key = self._prefix + key
        return self._entry((yield Request(key, ("GET", key))))

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        expected, condition = (b"", "NX") if old is None else (old.token, "XX")
        written = self._after(old, data, at_least)
        value = head_of(written.version, written.token) + data
        key = self._prefix + key
        command: Command = ("EVALSHA", SHAS[SWAP], 1, key, expected, value, ttl, condition)
        request = Request(key, command, self._wait)
        answer = yield request
        if answer in (1, 2):  # done, or found to be done before
            return written if answer == 1 else dataclasses.replace(written, repeated=True)
        kept = cast(bytes, answer)
        return outcome(written, kept, old, self._place, repeated=request.is_repeated)

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        key = self._prefix + key
        return bool((yield Request(key, ("EXPIRE", key, ttl))))

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        key = self._prefix + key
        if entry is None and self._wait is None:
            yield Request(key, ("UNLINK", key))
            return True
        script = ERASE if self._wait is None else ERASE_CONFIRMED
        expected = () if entry is None else (entry.token,)
        command = ("EVALSHA", SHAS[script], 1, key, *expected)
        answer = yield Request(key, command, self._wait)
        return entry is None or answer == 1

    def _load_all(self, keys: Sequence[str]) -> Flow[list[Entry | None]]:
        """What `base.Replicated` wants; in a cluster of one key after the other."""
        names, now, found = [self._prefix + key for key in keys], time.time(), []
        for group in [[name] for name in names] if self.spreads else [names]:
            command: Command = ("EVALSHA", SHAS[LOOK], len(group), *group)
            for value, left in (yield Request(group[0], command)):
                entry = self._entry(value)
                if entry is not None and left >= 0:
                    entry = dataclasses.replace(entry, expires=now + left / 1000)
                found.append(entry)
        return found

    def _heartbeat(self, listener: str, number: int) -> Flow[None]:
        key = f"{heartbeats_of(self._prefix)}{listener}:{number}"
        yield Request(key, ("SET", key, b"", "EX", HEARTBEAT_TTL))

    def _failure(self, error: Exception, request: Request) -> StoreUnavailable:
        """Return what an error means: a server that is full did not write, unless it had before."""
        # An "unknown command" goes on to quote the arguments, among them the session's data.
        reason = str(error).split(", with args", 1)[0] or "no answer in time"
        full = isinstance(error, OutOfMemoryError) or FULL.search(reason)
        if full and not request.is_repeated:
            return StoreFull(f"The session store ({self._place}) is full: {reason}")
        return outage(self._place, reason + advice(reason, self._prefix))
