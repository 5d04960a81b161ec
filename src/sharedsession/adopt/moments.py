"""Points in time, as the columns of databases have them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from math import isfinite

from . import decoding


def epoch_of(value: object, zone: tzinfo = UTC) -> float:
    """Return epoch seconds: of a number, a datetime or ISO text, naive ones being in ``zone``.

    Raises:
        NotAdoptable: it is none of these.
    """
    if isinstance(value, float | int) and isfinite(value):
        return float(value)
    moment = value
    if isinstance(value, str):  # what SQLite keeps
        moment = decoding.reading(lambda: datetime.fromisoformat(value), "its end is no time")
    if not isinstance(moment, datetime):
        raise decoding.damaged("its end is no time")
    aware = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    return decoding.reading(aware.timestamp, "its end is no time")
