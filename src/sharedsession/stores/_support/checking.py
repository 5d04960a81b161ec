"""Whether sessions would work in a store: what its server says, and a session that comes and goes.

What is peculiar to a store it finds out itself (`base.Checkable`); here is what holds for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Generator, Iterator
from ipaddress import ip_address
from typing import Any

from ...exceptions import StoreUnavailable
from ..base import AsyncStore, Checkable, Finding, Store, StorePair

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
            yield _done("A session was", _try(pair.sync))
        if pair.asynchronous is not None:
            yield _done(
                "With the awaited client (ASGI) one was", asyncio.run(_atry(pair.asynchronous))
            )
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


Steps = Generator[tuple[str, tuple[Any, ...]], Any, None]  # Any: the verbs' arguments and answers


def _steps(key: str) -> Steps:
    created = yield "create", (key, b"made", TTL)
    _expect(created is not None, "a key that is free was taken for one that is not")
    loaded = yield "load", (key,)
    _expect(loaded is not None and loaded.data == b"made", "what was stored was not found")
    replaced = yield "replace", (key, loaded, b"changed", TTL)
    _expect(replaced is not None, "what was stored could not be changed")
    touched = yield "touch", (key, TTL)
    _expect(touched, "what was stored could not be given a new lifetime")
    changed = yield "load", (key,)
    _expect(changed is not None and changed.data == b"changed", "a change was not found")
    yield "delete", (key,)
    _expect((yield "load", (key,)) is None, "what was removed was found again")


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise _Wrong(otherwise)


def _try(store: Store) -> float:
    """Make, read, change, prolong and remove a session; return the seconds that it took."""
    key, begun = secrets.token_urlsafe(KEY_BYTES), time.monotonic()
    steps, answer = _steps(key), None
    try:
        while True:
            verb, arguments = steps.send(answer)
            answer = getattr(store, verb)(*arguments)
    except StopIteration:
        return time.monotonic() - begun
    except Exception:
        with contextlib.suppress(Exception):
            store.delete(key)
        raise


async def _atry(store: AsyncStore) -> float:
    key, begun = secrets.token_urlsafe(KEY_BYTES), time.monotonic()
    steps, answer = _steps(key), None
    try:
        while True:
            verb, arguments = steps.send(answer)
            answer = await getattr(store, verb)(*arguments)
    except StopIteration:
        return time.monotonic() - begun
    except Exception:
        with contextlib.suppress(Exception):
            await store.delete(key)
        raise


def _done(what: str, seconds: float) -> Finding:
    milliseconds = max(1, round(seconds * 1000))
    return Finding("ok", f"{what} made, read, changed, prolonged and removed in {milliseconds} ms.")
