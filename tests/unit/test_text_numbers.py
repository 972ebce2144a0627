"""Numeric literals of the text format against exact rational arithmetic."""

from __future__ import annotations

import struct
import time
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lucet.wasm.text_numbers import OutOfRange, float_bits, signed, unsigned

FORMATS = {32: ("<I", "<f"), 64: ("<Q", "<d")}
EXPONENT_RANGE = {32: (-149, 128), 64: (-1074, 1024)}


def value_of(bits: int, width: int) -> Fraction:
    integer, real = FORMATS[width]
    return Fraction(struct.unpack(real, struct.pack(integer, bits))[0])


def largest_finite(width: int) -> int:
    return 0x7F7FFFFF if width == 32 else 0x7FEFFFFFFFFFFFFF


def nearest(exact: Fraction, width: int) -> int | None:
    """The bits of the float nearest to a positive number, by bisection over all floats; None if it is infinite."""
    low, high = 0, largest_finite(width)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if value_of(middle, width) <= exact else (low, middle - 1)
    unit = Fraction(1 << (104 if width == 32 else 971))
    above = value_of(low + 1, width) if low < largest_finite(width) else value_of(low, width) + unit
    to_low, to_above = exact - value_of(low, width), above - exact
    result = low if to_low < to_above or (to_low == to_above and low % 2 == 0) else low + 1
    return result if result <= largest_finite(width) else None


def bits_or_none(literal: str, width: int) -> int | None:
    try:
        return float_bits(literal, width)
    except OutOfRange:
        return None


@given(
    st.sampled_from([32, 64]),
    st.integers(0, 1 << 90),
    st.text("0123456789", max_size=30),
    st.one_of(st.integers(-60, 50), st.integers(-360, 320)),
)
@example(32, 1, "000000059604644775390625", 0)  # half-way between 1 and the next f32: to even
@example(32, 1, "000000059604644775390625000000000001", 0)  # just above: wrong if rounded to f64 first
@example(32, 1, "00000017881393432617187499999999999", 0)  # just below half-way, likewise
@example(32, 0, "49999999999999998", 0)  # next to a power of two, which has few bits
@example(64, 17976931348623157, "5", 292)
@example(32, 340282356779733661637539395458142568447, "99999", 0)
@example(32, 340282356779733661637539395458142568448, "0", 0)  # half-way to infinity
def test_decimal_literals_are_rounded_once(width: int, whole: int, fraction: str, exponent: int) -> None:
    exact = Fraction(int(f"{whole}{fraction}")) * Fraction(10) ** (exponent - len(fraction))
    assert bits_or_none(f"{whole}.{fraction}e{exponent}", width) == nearest(exact, width)


@given(
    st.sampled_from([32, 64]),
    st.integers(0, 1 << 110),
    st.text("0123456789abcdefABCDEF", max_size=30),
    st.one_of(st.integers(-200, 130), st.integers(-1300, 1100)),
)
@example(32, 0x1000001, "", 0)
@example(32, 0x1000001, "00000001", 0)
@example(32, 0x1FFFFFF, "", 103)
@example(64, 1, "", -1075)
@example(64, 1, "0000000000001", -1075)
def test_hexadecimal_literals_are_rounded_once(width: int, whole: int, fraction: str, exponent: int) -> None:
    exact = Fraction(int(f"{whole:x}{fraction}", 16)) * Fraction(2) ** (exponent - 4 * len(fraction))
    assert bits_or_none(f"0x{whole:x}.{fraction}p{exponent}", width) == nearest(exact, width)


@given(st.integers(0, 0x7F7FFFFE), st.sampled_from([-1, 0, 1]), st.integers(1, 60))
def test_decimals_next_to_a_half_way_point(bits: int, side: int, digits: int) -> None:
    half_way = (value_of(bits, 32) + value_of(bits + 1, 32)) / 2
    # Every such number is a decimal fraction of at most 150 digits.
    scaled = int(half_way * 10**200) * 10**digits + side
    literal = f"{scaled}e-{200 + digits}"
    assert bits_or_none(literal, 32) == nearest(Fraction(scaled, 10 ** (200 + digits)), 32)


