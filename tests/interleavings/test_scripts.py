"""Random scripts, judged by rules written from the guarantees; `python -m tests.interleavings`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sharedsession._core import decide, flows, identity
from sharedsession._core.record import decode_record
from sharedsession._core.state import State
from sharedsession.stores.base import Entry

from .ledger import Violation
from .scripts import Case, Script, Store, explain, make, shrink, violation_of

RUNS, CHUNK = 4000, 500
ENOUGH = 6000  # runs in which a control must have been caught


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Outages are what these runs are made of."""
    caplog.set_level("CRITICAL", "sharedsession")


@pytest.mark.parametrize("first", range(0, RUNS, CHUNK))
def test_random_scripts_break_no_guarantee(first: int) -> None:
    """Whatever requests of a browser do, in any order and with any fault, each guarantee holds."""
    for seed in range(first, first + CHUNK):
        if violation_of(make(seed)) is not None:
            pytest.fail(explain(shrink(make(seed)), seed), pytrace=False)


def test_a_run_can_be_repeated() -> None:
    """A number stands for one run: the same steps, in the same order."""
    notes: list[list[str]] = [[], []]
    for each in notes:
        violation_of(make(17), notes=each)
    assert [len(each) for each in notes] == [len(notes[0])] * 2
    assert make(17) == make(17)


# --- found by random scripts, and kept ------------------------------------------------------------

