"""The judge of random scripts: rules written from the guarantees.

It sees what every request does to its session, every call that reaches the store (`writes`), and
what the application and the browser are told. A violation begins with the guarantee's number.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sharedsession import SessionGone, StoreUnavailable
from sharedsession._core.cookie import Cookie, store_key
from sharedsession.exceptions import LateChange, TooLarge

from .effects import (
    TOKEN,
    Done,
    Function,
    Refused,
    is_empty,
    over,
    over_nothing,
    owner,
    reset_by,
    signs_in,
)
from .ledger import (
    REFUSES,
    Landing,
    Ledger,
    Lineage,
    Private,
    Problem,
    Violation,
    demand,
    differs,
    fits,
    variants,
)
from .writes import Writes

TENTH = 0.1  # share of the idle timeout after which a cookie is due for a new time


class Judge(Writes):
    """Looks on at everything."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.tokens: set[object] = set()  # that were handed out

    # --- a flow has ended ---

    def end(
        self,
        ledger: Ledger,
        error: BaseException | None,
        session: Any,
        handle: str | None,
        function: Function | None = None,
        result: object = None,
    ) -> None:
        """Judge what the application is told; ``error`` None: all is well.

        ``handle`` is the key of the session at hand, as the core has it.
        """
        own = next((each for each in ledger.done if each.function is function is not None), None)
        if error is None:
            if ledger.kind == "reload":
                self._reloaded(ledger, session, handle)
            elif ledger.kind != "opening":
                self._acknowledged(ledger, session, handle, function, result)
        elif isinstance(error, SessionGone):
            self._told_gone(ledger, own)
        elif isinstance(error, Refused):
            if own is None or error.function is not function:
                demand(error.function.refused, "G2: told of a function that did not refuse")
                ledger.failed = True
        elif isinstance(error, StoreUnavailable):
            told = ledger.trouble or ledger.blocked or ledger.loose
            demand(told, "G9: an outage without one", repr(error))
        else:
            replayed = any(each.function and each.function.refused for each in ledger.done)
            told = isinstance(error, LateChange | TooLarge) or replayed or ledger.failed
            demand(told, f"G0: raised {type(error).__name__}", str(error))
        if error is not None and own in ledger.done:
            ledger.done.remove(own)  # the application was told that it is not done
        if error is not None:
            self._landed_all_the_same(ledger, handle)
        if error is not None and not ledger.trouble and not ledger.ever_in_trouble:
            self._no_orphans(ledger, None)

    def cancelled(self, ledger: Ledger, function: Function | None, handle: str | None) -> None:
        """The flow was closed: its own function is not done, unless that is on its way."""
        if function is not None:
            ledger.done = [each for each in ledger.done if each.function is not function]
        self._landed_all_the_same(ledger, handle)

    def _landed_all_the_same(self, ledger: Ledger, handle: str | None) -> None:
        """A flow failed after its write, which made the session that is at hand now."""
        if handle in self.private and not ledger.blocked:
            self._adopt(ledger, str(handle), judged=False)
            ledger.done = [each for each in ledger.done if each not in ledger.committing]

    def _no_orphans(self, ledger: Ledger, key: str | None) -> None:
        for made in ledger.made:
            demand(
                made == key or made not in self.private or not self.alive(made),
                "G5: a live session that nobody holds",
            )

    def _told_gone(self, ledger: Ledger, own: Done | None) -> None:
        refused = own is not None and own.function is not None and own.function.refused
        never = not (ledger.lineage or ledger.made or ledger.quiet or ledger.loose)
        demand(refused or not never, "G2: told that a session is gone which there never was")
        demand(
            refused or not self.alive(ledger.key), "G2: told that the session is gone, it is alive"
        )
        if ledger.kind == "reload":
            self._after_reload(ledger, None)
        elif not refused and not ledger.blocked:
            self._judge_sign_in(ledger)
        for each in ledger.done:  # of another task's steps nothing was said
            each.maybe |= ledger.kind == "reload" or each in ledger.committing
        ledger.quiet |= ledger.key is None

    def _judge_sign_in(self, ledger: Ledger) -> None:
        """A sign-in was dropped with an ended session; one of its own may have expired by now."""
        expired = any(self.look(key) is None for key in ledger.made)
        lost = self._signs_in(ledger) == "yes" and not expired
        demand(not lost, "G5: a sign-in was lost: its session had ended")

    def _signs_in(self, ledger: Ledger) -> str:
        done = [each for each in ledger.done if each in ledger.committing and not each.maybe]
        return signs_in(done, ledger.base, ledger.owner_keys, ledger.names)

    def _reloaded(self, ledger: Ledger, session: Any, key: str | None) -> None:
        if key is not None:
            demand(key in ledger.looks, "G1: reload() shows a session that it has not looked at")
            if key in self.private and ledger.key is not None:
                # Of a renewal whose tombstone never stood; a sign-in may have made one of its own.
                signing = self._signs_in(ledger) != "no" or ledger.loose
                demand(signing, "G5: reload() goes on with a second session out of one")
            self._adopt(ledger, key, judged=False)
        shown = dict(dict.items(session))
        expected = ledger.looks.get(key, {}) if key is not None else {}
        demand(shown == expected, "G1: reload() shows what is not stored", f"{shown}, {expected}")
        ledger.base = expected
        ledger.done = []
        ledger.key = key
        self._after_reload(ledger, key)

    def _after_reload(self, ledger: Ledger, key: str | None) -> None:
        if ledger.in_doubt:
            self._no_orphans(ledger, key)
        ledger.in_doubt = ledger.failed = ledger.destroyed = False
        ledger.reloads += 1

    def _adopt(self, ledger: Ledger, key: str, *, judged: bool = True) -> None:
        """The session at hand is by now the one that this request has created."""
        fresh = self.private.get(key)
        if fresh is None:
            return
        ledger.created = True
        if judged:
            self._judge_creation(ledger, fresh)
        del self.private[key]
        last = owner(fresh.data, ledger.owner_keys)
        self._add(Lineage(key, fresh.data, fresh.record, last, False, ledger))
        ledger.key = key
        ledger.base = ledger.looks[key] = fresh.data

    def _judge_creation(self, ledger: Ledger, fresh: Private) -> None:
        demand(ledger.kind != "late", "G5: a session was created after the headers had left")
        demand(not self.alive(ledger.key), "G5: one session became two")
        done = [each for each in ledger.done if each in ledger.committing]
        had_one = ledger.key is not None
        if had_one or ledger.quiet:
            signing = self._signs_in(ledger) if not any(e.maybe for e in done) else "unclear"
            may = signing != "no" or ledger.loose or reset_by(done) == "destroy"
            demand(may, "G3: a request whose session had ended stored anew", repr(fresh.data))
        problem: Problem = None
        for each in variants(done):
            try:
                outcome = over_nothing(each) if had_one or ledger.quiet else over(each, {})
            except Refused as refused:
                problem = REFUSES, repr(refused.function)
                continue
            problem = self._foreign(ledger, fresh.data, outcome, None)
            if problem is None:
                break
        fits(problem)
        ledger.landing = Landing(fresh.data, outcome.results)
        gone = set(done)
        ledger.done = [each for each in ledger.done if each not in gone]

    def _acknowledged(
        self,
        ledger: Ledger,
        session: Any,
        handle: str | None,
        function: Function | None,
        result: object,
    ) -> None:
        done = [each for each in ledger.done if each in ledger.committing]
        hard = [each for each in done if not each.maybe]
        ledger.ends_all |= reset_by(hard) == "destroy"
        left = [over_nothing(hard).data]
        with suppress(Refused):
            left.append(over(hard, ledger.base).data)
        reset = reset_by(hard) != ""
        ending = [is_empty(each) and (reset or each.destroyed) for each in left]
        ends = any(ending)  # by a function, perhaps, whose last run decides
        if ledger.blocked:
            demand(ledger.destroyed, "G2: acknowledged after a failure, before reload()")
            ledger.in_doubt = ledger.failed = False
            ledger.loose = True
        if handle is not None and handle in self.private:
            self._adopt(ledger, handle)
        elif ledger.landing is None and not ends and not ledger.loose:
            self._judge_nothing(ledger, done)
        if not ledger.ever_in_trouble:
            self._no_orphans(ledger, handle)
        if ends or ledger.ended or ledger.ends_all:
            self._judge_end(ledger, handle, ends=all(ending) or reset_by(hard) == "destroy")
        if function is not None and ledger.landing and function in ledger.landing.results:
            expected = ledger.landing.results[function]
            demand(
                result == expected,
                "G2: commit() returned what another run returned",
                f"{function}: {result!r}, {expected!r}",
            )
        if function is not None and function.kind == TOKEN and result is not None:
            demand(result not in self.tokens, "G2: a one-time token was handed out twice")
            self.tokens.add(result)
        rest = [each for each in ledger.done if each not in ledger.committing]
        if ledger.landing is not None and handle is not None and ledger.kind == "commit":
            self._judge_shown(ledger, session, rest)
        if ledger.landing is None and not ends and not self.alive(ledger.key):
            for each in ledger.done:
                each.maybe = True
        else:
            ledger.done = rest
        if ends and ledger.landing is None:
            # Ended by others before: what is written now is stored, or not.
            ledger.loose = True
            ledger.key, ledger.base, ledger.quiet = None, {}, False

    def _judge_shown(self, ledger: Ledger, session: Any, rest: list[Done]) -> None:
        assert ledger.landing is not None
        try:
            expected = over(rest, ledger.landing.data)
        except Refused:
            return
        shown = dict(dict.items(session))
        problem = differs(shown, expected, ledger.landing.data)
        if problem is not None:
            raise Violation("G1: after commit() the session shows something else", problem[1])

    def _judge_nothing(self, ledger: Ledger, done: list[Done]) -> None:
        """Acknowledged, and nothing written: there was nothing to write, or no session any more."""
        hard = [each for each in done if not each.maybe]
        if self.alive(ledger.key):
            try:
                outcome = over(hard, ledger.base)
            except Refused as refused:
                rule = "G2: acknowledged, although a function refuses"
                raise Violation(rule, repr(hard)) from refused
            asked = outcome.renews or outcome.authenticates
            same = differs(ledger.base, outcome, ledger.base) is None
            demand(same and not asked, "G2: acknowledged and not stored", repr(hard))
            return
        if ledger.key is None and not ledger.quiet:
            try:
                nothing = is_empty(over(hard, {}).data)
            except Refused:
                nothing = False
            demand(nothing, "G2: acknowledged and not stored", repr(hard))
            return
        self._judge_sign_in(ledger)
        try:
            lost = differs(ledger.base, over(hard, ledger.base), ledger.base) is not None
        except Refused:
            lost = False
        if ledger.kind == "commit":
            demand(not lost, "G2: commit() did not say that the session is gone", repr(hard))
        else:
            demand(not lost or ledger.counted, "G2: dropped and not counted as gone", repr(hard))

    def _judge_end(self, ledger: Ledger, handle: str | None, *, ends: bool) -> None:
        """An end was acknowledged: every session whose cookie was shown is over."""
        for key, lineage in ledger.shown:
            own = lineage is ledger.lineage
            if not (ends if own else ledger.ends_all):
                continue
            if ledger.created and lineage.key != key:
                continue  # of two sign-ins at once a sign-out ends one
            known = self.look(key) is not None  # else its tombstone has expired, or it was deleted
            still = lineage.key is not None and lineage.key != handle and self.alive(lineage.key)
            demand(not (known and still), "G3: a session is alive after its sign-out")

    # --- the answer ---

    def answered(self, ledger: Ledger, exchange: Any, error: BaseException | None) -> None:
        """The response leaves: with a cookie, a removal, or neither."""
        answer: Cookie | None = exchange.reply
        if error is not None:
            if ledger.blocked:  # what leaves carries no cookie where the core says that it failed
                known = exchange.is_distrusted
                demand(known or answer is None, "G5: a cookie after a failure")
            return
        ledger.acknowledged = True
        key = ledger.key
        lineage = self._lineage(key)
        if answer is not None:
            given = store_key(answer.id, "")
            demand(given not in self.dead, "G5: a cookie for a session that is dead")
            self._judge_need(ledger, answer)
            held = self._lineage(given)
            if held is not None:
                held.held = True
        if exchange.removed:
            rule = "G5: a removal cookie without an end at the response's start"
            demand(ledger.ended_shown, rule)
        if lineage is not None and lineage.maker is ledger and self.alive(key):
            demand(lineage.held, "G5: a new ID that the client is not told")

    def _judge_need(self, ledger: Ledger, answer: Cookie) -> None:
        shown = next((each for each in ledger.cookies if each.id == answer.id), None)
        if shown is None or shown.version:  # a new ID, or one whose cookies carry versions
            return
        due = self.clock() - shown.timestamp >= self.idle * TENTH
        demand(
            due or ledger.changed_lifetime,
            "G5: a cookie of the old ID that the client has no need of",
        )

    # --- at rest ---

    def at_rest(self) -> None:
        """Every answer has left: what is alive is held by a client."""
        for lineage in self.lineages:
            maker = lineage.maker
            excused = maker is not None and not maker.acknowledged
            demand(
                lineage.held or excused or not self.alive(lineage.key),
                "G5: a live session that nobody holds",
            )
        for key, fresh in self.private.items():
            demand(
                fresh.ledger.ever_in_trouble or not self.alive(key),
                "G5: a live session that nobody holds",
            )
