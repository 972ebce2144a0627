"""Every load and store at the end of memories of every kind, and addresses and offsets whose sum is too large.

Generated from the table of instructions, so that an instruction that comes is tested with the others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

import lucet
from lucet.limits import MEMORY_GUARD_SIZE
from lucet.wasm.opcodes import OPS, Op
from tests.compile.conftest import Instantiate

PAGE = 65536
OUT_OF_BOUNDS = "out of bounds memory access"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A memory to access."""

    declarations: str
    """Memory $m, after others if it is not to be memory 0."""
    size: int
    bounds: str = "guard"
    imported: bool = False

    @property
    def shared(self) -> bool:
        return "shared" in self.declarations

    @property
    def address_type(self) -> str:
        return "i64" if " i64 " in self.declarations else "i32"


KINDS = {
    "guard": Kind(declarations="(memory $m 1)", size=PAGE),
    "explicit": Kind(declarations="(memory $m 1)", size=PAGE, bounds="explicit"),
    "empty": Kind(declarations="(memory $m 0)", size=0),
    "other": Kind(declarations="(memory 3) (memory $m 2)", size=2 * PAGE),
    "other explicit": Kind(declarations="(memory 3) (memory $m 2)", size=2 * PAGE, bounds="explicit"),
    "64": Kind(declarations="(memory $m i64 1)", size=PAGE),
    "64 explicit": Kind(declarations="(memory $m i64 1)", size=PAGE, bounds="explicit"),
    "64 empty": Kind(declarations="(memory $m i64 0)", size=0),
    "64 other": Kind(declarations="(memory 1) (memory $m i64 1)", size=PAGE),
    "bytes": Kind(declarations="(memory $m 4097 (pagesize 1))", size=4097),
    "other bytes": Kind(declarations="(memory 1) (memory $m 31 (pagesize 1))", size=31),
    "64 bytes": Kind(declarations="(memory $m i64 100 (pagesize 1))", size=100),
    "no bytes": Kind(declarations="(memory $m 0 (pagesize 1))", size=0),
    "imported": Kind(declarations='(import "m" "m" (memory $m 1))', size=PAGE, imported=True),
    "shared": Kind(declarations="(memory $m 1 2 shared)", size=PAGE),
    "shared explicit": Kind(declarations="(memory $m 1 2 shared)", size=PAGE, bounds="explicit"),
    "other shared": Kind(declarations="(memory 2) (memory $m 1 2 shared)", size=PAGE),
    "64 shared": Kind(declarations="(memory $m i64 1 2 shared)", size=PAGE),
    "64 shared explicit": Kind(declarations="(memory $m i64 1 2 shared)", size=PAGE, bounds="explicit"),
    "shared bytes": Kind(declarations="(memory $m 40 100 shared (pagesize 1))", size=40),
    "shared imported": Kind(declarations='(import "m" "m" (memory $m 1 2 shared))', size=PAGE, imported=True),
    "64 imported": Kind(declarations='(import "m" "m" (memory $m i64 1))', size=PAGE, imported=True),
}
ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))

ACCESSES = [op for op in OPS.values() if op.align is not None and op.pops[:1] == ("i32",)]
CONSTANTS = {"i32": "i32.const 1", "i64": "i64.const 1", "f32": "f32.const 1", "f64": "f64.const 1"}
CONSTANTS["v128"] = "v128.const i64x2 1 1"


def width(op: Op) -> int:
    assert op.align is not None
    return 1 << op.align


def access(op: Op, address: str, offset: int = 0) -> str:
    """The instruction at an address, its result dropped."""
    operands = " ".join(f"({CONSTANTS[valtype]})" for valtype in op.pops[1:])
    lane = " 0" if "lane" in op.immediates else ""
    text = f"({op.name} $m offset={offset}{lane} {address} {operands})"
    return f"(drop {text})" if op.pushes else text


def make(instantiate: Instantiate, kind: Kind, functions: list[str]) -> lucet.Instance:
    imports: dict[str, dict[str, object]] = {}
    if kind.imported:
        exporter = instantiate(f'(module (memory (export "m") {kind.declarations.split("$m")[1]}')
        imports = {"m": {**exporter.exports}}
    text = f"(module {kind.declarations} {' '.join(functions)})"
    return instantiate(text, imports, bounds=kind.bounds)


def outcome(instance: lucet.Instance, name: str, *arguments: int) -> str:
    try:
        instance.run(name, *arguments)
    except lucet.Trap as trap:
        assert trap.function == name
        assert trap.offset is not None
        return trap.message
    return "returned"


def inside(op: Op, kind: Kind) -> str:
    return "expected shared memory" if ".wait" in op.name and not kind.shared else "returned"


@ALL_KINDS
def test_at_the_last_valid_byte(instantiate: Instantiate, kind: Kind) -> None:
    functions = [
        f'(func (export "{op.name}") (param {kind.address_type}) {access(op, "(local.get 0)")})' for op in ACCESSES
    ]
    instance = make(instantiate, kind, functions)
    wrong = []
    for op in ACCESSES:
        last = kind.size - width(op)
        for address in {0, last, last + 1, last + width(op) - 1, kind.size, kind.size + 7, kind.size + width(op)}:
            expected = inside(op, kind) if 0 <= address <= kind.size - width(op) else OUT_OF_BOUNDS
            if op.family == "atomic" and address % width(op):
                expected = "unaligned atomic"
            if address >= 0 and (found := outcome(instance, op.name, address)) != expected:
                wrong.append(f"{op.name} at {address} of {kind.size}: {found}")
    assert not wrong, wrong


