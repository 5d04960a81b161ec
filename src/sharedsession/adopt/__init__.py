"""Sources of live sessions: those that six other packages have made, to be taken over.

Each names the package that made the sessions, as it was configured. The old package is not
imported, and nothing is unpickled; `source` has the contract.
"""

from .django import Django
from .flask import FlaskCookie
from .flask_session import FlaskSession
from .litestar import Litestar
from .source import Found, NotAdoptable, Source
from .starlette import StarletteCookie
from .starsessions import Starsessions

__all__ = [
    "Django",
    "FlaskCookie",
    "FlaskSession",
    "Found",
    "Litestar",
    "NotAdoptable",
    "Source",
    "StarletteCookie",
    "Starsessions",
]
