"""The steps of each verb, for the sync and the async store.

A `Step` is answered by what its command says, or, when the server does not answer, by
`StoreUnavailable`, thrown in; by `StoreFull`, when the server had no room for what it was to store.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..._core.backoff import Backoff
from ...exceptions import ConfigurationError, StoreFull, StoreUnavailable, TooLarge
from .._support.head import head_of, read_head
from .._support.verbs import Flow, Flows, outage, outcome
from ..base import Entry
from .ring import EPOCH_BYTES, History, Ring, agreed

Items = dict[str, tuple[bytes, int]]  # by key: value and cas id

HISTORY = "servers!"  # the item that holds the history; no key comes out like this
LONGEST_KEY = 250
ITEM_OVERHEAD = 60  # bytes that the server needs for an item besides its key and its value
RELATIVE = 30 * 24 * 60 * 60  # seconds; a larger number would be taken for a point in time
LAST_MOMENT = 2**31 - 1  # the latest point in time that servers take
ROUNDS = 5  # in which processes that look at the servers at the same time come to agree
TOO_LARGE = "object too large"
FULL = re.compile("out of memory (storing|during read)", re.IGNORECASE)

log = logging.getLogger("sharedsession")


class Step:
    """A command for a server; ``is_repeated``: it was sent before, and its answer was lost."""

    __slots__ = ("arguments", "command", "is_repeated", "server")

    def __init__(self, server: str, command: str, *arguments: Any) -> None:  # Any: they differ
        self.server, self.command, self.arguments = server, command, arguments
        self.is_repeated = False

    def repeat(self) -> None:
        """Note that it is sent once more."""
        self.is_repeated = True


class Verbs(Flows):
    """What the sync and the async store share: the steps of each verb."""

    def __init__(self, names: Sequence[str], prefix: str) -> None:
        if not prefix.isascii() or not prefix.isprintable() or " " in prefix or len(prefix) > 100:
            raise ConfigurationError(
                "The prefix of a Memcached store is at most 100 letters, digits and signs."
            )
        if not names:
            raise ConfigurationError("A Memcached store needs the name of a server, or a client.")
        if len(set(names)) < len(names):
            raise ConfigurationError("A Memcached server is named twice.")
        self._ring = Ring(names)
        self._prefix = prefix
        self._history: History | None = None
        self._backoff = {name: Backoff() for name in names}

    def _failed(self, step: Step, error: Exception, reason: str) -> StoreUnavailable:
        """Return what a failure means: a server without room did not write, unless it had before.

        One that fails at once costs no time; one that hangs has less of it at the next call, beside
        others that answer.
        """
        self._backoff[step.server].failed(math.inf if isinstance(error, TimeoutError) else 0)
        found = outage(f"Memcached at {step.server}", reason)
        if FULL.search(reason) and not step.is_repeated:
            found = StoreFull(f"The session store (Memcached at {step.server}) is full: {reason}")
        found.__cause__ = error
        return found

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        found, _ = yield from self._look(key)
        return found

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        if self._history is None:
            yield from self._agree()
        found, cas, lost = old, None if old is None else old.cas, False
        if old is not None and cas is None:  # as it was written, or of another kind of store
            found, cas = yield from self._look(key)
        written = self._after(old, data, at_least)
        for _ in range(2):
            # Where there is no entry, a copy left behind may be there all the same.
            if (found is None) != (old is None) or (found and old and found.token != old.token):
                break
            stored, repeated = yield from self._store(key, written, ttl, cas)
            if stored:
                return written
            lost = lost or repeated
            found, cas = yield from self._look(key)
        if found is None:
            return None
        place = f"Memcached at {self._ring.home(key)}"
        return outcome(written, found.token, old, place, repeated=lost)

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        found, _ = yield from self._look(key)
        if found is None:
            return False
        answer: bool = yield Step(self._ring.home(key), "touch", self._name(key), _expiry(ttl))
        return answer

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        home, name = self._ring.home(key), self._name(key)
        if entry is None:
            yield Step(home, "delete", name)
            return True
        found, cas = yield from self._look(key)
        if found is None or found.token != entry.token:
            return False
        answer: bool = yield Step(home, "delete", name, cas)
        return answer

    def _stats(self, server: str) -> Flow[Any]:
        return (yield Step(server, "stats"))

    def _look(self, key: str) -> Flow[tuple[Entry | None, int | None]]:
        """Return the entry and its cas id: without an entry, that of a copy that does not count."""
        home, name, history = self._ring.home(key), self._name(key), self._prefix + HISTORY
        for _ in range(ROUNDS):
            found: Items = yield Step(home, "gets", (history, name))
            text, _ = found.get(history, (b"", 0))
            if self._history is not None and text == self._history.text:
                value, cas = found.get(name, (None, None))
                return self._entry(key, value, cas), cas
            yield from self._agree()
        raise _disagree()

    def _entry(self, key: str, value: bytes | None, cas: int | None) -> Entry | None:
        if value is None or self._history is None:
            return None
        version, tokens, end = read_head(value)
        data = end + EPOCH_BYTES
        if not end or len(value) < data:
            return Entry(value, 0, None, b"", cas=cas)
        if not self._history.counts(value[end:data], key, self._ring.home(key)):
            return None
        return Entry(value[data:], version, None, tokens, cas=cas)

    def _store(self, key: str, entry: Entry, ttl: int, cas: int | None) -> Flow[tuple[bool, bool]]:
        """Store an entry in the place of the item that has the cas id, or where there is none.

        Return whether that was done, and whether the command was repeated.
        """
        assert self._history is not None
        home, name = self._ring.home(key), self._name(key)
        value = head_of(entry.version, entry.token) + self._history.epoch + entry.data
        command, given = ("add", ()) if cas is None else ("cas", (cas,))
        step = Step(home, command, name, value, _expiry(ttl), *given)
        answer = yield step
        if answer is not TOO_LARGE:
            return bool(answer), step.is_repeated
        size, limit = len(value) + len(name) + ITEM_OVERHEAD, (yield Step(home, "limit"))
        raise TooLarge(
            f"The session takes {size} bytes, and the Memcached server at {home} keeps at most "
            f"{limit} under one key: keep less in the session, or start the servers with a larger "
            "limit (memcached -I 4m).",
            size,
            limit,
        )

    def _agree(self) -> Flow[None]:
        """Bring all servers that answer to the same history, with this list as its last one."""
        names, name = self._ring.names, self._prefix + HISTORY
        for _ in range(ROUNDS):
            found: dict[str, Items] = yield from self._everywhere(
                {each: Step(each, "gets", (name,)) for each in names}
            )
            texts = [items[name][0] for items in found.values() if name in items]
            history = agreed(texts, names, self._history)
            steps = {
                each: Step(each, "cas", name, history.text, 0, items[name][1])
                if name in items
                else Step(each, "add", name, history.text, 0)
                for each, items in found.items()
                if name not in items or items[name][0] != history.text
            }
            if not steps:
                self._history = history
                return
            if texts and history.text not in texts:
                log.warning(
                    "The list of Memcached servers has changed: sessions whose server is another "
                    "one by now are lost. If this is said again and again, not all applications "
                    "that share a server have the same list; give each list a prefix of its own."
                )
            yield from self._everywhere(steps)
        raise _disagree()

    def _everywhere(self, steps: dict[str, Step]) -> Flow[dict[str, Any]]:
        """Return the answers of the servers that answer; an outage, if none does.

        A write that comes too late is the last one: processes that begin at the same time would
        each leave theirs on some of the servers.
        """
        answers, failure = {}, None
        for each, step in steps.items():
            try:
                answers[each] = yield step
            except StoreUnavailable as error:
                failure = error
            if answers.get(each) is False:
                break
        if failure is not None and not answers:
            raise failure
        return answers

    def _name(self, key: str) -> str:
        # Ours stay as they are, URL-safe base64; servers take no spaces, and nothing but ASCII.
        name = self._prefix + quote(key, safe="")
        if len(name) > LONGEST_KEY:
            raise ValueError(f"A key in Memcached has at most {LONGEST_KEY} characters.")
        return name


def _expiry(ttl: int) -> int:
    """Return a lifetime as servers want it: 0 would be for ever, a large one a point in time."""
    seconds = max(1, ttl)
    return seconds if seconds <= RELATIVE else min(int(time.time()) + seconds, LAST_MOMENT)


def _disagree() -> StoreUnavailable:
    return StoreUnavailable(
        "The session store (Memcached) failed: processes with different lists of servers are at "
        "work at the same time."
    )
