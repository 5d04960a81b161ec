"""The application's configuration: its checks, and the migration that makes the table."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register

from ._checks import check_settings

__all__ = ["SharedSessionConfig"]


class SharedSessionConfig(AppConfig):
    """``"sharedsession.django"`` in INSTALLED_APPS."""

    name = "sharedsession.django"
    label = "sharedsession"
    verbose_name = "Shared sessions"

    def ready(self) -> None:
        """Register what ``manage.py check`` looks at."""
        register(Tags.security)(check_settings)
