"""What each process has for itself: a child of the one that made it makes its own.

A connection must not be used, nor even closed, by a child of the process that opened it. Not every
server runs Python's own hooks when it forks, so the process is looked at with each use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_left_to_the_parents: list[object] = []  # for as long as the process lives, or they would be closed


class PerProcess(Generic[T]):
    """Something of which each process has its own, made at once; in a child at its first use."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made = os.getpid(), make()

    def own(self) -> T:
        """Return this process's own."""
        process, made = self._made
        return made if process == os.getpid() else self._anew()

    def known(self) -> T | None:
        """Return this process's own, if it has one already."""
        process, made = self._made
        return made if process == os.getpid() else None

    def _anew(self) -> T:
        with self._lock:
            process, made = self._made
            if process != os.getpid():
                _left_to_the_parents.append(made)
                self._made = os.getpid(), self._make()
        return self._made[1]
