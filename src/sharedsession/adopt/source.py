"""What a source is, for those who read one: see `sharedsession._core.source`."""

from .._core.source import Found, NotAdoptable, Source

__all__ = ["Found", "NotAdoptable", "Source"]
