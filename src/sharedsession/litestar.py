"""The Litestar adapter: a session backend's configuration, for a store that all servers share.

What is around the application is the ASGI middleware, once for each configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from ._core.extras import missing

try:
    from litestar.enums import ScopeType
except ModuleNotFoundError as error:
    raise missing(error, "litestar", "litestar") from error
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig

from . import asgi
from ._core.settings import UNSET, NearCache, OnOutage, Unset
from ._core.source import Source
from ._doors import advice
from ._doors.arguments import documented
from ._doors.litestar import LitestarMiddleware, SharedSessionBackend, with_models
from ._doors.responses import ASGIApp
from .stores.base import AsyncStore, Store

if TYPE_CHECKING:
    from litestar.types import Scopes

__all__ = ["SharedSessionConfig"]

ELSEWHERE = {
    "session_cookie": "under Litestar it is key=",
    "https_only": "under Litestar it is secure=",
    "same_site": "under Litestar it is samesite=",
    "secret": "write secret_key=",
    "httponly": "cookies always are: leave it out",
    "session_id_bytes": "an ID always has 32: leave it out",
    "renew_on_access": "sessions in use are always renewed: leave it out",
}


@documented
class SharedSessionConfig(BaseBackendConfig[SharedSessionBackend]):
    """Litestar's ``request.session`` in a store that all servers share.

    Used as Litestar's own: ``middleware=[config.middleware]``, `SessionAuth`, `FlashPlugin`, and
    ``TestClient(app, session_config=config)``. Each argument can also come from the environment,
    ``SHAREDSESSION_STORE`` and so on.

    Args:
        secret_key: what signs the cookies; one key or a list, newest first: the first signs, all
            verify.
        key: the cookie's name, default ``"session"``.
        max_age: the idle timeout in seconds or a timedelta, default 14 days.
        path, domain, samesite, partitioned: attributes of the cookie; defaults ``"/"``, none,
            ``"lax"``, False.
        secure: None (default) sets Secure on requests that came by https; True always; False never.
        {of the sessions}
        scopes: those with a session, default HTTP and WebSocket.
        exclude: a pattern, or several, of paths without a session; default none.
        exclude_opt_key: a route's option that leaves it without one, default ``"skip_session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such argument, or the store is none.
    """

    _backend_class = SharedSessionBackend
    httponly = True

    @advice.with_known_arguments(ELSEWHERE)
    def __init__(
        self,
        secret_key: str | bytes | list[str | bytes] | Unset = UNSET,
        *,
        key: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        samesite: Literal["lax", "strict", "none"] | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        secure: bool | None | Unset = UNSET,
        store: str | Store | AsyncStore | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | Store | AsyncStore | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: Callable[[ASGIApp], ASGIApp] | None = None,
        scopes: Scopes = {ScopeType.HTTP, ScopeType.WEBSOCKET},  # noqa: B006 - as Litestar has it
        exclude: str | list[str] | None = None,
        exclude_opt_key: str = "skip_session",
    ) -> None:
        given = dict(locals())
        ours = {name: given[name] for name in given if name not in _LITESTARS}
        self.layer = asgi.SessionMiddleware(
            with_models, session_cookie=key, https_only=secure, same_site=samesite, **ours
        )
        settings = self.layer.manager.settings
        self.key, self.path, self.domain = (
            settings.session_cookie,
            settings.path,
            settings.domain,
        )
        self.max_age, self.samesite = settings.max_age or settings.idle_timeout, settings.same_site
        self.secure = bool(settings.https_only)
        self.scopes, self.exclude, self.exclude_opt_key = scopes, exclude, exclude_opt_key

    def __deepcopy__(self, memo: object) -> SharedSessionConfig:
        """Litestar copies each router, which has its middlewares: its sessions stay the same."""
        return self

    @property
    def middleware(self) -> DefineMiddleware:
        """What ``middleware=[…]`` of an application, or of one of its layers, takes."""
        backend = SharedSessionBackend(config=self)  # type: ignore[arg-type]  # as `config` says above
        return DefineMiddleware(LitestarMiddleware, backend=backend)

    def get_store_from_app(self, app: object) -> Store | AsyncStore | None:
        """Return the store of the sessions, which is none of Litestar's registry."""
        stores = self.layer.sessions.stores
        return stores.sync or stores.asynchronous


_LITESTARS = ("self", "key", "samesite", "secure", "scopes", "exclude", "exclude_opt_key")
