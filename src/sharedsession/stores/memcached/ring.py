"""Which Memcached server keeps a session, and which copies of sessions still count.

A key belongs to the server whose name, hashed together with the key, is highest (rendezvous
hashing): the order of the names does not matter, and a server more or less moves its share of the
keys and no others.

A key that moves leaves its copy behind. When the list is changed back, that copy is found again,
and the session may have ended meanwhile, where nobody looked at this copy. So every server keeps
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
    """The lists that were in use, oldest first, by the epochs in which they were."""

    def __init__(self, lists: Sequence[tuple[str, Sequence[str]]]) -> None:
        kept = lists[-LISTS_KEPT:]
        self._rings = {bytes.fromhex(epoch): Ring(names) for epoch, names in kept}
        self.epoch = next(reversed(self._rings))
        self.names = self._rings[self.epoch].names
        self.text = json.dumps(
            [(epoch.hex(), ring.names) for epoch, ring in self._rings.items()],
            separators=(",", ":"),
        ).encode()

    @classmethod
    def read(cls, text: bytes) -> History | None:
        """Return what a server keeps; None when it cannot be read."""
        try:
            history = cls(json.loads(text))
        except (ValueError, TypeError, StopIteration):
            return None
        return history if history.text == text else None

    def counts(self, epoch: bytes, key: str, name: str) -> bool:
        """Say whether a record of that epoch, found on that server, is no copy left behind."""
        if epoch == self.epoch:
            return True
        since = list(dropwhile(lambda each: each != epoch, self._rings))
        return bool(since) and all(self._rings[each].home(key) == name for each in since)

    def _continues(self, others: Iterable[History | None]) -> bool:
        return all(other is not None and other.epoch in self._rings for other in others)


def agreed(texts: Iterable[bytes], names: Sequence[str], known: History | None = None) -> History:
    """Return the history that follows from those found on the servers of a list.

    It is the one that goes on from all others, with the list added if it was not the last one. When
    there is none, a new one begins, and nothing that is stored counts any more. What this process
    has ``known`` matters only where it goes on from all that was found.
    """
    evidence = sorted(set(texts))
    found = [History.read(text) for text in evidence]
    bases = [each for each in (*found, known) if each is not None and each._continues(found)]
    base = bases[-1] if bases else None
    if base is not None and base.names == tuple(names):
        return base
    seed = b"\0".join(evidence) or secrets.token_bytes(EPOCH_BYTES)
    epoch = blake2b(seed + json.dumps(names).encode(), digest_size=EPOCH_BYTES).hexdigest()
    earlier = [] if base is None else json.loads(base.text)
    return History([*earlier, (epoch, names)])
