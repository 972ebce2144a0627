"""Vector instructions, where what LLVM makes of them depends on more than the instruction: on constants and the CPU."""

from __future__ import annotations

import random
import struct
from itertools import product

import pytest

import lucet
from lucet.compile.options import CPU_FEATURES
from lucet.runtime import Func
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.opcodes import OPS, Op
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

CALCULATING = [op for op in OPS.values() if op.family in ("vector", "vector_lane", "wide")]
FUSING = frozenset(f"{shape}.relaxed_{name}" for shape in ("f32x4", "f64x2") for name in ("madd", "nmadd"))


def func(instance: lucet.Instance, name: str) -> Func:
    exported = instance.exports[name]
    assert isinstance(exported, Func)
    return exported


def bits(fmt: str, *lanes: float) -> int:
    return int.from_bytes(struct.pack(f"<{fmt}", *lanes), "little")


# No lane of them is a NaN in any shape of floats: instructions may choose another one each time.
VECTORS = (
    0,
    (1 << 128) - (1 << 127),
    bits("4f", 1, -1, 0.0, -0.0),
    bits("4f", 2.5, -0.5, 4294967040.0, -2147483648.0),
    bits("2d", 1, -1),
    bits("2d", 4294967040.5, -2147483648.5),
    bits("2d", 4294967296.5, 2147483520.5),
    bits("16b", *range(-100, 60, 10)),
    bits("16b", *[-128, 1, 127, 0] * 4),
    bits("8h", 32767, -32768, 255, 256, 1, 0, -1 << 8, 100),
    bits("4i", (1 << 31) - 1 - (1 << 23), -1 << 31, 65536, 32768),
)
SCALARS = {
    "i32": (0, 1, 31, 33, 0x7FFFFFFF, 0x80000000),
    "i64": (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
    "f32": tuple(bits("f", value) for value in (0.0, -0.0, 1, -1, 0.1)),
    "f64": tuple(bits("d", value) for value in (0.0, -0.0, 1, -1, 0.1)),
}


def test_vectors_have_no_nans() -> None:
    for vector in VECTORS:
        data = vector.to_bytes(16, "little")
        assert all(lane == lane for fmt in ("<4f", "<2d") for lane in struct.unpack(fmt, data))  # noqa: PLR0124


def immediate(op: Op) -> str:
    if op.immediates == "lanes":
        return "0 17 2 19 4 21 6 23 24 25 26 27 12 13 31 15"
    return "1" if op.immediates else ""


def constant(valtype: str, value: int) -> str:
    if valtype == "v128":
        return f"(v128.const i64x2 {value & (1 << 64) - 1} {value >> 64})"
    if valtype[0] == "i":
        return f"({valtype}.const {value})"
    return f"({valtype}.reinterpret_i{valtype[1:]} (i{valtype[1:]}.const {value}))"


def operands(op: Op) -> list[int]:
    """The same for every run, different for every instruction."""
    choice = random.Random(op.code).choice
    return [choice(VECTORS) if valtype == "v128" else choice(SCALARS[valtype]) for valtype in op.pops]


def function(op: Op, name: str, texts: list[str]) -> str:
    """Exports name and "name in memory", whose operands come from locals that were set in front of a loop."""
    params, results = " ".join(op.pops), " ".join(op.pushes)
    count = len(op.pops)
    sets = " ".join(f"(local.set {count + index} {text})" for index, text in enumerate(texts))
    gets = " ".join(f"(local.get {count + index})" for index in range(count))
    return f"""
      (func (export "{name}") (param {params}) (result {results}) ({op.name} {immediate(op)} {" ".join(texts)}))
      (func (export "{name} by locals") (param {params}) (result {results}) (local {params})
        {sets} (loop $l (br_if $l (i32.const 0))) ({op.name} {immediate(op)} {gets}))"""


def test_constant_operands_give_what_others_give(instantiate: Instantiate) -> None:
    functions = []
    for op in CALCULATING:
        values = operands(op)
        for known in product((False, True), repeat=len(op.pops)):
            texts = [
                constant(valtype, value) if is_known else f"(local.get {index})"
                for index, (valtype, value, is_known) in enumerate(zip(op.pops, values, known, strict=True))
            ]
            functions.append(function(op, f"{op.name} {known}", texts))
    instance = instantiate(f"(module {''.join(functions)})")
    wrong = []
    for op in CALCULATING:
        values = operands(op)
        expected = func(instance, f"{op.name} {(False,) * len(values)}").call_raw(values)
        for known in product((False, True), repeat=len(op.pops)):
            for how in ("", " by locals"):
                if func(instance, f"{op.name} {known}{how}").call_raw(values) != expected:
                    wrong.append(f"{op.name} {known}{how} of {values}")
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["min", "max"])
@pytest.mark.parametrize("shape", ["f32x4", "f64x2"])
def test_minimum_and_maximum_with_a_constant(instantiate: Instantiate, shape: str, name: str) -> None:
    """Every corner against every other, as a constant on either side and as parameters."""
    fmt, nan = ("I", 0x7FC00000) if shape == "f32x4" else ("Q", 0x7FF8 << 48)
    width = 8 * struct.calcsize(fmt)
    sign, infinity = 1 << (width - 1), nan - (nan & -nan)
    one = bits("f" if fmt == "I" else "d", 1)
    corners = [0, one, 1, infinity, nan, infinity | 1]
    corners += [corner | sign for corner in corners]

    def vector(corner: int) -> int:
        return sum(corner << shift for shift in range(0, 128, width))

    functions = [f'(func (export "f") (param v128 v128) (result v128) ({shape}.{name} (local.get 0) (local.get 1)))']
    for corner in corners:
        known = constant("v128", vector(corner))
        functions.append(
            f"""(func (export "l{corner}") (param v128) (result v128) ({shape}.{name} {known} (local.get 0)))
              (func (export "r{corner}") (param v128) (result v128) ({shape}.{name} (local.get 0) {known}))"""
        )
    instance = instantiate(f"(module {''.join(functions)})")
    for left, right in product(corners, corners):
        results = [
            *func(instance, "f").call_raw([vector(left), vector(right)]),
            *func(instance, f"l{left}").call_raw([vector(right)]),
            *func(instance, f"r{right}").call_raw([vector(left)]),
        ]
        lanes = [result >> (128 - width) for result in results]
        assert results == [vector(lane) for lane in lanes]
        if any(operand & ~sign > infinity for operand in (left, right)):
            assert all(lane & nan == nan for lane in lanes)
            if infinity | 1 not in (left & ~sign, right & ~sign):
                assert {lane & ~sign for lane in lanes} == {nan}
        else:
            assert len({*lanes}) == 1


