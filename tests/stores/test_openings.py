"""The connections of a store: how many there are, who is given one, and when each is closed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sharedsession._core.per_process import PerProcess
from sharedsession.stores._support import ages
from sharedsession.stores._support.deadline import within
from sharedsession.stores._support.openings import OVERDUE, AsyncOpenings, Openings
from sharedsession.testing.stores import race
from tests.support.redis_servers import until


class Place:
    """Where connections, which are numbers here, are opened: at once, later, or not at all."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.open_now = threading.Event()
        self.open_now.set()
        self.refusal: Exception | None = None
        self.under_way = self.most_at_once = 0
        self._lock = threading.Lock()

    def open(self) -> int:
        with self._lock:
            self.under_way += 1
            self._count()
        self.open_now.wait(10)
        with self._lock:
            self.under_way -= 1
            if self.refusal is not None:
                raise self.refusal
            self.opened.append(len(self.opened))
            self._count()
            return self.opened[-1]

    def close(self, connection: int) -> None:
        with self._lock:
            self.closed.append(connection)

    def _count(self) -> None:
        there = len(self.opened) - len(self.closed) + self.under_way
        self.most_at_once = max(self.most_at_once, there)


@pytest.fixture
def place() -> Place:
    return Place()


def openings(place: Place, most: int = 2) -> Openings[int]:
    return Openings(place.open, place.close, most, 10.0)


def test_a_connection_that_was_given_back_is_taken_again(place: Place) -> None:
    """The one that was in use last: the others are idle, and the server may close them."""
    held = openings(place, 3)
    first, second = held.take(), held.take()
    held.give_back(first)
    held.give_back(second)
    assert held.take() is second
    assert held.take() is first
    assert place.opened == [0, 1]


def test_a_connection_that_is_discarded_is_closed(place: Place) -> None:
    """What it would answer next is not known, so the next caller has another one."""
    held = openings(place, 1)
    held.discard(held.take())
    assert place.closed == [0]
    assert held.take().connection == 1


def test_no_more_than_so_many_at_once(place: Place) -> None:
    """However many threads want one, and each of them is served."""
    held = openings(place, 3)

    def use() -> bool:
        for _ in range(50):
            with within(10.0):
                one = held.take()
            time.sleep(0)
            held.give_back(one)
        return True

    assert race([use] * 12) == [True] * 12
    assert place.most_at_once <= 3


def test_a_waiting_caller_takes_the_next_that_is_given_back(place: Place) -> None:
    """It does not wait for one of its own."""
    held = openings(place, 1)
    one = held.take()
    given: list[object] = []
    with_time = threading.Thread(target=lambda: given.append(take_within(held, 10.0)))
    with_time.start()
    time.sleep(0.05)
    held.give_back(one)
    with_time.join(10)
    assert given == [one]


def take_within(held: Openings[int], seconds: float) -> Any:
    with within(seconds):
        return held.take()


def test_a_caller_without_time_gives_up(place: Place) -> None:
    """And what was opened for it is there for the next one."""
    place.open_now.clear()
    held = openings(place)
    with pytest.raises(TimeoutError):
        take_within(held, 0.05)
    place.open_now.set()
    until(lambda: place.opened == [0], "it is opened")
    assert take_within(held, 10.0).connection == 0
    assert place.opened == [0]


def test_callers_that_give_up_leave_few_openings_behind(place: Place) -> None:
    """A hundred tries while a server hangs: as many openings as it may have connections, and one
    more, because the first may be dead."""
    place.open_now.clear()
    held = openings(place, 4)
    for _ in range(20):
        race([lambda: attempt(held)] * 5)
    assert place.under_way == 5
    place.open_now.set()
    until(lambda: len(place.opened) == 5, "they are opened")
    until(lambda: len(place.closed) == 1, "the one too many is closed")


def attempt(held: Openings[int]) -> None:
    with pytest.raises(TimeoutError):
        take_within(held, 0.02)


def test_beside_an_opening_that_hangs_another_one_is_tried(place: Place) -> None:
    """Its server may be dead, and another one in its place: the first call after that works."""
    place.open_now.clear()
    held = openings(place, 1)
    with pytest.raises(TimeoutError):
        take_within(held, 0.05)
    time.sleep(OVERDUE)
    hanging, place.open_now = place.open_now, threading.Event()
    place.open_now.set()
    assert take_within(held, 10.0).connection == 0
    hanging.set()
    until(lambda: place.closed == [1], "the late one is closed")


