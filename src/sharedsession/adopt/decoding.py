"""Bytes of other packages become data: JSON, msgpack, and what was compressed.

Whatever is wrong with them is `NotAdoptable`.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import msgpack

from .._core.record import DAMAGE
from .source import NotAdoptable

T = TypeVar("T")
Data = dict[Any, Any]  # whatever the application put into its session

LATEST = 2**33  # epoch seconds, in the year 2242
LARGEST = 2**20  # bytes that zlib may unpack
# How pickles begin: a dict of protocols 2 to 5, which {} of msgpack with bytes behind it is not;
# of protocols 0 and 1, which end with a dot.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|(?:\(d|\}q?).*\.\Z", re.DOTALL)


def damaged(what: str) -> NotAdoptable:
    """Return the error for bytes that are not what they should be."""
    return NotAdoptable("damaged", f"An old session cannot be read: {what}.")


def unsupported(what: str) -> NotAdoptable:
    """Return the error for values of types that the old package was taught."""
    return NotAdoptable("unknown types", f"An old session holds {what}, which only it can read.")


def reading(decode: Callable[[], T], what: str) -> T:
    """Return what ``decode`` returns; what wrong bytes raise there is `NotAdoptable`.

    So is what is nested deeper than this stack.
    """
    try:
        return decode()
    except (*DAMAGE, LookupError, AttributeError, RecursionError) as error:
        raise damaged(f"{what} ({type(error).__name__})") from None


def as_bytes(stored: object) -> bytes:
    """Return what a store keeps as bytes; drivers of databases have several types for them."""
    if isinstance(stored, bytes | bytearray | memoryview):
        return bytes(stored)
    raise damaged("it is no bytes")


def as_time(noted: object) -> float | None:
    """Return a time that a package has noted beside the data; None for what is none."""
    if isinstance(noted, int | float) and not isinstance(noted, bool) and 0 < noted < LATEST:
        return float(noted)
    return None


def refuse_pickle(encoded: bytes) -> None:
    """Raise `NotAdoptable` for what is a pickle: to read one is to run what it says."""
    if _PICKLE.match(encoded):
        raise NotAdoptable(
            "pickle",
            "An old session is pickled, and no pickle is ever read: it could run any code here. "
            "Let the old package write JSON or msgpack first.",
        )


def from_json(encoded: bytes | str) -> Data:
    """Return the dict that is written as JSON."""
    return _dict(reading(lambda: json.loads(encoded), "it is no JSON"))


def from_msgpack(encoded: bytes) -> Data:
    """Return the dict that is written as msgpack, with timestamps as datetimes in UTC.

    Arrays that are keys are tuples, as msgspec reads them.
    """
    return _dict(
        reading(
            lambda: msgpack.unpackb(
                encoded,
                strict_map_key=False,
                timestamp=3,
                ext_hook=_unknown_extension,
                object_pairs_hook=_hashed,
            ),
            "it is no msgpack",
        )
    )


def from_base64(text: str, *, url_safe: bool) -> bytes:
    """Return what is written in base64, with or without padding."""
    decode = urlsafe_b64decode if url_safe else b64decode
    return reading(lambda: decode(text + "=" * (-len(text) % 4)), "it is no base64")


def unpacked(compressed: bytes) -> bytes:
    """Return what zlib has compressed, which may be `LARGEST` bytes at most."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(compressed, LARGEST + 1)
    except zlib.error:
        raise damaged("it is not compressed by zlib") from None
    if len(data) > LARGEST:
        raise NotAdoptable(
            "too large", f"An old session is larger than {LARGEST} bytes when it is decompressed."
        )
    if not unpacker.eof:
        raise damaged("what zlib has compressed is cut off")
    return data


def _hashed(pairs: list[tuple[Any, Any]]) -> Data:
    return {_tuples(key) if type(key) is list else key: value for key, value in pairs}


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _unknown_extension(code: int, _: bytes) -> NoReturn:
    raise unsupported(f"values of msgpack's type {code}")


def _dict(data: object) -> Data:
    if type(data) is not dict:
        raise damaged("it is no dict")
    return data