def host_cpus() -> list[str]:
    """Those that code can be run for here."""
    found = []
    for cpu in CPU_FEATURES:
        try:
            lucet.Module.from_bytes(lucet.compile("(module)", target_cpu=cpu))
        except lucet.ArtifactError:
            continue
        found.append(cpu)
    return found


def test_every_cpu_gives_the_same(instantiate: Instantiate) -> None:
    """Relaxed instructions too, but for those that round once where the CPU can."""
    chosen = [op for op in CALCULATING if op.name not in FUSING]
    texts = {op: [f"(local.get {index})" for index in range(len(op.pops))] for op in chosen}
    text = f"(module {''.join(function(op, op.name, texts[op]) for op in chosen)})"
    cpus = host_cpus()
    assert cpus[0] == "x86-64"
    instances = [instantiate(text, target_cpu=cpu) for cpu in cpus]
    wrong = []
    for op in chosen:
        for seed in range(20):
            choice = random.Random(seed).choice
            values = [choice(VECTORS) if valtype == "v128" else choice(SCALARS[valtype]) for valtype in op.pops]
            results = [func(instance, op.name).call_raw(values) for instance in instances]
            if any(result != results[0] for result in results):
                wrong.append(f"{op.name} of {values}: {dict(zip(cpus, results, strict=True))}")
    assert not wrong, wrong[:10]


def test_a_trap_is_where_the_load_is(instantiate: Instantiate) -> None:
    """LLVM may make one machine instruction of a load and what follows: that must name the load's place."""
    loads = [op for op in OPS.values() if op.family == "vector_load"]
    users = [op for op in CALCULATING if op.pops and op.pops[-1] == "v128"]
    cases = []
    for number, op in enumerate([*users, *loads]):
        load = op if op in loads else loads[number % len(loads)]
        value = "(local.get 1)" if load.immediates == "memarg_lane" else ""
        loaded = f"({load.name} {'1' * bool(value)} (local.get 0) {value})"
        gets = " ".join("(local.get 1)" if valtype == "v128" else f"({valtype}.const 1)" for valtype in op.pops[:-1])
        text = loaded if op in loads else f"({op.name} {immediate(op)} {gets} {loaded})"
        results = " ".join(op.pushes)
        cases.append((op.name, load, f'(func (export "{op.name}") (param i32 v128) (result {results}) {text})'))
    wasm = text_to_binary(f"(module (memory 1) {''.join(text for _, _, text in cases)})")
    instance = instantiate(f"(module (memory 1) {''.join(text for _, _, text in cases)})")
    module = decode_module(wasm)
    for function_index, (name, load, _) in enumerate(cases):
        (place,) = (offset for code, offset, _ in decode_code(module, function_index).instrs if code == load.code)
        with pytest.raises(lucet.Trap, match="out of bounds") as caught:
            instance.run(name, -4, bytes(16))
        assert caught.value.offset == place, name


