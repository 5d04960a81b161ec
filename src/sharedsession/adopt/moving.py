"""Moving the records of an old store without waiting for requests: rehearsed, then done.

What moves is what a request would have moved, by the same flow and with the same claims: servers
may run meanwhile, and a run that was killed is begun again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .._core.adopting import claiming, record_of
from .._core.cookie import new_id, store_key
from .._core.drivers import drive
from .._core.manager import Manager
from .._core.record import encode_record
from .._core.source import Foreign, NotAdoptable, Source
from .._core.state import State
from ..exceptions import CorruptRecord, NotSerializable, TooLarge
from ..stores.base import Store

SHOWN = 3  # sessions of which a rehearsal says what is in them
AT_ONCE = 8  # sessions that are moved at the same time
PROBED = 250_000  # bytes of a record from which on a store may refuse it as too large


@dataclass
class Rehearsal:
    """What would come over, and what would not. ``shown`` has no values, only their types."""

    adoptable: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    shown: list[tuple[Mapping[str, str], float]] = field(default_factory=list)  # and seconds left


def rehearse(source: Source, manager: Manager, store: Store, report: Rehearsal) -> Iterator[None]:
    """Read all sessions of a source and say what would become of each; nothing is moved.

    Yields after each, with what is known so far in ``report``. Records that the new store might
    refuse as too large are written there under a random key for a moment.

    Raises:
        StoreUnavailable: one of the two stores does not answer.
        TypeError: the source cannot list its sessions.
    """
    for value in source.values():
        try:
            found = source.read(value, manager.settings.secret_keys, manager.clock())
            if found is None:
                report.refused["expired"] += 1
            else:
                record = record_of(found, manager)
                _probe(encode_record(record), store)
                report.adoptable += 1
                if len(report.shown) < SHOWN:
                    left = found.expires - manager.clock()
                    report.shown.append((masked(found.data), left))
        except (NotAdoptable, NotSerializable, TooLarge) as error:
            report.refused[reason_of(error)] += 1
        yield


def _probe(record: bytes, store: Store) -> None:
    if len(record) >= PROBED:
        key = store_key(new_id(), "")
        store.create(key, record, 1)
        store.delete(key)


def reason_of(error: Exception) -> str:
    """Return in a word or two why a session cannot come over."""
    if isinstance(error, NotAdoptable):
        return error.reason
    return {NotSerializable: "unknown types", TooLarge: "too large"}.get(type(error), "damaged")


def masked(data: Mapping[Any, Any]) -> dict[str, str]:
    """Return what is in a session, with the types of its values in their place."""
    return {repr(str(key))[1:-1]: _kind(value) for key, value in data.items()}


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, dict | list | tuple | set) else name


def move(source: Source, manager: Manager, store: Store) -> Iterator[str]:
    """Move all sessions of a source; yield for each "moved", or why not.

    Raises:
        StoreUnavailable: one of the two stores does not answer; what was moved is moved.
        TypeError: the source cannot list its sessions.
    """

    def move_one(value: str) -> str:
        state = State()
        state.manager, state.cookies = manager, ()
        try:
            claim = drive(claiming(state, Foreign(source, value)), store, manager)
        except (NotAdoptable, NotSerializable, TooLarge, CorruptRecord) as error:
            return reason_of(error)
        return "expired" if claim is None else "moved"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from _in_turn(pool, move_one, source.values())


def _in_turn(
    pool: ThreadPoolExecutor, call: Any, values: Iterable[str]
) -> Iterator[str]:  # Any: a function of one value
    """Yield the results of calls in any order, with few of them waiting."""
    waiting: set[Future[str]] = set()
    values = iter(values)
    try:
        while True:
            for value in islice(values, 2 * AT_ONCE - len(waiting)):
                waiting.add(pool.submit(call, value))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()
