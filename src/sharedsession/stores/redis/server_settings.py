"""Settings of a server that sign people out behind their back: asked for once, beside the requests.

CONFIG is a nicety, and a proxy may hang up on it, or let it wait. So it goes by a connection of its
own, in no request's time, after a call was answered. Where it is forbidden, INFO still shows
whether sessions are evicted.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence

from .checks import setting
from .servers import Answers, Command

LOOKS = 3  # calls after which is asked, until there is an answer
LIMIT = 5.0  # seconds that the awaited questions may take
QUESTIONS: tuple[tuple[Command, ...], ...] = (  # each by a connection of its own
    (
        ("CONFIG", "GET", "maxmemory-policy"),
        ("CONFIG", "GET", "appendonly"),
        ("CONFIG", "GET", "save"),
    ),
    (("INFO", "memory"),),
)

log = logging.getLogger("sharedsession")


class Look:
    """Whether a store is still to ask; one thread or loop at a time does."""

    def __init__(self) -> None:
        self._left = LOOKS
        self._under_way = threading.Lock()

    def begin(self) -> bool:
        """Say whether to ask now; a caller that then does calls `end`."""
        return self._left > 0 and self._under_way.acquire(blocking=False)

    def end(self, *, answered: bool) -> None:
        """Note that the server was asked, and whether it answered, be it by a refusal."""
        self._left = 0 if answered else self._left - 1
        self._under_way.release()


def warn(place: str, found: Sequence[Answers | None]) -> bool:
    """Warn of what was found, and say whether anything was heard at all."""
    config, info = found
    if config is None and info is None:
        return False
    policy, log_kept, snapshots = map(setting, config or [None] * 3)
    policy = policy or _policy(info)
    if policy not in (None, "noeviction"):
        log.warning(
            "%s removes sessions when its memory is full, which signs people out: set "
            "maxmemory-policy noeviction (it is %s).",
            place,
            policy,
        )
    if log_kept == "no" and snapshots == "":
        log.warning(
            "%s keeps nothing on disk, so a restart of it signs everybody out: set appendonly yes.",
            place,
        )
    return True


def _policy(answers: Answers | None) -> str | None:
    """Return the policy of eviction in an answer to INFO; None when it does not tell."""
    shown = re.search(r"^maxmemory_policy:(\S+)", _text(answers and answers[0]), re.MULTILINE)
    return shown and shown[1]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
