"""Whether a session may be let in: what a request can be refused for, and by which reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from ..exceptions import ConfigurationError
from .exchange import Exchange
from .identity import identities, owner_name
from .record import PERMANENT, whole_seconds
from .session import Session, exchange_of

# missing: the client shows no session of ours, or no user is signed in; expired: it shows one that
# has ended; stale: the user authenticated too long ago.
Reason = Literal["missing", "expired", "stale"]


def seconds_within(limit: float | timedelta | None) -> int | None:
    """Return how old an authentication may be, in seconds; None: as old as it likes.

    Raises:
        ConfigurationError: it is no such limit.
    """
    seconds = None if limit is None else whole_seconds(limit)
    if limit is not None and (seconds is None or seconds <= 0):
        raise ConfigurationError(
            "authenticated_within must be a positive whole number of seconds, a timedelta, or "
            f"None, got {limit!r}."
        )
    return seconds


def reason_to_refuse(session: Session, *, owner: bool, within: int | None) -> Reason | None:
    """Say why a session does not do; None: it does.

    Args:
        session: of a running request; it is used by this.
        owner: whether a user must be signed in, as the owner keys say.
        within: seconds that the authentication may be old; this demands an owner as well.

    Raises:
        StoreUnavailable: it could not be loaded, also where the application goes on without.
        TypeError: it is the session of no request.
    """
    authenticated = session.authenticated_at  # loads it
    exchange: Exchange = exchange_of(session)
    if exchange.reads_as_empty:
        exchange.check()  # raises the outage: whether there is a session is not known
    settings, data = exchange.manager.settings, exchange.data()
    signed_in = owner_name(data, settings.owner_key) is not None
    is_empty = data.keys() <= {PERMANENT}
    if signed_in or not (owner or within or is_empty):
        if within is None:
            return None
        if authenticated is None:
            return "stale"
        age = exchange.manager.clock() - authenticated.timestamp()
        return "stale" if age > within else None
    if is_empty and exchange.is_new and exchange.cookies:
        return "expired"
    _advise(exchange, data)
    return "missing"


def _advise(exchange: Exchange, data: dict[object, object]) -> None:
    """Say, once, that a user seems to be signed in under a key that is no owner key."""
    for name in identities(data, exchange.manager.settings.sign_in_names):
        exchange.manager.tell_once(
            "no-owner-key",
            "A request that needs a signed-in user was refused, though the session holds %r: name "
            "the key under which the application signs in, owner_key=%r.",
            name,
            name,
        )
