"""The fixtures that applications' tests have by the plugin."""

from pytest_sharedsession import session_clock, session_store

__all__ = ["session_clock", "session_store"]
