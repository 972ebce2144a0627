"""Counting instructions: exact, the same at every level, and whatever is endless stops."""

from __future__ import annotations

import random
from functools import cache

import pytest

import lucet
from lucet.compile.options import OPT_LEVELS
from lucet.wasm.costs import COSTS
from lucet.wasm.opcodes import OPS
from lucet.wasm.text import text_to_binary
from tests.compile.counter import FREE, Counter, TooLong, Trapped


@cache
def _artifact(wasm: bytes, opt_level: str, bounds: str) -> lucet.Module:
    artifact = lucet.compile(wasm, opt_level=opt_level, bounds=bounds, count_instructions=True)
    return lucet.Module.from_bytes(artifact)


def instance_of(text: str, region: lucet.Region, opt_level: str, bounds: str = "guard") -> lucet.Instance:
    return region.new_instance(_artifact(text_to_binary(text), opt_level, bounds))


def cost(instance: lucet.Instance, name: str, *arguments: int) -> int:
    before = instance.fuel_used
    instance.run(name, *arguments)
    return instance.fuel_used - before


def test_costs() -> None:
    assert {OPS[code].name for code, count in COSTS.items() if count == 0} == FREE
    assert set(COSTS.values()) == {0, 1}
    assert COSTS.keys() == OPS.keys()


PROGRAMS = """(module (memory 1)
  (table $t 2 40 funcref)
  (type $void (func))
  (elem (table $t) (i32.const 0) func $nothing)
  (elem $passive func $nothing $nothing)
  (data $data "0123456789abcdef0123456789abcdef")
  (func $nothing)
  (func (export "nothing") (nop) (block (nop)))
  (func (export "straight") (result i32)
    (drop (i32.const 1)) (nop) (block) (return (i32.add (i32.const 1) (i32.const 2))))
  (func (export "if") (param i32)
    (if (local.get 0) (then (drop (i32.const 1)))) (drop (i32.const 1)))
  (func (export "if_else") (param i32)
    (if (local.get 0) (then (drop (i32.const 1))) (else (drop (i32.add (i32.const 1) (i32.const 2))))))
  (func (export "loop") (param i32)
    (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "table") (param i32)
    (block (block (block (br_table 0 1 2 (local.get 0))) (drop (i32.const 1)) (br 1)) (drop (i32.const 1)) (nop)))
  (func (export "after_loop") (param i32)
    (block (loop (br_if 1 (local.get 0)) (drop (i32.div_u (i32.const 1) (i32.const 0)))))
    (drop (i32.const 1)) (drop (i32.const 1)))
  (func (export "after") (block (br 0) (drop (i32.const 1))))
  (func (export "calls") (call $nothing) (call_indirect $t (type $void) (i32.const 0)) (call $nothing))
  (func (export "copy") (param i32) (memory.copy (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "init") (param i32) (memory.init $data (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "table_copy") (param i32) (table.copy $t $t (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "table_fill") (param i32) (table.fill $t (i32.const 0) (ref.null func) (local.get 0)))
  (func (export "table_init") (param i32) (table.init $t $passive (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "table_grow") (param i32) (drop (table.grow $t (ref.null func) (local.get 0))))
  (func (export "memory_grow") (param i32) (drop (memory.grow (local.get 0)))))"""


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("nothing", [], 0),
        ("straight", [], 4),
        ("if", [0], 3),
        ("if", [1], 4),
        ("if_else", [0], 5),
        ("if_else", [1], 3),
        ("loop", [1], 5),
        ("loop", [1000], 5000),
        ("table", [0], 2 + 2),
        ("table", [1], 2 + 1),
        ("table", [9], 2),
        ("after", [], 1),
        ("after_loop", [1], 2 + 2),
        ("calls", [], 4),
        ("copy", [7], 4),
        ("copy", [8], 4 + 1),
        ("fill", [65536], 4 + 8192),
        ("init", [32], 4 + 4),
        ("table_copy", [2], 4 + 2),
        ("table_fill", [1], 4 + 1),
        ("table_init", [2], 4 + 2),
        ("table_grow", [10], 3 + 10),
        ("table_grow", [1000], 3),
        ("memory_grow", [1], 2),
    ],
)
def test_counts(region: lucet.Region, opt_level: str, name: str, arguments: list[int], expected: int) -> None:
    with instance_of(PROGRAMS, region, opt_level) as instance:
        assert cost(instance, name, *arguments) == expected
        # As much fuel as it takes is enough; less is not, where there is a check.
        instance.reset()
        instance.fuel = expected
        instance.run(name, *arguments)
        assert instance.fuel == 0


def test_a_trap_in_a_loop_leaves_out_what_comes_behind(region: lucet.Region, opt_level: str) -> None:
    with instance_of(PROGRAMS, region, opt_level) as instance:
        with pytest.raises(lucet.Trap, match="integer divide by zero"):
            instance.run("after_loop", 0)
        assert instance.fuel_used == 2 + 3