# ---- relaxed instructions: what RATIONALE.md says ----

NAN, QUIET = 0x7FC00000, 0x7FC12345


def relaxed(instantiate: Instantiate, name: str, *values: int, target_cpu: str = "x86-64-v3") -> int:
    params = " ".join(["v128"] * len(values))
    gets = " ".join(f"(local.get {index})" for index in range(len(values)))
    text = f'(module (func (export "f") (param {params}) (result v128) ({name} {gets})))'
    (result,) = func(instantiate(text, target_cpu=target_cpu), "f").call_raw(list(values))
    return result


def lanes32(*values: int) -> int:
    return bits("4I", *values)


@pytest.mark.parametrize("target_cpu", ["x86-64", "x86-64-v3"])
def test_relaxed_instructions(instantiate: Instantiate, target_cpu: str) -> None:
    def run(name: str, *values: int) -> int:
        return relaxed(instantiate, name, *values, target_cpu=target_cpu)

    one, minus_0 = bits("f", 1), 1 << 31
    left, right = lanes32(QUIET, one, minus_0, 0), lanes32(one, QUIET, 0, minus_0)
    for name in ("f32x4.relaxed_min", "f32x4.relaxed_max"):
        assert run(name, left, right) == right
    indices = bits("16B", 0, 15, 16, 127, 128, 255, 1, 2, *[3] * 8)
    swizzled = bits("16B", 0, 15, 0, 15, 0, 0, 1, 2, *[3] * 8)
    assert run("i8x16.relaxed_swizzle", bits("16B", *range(16)), indices) == swizzled
    low = 0x80000000
    floats = lanes32(NAN, bits("f", 3e9), bits("f", -3e9), bits("f", -1.5))
    assert run("i32x4.relaxed_trunc_f32x4_s", floats) == lanes32(low, low, low, 0xFFFFFFFF)
    assert run("i32x4.relaxed_trunc_f32x4_u", floats) == lanes32(0, 3000000000, 0, 0)
    doubles = bits("2d", float("nan"), 3e9)
    assert run("i32x4.relaxed_trunc_f64x2_s_zero", doubles) == lanes32(low, low, 0, 0)
    assert run("i32x4.relaxed_trunc_f64x2_u_zero", doubles) == lanes32(0, 3000000000, 0, 0)
    ones, mask = (1 << 128) - 1, bits("8H", 0x8000, 0x7FFF, 0xFF, 0xFF80, 0, 0xFFFF, 0x80, 1)
    assert run("i16x8.relaxed_laneselect", ones, 0, mask) == bits("8h", -1, 0, 0, -1, 0, -1, 0, 0)
    assert run("i16x8.relaxed_q15mulr_s", bits("8h", *[-32768] * 8), bits("8h", *[-32768] * 8)) == bits(
        "8h", *[-32768] * 8
    )
    # The second operand is unsigned, and the sum of two products saturates.
    most = run("i16x8.relaxed_dot_i8x16_i7x16_s", bits("16b", *[127] * 16), ones)
    assert most == bits("8h", *[32767] * 8)
    least = run("i32x4.relaxed_dot_i8x16_i7x16_add_s", bits("16b", *[-128] * 16), ones, lanes32(1, 2, 3, 4))
    assert least == bits("4i", *(-65536 + addend for addend in (1, 2, 3, 4)))


@pytest.mark.parametrize(("target_cpu", "fuses"), [("x86-64", False), ("x86-64-v2", False), ("x86-64-v3", True)])
def test_relaxed_madd_rounds_once_where_the_cpu_can(instantiate: Instantiate, target_cpu: str, fuses: bool) -> None:
    x = 1 + 2.0**-30
    product_and_sum = (2.0**-60 if fuses else 0.0) + 2.0**-29
    factors, addend = bits("2d", x, x), bits("2d", -1, -1)
    fused = relaxed(instantiate, "f64x2.relaxed_madd", factors, factors, addend, target_cpu=target_cpu)
    assert fused == bits("2d", product_and_sum, product_and_sum)
    addend = bits("2d", 1, 1)
    fused = relaxed(instantiate, "f64x2.relaxed_nmadd", factors, factors, addend, target_cpu=target_cpu)
    assert fused == bits("2d", -product_and_sum, -product_and_sum)


# ---- signalling NaNs ----

SNAN, QUIETED = 0x7FA00000, 0x7FE00000
ONE_BY_SHIFT = "(i32x4.shl (i32x4.splat (i32.const 127)) (i32.const 23))"


