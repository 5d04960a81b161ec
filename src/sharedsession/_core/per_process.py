"""What each process has for itself: a child of the one that made it makes its own.

A connection must not be used, nor even closed, by a child of the process that opened it, and no
thread is there any more. Not every server runs Python's own hooks when it forks, so the process is
looked at with each use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

left_to_the_parents: list[object] = []  # a child keeps it, or it would be closed


class PerProcess(Generic[T]):
    """Something of which each process has its own, made at once; in a child at its first use.

    A child keeps its parents', unused, for as long as it lives. ``made`` is what this process has
    already.
    """

    def __init__(self, make: Callable[[], T], made: T | None = None) -> None:
        self._make = make
        self._made = {os.getpid(): make() if made is None else made}
        self._making: dict[int, threading.Lock] = {}

    def own(self) -> T:
        """Return this process's own."""
        made = self._made.get(os.getpid())
        return self._anew(os.getpid()) if made is None else made

    def known(self) -> T | None:
        """Return this process's own, if it has one already."""
        return self._made.get(os.getpid())

    def _anew(self, process: int) -> T:
        # A lock of this process's, because a thread of the parent may have held the parent's.
        with self._making.setdefault(process, threading.Lock()):
            if process not in self._made:
                made = self._make()
                left_to_the_parents.append(self._made)
                self._made = {process: made}  # another one may have a parent's number one day
            return self._made[process]