# ---- programs at random ----


class Generator:
    """Functions of two i32 parameters and three locals, whose loops end by themselves."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loops = 0

    def module(self, functions: int) -> str:
        bodies = [self.function(index) for index in range(functions)]
        return f"(module (memory 1) (global $g (mut i32) (i32.const 0))\n{''.join(bodies)})"

    def function(self, index: int) -> str:
        self.index = index
        self.loops = 0
        body = self.block(4, ["function"])
        counters = "".join(f" (local $k{n} i32)" for n in range(self.loops))
        result = self.value(2)
        return (
            f'(func $f{index} (export "f{index}") (param i32 i32) (result i32) (local i32 i32 i32){counters}\n'
            f"  {body}\n  {result})\n"
        )

    def block(self, depth: int, labels: list[str]) -> str:
        return " ".join(self.statement(depth, labels) for _ in range(self.random.randrange(1, 5)))

    def statement(self, depth: int, labels: list[str]) -> str:
        kinds = "set set set set set store load global nop return call trap br_if br_if br br_table".split()
        if depth:
            kinds += "block block block if if if if if_else if_else if_else if_else loop loop loop".split()
        inside = self.random.choice(kinds)
        targets = [n for n, kind in enumerate(reversed(labels)) if kind == "block"]
        match inside:
            case "set":
                return f"(local.set {self.random.randrange(5)} {self.value(2)})"
            case "store":
                return f"(i32.store8 (i32.and {self.value(1)} (i32.const 0xffff)) {self.value(1)})"
            case "load" if self.rare():
                return f"(drop (i32.load8_u (i32.and {self.value(1)} (i32.const 0x1ffff))))"
            case "global":
                return f"(global.set $g {self.value(1)})"
            case "return" if self.rare():
                return f"(if {self.value(1)} (then (return {self.value(1)})))"
            case "call" if self.index:
                callee = self.random.randrange(self.index)
                return f"(local.set 2 (call $f{callee} {self.value(1)} {self.value(0)}))"
            case "trap" if self.rare():
                return f"(local.set 3 (i32.div_u {self.value(1)} (i32.and {self.value(1)} (i32.const 15))))"
            case "br_if" if targets:
                return f"(br_if {self.random.choice(targets)} {self.value(1)})"
            case "br" if targets and self.rare():
                return f"(br {self.random.choice(targets)})"
            case "br_table" if targets and self.rare():
                chosen = " ".join(str(self.random.choice(targets)) for _ in range(self.random.randrange(1, 4)))
                return f"(br_table {chosen} {self.value(1)})"
            case "block":
                return f"(block {self.block(depth - 1, [*labels, 'block'])})"
            case "if":
                return f"(if {self.value(1)} (then {self.block(depth - 1, [*labels, 'block'])}))"
            case "if_else":
                inner = [*labels, "block"]
                then, otherwise = self.block(depth - 1, inner), self.block(depth - 1, inner)
                return f"(if {self.value(1)} (then {then}) (else {otherwise}))"
            case "loop":
                counter = f"$k{self.loops}"
                self.loops += 1
                body = self.block(depth - 1, [*labels, "loop"])
                turns = self.random.randrange(1, 6)
                again = f"(br_if 0 (local.tee {counter} (i32.sub (local.get {counter}) (i32.const 1))))"
                return f"(local.set {counter} (i32.const {turns})) (loop {body} {again})"
        return "(nop)"

    def rare(self) -> bool:
        return self.random.random() < 0.5

    def value(self, depth: int) -> str:
        if not depth or self.random.random() < 0.3:
            local, constant = self.random.randrange(5), self.random.randrange(-3, 9)
            return self.random.choice([f"(local.get {local})", f"(i32.const {constant})", "(global.get $g)"])
        name = self.random.choice(["add", "sub", "mul", "and", "xor", "lt_s", "eq"])
        operands = f"{self.value(depth - 1)} {self.value(depth - 1)}"
        if self.random.random() < 0.1:
            return f"(select {operands} {self.value(0)})"
        return f"(i32.{name} {operands})"


FUNCTIONS = 60


@pytest.mark.parametrize("seed", range(4))
def test_programs_at_random(region: lucet.Region, seed: int) -> None:
    """What returns has the exact count; what traps has the same at every level, and has not counted too little."""
    text = Generator(seed).module(FUNCTIONS)
    wasm = text_to_binary(text)
    returned = trapped = 0
    instances = [
        instance_of(text, region, opt_level, bounds) for opt_level in OPT_LEVELS for bounds in ("guard", "explicit")
    ]
    for index in range(FUNCTIONS):
        for arguments in ([0, 0], [1, 7], [-5, 1000]):
            counter = Counter(wasm, limit=20_000)
            try:
                (expected,) = counter.call(index, [argument & 0xFFFFFFFF for argument in arguments])
            except TooLong:
                continue
            except Trapped:
                counts = {_count_of_trap(instance, index, arguments) for instance in instances}
                assert len(counts) == 1, (seed, index, arguments, counts)
                assert counter.count <= counts.pop() <= counter.count + 2000
                trapped += 1
                continue
            for instance in instances:
                instance.reset()
                instance.fuel = counter.count
                result = instance.run(f"f{index}", *arguments)
                assert (result & 0xFFFFFFFF, instance.fuel_used) == (expected, counter.count), (seed, index, arguments)
            returned += 1
    for instance in instances:
        instance.close()
    assert returned > 30
    assert trapped > 2


def _count_of_trap(instance: lucet.Instance, index: int, arguments: list[int]) -> int:
    instance.fuel = None
    instance.reset()
    with pytest.raises(lucet.Trap):
        instance.run(f"f{index}", *arguments)
    return instance.fuel_used


# ---- bounds ----

ENDLESS = """(module
  (memory 1)
  (global $g (mut i32) (i32.const 0))
  (table $t 1 funcref)
  (elem (i32.const 0) $indirect)
  (type $void (func))
  (func (export "loop") (loop (br 0)))
  (func (export "nested") (loop (loop (br 1))))
  (func (export "many") (block (loop (br_if 0 (i32.const 1)) (br 1))))
  (func (export "table") (loop (br_table 0 0 (i32.const 0))))
  (func (export "memory") (loop (i32.store (i32.const 0) (i32.load (i32.const 4))) (br 0)))
  (func (export "bulk") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0)))
  (func $leaf (global.set $g (i32.add (global.get $g) (i32.const 1))))
  (func (export "leaf") (loop (call $leaf) (br 0)))
  (func $self (export "recursive") (call $self))
  (func $even (export "mutual") (call $odd))
  (func $odd (call $even))
  (func $indirect (export "indirect") (call_indirect $t (type $void) (i32.const 0)))
  (func $tree (export "tree") (param i32)
    (if (local.get 0) (then
      (call $tree (i32.sub (local.get 0) (i32.const 1)))
      (call $tree (i32.sub (local.get 0) (i32.const 1)))))))"""

TAILS = """(module
  (table $t 1 funcref)
  (elem (i32.const 0) $indirect)
  (type $void (func))
  (func $self (export "tail") (return_call $self))
  (func $even (export "mutual") (return_call $odd))
  (func $odd (return_call $even))
  (func $indirect (export "indirect") (return_call_indirect $t (type $void) (i32.const 0)))
  (func (export "arm") (param i32) (result i32)
    (if (local.get 0) (then (return_call $down (i32.const 0))))
    (i32.add (i32.const 1) (i32.const 2)))
  (func $down (export "down") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
    (return_call $down (i32.sub (local.get 0) (i32.const 1)))))"""


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        *((ENDLESS, name, ()) for name in ("loop", "nested", "many", "table", "memory", "bulk", "leaf", "recursive")),
        *((ENDLESS, name, ()) for name in ("mutual", "indirect")),
        (ENDLESS, "tree", (60,)),
        *((TAILS, name, ()) for name in ("tail", "mutual", "indirect")),
    ],
)
@pytest.mark.parametrize("fuel", [0, 5000])
def test_endless_guests_stop(
    region: lucet.Region, opt_level: str, text: str, name: str, arguments: tuple[int, ...], fuel: int
) -> None:
    with instance_of(text, region, opt_level) as instance:
        for _ in range(2):
            instance.fuel = fuel
            before = instance.fuel_used
            with pytest.raises(lucet.OutOfFuel, match="out of fuel") as caught:
                instance.run(name, *arguments)
            assert caught.value.code == "OUT_OF_FUEL"
            assert caught.value.function is not None
            assert caught.value.offset is not None
            assert instance.fuel == 0
            assert fuel < instance.fuel_used - before <= fuel + 8200  # a memory.fill of 64 KiB
            assert instance.state == "ready"


def test_tail_calls(region: lucet.Region, opt_level: str) -> None:
    with instance_of(TAILS, region, opt_level) as instance:
        assert cost(instance, "down", 1000) == 1000 * 7 + 4
        assert cost(instance, "down", 0) == 4
        assert cost(instance, "arm", 0) == 2 + 3
        assert cost(instance, "arm", 1) == 2 + 2 + 4


def test_code_without_counting_is_as_before() -> None:
    wasm = text_to_binary(PROGRAMS)
    plain, counting = lucet.compile(wasm), lucet.compile(wasm, count_instructions=True)
    assert lucet.compile(wasm, count_instructions=False) == plain
    assert counting != plain
    assert "counts instructions" in lucet.Module.from_bytes(counting).producer
