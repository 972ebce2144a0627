"""Slots of every shape: a guest stays in its own, whatever was reserved, limited, or left behind on the stack."""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import Any

import pytest

import lucet
from lucet.wasm.text import text_to_binary

PAGE = 65536
MIB = 1 << 20
GIB = 1 << 30
EDGE = """(module (memory (export "memory") {minimum} {maximum})
  (global $bytes (export "bytes") (mut i64) (i64.const 0x1122334455667788))
  (table 3 funcref) (elem (i32.const 1) $deep)
  (func $deep (export "deep") (param i32) (result i32) (local i64 i64 i64 i64)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "far") (param i32) (result i32) (i32.load8_u offset=0xFFFFFFFF (local.get 0)))
  (func (export "load64") (param i32) (result i64) (i64.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""


@cache
def edge(bounds: str, minimum: int = 1, maximum: int = 3) -> lucet.Module:
    text = EDGE.format(minimum=minimum, maximum=maximum)
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(text), opt_level="fast", bounds=bounds))


def traps(instance: lucet.Instance, code: str, name: str, *arguments: int) -> None:
    with pytest.raises(lucet.Trap) as caught:
        instance.run(name, *arguments)
    assert caught.value.code == code


def check_edges(instance: lucet.Instance) -> None:
    """Everything at the last byte, and nothing behind it, before and after growing as far as it goes."""
    for _ in range(4):
        size = instance.memory.size
        assert instance.run("load", size - 1) == 0
        assert instance.run("load64", size - 8) == 0
        instance.run("store", size - 1, 7)
        assert instance.run("load", size - 1) == 7
        instance.run("store", size - 1, 0)
        behind = (size, size + 4096, 2 * GIB - 1, 4 * GIB - 1)
        for address in behind:
            traps(instance, "OUT_OF_BOUNDS_MEMORY_ACCESS", "load", address)
            traps(instance, "OUT_OF_BOUNDS_MEMORY_ACCESS", "store", address, 1)
            traps(instance, "OUT_OF_BOUNDS_MEMORY_ACCESS", "far", address)
        for address in range(size - 7, size):
            traps(instance, "OUT_OF_BOUNDS_MEMORY_ACCESS", "load64", address)
        traps(instance, "CALL_STACK_EXHAUSTED", "deep", 0)
        assert instance.globals["bytes"].value == 0x1122334455667788
        if instance.run("grow", 1) == -1:
            return


RESERVED = (PAGE, 3 * PAGE, MIB, GIB, 4 * GIB, 8 * GIB)
GUARDS = (0, PAGE, 32 * MIB, 2 * GIB, 4 * GIB)


@pytest.mark.parametrize(("reserved", "guard"), list(itertools.product(RESERVED, GUARDS)))
@pytest.mark.parametrize("bounds", ["guard", "explicit"])
def test_every_reservation_holds_or_is_refused(reserved: int, guard: int, bounds: str) -> None:
    for track_writes in (True, False):
        try:
            region = lucet.Region(
                2, memory_reserved=reserved, memory_guard=guard, memory_limit=reserved, track_writes=track_writes
            )
        except ValueError:
            assert guard == 0  # guards are what protects pages
            assert track_writes
            continue
        module = edge(bounds)
        relies_on = 4 * GIB + 32 * MIB if bounds == "guard" else 0
        packed = not guard and not track_writes
        if relies_on and (packed or relies_on > reserved + guard or reserved < 4 * GIB):
            with pytest.raises(lucet.LimitsExceeded, match="address space"):
                region.new_instance(module)
            continue
        first, second = region.new_instance(module), region.new_instance(module)
        second.memory.write(0, b"\xee" * PAGE)
        check_edges(first)
        assert second.memory.read(0, PAGE) == b"\xee" * PAGE
        second.close()
        assert region.new_instance(module).memory.read(0, PAGE) == bytes(PAGE)


@pytest.mark.parametrize("seed", range(60))
def test_random_limits_of_all_kinds(seed: int) -> None:
    r = random.Random(seed)
    bounds = r.choice(["guard", "explicit"])
    packed = bounds == "explicit" and r.random() < 0.5
    options: dict[str, Any] = {
        "memory_reserved": r.choice(
            [PAGE, 3 * PAGE, 64 * PAGE, 4 * GIB] if bounds == "explicit" else [4 * GIB, 6 * GIB]
        ),
        "memory_guard": 0 if packed else r.choice([PAGE, 32 * MIB, GIB]),
        "stack_size": r.choice([4096, 8192, 32768, MIB, 8 * MIB]),
        "stacks": r.choice([0, 1, 2]),
        "table_limit": r.choice([0, 2, 3, 1000]),
        "instance_area": r.choice([64, 256, 512, 4096, MIB]),
        "track_writes": not packed and r.random() < 0.5,
        "random_slots": r.random() < 0.5,
    }
    options["memory_limit"] = r.choice([PAGE, 2 * PAGE, options["memory_reserved"]])
    budget = r.choice([None, lucet.Budget(r.choice([PAGE, 5 * PAGE, GIB]))])
    minimum, maximum = r.choice([(1, 1), (1, 3), (2, 70), (3, 65536)])
    try:
        region = lucet.Region(r.choice([1, 3]), budget=budget, **options)
    except ValueError:
        return
    for _ in range(3):
        try:
            instance = region.new_instance(edge(bounds, minimum, maximum))
        except (lucet.LimitsExceeded, lucet.RegionFull):
            continue
        assert instance.memory.size == minimum * PAGE
        try:
            check_edges(instance)
        except lucet.RegionFull as full:
            assert "stack" in str(full)
        assert instance.memory.size <= options["memory_limit"]
        if budget is not None:
            assert budget.used <= budget.limit
        instance.close()
        assert region.used == 0


LOCALS = 60
DIRTY = f"""(module
  (func $fill (export "fill") (param i32 i64) (result i64) {"(local i64)" * LOCALS}
    {" ".join(f"(local.set {index + 2} (i64.add (local.get 1) (i64.const {index})))" for index in range(LOCALS))}
    (if (local.get 0) (then
      (local.set 1 (call $fill (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))))
    {" ".join(f"(local.get {index + 2})" for index in range(LOCALS))} {"i64.xor " * (LOCALS - 1)})
  (func $nothing)
  (func (export "read") (result i64) {"(local i64 i32 f64)" * LOCALS}
    (call $nothing)
    {
    " ".join(
        f"(local.get {3 * index}) (i64.extend_i32_u (local.get {3 * index + 1}))"
        f" (i64.reinterpret_f64 (local.get {3 * index + 2}))"
        for index in range(LOCALS)
    )
}
    {"i64.or " * (3 * LOCALS - 1)}))"""


@pytest.mark.parametrize("opt_level", ["none", "fast", "default", "best"])
def test_what_is_left_on_the_stack_is_not_seen(opt_level: str) -> None:
    module = lucet.Module.from_bytes(lucet.compile(text_to_binary(DIRTY), opt_level=opt_level))
    region = lucet.Region(2, stacks=1)
    for pattern in (-1, 0x5555555555555555, 0):
        with region.new_instance(module) as first:
            first.run("fill", 100, pattern)
        with region.new_instance(module) as second:
            assert second.run("read") == 0