def test_a_refusal_is_for_the_caller_it_was_opened_for(place: Place) -> None:
    """At once, and the next try is made anew."""
    place.refusal = ConnectionRefusedError("nothing listens there")
    held = openings(place, 1)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError, match="nothing listens"):
            take_within(held, 10.0)
    place.refusal = None
    assert take_within(held, 10.0).connection == 0


def test_a_caller_whose_opening_has_served_another_is_not_forgotten() -> None:
    """The first one's own fails after that; another one is opened for the second."""
    gates, begun, lock = [threading.Event(), threading.Event()], [0], threading.Lock()

    def open_one() -> int:
        with lock:
            number = begun[0]
            begun[0] += 1
        if number < len(gates):
            gates[number].wait(10)
        if number == 0:
            raise ConnectionRefusedError
        return number

    held = Openings(open_one, lambda _: None, 4, 10.0)
    given: list[int] = []
    callers = [
        threading.Thread(target=lambda: given.append(take_within(held, 5.0).connection))
        for _ in range(2)
    ]
    for number, caller in enumerate(callers):
        caller.start()
        until(lambda number=number: begun[0] == number + 1, "it is being opened")  # type: ignore[misc]
    gates[1].set()
    until(lambda: given == [1, 2], "the first has the second one's, which has another one")
    gates[0].set()
    for caller in callers:
        caller.join()


def test_no_more_are_opened_than_callers_wait(place: Place) -> None:
    """Whichever caller each is given to: one too many would be idle until it leads elsewhere."""
    held = openings(place, 20)
    assert len({one.connection for one in race([held.take] * 8)}) == 8
    assert len(place.opened) == 8


def test_closing_keeps_no_caller_waiting(place: Place) -> None:
    """What was under way is closed, and opened anew for the one that waits for it."""
    place.open_now.clear()
    held = openings(place)
    given: list[int] = []
    caller = threading.Thread(target=lambda: given.append(take_within(held, 5.0).connection))
    caller.start()
    until(lambda: place.under_way == 1, "it is being opened")
    held.close()
    place.open_now.set()
    caller.join(10)
    assert given == [1]
    assert place.closed == [0]


def test_a_close_that_raises_makes_room_all_the_same(place: Place) -> None:
    """As a signal may that comes at that moment."""

    def close(_: int) -> None:
        raise KeyboardInterrupt

    held = Openings(place.open, close, 1, 10.0)
    with pytest.raises(KeyboardInterrupt):
        held.discard(held.take())
    assert take_within(held, 5.0).connection == 1