BOTH = "alive"  # a second cookie, of another session
FOUND = {
    "an outage after a write, while another session is ended": Case(
        "signed in",
        (
            Script(
                (("mutate", "add"), ("sign out", "user_id"), ("commit", "")),
                second=BOTH,
                faults=((4, "refused"),),
            ),
        ),
    ),
    "an outage after a write that the store had repeated": Case(
        scripts=(
            Script((("mutate", "add"), ("commit", "")), faults=((2, "again"), (3, "cancelled"))),
        )
    ),
    "an outage on the way to the successor, and destroy() again": Case(
        scripts=(
            Script((("destroy",), ("commit", "")), faults=((4, "refused"),)),
            Script((("sign in", "user_id", "A"),)),
        ),
        at_once=True,
        order=(0, 1, 1, 1, 1),
    ),
    "a change inside a value that was assigned before a function ran": Case(
        "signed in",
        (
            Script(
                (("nested own",), ("mutate", "add"), ("nested own",), ("sign in", "user_id", "B"))
            ),
        ),
    ),
    "destroy(), a key and commit(), and the session had ended": Case(
        scripts=(Script((("destroy",), ("commit", "add"))), Script((("destroy",),))),
        at_once=True,
        order=(0, 1, 1, 1, 0),
    ),
    "reload() again, after one that found a renewal to have failed": Case(
        scripts=(
            Script(
                (("renew",), ("commit", ""), ("reload",), ("reload",)),
                faults=((2, "lost"), (6, "refused")),
            ),
            Script((("renew",),)),
        ),
        at_once=True,
        order=(0, 0, 0, 1, 1, 1, 1),
    ),
    "reload() of a session that has ended is no sign-out": Case(
        "signed in",
        (Script((("renew",),)), Script((("read",), ("reload",)), second=BOTH)),
        at_once=True,
        order=(1, 1, 0, 0, 0, 0),
    ),
    "a session of its own, ended again, and another sign-in's cookie": Case(
        scripts=(
            Script((("sign in", "user_id", "B"),)),
            Script((("sign in", "user_id", "A"), ("commit", ""), ("destroy",))),
        ),
        at_once=True,
        order=(1, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_random_scripts_have_found_stays_mended(name: str) -> None:
    """What once broke a guarantee does so no more."""
    case = FOUND[name]
    if violation_of(case) is not None:
        pytest.fail(explain(case), pytrace=False)


# --- controls: each of them must be caught --------------------------------------------------------


def is_in_doubt(case: Case) -> bool:
    """Whether a write may arrive late, in a request that asks what became of it."""
    return any(
        ("reload",) in each.steps and any("late" in fault for _, fault in each.faults)
        for each in case.scripts
    )


class LastWriterWins(Store):
    """A store whose replace does not compare."""

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        current = self.load(key)
        return None if current is None else super().replace(key, current, *arguments, **more)


class CreateThenDelete(Store):
    """A renewal that deletes the old session, where a tombstone should stand."""

    def replace(self, key: str, entry: Entry, data: bytes, *more: Any, **named: Any) -> Any:
        if getattr(decode_record(data)[0], "successor", None) is None:
            return super().replace(key, entry, data, *more, **named)
        self.delete(key)
        return entry


class NoFence(Store):
    """A store to which writing the same data means nothing: reload() only reads."""

    def replace(self, key: str, entry: Entry, data: bytes, *more: Any, **named: Any) -> Any:
        current = self.load(key)
        if current is not None and current.token == entry.token and current.data == data:
            return entry
        return super().replace(key, entry, data, *more, **named)


class BlindDelete(Store):
    """A full store's sign-out that removes whatever is under the key by now."""

    def delete(self, key: str, entry: Entry | None = None) -> bool:
        return super().delete(key)


@pytest.mark.parametrize(
    ("store_class", "rule", "such"),
    [
        (LastWriterWins, "G2: something stale was stored", None),
        (CreateThenDelete, "G3: ended without a tombstone", None),
        (NoFence, "G2: a write in doubt took place after reload()", is_in_doubt),
        (BlindDelete, "G3: a", lambda case: case.full),
    ],
)
def test_a_store_that_breaks_the_contract_is_caught(
    store_class: type[Store], rule: str, such: Callable[[Case], bool] | None
) -> None:
    """What compares nothing, marks nothing or fences nothing loses updates or sign-outs."""
    assert caught(rule, such, store_class=store_class)


def forgets_trouble(patch: pytest.MonkeyPatch) -> None:
    """A commit whose write was in doubt is made again, as it once was."""
    patch.setattr(State, "doubt", lambda state, error, key: None)


def removes_always(patch: pytest.MonkeyPatch) -> None:
    """The cookie of a session found ended is removed."""
    lose = State.lose

    def lose_and_remove(state: State, found: object = None) -> None:
        lose(state, found)
        state.removed = True

    patch.setattr(State, "lose", lose_and_remove)


def forgets_last_owner(patch: pytest.MonkeyPatch) -> None:
    """Whose session it was is nobody's business, as it once was."""
    patch.setattr(flows, "last_owner", lambda record, settings: None)


def sees_no_sign_in(patch: pytest.MonkeyPatch) -> None:
    """A request whose session has ended is turned away, sign-in or not."""
    patch.setattr(decide, "signs_in", lambda outcome, settings, *, by_owner=False: False)


def renews_for_no_name(patch: pytest.MonkeyPatch) -> None:
    """A sign-in under any key but the owner's leaves the ID as it is, as it once did."""
    patch.setattr(identity, "new_identities", lambda before, data, names: [])


@pytest.mark.parametrize(
    ("control", "rule"),
    [
        (forgets_trouble, "G2: stored after a failure"),
        (removes_always, "G5: a removal cookie without an end"),
        (forgets_last_owner, "G5: another user's data went along"),
        (sees_no_sign_in, "G5: a sign-in was lost"),
        (renews_for_no_name, "G5: signed in under the same ID"),
    ],
)
def test_an_old_behaviour_is_caught(
    control: Any, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core as it was, in one respect each, breaks a guarantee, and the judge says which."""
    control(monkeypatch)
    assert caught(rule)


def caught(rule: str, such: Callable[[Case], bool] | None = None, **more: Any) -> Violation | None:
    """Return the first violation of a rule, if there is one in these cases."""
    for case in map(make, range(ENOUGH)):
        violation = violation_of(case, **more) if such is None or such(case) else None
        if violation is not None and violation.rule.startswith(rule):
            return violation
    return None
