"""What each process has for itself: a child of the one that made it makes its own.

A connection must not be used, nor even closed, by a child of the process that opened it. Not every
server runs Python's own hooks when it forks, so the process is looked at with each use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_left_to_the_parents: list[object] = []


class PerProcess(Generic[T]):
    """Something of which each process has its own, made at once; in a child at its first use.

    A child keeps its parents', unused, for as long as it lives: else they would be closed.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = {os.getpid(): make()}

    def own(self) -> T:
        """Return this process's own."""
        made = self._made.get(os.getpid())
        return self._anew(os.getpid()) if made is None else made

    def known(self) -> T | None:
        """Return this process's own, if it has one already."""
        return self._made.get(os.getpid())

    def _anew(self, process: int) -> T:
        # No lock: a thread of the parent may have held it. Of several threads one is first.
        found = self._made
        made = found.setdefault(process, self._make())
        _left_to_the_parents.append(found)
        self._made = {process: made}  # another process may have a parent's number one day
        return made
