"""What all requests of a process share: the settings, and the sessions, plain and awaited."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .._core.flows import opening
from .._core.settings import Settings
from .._doors.switching import Switch, moment
from ..adapter import AsyncSessions, Sessions
from ..exceptions import StoreUnavailable
from ._databases import alias_of, is_tested
from ._settings import SEEN, gathered, own_settings

if TYPE_CHECKING:
    from .._core.exchange import Exchange


class Engine:
    """The sessions of this project, for plain code and for coroutines; both are of one process."""

    def __init__(self, chosen: Settings) -> None:
        self.sessions = Sessions(chosen)
        self.awaited, self.manager = AsyncSessions(self.sessions), self.sessions.manager
        self.names = chosen.cookie_names
        self.convert = converting(import_string(settings.SESSION_SERIALIZER)())
        own = own_settings()
        self._alias = alias_of(own.get("STORE"))
        self._is_tested = is_tested()
        at, old = moment(own.get("SWITCH_AT"), own.get("BEFORE")), own.get("BEFORE")
        self._before = None if at is None else Switch(import_module(str(old)).SessionStore, at)

    @property
    def old_store(self) -> Callable[[str | None], Any] | None:  # Any: a session of Django's own
        """``SessionStore`` of the engine that serves until the moment of ``SWITCH_AT``."""
        if self._before is None or not self._before.is_ahead(self.manager.clock()):
            return None
        return cast(Callable[[str | None], Any], self._before.app)

    @property
    def is_elsewhere(self) -> bool:
        """Whether its sessions are not where they are to be now: tests have begun, or ended.

        It may have been made before, by a test's module that imports the WSGI or ASGI application.
        """
        return self._alias is not None and is_tested() != self._is_tested

    async def open(self, exchange: Exchange) -> None:
        """Load the session of a request that a coroutine serves, or remember the outage."""
        exchange.resolve()
        if exchange.opened:
            return
        try:
            await self.awaited.run(opening(exchange))
        except StoreUnavailable as outage:
            if not self.awaited.stores.open_outdated(exchange):
                exchange.fail_load(outage)


def converting(serializer: Any) -> Callable[[Any], Any]:  # Any: whatever SESSION_SERIALIZER names
    """Return what gives for a value that we cannot store what Django's own session would give.

    It is the serializer's: a class of the project's may know more types than JSON does.
    """

    def convert(value: Any) -> Any:
        dumped = serializer.dumps(value)
        json.loads(dumped)  # anything else would be of a type that we cannot store either
        return serializer.loads(dumped)

    return convert


class _Current:
    """The engine of now. ``override_settings`` in a test makes another one."""

    engine: Engine | None = None
    is_outdated = False


def engine() -> Engine:
    """Return the engine of this process, made at its first use.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    known = _Current.engine
    if known is None or _Current.is_outdated or known.is_elsewhere:
        # The one before is held until then: a memory, say, is shared by who holds it.
        known = _Current.engine = Engine(gathered())
        _Current.is_outdated = False
    return known


def _outdate(*, setting: str, **_: object) -> None:
    _Current.is_outdated |= setting in SEEN


setting_changed.connect(_outdate, dispatch_uid="sharedsession")
