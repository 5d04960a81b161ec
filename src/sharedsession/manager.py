"""Sessions outside of a request: a worker changes a role, an administrator ends one.

Sessions are known by their handles, ``session.handle`` of a request: worth nothing to a thief, for
no cookie can be made of one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ._core.changes import refuse_async
from ._core.exchange import Exchange
from ._core.outside import ending, modifying, reading
from ._core.session import Session
from ._core.settings import UNSET, Unset
from .adapter import AsyncSessions, Sessions
from .stores.base import AsyncStore, Store

__all__ = ["AsyncSessionManager", "SessionManager"]

T = TypeVar("T")


def _with_key(given: dict[str, Any]) -> dict[str, Any]:  # Any: each setting's own type
    """Return settings that have a key, though none is needed: no cookie is read here, or made."""
    known = "secret_key" in given or "SHAREDSESSION_SECRET_KEY" in os.environ
    return given if known else {**given, "secret_key": secrets.token_bytes()}


class SessionManager:
    """Read, change and end sessions by their handles, where there is no request.

    It changes no session's owner and makes no new ID: there is no client to be told.

    Args:
        store: a URL or a store object, as for the application; default: ``SHAREDSESSION_STORE``.
        settings: the application's other settings, as far as it makes them: `namespace` must be
            the same, and `absolute_timeout`, `owner_key` and `sign_in_names` count here, too. A
            `secret_key` is not needed.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: there is no such setting, or the store is one whose functions are awaited.
    """

    def __init__(
        self,
        *,
        store: str | Store | Unset = UNSET,
        **settings: Any,  # Any: each setting's own type, which is checked
    ) -> None:
        self._sessions = Sessions(**_with_key({"store": store, **settings}))

    def read(self, handle: str) -> dict[Any, Any] | None:  # Any: whatever was put into the session
        """Return a copy of what a session holds now, or None where there is no such session.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return self._sessions.run(reading(Exchange(self._sessions.manager), handle))

    def modify(self, handle: str, function: Callable[[Session], T]) -> T:
        """Run ``function(session)`` and store what it changes; return what it returns.

        Compared and set as in any request: where another request writes meanwhile the function runs
        again on its data, and no write is lost. So it should do nothing but change the session.

        Raises:
            SessionGone: there is no such session (any more): it has ended, or was renewed.
            LateChange: the function changes the owner, signs in, or renews: what needs a new ID.
            NotSerializable, TooLarge: a value cannot be stored.
            StoreUnavailable: the store does not answer; whether it was written is not known then.
            TypeError: the function is async.
        """
        refuse_async(function)
        flow = modifying(Exchange(self._sessions.manager), handle, function)
        return cast(T, self._sessions.run(flow))  # it says None for a flow that is None

    def end(self, handle: str) -> bool:
        """End a session, or the one that it was renewed to; return whether there was one.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return bool(self._sessions.run(ending(Exchange(self._sessions.manager), handle)))


class AsyncSessionManager:
    """`SessionManager` for code that runs on an event loop: each of its calls is awaited.

    Args:
        store: a URL or a store object, as for the application; default: ``SHAREDSESSION_STORE``.
        settings: as `SessionManager` has them.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: there is no such setting.
    """

    def __init__(
        self,
        *,
        store: str | Store | AsyncStore | Unset = UNSET,
        **settings: Any,  # Any: each setting's own type, which is checked
    ) -> None:
        self._sessions = AsyncSessions(**_with_key({"store": store, **settings}))

    async def read(self, handle: str) -> dict[Any, Any] | None:  # Any: as above
        """Return a copy of what a session holds now: see `SessionManager.read`."""
        found: dict[Any, Any] | None = await self._sessions.run(
            reading(Exchange(self._sessions.manager), handle)
        )
        return found

    async def modify(self, handle: str, function: Callable[[Session], T]) -> T:
        """Run a plain function on a session and store it: see `SessionManager.modify`."""
        refuse_async(function)
        flow = modifying(Exchange(self._sessions.manager), handle, function)
        return cast(T, await self._sessions.run(flow))

    async def end(self, handle: str) -> bool:
        """End a session; return whether there was one: see `SessionManager.end`."""
        return bool(await self._sessions.run(ending(Exchange(self._sessions.manager), handle)))
