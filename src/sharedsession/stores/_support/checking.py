"""Whether sessions would work in a store: what its server says, and a session that comes and goes.

What is peculiar to a store it finds out itself (`base.Checkable`); here is what holds for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any

from ...exceptions import StoreUnavailable
from ..base import Checkable, Finding, StorePair
from .verbs import Flow, arun, call, run

KEY_BYTES = 32  # as many as a session's key has
TTL = 60  # seconds, after which the store forgets what a check could not remove
CLOCKS_AGREE = 2.0  # seconds: servers tell their time in whole ones, and a little late


def examine(pair: StorePair) -> Iterator[Finding]:
    """Yield what is found out about a store, in the order in which it is; errors come last."""
    try:
        if isinstance(pair.sync, Checkable):
            for finding in pair.sync.examine():
                yield finding
                if finding.level == "error":
                    return
        if pair.sync is not None:
            yield _done("A session was", run(_try(pair.sync), call))
        if pair.asynchronous is not None:
            taken = asyncio.run(arun(_try(pair.asynchronous), call))
            yield _done("With the awaited client (ASGI) one was", taken)
    except StoreUnavailable as error:
        yield Finding("error", str(error))
    except _Wrong as wrong:
        yield Finding("error", f"The store does not keep what it is given: {wrong}.")


def clock_finding(ahead: float) -> Finding:
    """Return what to say of a server's clock that is so many seconds ahead of this machine's."""
    if abs(ahead) <= CLOCKS_AGREE:
        return Finding("ok", "Its clock and this machine's agree to within two seconds.")
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "warning",
        f"Its clock is {abs(ahead):.0f} s {way} this machine's. Sessions end by the clocks of the "
        "application's servers: let all machines set theirs by NTP.",
    )


def transport_finding(*, encrypted: bool, hosts: list[str], advice: str) -> Finding:
    """Return what to say of the way to the server; ``hosts`` may be paths of sockets."""
    if encrypted:
        return Finding("ok", "The connection is encrypted by TLS.")
    if all(map(_is_here, hosts)):
        return Finding("ok", "The connection does not leave this machine.")
    return Finding(
        "warning",
        f"The connection is not encrypted: an eavesdropper reads sessions. {advice}",
    )


def _is_here(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return False


class _Wrong(Exception):
    """A store that answers what cannot be."""


def _try(store: Any) -> Flow[float]:  # Any: sync or async
    """Make, read, change, prolong and remove a session; return the seconds that it took."""
    key, begun = secrets.token_urlsafe(KEY_BYTES), time.monotonic()
    try:
        yield from _steps(store, key)
    except Exception:
        with contextlib.suppress(Exception):
            yield partial(store.delete, key)
        raise
    return time.monotonic() - begun


def _steps(store: Any, key: str) -> Flow[None]:
    created = yield partial(store.create, key, b"made", TTL)
    _expect(created is not None, "a key that is free was taken for one that is not")
    loaded = yield partial(store.load, key)
    _expect(loaded is not None and loaded.data == b"made", "what was stored was not found")
    replaced = yield partial(store.replace, key, loaded, b"changed", TTL)
    _expect(replaced is not None, "what was stored could not be changed")
    touched = yield partial(store.touch, key, TTL)
    _expect(touched, "what was stored could not be given a new lifetime")
    changed = yield partial(store.load, key)
    _expect(changed is not None and changed.data == b"changed", "a change was not found")
    yield partial(store.delete, key)
    found = yield partial(store.load, key)
    _expect(found is None, "what was removed was found again")


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise _Wrong(otherwise)


def _done(what: str, seconds: float) -> Finding:
    milliseconds = max(1, round(seconds * 1000))
    return Finding("ok", f"{what} made, read, changed, prolonged and removed in {milliseconds} ms.")