def test_without_a_thread_the_caller_opens_it_itself(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be too many of them, or the interpreter is about to end."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    held = openings(place, 1)
    assert held.take().connection == 0


def test_after_a_renewal_every_connection_is_another_one(place: Place) -> None:
    """What is idle is closed when it is next wanted, what is in use when it is given back."""
    held = openings(place, 3)
    in_use, idle = held.take(), held.take()
    held.give_back(idle)
    held.renew()
    assert held.take().connection == 2
    assert place.closed == [1]
    held.give_back(in_use)
    assert place.closed == [1, 0]


def test_connections_grow_old(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may lead elsewhere by then."""
    monkeypatch.setattr(ages, "CONNECTION_AGE", 0.05)
    held = openings(place, 1)
    held.give_back(held.take())
    time.sleep(0.06)
    assert held.take().connection == 1


def test_closing_closes_what_is_idle_in_use_and_under_way(place: Place) -> None:
    """And opens again for a caller that comes later."""
    held = openings(place, 3)
    idle, in_use = held.take(), held.take()
    held.give_back(idle)
    place.open_now.clear()
    other = held.take()
    assert other is idle
    with pytest.raises(TimeoutError):
        take_within(held, 0.05)
    held.give_back(other)
    held.close()
    assert place.closed == [0]
    held.give_back(in_use)
    place.open_now.set()
    until(lambda: sorted(place.closed) == [0, 1, 2], "all are closed")
    assert held.take().connection == 3


def test_those_that_were_handed_over_count(place: Place) -> None:
    """Another pool keeps them, which says how many of them there are."""
    elsewhere: list[int] = []
    held = Openings(place.open, place.close, 2, 10.0, lambda: len(elsewhere))
    for _ in range(2):
        one = held.take()
        elsewhere.append(one.connection)
        held.hand_over(one)
    with pytest.raises(TimeoutError):
        take_within(held, 0.05)
    del elsewhere[0]
    assert take_within(held, 10.0).connection == 2


# an event loop


def on_a_loop(scenario: Callable[[AsyncOpenings[int], Place], Any], most: int = 2) -> None:
    place = Place()

    async def open_one() -> int:
        place.under_way += 1
        try:
            while not place.open_now.is_set():  # noqa: ASYNC110 - an event of threads
                await asyncio.sleep(0.01)
        finally:
            place.under_way -= 1
        place.opened.append(len(place.opened))
        return place.opened[-1]

    async def run() -> None:
        held = AsyncOpenings(open_one, place.close, most, 10.0)
        await scenario(held, place)
        held.tasks.hang_up()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_tasks_that_are_cancelled_lose_no_connection() -> None:
    """Whether they wait for one, or have just been given one."""

    async def scenario(held: AsyncOpenings[int], place: Place) -> None:
        for round_ in range(200):
            one = await held.take()
            waiting = [asyncio.create_task(held.take()) for _ in range(3)]
            await asyncio.sleep(0)
            held.give_back(one)
            for turn, task in enumerate(waiting):
                if (turn + round_) % 2:
                    task.cancel()
            for task in waiting:
                try:
                    held.give_back(await task)
                except asyncio.CancelledError:
                    assert task.cancelled()
        assert len(place.opened) - len(place.closed) <= 2
        assert {(await held.take()).connection for _ in range(2)} <= {0, 1}

    on_a_loop(scenario)


def test_tasks_that_give_up_leave_few_openings_behind() -> None:
    """As for threads."""

    async def scenario(held: AsyncOpenings[int], place: Place) -> None:
        place.open_now.clear()
        for _ in range(15):
            tries = [asyncio.wait_for(held.take(), 0.02) for _ in range(5)]
            answers = await asyncio.gather(*tries, return_exceptions=True)
            assert all(isinstance(answer, TimeoutError) for answer in answers)
        assert place.under_way == 4
        place.open_now.set()
        assert (await held.take()).connection in (0, 1, 2, 3)

    on_a_loop(scenario, 3)


def test_an_opening_that_is_cancelled_takes_the_place_of_no_other() -> None:
    """Its caller is told; the next one has a connection opened for it."""

    async def scenario(held: AsyncOpenings[int], place: Place) -> None:
        place.open_now.clear()
        waiting = [asyncio.create_task(held.take()) for _ in range(2)]
        await asyncio.sleep(0.01)
        held.tasks.hang_up()
        place.open_now.set()
        with pytest.raises(ConnectionError, match="closing"):
            await waiting[0]
        assert (await asyncio.wait_for(waiting[1], 5.0)).connection == 0

    on_a_loop(scenario, 1)


# a process


def test_a_child_has_its_own_and_leaves_its_parents_alone(place: Place) -> None:
    """It neither uses nor closes them."""
    own: PerProcess[Openings[int]] = PerProcess(lambda: openings(place))
    own.own().give_back(own.own().take())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        nothing_yet = own.known() is None
        taken = own.own().take().connection
        os.write(writing, repr((nothing_yet, taken, place.closed)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"(True, 1, [])"
    os.close(reading)
    os.close(writing)
    assert own.own().take().connection == 0


def test_threads_of_a_new_child_have_the_same_one() -> None:
    """Its first requests come at once, and it is made once."""
    parent = os.getpid()
    made: list[int] = []

    def make() -> object:
        made.append(os.getpid())
        if os.getpid() != parent:
            time.sleep(0.1)  # the others have seen meanwhile that they are in a child
        return object()

    own = PerProcess(make)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = race([own.own] * 8)
        different = {id(each) for each in [*found, own.own()]}
        os.write(writing, repr((len(different), made == [parent, os.getpid()])).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"(1, True)"
    os.close(reading)
    os.close(writing)
