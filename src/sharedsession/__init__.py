"""Sessions that every server finds. See ``sharedsession.asgi`` for the middleware."""

from .exceptions import (
    ConfigurationError,
    LateChange,
    NotEncodable,
    SessionError,
    SessionGone,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)
from .session import Session
from .settings import NearCache

__all__ = [
    "ConfigurationError",
    "LateChange",
    "NearCache",
    "NotEncodable",
    "Session",
    "SessionError",
    "SessionGone",
    "StoreFull",
    "StoreUnavailable",
    "TooLarge",
]
