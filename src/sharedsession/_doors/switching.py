"""The moment at which all servers change from an old session layer to this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from ..exceptions import ConfigurationError

App = TypeVar("App")


@dataclass(frozen=True)
class Switch(Generic[App]):
    """Until ``at``, in epoch seconds, requests go to ``app``: the application and its old layer."""

    app: App
    at: float

    def is_ahead(self, now: float) -> bool:
        """Whether the moment is still to come: a request that begins now is for the old layer."""
        return now < self.at

    @classmethod
    def of(cls, app: App, switch_at: object, before: Callable[[App], App] | None) -> Self | None:
        """Return the switch of a middleware; None where there is none.

        Raises:
            ConfigurationError: one of the two is missing, or the moment is none.
        """
        at = moment(switch_at, before)
        if at is None or before is None:
            return None
        made: Any = before
        if hasattr(before, "cls"):  # Starlette's Middleware, with its arguments
            return cls(before.cls(app, *made.args, **made.kwargs), at)
        return cls(made(app), at)


def moment(switch_at: object, before: object) -> float | None:
    """Return when to switch, in epoch seconds; None where nothing was asked for.

    Raises:
        ConfigurationError: one of the two is missing, or it is no moment with a UTC offset.
    """
    if (switch_at is None) != (before is None):
        raise ConfigurationError(
            "switch_at and before must be given together: until when a server runs the old "
            "session layer, and what that layer is."
        )
    if switch_at is None:
        return None
    found = switch_at
    if isinstance(switch_at, str):
        try:
            found = datetime.fromisoformat(switch_at)
        except ValueError:
            found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ConfigurationError(
            "switch_at must be a moment that is the same on every server, with its UTC offset: "
            f"'2027-01-10T03:00:00Z' or an aware datetime, got {switch_at!r}."
        )
    return found.timestamp()
