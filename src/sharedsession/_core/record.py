"""What is stored: encoding and decoding.

A record is one clear format byte and a msgpack array: created, absolute end, owner, authenticated
at, the session's data, itself encoded, as one byte string, and, of a session without an owner that
had one, whose it was last. A *tombstone* has, in the place of the data, the time it was set and the
key of its successor.

The encoding is canonical: the same values always give the same bytes (elements of sets are sorted
by theirs), so "has it changed" is a comparison of bytes, never of values; 1, True and 1.0 differ.
The order of top-level keys is not data. Nothing is ever unpickled.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from math import ceil, isnan
from operator import is_not
from typing import Any, Literal, NamedTuple, TypeGuard, TypeVar
from zoneinfo import ZoneInfo

import msgpack

from ..exceptions import CorruptRecord, NotSerializable, UndecodableHere, UnknownFormat

try:
    from markupsafe import Markup
except ImportError:

    class Markup(str):  # type: ignore[no-redef]  # stands in where markupsafe is not installed
        """Text that is safe in HTML; encodes back as what it was read from."""

        __slots__ = ()

        def __html__(self) -> str:
            return str(self)


FORMAT = b"\x01"
DEEPEST = (
    100  # levels of nesting; what was stored must decode on a deeper stack than it was encoded
)

TUPLE, SET, FROZENSET, DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, UUID, INTEGER, MARKUP = range(
    1, 12
)

LONGEST = 100 * 365 * 24 * 60 * 60  # seconds; stores refuse lifetimes out of all measure

# Values and keys are whatever the application puts into its session, hence Any.
Data = dict[Any, Any]
# What a framework gives for values that cannot be encoded: another value, or an error.
Convert = Callable[[Any], Any]

# The key under which a session's own lifetime stands in its data, as Flask has it: True, or
# seconds, or a moment, for one that outlives the browser, False for one that does not.
PERMANENT = "_permanent"
FLASHES = "_flashes"  # pairs of category and message, as Flask has them
# Seconds without use, or the moment of its end; that of the settings, outliving the browser or not;
# None: the application left it open.
Lifetime = int | datetime | Literal["permanent", "browser"] | None


def whole_seconds(value: object) -> int | None:
    """Return a duration in whole seconds, a `timedelta`'s rounded up; None for what is none."""
    seconds = ceil(value.total_seconds()) if isinstance(value, timedelta) else value
    if isinstance(seconds, float) and seconds.is_integer():
        seconds = int(seconds)
    return seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else None


def lifetime_of(data: Mapping[Any, Any]) -> Lifetime:
    """Return the lifetime that a session's data ask for; whatever else stands there is a flag."""
    flag = data.get(PERMANENT)
    if flag is None:
        return None
    if isinstance(flag, int) and not isinstance(flag, bool) and 0 < flag <= LONGEST:
        return flag
    if isinstance(flag, datetime) and flag.tzinfo is not None:
        return flag
    return "permanent" if flag else "browser"


class Record(NamedTuple):
    """A session as it is stored. Times are epoch seconds; ``data`` is the encoded dict."""

    created: float
    absolute_end: float | None
    owner: str | None
    authenticated_at: float | None
    data: bytes
    last_owner: str | None = None  # whose it was before, where it has no owner now
    lifetime: Lifetime = None  # as the data have it; not stored beside them


class Tombstone(NamedTuple):
    """What stands in the place of a session that was ended or renewed."""

    marked_at: float
    successor: str | None


# --- values ---------------------------------------------------------------------------------------


def pack(value: object) -> bytes:
    try:
        packer = _packers.pop()
    except IndexError:  # all are in use: a value is packed while one that holds it is
        packer = msgpack.Packer(
            strict_types=True, default=_extension, unicode_errors="surrogatepass"
        )
    packed: bytes = packer.pack(value)
    if len(packed) <= LARGEST_BUFFER:
        _packers.append(packer)
    return packed


LARGEST_BUFFER = 2**16  # bytes that a packer keeps for the next time
_packers: list[msgpack.Packer] = []  # to make one takes longer than to pack a session


def unpack(encoded: bytes) -> Any:  # whatever was encoded
    try:
        return msgpack.unpackb(
            encoded,
            strict_map_key=False,
            unicode_errors="surrogatepass",
            ext_hook=_from_extension,
            object_pairs_hook=_dict if BEGINNING_OF_A_DATETIME in encoded else None,
        )
    except msgpack.StackError as error:
        if isinstance(error.__context__, RecursionError):  # how msgpack without C calls that
            raise error.__context__ from None
        raise


