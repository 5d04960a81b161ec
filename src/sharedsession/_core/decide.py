"""What a commit comes to: decided from what is known, without a store."""

from __future__ import annotations

from enum import Enum, auto

from .changes import Asked, Call
from .identity import (
    changes_user,
    names_user,
    owners,
    passes_to_another_user,
    same_people,
    signs_in,
    signs_out,
)
from .source import Foreign
from .state import State
from .work import Outcome


class Action(Enum):
    """What a commit comes to."""

    NOTHING = auto()
    CREATE = auto()
    REPLACE = auto()
    RENEW = auto()
    END = auto()
    END_SUCCESSOR = auto()
    TOUCH = auto()
    REISSUE = auto()


def decide(state: State, outcome: Outcome, *, late: bool, repeat: bool = False) -> Action:
    """Say what a commit comes to, from what was found and what this request did.

    ``late``: the headers have left. ``repeat``: the client is to get its cookie, whether it has
    anything to learn or not.
    """
    ends_at_once = state.manager.settings.idle_timeout <= 0
    if state.entry is None or state.cookie is None:
        return _of_a_new_session(state, outcome, ends_at_once=ends_at_once)
    if ends_at_once or outcome.ends:
        return Action.END
    if outcome.asked & ~Asked.KEPT:
        return Action.RENEW
    if outcome.changes_data:
        return _of_changed_data(state, outcome)
    return upkeep(state, late=late, repeat=repeat) if state.is_used else Action.NOTHING


def _of_a_new_session(state: State, outcome: Outcome, *, ends_at_once: bool) -> Action:
    if state.tombstones and (outcome.ends or Asked.DESTROYED in outcome.asked):
        return Action.END_SUCCESSOR
    if ends_at_once or (outcome.is_empty and Asked.KEPT not in outcome.asked):
        return Action.NOTHING
    signed_in = outcome.over_nothing and names_user(outcome.data, state.manager.settings)
    return Action.CREATE if signed_in or not state.ended else Action.NOTHING


def _of_changed_data(state: State, outcome: Outcome) -> Action:
    settings = state.manager.settings
    if outcome.is_empty:
        return Action.END
    if same_people(outcome, state.manager.identity_names):
        return Action.REPLACE
    renews = changes_user(outcome, settings, was_found=state.was_found)
    return Action.RENEW if renews else Action.REPLACE


def upkeep(state: State, *, late: bool, repeat: bool = False) -> Action:
    """Say what a session that was used, and not changed, needs."""
    if late or state.outdated:
        return Action.NOTHING
    if state.is_due():
        return Action.TOUCH
    # A reply of a commit(), or of an adoption, some time ago: the session may have ended since.
    again = repeat or state.reply is not None or state.is_newer
    return Action.REISSUE if again else Action.NOTHING


def bring_up_to_date(state: State, outcome: Outcome) -> None:
    """Replay the steps over what is there now; over nothing, where that is not the user's."""
    settings, record = state.manager.settings, state.record
    if record is None:
        if state.ended and not outcome.over_nothing and signs_in(outcome, settings):
            outcome.replay_over_nothing(ended=True)
        return
    if outcome.over_nothing or record.data != outcome.base:
        outcome.replay_over(record.data)
    if not outcome.changed or settings.on_owner_change == "keep":
        return
    if same_people(outcome, state.manager.identity_names):
        return
    if passes_to_another_user(record, outcome, settings):
        found = owners(outcome.data, settings.owner_key)
        known = owners(outcome.before, settings.owner_key)
        signed_in = {name: outcome.data[name] for name, _ in set(found) - set(known)}
        outcome.replay_over_nothing(ended=False)
        by_function = any(isinstance(step, Call) for step in outcome.steps)
        decided = Asked.EMPTIED in outcome.asked or owners(outcome.data, settings.owner_key)
        if by_function and not decided:
            outcome.put(signed_in)  # the function has signed in by what it found: a name, say


def others_to_end(
    state: State, outcome: Outcome, action: Action, shown: str | None
) -> list[str | Foreign]:
    """Return the other sessions that a sign-out ends, ours by their keys: all that were shown."""
    if len(state.cookies) < 2 and not state.foreign:
        return []
    out = outcome.ends or Asked.DESTROYED in outcome.asked
    if action is not Action.NOTHING:  # else it comes to nothing: the session has ended
        out |= signs_out(outcome, state.manager.settings)
    ours = [key for key in map(state.key_of, state.cookies) if key != shown]
    return [*ours, *state.foreign] if out else []
