"""What the event loops' own ways of cancelling make of work that must come to its end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from sharedsession._core import runtime

TURNS = 1000  # of the event loop, while the work goes on


async def turn(ends: asyncio.Event) -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
    ends.set()


class Counted(asyncio.Task[Any]):
    """A task that counts how often it is cancelled."""

    cancelled_times = 0

    def cancel(self, msg: Any = None) -> bool:
        self.cancelled_times += 1
        return super().cancel(msg)


def test_work_in_a_cancelled_scope_of_anyio_wakes_nobody_until_it_is_done() -> None:
    """It is cancelled once at most, not on each turn of the loop; and it comes to its end."""

    async def main() -> tuple[int, bool]:
        ends, done = asyncio.Event(), False

        async def work() -> None:
            nonlocal done
            await ends.wait()
            done = True

        async def serve() -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await runtime.current().to_the_end(work())

        serving = Counted(serve(), loop=asyncio.get_running_loop())
        await turn(ends)
        await serving
        return serving.cancelled_times, done

    cancelled, done = asyncio.run(main())
    assert done
    assert cancelled < 2


@pytest.mark.parametrize("times", [1, 3])
def test_work_comes_to_its_end_in_spite_of_cancellations(times: int) -> None:
    """However often the task is cancelled; what cancelled it is raised afterwards."""

    async def main() -> bool:
        ends, done = asyncio.Event(), False

        async def work() -> None:
            nonlocal done
            await ends.wait()
            done = True

        task = asyncio.create_task(runtime.current().to_the_end(work()))
        for _ in range(times):
            await asyncio.sleep(0)
            task.cancel()
        await turn(ends)
        with pytest.raises(asyncio.CancelledError):
            await task
        return done

    assert asyncio.run(main())


def test_two_calls_at_a_time_need_a_handful_of_threads() -> None:
    """However many there are one after another, a thread that waits is not forgotten."""
    calls, interval = runtime.OwnThreads(), sys.getswitchinterval()
    before = {*threading.enumerate()}
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3000):
            done = threading.Event()
            first = calls.submit(done.wait)
            done.set()  # a thread becomes free while the next call comes
            assert calls.submit(int).result() == 0
            assert first.result()
    finally:
        sys.setswitchinterval(interval)
    begun = len({*threading.enumerate()} - before)
    calls.shutdown()
    assert begun < 6


# --- deadlines ------------------------------------------------------------------------------------


async def by_asyncio(seconds: float, work: Awaitable[Any]) -> Any:
    """What `within` is to do, by asyncio's own means."""
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await work
    except TimeoutError:
        if deadline.expired():
            raise runtime.DeadlinePassed from None
        raise


Within = Callable[[float, Awaitable[Any]], Awaitable[Any]]
LONG = 60.0


async def quick(_within: Within) -> str:
    await asyncio.sleep(0)
    return "done"


async def for_ever(_within: Within) -> None:
    await asyncio.Event().wait()


async def deaf(_within: Within) -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "in spite of it"


async def failing(_within: Within) -> None:
    await asyncio.sleep(0)
    raise TimeoutError("its own")


async def failing_late(_within: Within) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("while it was cancelled")


async def inside_shorter(within: Within) -> str:
    try:
        await within(0.01, for_ever(within))
    except runtime.DeadlinePassed:
        return "the inner one"
    return "neither"


async def inside_longer(within: Within) -> str:
    await within(LONG, for_ever(within))
    return "neither"


ENDLESS = (for_ever, deaf, failing_late, inside_longer)
SHORT = 0.03  # the deadline passes, where the work does not end by itself
CASES = [
    *((work, SHORT, how) for work in ENDLESS for how in (None, "before", "at the same time")),
    *((work, LONG, how) for work in ENDLESS for how in ("before", "meanwhile")),
    *(
        (work, LONG, how)
        for work in (quick, failing, inside_shorter)
        for how in (None, "before", "meanwhile")
    ),
]


