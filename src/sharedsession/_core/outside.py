"""Sessions without a client: read, changed and ended by their handles, from outside of a request.

There is no client to tell, so nothing here makes a new ID: what would need one is a `LateChange`.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import LateChange
from ..stores.base import FRESHEST
from .changes import Function
from .cookie import Cookie, is_key
from .exchange import Exchange
from .flows import committing, end_chain, gone
from .manager import NO_VERSION
from .record import Data, Record, Tombstone, decode_data
from .steps import Flow, Load

NOT_SHOWN = Cookie("", NO_VERSION, 0)  # in the place of the cookie that a client would show


def opening_by_handle(exchange: Exchange, handle: str) -> Flow[None]:
    """Find the session that has this handle, in the store itself, for an exchange without client.

    A tombstone is followed to no successor: who holds the handle of a session that was renewed
    since, has nothing of the new one.
    """
    entry = (yield Load(handle, FRESHEST)) if is_key(handle) else None
    found = exchange.look(handle, entry)
    if isinstance(found, Record) and entry is not None:
        exchange.adopt(NOT_SHOWN, handle, entry, found)
        exchange.was_found = True
        exchange.expect_no_response()
    else:
        exchange.meet(handle, found if isinstance(found, Tombstone) else None)
    exchange.opened = True


def reading(exchange: Exchange, handle: str) -> Flow[Data | None]:
    """Return a copy of what a session holds; None: there is none."""
    entry = (yield Load(handle, FRESHEST)) if is_key(handle) else None
    found = exchange.look(handle, entry)
    return decode_data(found.data) if isinstance(found, Record) else None


def modifying(exchange: Exchange, handle: str, function: Function) -> Flow[Any]:
    """Run a function on a session, again where another request wrote first; return its result."""
    yield from opening_by_handle(exchange, handle)
    if exchange.entry is None:
        raise gone("modified")
    exchange.fill(exchange.session)
    exchange.use(exchange.session)
    try:
        return (yield from committing(exchange, function))
    except LateChange:
        raise LateChange(
            "A session that is changed by its handle must keep its ID and its owner, for there is "
            "no client to be given another cookie, and this function signs in, signs out or "
            "renews. To sign the user out, end the session."
        ) from None


def ending(exchange: Exchange, handle: str) -> Flow[bool]:
    """End a session, or the one that it was renewed to; say whether there was one."""
    return is_key(handle) and (yield from end_chain(exchange, handle))
