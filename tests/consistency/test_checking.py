"""The judge itself: what is allowed passes, and each wrong history is caught by its own rule.

Histories are written as rows, ``at(begin, end)`` in milliseconds, numbered from 1 on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from .checking import Rule, check
from .history import Cookie, History, Kind, Operation, Outcome, Period, Shown, told

READ, WRITE, MUTATE, PAY = Kind.READ, Kind.WRITE, Kind.MUTATE, Kind.PAY
SIGN_OVER = Kind.SIGN_OVER
RENEW, SIGN_IN, SIGN_OUT, SWITCH = Kind.RENEW, Kind.SIGN_IN, Kind.SIGN_OUT, Kind.SWITCH
NOTHING = None


def _cookie(text: str | None) -> Cookie | None:
    """``"A"`` or, where they matter, ``"A3"`` with the version, ``"A3@10"`` with the time."""
    if text is None:
        return None
    name, _, time = text.partition("@")
    return Cookie(name[0], int(name[1:] or 1), int(time) if time else None)


@dataclass
class at:  # noqa: N801 - a row of a history reads better so
    begin: float
    end: float

    def __call__(
        self,
        kind: Kind,
        sent: str | None,
        shown: Shown | None = None,
        *,
        given: str | None = None,
        key: str | None = None,
        sure: bool | None = None,
        outcome: Outcome = Outcome.ACKNOWLEDGED,
        also: str | None = None,
        server: str = "",
        request: int = 0,
    ) -> Operation:
        cookie, new = _cookie(sent), _cookie(given)
        begin = self.begin / 1000
        end = self.end / 1000 if outcome is not Outcome.UNKNOWN else math.inf
        sure = kind is not READ if sure is None else sure
        made = Operation(0, kind, begin, cookie, key, end, outcome, sure, shown, new)
        beside = _cookie(also)
        made.also = () if beside is None else (beside,)
        made.server, made.request = server, request
        return made

    def unknown(self, kind: Kind, sent: str | None, key: str | None = None) -> Operation:
        return self(kind, sent, key=key, outcome=Outcome.UNKNOWN)

    def refused(self, kind: Kind, sent: str | None) -> Operation:
        """Answered 503, at the end."""
        made = self.unknown(kind, sent)
        made.refused_at = self.end / 1000
        return made

    def never_sent(self, kind: Kind, sent: str | None) -> Operation:
        return self(kind, sent, outcome=Outcome.FAILED)


def holds(
    life: int, *done: int, who: str | None = "me", coins: int | None = None, **keys: int
) -> Shown:
    return Shown(who, life, done, keys, coins)


def history(*operations: Operation) -> History:
    made = History("me")
    for number, each in enumerate(operations, 1):
        each.number = number
        made.operations.append(each)
    return made


SIGNED_IN = (SIGN_IN, None, holds(1))  # the first row, most often: life 1, under cookie A


def begun(*operations: Operation) -> History:
    return history(at(0, 1)(*SIGNED_IN, given="A"), *operations)


GOOD: dict[str, History] = {
    "nothing at all": history(),
    "each sees what went before": begun(
        at(2, 3)(MUTATE, "A", holds(1, 2)),
        at(4, 5)(WRITE, "A", holds(1, 2, k=3), key="k"),
        at(6, 7)(READ, "A", holds(1, 2, k=3)),
    ),
    "who asks before the answer may see the old": begun(
        at(2, 5)(MUTATE, "A", holds(1, 2)),
        at(4, 6)(READ, "A", holds(1)),
    ),
    "a cookie goes on from version to version": begun(
        at(2, 3)(WRITE, "A", holds(1, k=2), key="k", given="A2"),
        at(4, 5)(READ, "A", holds(1, k=2), given="A2"),
        at(6, 7)(READ, "A2", holds(1, k=2)),
    ),
    "of two writes at the same time either wins": begun(
        at(2, 5)(WRITE, "A", holds(1, k=2), key="k"),
        at(3, 6)(WRITE, "A", holds(1, k=3), key="k"),
        at(7, 8)(READ, "A", holds(1, k=2)),
    ),
    "an unknown change happens late": begun(
        at(2, 3).unknown(MUTATE, "A"),
        at(4, 5)(READ, "A", holds(1)),
        at(6, 7)(READ, "A", holds(1, 2)),
    ),
    "an unknown write happens late": begun(
        at(2, 3).unknown(WRITE, "A", "k"),
        at(4, 5)(WRITE, "A", holds(1, k=3), key="k"),
        at(6, 7)(READ, "A", holds(1, k=2)),
    ),
    "an unknown change never happens": begun(
        at(2, 3).unknown(MUTATE, "A"),
        at(4, 5)(READ, "A", holds(1)),
    ),
    "a renewal keeps everything": begun(
        at(2, 3)(MUTATE, "A", holds(1, 2)),
        at(4, 5)(RENEW, "A", holds(1, 2), given="B"),
        at(6, 7)(READ, "A", NOTHING),
        at(6, 7)(READ, "B", holds(1, 2)),
    ),
    "a change without commit() is dropped by a renewal that runs beside it": begun(
        at(2, 5)(MUTATE, "A", holds(1, 2), sure=False),
        at(3, 4)(RENEW, "A", holds(1), given="B"),
        at(6, 7)(READ, "B", holds(1)),
    ),
    "an unknown renewal may end the session at any time": begun(
        at(2, 3).unknown(RENEW, "A"),
        at(4, 5)(READ, "A", holds(1)),
        at(6, 7)(READ, "A", NOTHING),
    ),
    "the old cookie shows a session while the renewal runs": begun(
        at(2, 6)(RENEW, "A", holds(1), given="B"),
        at(5, 7)(READ, "A", holds(1)),
    ),
    "of two renewals one finds nothing": begun(
        at(2, 5)(RENEW, "A", holds(1), given="B"),
        at(2, 5)(RENEW, "A", NOTHING),
        at(6, 7)(READ, "B", holds(1)),
    ),
    "two sign-ins at once are two sign-ins": history(
        at(0, 3)(SIGN_IN, None, holds(1), given="A"),
        at(1, 2)(SIGN_IN, None, holds(2), given="B"),
        at(4, 5)(READ, "A", holds(1)),
        at(4, 5)(READ, "B", holds(2)),
    ),
    "a sign-in beside a sign-out may leave no session": begun(
        at(2, 5)(SIGN_IN, "A", holds(2), sure=False),
        at(3, 4)(SIGN_OUT, "A"),
    ),
    "a sign-out ends what its session has become": begun(
        at(2, 5)(RENEW, "A", holds(1), given="B"),
        at(3, 4)(SIGN_OUT, "A"),
        at(6, 7)(READ, "B", NOTHING),
    ),
    "a sign-out beside a sign-in may end it": begun(
        at(2, 5)(SIGN_IN, "A", holds(2), given="B"),
        at(3, 6)(SIGN_OUT, "A"),
        at(7, 8)(READ, "B", NOTHING),
    ),
    "a switch ends what its session has become": begun(
        at(2, 5)(RENEW, "A", holds(1), given="B"),
        at(3, 6)(SWITCH, "A", holds(3), given="C"),
        at(7, 8)(READ, "B", NOTHING),
        at(7, 8)(READ, "C", holds(3)),
    ),
    "an unknown sign-out may never happen": begun(
        at(2, 3).unknown(SIGN_OUT, "A"),
        at(4, 5)(READ, "A", holds(1)),
    ),
    "a payment takes a coin": begun(
        at(2, 3)(PAY, "A", holds(1, 2, coins=1)),
        at(4, 5)(MUTATE, "A", holds(1, 2, 3, coins=1)),
    ),
    "what is refused leaves nothing": begun(
        at(2, 3).never_sent(PAY, "A"),
        at(4, 5)(READ, "A", holds(1, coins=2)),
    ),
    "what is dropped with the rest of its request was never there": begun(
        at(2, 6)(RENEW, "A", holds(1), given="B"),
        at(3, 5)(RENEW, "A", holds(1, 4), sure=False, request=3),
        at(3, 5)(MUTATE, "A", holds(1, 4), sure=False, request=3),
        at(7, 8)(READ, "B", holds(1)),
    ),
    "a sign-out ends the sessions of both cookies": history(
        at(0, 3)(SIGN_IN, None, holds(1), given="A"),
        at(1, 2)(SIGN_IN, None, holds(2), given="B"),
        at(4, 5)(SIGN_OUT, "A", also="B"),
        at(6, 7)(READ, "A", NOTHING),
        at(6, 7)(READ, "B", NOTHING),
    ),
    "who signs in over another user still sees what that one has left": begun(
        at(2, 3)(WRITE, "A", holds(1, k=2), key="k"),
        at(4, 5)(SIGN_OVER, "A", holds(3, k=2), given="B", sure=False),
        at(6, 7)(READ, "B", holds(3)),
    ),
    "after a sign-out there is nothing": begun(
        at(2, 3)(SIGN_OUT, "A"),
        at(4, 5)(READ, "A", NOTHING),
        at(6, 7)(SIGN_IN, "A", holds(4), given="B"),
        at(8, 9)(READ, "B", holds(4)),
    ),
}

BAD: dict[str, tuple[Rule, History]] = {
    "an own change is missing, once": (
        Rule.READ_YOUR_WRITES,
        begun(
            at(2, 3)(MUTATE, "A", holds(1, 2)),
            at(4, 5)(READ, "A", holds(1)),
            at(6, 7)(READ, "A", holds(1, 2)),
        ),
    ),
    "an own write is missing, once": (
        Rule.READ_YOUR_WRITES,
        begun(
            at(2, 3)(WRITE, "A", holds(1, k=2), key="k"),
            at(4, 5)(WRITE, "A", holds(1, k=3), key="k"),
            at(6, 7)(READ, "A", holds(1, k=2)),
            at(8, 9)(READ, "A", holds(1, k=3)),
        ),
    ),
    "the whole session is missing, once": (
        Rule.READ_YOUR_WRITES,
        begun(at(2, 3)(READ, "A", NOTHING), at(4, 5)(READ, "A", holds(1))),
    ),
    "what was seen is gone": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 9)(MUTATE, "A", holds(1, 2)),
            at(3, 4)(READ, "A", holds(1, 2)),
            at(5, 6)(READ, "A", holds(1)),
        ),
    ),
    "an unknown change that was seen is gone": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 3).unknown(MUTATE, "A"),
            at(4, 5)(READ, "A", holds(1, 2)),
            at(6, 7)(READ, "A", holds(1)),
        ),
    ),
    "an older value of a key comes back": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 9)(WRITE, "A", holds(1, k=2), key="k"),
            at(2, 9)(WRITE, "A", holds(1, k=3), key="k"),
            at(3, 4)(READ, "A", holds(1, k=2)),
            at(5, 6)(READ, "A", holds(1, k=3)),
            at(7, 8)(READ, "A", holds(1, k=2)),
        ),
    ),
    "an answer takes the cookie's version back": (
        Rule.MONOTONIC_READS,
        begun(at(2, 3)(READ, "A3", holds(1), given="A2")),
    ),
    "an acknowledged change never shows again": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(MUTATE, "A", holds(1, 2)), at(4, 5)(READ, "A", holds(1))),
    ),
    "an acknowledged change of a session that stayed is dropped": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(MUTATE, "A", holds(1, 2), sure=False), at(4, 5)(READ, "A", holds(1))),
    ),
    "a committed change is dropped by a renewal": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 5)(MUTATE, "A", holds(1, 2)),
            at(3, 4)(RENEW, "A", holds(1), given="B"),
            at(6, 7)(READ, "B", holds(1)),
        ),
    ),
    "a later write is replaced by an earlier one": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(WRITE, "A", holds(1, k=2), key="k"),
            at(4, 5)(WRITE, "A", holds(1, k=3), key="k"),
            at(6, 7)(READ, "A", holds(1, k=2)),
        ),
    ),
    "a change is there twice": (
        Rule.LOST_UPDATE,
        begun(at(2, 3).unknown(MUTATE, "A"), at(4, 5)(READ, "A", holds(1, 2, 2))),
    ),
    "a session is gone that nobody ended": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(READ, "A", NOTHING)),
    ),
    "a session is gone though its sign-out was never sent": (
        Rule.LOST_UPDATE,
        begun(at(2, 3).never_sent(SIGN_OUT, "A"), at(4, 5)(READ, "A", NOTHING)),
    ),
    "a sign-in that nobody disturbed leaves no session": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(SIGN_IN, "A", holds(2), sure=False)),
    ),
    "a sign-in beside a renewal leaves no session": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(3, 6)(SIGN_IN, "A", holds(3), sure=False),
        ),
    ),
    "a session ended by a sign-in elsewhere": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(3, 6)(SIGN_IN, "A", holds(3), given="C"),
            at(7, 8)(READ, "B", NOTHING),
        ),
    ),
    "the session is used after a switch": (
        Rule.SIGNED_OUT,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(3, 6)(SWITCH, "A", holds(3), given="C"),
            at(7, 8)(READ, "B", holds(1)),
        ),
    ),
    "half of a sign-in": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(READ, "A", holds(1, who=None))),
    ),
    "the cookie that was replaced still shows the session": (
        Rule.ONE_SESSION,
        begun(at(2, 3)(RENEW, "A", holds(1), given="B"), at(4, 5)(READ, "A", holds(1))),
    ),
    "two sessions come out of one": (
        Rule.ONE_SESSION,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(2, 5)(RENEW, "A", holds(1), given="C"),
        ),
    ),
    "an old cookie shows the next session": (
        Rule.ONE_SESSION,
        begun(
            at(2, 3)(SIGN_IN, "A", holds(2), given="B"),
            at(4, 5)(READ, "A", holds(2)),
        ),
    ),
    "the session is used after the sign-out": (
        Rule.SIGNED_OUT,
        begun(at(2, 3)(SIGN_OUT, "A"), at(4, 5)(READ, "A", holds(1))),
    ),
    "its heir is used after the sign-out": (
        Rule.SIGNED_OUT,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(3, 4)(SIGN_OUT, "A"),
            at(6, 7)(READ, "B", holds(1)),
        ),
    ),
    "a session that was found ended comes back": (
        Rule.SIGNED_OUT,
        begun(
            at(2, 3).unknown(SIGN_OUT, "A"),
            at(4, 5)(READ, "A", NOTHING),
            at(6, 7)(READ, "A", holds(1)),
        ),
    ),
    "what was committed in the middle is missing, though the session ended then": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 5)(RENEW, "A", holds(1), given="B"),
            at(2, 6)(MUTATE, "A", NOTHING),
            at(7, 8)(READ, "B", holds(1)),
        ),
    ),
    "a payment takes no coin": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(PAY, "A", holds(1, 2, coins=2))),
    ),
    "more is paid than there is": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(PAY, "A", holds(1, 2, coins=1)),
            at(2, 3)(PAY, "A", holds(1, 2, 3, coins=0)),
            at(4, 5)(PAY, "A", holds(1, 2, 3, 4, coins=0)),
        ),
    ),
    "a payment that was refused is there": (
        Rule.FOREIGN_DATA,
        begun(at(2, 3).never_sent(PAY, "A"), at(4, 5)(READ, "A", holds(1, 2))),
    ),
    "a sign-in beside another one leaves no session": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 5)(SIGN_IN, "A", holds(2), given="B"),
            at(3, 6)(SIGN_IN, "A", holds(3), sure=False),
        ),
    ),
    "a sign-out ends one session of two": (
        Rule.SIGNED_OUT,
        history(
            at(0, 3)(SIGN_IN, None, holds(1), given="A"),
            at(1, 2)(SIGN_IN, None, holds(2), given="B"),
            at(4, 5)(SIGN_OUT, "A", also="B"),
            at(6, 7)(READ, "B", holds(2)),
        ),
    ),
    "what one user has left passes to the next": (
        Rule.FOREIGN_DATA,
        begun(
            at(2, 3)(WRITE, "A", holds(1, k=2), key="k"),
            at(4, 5)(SIGN_OVER, "A", holds(3), given="B"),
            at(6, 7)(READ, "B", holds(3, k=2)),
        ),
    ),
    "a cookie without a version is given one": (
        Rule.MONOTONIC_READS,
        begun(at(2, 3)(READ, "A0", holds(1), given="A1")),
    ),
    "a cookie without a version comes once more": (
        Rule.ONE_SESSION,
        begun(at(2, 3)(WRITE, "A0@0", holds(1, k=2), key="k", given="A0@0")),
    ),
    "somebody else's session": (
        Rule.FOREIGN_DATA,
        begun(at(2, 3)(READ, "A", Shown("you", 1))),
    ),
    "a change that nobody asked for": (
        Rule.FOREIGN_DATA,
        begun(at(2, 3)(READ, "A", holds(1, 7))),
    ),
    "a change of another life": (
        Rule.FOREIGN_DATA,
        begun(
            at(2, 3).unknown(MUTATE, "A"),
            at(4, 5)(SIGN_IN, "A", holds(3), given="B"),
            at(6, 7)(READ, "B", holds(3, 2)),
        ),
    ),
}


@pytest.mark.parametrize("name", list(GOOD))
def test_what_is_allowed_passes(name: str) -> None:
    """No rule objects to a history that the guarantees allow."""
    assert [str(each) for each in check(GOOD[name])] == []


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_wrong_is_caught_by_its_rule(name: str) -> None:
    """Exactly one rule objects, the one that is broken."""
    rule, wrong = BAD[name]

    found = check(wrong)

    assert {each.rule for each in found} == {rule}, [str(each) for each in found]


BOUND = 1.0

# With copies these are allowed for a second, and not for longer.
LAGGING: dict[str, History] = {
    "a session outlives its end": begun(
        at(2, 3)(SIGN_OUT, "A"),
        at(1002, 1003)(READ, "A", holds(1)),
    ),
    "a session outlives its renewal": begun(
        at(2, 3)(RENEW, "A", holds(1), given="B"),
        at(1002, 1003)(READ, "A", holds(1)),
    ),
    "a cookie of an earlier version misses a change": begun(
        at(2, 3)(MUTATE, "A", holds(1, 2), given="A2"),
        at(1002, 1003)(READ, "A", holds(1)),
    ),
    "a cookie of an earlier version misses what was seen": begun(
        at(2, 9999)(WRITE, "A", holds(1, k=2), key="k", given="A2"),
        at(3, 4)(READ, "A", holds(1, k=2), given="A2"),
        at(1003, 1004)(READ, "A", holds(1)),
    ),
    "the session before a renewal misses what came after": begun(
        at(2, 3)(RENEW, "A", holds(1), given="B"),
        at(2, 4)(RENEW, "B", holds(1), given="C"),
        at(5, 6)(MUTATE, "C", holds(1, 4), given="C2"),
        at(1002, 1003)(READ, "A", holds(1)),
    ),
    "a change is dropped that saw a copy of a session renewed before": begun(
        at(2, 3)(RENEW, "A", holds(1), given="B"),
        at(1002, 1003)(MUTATE, "A", holds(1, 3), sure=False),
        at(2000, 2001)(READ, "B", holds(1)),
    ),
    "what an answer without a cookie showed, of a session that was ending": begun(
        at(2, 3)(WRITE, "A", holds(1, k=2), key="k", given="A2"),
        at(4, 7)(RENEW, "A2", holds(1, k=2), given="B"),
        at(4, 8)(MUTATE, "A", holds(1, 4, k=2), sure=False),
        at(1002, 1003)(READ, "A", holds(1)),
    ),
    "an older value comes back to a cookie of an earlier version": begun(
        at(2, 7)(WRITE, "A", holds(1, k=2), key="k", given="A2"),
        at(2, 8)(WRITE, "A", holds(1, k=3), key="k", given="A3"),
        at(3, 4)(READ, "A", holds(1, k=2), given="A2"),
        at(5, 6)(READ, "A2", holds(1, k=3), given="A3"),
        at(1005, 1006)(READ, "A", holds(1, k=2), given="A2"),
    ),
    "the store is read for three seconds only after the cookie's time": begun(
        at(3500, 3501)(MUTATE, "A@1", holds(1, 2), given="A2@3"),
        at(3900, 4000)(READ, "A@1", holds(1)),
    ),
}

# With copies these are as wrong as without.
SHARP: dict[str, tuple[Rule, History]] = {
    "the version that the cookie stands for is not reached": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(MUTATE, "A", holds(1, 2), given="A2"),
            at(4, 5)(READ, "A2", holds(1)),
        ),
    ),
    "a read showed it, and gave a cookie that stands for it": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 9)(MUTATE, "A", holds(1, 2), given="A2"),
            at(3, 4)(READ, "A", holds(1, 2), given="A2"),
            at(5, 6)(READ, "A2", holds(1)),
        ),
    ),
    "a read showed it, and its cookie was right": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 9)(MUTATE, "A", holds(1, 2), given="A2"),
            at(3, 4)(READ, "A3", holds(1, 2)),
            at(5, 6)(READ, "A3", holds(1)),
        ),
    ),
    "the session after a renewal misses what came before": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(MUTATE, "A", holds(1, 2), given="A2"),
            at(4, 5)(RENEW, "A", holds(1, 2), given="B"),
            at(6, 7)(READ, "B", holds(1)),
        ),
    ),
    "two values of a key take turns under one cookie": (
        Rule.MONOTONIC_READS,
        begun(
            at(2, 9)(WRITE, "A", holds(1, k=2), key="k", given="A2"),
            at(2, 9)(WRITE, "A", holds(1, k=3), key="k", given="A3"),
            at(3, 4)(READ, "A3", holds(1, k=2)),
            at(5, 6)(READ, "A3", holds(1, k=3)),
            at(7, 8)(READ, "A3", holds(1, k=2)),
        ),
    ),
    "a session is absent that nobody ended": (
        Rule.LOST_UPDATE,
        begun(at(2, 3)(READ, "A", NOTHING)),
    ),
    "reload() shows less than was known": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(MUTATE, "A", holds(1, 2), given="A2"),
            at(4, 5)(READ, "A", holds(1), sure=True),
        ),
    ),
    "reload() shows a session after its end": (
        Rule.SIGNED_OUT,
        begun(at(2, 3)(SIGN_OUT, "A"), at(4, 5)(READ, "A", holds(1), sure=True)),
    ),
    "a session is changed after its end": (
        Rule.SIGNED_OUT,
        begun(
            at(2, 3)(SIGN_OUT, "A"),
            at(4, 5)(MUTATE, "A", holds(1, 3), sure=False, given="A2"),
        ),
    ),
    "a session is changed after its renewal": (
        Rule.ONE_SESSION,
        begun(
            at(2, 3)(RENEW, "A", holds(1), given="B"),
            at(4, 5)(MUTATE, "A", holds(1, 3), sure=False, given="A2"),
            at(6, 7)(READ, "B", holds(1, 3)),
        ),
    ),
    "a young cookie is not answered by the store": (
        Rule.LOST_UPDATE,
        begun(
            at(3500, 3501)(MUTATE, "A@1", holds(1, 2), given="A2@3"),
            at(3502, 3503)(READ, "A@1", holds(1)),
        ),
    ),
    "a cookie without a version is not answered by the store": (
        Rule.LOST_UPDATE,
        begun(
            at(2, 3)(MUTATE, "A0", holds(1, 2)),
            at(4, 5)(READ, "A0", holds(1)),
        ),
    ),
    "a session outlives its end under a cookie without a version": (
        Rule.SIGNED_OUT,
        begun(at(2, 3)(SIGN_OUT, "A0"), at(4, 5)(READ, "A0", holds(1))),
    ),
    "a session outlives its end under a young cookie": (
        Rule.SIGNED_OUT,
        begun(at(2, 3)(SIGN_OUT, "A@0"), at(4, 5)(READ, "A@0", holds(1))),
    ),
}


@pytest.mark.parametrize("name", list(LAGGING))
def test_copies_may_be_behind_for_as_long_as_is_stated(name: str) -> None:
    """Within the bound it is allowed, beyond it, or where there are no copies, it is not."""
    assert [str(each) for each in check(LAGGING[name], BOUND)] == []
    assert check(LAGGING[name], BOUND / 4)
    assert check(LAGGING[name])


@pytest.mark.parametrize("name", list(SHARP))
def test_copies_excuse_nothing_else(name: str) -> None:
    """What no copy can have answered is judged as ever, and by the rule that is broken."""
    rule, wrong = SHARP[name]

    for bound in (0.0, BOUND):
        found = check(wrong, bound)
        assert {each.rule for each in found} == {rule}, [str(each) for each in found]


def test_during_an_outage_copies_answer_under_young_cookies_as_well() -> None:
    """Where they may, the store cannot be read instead; all other rules stay as they are."""
    _, young = SHARP["a young cookie is not answered by the store"]
    _, below = SHARP["the version that the cookie stands for is not reached"]

    assert check(young, BOUND, window=False) == []
    assert check(below, BOUND, window=False)


@pytest.mark.parametrize("name", list(GOOD))
def test_copies_forbid_nothing(name: str) -> None:
    """What is allowed without copies is allowed with them."""
    assert [str(each) for each in check(GOOD[name], BOUND)] == []


MAX_AGE = 10.0

# The first session's cookie says that it was written when the history began.
IN_TIME: dict[str, History] = {
    "who rests for long enough finds nothing": history(
        at(0, 1)(*SIGNED_IN, given="A@0"),
        at(9990, 10000)(READ, "A@0", NOTHING),
    ),
    "who has used it meanwhile finds it": history(
        at(0, 1)(*SIGNED_IN, given="A@0"),
        at(9000, 9001)(READ, "A@0", holds(1), given="A@9"),
        at(18000, 18001)(READ, "A@9", holds(1), given="A@18"),
    ),
    "a use of which nobody has heard may have prolonged it": history(
        at(0, 1)(*SIGNED_IN, given="A@0"),
        at(9000, 9001).unknown(READ, "A@0"),
        at(19000, 19001)(READ, "A@0", holds(1), given="A@19"),
    ),
    "a change is dropped where the time passes": history(
        at(0, 1)(*SIGNED_IN, given="A@0"),
        at(9950, 10050)(MUTATE, "A@0", holds(1, 2), sure=False),
        at(10060, 10070)(READ, "A@0", NOTHING),
    ),
}
IN_TIME["who asked in time may prolong it a moment later"] = history(
    at(0, 1)(*SIGNED_IN, given="A@0"),
    at(9500, 10500)(READ, "A@0", holds(1), given="A@9"),
    at(9600, 10400)(READ, "A@0", NOTHING),
    at(10600, 10601)(READ, "A@9", holds(1), given="A@10"),
)
IN_TIME["one request of a page prolongs it for all"] = history(
    at(0, 1)(*SIGNED_IN, given="A@0"),
    at(5000, 5100)(READ, "A@0", holds(1), given="A@5", server="one"),
    at(5050, 5060)(READ, "A@0", holds(1), server="one"),
    at(6000, 6001)(READ, "A@0", holds(1), server="one"),
)
IN_TIME["so may one of which nobody has heard"] = history(
    at(0, 1)(*SIGNED_IN, given="A@0"),
    at(5000, 5100).unknown(READ, "A@0"),
    at(5050, 5060)(READ, "A@0", holds(1)),
)
NOT_IN_TIME: dict[str, tuple[Rule, History]] = {
    "it ends too early": (
        Rule.LOST_UPDATE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(9900, 9901)(READ, "A@0", NOTHING),
        ),
    ),
    "it ends though it was used": (
        Rule.LOST_UPDATE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(5000, 5001)(READ, "A@0", holds(1), given="A@5"),
            at(12000, 12001)(READ, "A@0", NOTHING),
        ),
    ),
    "it outlives its time": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(10002, 10003)(READ, "A@0", holds(1), given="A@10"),
        ),
    ),
    "it comes back though nobody had asked in time": (
        Rule.SIGNED_OUT,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(9000, 10001)(READ, "A@0", NOTHING),
            at(10002, 10003)(READ, "A@0", holds(1), given="A@10"),
        ),
    ),
    "a use does not prolong it": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(5000, 5001)(READ, "A@0", holds(1)),
        ),
    ),
    "another one does, but on another server": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(5000, 5100)(READ, "A@0", holds(1), given="A@5", server="one"),
            at(5050, 5060)(READ, "A@0", holds(1), server="other"),
        ),
    ),
    "another one does, but long before": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(5000, 5100)(READ, "A@0", holds(1), given="A@5", server="one"),
            at(6500, 6501)(READ, "A@0", holds(1), server="one"),
        ),
    ),
    "another one does, but of a newer cookie": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(4000, 4100)(READ, "A@0", holds(1), given="A@4", server="one"),
            at(7000, 7100)(READ, "A@4", holds(1), given="A@7", server="one"),
            at(7050, 7060)(READ, "A@0", holds(1), server="one"),
        ),
    ),
    "none of two does": (
        Rule.IDLE,
        history(
            at(0, 1)(*SIGNED_IN, given="A@0"),
            at(5000, 5100)(READ, "A@0", holds(1), server="one"),
            at(5050, 5060)(READ, "A@0", holds(1), server="one"),
        ),
    ),
}


@pytest.mark.parametrize("name", list(IN_TIME))
def test_an_idle_timeout_ends_a_session_in_its_time(name: str) -> None:
    """What rests for the whole time may be gone, and what is used lives on."""
    assert [str(each) for each in check(IN_TIME[name], max_age=MAX_AGE)] == []


@pytest.mark.parametrize("name", list(NOT_IN_TIME))
def test_an_idle_timeout_is_exact(name: str) -> None:
    """Too early or too late, it is noticed."""
    rule, wrong = NOT_IN_TIME[name]

    found = check(wrong, max_age=MAX_AGE)

    assert {each.rule for each in found} == {rule}, [str(each) for each in found]


SEEN_AND_GONE = begun(
    at(2, 9).unknown(MUTATE, "A"),
    at(3, 4)(READ, "A", holds(1, 2)),
    at(10, 11)(READ, "A", holds(1)),
)


def test_what_was_answered_503_may_vanish_in_a_failover() -> None:
    """Where a failover may take something back, it is what nobody was told is stored."""
    assert [each.rule for each in check(SEEN_AND_GONE)] == [Rule.MONOTONIC_READS]
    assert check(SEEN_AND_GONE, rewinds=True) == []


def test_what_was_acknowledged_may_not_vanish_in_a_failover() -> None:
    """An update that was acknowledged, a sign-out too, stays in any case."""
    lost = begun(at(2, 3)(MUTATE, "A", holds(1, 2)), at(10, 11)(READ, "A", holds(1)))
    back = begun(at(2, 3)(SIGN_OUT, "A", NOTHING), at(10, 11)(READ, "A", holds(1)))

    assert [each.rule for each in check(lost, rewinds=True)] == [Rule.LOST_UPDATE]
    assert Rule.SIGNED_OUT in {each.rule for each in check(back, rewinds=True)}


@pytest.mark.parametrize("name", list(LAGGING))
def test_a_server_without_copies_is_excused_nothing(name: str) -> None:
    """Beside servers that have copies its answers are the store's."""
    plain = history(*(replace(each, server="plain") for each in LAGGING[name].operations))

    assert check(plain, BOUND, plain={"plain"})
    assert check(plain, BOUND, plain={"another"}) == []


