"""The verbs as flows, for the sync and the async store.

A `Query` is answered by what it takes of its result, or, when the database does not do it, by
`StoreUnavailable`, thrown in. When a write has changed no row, one look at the row's tokens tells a
statement that was repeated from one that lost.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from operator import attrgetter, methodcaller
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from .._support.verbs import Flow, Flows, outcome
from ..base import Entry
from . import invalidation
from .database import Action, Database, Query, Result
from .dialects import CLOCKS, Statements
from .errors import place_of

Clock = Callable[[], float]  # tests put one in the place of the database's
Written = tuple[bool, float | None]
CREATES_PER_SWEEP = 100
SWEPT_AT_ONCE = 250
MOST_SWEPT = 10_000  # databases bound the number of values in a statement

# What is taken of a result.
_first_row = methodcaller("first")
_all_rows = methodcaller("all")
_scalar = methodcaller("scalar")
_row_count = attrgetter("rowcount")


@dataclasses.dataclass
class Sweep:
    """What one sweep has come to; it is over at its limit, or when it has seen the whole table."""

    limit: int
    removed: int = 0
    whole: bool = False  # it has seen the table's beginning
    ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        return self.ended or self.removed >= self.limit


class Verbs(Flows):
    """What the sync and the async store share: statements, and what their results mean."""

    def __init__(
        self, engine: sa.Engine, table: str, schema: str | None, clock: Clock | None
    ) -> None:
        dialect = engine.dialect
        self._place = place_of(engine.url)
        self._clock = clock or (None if dialect.name in CLOCKS else time.time)
        if clock is not None:
            self.clock = clock  # which the middleware takes the time from, too
        self._statements = Statements(table, schema, dialect, timed=self._clock is not None)
        self._swept_to: object = None  # where the next chunk of a sweep begins

    def _load(self, key: str, at_least: int = 0) -> Flow[Entry | None]:
        values = {"the_key": key, **self._now()}
        row = yield Query(self._statements.select, values, _first_row)
        return None if row is None else Entry(row[2], row[0], row[3], row[1])

    def _load_all(self, keys: Sequence[str]) -> Flow[list[Entry | None]]:
        values = {"keys": list(keys), **self._now()}
        rows = yield Query(self._statements.select_all, values, _all_rows)
        found = {row[0]: Entry(row[3], row[1], row[4], row[2]) for row in rows}
        return [found.get(key) for key in keys]

    def _write(
        self, key: str, old: Entry | None, data: bytes, ttl: int, owner: str | None, at_least: int
    ) -> Flow[Entry | None]:
        written = self._after(old, data, at_least)
        values: dict[str, Any] = {
            "the_key": key,
            "new_version": written.version,
            "new_tokens": written.token,
            "new_data": data,
            "new_owner": owner,
            "old_tokens": b"" if old is None else old.token,
            "ttl": ttl,
            **self._now(),
        }
        query = Query(self._statements.swap, values, _written)
        done, expires = (yield from self._insert(query)) if old is None else (yield query)
        if done:
            if old is None and random.random() * CREATES_PER_SWEEP < 1:
                self._beside(self._sweep_chunk(Sweep(SWEPT_AT_ONCE)))
            expires = expires if self._clock is None else values["now"] + ttl
            return Entry(data, written.version, expires, written.token)
        found = yield from self._load(key)
        if found is None:
            return None
        written = Entry(data, written.version, found.expires, written.token)
        return outcome(written, found.token, old, self._place, repeated=query.is_repeated)

    def _insert(self, query: Query) -> Flow[Written]:
        query.statement, query.expected = self._statements.insert, (IntegrityError,)
        try:
            answer: Written = yield query
        except IntegrityError:  # the key is taken, by what has expired perhaps
            query.statement, query.expected = self._statements.take_over, ()
            answer = yield query
        return answer

    def _touch(self, key: str, ttl: int) -> Flow[bool]:
        values = {"the_key": key, "ttl": ttl, **self._now()}
        changed: int = yield Query(self._statements.prolong, values, _row_count)
        return changed > 0

    def _delete(self, key: str, entry: Entry | None = None) -> Flow[bool]:
        """See `base.Store`; repeated after a lost answer, it says of an absent key False as well.

        Who removed it is not known then, and the caller that looks again finds it gone.
        """
        if entry is None:
            yield Query(self._statements.delete, {"the_key": key}, _row_count)
            return True
        values = {"the_key": key, "old_tokens": entry.token, **self._now()}
        removed: int = yield Query(self._statements.delete_entry, values, _row_count)
        return removed > 0

    def _heartbeat(self, listener: str, number: int) -> Flow[None]:
        values = invalidation.heartbeat_values(self._statements, listener, number)
        yield Query(invalidation.HEARTBEAT, values, _row_count)

    def _do(self, action: Callable[[Database], Any]) -> Flow[Any]:
        return (yield Action(action))

    def _sweep_chunk(self, sweep: Sweep) -> Flow[None]:
        """Remove what has expired in the next chunk; it is next again if it may have more.

        A store begins anywhere: else processes that live shortly would all sweep the same chunk.
        """
        known, now = self._statements, self._now()
        if self._swept_to is None:
            self._swept_to = (yield Query(known.somewhere, {}, _scalar)) or known.start
        sweep.whole |= self._swept_to == known.start
        begin = {"position": self._swept_to, **now}
        end = yield Query(known.chunk_end, begin, _scalar)
        if end is None:
            self._swept_to, sweep.ended = known.start, sweep.whole
            return
        limit = min(sweep.limit - sweep.removed, MOST_SWEPT)
        found, removed = yield from self._remove({**begin, "end": end, "limit": limit})
        sweep.removed += removed
        if found < limit:
            self._swept_to = end

    def _remove(self, chunk: dict[str, object]) -> Flow[tuple[int, int]]:
        """Return how many rows of a chunk were found to have expired, and were removed."""
        known = self._statements
        if known.sweep is not None:
            removed = yield Query(known.sweep, chunk, _row_count)
            return removed, removed
        keys = [key for (key,) in (yield Query(known.expired, chunk, _all_rows))]
        if not keys:
            return 0, 0
        return len(keys), (yield Query(known.delete_expired, {**chunk, "keys": keys}, _row_count))

    def _beside(self, flow: Flow[None]) -> None:
        """Run a flow on which the one under way does not depend, if and when there is time."""
        raise NotImplementedError

    def _now(self) -> dict[str, object]:
        """Return the moment as a parameter, where it is not the server that knows it."""
        return {} if self._clock is None else {"now": self._clock()}


def _written(result: Result) -> Written:
    """Return whether a row was written, and when it expires, where the server says so."""
    if not result.returns_rows:
        return result.rowcount > 0, None
    row = result.first()
    return row is not None, row and row[0]
