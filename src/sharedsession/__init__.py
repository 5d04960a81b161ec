"""Sessions that every server finds. See ``sharedsession.asgi`` for the middleware."""

from .exceptions import (
    ConfigurationError,
    LateChange,
    NotEncodable,
    SessionError,
    SessionGone,
    StoreUnavailable,
    TooLarge,
)
from .session import Session

__all__ = [
    "ConfigurationError",
    "LateChange",
    "NotEncodable",
    "Session",
    "SessionError",
    "SessionGone",
    "StoreUnavailable",
    "TooLarge",
]