@pytest.mark.parametrize(
    ("work", "seconds", "cancelled"),
    CASES,
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_a_deadline_is_as_asyncios_own(
    work: Callable[[Within], Awaitable[Any]], seconds: float, cancelled: str | None
) -> None:
    """Whatever the work does, and whoever cancels the task as well: what is raised or returned, and
    whether the task counts as cancelled afterwards, is what it is with `asyncio.timeout`."""
    loop = asyncio.new_event_loop()

    async def outcome(within: Within) -> tuple[object, ...]:
        task = asyncio.current_task()
        assert task is not None
        if cancelled == "before":
            task.cancel()
        elif cancelled == "meanwhile":
            loop.call_soon(task.cancel)
        elif cancelled is not None:
            loop.call_later(seconds, task.cancel)
        try:
            result: object = await within(seconds, work(within))
        except BaseException as error:  # noqa: BLE001 - compared
            result = type(error)
        return result, task.cancelling()

    try:
        found = [loop.run_until_complete(outcome(each)) for each in BOTH]
    finally:
        loop.close()
    ours, theirs = found
    if cancelled == "at the same time":  # which of the two is first is chance
        assert ours[1] == theirs[1]
    else:
        assert ours == theirs


BOTH: tuple[Within, ...] = (runtime.ASYNCIO.within, by_asyncio)


def test_all_deadlines_of_a_loop_share_one_timer() -> None:
    """A thousand calls, a hundred at a time, set no more timers than moments to look at them."""

    class Loop(asyncio.SelectorEventLoop):
        timers = 0

        def call_at(self, *arguments: Any, **options: Any) -> Any:
            self.timers += 1
            return super().call_at(*arguments, **options)

    async def call() -> None:
        for _ in range(10):
            await runtime.ASYNCIO.within(LONG, asyncio.sleep(0))

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(100)))

    with asyncio.Runner(loop_factory=Loop) as runner:
        began = time.monotonic()
        runner.run(main())
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        assert loop.timers <= 2 + (time.monotonic() - began) / runtime.TICK


def test_a_loop_that_was_closed_is_let_go() -> None:
    """Also with a call under way, which nothing will end any more."""

    async def leave() -> None:
        asyncio.get_running_loop().create_task(runtime.ASYNCIO.within(LONG, for_ever(by_asyncio)))
        await asyncio.sleep(0.001)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of the task that is destroyed
    loop.run_until_complete(leave())
    loop.close()
    left = weakref.ref(loop)
    del loop
    gc.collect()
    assert left() is None


def test_a_deadline_is_noticed_beside_one_that_cannot_be() -> None:
    """A future of a client library that refuses to be cancelled harms nothing but its own task."""

    class Stubborn(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise RuntimeError("as the test says")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        stubborn = Stubborn()
        beside = loop.create_task(runtime.ASYNCIO.within(0.01, stubborn))
        await asyncio.sleep(0.05)
        with pytest.raises(runtime.DeadlinePassed):
            await asyncio.wait_for(runtime.ASYNCIO.within(0.02, for_ever(by_asyncio)), 30)
        stubborn.set_result(None)
        await beside

    asyncio.run(main())


def test_the_timer_holds_on_to_no_request() -> None:
    """What a request has in its context variables is gone with it, however busy the loop is."""

    class Held:
        pass

    variable: contextvars.ContextVar[Held] = contextvars.ContextVar("variable")

    async def first() -> weakref.ref[Held]:
        held = Held()
        variable.set(held)
        await runtime.ASYNCIO.within(LONG, asyncio.sleep(0.02))
        return weakref.ref(held)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(first())
        await asyncio.sleep(0)
        beside = loop.create_task(runtime.ASYNCIO.within(LONG, asyncio.sleep(0.2)))
        left = await task
        del task
        await asyncio.sleep(0.05)
        gc.collect()
        assert left() is None
        await beside

    asyncio.run(main())
