"""What a source is: the live sessions of another package, read without importing that package.

A source recognises a cookie of the old package, reads the session that the cookie stands for, and
ends it. It decides nothing: when a session is adopted, and that it is so only once, is the core's.

* The *verified value* is what stands for one old session: the session ID where the old package
  keeps records, else the cookie's whole text, the signature included. Two texts never stand for
  one session: signatures are compared as text, and IDs as they are stored.
* Nothing is ever unpickled. What comes from a client or a store is checked; whatever is wrong with
  it is `NotAdoptable`, and no other exception.
* Calls may wait, each for about ``timeout`` seconds at most; they may come from several threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from ..exceptions import SessionError


class Found(NamedTuple):
    """An old session, as the old package gave it to the application. Times are epoch seconds.

    ``data`` has the types that the application saw, without the old package's own bookkeeping;
    ``expires`` is when the old session would have ended, which may be later than the source's
    ``lifetime`` from now; ``created`` is None where the source does not know.
    """

    data: dict[Any, Any]  # keys and values are whatever the application put in
    expires: float
    created: float | None = None


class NotAdoptable(SessionError):
    """An old session that cannot come over; neither ``reason`` nor message has a value or an ID.

    ``reason`` is a word or two, to be counted: "pickle", "damaged", "signature", "unknown types",
    "too large".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source(ABC):
    """The live sessions of another package."""

    kind: ClassVar[str]
    """The source's name, which is a part of stored keys: it never changes."""
    cookie: str | None
    """The name of the old cookie; None: the same as that of sharedsession."""
    path: str
    domain: str | None
    """Path and domain of the old cookie, with which it is removed."""
    lifetime: int
    """Seconds for which a server may accept an old value, at most, from now on."""
    has_records: bool
    """Whether the old package keeps records; else its cookie holds the data."""

    @abstractmethod
    def recognise(self, text: str, keys: Sequence[bytes]) -> str | None:
        """Return the verified value of a cookie's ``text``, or None for what is not of this kind.

        ``keys`` are sharedsession's own, newest first, which count unless the source has its own.
        Whether a record is there, and whether a value has expired, is not looked at.
        """

    @abstractmethod
    def read(self, value: str, keys: Sequence[bytes], now: float) -> Found | None:
        """Return the session of a verified value; None when it is absent or has expired.

        Raises:
            NotAdoptable: it is there, and cannot be taken over.
            StoreUnavailable: the old store did not answer.
        """

    @abstractmethod
    def delete(self, value: str) -> None:
        """End the old record; absent is fine, and so is a cookie that holds the data.

        Raises:
            StoreUnavailable: the old store did not answer: the record may still be there.
        """

    @abstractmethod
    def values(self) -> Iterator[str]:
        """Yield the verified values of all records that are there, some perhaps twice.

        Raises:
            TypeError: the source has no records, or a store that cannot list them.
            StoreUnavailable: the old store did not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections to the old store that were made here."""
