"""Sessions that every server finds. See ``sharedsession.asgi`` for the middleware."""

from ._core.session import Session
from ._core.settings import NearCache
from .exceptions import (
    ConfigurationError,
    LateChange,
    NotSerializable,
    SessionError,
    SessionGone,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)
from .manager import AsyncSessionManager, SessionManager

__all__ = [
    "AsyncSessionManager",
    "ConfigurationError",
    "LateChange",
    "NearCache",
    "NotSerializable",
    "Session",
    "SessionError",
    "SessionGone",
    "SessionManager",
    "StoreFull",
    "StoreUnavailable",
    "TooLarge",
]
