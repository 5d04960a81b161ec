"""What stands before the data where a store has no columns: the version, and the write tokens.

The first byte tells how long the head is: its two low bits are the number of tokens less one, the
others the number of the version's bytes. The version follows, big-endian, and then the tokens,
newest first. A session's first write takes 10 bytes that way, and no later one more than 41.
"""

from __future__ import annotations

from ..base import TOKEN_BYTES, TOKENS_KEPT

LONGEST_VERSION = 8
LONGEST = 1 + LONGEST_VERSION + TOKEN_BYTES * TOKENS_KEPT


def head_of(version: int, tokens: bytes) -> bytes:
    """Return the head of what is to be stored."""
    size = (version.bit_length() + 7) // 8
    count = len(tokens) // TOKEN_BYTES
    return bytes([size << 2 | count - 1]) + version.to_bytes(size, "big") + tokens


def read_head(value: bytes) -> tuple[int, bytes, int]:
    """Return version, tokens, and where the data begin; (0, b"", 0) where there is no head."""
    first = value[0] if value else 0xFF
    size, count = first >> 2, (first & 3) + 1
    data = 1 + size + TOKEN_BYTES * count
    if size > LONGEST_VERSION or len(value) < data:
        return 0, b"", 0
    return int.from_bytes(value[1 : 1 + size], "big"), value[1 + size : data], data
