"""Numbers, where LLVM's meaning differs from WebAssembly's: run at every optimisation level."""

from __future__ import annotations

import math
import struct

import pytest

import lucet
from tests.compile.conftest import Instantiate

SNAN32, QNAN32 = 0x7FA00000, 0x7FE00000
SNAN64, QNAN64 = 0x7FF4_0000_0000_0000, 0x7FFC_0000_0000_0000


def f32_bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def f64_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def unsigned(value: object, bits: int) -> int:
    assert isinstance(value, int)
    return value & ((1 << bits) - 1)


# ---- minimum and maximum


MIN_MAX = """(module
  (func (export "f32.min") (param i32 i32) (result i32)
    (i32.reinterpret_f32 (f32.min (f32.reinterpret_i32 (local.get 0)) (f32.reinterpret_i32 (local.get 1)))))
  (func (export "f32.max") (param i32 i32) (result i32)
    (i32.reinterpret_f32 (f32.max (f32.reinterpret_i32 (local.get 0)) (f32.reinterpret_i32 (local.get 1)))))
  (func (export "f64.min") (param i64 i64) (result i64)
    (i64.reinterpret_f64 (f64.min (f64.reinterpret_i64 (local.get 0)) (f64.reinterpret_i64 (local.get 1)))))
  (func (export "f64.max") (param i64 i64) (result i64)
    (i64.reinterpret_f64 (f64.max (f64.reinterpret_i64 (local.get 0)) (f64.reinterpret_i64 (local.get 1))))))"""

VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, -3.25, math.inf, -math.inf)


def expected_extreme(name: str, left: float, right: float) -> float:
    if left == right:  # zeros of either sign, or the same value
        signs = (math.copysign(1, left), math.copysign(1, right))
        return math.copysign(left, min(signs) if name == "min" else max(signs))
    return min(left, right) if name == "min" else max(left, right)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", ["min", "max"])
def test_min_max(instantiate: Instantiate, name: str, bits: int) -> None:
    instance = instantiate(MIN_MAX)
    to_bits, quiet = (f32_bits, 1 << 22) if bits == 32 else (f64_bits, 1 << 51)
    nans = (SNAN32, QNAN32) if bits == 32 else (SNAN64, QNAN64)

    def run(left: int, right: int) -> int:
        return unsigned(instance.run(f"f{bits}.{name}", left, right), bits)

    for left in VALUES:
        for right in VALUES:
            assert run(to_bits(left), to_bits(right)) == to_bits(expected_extreme(name, left, right)), (left, right)
        for nan in nans:
            for result in (run(to_bits(left), nan), run(nan, to_bits(left))):
                assert result & quiet, f"{result:#x} is not a quiet NaN"
                assert result | quiet == nan | quiet, "the payload is the operand's"


# ---- signalling NaNs and folds


FOLDS = {
    "x * 1": "(f64.mul (local.get 0) (f64.const 1))",
    "1 * x": "(f64.mul (f64.const 1) (local.get 0))",
    "x * -1": "(f64.mul (local.get 0) (f64.const -1))",
    "x / 1": "(f64.div (local.get 0) (f64.const 1))",
    "x / -1": "(f64.div (local.get 0) (f64.const -1))",
    "x + -0": "(f64.add (local.get 0) (f64.const -0))",
    "x - 0": "(f64.sub (local.get 0) (f64.const 0))",
    "-0 - x": "(f64.sub (f64.const -0) (local.get 0))",
    "1 from a sum": "(f64.mul (local.get 0) (f64.add (f64.const 0.5) (f64.const 0.5)))",
    "1 from an integer": "(f64.mul (local.get 0) (f64.convert_i32_s (i32.const 1)))",
    "1 from bits": "(f64.mul (local.get 0) (f64.reinterpret_i64 (i64.const 0x3ff0000000000000)))",
    "1 from a promotion": "(f64.mul (local.get 0) (f64.promote_f32 (f32.const 1)))",
    "1 from a rounding": "(f64.mul (local.get 0) (f64.ceil (f64.const 0.25)))",
    "1 from a minimum": "(f64.mul (local.get 0) (f64.sub (f64.min (f64.const 1.5) (f64.const 2)) (f64.const 0.5)))",
    "1 in a local": "(local.set 2 (f64.const 1)) (f64.mul (local.get 0) (local.get 2))",
    "0.5 + 0.5 in locals": """(local.set 2 (f64.const 0.5)) (local.set 1 (f64.const 0.5))
                              (f64.mul (local.get 0) (f64.add (local.get 1) (local.get 2)))""",
    "a local that nobody set": "(f64.sub (local.get 0) (local.get 2))",
    "1 from a block": "(f64.mul (local.get 0) (block (result f64) (br 0 (f64.const 1))))",
    "1 from a select": "(f64.mul (local.get 0) (select (f64.const 1) (f64.const 1) (local.get 3)))",
    "1 from a global": "(f64.mul (local.get 0) (global.get $one))",
    "1 from a call": "(f64.mul (local.get 0) (call $one))",
    "there and back": "(f64.promote_f32 (f32.demote_f64 (local.get 0)))",
    "|x| + 0": "(f64.add (f64.abs (local.get 0)) (f64.const 0))",
}


