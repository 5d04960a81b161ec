"""Sessions for Django: ``SESSION_ENGINE = "sharedsession.django"``, and the middleware.

``request.session`` is our session, with all that Django's own session has. In ``MIDDLEWARE``
``sharedsession.django.SessionMiddleware`` takes the place of Django's; in ``INSTALLED_APPS``
``sharedsession.django`` brings the checks and the table's migration. docs/django.md has the rest.
"""

from __future__ import annotations

from .._core.extras import missing

try:
    import django  # noqa: F401 - the error names the extra
except ModuleNotFoundError as error:
    raise missing(error, "django", "django", "asgiref") from error

from ._middleware import SessionMiddleware
from ._session import SessionStore

__all__ = ["SessionMiddleware", "SessionStore"]
