"""The two drivers that run a flow: with a store of plain functions, and with an awaited one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from ..exceptions import StoreUnavailable, TooLarge
from ..stores.base import ABSENT, Entry, Store
from .backoff import Backoff
from .manager import Manager
from .runtime import DeadlinePassed, Runtime
from .source import NotAdoptable
from .steps import Beside, Flow, Load, NotSent, Pause, Step

T = TypeVar("T")
Within = Callable[[float, Callable[[], Any]], Any]  # Any: whatever the call returns
Call = Callable[[Any], Awaitable[Any]]  # Any: a step that calls the store, and its answer
Peek = Callable[[str, int], Entry | None]

log = logging.getLogger("sharedsession")


def advance(
    flow: Flow[Any], manager: Manager, peek: Peek | None = None, at_once: Store | None = None
) -> Step:
    """Begin a flow, and return the first step that has to wait for its answer.

    Args:
        flow: what to run.
        manager: that of the request.
        peek: is asked for copies at hand.
        at_once: a store whose calls never wait.

    Raises:
        StopIteration: the flow has ended, which it most often has.
    """
    step = flow.send(None)
    while True:
        if at_once is not None and not isinstance(step, Pause | Beside):
            begun = time.monotonic()
            try:
                answer = step.on(at_once)
            except Exception as error:  # noqa: BLE001 - as in `drive`
                step = flow.throw(_told(step, error, manager, begun))
                continue
        elif peek is None or type(step) is not Load or (answer := peek(*step)) is None:
            return step
        step = flow.send(None if answer is ABSENT else answer)


def drive(
    flow: Flow[T],
    store: Store,
    manager: Manager,
    within: Within | None = None,
    peek: Peek | None = None,
) -> T:
    """Run a flow with a store of plain functions; the deadline is checked between its calls.

    Args:
        flow: what to run.
        store: on which.
        manager: whose timeout it has.
        within: makes a call that may take only so many seconds, and raises `DeadlinePassed` when it
            takes longer; without it a call takes as long as the store lets it.
        peek: is asked first for what is loaded first.
    """
    timeout = deadline = 0.0
    try:
        asked = step = advance(flow, manager, peek)
        while True:
            begun = time.monotonic()
            if not deadline:
                timeout = manager.timeout()
                deadline = begun + timeout
            left = deadline - begun
            if left <= 0:
                step = flow.throw(too_late(manager, timeout, asked, NotSent))
                continue
            if isinstance(step, Pause):
                time.sleep(min(left, step.seconds))
                step = flow.send(None)
                continue
            asked = step
            try:
                if isinstance(step, Beside):
                    seconds = _for_the_old(left, manager)
                    answer = manager.process.old_threads.run(partial(step.on, None), seconds)
                elif within is None:
                    answer = step.on(store)
                else:
                    answer = within(left, partial(step.on, store))
            except DeadlinePassed:
                step = flow.throw(too_late(manager, timeout, asked))
            except Exception as error:  # noqa: BLE001 - a store that raises did not answer
                step = flow.throw(_told(step, error, manager, begun))
            else:
                _backoff(step, manager).answered()
                step = flow.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


async def adrive(
    flow: Flow[T],
    step: Step,
    call: Call,
    runtime: Runtime,
    manager: Manager,
) -> T:
    """Run a flow, from its first step on, on an event loop, under one deadline.

    Args:
        flow: what to run.
        step: the first one, which it has yielded.
        call: what does a step on a store, awaited.
        runtime: the event loop.
        manager: whose timeout it has.
    """
    begun = time.monotonic()
    timeout = manager.timeout()
    deadline, asked = begun + timeout, step
    try:
        while True:
            left = deadline - begun
            if left <= 0:
                step = flow.throw(too_late(manager, timeout, asked, NotSent))
                continue
            if isinstance(step, Pause):
                await runtime.pause(min(left, step.seconds))
                step, begun = flow.send(None), time.monotonic()
                continue
            asked = step
            try:
                if isinstance(step, Beside):
                    old, left = partial(step.on, None), _for_the_old(left, manager)
                    answering: Awaitable[Any] = runtime.in_thread(manager.process.old_threads, old)
                else:
                    answering = call(step)
                answer = await runtime.within(left, answering)
            except DeadlinePassed:
                step = flow.throw(too_late(manager, timeout, asked))
            except Exception as error:  # noqa: BLE001 - as in `drive`
                step = flow.throw(_told(step, error, manager, begun))
            else:
                _backoff(step, manager).answered()
                step = flow.send(answer)
            begun = time.monotonic()
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


def _backoff(step: Step, manager: Manager) -> Backoff:
    """Return that of the store that a step asks: an old one that is down says nothing of ours."""
    return manager.process.old_backoff if isinstance(step, Beside) else manager.process.backoff


def _for_the_old(left: float, manager: Manager) -> float:
    """Return how many of the seconds that are left an old store may take."""
    return min(left, manager.process.old_backoff.timeout(manager.settings.store_timeout))


def _told(step: Step, error: Exception, manager: Manager, begun: float) -> Exception:
    """Return what a flow is told of a store's error."""
    backoff = _backoff(step, manager)
    if not isinstance(error, TooLarge | NotAdoptable):
        backoff.failed(time.monotonic() - begun)
        return outage(error, manager)
    backoff.answered()  # an answer, not an outage
    return error


def outage(error: Exception, manager: Manager) -> StoreUnavailable:
    """Return the outage that a store's error means."""
    manager.counts["outage"] += 1
    if isinstance(error, StoreUnavailable):
        log.error("outage: %s", error, extra={"event": "outage"})
        return error
    log.error("outage: the session store failed", exc_info=error, extra={"event": "outage"})
    failed = StoreUnavailable(f"The session store failed: {type(error).__name__}.")
    failed.__cause__ = error
    return failed


def too_late(
    manager: Manager, timeout: float, asked: Step, kind: type[StoreUnavailable] = StoreUnavailable
) -> StoreUnavailable:
    """Return the outage that it means when an attempt has had so many seconds, in vain.

    ``asked`` is the last step of the attempt: the store that it asked has taken them.
    """
    manager.counts["outage"] += 1
    log.error("outage: the deadline has passed", extra={"event": "outage"})
    _backoff(asked, manager).too_late(timeout)
    which = "old session store" if isinstance(asked, Beside) else "session store"
    return kind(f"The {which} did not answer within {timeout:g} s.")
