"""What can go wrong, one small tree. Every message is a sentence for the person who must act."""

__all__ = [
    "ConfigurationError",
    "CorruptRecord",
    "DataMismatch",
    "LateChange",
    "NotSerializable",
    "SessionError",
    "SessionGone",
    "StoreFull",
    "StoreUnavailable",
    "TooLarge",
    "UndecodableHere",
    "UnknownFormat",
]

RETRY_AFTER = 2  # seconds that a client is asked to wait while the store is down
UNAVAILABLE = "The session store does not answer. Please try again in a moment."
NOT_STORED = "What this request did could not be stored. Please try again."


class SessionError(Exception):
    """The root of everything this package raises on purpose."""


class ConfigurationError(SessionError, ValueError):
    """A setting is missing, wrong, or contradicts another one."""


class StoreUnavailable(SessionError):
    """The store did not answer in time, or not at all; after a write the outcome is unknown.

    An adapter turns it into ``503 Service Unavailable`` with ``Retry-After``. Under Flask it is
    werkzeug's ``ServiceUnavailable`` as well, under Starlette its ``HTTPException``. What visitors
    see says nothing of the store: the message is for the log.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.args[0]!r})"


class StoreFull(StoreUnavailable):
    """The store has no room and refused a write: nothing was written.

    For a visitor it is an outage like any other; ending a session needs no room, though.
    """


class UnknownFormat(StoreUnavailable):
    """A record was written by a newer version of this package: an outage for this one session.

    In a rolling deployment the other half of the servers reads it without trouble, so it must
    neither be replaced by an empty session nor be overwritten.
    """


class UndecodableHere(UnknownFormat):
    """This server cannot decode a record now: an outage for this one session, as above.

    Its stack or its memory ran out, or its time zone data is another. The record is sound.
    """


class CorruptRecord(SessionError):
    """The bytes in the store are no record; the client is given a new session."""


class NotSerializable(SessionError, TypeError):
    """A value in the session has a type that would not come back equal and of the same type.

    ``path`` names where it is, ``session['cart'][2]``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path


class TooLarge(SessionError):
    """The session takes more bytes than its store can keep under one key.

    ``size`` and ``limit`` are in bytes. What was stored before is still there.
    """

    def __init__(self, message: str, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class SessionGone(SessionError):
    """``commit()`` or ``reload()`` met a session that was signed out, renewed or has expired."""


class LateChange(SessionError):
    """The session was changed after the headers left, in a way that needs a new cookie."""


class DataMismatch(SessionError, ValueError):
    """What a session holds does not fit the model that a `TypedSession` shows it by.

    ``keys`` are those that do not fit. The message says what is wrong, and no value.
    """

    def __init__(self, model: str, keys: frozenset[str], reason: str) -> None:
        named = ", ".join(f"session[{key!r}]" for key in sorted(keys))
        super().__init__(f"{named} must fit {model}: {reason}")
        self.keys = keys
