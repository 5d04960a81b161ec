"""Signatures of other packages: which text was signed, by one of several keys, and when.

Signatures are compared as text: base64 decodes leniently, so several texts could stand for one
signature, and each of them for a session of its own that was adopted.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from itsdangerous import Signer

from .arguments import DAY

LONGEST = 2**14  # characters of a cookie; browsers keep a quarter of that

Sign = Callable[[bytes], bytes]  # from what is signed to the text of its signature


def signed_part(text: str, separator: str, signs: Iterable[Sign]) -> str | None:
    """Return what stands before the signature, or None where no key has signed it."""
    part, found, signature = text.rpartition(separator)
    if not found or not part or len(text) > LONGEST or not text.isascii():
        return None
    signed, given = part.encode(), signature.encode()
    # Every key is tried, so that the time taken does not tell which one fitted.
    fits = sum([hmac.compare_digest(sign(signed), given) for sign in signs])
    return part if fits else None


@lru_cache(64)
def by_itsdangerous(key: bytes, salt: bytes, key_derivation: str, digest_method: Any) -> Sign:
    """Return how itsdangerous signs; Any: hashlib's functions, as it annotates them."""
    signer = Signer(key, salt=salt, key_derivation=key_derivation, digest_method=digest_method)
    return signer.get_signature


def time_of(text: str) -> int | None:
    """Return the time that itsdangerous writes before its signature; None for what is none."""
    try:
        decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return int.from_bytes(decoded, "big") if 0 < len(decoded) <= 8 else None


def end_of(signed_at: int | None, lifetime: int, now: float) -> float:
    """Return when what was signed at that time ends, in epoch seconds; 0 for what never counted.

    Clocks differ. What is dated a day ahead would outlive what is kept to remember its adoption.
    """
    if signed_at is None or signed_at > now + DAY:
        return 0.0
    return min(signed_at, now) + lifetime
