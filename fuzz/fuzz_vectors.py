"""Compares what vector instructions compute with wasmtime: `python -m fuzz.fuzz_vectors --seconds 300 [--seed N]`.

Each round takes every instruction of the table that only calculates, with operands that are corner cases for lanes of
some width, given as parameters, as constants, or as constants that come by way of a local; and chains of a few such
instructions. Levels and target CPUs change from round to round. Results must be equal, apart from the bits of NaNs in
lanes of floats. What differs is printed as a function, and ends the run with status 1.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import lucet
from lucet.compile.options import CPU_FEATURES, OPT_LEVELS
from lucet.runtime import Func
from lucet.wasm.opcodes import OPS, Op
from lucet.wasm.text import text_to_binary
from tests.spec.peer import Wasmtime
from tests.spec.values import WIDTHS, Value

CHAINS: Final = 200
"""In each round."""


def _float_bits(fmt: str, *values: float) -> tuple[int, ...]:
    return tuple(int.from_bytes(struct.pack(fmt, value), "little") for value in values)


CORNERS: Final = {
    8: (0, 1, 0x0F, 0x10, 0x70, 0x7F, 0x80, 0x81, 0xFF),
    16: (0, 1, 0xFF, 0x100, 0x4000, 0x7FFF, 0x8000, 0x8001, 0xFFFF),
    32: (
        *(0, 1, 31, 33, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x800000),
        *(0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FA00001),
        *_float_bits("<f", 1, -1, 0.5, -0.5, 2.5, 2147483520, 2147483648, -2147483648, -2147483904, 4294967040),
        *_float_bits("<f", 4294967296, 8388608, 8388609, 0.49999997),
    ),
    64: (
        *(0, 1, 63, 65, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
        *(0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0xFFF8 << 48, 0x7FF4 << 48 | 1),
        *_float_bits("<d", 1, -1, 0.5, -0.5, 2.5, 2147483647, 2147483647.5, 2147483648, -2147483648.9, -2147483649),
        *_float_bits("<d", 4294967295, 4294967295.9, 4294967296, 1e300, -1e300, 2.0**52, 2.0**52 + 1, 1e-310),
    ),
}
SHAPES: Final = ("i8x16", "i16x8", "i32x4", "i64x2", "f32x4", "f64x2")
COMPARISONS: Final = frozenset(("eq", "ne", "lt", "gt", "le", "ge"))
CALCULATING: Final = [
    op
    for op in OPS.values()
    if op.feature in ("simd", "wide_arithmetic") and op.family in ("vector", "vector_lane", "wide")
]


def _calculates_floats(op: Op) -> bool:
    """Its result may have a NaN whose bits nobody prescribes."""
    shape, _, name = op.name.partition(".")
    return shape in ("f32x4", "f64x2") and name not in COMPARISONS


INTEGER: Final = [op for op in CALCULATING if op.pushes == ("v128",) and not _calculates_floats(op)]
OF_SHAPE: Final = {
    shape: [
        op
        for op in CALCULATING
        if op.name.startswith(shape)
        and op.pops[0] == "v128"
        and _calculates_floats(op)
        and not op.name.partition(".")[2].startswith(("convert", "demote", "promote"))
    ]
    for shape in ("f32x4", "f64x2")
}
"""Of lanes of the shape to lanes of the shape, so that NaNs stay NaNs in chains of them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    text: str
    arguments: list[int]
    params: tuple[str, ...]
    results: tuple[str, ...]
    float_bits: int
    """The width of the lanes of floats that the result has; 0: none, every bit counts."""


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def cases(self) -> Iterator[Case]:
        for op in CALCULATING:
            for constants in (0.0, 0.6, 1.0):
                yield self.case(op.name, [op], constants)
        for number in range(CHAINS):
            shape = self.random.choice(("", "f32x4", "f64x2"))
            ops = OF_SHAPE.get(shape, INTEGER)
            last = self.random.choice([op for op in ops if op.pushes == ("v128",)])
            yield self.case(f"chain {number}", [last, *self.random.choices(ops, k=3)], 0.5)

    def case(self, name: str, ops: Sequence[Op], constants: float) -> Case:
        """The first of the instructions, whose operands the others compute as far as they fit."""
        params: list[str] = []
        arguments: list[int] = []
        front: list[str] = []
        declared: list[str] = []
        rest = list(ops[1:])

        def operand(valtype: str) -> str:
            if valtype == "v128" and rest and rest[-1].pushes == ("v128",):
                return applied(rest.pop())
            value = self.vector() if valtype == "v128" else self.scalar(valtype)
            if self.random.random() >= constants:
                params.append(valtype)
                arguments.append(value)
                return f"(local.get $p{len(params) - 1})"
            written = literal(valtype, value)
            if self.random.random() < 0.5:
                return written
            declared.append(f"(local $c{len(declared)} {valtype})")
            front.append(f"(local.set $c{len(front)} {written}) (block (br_if 0 (i32.const 0)))")
            return f"(local.get $c{len(front) - 1})"

        def applied(op: Op) -> str:
            operands = " ".join(operand(valtype) for valtype in op.pops)
            return f"({op.name} {self.immediate(op)} {operands})"

        body = applied(ops[0])
        signature = "".join(f" (param $p{index} {valtype})" for index, valtype in enumerate(params))
        text = f"{signature} (result {' '.join(ops[0].pushes)}) {' '.join(declared)} {' '.join(front)} {body}"
        shape = ops[0].name.partition(".")[0]
        float_bits = int(shape[1:3]) if _calculates_floats(ops[0]) else 0
        return Case(
            name=name,
            text=text,
            arguments=arguments,
            params=tuple(params),
            results=tuple(ops[0].pushes),
            float_bits=float_bits,
        )

    def immediate(self, op: Op) -> str:
        if op.lanes is None:
            return ""
        return " ".join(str(self.random.randrange(op.lanes)) for _ in range(16 if op.immediates == "lanes" else 1))

    def vector(self) -> int:
        width = self.random.choice(tuple(CORNERS))
        same = self.random.random() < 0.2
        lanes = [self.lane(width) for _ in range(1 if same else 128 // width)] * (128 // width if same else 1)
        return sum(lane << width * index for index, lane in enumerate(lanes))

    def scalar(self, valtype: str) -> int:
        return self.lane(WIDTHS[valtype])

    def lane(self, width: int) -> int:
        return self.random.choice(CORNERS[width]) if self.random.random() < 0.8 else self.random.getrandbits(width)


def literal(valtype: str, value: int) -> str:
    """A constant of those bits, as text."""
    if valtype == "v128":
        return f"(v128.const i64x2 {value & (1 << 64) - 1} {value >> 64})"
    if valtype[0] == "i":
        return f"({valtype}.const {value})"
    return f"({valtype}.reinterpret_i{valtype[1:]} (i{valtype[1:]}.const {value}))"


def equal(case: Case, left: Value, right: Value) -> bool:
    if left.bits == right.bits or not case.float_bits:
        return left.bits == right.bits
    mask = (1 << case.float_bits) - 1
    return all(
        a == b or (_is_quiet_nan(a, case.float_bits) and _is_quiet_nan(b, case.float_bits))
        for shift in range(0, WIDTHS[left.valtype], case.float_bits)
        for a, b in [(left.bits >> shift & mask, right.bits >> shift & mask)]
    )


def _is_quiet_nan(bits: int, width: int) -> bool:
    quiet = 0x7FC00000 if width == 32 else 0x7FF8 << 48
    return bits & quiet == quiet


def run_round(seed: int, level: str, cpu: str, region: lucet.Region) -> list[str]:
    """Descriptions of what differs."""
    cases = list(Generator(seed).cases())
    functions = [f'(func (export "{index}"){case.text})' for index, case in enumerate(cases)]
    wasm = text_to_binary(f"(module\n{chr(10).join(functions)})")
    module = lucet.Module.from_bytes(lucet.compile(wasm, opt_level=level, target_cpu=cpu))
    peer = Wasmtime(opt_level="", slots=1)
    theirs = peer.exports(peer.instantiate(peer.compile(wasm), {}))
    different = []
    with region.new_instance(module) as instance:
        for index, case in enumerate(cases):
            function = instance.exports[str(index)]
            assert isinstance(function, Func)
            ours = function.call_raw(case.arguments)
            typed = zip(case.params, case.arguments, strict=True)
            expected = peer.call(theirs[str(index)], [Value(valtype=valtype, bits=bits) for valtype, bits in typed])
            got = [Value(valtype=valtype, bits=bits) for valtype, bits in zip(case.results, ours, strict=True)]
            if not all(equal(case, *pair) for pair in zip(got, expected, strict=True)):
                arguments = " ".join(f"{argument:#x}" for argument in case.arguments)
                results = f"{' '.join(map(str, got))}, wasmtime {' '.join(map(str, expected))}"
                different.append(f"{case.name} at {level} for {cpu}: (func{case.text}) of {arguments}: {results}")
    return different


def host_cpus(region: lucet.Region) -> list[str]:
    """Those that code can be run for here."""
    found = []
    for cpu in CPU_FEATURES:
        try:
            region.new_instance(lucet.Module.from_bytes(lucet.compile("(module)", target_cpu=cpu))).close()
        except lucet.ArtifactError:
            continue
        found.append(cpu)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.fuzz_vectors", description="Compare with wasmtime.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="one round only")
    options = parser.parse_args(arguments)
    region = lucet.Region(slots=2)
    cpus = host_cpus(region)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    end = time.monotonic() + options.seconds
    rounds = 0
    while True:
        choice = random.Random(seed).choice
        different = run_round(seed, choice(OPT_LEVELS), choice(cpus), region)
        rounds += 1
        if different:
            print(f"seed {seed}:", *different, sep="\n")
            return 1
        if options.seed is not None or time.monotonic() > end:
            print(f"fuzz_vectors: {rounds} rounds, nothing differs")
            return 0
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