@pytest.mark.parametrize("expression", FOLDS.values(), ids=FOLDS.keys())
def test_arithmetic_makes_nans_quiet(instantiate: Instantiate, expression: str) -> None:
    instance = instantiate(
        f"""(module
          (global $one f64 (f64.const 1))
          (func $one (result f64) (f64.const 1))
          (func $f (param f64 f64) (result f64) (local f64 i32) {expression})
          (func (export "f") (param i64) (result i64)
            (i64.reinterpret_f64 (call $f (f64.reinterpret_i64 (local.get 0)) (f64.const 7)))))"""
    )
    assert unsigned(instance.run("f", SNAN64), 64) >> 51 & 0xFFF == 0xFFF


def test_narrow_there_and_back(instantiate: Instantiate) -> None:
    """f32 -> f64 -> f32: the other way round, where a fold would look right."""
    instance = instantiate(
        """(module (func (export "f") (param i32) (result i32)
             (i32.reinterpret_f32 (f32.demote_f64 (f64.promote_f32 (f32.reinterpret_i32 (local.get 0)))))))"""
    )
    assert unsigned(instance.run("f", SNAN32), 32) == SNAN32 | 1 << 22


def test_bits_of_nans_survive_what_is_no_arithmetic(instantiate: Instantiate) -> None:
    instance = instantiate(
        """(module (memory 1)
          (global $g (mut f32) (f32.const nan:0x200000))
          (func $f (param f32) (result f32)
            (f32.store (i32.const 8) (local.get 0))
            (global.set $g (f32.load (i32.const 8)))
            (f32.neg (f32.copysign (select (global.get $g) (f32.const 0) (i32.const 1)) (f32.const -1))))
          (func (export "f") (param i32) (result i32)
            (i32.reinterpret_f32 (call $f (f32.reinterpret_i32 (local.get 0)))))
          (func (export "const") (result i32) (i32.reinterpret_f32 (f32.const nan:0x200000)))
          (func (export "global") (result i32) (i32.reinterpret_f32 (global.get $g)))
          (func (export "abs") (result i64) (i64.reinterpret_f64 (f64.abs (f64.const -nan:0x4000000000000)))))"""
    )
    assert unsigned(instance.run("global"), 32) == SNAN32
    assert unsigned(instance.run("f", SNAN32 | 1), 32) == SNAN32 | 1
    assert unsigned(instance.run("const"), 32) == SNAN32
    assert unsigned(instance.run("abs"), 64) == SNAN64


# ---- truncation


def truncations() -> list[tuple[str, float, int | None]]:
    """(instruction, operand, result or None for a trap): the last operand inside each bound and the first outside."""
    cases: list[tuple[str, float, int | None]] = []
    for source, mantissa in (("f32", 24), ("f64", 53)):
        for bits in (32, 64):
            for sign, lowest, beyond in (("s", -(1 << bits - 1), 1 << bits - 1), ("u", 0, 1 << bits)):
                name = f"i{bits}.trunc_{source}_{sign}"
                last = beyond - 1 if bits <= mantissa else beyond - (1 << max(0, beyond.bit_length() - 1 - mantissa))
                step = max(1, 1 << max(0, lowest.bit_length() - mantissa))
                cases += [
                    (name, float(last), int(float(last))),
                    (name, float(beyond), None),
                    (name, float(lowest), lowest),
                    (name, float(lowest - step), None),
                    (name, -0.9, 0),
                    (name, 1.9, 1),
                ]
                if bits < mantissa:
                    cases += [(name, beyond - 0.5, beyond - 1), (name, lowest - 0.5, lowest)]
    return cases


TRUNC = "(module {})".format(
    "".join(
        f"""(func (export "i{bits}.{op}_{source}_{sign}") (param {source}) (result i{bits})
              (i{bits}.{op}_{source}_{sign} (local.get 0)))"""
        for source in ("f32", "f64")
        for bits in (32, 64)
        for sign in "su"
        for op in ("trunc", "trunc_sat")
    )
)


def test_trunc_boundaries(instantiate: Instantiate) -> None:
    instance = instantiate(TRUNC)
    for name, operand, expected in truncations():
        bits = int(name[1:3])
        saturated = name.replace("trunc", "trunc_sat")
        if expected is None:
            with pytest.raises(lucet.Trap, match="integer overflow"):
                print(name, operand, instance.run(name, operand))
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if name.endswith("s") else (0, (1 << bits) - 1)
            assert unsigned(instance.run(saturated, operand), bits) == (high if operand > 0 else low) % (1 << bits)
        else:
            assert unsigned(instance.run(name, operand), bits) == expected % (1 << bits), (name, operand)
            assert unsigned(instance.run(saturated, operand), bits) == expected % (1 << bits), (saturated, operand)


