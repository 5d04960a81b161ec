"""Servers that hang while a block lasts, for the part of the contract that is about outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

TIMEOUT = 1.0


class Pausable(Protocol):
    def pause(self) -> None: ...

    def resume(self) -> None: ...


@contextmanager
def hanging(server: Pausable) -> Iterator[None]:
    """Let a server hang: connections stay open, and nothing is answered."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