BEGINNING_OF_A_DATETIME = bytes((DATETIME, 0x95, 0xAA))  # its type, array of 5, text of 10


def _extension(value: object) -> object:
    """Called by msgpack for each type it does not know itself, subclasses of the known included.

    Containers are read as they show themselves, as JSON reads them: a `MultiDict` has a list behind
    each of its keys, and a text in front.
    """
    if type(value) is tuple:  # the most common by far
        return msgpack.ExtType(TUPLE, pack([*value]))
    if not _is_proxy(value):
        for kind, write in _WRITERS:
            if isinstance(value, kind):
                return write(value)
    raise TypeError(type(value).__name__)


# How each type is written; of a subclass, what it is based on. Any: that of the same line.


def _write_text(value: Any) -> object:
    if callable(getattr(value, "__html__", None)):
        html = "".join((value.__html__(),))
        return msgpack.ExtType(MARKUP, html.encode("utf-8", "surrogatepass"))
    return "".join((value,))


def _write_integer(value: Any) -> object:
    plain = int.__pos__(value)
    if -(2**63) <= plain < 2**64:
        return plain
    size = plain.bit_length() // 8 + 1
    return msgpack.ExtType(INTEGER, plain.to_bytes(size, "big", signed=True))


def _write_datetime(value: Any) -> object:
    day = date(value.year, value.month, value.day).isoformat()
    return msgpack.ExtType(DATETIME, pack([day, *_clock(value)]))


def _write_timedelta(value: Any) -> object:
    return msgpack.ExtType(TIMEDELTA, pack([value.days, value.seconds, value.microseconds]))


def _write_decimal(value: Any) -> object:
    # The decimal context of the moment may write the exponent in lower case.
    return msgpack.ExtType(DECIMAL, Decimal.__str__(value).replace("e", "E").encode())


_WRITERS: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, _write_text),
    (int, _write_integer),
    (float, float.__pos__),
    (bytes, lambda value: b"".join((value, b""))),
    (dict, lambda value: dict(value.items())),
    (list, lambda value: [*value]),
    (tuple, lambda value: msgpack.ExtType(TUPLE, pack([*value]))),
    (frozenset, lambda value: msgpack.ExtType(FROZENSET, _pack_sorted(value))),
    (set, lambda value: msgpack.ExtType(SET, _pack_sorted(value))),
    (datetime, _write_datetime),
    (date, lambda value: msgpack.ExtType(DATE, date.isoformat(value).encode())),
    (time, lambda value: msgpack.ExtType(TIME, pack(_clock(value)))),
    (timedelta, _write_timedelta),
    (Decimal, _write_decimal),
    (uuid.UUID, lambda value: msgpack.ExtType(UUID, value.bytes)),
)


def _pack_sorted(values: Iterable[object]) -> bytes:
    items = sorted(pack(value) for value in values)
    size = len(items)
    if size < 16:  # how msgpack begins an array of that size
        header = bytes((0x90 + size,))
    else:
        header = (
            b"\xdc" + size.to_bytes(2, "big") if size < 2**16 else b"\xdd" + size.to_bytes(4, "big")
        )
    return header + b"".join(items)


def _clock(value: datetime | time) -> list[object]:
    """The time of day, its fold, its offset in microseconds, and the name of its zone."""
    of_day = time(value.hour, value.minute, value.second, value.microsecond)
    return [of_day.isoformat(), value.fold, *_zone(value)]


def _zone(value: datetime | time) -> tuple[int | None, str | None]:
    offset = value.utcoffset()
    microseconds = None if offset is None else offset // timedelta(microseconds=1)
    match value.tzinfo:
        case StoredZone(key=str(name)) | ZoneInfo(key=str(name)):
            return microseconds, name
    return microseconds, None


def _from_clock(clock: list[Any], day: date | None = None) -> datetime | time:
    """Rebuild a datetime or a time: in its named zone, where this machine's zone data agrees."""
    text, fold, microseconds, name = clock
    of_day = time.fromisoformat(text).replace(fold=fold)
    value = of_day if day is None else datetime.combine(day, of_day)
    offset = None if microseconds is None else timedelta(microseconds=microseconds)
    if name is None:
        return value if offset is None else value.replace(tzinfo=timezone(offset))
    stored = value.replace(tzinfo=StoredZone(name, offset))
    with suppress(Exception):  # zone data that is missing, unreadable or broken raises anything
        named = value.replace(tzinfo=ZoneInfo(name))
        if _zone(named) == (microseconds, name):
            return named
    return stored