# Behind for as long as connections may lead to an old primary: from 1 s to 2 s.
AFTER_A_SWITCH_OVER = begun(
    at(900, 901)(MUTATE, "A", holds(1, 2)),
    at(1000, 1500)(MUTATE, "A", holds(1, 2, 3)),
    at(1600, 1601)(READ, "A", holds(1, 2)),
    at(1600, 1601)(SIGN_IN, None, holds(5), given="B"),
    at(1700, 1701)(READ, "B", NOTHING),
    at(1700, 1701)(RENEW, "A", holds(1, 2, 3), given="C"),
    at(1750, 1751)(READ, "C", NOTHING),
    at(1800, 1801)(SIGN_OUT, "C", NOTHING),
    at(1900, 1901)(READ, "C", holds(1, 2)),
)


def test_an_old_primary_may_answer_for_as_long_as_is_stated() -> None:
    """Only reads, only meanwhile, and only with what was so when it began."""
    behind = Period(1.0, 2.0, behind=True)
    of_readers = replace(behind, of_readers=True)
    later = Period(1.58, 2.0, behind=True)  # what was known before that is known
    changed = begun(
        at(1100, 1101)(MUTATE, "A", holds(1, 2)),
        at(1200, 1201)(MUTATE, "A", holds(1, 3)),
    )

    assert [str(each) for each in check(AFTER_A_SWITCH_OVER, periods=[behind])] == []
    assert check(AFTER_A_SWITCH_OVER, periods=[of_readers], readers={""}) == []
    assert check(AFTER_A_SWITCH_OVER, periods=[of_readers])
    assert check(AFTER_A_SWITCH_OVER, periods=[later])
    assert check(AFTER_A_SWITCH_OVER)
    assert check(changed, periods=[behind])


def test_what_is_to_be_answered_is_not_refused() -> None:
    """Where a period says so, and in it."""
    full = Period(0.0015, 0.006, answered=frozenset({SIGN_OUT}))
    kept = begun(at(2, 3).refused(SIGN_OUT, "A"))
    others = begun(at(2, 3).refused(WRITE, "A"), at(5, 7).refused(SIGN_OUT, "A"))

    assert [each.rule for each in check(kept, periods=[full])] == [Rule.SERVED]
    assert check(others, periods=[full]) == []


def test_a_violation_tells_what_happened() -> None:
    """It names the rule and shows the operations concerned, one a line, in milliseconds."""
    _, wrong = BAD["an own change is missing, once"]

    lines = str(check(wrong)[0]).splitlines()

    assert lines[0] == "read your writes: #3 does not show #2, known from #2"
    assert [line.split("#")[1][0] for line in lines[1:]] == ["2", "3", "4"]
    assert "life 1 of me" in told(wrong.operations)
