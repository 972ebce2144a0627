"""The text format's numbers: from a literal (already a token of the right shape) to its bits, rounded once and exactly.

Time is linear in the literal's length, whatever its exponent says.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Final


class OutOfRange(ValueError):
    """The literal has no value of the wanted type."""


_MANTISSA_BITS: Final = {32: 23, 64: 52}
_MAX_DECIMAL_DIGITS: Final = 20
"""Of any integer below 1 << 64."""
_SIDE_SHIFT: Final = 64
"""More bits than an f64's mantissa has: one of them less is a change below its precision."""
_EXPONENT_LIMIT: Final = 1 << 40
"""Far beyond what the longest literal that fits in memory could make up for in its digits."""


def unsigned(literal: str, bits: int) -> int:
    """A NAT token below 1 << bits."""
    value = _magnitude(literal)
    if value >> bits:
        raise OutOfRange(literal)
    return value


def signed(literal: str, bits: int) -> int:
    """A NAT or INT token in the range of either signedness, as the signed number with the same bits."""
    magnitude = _magnitude(literal.lstrip("+-"))
    value = -magnitude if literal.startswith("-") else magnitude
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise OutOfRange(literal)
    return value - (1 << bits) if value >> (bits - 1) > 0 else value


def float_bits(literal: str, bits: int) -> int:
    """A NAT, INT or FLOAT token as the bit pattern of an f32 or f64: the nearest value, ties to even."""
    text = literal.replace("_", "")
    sign = (1 << (bits - 1)) if text.startswith("-") else 0
    text = text.lstrip("+-")
    infinity = _infinity(bits)
    if text == "inf":
        return sign | infinity
    if text.startswith("nan"):
        return sign | infinity | _nan_payload(text, bits)
    if text.startswith("0x"):
        return sign | _hexadecimal(text, bits)
    return sign | _decimal(text, bits)


def _magnitude(literal: str) -> int:
    digits = literal.replace("_", "")
    if digits.startswith("0x"):
        return int(digits, 16)
    # int() refuses very long decimals and takes quadratic time for long ones: these are out of every range.
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DECIMAL_DIGITS else 1 << 128


def _infinity(bits: int) -> int:
    mantissa = _MANTISSA_BITS[bits]
    return ((1 << (bits - 1 - mantissa)) - 1) << mantissa


def _nan_payload(text: str, bits: int) -> int:
    mantissa = _MANTISSA_BITS[bits]
    if text == "nan":
        return 1 << (mantissa - 1)
    payload = int(text.removeprefix("nan:"), 16)
    if not 0 < payload < 1 << mantissa:
        raise OutOfRange(text)
    return payload


def _hexadecimal(text: str, bits: int) -> int:
    digits, _, exponent_text = text[2:].lower().partition("p")
    whole, _, fraction = digits.partition(".")
    exponent = _exponent(exponent_text) - 4 * len(fraction)
    return _round(int(whole + fraction, 16), exponent, bits)


def _exponent(text: str) -> int:
    """A decimal exponent, cut to a range that int() is quick in and that changes no result."""
    digits = text.lstrip("+-").lstrip("0")
    magnitude = _EXPONENT_LIMIT if len(digits) > _MAX_DECIMAL_DIGITS else min(int(digits or "0"), _EXPONENT_LIMIT)
    return -magnitude if text.startswith("-") else magnitude


def _decimal(text: str, bits: int) -> int:
    # float() rounds exactly, but to f64.
    value = float(text)
    if value == float("inf"):
        raise OutOfRange(text)
    pattern: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    if bits == 64:
        return pattern
    numerator, denominator = value.as_integer_ratio()
    exponent = 1 - denominator.bit_length()
    # Rounding that f64 again, to f32, goes wrong when it lies half-way between two f32s and the literal does not: a
    # bit far below all of its own says on which side of the f64 the literal is.
    side = 0
    if value and pattern & 0xFFFFFFF == 0:
        exact = Decimal(text)
        side = (exact > Decimal(value)) - (exact < Decimal(value))
    return _round((numerator << _SIDE_SHIFT) + side, exponent - _SIDE_SHIFT, bits)


def _round(mantissa: int, exponent: int, bits: int) -> int:
    """The bits of the float nearest to mantissa * 2**exponent, ties to even; mantissa >= 0."""
    if not mantissa:
        return 0
    precision = _MANTISSA_BITS[bits]
    bias = (1 << (bits - 2 - precision)) - 1
    least = 1 - bias - precision
    # unit: the exponent of the result's last bit, before rounding.
    unit = max(mantissa.bit_length() - 1 + exponent - precision, least)
    shift = unit - exponent
    if shift <= 0:
        rounded = mantissa << -shift
    elif shift > mantissa.bit_length() + 1:
        rounded = 0
    else:
        rounded = mantissa >> shift
        rest, half = mantissa & ((1 << shift) - 1), 1 << (shift - 1)
        if rest > half or (rest == half and rounded & 1):
            rounded += 1
    # The exponent field is one less where the mantissa's leading one adds one to it: for every normal number. The same
    # carry makes a rounded-up mantissa of all ones the next power of two.
    pattern = ((unit - least) << precision) + rounded
    if pattern >= _infinity(bits):
        raise OutOfRange("out of range")
    return pattern