class StoredZone(tzinfo):
    """A named zone that this machine lacks, or knows differently, with the offset that was stored.

    It encodes to what it was read from, so that a machine which agrees reads the `ZoneInfo`.
    """

    def __init__(self, key: str, offset: timedelta | None) -> None:
        if type(key) is not str:
            raise ValueError("the name of a zone is no text")
        self.key = key
        self._fixed = None if offset is None else timezone(offset)

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if self._fixed is None else self._fixed.utcoffset(moment)

    def dst(self, moment: datetime | None) -> None:
        """Whether it is summer time was not stored."""

    def tzname(self, moment: datetime | None) -> str | None:
        return None if self._fixed is None else self._fixed.tzname(moment)

    def fromutc(self, moment: datetime) -> datetime:
        offset = self.utcoffset(moment)
        if offset is None:
            raise ValueError(
                f"The time in {self.key} cannot be told: this machine has no such zone data. "
                "Install the package tzdata."
            )
        return moment + offset

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"StoredZone({self.key!r}, {self.utcoffset(None)!r})"

    def __reduce__(self) -> tuple[type[StoredZone], tuple[str, timedelta | None]]:
        return StoredZone, (self.key, self.utcoffset(None))


def _from_extension(code: int, encoded: bytes) -> object:
    match code:
        case 1:
            return tuple(unpack(encoded))
        case 2:
            return _set(set, encoded)
        case 3:
            return _set(frozenset, encoded)
        case 4:
            day, *clock = unpack(encoded)
            return _from_clock(clock, date.fromisoformat(day))
        case 5:
            return date.fromisoformat(encoded.decode())
        case 6:
            return _from_clock(unpack(encoded))
        case 7:
            days, seconds, microseconds = unpack(encoded)
            return timedelta(days, seconds, microseconds)
        case 8:
            return Decimal(encoded.decode())
        case 9:
            return uuid.UUID(bytes=encoded)
        case 10:
            return int.from_bytes(encoded, "big", signed=True)
        case 11:
            return Markup(encoded.decode("utf-8", "surrogatepass"))
    raise UnknownFormat(
        f"The session holds a value of type code {code}, which a newer version of sharedsession "
        "wrote. Bring every server to the same version."
    )


Made = TypeVar("Made", bound=Collection[Any])


def _dict(pairs: list[tuple[Any, Any]]) -> Data:
    return _complete(dict(pairs), [key for key, _ in pairs])


def _set(kind: type[Made], encoded: bytes) -> Made:
    items = unpack(encoded)
    return _complete(kind(items), items)  # type: ignore[call-arg]  # a set or a frozenset


def _complete(made: Made, keys: list[Any]) -> Made:
    """Return it, unless two datetimes that were not equal where they were stored are equal here.

    Moments in an hour that the clocks show twice equal none of another zone; in a `StoredZone`
    they do. One of them would be lost, and a request that only reads would write that down.
    """
    if len(made) < len(keys) and len(made) < len({pack(key) for key in keys}):
        raise UndecodableHere(
            "The session holds datetimes that this server's time zone data makes equal and that of "
            "the server which stored them does not. Bring every server to the same tzdata."
        )
    return made


# --- the session's data ---------------------------------------------------------------------------

_SCALARS = (str, int, float, bytes, date, time, timedelta, Decimal, uuid.UUID, type(None))
_EXACT_SCALARS = frozenset((*_SCALARS, bool, datetime))
_TEXT = frozenset((str,))
_EXACT_CONTAINERS = frozenset((dict, list, tuple, set, frozenset))


def encode_data(data: Data, convert: Convert | None = None) -> bytes:
    """Encode a plain dict.

    ``convert`` is asked for what to store in the place of a value that cannot be encoded, as the
    ``default`` of a JSON encoder is; never for a key or an element of a set. What it gives then
    stands in ``data``, and in copies of the containers below.

    Raises `NotSerializable`, naming where it is, for a value that would not come back equal and of
    the same type (a subclass comes back as its base type), and for what ``convert`` raises. Memory
    or stack that runs out is no value's fault and is raised as it is.
    """
    try:
        return pack(data)
    except Exception as error:  # a value's own methods may raise anything; a tzinfo, for example
        if convert is not None:
            data.update(
                {key: _converted(each, convert, ((), key), 1) for key, each in data.items()}
            )
            return encode_data(data)
        check_data(data)
        if isinstance(error, OF_THE_MOMENT):
            raise
        for key, value in data.items():
            try:
                pack({key: value})
            except OF_THE_MOMENT:
                raise
            except Exception as reason:
                raise NotSerializable(
                    _written(((), key)),
                    f"of type {type(value).__qualname__} cannot be encoded: {reason!r}",
                ) from reason
        raise NotSerializable("session", f"cannot be encoded: {error!r}") from error


OF_THE_MOMENT = (MemoryError, RecursionError)


def _converted(value: object, convert: Convert, path: tuple[Any, ...], depth: int) -> object:
    if type(value) in _EXACT_SCALARS:
        return value
    if depth > DEEPEST:
        raise _too_deep(path)
    if not _is_proxy(value):
        if isinstance(value, dict) or _is_sequence(value):
            parts = [*_parts(value, path)]
            made = [_converted(item, convert, (path, at), depth + 1) for at, item in parts]
            if not any(map(is_not, made, (item for _, item in parts))):
                return value
            if isinstance(value, dict):
                return {key: item for (key, _), item in zip(parts, made, strict=True)}
            return tuple(made) if isinstance(value, tuple) else made
        if isinstance(value, (*_SCALARS, set, frozenset)):
            return value
    try:
        found = convert(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _refused(value, path, error) from error
    if found is value:
        raise _refused(value, path)
    return _converted(found, convert, path, depth + 1)


def check_data(data: Data) -> None:
    """Raise `NotSerializable` for what msgpack would take, but give back as another type.

    For data that msgpack has taken, which is why they hold themselves nowhere.
    """
    if not _is_plain(data):
        _check(data, (), 0)


def _is_plain(data: Data) -> bool:
    """Whether there are none but plain values in plain dicts and lists, under texts: most often."""
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                if not _TEXT.issuperset(map(type, container)):
                    return False
                values: Collection[Any] = container.values()
            elif type(container) is list:
                values = container
            else:
                return False
            if not _EXACT_SCALARS.issuperset(map(type, values)):
                below += [each for each in values if type(each) not in _EXACT_SCALARS]
        if not below:
            return True
        level = below
    return False


def _check(value: object, path: tuple[Any, ...], depth: int, *, is_hashed: bool = False) -> None:
    # `path` is (everything above, key) and only written out when there is something to say.
    if type(value) in _EXACT_SCALARS:
        return
    if depth > DEEPEST:
        raise _too_deep(path)
    if type(value) not in _EXACT_CONTAINERS and _is_proxy(value):
        raise _refused(value, path)
    if is_hashed and isinstance(value, (dict, list, set)):
        raise NotSerializable(
            _written(path),
            f"has, in a key or a set, a value of type {_name(value)}, which would come back as one "
            "that cannot be there. Use a tuple or a frozenset.",
        )
    if isinstance(value, dict):
        for key, item in _parts(value, path):
            _check_key(key, path, depth + 1)
            _check(item, (path, key), depth + 1)
    elif _is_sequence(value):
        for index, item in _parts(value, path):
            _check(item, (path, index), depth + 1, is_hashed=is_hashed)
    elif isinstance(value, (set, frozenset)):
        for item in value:
            _check(item, (path, item), depth + 1, is_hashed=True)
    elif not isinstance(value, _SCALARS):
        raise _refused(value, path)


def _check_key(key: object, path: tuple[Any, ...], depth: int) -> None:
    if isinstance(key, float | Decimal) and isnan(key):
        raise NotSerializable(_written((path, key)), "has a key that is not equal to itself")
    _check(key, (path, key), depth, is_hashed=True)


def _is_proxy(value: object) -> bool:
    """Say whether it gives itself out as something else: what it stands for may change."""
    try:
        return value.__class__ is not type(value)
    except Exception:  # noqa: BLE001 - what it stands for could not be found
        return True


def _parts(value: Any, path: tuple[Any, ...]) -> Iterable[tuple[Any, Any]]:
    """Return what a container shows of itself, each with its key or its place."""
    if type(value) is dict:
        return value.items()
    if type(value) in (list, tuple):
        return enumerate(value)
    try:
        return [*value.items()] if isinstance(value, dict) else [*enumerate(value)]
    except OF_THE_MOMENT:
        raise
    except Exception as error:
        raise NotSerializable(
            _written(path), f"is of type {_name(value)} and cannot be read: {_shown(error, 200)}"
        ) from error


def _is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType)


def _too_deep(path: tuple[Any, ...]) -> NotSerializable:
    return NotSerializable(
        _written(path), f"is nested more than {DEEPEST} levels deep, or holds itself"
    )


def _refused(
    value: object, path: tuple[Any, ...], error: Exception | None = None
) -> NotSerializable:
    why = "" if error is None else f" and which could not be converted: {_shown(error, 200)}"
    if _is_proxy(value):
        remedy = "Store what it stands for, not the proxy."
    elif hasattr(type(value), "__html__"):
        remedy = "Store its text: Markup(…) of it, or str(…)."
    else:
        remedy = (
            "Store what it is made of: str, int, float, bool, None, bytes, list, dict, tuple, set, "
            "frozenset, datetime, date, time, timedelta, Decimal, UUID or Markup."
        )
    return NotSerializable(
        _written(path), f"is of type {_name(value)}, which a session cannot hold{why}. {remedy}"
    )


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _shown(value: object, longest: int) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - its own repr may raise anything; this is for reading
        text = f"<{type(value).__name__}>"
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _written(path: tuple[Any, ...]) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(f"[{_shown(key, 80)}]")
    shown = keys[::-1]
    return "session" + "".join(shown if len(shown) < 8 else [*shown[:3], "[…]", *shown[-3:]])


def decode_data(encoded: bytes) -> Data:
    """Decode what `encode_data` made.

    Raises `UnknownFormat` for what this server cannot decode now, one of `DAMAGE` for other bytes.
    """
    try:
        data = unpack(encoded)
    except (UnknownFormat, *DAMAGE):
        raise
    except Exception as error:
        raise _undecodable(error) from error
    if type(data) is not dict:
        raise ValueError("not a dict")
    return data


# What wrong bytes raise, in msgpack and in the constructors of values; whatever else is raised has
# its cause in this machine or this moment.
DAMAGE = (ValueError, TypeError, ArithmeticError)


def _undecodable(error: Exception) -> UndecodableHere:
    return UndecodableHere(
        f"The session cannot be decoded on this server now: {error!r}. It stays as it is."
    )


EMPTY = encode_data({})


# --- the record -----------------------------------------------------------------------------------


def encode_record(record: Record | Tombstone) -> bytes:
    """Return the bytes that a store keeps."""
    if isinstance(record, Tombstone):
        fields: list[object] = [None, None, None, None, [record.marked_at, record.successor]]
    else:
        fields = [
            record.created,
            record.absolute_end,
            record.owner,
            record.authenticated_at,
            record.data,
        ]
        if record.last_owner is not None:
            fields.append(record.last_owner)
    return FORMAT + pack(fields)


def decode_record(stored: bytes) -> tuple[Record | Tombstone, Data]:
    """Return the record and its data; of a tombstone they are empty.

    Raises `UnknownFormat` for what a newer version wrote, its subclass `UndecodableHere` for what
    only this server cannot decode now, and `CorruptRecord` for anything else that is no record.
    """
    read_format(stored)
    try:
        created, absolute_end, owner, authenticated_at, data, *last = unpack(stored[1:])
        if type(data) is list:
            marked_at, successor = data
            if not isinstance(successor, str | None):
                raise ValueError("the successor is no key")
            return Tombstone(float(marked_at), successor), {}
        (last_owner,) = last or (None,)
        if type(data) is not bytes or not _NAMES.issuperset((type(owner), type(last_owner))):
            raise ValueError("a field has the wrong type")
        decoded = decode_data(data)
        record = Record(
            float(created),
            None if absolute_end is None else float(absolute_end),
            owner,
            None if authenticated_at is None else float(authenticated_at),
            data,
            last_owner,
            lifetime_of(decoded),
        )
        # msgpack's own type for timestamps, which we never write, in its three lengths
        if b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data:
            check_data(decoded)
    except UnknownFormat:
        raise
    except DAMAGE as error:
        raise CorruptRecord(f"The stored bytes are no session record: {error!r}") from error
    except Exception as error:
        raise _undecodable(error) from error
    return record, decoded


def read_format(stored: bytes) -> None:
    """Raise what `decode_record` raises, unless the bytes are of the format that is known here."""
    if stored[:1] != FORMAT:
        if stored[:1] not in _LATER_FORMATS:
            raise CorruptRecord("The stored bytes are no session record: no format byte")
        raise UnknownFormat(
            f"The session was stored in format {stored[0]}, which this version of sharedsession "
            "does not know. Bring every server to the same version."
        )


_LATER_FORMATS = frozenset(bytes((code,)) for code in range(2, 32))
_NAMES = frozenset((str, type(None)))