@pytest.mark.parametrize(
    ("literal", "width", "bits"),
    [
        ("0", 32, 0),
        ("-0", 32, 0x80000000),
        ("-0x0p-3", 64, 1 << 63),
        ("+1", 64, 0x3FF0000000000000),
        ("1_0.2_5e-0_1", 32, 0x3F833333),
        ("0x1_0.8P-4", 32, 0x3F840000),
        ("inf", 32, 0x7F800000),
        ("-inf", 64, 0xFFF0000000000000),
        ("nan", 32, 0x7FC00000),
        ("-nan", 64, 0xFFF8000000000000),
        ("nan:0x1", 32, 0x7F800001),
        ("-nan:0x7f_ffff", 32, 0xFFFFFFFF),
        ("nan:0xf_ffff_ffff_ffff", 64, 0x7FFFFFFFFFFFFFFF),
        ("1e-400", 64, 0),
        ("0e999999999999999999999", 32, 0),
        ("0x0p999999999999999999999", 64, 0),
        ("0x1p-99999999999999999999999", 64, 0),
    ],
)
def test_special_floats(literal: str, width: int, bits: int) -> None:
    assert float_bits(literal, width) == bits


@pytest.mark.parametrize(
    ("literal", "width"),
    [
        ("nan:0x0", 32),
        ("nan:0x80_0000", 32),
        ("nan:0x10_0000_0000_0000", 64),
        ("1e39", 32),
        ("0x1p128", 32),
        ("0x1.ffffffp127", 32),
        ("0x1p1024", 64),
        ("1e309", 64),
        ("0x1p99999999999999999999999", 64),
        ("1e99999999999999999999999", 32),
    ],
)
def test_floats_out_of_range(literal: str, width: int) -> None:
    with pytest.raises(OutOfRange):
        float_bits(literal, width)


@pytest.mark.parametrize(
    ("literal", "width", "value"),
    [
        ("0xffff_ffff", 32, -1),
        ("4294967295", 32, -1),
        ("-1", 32, -1),
        ("2147483647", 32, 2147483647),
        ("2147483648", 32, -2147483648),
        ("-0x80000000", 32, -2147483648),
        ("+0", 64, 0),
        ("18446744073709551615", 64, -1),
        ("-9223372036854775808", 64, -9223372036854775808),
        ("000000000000000000000000000000007", 32, 7),
    ],
)
def test_integers_have_the_range_of_both_signednesses(literal: str, width: int, value: int) -> None:
    assert signed(literal, width) == value


@pytest.mark.parametrize(
    ("literal", "width"),
    [("4294967296", 32), ("-2147483649", 32), ("0x1_0000_0000_0000_0000", 64), ("-9223372036854775809", 64)],
)
def test_integers_out_of_range(literal: str, width: int) -> None:
    with pytest.raises(OutOfRange):
        signed(literal, width)


def test_unsigned_integers() -> None:
    assert unsigned("0xFF_FF", 16) == 65535
    with pytest.raises(OutOfRange):
        unsigned("65536", 16)


@pytest.mark.parametrize(
    "literal",
    [
        "9" * 1_000_000,
        "0." + "0" * 1_000_000 + "1e1000001",
        "1.00000005960464477539062500" + "0" * 1_000_000 + "1",
        "0x" + "f" * 1_000_000 + "p-4000000",
        "0x1p-" + "9" * 1_000_000,
    ],
)
def test_long_literals_take_linear_time(literal: str) -> None:
    started = time.process_time()
    bits_or_none(literal, 32)
    bits_or_none(literal, 64)
    if not literal.startswith(("0.", "1.")) and "p" not in literal:
        with pytest.raises(OutOfRange):
            signed(literal, 64)
    assert time.process_time() - started < 1.0
