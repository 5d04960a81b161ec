"""What the three applications of these tests have in common."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

SECRET = "a secret of the tests, long enough for them"
PARTS = 200  # of the slow response: it lasts longer than any test looks at it
PAUSE = 0.05  # seconds between two of them


def add_one(session: MutableMapping[Any, Any]) -> None:
    session["n"] = session.get("n", 0) + 1


def me(session: MutableMapping[Any, Any]) -> dict[str, object]:
    """Return what the client is told: the process that answered, and all of its session."""
    return {"pid": os.getpid(), "session": dict(session)}
