"""Which Memcached server keeps a session, and which copies of sessions still count.

A key belongs to the server whose name, hashed together with the key, is highest (rendezvous
hashing): the order of the names does not matter, and a server more or less moves its share of the
keys and no others.

A key that moves leaves its copy behind. When the list is changed back, that copy is found again,
and the session may have ended meanwhile, where no server looked at this copy. So every server keeps
beside the sessions the `History` of the lists that were in use, each under an epoch of its own, and
every record names the epoch in which it was written: a copy counts only if under that list and all
later ones its key belonged to the server it was found on. Epochs are chained hashes with a random
beginning, so that none ever comes back, and so that processes which meet the same histories at the
same time write the same next one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import dropwhile

EPOCH_BYTES = 8
LISTS_KEPT = 16  # records of earlier lists count no more


class Ring:
    """A list of servers, by their names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(names))
        self._begun = [(blake2b(name.encode() + b"\0", digest_size=8), name) for name in self.names]

    def home(self, key: str) -> str:
        """Return the name of the server that keeps ``key``."""
        if len(self.names) == 1:
            return self.names[0]
        encoded = key.encode()
        highest, home = b"", ""
        for begun, name in self._begun:
            hashed = begun.copy()
            hashed.update(encoded)
            score = hashed.digest()
            if score >= highest:
                highest, home = score, name
        return home


class History:
    """The lists that were in use, oldest first, by the epochs in which they were.

    ``ended`` are the marks of other histories that this one has put an end to.
    """

    def __init__(
        self, lists: Sequence[tuple[str, Sequence[str]]], ended: Sequence[str] = ()
    ) -> None:
        self._lists, self._ended = list(lists[-LISTS_KEPT:]), list(ended)
        self._rings = {bytes.fromhex(epoch): Ring(names) for epoch, names in self._lists}
        self.epoch = next(reversed(self._rings))
        self.names = self._rings[self.epoch].names
        self.text = json.dumps([self._lists, self._ended], separators=(",", ":")).encode()

    @classmethod
    def read(cls, text: bytes) -> History | None:
        """Return what a server keeps; None when it cannot be read."""
        try:
            history = cls(*json.loads(text))
        except (ValueError, TypeError, StopIteration):
            return None
        return history if history.text == text else None

    def counts(self, epoch: bytes, key: str, name: str) -> bool:
        """Say whether a record of that epoch, found on that server, is no copy left behind."""
        if epoch == self.epoch:
            return True
        since = list(dropwhile(lambda each: each != epoch, self._rings))
        return bool(since) and all(self._rings[each].home(key) == name for each in since)

    def goes_on_from(self, text: bytes) -> bool:
        """Say whether it follows from what a server keeps."""
        other = History.read(text)
        return _mark(text) in self._ended or (other is not None and other.epoch in self._rings)

    def followed_by(self, names: Sequence[str]) -> History:
        """Return this history with one more list."""
        epoch = _mark(self.text + json.dumps(names).encode())
        return History([*self._lists, (epoch, names)], self._ended)


def agreed(texts: Iterable[bytes], names: Sequence[str], known: History | None = None) -> History:
    """Return the history that follows from those found on the servers of a list.

    It is the one that goes on from all others, with the list added if it was not the last one. When
    there is none, a new one ends them all, and nothing that is stored counts any more. What this
    process has ``known`` matters only where it goes on from all that was found.
    """
    found = sorted(set(texts))
    for base in (known, *map(History.read, found)):
        if base is not None and all(base.goes_on_from(text) for text in found):
            return base if base.names == tuple(names) else base.followed_by(names)
    seed = b"\0".join(found) or secrets.token_bytes(EPOCH_BYTES)
    return History([(_mark(seed), names)], [_mark(text) for text in found])


def _mark(text: bytes) -> str:
    return blake2b(text, digest_size=EPOCH_BYTES).hexdigest()
