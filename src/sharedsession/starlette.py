"""Our middleware in the place of Starlette's, for packages that bring Starlette's along.

NiceGUI, Gradio, sqladmin and others import ``starlette.middleware.sessions.SessionMiddleware`` and
add it themselves. `install` makes that name ours, for all of them.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from types import FunctionType
from typing import Any, ClassVar, Literal

from ._core.extras import missing

try:
    from starlette.middleware import sessions
except ModuleNotFoundError as error:
    raise missing(error, "starlette", "starlette") from error

from ._core.settings import NAMES, UNSET, Unset, gather
from ._doors import advice
from ._doors.responses import ASGIApp
from .asgi import SessionMiddleware
from .exceptions import ConfigurationError
from .stores.base import AsyncStore, Store

__all__ = ["install"]

_THEIRS: type = sessions.SessionMiddleware


class _Installed(SessionMiddleware):
    """Our middleware with Starlette's arguments, and for the rest those of `install`."""

    chosen: ClassVar[dict[str, Any]] = {}  # Any: each setting's own type

    def __init__(
        self,
        app: ASGIApp,
        secret_key: str | bytes | Sequence[str | bytes] | Unset = UNSET,
        session_cookie: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        same_site: Literal["lax", "strict", "none"] | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
    ) -> None:
        given = {name: each for name, each in locals().items() if each is not UNSET}
        own = {name: each for name, each in given.items() if name in NAMES}
        if _has_key(self.chosen):
            own.pop("secret_key", None)  # made up for this process, perhaps
        super().__init__(app, **{**self.chosen, **own})


def _has_key(chosen: dict[str, Any]) -> bool:
    return "secret_key" in chosen or "SHAREDSESSION_SECRET_KEY" in os.environ


def install(
    secret_key: str | bytes | Sequence[str | bytes] | Unset = UNSET,
    *,
    store: str | Store | AsyncStore | Unset = UNSET,
    **settings: Any,  # Any: each setting's own type
) -> type[SessionMiddleware]:
    """Put our middleware in the place of ``starlette.middleware.sessions.SessionMiddleware``.

    Call it before the packages that bring Starlette's make their application, best before their
    import; modules that have imported the name already get the new one as well, and so do classes
    with it as an attribute and functions with it as a default. Middlewares that were made before
    stay what they are.

    Args:
        secret_key: what signs the cookies, instead of whatever a package passes: packages make up a
            key for each process, and servers must share one. Without it, here and in
            ``SHAREDSESSION_SECRET_KEY``, the package's own key counts.
        store: a URL or a store object, as for `sharedsession.asgi.SessionMiddleware`; default:
            ``SHAREDSESSION_STORE``.
        settings: the middleware's other settings. What a package passes for its cookie counts
            before them.

    Returns:
        The class that stands in Starlette's place, with Starlette's arguments.

    Raises:
        ConfigurationError: a setting is missing or wrong; it was called before with others; or a
            class was derived from Starlette's before.
        TypeError: there is no such setting.
    """
    advice.refuse_unknown(settings, NAMES, {})
    given = {"secret_key": secret_key, "store": store, **settings}
    chosen = {name: value for name, value in given.items() if value is not UNSET}
    gather(chosen if _has_key(chosen) else {**chosen, "secret_key": "the package's own, later"})
    if _Installed.chosen not in ({}, chosen):
        raise ConfigurationError(
            "sharedsession.starlette.install() must be called once, or always with the same "
            "settings, and was called before with others: call it where the application begins."
        )
    derived: list[type] = _THEIRS.__subclasses__()
    if derived:
        names = ", ".join(f"{each.__module__}.{each.__qualname__}" for each in derived)
        raise ConfigurationError(
            "sharedsession.starlette.install() must be called before another class is made from "
            f"Starlette's SessionMiddleware, and there is {names}: call it before that import."
        )
    _Installed.chosen = chosen
    own = sys.modules[__name__]
    for module in [*sys.modules.values()]:
        if hasattr(module, "__dict__") and module is not own:
            _put_into_attributes(module)
    for each in gc.get_objects():
        if issubclass(type(each), type):
            _put_into_attributes(each)
        elif type(each) is FunctionType:
            _put_into_defaults(each)
    return _Installed


def _put_into_attributes(place: Any) -> None:  # Any: a module or a class
    """Give a place that has Starlette's class as an attribute ours instead."""
    for name in [name for name, each in [*vars(place).items()] if each is _THEIRS]:
        setattr(place, name, _Installed)


def _put_into_defaults(function: FunctionType) -> None:
    """Give a function that has Starlette's class as an argument's default ours instead."""
    defaults, named = function.__defaults__ or (), function.__kwdefaults__ or {}
    if any(each is _THEIRS for each in defaults):
        function.__defaults__ = tuple(_Installed if each is _THEIRS else each for each in defaults)
    named.update({name: _Installed for name, each in named.items() if each is _THEIRS})
