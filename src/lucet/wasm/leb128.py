"""LEB128 numbers (specification, "Values / Integers"): writes the shortest encoding, reads what is well-formed.

lucet/wasm/reader.py reads those of a module that nobody has looked at yet.
"""

from __future__ import annotations

from typing import Final

_BYTES: Final = [bytes([value]) for value in range(128)]


def unsigned_leb128(value: int) -> bytes:
    if value < 128:
        return _BYTES[value]
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def signed_leb128(value: int) -> bytes:
    encoded = bytearray()
    while not -64 <= value < 64:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)


def read_unsigned_leb128(data: bytes, position: int) -> tuple[int, int]:
    """(value, where it ends). IndexError if the data ends before it; it may be of any length."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def read_signed_leb128(data: bytes, position: int) -> tuple[int, int]:
    """Like read_unsigned_leb128."""
    value, end = read_unsigned_leb128(data, position)
    bits = 7 * (end - position)
    return (value - (1 << bits) if value >> bits - 1 else value), end
