"""Adoption: one old session becomes one session of ours, in every order of the steps.

As the guide on moving in promises it: nothing is lost, no one is signed out, and an old cookie that
was kept is worth nothing after the sign-out.
"""

from __future__ import annotations

import pytest

from .adoption import (
    DATA,
    LOST,
    OLD_LIFETIME,
    REFUSED,
    AdoptionWorld,
    Request,
    orders,
    random_orders,
    reading,
    run,
    setting,
    signing_out,
)

STEPS = 10  # a request that adopts and writes takes fewer
RECORDS = pytest.mark.parametrize("has_records", [True, False], ids=["records", "in the cookie"])


def check_all_is_one(world: AdoptionWorld, requests: list[Request]) -> None:
    """Check that every request that was answered has the one session, and its change is there."""
    done = [each for each in requests if each.is_done]
    assert all(DATA.items() <= (each.found or {}).items() for each in done), "signed out"
    assert len({each.key for each in done}) <= 1, "two sessions out of one"
    for each in done:
        assert each.key is not None
        data = world.live_sessions()[each.key]
        assert each.name == "r" or each.name in data, "an answered change is lost"


@RECORDS
def test_two_requests_in_every_order(has_records: bool) -> None:
    """Two first requests at once end on one session, with the changes of both, in every order."""
    alone = AdoptionWorld(has_records=has_records).at_once(setting("a"))
    assert alone.is_done
    runs = 0
    for order in orders([alone.calls, alone.calls]):
        world = AdoptionWorld(has_records=has_records)
        pair = [Request(world, setting("a"), "a"), Request(world, setting("b"), "b")]
        run(pair, order)
        assert all(each.is_done for each in pair)
        check_all_is_one(world, pair)
        assert len(world.live_sessions()) == 1, "an orphan"
        assert world.old.record is None or not has_records
        runs += 1
    assert runs > 3000


@RECORDS
def test_three_requests_in_many_orders(has_records: bool) -> None:
    """The same of three requests, one of which only reads, in orders drawn at random."""
    for order in random_orders(3, seed=1, runs=1500):
        world = AdoptionWorld(has_records=has_records)
        three = [
            Request(world, setting("a"), "a"),
            Request(world, setting("b"), "b"),
            Request(world, reading, "r"),
        ]
        run(three, order)
        assert all(each.is_done for each in three)
        check_all_is_one(world, three)
        assert len(world.live_sessions()) == 1, "an orphan"


@RECORDS
@pytest.mark.parametrize("fate", [LOST, REFUSED])
@pytest.mark.parametrize("call", range(1, STEPS))
def test_an_outage_at_each_call_loses_nothing(has_records: bool, fate: str, call: int) -> None:
    """Whichever call of either store fails, the next request with the old cookie is signed in."""
    for order in random_orders(2, seed=call, runs=60):
        world = AdoptionWorld(has_records=has_records, fates={("a", call): fate})
        pair = [Request(world, setting("a"), "a"), Request(world, setting("b"), "b")]
        run(pair, order)
        check_all_is_one(world, pair)
        later = world.at_once(setting("c"), name="c")
        check_all_is_one(world, [*pair, later])
        assert later.is_done


@RECORDS
@pytest.mark.parametrize("taken", range(STEPS))
def test_a_stop_after_each_step_loses_nothing(has_records: bool, taken: int) -> None:
    """A server that dies after any step signs no one out: the next request adopts, or finds it."""
    world = AdoptionWorld(has_records=has_records)
    run([stopped := Request(world, setting("a"), "a")], [0] * taken, stop="a")
    later = world.at_once(setting("b"), name="b")
    assert later.is_done
    check_all_is_one(world, [later])
    if stopped.is_done:
        check_all_is_one(world, [stopped, later])


@RECORDS
@pytest.mark.parametrize("seconds", [0, 360], ids=["at once", "six minutes later"])
@pytest.mark.parametrize("saves", [False, True], ids=["", "an old server saves once more"])
def test_a_kept_cookie_is_dead_after_the_sign_out(
    has_records: bool, seconds: float, saves: bool
) -> None:
    """After a sign-out the old cookie is worth nothing, whatever an old server saves meanwhile."""
    world = AdoptionWorld(has_records=has_records)
    first = world.at_once(setting("a"))
    assert first.answer is not None
    assert world.at_once(signing_out, [first.answer]).is_done
    world.clock.now += seconds
    if saves:
        world.old.record = dict(DATA)
    later = world.at_once(setting("b"))
    assert later.found == {}
    assert world.old.record is None or not has_records
    assert all("user_id" not in data for data in world.live_sessions().values())


@RECORDS
def test_a_kept_cookie_is_dead_after_the_idle_end(has_records: bool) -> None:
    """A session that has ended by its idle timeout is not adopted anew from the old cookie."""
    world = AdoptionWorld(has_records=has_records)
    assert world.at_once(setting("a")).is_done
    world.clock.now += IDLE_END
    world.old.record = dict(DATA)
    assert world.at_once(setting("b")).found == {}


IDLE_END = 2000.0  # more than a lifetime of ours, less than one of the old package's
assert IDLE_END < OLD_LIFETIME


@RECORDS
def test_a_sign_out_meets_requests_on_their_way(has_records: bool) -> None:
    """A request that adopts beside the sign-out of the same old session leaves none behind."""
    for order in random_orders(2, seed=3, runs=800):
        world = AdoptionWorld(has_records=has_records)
        out, other = Request(world, signing_out, "out"), Request(world, setting("b"), "b")
        run([out, other], order)
        assert out.is_done
        assert other.is_done
        assert not world.live_sessions(), "alive after its sign-out"
        world.clock.now += 360
        assert world.at_once(reading).found == {}


@RECORDS
def test_a_sign_out_ends_an_old_session_that_is_shown_beside_ours(has_records: bool) -> None:
    """An old cookie that comes with one of ours is dead after the sign-out, adopted or not."""
    world = AdoptionWorld(has_records=has_records)
    ours = world.at_once(setting("user_id"), old=False)
    assert ours.answer is not None
    assert world.at_once(signing_out, [ours.answer]).is_done
    assert world.old.record is None or not has_records
    world.old.record = dict(DATA)
    assert world.at_once(reading).found == {}


def test_a_read_hands_the_cookie_out() -> None:
    """The client gets its cookie with the first answer of a request that used its session."""
    world = AdoptionWorld()
    first = world.at_once(reading)
    assert first.answer is not None
    again = world.at_once(reading, [first.answer])
    assert again.key == first.key
