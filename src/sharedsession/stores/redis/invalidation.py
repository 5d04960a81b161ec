"""The invalidations of Redis and Valkey: the server's own tracking of keys, by their prefix.

Broadcasting mode (``CLIENT TRACKING ON BCAST``, Redis 6 and newer) tells a connection of its own
about every key that was written, expired, evicted or removed, by whomever, which a message that
our own writes publish would not: another version of the application may write, or a person. It
needs no memory in the server, and no more rights than ``CLIENT TRACKING``. Keys are told, versions
are not: a copy is dropped in any case, one of an own write as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from redis.exceptions import ResponseError

from ..base import ALL, QUIET, READY, Event, NoPush
from .connections import Connection

POLL_INTERVAL = 0.25  # seconds without anything, after which that is said


def heartbeats_of(prefix: str) -> str:
    """Return the prefix of heartbeats, beside that of the sessions.

    It is not below that, or each listener would be told of all heartbeats. And it comes after that
    in the order of bytes, in which the server reports what was written in one turn of its loop:
    a heartbeat must not be heard before a session that was written earlier.
    """
    return f"{prefix[:-1]}{chr(ord(prefix[-1:] or '}') + 1)}heartbeat:"


def listen(connect: Callable[..., Connection], prefix: str, listener: str) -> Iterator[Event]:
    """Yield what the server tells, on a connection of its own, which ``connect`` opens."""
    connection = connect(protocol=3)
    own = f"{heartbeats_of(prefix)}{listener}:"
    prefixes = [prefix] if own.startswith(prefix) else [prefix, own]
    words = [word for each in prefixes for word in ("PREFIX", each)]
    told: list[list[bytes] | None] = []  # keys; None: the database was emptied
    try:
        # Its two parsers hand over such a message only in this way.
        parser = connection._parser  # noqa: SLF001
        parser.set_invalidation_push_handler(lambda message: told.append(message[1]))
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *words)
        try:
            connection.read_response()
        except ResponseError as error:
            raise NoPush(f"Redis refuses CLIENT TRACKING ({error})") from None
        yield READY
        while True:
            if connection.can_read(timeout=POLL_INTERVAL):
                connection.read_response(push_request=True)
            else:
                yield QUIET
            while told:
                yield from _events(told.pop(0), prefix.encode(), own.encode())
    finally:
        connection.disconnect()


def _events(keys: list[bytes] | None, prefix: bytes, own: bytes) -> Iterator[Event]:
    if keys is None:  # the database was emptied
        yield ALL
        return
    for key in keys:
        if key.startswith(own):
            yield Event(heartbeat=int(key[len(own) :]))
        elif key.startswith(prefix):
            yield Event(key=key[len(prefix) :].decode("utf-8", "replace"))