OFFSETS = [
    *(0, 1, 8, 100, 4096, PAGE - 8, PAGE - 1, PAGE, 2 * PAGE - 8, 1 << 31, (1 << 32) - 8, (1 << 32) - 1),
    *(MEMORY_GUARD_SIZE + delta for delta in (-9, -8, -7, -1, 0, 1)),
]
OFFSETS_64 = [
    1 << 32,
    1 << 47,
    1 << 48,
    (1 << 48) + 1,
    1 << 63,
    (1 << 63) - 8,
    (1 << 64) - PAGE,
    (1 << 64) - 8,
    (1 << 64) - 1,
]
WIDE_NAMES = "i32.load8_u i64.load i64.store i64.store32 i32.atomic.rmw8.add_u memory.atomic.notify".split()
WIDE = [op for op in ACCESSES if op.name in WIDE_NAMES]


def addresses(kind: Kind, offset: int) -> set[int]:
    """Around all places where a sum or a comparison could go wrong."""
    end = 1 << int(kind.address_type[1:])
    places = [0, kind.size, kind.size - offset, end - offset, end // 2, end // 2 - offset, (1 << 32) - offset, 1 << 32]
    near = {place + delta for place in places for delta in (-9, -8, -7, -4, -1, 0, 1)}
    return {address % end for address in near} | {end - PAGE}


@ALL_KINDS
def test_sums_of_address_and_offset(instantiate: Instantiate, kind: Kind) -> None:
    offsets = OFFSETS + OFFSETS_64 * (kind.address_type == "i64")
    functions = [
        f'(func (export "{op.name} {offset}") (param {kind.address_type}) {access(op, "(local.get 0)", offset)})'
        for op, offset in itertools.product(WIDE, offsets)
    ]
    instance = make(instantiate, kind, functions)
    wrong = []
    for op, offset in itertools.product(WIDE, offsets):
        for address in addresses(kind, offset):
            expected = "returned" if address + offset + width(op) <= kind.size else OUT_OF_BOUNDS
            if op.family == "atomic" and (address + offset) % width(op):
                expected = "unaligned atomic"
            if (found := outcome(instance, f"{op.name} {offset}", address)) != expected:
                wrong.append(f"{op.name} at {address:#x} + {offset:#x} of {kind.size:#x}: {found}")
    assert not wrong, wrong[:20]


@ALL_KINDS
def test_constant_addresses(instantiate: Instantiate, kind: Kind) -> None:
    end = 1 << int(kind.address_type[1:])
    offsets = [0, 7, PAGE - 8, (1 << 32) - 1] + [(1 << 64) - 1, (1 << 63)] * (kind.address_type == "i64")
    constants = sorted({place % end for place in (0, 1, kind.size - 8, kind.size - 7, kind.size, end - 1, end // 2)})
    cases = list(itertools.product(WIDE, offsets, constants))
    instance = make(
        instantiate,
        kind,
        [
            f'(func (export "{op.name} {offset} {constant}") '
            f"{access(op, f'({kind.address_type}.const {constant})', offset)})"
            for op, offset, constant in cases
        ],
    )
    for op, offset, constant in cases:
        expected = "returned" if constant + offset + width(op) <= kind.size else OUT_OF_BOUNDS
        if op.family == "atomic" and (constant + offset) % width(op):
            expected = "unaligned atomic"
        assert outcome(instance, f"{op.name} {offset} {constant}") == expected, (op.name, offset, constant)


@ALL_KINDS
def test_a_check_holds_for_later_accesses_only_as_far_as_it_went(instantiate: Instantiate, kind: Kind) -> None:
    """Accesses at one address share checks: the one that goes further than those before is looked at again."""
    sequences = [(0, 8), (8, 0), (0, 1 << 26, 0), (4, 0, 12, 8), (0, 4, 1 << 20)]
    functions = []
    for number, sequence in enumerate(sequences):
        loads = "".join(
            f"(global.set $n (i32.const {step})) (drop (i32.load $m offset={offset} (local.get 0)))"
            for step, offset in enumerate(sequence)
        )
        functions.append(f'(func (export "{number}") (param {kind.address_type}) {loads})')
    instance = make(instantiate, kind, ['(global $n (export "n") (mut i32) (i32.const 0))', *functions])
    for number, sequence in enumerate(sequences):
        for address in {max(kind.size - back, 0) for back in (0, 3, 4, 8, 11, 12, 16, 20)}:
            fits = [address + offset + 4 <= kind.size for offset in sequence]
            found = outcome(instance, str(number), address)
            assert found == ("returned" if all(fits) else OUT_OF_BOUNDS)
            assert instance.globals["n"].value == (len(fits) - 1 if all(fits) else fits.index(False))


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.size and not kind.imported])
def test_the_check_knows_of_growth(instantiate: Instantiate, kind: Kind) -> None:
    t = kind.address_type
    instance = make(
        instantiate,
        kind,
        [
            f"""(func (export "f") (param {t}) (result i32)
              (i32.store8 $m (local.get 0) (i32.const 1))
              (drop (memory.grow $m ({t}.const 1)))
              (i32.load8_u $m offset=1 (local.get 0)))
            (func (export "g") (param {t}) (result i32)
              (drop (memory.grow $m ({t}.const 1)))
              (i32.load8_u $m (local.get 0)))"""
        ],
    )
    assert instance.run("f", kind.size - 1) == 0
    assert instance.run("g", kind.size + 1) == 0
    assert outcome(instance, "g", (1 << 31) - 1) == OUT_OF_BOUNDS
