"""Whether a session may be let in: what a request can be refused for, and by which reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from ..exceptions import ConfigurationError
from .exchange import Exchange
from .identity import AMBIGUOUS, identities, owner_name
from .record import PERMANENT, whole_seconds
from .session import Session, exchange_of

# missing: the client shows no session of ours, or no user is signed in; expired: it shows one that
# has ended; stale: the user authenticated too long ago; forbidden: the application says no.
Reason = Literal["missing", "expired", "stale", "forbidden"]


def session_in(scope: Mapping[str, Any], key: str) -> Session:  # Any: as ASGI has its scopes
    """Return the session of an ASGI scope, and note that it was reached for.

    Raises:
        ConfigurationError: there is none of this package.
    """
    session = scope.get(key)
    if not isinstance(session, Session):
        found = "nothing" if session is None else f"a {type(session).__qualname__}"
        raise ConfigurationError(
            f"This dependency needs a session of sharedsession in scope[{key!r}], and found "
            f"{found} there: app.add_middleware(SessionMiddleware, store=…) from "
            "sharedsession.asgi, in the place of any other session middleware."
        )
    session.mark_accessed()
    return session


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


def reason_to_refuse(
    session: Session,
    *,
    owner: bool,
    within: int | None,
    allow: Callable[[Session], bool] | None = None,
) -> Reason | None:
    """Say why a session does not do; None: it does.

    Args:
        session: of a running request; it is used by this.
        owner: whether a user must be signed in, as the owner keys say.
        within: seconds that the authentication may be old; this demands an owner as well.
        allow: says what else must be true of the session.

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
    if not signed_in and (owner or within or is_empty):
        if is_empty and exchange.is_new and exchange.cookies:
            return "expired"
        _advise(exchange, data)
        return "missing"
    if within is not None:
        age = (
            None if authenticated is None else exchange.manager.clock() - authenticated.timestamp()
        )
        if age is None or age > within:
            return "stale"
    return None if allow is None or allow(session) else "forbidden"


def _advise(exchange: Exchange, data: dict[object, object]) -> None:
    """Say, once, that a user seems to be signed in under a key that is no owner key."""
    names = exchange.manager.settings.sign_in_names
    for name in identities(data, tuple(each for each in names if each not in AMBIGUOUS)):
        exchange.manager.tell_once(
            "no-owner-key",
            "A request that needs a signed-in user was refused, though the session holds %r: name "
            "the key under which the application signs in, owner_key=%r.",
            name,
            name,
        )
