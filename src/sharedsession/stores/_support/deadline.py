"""What nothing else bounds: the time of a call in a thread, and look-ups of names that hang."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from types import TracebackType
from typing import TypeVar

from ..._core.per_process import PerProcess
from ..._core.runtime import threads_run

T = TypeVar("T")
LOOK_AGAIN = 0.5  # seconds after which a look-up that hangs is no longer waited for by others


class Deadline(threading.local):
    """When the call that runs in this thread must have ended.

    The caller may set it, and so may the store for itself: the earlier one counts.
    """

    at = float("inf")  # monotonic

    def left(self) -> float:
        """Return the seconds until then."""
        return self.at - time.monotonic()


deadline = Deadline()


class within:  # noqa: N801 - used as a statement: with within(seconds)
    """Every wait of a store's call, in this thread, ends in so many seconds; None sets no end."""

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = deadline.at
        if self._seconds is not None:
            deadline.at = min(self._before, time.monotonic() + self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        deadline.at = self._before


def bounded(seconds: float, call: Callable[[], T], discard: Callable[[T], object]) -> T:
    """Return what ``call`` returns; raise TimeoutError, and leave it alone, when it takes longer.

    For opening a connection where the driver has no limit of its own, or one for each address that
    a name has. What comes too late goes to ``discard``.
    """
    if not threads_run():
        return call()
    result: Future[T] = Future()

    def work() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            if result.set_running_or_notify_cancel():
                result.set_exception(error)
            return
        if result.set_running_or_notify_cancel():
            result.set_result(value)
        else:
            discard(value)

    _start(work)
    try:
        return result.result(max(seconds, 0))
    except TimeoutError:
        if result.cancel():
            raise TimeoutError(f"no connection within {seconds:g} s") from None
        return result.result()  # just in time, or the call's own


def look_up(host: str, port: int, seconds: float) -> None:
    """Look a name up before a connection to it is opened, which would wait for as long as it takes.

    Raises:
        TimeoutError: the system did not answer in time.
        OSError: there is no such name.
    """
    if threads_run() and _is_name(host):
        try:
            _look(host, port).result(max(seconds, 0))
        except TimeoutError:
            raise TimeoutError(f"no answer in time to where {host} is") from None


async def alook_up(host: str, port: int) -> None:
    """Do the same on an event loop, for as long as the caller lets it.

    The loop's own look-ups wait in the threads that the application's blocking calls need as well:
    a few that hang, and everything stands still.
    """
    if _is_name(host):
        await asyncio.wrap_future(_look(host, port))


def _is_name(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return not host.startswith("/")  # the path of a socket
    return False


_LookUps = dict[tuple[str, int], tuple[float, Future[object]]]  # when each was begun
_under_way: PerProcess[_LookUps] = PerProcess(dict)


def _look(host: str, port: int) -> Future[object]:
    """Return the look-up that is under way, unless it hangs, or a new one."""
    which, now, under_way = (host, port), time.monotonic(), _under_way.own()
    begun, looking = under_way.get(which, (0.0, None))
    if looking is not None and not looking.done() and now - begun < LOOK_AGAIN:
        return looking
    fresh: Future[object] = Future()
    fresh.set_running_or_notify_cancel()  # who no longer waits does not cancel it for the others
    under_way[which] = now, fresh

    def work() -> None:
        try:
            fresh.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001 - the same
            fresh.set_exception(error)

    _start(work)
    return fresh


def _start(work: Callable[[], None]) -> None:
    """Run it in a thread that does not keep the process from ending."""
    try:
        threading.Thread(target=work, name="sharedsession-connect", daemon=True).start()
    except RuntimeError:  # there are too many, or the interpreter is about to end
        work()
