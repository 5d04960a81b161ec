"""Sources of live sessions: those that six other packages have made, to be taken over.

Each names the package that made the sessions, as it was configured. The old package is not
imported, and nothing is unpickled; `source` has the contract.
"""

from .flask import FlaskCookie
from .flask_session import FlaskSession
from .source import Found, NotAdoptable, Source
from .starlette import StarletteCookie

__all__ = [
    "FlaskCookie",
    "FlaskSession",
    "Found",
    "NotAdoptable",
    "Source",
    "StarletteCookie",
]
