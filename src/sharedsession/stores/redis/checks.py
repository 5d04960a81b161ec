"""What a check asks a server of Redis or Valkey, and what its answers mean.

Each question is one that a user with few rights, or a proxy, may refuse; then what could be learnt
is left out, or learnt from INFO, which more users may ask.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from typing import cast

import redis

from ...exceptions import StoreUnavailable
from .._support.checking import clock_finding
from ..base import Event, Finding, NoPush

Ask = Callable[..., object]  # a command's words; returns the answer, or the error that it was
QUIET_FOR = 8  # times that a listener may say that nothing has happened, until a heartbeat has come


def server_findings(place: str, ask: Ask) -> Iterator[Finding]:
    """Yield what the server says of itself: version, eviction, persistence, clock."""
    info = _info(ask("INFO"))
    version = info.get("valkey_version") or info.get("redis_version")
    yield Finding("ok", f"{place} answers{f', version {version}' if version else ''}.")
    yield _eviction(setting(ask("CONFIG", "GET", "maxmemory-policy")), info)
    yield _persistence(setting(ask("CONFIG", "GET", "save")), info)
    before = time.time()
    answer = ask("TIME")
    if isinstance(answer, list | tuple) and len(answer) == 2:
        yield clock_finding(int(answer[0]) - (before + time.time()) / 2 + int(answer[1]) / 1e6)
    batch = ask("MGET", secrets.token_urlsafe())
    if isinstance(batch, redis.ResponseError):
        yield Finding(
            "warning",
            "This user may not use MGET, by which sessions that are wanted at the same time are "
            "read together under ASGI, and are read one by one without: grant +mget.",
        )


def _eviction(policy: str | None, info: dict[str, str]) -> Finding:
    policy = policy or info.get("maxmemory_policy")
    if policy is None:
        return Finding(
            "warning",
            "The server does not say what it does when its memory is full: make sure that "
            "maxmemory-policy is noeviction.",
        )
    if policy == "noeviction":
        return Finding("ok", "It removes no session when its memory is full (noeviction).")
    return Finding(
        "warning",
        f"It removes sessions when its memory is full, which signs people out: maxmemory-policy "
        f"is {policy}, set noeviction.",
    )


def _persistence(snapshots: str | None, info: dict[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        return Finding("ok", "It keeps sessions on disk, but for the last second (appendonly yes).")
    if snapshots is None:
        return Finding(
            "warning",
            "The server does not say whether it keeps anything on disk: make sure that appendonly "
            "is yes, or a restart signs people out.",
        )
    if snapshots:
        return Finding(
            "warning",
            "A restart takes it back to its last snapshot, and sessions that were ended since live "
            "again: set appendonly yes.",
        )
    return Finding(
        "warning",
        "It keeps nothing on disk, so a restart of it signs everybody out: set appendonly yes.",
    )


def push_finding(
    listen: Callable[[str], Iterator[Event]], heartbeat: Callable[[str, int], None]
) -> Finding:
    """Say whether a listener hears of a write: send a heartbeat, and wait for it."""
    listener = f"check-{secrets.token_hex(4)}"
    reason = "what it told of a write did not arrive"
    try:
        with contextlib.closing(cast("Generator[Event]", listen(listener))) as events:
            for number, event in enumerate(events):
                if event.heartbeat is not None:
                    return Finding("ok", "It pushes writes: near_cache may keep copies longer.")
                if number == 0:
                    heartbeat(listener, 1)
                if number > QUIET_FOR:
                    break
    except (NoPush, StoreUnavailable, redis.RedisError, OSError) as error:
        reason = str(error).rstrip(".")
    return Finding("ok", f"It pushes no writes, so near_cache keeps copies for a second: {reason}.")


def _info(answer: object) -> dict[str, str]:
    """Return what INFO says, as it comes or as the client has read it."""
    if isinstance(answer, dict):
        return {str(name): str(value) for name, value in answer.items()}
    if not isinstance(answer, bytes):
        return {}
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def setting(answer: object) -> str | None:
    """Return the value in an answer to CONFIG GET; None when the server would not say."""
    pair = next(iter(answer.items())) if isinstance(answer, dict) and answer else answer
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    value = pair[1]
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
