"""Typed expressions at random: what bodies of random modules are made of. See random_modules.py."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from fuzz.fuzz_vectors import CORNERS, literal
from lucet.wasm.opcodes import OPS, Op

SCALARS: Final = ("i32", "i64", "f32", "f64")
NUMBERS: Final = (*SCALARS, "v128")
LANE_KINDS: Final = ("f32x4", "f64x2")
"""Vectors that may have computed NaNs in their lanes; "v128" are those of which every bit is known."""
PAGE: Final = 65536
COMPARISONS: Final = frozenset(("eq", "ne", "lt", "gt", "le", "ge"))
TRAPPING: Final = frozenset(("div_s", "div_u", "rem_s", "rem_u"))


def wasm_type(kind: str) -> str:
    return "v128" if kind in LANE_KINDS else kind


def kinds_of(op: Op) -> tuple[tuple[str, ...], str]:
    """Operands and result of an instruction that only calculates, with LANE_KINDS for what may have NaNs."""
    shape, _, name = op.name.partition(".")
    (result,) = op.pushes
    if op.family not in ("vector", "vector_lane"):
        return op.pops, result

    def vectors(kind: str) -> tuple[str, ...]:
        return tuple(kind if one == "v128" else one for one in op.pops)

    if shape in LANE_KINDS:
        other = next((kind for kind in LANE_KINDS if kind in name), None)  # promote, demote
        source = "v128" if name.startswith("convert") else other or shape
        return vectors(source), result if result != "v128" or name in COMPARISONS else shape
    return vectors(next((kind for kind in LANE_KINDS if kind in name), "v128")), result


CALCULATING: Final = ("test", "compare", "unary", "binary", "convert", "vector", "vector_lane")
BY_RESULT: Final[dict[str, list[Op]]] = {}
for _op in OPS.values():
    if _op.family in CALCULATING and _op.feature != "relaxed_simd":
        BY_RESULT.setdefault(kinds_of(_op)[1], []).append(_op)
LOADS: Final[dict[str, list[Op]]] = {}
for _op in OPS.values():
    if _op.family in ("load", "vector_load", "atomic") and len(_op.pushes) == 1 and ".wait" not in _op.name:
        LOADS.setdefault(_op.pushes[0], []).append(_op)
STORES: Final = [op for op in OPS.values() if op.align is not None and not op.pushes]
WIDE: Final = [op for op in OPS.values() if op.family == "wide"]
RELAXED: Final = [op for op in OPS.values() if op.feature == "relaxed_simd"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    index: int
    address: str
    size: int
    shared: bool
    page: int

    @property
    def declaration(self) -> str:
        maximum = self.size * 3
        index_type = "i64 " if self.address == "i64" else ""
        page = " (pagesize 1)" if self.page == 1 else ""
        limits = f"{self.size // self.page} {maximum // self.page}"
        return f'(memory $m{self.index} (export "m{self.index}") {index_type}{limits}{" shared" * self.shared}{page})'


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    address: str
    kind: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Signature:
    name: str
    params: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(f" (param {kind})" for kind in self.params) + "".join(
            f" (result {kind})" for kind in self.results
        )


@dataclass(frozen=True, kw_only=True)
class Label:
    name: str
    kinds: tuple[str, ...]


@dataclass(kw_only=True)
class Scope:
    """What the function being made has."""

    readable: list[tuple[str, str]]
    """(local, kind), as the others."""
    writable: list[tuple[str, str]]
    results: tuple[str, ...]
    labels: list[Label] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    """Of the counted loops that the place is in, innermost last."""
    loops: int = 0
    declared: list[str] = field(default_factory=list)
    budget: int = 220
    """Instructions, about."""


class Expressions:
    """What there is in the module, and expressions of it."""

    def __init__(self, rng: random.Random, functions: int = 10) -> None:
        self.rng = rng
        self.next = 0
        self.memories = [self._memory(index) for index in range(rng.choice((1, 1, 1, 2, 3)))]
        self.signatures = [self._signature(index) for index in range(rng.randrange(3, 6))]
        self.functions = [
            self.signatures[index] if index < len(self.signatures) else rng.choice(self.signatures)
            for index in range(max(functions, len(self.signatures)))
        ]
        typed = f"(ref null {self.signatures[0].name})"
        self.tables = [
            Table(name="$funcs", address=rng.choice(("i32", "i32", "i64")), kind="funcref", size=16),
            Table(name="$typed", address="i32", kind=typed, size=5),
            Table(name="$things", address="i32", kind="externref", size=4),
        ]
        self.tags = [tuple(rng.choices(NUMBERS, k=rng.randrange(4))) for _ in range(2)]
        self.globals = [(f"$g{index}", rng.choice(NUMBERS), rng.random() < 0.8) for index in range(8)]
        self.ref_globals = [("$gf", "funcref"), ("$gt", typed)]
        self.datas = rng.randrange(1, 4)
        self.scope = Scope(readable=[], writable=[], results=())

    def _memory(self, index: int) -> Memory:
        rng = self.rng
        page = rng.choice((PAGE, PAGE, PAGE, 1))
        size = PAGE * rng.choice((1, 1, 2)) if page > 1 else rng.randrange(64, 5000)
        return Memory(
            index=index,
            address=rng.choice(("i32", "i32", "i32", "i64")),
            size=size,
            shared=rng.random() < 0.2,
            page=page,
        )

    def _signature(self, index: int) -> Signature:
        rng = self.rng
        refs = ("funcref", "externref", *(f"(ref null $t{other})" for other in range(index)))
        refs += tuple(f"(ref $t{other})" for other in range(index))

        def kinds(largest: int) -> tuple[str, ...]:
            return tuple(
                rng.choice(refs) if rng.random() < 0.1 else rng.choice(NUMBERS) for _ in range(rng.randrange(largest))
            )

        return Signature(
            name=f"$t{index}", params=kinds(rng.choice((3, 5, 12))), results=kinds(rng.choice((2, 2, 3, 6)))
        )

    def expression(self, kind: str, depth: int) -> str:
        rng = self.rng
        if kind not in BY_RESULT:
            return self.reference(kind, depth)
        self.scope.budget -= 1
        if depth <= 0 or self.scope.budget <= 0:
            return self.leaf(kind)
        way = rng.random()
        if way < 0.30:
            return self.leaf(kind)
        if way < 0.44 and (load := self.load(kind)):
            return load
        if way < 0.48:
            first, second = self.expression(kind, depth - 1), self.expression(kind, depth - 1)
            return f"(select (result {wasm_type(kind)}) {first} {second} {self.condition()})"
        if way < 0.50 and kind in NUMBERS:
            label = self._label()
            first, second = self.expression(kind, depth - 1), self.expression(kind, depth - 1)
            return f"(block {label} (result {kind}) (drop (br_if {label} {first} {self.condition()})) {second})"
        if way < 0.53:
            arms = f"(then {self.expression(kind, depth - 1)}) (else {self.expression(kind, depth - 1)})"
            return f"(if (result {wasm_type(kind)}) {self.condition()} {arms})"
        if way < 0.56:
            fitting = [name for name, other in self.scope.writable if other == kind]
            if fitting:
                return f"(local.tee {rng.choice(fitting)} {self.expression(kind, depth - 1)})"
        if way < 0.58 and wasm_type(kind) == "v128" and (relaxed := self.relaxed(kind, depth)):
            return relaxed
        if way < 0.60 and kind == "i32":
            return self.query(depth)
        if kind == "v128" and rng.random() < 0.15:
            shape = rng.choice(LANE_KINDS)
            return self._canonical(shape, self.expression(shape, depth))
        return self.calculation(kind, depth)

    def calculation(self, kind: str, depth: int) -> str:
        rng = self.rng
        op = rng.choice(BY_RESULT[kind])
        name = op.name.partition(".")[2]
        operands = [self.expression(one, depth - 1) for one in kinds_of(op)[0]]
        if name in TRAPPING and rng.random() < 0.9:
            operands[1] = f"({kind}.or {operands[1]} ({kind}.const {rng.choice((1, 3, 8, 64))}))"
        if name.startswith("trunc_f") and rng.random() < 0.9:
            source = op.pops[0]
            integer = f"(i32.reinterpret_f32 {self._canonical('f32', self.expression('f32', 1))})"
            operands[0] = f"({source}.convert_i32_{name[-1]} {integer})"
        if "reinterpret_f" in name:
            operands[0] = self._canonical(op.pops[0], operands[0])
        if name == "copysign":
            operands[1] = self._canonical(kind, operands[1])
        return f"({op.name} {self._lanes(op)} {' '.join(operands)})"

    def _lanes(self, op: Op) -> str:
        if op.lanes is None:
            return ""
        return " ".join(str(self.rng.randrange(op.lanes)) for _ in range(16 if op.immediates == "lanes" else 1))

    def known(self, kind: str, depth: int) -> str:
        """An expression all of whose bits are defined."""
        value = self.expression(kind, depth)
        return self._canonical(kind, value) if kind in ("f32", "f64") else value

    def _canonical(self, kind: str, value: str) -> str:
        """With the one NaN for all NaNs."""
        if kind in ("f32", "f64"):
            local = f"$c{kind[1:]}"
            same = f"({kind}.eq (local.get {local}) (local.get {local}))"
            return f"(select (local.tee {local} {value}) ({kind}.const nan) {same})"
        lanes = "nan " * int(kind[-1])
        same = f"({kind}.eq (local.get $cv) (local.get $cv))"
        return f"(v128.bitselect (local.tee $cv {value}) (v128.const {kind} {lanes}) {same})"

    def leaf(self, kind: str) -> str:
        rng = self.rng
        names = [f"(local.get {name})" for name, other in self.scope.readable if other == kind]
        names += [f"(global.get {name})" for name, other, _ in self.globals if other == kind and rng.random() < 0.2]
        if names and rng.random() < 0.7:
            return rng.choice(names)
        return self.constant(kind)

    def constant(self, kind: str, *, initial: bool = False) -> str:
        rng = self.rng
        if wasm_type(kind) == "v128":
            width = rng.choice(tuple(CORNERS))
            lanes = [self._bits(width) for _ in range(128 // width)]
            return literal("v128", sum(lane << width * index for index, lane in enumerate(lanes)))
        if kind[0] == "f":
            if initial or rng.random() < 0.3:
                return f"({kind}.const {rng.choice(('0', '-0', '1', '-1.5', 'inf', '-inf', '2', '3e9', '0.1', 'nan'))})"
            return literal(kind, self._bits(int(kind[1:])))
        return f"({kind}.const {self._bits(int(kind[1:]))})"

    def _bits(self, width: int) -> int:
        rng = self.rng
        if rng.random() < 0.3:
            return rng.randrange(-5, 40) % (1 << width)
        return rng.choice(CORNERS[width]) if rng.random() < 0.7 else rng.getrandbits(width)

    def bits(self, kind: str) -> int:
        """An argument for the host to pass."""
        if kind == "v128":
            return sum(self._bits(32) << 32 * index for index in range(4))
        return self._bits(int(kind[1:]))

    def condition(self) -> str:
        return self.expression("i32", 2)

    def query(self, depth: int) -> str:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                memory = rng.choice(self.memories)
                size = f"(memory.size $m{memory.index})"
                return size if memory.address == "i32" else f"(i32.wrap_i64 {size})"
            case 1:
                return "(table.size $things)"
            case 2:
                kind = rng.choice(("funcref", "externref", f"(ref null {self.signatures[0].name})"))
                return f"(ref.is_null {self.reference(kind, depth)})"
            case _:
                call, results = self.call()
                return call if results == ("i32",) else "(table.size $typed)"

    def relaxed(self, kind: str, depth: int) -> str:
        """Operands for which every implementation has the same result."""
        rng = self.rng
        op = rng.choice(RELAXED)
        shape, _, name = op.name.partition(".")

        def vector() -> str:
            return self.expression("v128", depth - 1)

        def masked(byte: int) -> str:
            return f"(v128.and {vector()} (v128.const i8x16{f' {byte}' * 16}))"

        def small(lanes: str) -> str:
            """Integers of few bits: products are exact, and nothing is NaN or -0."""
            ints = f"(v128.and {vector()} (v128.const i32x4 511 255 63 1023))"
            low = "low_" if lanes == "f64x2" else ""
            return f"({lanes}.convert_{low}i32x4_s {ints})"

        if shape in LANE_KINDS:
            if kind != shape:
                return ""
            return f"({op.name} {' '.join(small(shape) for _ in op.pops)})"
        if kind != "v128":
            return ""
        if "trunc" in name:
            return f"({op.name} {small('f32x4' if 'f32x4' in name else 'f64x2')})"
        if "laneselect" in name:
            return f"({op.name} {vector()} {vector()} ({shape}.eq {vector()} {vector()}))"
        if "swizzle" in name:
            return f"({op.name} {vector()} {masked(15)})"
        if "q15mulr" in name:
            return f"({op.name} {vector()} (v128.and {vector()} (v128.const i16x8{' 32767' * 8})))"
        operands = [vector(), masked(127), *([vector()] if len(op.pops) > 2 else [])]
        return f"({op.name} {' '.join(operands)})"

    def load(self, kind: str) -> str:
        """ "" if there is none for the kind."""
        ops = LOADS.get(wasm_type(kind))
        if not ops:
            return ""
        op = self.rng.choice(ops)
        if op.family == "atomic" and self.rng.random() < 0.6:
            op = self.rng.choice(ops)
        immediates, address = self.access(op)
        if "notify" in op.name:
            return f"({op.name} {immediates} {address} {self.expression('i32', 1)})"
        lane = f" {self.rng.randrange(op.lanes)}" if op.lanes else ""
        operands = " ".join(self.known(one, 2) for one in op.pops[1:])
        return f"({op.name} {immediates}{lane} {address} {operands})"

    def access(self, op: Op) -> tuple[str, str]:
        """(immediates, address), mostly within the memory."""
        rng = self.rng
        assert op.align is not None
        memory = rng.choice(self.memories) if rng.random() < 0.5 else self.memories[0]
        width = 1 << op.align
        t = memory.address
        offset = rng.choice((0, 0, 0, 4, 8, 16, rng.randrange(64)))
        last = memory.size - width
        align = "" if op.family == "atomic" else rng.choice(("", " align=1"))
        if rng.random() < 0.005:
            offset = rng.choice((last, last + 1, memory.size, (1 << 32) - 1, (1 << 31), (1 << 32) - width))
        elif op.family == "atomic":
            offset -= offset % width
        immediates = f"$m{memory.index} offset={offset}{align}"
        way = rng.random()
        if way < 0.008:
            place = rng.choice((last, last + 1, last - offset, (1 << 32) - offset, (1 << int(t[1:])) - width, 0))
            return immediates, f"({t}.const {place % (1 << int(t[1:]))})"
        if way < 0.012:
            return immediates, self.expression(t, 2)
        if self.scope.counters and way < 0.6:
            return immediates, self._walk(t, width, memory)
        if way < 0.7:
            return immediates, f"({t}.const {rng.randrange(max(1, last // 2)) // width * width})"
        return immediates, self.place(memory, width)

    def _walk(self, t: str, width: int, memory: Memory) -> str:
        """An address that a loop's counter gives."""
        rng = self.rng
        index = f"(local.get {rng.choice(self.scope.counters)})"
        if t == "i64":
            index = f"(i64.extend_i32_{rng.choice('su')} {index})"
        scaled = rng.choice(
            (f"({t}.shl {index} ({t}.const {width.bit_length() - 1}))", f"({t}.mul {index} ({t}.const {width}))")
        )
        if rng.random() < 0.3:
            return scaled
        if rng.random() < 0.5:
            base = f"({t}.const {rng.randrange(max(1, memory.size // 2)) // width * width})"
        else:
            fitting = [name for name, kind in self.scope.readable if kind == t]
            mask = memory.size // 2 & -width if memory.size & (memory.size - 1) else memory.size // 2 - width
            base = f"({t}.and (local.get {rng.choice(fitting)}) ({t}.const {mask}))" if fitting else f"({t}.const 0)"
        return f"({t}.add {base} {scaled})"

    def place(self, memory: Memory, width: int = 1) -> str:
        """An address that is rarely outside."""
        t = memory.address
        mask = (1 << (memory.size // 2).bit_length() - 1) - 1
        return f"({t}.and {self.expression(t, 2)} ({t}.const {mask & -width}))"

    def reference(self, kind: str, depth: int) -> str:
        rng = self.rng
        names = [f"(local.get {name})" for name, other in self.scope.readable if other == kind]
        names += [f"(global.get {name})" for name, other in self.ref_globals if other == kind]
        if names and rng.random() < 0.5:
            return rng.choice(names)
        if depth > 0 and rng.random() < 0.3:
            for table in self.tables:
                if table.kind == kind:
                    return f"(table.get {table.name} ({table.address}.const {rng.randrange(table.size)}))"
        if depth > 0 and kind.startswith("(ref $") and rng.random() < 0.3:
            label = self._label()
            nullable = self.reference(kind.replace("(ref $", "(ref null $"), depth - 1)
            return f"(block {label} (result {kind}) (br_on_non_null {label} {nullable}) {self.default(kind)})"
        if kind == "funcref" and rng.random() < 0.7:
            return f"(ref.func $f{rng.randrange(len(self.functions))})"
        if kind.startswith("(ref null $") and rng.random() < 0.6:
            return self.default(kind.replace("(ref null $", "(ref $"))
        return self.default(kind)

    def default(self, kind: str) -> str:
        if kind.startswith("(ref $"):
            name = kind[5:-1]
            fitting = [index for index, one in enumerate(self.functions) if one.name == name]
            return f"(ref.func $f{self.rng.choice(fitting)})"
        if kind in SCALARS:
            return f"({kind}.const 0)"
        if wasm_type(kind) == "v128":
            return "(v128.const i64x2 0 0)"
        return f"(ref.null {heap_type(kind)})"

    def _number(self) -> int:
        self.next += 1
        return self.next

    def _label(self) -> str:
        return f"$b{self._number()}"

    def call(self) -> tuple[str, tuple[str, ...]]:
        rng = self.rng
        way = rng.randrange(8)
        if way == 0:
            return f"(call $mix {self.expression('i32', 2)} {self.expression('i64', 2)})", ("i64",)
        index = rng.randrange(len(self.functions))
        signature = self.functions[index]
        arguments = " ".join(self.expression(kind, 2) for kind in signature.params)
        if way < 4:
            return f"(call $f{index} {arguments})", signature.results
        if way < 7:
            return (
                f"(call_indirect $funcs (type {signature.name}) {arguments} {self.element()})",
                signature.results,
            )
        return f"(call_ref {signature.name} {arguments} (ref.func $f{index}))", signature.results

    def element(self) -> str:
        """An index into $funcs."""
        table = self.tables[0]
        if self.rng.random() < 0.8:
            return f"({table.address}.const {self.rng.randrange(2, 13)})"
        return f"({table.address}.and {self.expression(table.address, 2)} ({table.address}.const 15))"


def heap_type(kind: str) -> str:
    short = {"funcref": "func", "externref": "extern", "exnref": "exn"}
    return short[kind] if kind in short else kind.removeprefix("(ref null ").removesuffix(")")