def test_trunc_of_nan_and_infinity(instantiate: Instantiate) -> None:
    instance = instantiate(TRUNC)
    for source in ("f32", "f64"):
        for bits in (32, 64):
            for sign in "su":
                name = f"i{bits}.trunc_{source}_{sign}"
                with pytest.raises(lucet.Trap, match="invalid conversion to integer"):
                    instance.run(name, math.nan)
                for infinity in (math.inf, -math.inf):
                    with pytest.raises(lucet.Trap, match="integer overflow"):
                        instance.run(name, infinity)
                assert instance.run(name.replace("trunc", "trunc_sat"), math.nan) == 0


# ---- integers


def test_division(instantiate: Instantiate) -> None:
    instance = instantiate(
        """(module
          (func (export "div_s") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
          (func (export "rem_s") (param i32 i32) (result i32) (i32.rem_s (local.get 0) (local.get 1)))
          (func (export "div_const") (param i32) (result i32) (i32.div_s (local.get 0) (i32.const -1)))
          (func (export "div_zero") (param i32) (result i32) (i32.div_u (local.get 0) (i32.const 0)))
          (func (export "rem_const") (param i64) (result i64) (i64.rem_s (local.get 0) (i64.const -1)))
          (func (export "dropped") (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
          (global $minus_one i32 (i32.const -1))
          (func (export "div_global") (param i32) (result i32) (i32.div_s (local.get 0) (global.get $minus_one))))"""
    )
    lowest = -(1 << 31)
    assert instance.run("div_s", -7, 2) == -3
    assert instance.run("rem_s", -7, 2) == -1
    assert instance.run("rem_s", lowest, -1) == 0
    assert instance.run("rem_const", -(1 << 63)) == 0
    assert instance.run("div_const", 5) == -5
    for name, *operands in (("div_s", lowest, -1), ("div_const", lowest), ("div_global", lowest)):
        with pytest.raises(lucet.Trap, match="integer overflow"):
            instance.run(name, *operands)
    for name, *operands in (("div_s", 1, 0), ("rem_s", 1, 0), ("div_zero", 1), ("dropped", 0)):
        with pytest.raises(lucet.Trap, match="integer divide by zero"):
            instance.run(name, *operands)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 63, 64, 65, -1])
def test_shift_counts_are_modulo_the_width(instantiate: Instantiate, count: int) -> None:
    names = ("shl", "shr_s", "shr_u", "rotl", "rotr")
    functions = "".join(
        f"""(func (export "{t}.{name}") (param {t} {t}) (result {t}) ({t}.{name} (local.get 0) (local.get 1)))
            (func (export "{t}.{name}.const") (param {t}) (result {t})
              ({t}.{name} (local.get 0) ({t}.const {count})))"""
        for t in ("i32", "i64")
        for name in names
    )
    instance = instantiate(f"(module {functions})")
    for bits in (32, 64):
        value, mask = 0x8123_4567_89AB_CDEF & ((1 << bits) - 1), (1 << bits) - 1
        by = count % bits
        signed = value - (1 << bits) if value >> bits - 1 else value
        expected = {
            "shl": value << by & mask,
            "shr_s": signed >> by & mask,
            "shr_u": value >> by,
            "rotl": (value << by | value >> bits - by) & mask,
            "rotr": (value >> by | value << bits - by) & mask,
        }
        for name in names:
            assert unsigned(instance.run(f"i{bits}.{name}", value, count), bits) == expected[name]
            assert unsigned(instance.run(f"i{bits}.{name}.const", value), bits) == expected[name]


# ---- rounding without SSE4.1


@pytest.mark.parametrize("name", ["ceil", "floor", "trunc", "nearest"])
def test_rounding_by_hand(instantiate: Instantiate, name: str) -> None:
    text = "(module {})".format(
        "".join(
            f"""(func (export "{t}") (param {i}) (result {i})
                  ({i}.reinterpret_{t} ({t}.{name} ({t}.reinterpret_{i} (local.get 0)))))"""
            for t, i in (("f32", "i32"), ("f64", "i64"))
        )
    )
    plain, reference = instantiate(text, target_cpu="x86-64"), instantiate(text)
    halves = [sign * value / 4 for value in range(14) for sign in (1, -1)]
    borders = [
        sign * (float(1 << exponent) + delta)
        for exponent in (22, 23, 24, 51, 52, 53, 63)
        for delta in (-1, -0.75, -0.5, -0.25, 0, 0.5, 1)
        for sign in (1, -1)
    ]
    special = [math.inf, -math.inf, 5e-324, -1e-310, 1.7e308, 0.49999999999999994]
    for value in (*halves, *borders, *special):
        assert plain.run("f64", f64_bits(value)) == reference.run("f64", f64_bits(value)), value
        if abs(value) < 1e38:
            assert plain.run("f32", f32_bits(value)) == reference.run("f32", f32_bits(value)), value
    for run, nan in ((plain, SNAN64), (plain, SNAN64 | 1 << 63), (reference, SNAN64)):
        assert unsigned(run.run("f64", nan), 64) == nan | 1 << 51
