"""Connections of psycopg that are closed when no caller may wait for their answer any more.

psycopg itself would ask the server to cancel the statement, and wait for that: for seconds, when it
is the server that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Self, TypeVar

import psycopg
from psycopg import waiting

from .._support.deadline import deadline

T = TypeVar("T")
Steps = Generator[Any, Any, T]  # Any: psycopg's own kinds of waiting and readiness

# Before 3.3 psycopg's C waits for an answer, however long, where its Python takes steps (3.2.1).
TAKES_STEPS = tuple(map(int, psycopg.__version__.split(".")[:2])) >= (3, 3)
STEP = 0.1  # seconds

# What is being opened in this task: one connection, at several addresses perhaps.
_begun: ContextVar[list[Steps[Any]]] = ContextVar("begun")


def ignore(notice: object) -> None:
    """Drop a notification, which psycopg would keep for good.

    Behind a pooler one connection may be told of what another one has asked to be told.
    """


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that keeps to the `deadline` of the thread that uses it.

    psycopg takes a step ten times a second, whether or not there is an answer.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.add_notify_handler(ignore)

    @classmethod
    def _connect_gen(cls, *arguments: Any, **named: Any) -> Steps[Self]:
        """Open it, and close what could not be opened in time.

        psycopg leaves that to the garbage collector (psycopg issue 565; of a timeout still in 3.3).
        """
        steps = super()._connect_gen(*arguments, **named)
        return _until_the_deadline(steps, steps.close)

    def wait(self, gen: Steps[T], *arguments: Any, **named: Any) -> T:
        steps = _until_the_deadline(gen, self.pgconn.finish)
        if not TAKES_STEPS:
            return waiting.wait_selector(steps, self.pgconn.socket, STEP)
        return super().wait(steps, *arguments, **named)


def _until_the_deadline(steps: Steps[T], give_up: Callable[[], object]) -> Steps[T]:
    answer = None
    try:
        while True:
            wanted = steps.send(answer)
            answer = yield wanted
            if not answer and deadline.left() <= 0:
                give_up()
                raise psycopg.OperationalError("no answer in time")
    except StopIteration as done:
        result: T = done.value
        return result


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when the task that uses it is cancelled."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.add_notify_handler(ignore)

    @classmethod
    async def connect(cls, *arguments: Any, **named: Any) -> Self:
        """Open it, and close what was given up meanwhile: see `BoundedConnection`."""
        token = _begun.set([])
        try:
            return await super().connect(*arguments, **named)
        except BaseException:
            for steps in _begun.get():
                steps.close()
            raise
        finally:
            _begun.reset(token)

    @classmethod
    def _connect_gen(cls, *arguments: Any, **named: Any) -> Steps[Self]:
        steps = super()._connect_gen(*arguments, **named)
        _begun.get().append(steps)
        return steps

    async def wait(self, gen: Steps[T], *arguments: Any, **named: Any) -> T:
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, *arguments, **named)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise
