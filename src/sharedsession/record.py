"""What is stored: encoding and decoding, what changed, and how changes are laid over newer data.

A record is one clear format byte and a msgpack array: created, absolute end, owner, authenticated
at, the session's data, itself encoded, as one byte string, and, of a session without an owner that
had one, whose it was last. An *end mark* has, in the place of the data, the time it was set and the
key of its successor.

The encoding is canonical: the same values always give the same bytes (elements of sets are sorted
by theirs), so "has it changed" is a comparison of bytes, never of values; 1, True and 1.0 differ.
The order of top-level keys is not data. Nothing is ever unpickled.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from hashlib import sha256
from math import isnan
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgpack

from .exceptions import DamagedRecord, NotEncodable, UndecodableHere, UnknownFormat

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

# Values and keys are whatever the application puts into its session, hence Any.
Data = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A session as it is stored. Times are epoch seconds; ``data`` is the encoded dict."""

    created: float
    absolute_end: float | None
    owner: str | None
    authenticated_at: float | None
    data: bytes
    last_owner: str | None = None  # whose it was before, where it has no owner now


@dataclass(frozen=True, slots=True)
class EndMark:
    """What stands in the place of a session that was ended or renewed: a tombstone."""

    marked_at: float
    successor: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of top-level keys: with another value, removed, or assigned; never deeper.

    ``assigned`` are those that the application set itself, whether that changed their value or
    not. What was changed inside a value is among ``changed`` only: the value is of the session.
    """

    changed: tuple[tuple[Any, bytes], ...] = ()
    removed: tuple[Any, ...] = ()
    assigned: tuple[tuple[Any, bytes], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.assigned)

    def apply(self, data: Data, *, from_nothing: bool = False) -> None:
        """Make the same changes to ``data``, with values of its own.

        ``from_nothing``: to data that are no longer the session's, so only what was assigned.
        """
        for key in self.removed:
            dict.pop(data, key, None)
        for key, value in self.assigned if from_nothing else self.changed:
            dict.__setitem__(data, key, _unpack(value))


# --- values ---------------------------------------------------------------------------------------


def _pack(value: object) -> bytes:
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


def _unpack(encoded: bytes) -> Any:  # whatever was encoded
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
    """Called by msgpack for each type it does not know itself, subclasses of the known included."""
    match value:
        case str() if hasattr(value, "__html__"):
            return msgpack.ExtType(MARKUP, "".join((value,)).encode("utf-8", "surrogatepass"))
        case str():
            return "".join((value,))
        case int():
            plain = int.__pos__(value)
            if -(2**63) <= plain < 2**64:
                return plain
            size = plain.bit_length() // 8 + 1
            return msgpack.ExtType(INTEGER, plain.to_bytes(size, "big", signed=True))
        case float():
            return float.__pos__(value)
        case bytes():
            return b"".join((value, b""))
        case dict():
            return dict(dict.items(value))
        case list():
            return list(list.__iter__(value))
        case tuple():
            return msgpack.ExtType(TUPLE, _pack(list(tuple.__iter__(value))))
        case frozenset():
            return msgpack.ExtType(FROZENSET, _pack_sorted(frozenset.__iter__(value)))
        case set():
            return msgpack.ExtType(SET, _pack_sorted(set.__iter__(value)))
        case datetime():
            day = date(value.year, value.month, value.day).isoformat()
            return msgpack.ExtType(DATETIME, _pack([day, *_clock(value)]))
        case date():
            return msgpack.ExtType(DATE, date.isoformat(value).encode())
        case time():
            return msgpack.ExtType(TIME, _pack(_clock(value)))
        case timedelta():
            return msgpack.ExtType(
                TIMEDELTA, _pack([value.days, value.seconds, value.microseconds])
            )
        case Decimal():
            # the decimal context of the moment may write the exponent in lower case
            return msgpack.ExtType(DECIMAL, Decimal.__str__(value).replace("e", "E").encode())
        case uuid.UUID():
            return msgpack.ExtType(UUID, value.bytes)
    raise TypeError(type(value).__name__)


def _pack_sorted(values: Iterable[object]) -> bytes:
    items = sorted(_pack(value) for value in values)
    header: bytes = msgpack.Packer().pack_array_header(len(items))
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
            return tuple(_unpack(encoded))
        case 2:
            return _set(set, encoded)
        case 3:
            return _set(frozenset, encoded)
        case 4:
            day, *clock = _unpack(encoded)
            return _from_clock(clock, date.fromisoformat(day))
        case 5:
            return date.fromisoformat(encoded.decode())
        case 6:
            return _from_clock(_unpack(encoded))
        case 7:
            days, seconds, microseconds = _unpack(encoded)
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
    items = _unpack(encoded)
    return _complete(kind(items), items)  # type: ignore[call-arg]  # a set or a frozenset


def _complete(made: Made, keys: list[Any]) -> Made:
    """Return it, unless two datetimes that were not equal where they were stored are equal here.

    Moments in an hour that the clocks show twice equal none of another zone; in a `StoredZone`
    they do. One of them would be lost, and a request that only reads would write that down.
    """
    if len(made) < len(keys) and len(made) < len({_pack(key) for key in keys}):
        raise UndecodableHere(
            "The session holds datetimes that this server's time zone data makes equal and that of "
            "the server which stored them does not. Bring every server to the same tzdata."
        )
    return made


# --- the session's data ---------------------------------------------------------------------------

_SCALARS = (str, int, float, bytes, date, time, timedelta, Decimal, uuid.UUID, type(None))
_EXACT_SCALARS = frozenset((*_SCALARS, bool, datetime))


def encode_data(data: Data) -> bytes:
    """Encode a plain dict.

    Raises `NotEncodable`, naming where it is, for a value that would not come back equal and of
    the same type (a subclass comes back as its base type). Memory or stack that runs out is no
    value's fault and is raised as it is.
    """
    try:
        return _pack(data)
    except Exception as error:  # a value's own methods may raise anything; a tzinfo, for example
        check_data(data)
        if isinstance(error, OF_THE_MOMENT):
            raise
        for key, value in data.items():
            try:
                _pack({key: value})
            except OF_THE_MOMENT:
                raise
            except Exception as reason:
                raise NotEncodable(
                    _written(((), key)),
                    f"of type {type(value).__qualname__} cannot be encoded: {reason!r}",
                ) from reason
        raise NotEncodable("session", f"cannot be encoded: {error!r}") from error


OF_THE_MOMENT = (MemoryError, RecursionError)


def check_data(data: Data) -> None:
    """Raise `NotEncodable` for what msgpack would take, but give back as another type."""
    _check(data, (), 0)


def _check(value: object, path: tuple[Any, ...], depth: int) -> None:
    # `path` is (everything above, key) and only written out when there is something to say.
    if type(value) in _EXACT_SCALARS:
        return
    if depth > DEEPEST:
        raise NotEncodable(
            _written(path), f"is nested more than {DEEPEST} levels deep, or holds itself"
        )
    if isinstance(value, dict):
        for key, item in dict.items(value):
            if isinstance(key, float | Decimal) and isnan(key):
                raise NotEncodable(_written((path, key)), "has a key that is not equal to itself")
            _check(key, (path, key), depth + 1)
            _check(item, (path, key), depth + 1)
    elif isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
        for index, item in enumerate(value):
            _check(item, (path, index), depth + 1)
    elif isinstance(value, (set, frozenset)):
        for item in value:
            _check(item, (path, item), depth + 1)
    elif not isinstance(value, _SCALARS):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise NotEncodable(
            _written(path),
            f"is of type {kind}, which a session cannot hold. Store what it is made of: str, int, "
            "float, bool, None, bytes, list, dict, tuple, set, frozenset, datetime, date, time, "
            "timedelta, Decimal, UUID or Markup.",
        )


def _written(path: tuple[Any, ...]) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        try:
            text = repr(key)
        except Exception:  # noqa: BLE001 - a key's own repr may raise anything; this is for reading
            text = f"<{type(key).__name__}>"
        keys.append(f"[{text if len(text) <= 80 else text[:77] + '...'}]")
    shown = keys[::-1]
    return "session" + "".join(shown if len(shown) < 8 else [*shown[:3], "[…]", *shown[-3:]])


def decode_data(encoded: bytes) -> Data:
    """Decode what `encode_data` made.

    Raises `UnknownFormat` for what this server cannot decode now, one of `DAMAGE` for other bytes.
    """
    try:
        data = _unpack(encoded)
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


def same_data(encoded: bytes, other: bytes) -> bool:
    """Say whether two encoded dicts hold the same; the order of top-level keys does not count."""
    if encoded == other:
        return True
    if len(encoded) != len(other):
        return False
    return not compare(encoded, decode_data(other))


def compare(
    before: bytes, data: Data, assigned: Container[Any] = (), own: Container[Any] = ()
) -> Changes:
    """Return what became of the keys between ``before`` (encoded) and ``data``.

    ``assigned``: the keys that the application has set itself since; ``own``: those that it had set
    before, so that what it changes inside their values is its own, too.
    """
    old = {_pack(key): (key, _pack(value)) for key, value in decode_data(before).items()}
    changed, kept = [], []
    for key, value in data.items():
        encoded = _pack(value)
        known = old.pop(_pack(key), None)
        differs = known is None or known[1] != encoded
        if differs:
            changed.append((key, encoded))
        if key in assigned or (differs and key in own):
            kept.append((key, encoded))
    return Changes(tuple(changed), tuple(key for key, _ in old.values()), tuple(kept))


# --- the record -----------------------------------------------------------------------------------


def encode_record(record: Record | EndMark) -> bytes:
    """Return the bytes that a store keeps."""
    if isinstance(record, EndMark):
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
    packed: bytes = msgpack.packb(fields)
    return FORMAT + packed


def decode_record(stored: bytes) -> tuple[Record | EndMark, Data]:
    """Return the record and its data; an end mark's data is empty.

    Raises `UnknownFormat` for what a newer version wrote, its subclass `UndecodableHere` for what
    only this server cannot decode now, and `DamagedRecord` for anything else that is no record.
    """
    if stored[:1] != FORMAT:
        if stored[:1] not in _LATER_FORMATS:
            raise DamagedRecord("The stored bytes are no session record: no format byte")
        raise UnknownFormat(
            f"The session was stored in format {stored[0]}, which this version of sharedsession "
            "does not know. Bring every server to the same version."
        )
    try:
        created, absolute_end, owner, authenticated_at, data, *more = _unpack(stored[1:])
        if type(data) is list:
            marked_at, successor = data
            if not isinstance(successor, str | None):
                raise ValueError("the successor is no key")
            return EndMark(float(marked_at), successor), {}
        names = [each for each in (owner, *more) if each is not None]
        if type(data) is not bytes or not all(type(name) is str for name in names):
            raise ValueError("a field has the wrong type")
        record = Record(
            float(created), _maybe(absolute_end), owner, _maybe(authenticated_at), data, *more
        )
        decoded = decode_data(data)
        # msgpack's own type for timestamps, which we never write, in its three lengths
        if b"\xd6\xff" in data or b"\xd7\xff" in data or b"\xc7\x0c\xff" in data:
            check_data(decoded)
    except UnknownFormat:
        raise
    except DAMAGE as error:
        raise DamagedRecord(f"The stored bytes are no session record: {error!r}") from error
    except Exception as error:
        raise _undecodable(error) from error
    return record, decoded


_LATER_FORMATS = frozenset(bytes((code,)) for code in range(2, 32))


def _maybe(moment: float | None) -> float | None:
    return None if moment is None else float(moment)


# --- owner ----------------------------------------------------------------------------------------


def owners(data: Mapping[Any, Any], names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return the owner keys that hold something, with their encoded values; None is nobody."""
    return tuple((name, _pack(data[name])) for name in names if data.get(name) is not None)


def owner_name(data: Mapping[Any, Any], names: tuple[str, ...]) -> str | None:
    """Return the owner as text for a store's index; long ones are hashed to fit."""
    for name in names:
        if data.get(name) is not None:
            value = data[name]
            if isinstance(value, str | int | uuid.UUID) and len(_pack(value)) <= 200:
                text = _plain_text(value)
                if text.isprintable():
                    return text
            return sha256(_pack(value)).hexdigest()
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
    """Return who the keys of these names say is signed in, encoded; nobody, where one is empty."""
    return {name: _identity(data[name]) for name in names if data.get(name)}


def _same_person(value: object, other: object) -> bool:
    """Say whether two dicts name the same person, and in the same role, whatever else they hold."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return False
    known = {name: value[name] for name in (*_WHO, *_WHERE) if name in value}
    named = {name: other[name] for name in (*_WHO, *_WHERE) if name in other}
    return any(known.get(name) for name in _WHO) and _pack(known) == _pack(named)


def _identity(value: object) -> bytes:
    if not isinstance(value, dict):
        return _pack(value)
    # A dict that names no person is always the same one: its other fields may change.
    return _pack(next(((name, value[name]) for name in _WHO if value.get(name)), True))
