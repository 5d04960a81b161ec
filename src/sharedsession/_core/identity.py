"""Who is signed in, by what a session's data say; and what a change of that means.

An owner key is exact: each change of it counts. A sign-in name says it by what stands under it, and
only that another identity came there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .changes import Asked
from .record import Data, Record, decode_data, pack

if TYPE_CHECKING:
    from .settings import Settings
    from .work import Outcome


def owners(data: Mapping[Any, Any], names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return the owner keys that hold something, with their encoded values; None is no user."""
    return tuple((name, pack(data[name])) for name in names if data.get(name) is not None)


def owner_name(data: Mapping[Any, Any], names: tuple[str, ...]) -> str | None:
    """Return the owner as text for a store's index; long ones are hashed to fit."""
    for name in names:
        if data.get(name) is not None:
            value = data[name]
            if isinstance(value, str | int | uuid.UUID) and len(pack(value)) <= 200:
                text = _plain_text(value)
                if text.isprintable():
                    return text
            return sha256(pack(value)).hexdigest()
    return None


def _plain_text(value: str | int | uuid.UUID) -> str:
    """Return the text of what comes back from the store, a subclass's own notwithstanding."""
    if isinstance(value, str):
        return "".join((value,))
    return int.__repr__(value) if type(value) is not bool and isinstance(value, int) else str(value)


def names_new_owner(
    before: Mapping[Any, Any], data: Mapping[Any, Any], names: tuple[str, ...]
) -> bool:
    """Say whether the owner in ``data`` is another one than the one before, or the first.

    Who that is, is the text of the first owner key: 7 and "7" are one. A second key that is left
    of two, and a dict of the same person that was edited, are no other owner.
    """
    owner = owner_name(data, names)
    if owner in (None, owner_name(before, names)):
        return False
    if set(owners(data, names)) <= set(owners(before, names)):
        return False
    first = next(name for name in names if data.get(name) is not None)
    return not _same_person(before.get(first), data[first])


# Of a dict under a sign-in name: what says who that is, the first that holds something.
_WHO = ("sub", "id", "user_id", "uid", "username", "email")
_WHERE = ("iss", "tenant", "type", "role")  # one number may stand for several people


def identities(data: Mapping[Any, Any], names: tuple[str, ...]) -> dict[str, bytes]:
    """Return who the keys of these names say is signed in, encoded; none, where one is empty."""
    return {name: _identity(data[name]) for name in names if data.get(name)}


def _same_person(value: object, other: object) -> bool:
    """Say whether two dicts name the same person, and in the same role, whatever else they hold."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return False
    known = {name: value[name] for name in (*_WHO, *_WHERE) if name in value}
    named = {name: other[name] for name in (*_WHO, *_WHERE) if name in other}
    return any(known.get(name) for name in _WHO) and pack(known) == pack(named)


def _identity(value: object) -> bytes:
    if not isinstance(value, dict):
        return pack(value)
    # A dict that names no person is always the same one: its other fields may change.
    return pack(next(((name, value[name]) for name in _WHO if value.get(name)), True))


# --- what a request did about it ------------------------------------------------------------------

# Sign-in names that also name drafts, visitors and form fields: in a lost race they decide nothing.
AMBIGUOUS = frozenset(("id", "uid", "email"))
# Those that say that a user is signed in, and not who.
FLAGS = ("logged_in", "loggedin", "is_authenticated", "authenticated", "admin")


def same_people(outcome: Outcome, names: frozenset[str]) -> bool:
    """Whether nothing at all has changed under the names that say who is signed in: most often."""
    if outcome.same_people is None:
        before, data = outcome.before, outcome.data
        outcome.same_people = True
        for name in names.intersection(before) | names.intersection(data):
            value, other = before.get(name), data.get(name)
            if type(value) is not type(other) or type(value) not in _PLAIN or value != other:
                outcome.same_people = False
    return outcome.same_people


_PLAIN = (str, int, bool, type(None))


def changes_user(outcome: Outcome, settings: Settings, *, was_found: bool) -> bool:
    """Whether the ID is to be renewed because of who is signed in now (ASVS 7.2.4)."""
    before, data = outcome.before, outcome.data
    if owners(before, settings.owner_key) != owners(data, settings.owner_key):
        return True
    # An ID that no client has had yet cannot have been planted.
    return was_found and bool(new_identities(before, data, settings.sign_in_names))


def signs_in(outcome: Outcome, settings: Settings, *, by_owner: bool = False) -> bool:
    """Whether this request itself signed a user in: also the same one, after clear()."""
    before = {} if Asked.EMPTIED in outcome.asked else outcome.before
    if names_new_owner(before, outcome.data, settings.owner_key):
        return True
    if by_owner:
        return False
    # A flag that was set already tells nothing, whatever it is set to: a time, say.
    known = identities(before, FLAGS)
    found = new_identities(before, outcome.data, _telling(settings))
    return any(name not in known for name in found)


def signs_out(outcome: Outcome, settings: Settings) -> bool:
    """Whether this request left no user under a key where one was."""
    if not outcome.changed or outcome.over_nothing:  # over nothing another user signs in
        return False
    before, data, names = outcome.before, outcome.data, settings.sign_in_names
    if owners(before, settings.owner_key) and not owners(data, settings.owner_key):
        return True
    return bool(identities(before, names).keys() - identities(data, names).keys())


def names_user(data: Data, settings: Settings) -> bool:
    """Whether these data say that a user is signed in."""
    return bool(owners(data, settings.owner_key) or identities(data, _telling(settings)))


def new_identities(before: Data, data: Data, names: tuple[str, ...]) -> list[str]:
    """Return the names under which another identity came, that is something."""
    known = identities(before, names)
    return [name for name, who in identities(data, names).items() if known.get(name) != who]


def _telling(settings: Settings) -> tuple[str, ...]:
    return tuple(name for name in settings.sign_in_names if name not in AMBIGUOUS)


def passes_to_another_user(record: Record, outcome: Outcome, settings: Settings) -> bool:
    """Whether what is stored is, or was last, of another user than the one who is to have it."""
    names, before, data = settings.owner_key, outcome.before, outcome.data
    if owners(before, names):
        return names_new_owner(before, data, names)
    owner = owner_name(data, names)
    return owner is not None and record.last_owner not in (None, owner)


def last_owner(record: Record, settings: Settings) -> str | None:
    """Whose the data of a session are: its owner's, or its last one's."""
    return owner_name(decode_data(record.data), settings.owner_key) or record.last_owner