@pytest.mark.parametrize(
    "operation",
    [
        "(f32x4.mul (local.get 0) (v128.const f32x4 1 1 1 1))",
        "(f32x4.mul (local.get 0) (v128.const i32x4 0x3f800000 0x3f800000 0x3f800000 0x3f800000))",
        "(f32x4.div (local.get 0) (f32x4.splat (f32.const 1)))",
        "(f32x4.sub (local.get 0) (v128.const f32x4 0 0 0 0))",
        "(f32x4.add (v128.const f32x4 -0 -0 -0 -0) (local.get 0))",
        f"(f32x4.mul (local.get 0) {ONE_BY_SHIFT})",
        f"(local.set 1 {ONE_BY_SHIFT}) (block (br_if 0 (i32.const 0))) (f32x4.mul (local.get 0) (local.get 1))",
        "(f32x4.mul (local.get 0) (f32x4.convert_i32x4_s (v128.const i32x4 1 1 1 1)))",
        "(f32x4.mul (local.get 0) (f32x4.add (v128.const f32x4 0.5 0.5 0.5 0.5) (v128.const f32x4 0.5 0.5 0.5 0.5)))",
        "(f32x4.mul (local.get 0) (f32x4.neg (v128.const f32x4 -1 -1 -1 -1)))",
        """(f32x4.mul (local.get 0)
          (f32x4.replace_lane 3 (v128.const f32x4 1 1 1 2) (f32.reinterpret_i32 (i32.const 0x3f800000))))""",
        "(f32x4.sub (local.get 0) (v128.and (v128.load (i32.const 0)) (v128.const i32x4 0 0 0 0)))",
        "(f32x4.splat (f32x4.extract_lane 1 (f32x4.sub (local.get 0) (v128.load32_zero (i32.const 0)))))",
        """(f32x4.splat (f32x4.extract_lane 3
          (f32x4.sub (local.get 0) (f32x4.demote_f64x2_zero (v128.load (i32.const 0))))))""",
        """(f32x4.splat (f32x4.extract_lane 3
          (f32x4.mul (local.get 0) (v128.load8_lane 0 (i32.const 0) (v128.const f32x4 1 1 1 1)))))""",
        "(f32x4.min (local.get 0) (local.get 0))",
        "(f32x4.max (local.get 0) (v128.const f32x4 0 0 0 0))",
        "(f32x4.ceil (local.get 0))",
        "(f32x4.nearest (local.get 0))",
        "(f32x4.sqrt (local.get 0))",
        "(f32x4.relaxed_madd (local.get 0) (v128.const f32x4 1 1 1 1) (v128.const f32x4 -0 -0 -0 -0))",
        """(i8x16.shuffle 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7
          (f32x4.demote_f64x2_zero (f64x2.promote_low_f32x4 (local.get 0))) (local.get 0))""",
    ],
)
@pytest.mark.parametrize("target_cpu", ["x86-64", "x86-64-v3"])
def test_signalling_nans_become_quiet(instantiate: Instantiate, operation: str, target_cpu: str) -> None:
    instance = instantiate(
        f'(module (memory 1) (func (export "f") (param v128) (result v128) (local v128) {operation}))',
        target_cpu=target_cpu,
    )
    (result,) = func(instance, "f").call_raw([lanes32(SNAN, SNAN, SNAN, SNAN)])
    # Those of double width have other bits behind the first.
    assert [result >> shift & 0x7FC00000 for shift in range(0, 128, 32)] == [0x7FC00000] * 4


def test_what_moves_lanes_leaves_signalling_nans_alone(instantiate: Instantiate) -> None:
    instance = instantiate(
        """(module (memory 1)
          (func (export "f") (param v128) (result v128)
            (f32x4.replace_lane 0 (local.get 0) (f32x4.extract_lane 3 (local.get 0))))
          (func (export "g") (param v128) (result v128) (f32x4.pmin (local.get 0) (f32x4.abs (local.get 0))))
          (func (export "h") (param v128) (result v128) (f32x4.neg (f32x4.neg (local.get 0))))
          (func (export "i") (param v128 i32) (result v128)
            (select (local.get 0) (v128.const f32x4 1 1 1 1) (local.get 1))))"""
    )
    vector = lanes32(SNAN | 1, SNAN, SNAN, SNAN | 2)
    assert func(instance, "f").call_raw([vector]) == [lanes32(SNAN | 2, SNAN, SNAN, SNAN | 2)]
    assert func(instance, "g").call_raw([vector]) == [vector]
    assert func(instance, "h").call_raw([vector]) == [vector]
    assert func(instance, "i").call_raw([vector, 1]) == [vector]
