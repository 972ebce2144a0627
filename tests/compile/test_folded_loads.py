"""Each load as each operand of each instruction, at the last place where it fits in the memory and at the next one.

An instruction of the processor that takes its operand from memory may read more of it than the load does, or only
under a condition. Here the memory ends where its address space faults, so that one byte too many is a trap; and one
byte further the load itself must trap, whatever became of its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import lucet
from fuzz.fuzz_vectors import host_cpus
from lucet.runtime import Func
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.opcodes import BY_NAME, OPS, Op
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

PAGE = 65536
_VECTOR_LOAD = BY_NAME["v128.load"].code
PARAMS = ("i32", "i32", "i64", "f32", "f64", "v128")
"""The address, then an operand of each type."""
ARGUMENTS = [1, 1, 0x3F800000, 0x3FF << 52, (1 << 128) // 255]
OUT_OF_BOUNDS = "out of bounds memory access"
CALCULATING = ("test", "compare", "unary", "binary", "convert", "wide", "vector", "vector_lane")

ACCESSES = {op.code for op in OPS.values() if op.align is not None}
LOADS: dict[str, list[Op]] = {}
for _op in OPS.values():
    if _op.family in ("load", "vector_load", "vector_lane") and _op.align is not None and _op.pushes:
        LOADS.setdefault(_op.pushes[0], []).append(_op)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    width: int
    """Of the load, in bytes."""
    text: str


def operand(valtype: str) -> str:
    return f"(local.get {PARAMS.index(valtype, 1)})"


def load(op: Op, offset: int = 0) -> str:
    lane = " 0" if op.lanes else ""
    rest = " ".join(operand(valtype) for valtype in op.pops[1:])
    return f"({op.name} offset={offset}{lane} (local.get 0) {rest})"


def applied(op: Op, position: int, loaded: str) -> str:
    operands = [operand(valtype) for valtype in op.pops]
    operands[position] = loaded
    lanes = " ".join(["1"] * (16 if op.immediates == "lanes" else 1)) if op.lanes else ""
    return f"({op.name} {lanes} {' '.join(operands)})"


CONSTANTS = {
    "i32": (0, 1, 0x80, 0xFF, 0x8000, 0xFFFF, 1 << 23, 1 << 31, 0xFFFFFF00, 8, 16, 24),
    "i64": (0, 1, 0x80, 0xFF, 0x8000, 0xFFFF, 1 << 31, 1 << 39, (1 << 32) - 1, 1 << 63, 8, 16, 32, 48, 56),
}
"""Masks, bits and distances after which only a part of the operand is wanted."""


def shuffles() -> Iterator[tuple[int, ...]]:
    """Those for which the processor has instructions, and their like: lanes of the first operand are 0 to 15."""
    for width in (1, 2, 4, 8):
        count = 16 // width
        lanes = [tuple(range(lane * width, lane * width + width)) for lane in range(2 * count)]
        half = range(count // 2)
        of_lanes = [[lane] * count for lane in (0, 1, count - 1)]  # one everywhere
        of_lanes += [[lane // 2 * 2 + odd for lane in range(count)] for odd in (0, 1)]  # every second one twice
        for first, second in ((0, 0), (0, count), (count, 0), (count // 2, count), (0, count + count // 2)):
            of_lanes.append([first + lane for lane in half] + [second + lane for lane in half])  # halves
            of_lanes.append([one for lane in half for one in (first + lane, second + lane)])  # interleaved
        for first in range(min(count, 4)):  # one lane of the other operand
            of_lanes.append([lane if lane != first else count for lane in range(count)])
            of_lanes.append([count + lane if lane != first else 0 for lane in range(count)])
        for lanes_of_one in of_lanes:
            yield tuple(byte for lane in lanes_of_one for byte in lanes[lane])


def cases_of_shuffles() -> Iterator[Case]:
    zero = "(v128.const i64x2 0 0)"
    for one in LOADS["v128"]:
        assert one.align is not None
        if one.name != "v128.load" and "zero" not in one.name:
            continue
        for lanes in dict.fromkeys(shuffles()):
            for other in (zero, operand("v128")):
                for operands in (f"{load(one)} {other}", f"{other} {load(one)}"):
                    text = f"(result v128) (i8x16.shuffle {' '.join(map(str, lanes))} {operands})"
                    yield Case(name=f"{text}", width=1 << one.align, text=text)


def cases_of_swizzles() -> Iterator[Case]:
    """With zeros where the other operand would be chosen."""
    for lanes in dict.fromkeys(shuffles()):
        indices = " ".join(str(lane if lane < 16 else 255) for lane in lanes)
        text = f"(i8x16.swizzle {load(OPS[_VECTOR_LOAD])} (v128.const i8x16 {indices}))"
        yield Case(name=text, width=16, text=f"(result v128) {text}")


def cases_of_masks() -> Iterator[Case]:
    """Lanes that are wanted under a condition only."""
    for shape, comparison in (("i8x16", "gt_s"), ("i16x8", "eq"), ("i32x4", "lt_s"), ("i64x2", "eq")):
        for zero in ("(v128.const i64x2 0 0)", operand("v128")):
            mask = f"({shape}.{comparison} {operand('v128')} (v128.const i64x2 -1 1))"
            for inner in ("{}", f"({shape}.add {operand('v128')} {{}})", f"({shape}.sub {{}} {operand('v128')})"):
                value = inner.format(load(OPS[_VECTOR_LOAD]))
                for operands in (f"{value} {zero} {mask}", f"{zero} {value} {mask}"):
                    for name in ("v128.bitselect", f"{shape}.relaxed_laneselect"):
                        yield Case(name=f"{name} {operands}", width=16, text=f"(result v128) ({name} {operands})")
                both = f"(v128.and {value} {mask})"
                yield Case(name=both, width=16, text=f"(result v128) {both}")
    for valtype in ("f32", "f64"):
        for name in ("add", "mul", "min", "div"):
            operands = f"({valtype}.{name} {operand(valtype)} ({valtype}.load (local.get 0))) {operand(valtype)}"
            for condition in (f"({valtype}.lt {operand(valtype)} ({valtype}.const 0.5))", "(local.get 1)"):
                text = f"(select {operands} {condition})"
                yield Case(name=text, width=int(valtype[1:]) // 8, text=f"(result {valtype}) {text}")
    for shape in ("f32x4", "f64x2"):
        mask = f"({shape}.lt {operand('v128')} (v128.const i64x2 -1 1))"
        for op in ("add", "mul", "min", "div", "pmax"):
            value = f"({shape}.{op} {operand('v128')} {load(OPS[_VECTOR_LOAD])})"
            for operands in (f"{value} {operand('v128')} {mask}", f"{operand('v128')} {value} {mask}"):
                yield Case(name=operands, width=16, text=f"(result v128) (v128.bitselect {operands})")


def cases() -> Iterator[Case]:
    yield from cases_of_shuffles()
    yield from cases_of_swizzles()
    yield from cases_of_masks()
    for valtype, loads in LOADS.items():
        stores = [op for op in OPS.values() if op.family in ("store", "vector_store") and op.pops == ("i32", valtype)]
        for one in loads:
            assert one.align is not None
            width = 1 << one.align
            loaded = load(one)
            yield Case(name=one.name, width=width, text=f"(result {valtype}) {loaded}")
            yield Case(name=f"{one.name}, dropped", width=width, text=f"(drop {loaded})")
            chosen = f"(select {loaded} {operand(valtype)} (local.get 1))"
            for condition in ("", "(i32.eqz (local.get 1)) (local.set 1)"):
                yield Case(name=f"{one.name}, select", width=width, text=f"(result {valtype}) {condition} {chosen}")
            other = f"(select {operand(valtype)} {loaded} (local.get 1))"
            yield Case(name=f"{one.name}, select not", width=width, text=f"(result {valtype}) {other}")
            for op in OPS.values():
                if op.family not in CALCULATING or op.align is not None:
                    continue
                results = " ".join(op.pushes)
                for position in [at for at, one_of in enumerate(op.pops) if one_of == valtype]:
                    name = f"{op.name} {position} of {one.name}"
                    text = applied(op, position, loaded)
                    yield Case(name=name, width=width, text=f"(result {' '.join(op.pushes)}) {text}")
                    if len(op.pops) == 2 and position == 0 and op.pops[1] in CONSTANTS and op.pops[1] == valtype:
                        for constant in CONSTANTS[valtype]:
                            if not constant and ("div" in op.name or "rem" in op.name):
                                continue
                            text_of_one = f"({op.name} {loaded} ({valtype}.const {constant}))"
                            yield Case(name=text_of_one, width=width, text=f"(result {results}) {text_of_one}")
                    if op.pushes == (valtype,) and one is loads[0]:
                        # Read, changed and written: one instruction, or three.
                        for store in (store for store in stores if store.align == one.align):
                            text_of_store = f"({store.name} (local.get 0) {text})"
                            yield Case(name=f"{store.name} of {name}", width=width, text=text_of_store)
                    if op.pushes == ("i32",):
                        branch = f"(result i32) (if (result i32) {text} (then (i32.const 5)) (else (i32.const 6)))"
                        yield Case(name=f"if {name}", width=width, text=branch)


ALL_CASES = list(cases())
CPUS = {"none": ("x86-64-v3",), "fast": ("x86-64",), "default": ("x86-64-v3", "x86-64"), "best": ("", "x86-64-v3")}
"""An empty one is the best that this machine has."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_at_the_last_byte(number: int, opt_level: str, instantiate: Instantiate, region: lucet.Region) -> None:
    if number >= len(CPUS[opt_level]):
        pytest.skip("one CPU is enough at this level")
    cpu = CPUS[opt_level][number] or host_cpus(region)[-1]
    params = "".join(f" (param {valtype})" for valtype in PARAMS)
    functions = [f'(func (export "{index}"){params} {case.text})' for index, case in enumerate(ALL_CASES)]
    text = f'(module (memory (export "memory") 1)\n{chr(10).join(functions)})'
    instance = instantiate(text, target_cpu=cpu)
    module = decode_module(text_to_binary(text))
    wrong = []
    for index, case in enumerate(ALL_CASES):
        function = instance.exports[str(index)]
        assert isinstance(function, Func)
        place = next(offset for opcode, offset, _ in decode_code(module, index).instrs if opcode in ACCESSES)
        for address in (PAGE - case.width, PAGE - case.width + 1):
            instance.memory.write(PAGE - 64, b"\1" * 64)
            try:
                function.call_raw([address, *ARGUMENTS])
                found = "returned"
            except lucet.Trap as trap:
                found = trap.message
                # Some folds lose the place; none may name another, and what also stores must know it.
                if trap.offset != place and (trap.offset is not None or "store" in case.name):
                    found += f" at {trap.offset}, not {place}"
            expected = "returned" if address + case.width <= PAGE else OUT_OF_BOUNDS
            untouched = instance.memory.read(PAGE - 64, 64) == b"\1" * 64
            if found != expected or (expected != "returned" and not untouched):
                wrong.append(f"{case.name} at the end + {address + case.width - PAGE}: {found}")
    assert not wrong, wrong[:20]


def test_every_load_is_an_operand_of_every_instruction_of_its_type() -> None:
    assert len(ALL_CASES) > 3000
    assert set(LOADS) == set(PARAMS)
