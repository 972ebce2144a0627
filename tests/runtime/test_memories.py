"""Memories beyond the usual one: several, 64-bit ones, and such with pages of one byte."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

import lucet
from lucet.errors import LimitExceeded
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import I64, Limits, MemoryType, TableType

PAGE = 65536

GUESTS = {
    "none": "(module)",
    "one": """(module (memory (export "a") 1 4) (data (i32.const 5) "five"))""",
    "two": """(module (memory (export "a") 1 4) (memory (export "b") 2 5) (data (i32.const 1) "a")
      (data (memory 1) (i32.const 70000) "b"))""",
    "others": """(module (memory (export "a") i64 0 3) (memory (export "b") i64 1 3)
      (memory (export "c") 100 200 (pagesize 1))
      (data (memory 1) (i64.const 3) "64") (data (memory 2) (i32.const 98) "12"))""",
    "bytes": """(module (memory (export "a") 5 5000 (pagesize 1)) (data (i32.const 0) "01234"))""",
    "many": "(module " + " ".join(f'(memory (export "m{n}") 1 2)' for n in range(20)) + ")",
}


@cache
def module(name: str, bounds: str = "guard") -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(GUESTS[name]), opt_level="none", bounds=bounds))


def compiled(text: str) -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text, opt_level="none"))


def memories(instance: lucet.Instance) -> dict[str, lucet.Memory]:
    return {name: item for name, item in instance.exports.items() if isinstance(item, lucet.Memory)}


def contents(instance: lucet.Instance) -> dict[str, bytes]:
    return {name: bytes(memory) for name, memory in memories(instance).items()}


def make_dirty(instance: lucet.Instance, grow: bool) -> None:
    for memory in memories(instance).values():
        if grow:
            memory.grow(1)
        memory.write(0, b"\xdd" * memory.size)


def new_region(kind: str) -> lucet.Region:
    if kind == "packed":
        return lucet.Region(1, track_writes=False, memory_guard=0, memory_reserved=64 * PAGE, instance_area=1024)
    return lucet.Region(1, track_writes=kind == "tracked")


@pytest.mark.parametrize("grow", [False, True])
@pytest.mark.parametrize("kind", ["tracked", "untracked", "packed"])
def test_nothing_is_left_for_the_next_guest(kind: str, grow: bool) -> None:
    bounds = "explicit" if kind == "packed" else "guard"
    expected = {name: contents(lucet.Region(1).new_instance(module(name))) for name in GUESTS}
    region = new_region(kind)
    for first, second in itertools.product(GUESTS, repeat=2):
        for name in (first, first, second):
            with region.new_instance(module(name, bounds)) as instance:
                assert contents(instance) == expected[name], f"{name} of {first}, {second}"
                make_dirty(instance, grow)
                instance.reset()
                assert contents(instance) == expected[name], f"{name} after a reset"
                make_dirty(instance, grow)
                for memory in memories(instance).values():
                    if not grow:
                        before = memory.size
                        memory.grow(1)
                        assert not any(memory.read(before, memory.size - before)), "grown memory is zero"


def test_memories_are_separate() -> None:
    region = lucet.Region(2)
    one, other = region.new_instance(module("many")), region.new_instance(module("many"))
    for number, memory in enumerate(itertools.chain(memories(one).values(), memories(other).values())):
        memory.write(0, bytes([number + 1]) * PAGE)
    whole = [*contents(one).values(), *contents(other).values()]
    assert whole == [bytes([number + 1]) * PAGE for number in range(40)]


def test_types() -> None:
    types = [export.type for export in module("others").exports]
    assert types == [
        MemoryType(limits=Limits(minimum=0, maximum=3, index_type=I64)),
        MemoryType(limits=Limits(minimum=1, maximum=3, index_type=I64)),
        MemoryType(limits=Limits(minimum=100, maximum=200), page_size_log2=0),
    ]
    table = compiled('(module (table (export "t") i64 1 2 externref))').exports[0].type
    assert isinstance(table, TableType)
    assert table.limits == Limits(minimum=1, maximum=2, index_type=I64)


def test_pages_of_one_byte() -> None:
    memory = memories(lucet.Region(1).new_instance(module("bytes")))["a"]
    assert (memory.size, memory.pages, bytes(memory)) == (5, 5, b"01234")
    assert memory.grow(3) == 5
    assert (len(memory), memory.read(5, 3)) == (8, bytes(3))
    with pytest.raises(lucet.MemoryAccessError):
        memory.read(5, 4)
    assert memory.grow(4992) == 8
    with pytest.raises(lucet.LimitsExceeded):
        memory.grow(1)


# ---- limits


def test_a_limit_is_for_all_memories_together() -> None:
    region = lucet.Region(1, memory_limit=5 * PAGE)
    instance = region.new_instance(module("two"))
    a, b = memories(instance).values()
    assert b.grow(1) == 2
    assert a.grow(1) == 1
    for memory in (a, b):
        with pytest.raises(lucet.LimitsExceeded):
            memory.grow(1)
    instance.reset()
    assert b.grow(2) == 2
    instance.close()
    with pytest.raises(lucet.LimitsExceeded, match="needs 1310720 bytes of memory, the limit is 327680"):
        region.new_instance(module("many"))
    with pytest.raises(lucet.LimitsExceeded):
        region.new_instance(module("two"), memory_limit=2 * PAGE)


def test_the_next_instance_may_have_a_larger_limit() -> None:
    region = lucet.Region(1)
    linkage = region.link(compiled('(module (memory (export "a") i64 1) (memory (export "b") i64 1))'))
    for limit in (2, 7, 3, 20):
        with region.new_instance(linkage, memory_limit=limit * PAGE) as instance:
            memory = memories(instance)["b"]
            with pytest.raises(lucet.LimitsExceeded):
                memory.grow(limit - 1)
            assert memory.grow(limit - 2) == 1
            memory.write(memory.size - 1, b"x")


def test_a_budget_counts_all_memories() -> None:
    budget = lucet.Budget(10 * PAGE)
    region = lucet.Region(3, budget=budget)
    one = region.new_instance(module("two"))
    assert budget.used == 3 * PAGE
    memories(one)["b"].grow(2)
    other = region.new_instance(module("others"))
    assert budget.used == 6 * PAGE + 100
    memories(other)["c"].grow(7)
    assert budget.used == 6 * PAGE + 107
    with pytest.raises(lucet.LimitsExceeded):
        region.new_instance(module("many"))
    memories(one)["a"].grow(3)
    with pytest.raises(lucet.LimitsExceeded):
        memories(other)["b"].grow(1)
    one.reset()
    assert budget.used == 4 * PAGE + 107
    one.close()
    other.close()
    assert budget.used == 0


@pytest.mark.parametrize(
    "memory",
    [
        "(memory i64 0x1000000000000)",
        "(memory i64 0xffffffffffff)",
        "(memory 1) (memory i64 0x800000000000)",
        "(memory i64 0x10001)",
        "(memory i64 0xffffffffffffffff (pagesize 1))",
        "(memory 1) (memory 0xffffffff (pagesize 1))",
        "(memory 40000) (memory 40000)",
        "(memory i64 0x800000000000) (memory i64 0x800000000001)",
        "(table i64 0xffffffffffffffff funcref)",
        "(table i64 0x2000000000000001 funcref)",
        "(table 0xffffffff funcref)",
    ],
)
def test_huge_minimums_are_refused(memory: str) -> None:
    with pytest.raises(lucet.LimitsExceeded):
        lucet.Region(1).new_instance(compiled(f"(module {memory})"))


def test_huge_maximums_reserve_no_more_than_the_region_allows() -> None:
    region = lucet.Region(10)
    text = """(module (memory (export "a") i64 0 0x1000000000000) (memory (export "b") i64 0 0x1000000000000)
      (memory (export "c") i64 1 0xffffffffffffffff (pagesize 1))
      (func (export "grow") (param i64) (result i64) (memory.grow 1 (local.get 0))))"""
    for _ in range(10):
        instance = region.new_instance(compiled(text))
        for delta in (0x10000, 0x10001, 1 << 47, 1 << 48, (1 << 64) - 1, (1 << 64) - 65535):
            assert instance.run("grow", delta) == -1
        assert instance.run("grow", 2) == 0
        assert memories(instance)["b"].pages == 2


def test_as_many_memories_as_there_may_be() -> None:
    region = lucet.Region(3)
    many = compiled(f'(module {"(memory 1 2)" * 99} (memory (export "last") 1))')
    for _ in range(3):
        instances = [region.new_instance(many) for _ in range(3)]
        for instance in instances:
            memory = memories(instance)["last"]
            assert memory.read(0, 1) == b"\0"
            memory.write_u8(0, 1)
            instance.close()
    with pytest.raises(LimitExceeded, match="too many memories: 1000, the limit is 100"):
        lucet.compile(f"(module {'(memory 1)' * 1000})")
    with pytest.raises(LimitExceeded, match="too many memories: 101"):
        lucet.compile(f'(module (import "m" "m" (memory 1)) {"(memory 1)" * 100})')


# ---- linked instances


def test_every_kind_is_imported_as_what_it_is() -> None:
    kinds = {"32": "1 2", "64": "i64 1 2", "bytes": "1 2 (pagesize 1)", "64 bytes": "i64 1 2 (pagesize 1)"}
    region = lucet.Region(60)
    exports = " ".join(f'(memory (export "{name}") {limits})' for name, limits in kinds.items())
    exporter = region.new_instance(compiled(f"(module {exports})"))
    for offered, wanted in itertools.product(kinds, repeat=2):
        importer = compiled(f'(module (import "m" "{offered}" (memory {kinds[wanted]})) (export "m" (memory 0)))')
        if offered != wanted:
            with pytest.raises(lucet.LinkError, match="incompatible import type"):
                region.new_instance(importer, {"m": exporter.exports})
            continue
        instance = region.new_instance(importer, {"m": exporter.exports})
        ours, theirs = memories(instance)["m"], memories(exporter)[offered]
        ours.write_u8(0, 7)
        assert theirs.read_u8(0) == 7
        assert ours.grow(1) == 1
        assert theirs.pages == 2
    for limits in ("i64 1 1", "i64 3 3"):
        with pytest.raises(lucet.LinkError):
            region.new_instance(compiled(f'(module (import "m" "64" (memory {limits})))'), {"m": exporter.exports})


def test_tables_are_imported_by_their_index_type() -> None:
    region = lucet.Region(5)
    exporter = region.new_instance(
        compiled('(module (table (export "32") 1 funcref) (table (export "64") i64 1 funcref))')
    )
    for offered, wanted in itertools.product(("32", "64"), repeat=2):
        importer = compiled(f'(module (import "m" "{offered}" (table {"i64 " * (wanted == "64")}1 funcref)))')
        if offered == wanted:
            region.new_instance(importer, {"m": exporter.exports})
        else:
            with pytest.raises(lucet.LinkError, match="incompatible import type"):
                region.new_instance(importer, {"m": exporter.exports})


def test_memories_of_a_linked_instance_live_as_long_as_who_uses_them() -> None:
    region = lucet.Region(2)
    exporter = region.new_instance(
        compiled('(module (memory 1) (memory (export "m") 1) (data (memory 1) (i32.const 0) "x"))')
    )
    text = """(module (import "m" "m" (memory 1)) (memory 1)
      (func (export "load") (result i32) (i32.load8_u (i32.const 0)))
      (func (export "out") (param i32) (drop (i32.load (local.get 0)))))"""
    importer = region.new_instance(compiled(text), {"m": exporter.exports})
    exporter.close()
    assert importer.run("load") == ord("x")
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        importer.run("out", PAGE)
    importer.close()
    assert region.used == 0


def test_what_a_segment_that_traps_leaves_in_an_imported_memory() -> None:
    region = lucet.Region(2)
    exporter = region.new_instance(compiled('(module (memory (export "m") 1))'))
    text = """(module (memory (import "m" "m") 1) (memory 1) (data (memory 0) (i32.const 0) "a")
      (data (memory 1) (i32.const 65536) "b") (data (memory 0) (i32.const 1) "c"))"""
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        region.new_instance(compiled(text), {"m": exporter.exports})
    assert memories(exporter)["m"].read(0, 2) == b"a\0"


# ---- 64-bit memories


def test_above_four_gigabytes() -> None:
    region = lucet.Region(2, memory_reserved=16 << 30, memory_limit=16 << 30)
    text = """(module (memory (export "a") i64 1) (memory (export "b") i64 1)
      (func (export "grow") (param i64) (result i64) (drop (memory.grow 1 (local.get 0))) (memory.grow 0 (local.get 0)))
      (func (export "size") (result i64) (memory.size 0))
      (func (export "set") (param i64 i64)
        (i64.store 0 (local.get 0) (local.get 1)) (i64.store 1 (local.get 0) (local.get 1)))
      (func (export "get") (param i64) (result i64) (i64.xor (i64.load 0 (local.get 0)) (i64.load 1 (local.get 0))))
      (func (export "get a") (param i64) (result i64) (i64.load 0 (local.get 0)))
      (func (export "copy") (param i64 i64 i64) (memory.copy 0 1 (local.get 0) (local.get 1) (local.get 2)))
      (func (export "fill") (param i64 i32 i64) (memory.fill 1 (local.get 0) (local.get 1) (local.get 2))))"""
    high = (5 << 30) + 3
    for _ in range(2):
        instance = region.new_instance(compiled(text))
        assert instance.run("grow", 6 << 14) == 1
        assert instance.run("size") == (6 << 14) + 1
        assert instance.run("get a", high) == 0
        instance.run("set", high, -2)
        assert (instance.run("get", high), instance.run("get a", high)) == (0, -2)
        instance.run("fill", high, 0x55, 4)
        instance.run("copy", high - 8, high, 8)
        assert memories(instance)["a"].read(high - 8, 4) == b"UUUU"
        assert instance.memory.size == (6 << 30) + PAGE
        for address in (6 << 30) + PAGE, (6 << 30) + PAGE - 7, 1 << 33, 1 << 40, (1 << 63) - 1, -1, -8:
            with pytest.raises(lucet.Trap, match="out of bounds memory access"):
                instance.run("get a", address)
        for arguments in ((high, 1, -1), (1 << 33, 0, 0), (-1, 0, 2), (6 << 30, 1, PAGE + 1)):
            with pytest.raises(lucet.Trap, match="out of bounds memory access"):
                instance.run("fill", *arguments)
        instance.close()


def test_copies_between_memories_of_different_addresses() -> None:
    text = """(module (memory (export "a") 1) (memory (export "b") i64 1) (data (memory 1) (i64.const 10) "0123456789")
      (func (export "to a") (param i32 i64 i32) (memory.copy 0 1 (local.get 0) (local.get 1) (local.get 2)))
      (func (export "to b") (param i64 i32 i32) (memory.copy 1 0 (local.get 0) (local.get 1) (local.get 2))))"""
    instance = lucet.Region(1).new_instance(compiled(text))
    instance.run("to a", PAGE - 5, 12, 5)
    assert instance.memory.read(PAGE - 5, 5) == b"23456"
    instance.run("to b", PAGE - 4, PAGE - 4, 4)
    assert memories(instance)["b"].read(PAGE - 4, 4) == b"3456"
    for name, arguments in [
        ("to a", (0, 1 << 32, 1)),
        ("to a", (0, PAGE - 1, 2)),
        ("to a", (PAGE, 0, 1)),
        ("to a", (0, 0, -1)),
        ("to b", (-1, 0, 1)),
        ("to b", (1 << 32, 0, 0)),
        ("to b", (0, -1, 2)),
    ]:
        with pytest.raises(lucet.Trap, match="out of bounds memory access"):
            instance.run(name, *arguments)


def test_tables_with_64_bit_indices() -> None:
    text = """(module (type $t (func (result i32))) (table $t (export "t") i64 2 4 funcref) (table $s i64 3 funcref)
      (elem $e (table $t) (i64.const 0) func $one) (elem (table $s) (i64.const 2) func $one)
      (func $one (result i32) (i32.const 1))
      (func (export "call") (param i64) (result i32) (call_indirect $t (type $t) (local.get 0)))
      (func (export "call static") (param i64) (result i32) (call_indirect $s (type $t) (local.get 0)))
      (func (export "null") (param i64) (result i32) (ref.is_null (table.get $t (local.get 0))))
      (func (export "grow") (param i64) (result i64) (table.grow $t (ref.null func) (local.get 0)))
      (func (export "fill") (param i64 i64) (table.fill $t (local.get 0) (ref.null func) (local.get 1))))"""
    instance = lucet.Region(1).new_instance(compiled(text))
    assert (instance.run("call", 0), instance.run("call static", 2), instance.run("null", 1)) == (1, 1, 1)
    for index in (2, 1 << 32, 1 << 61, 1 << 63, -1):
        for name in ("call", "call static") if index != 2 else ("call",):
            with pytest.raises(lucet.Trap, match="undefined element"):
                instance.run(name, index)
        with pytest.raises(lucet.Trap, match="out of bounds table access"):
            instance.run("null", index)
        assert instance.run("grow", max(index, -1) if index != 2 else 3) == -1
    for arguments in ((0, 3), (1, -1), (1 << 32, 0), (-1, 2)):
        with pytest.raises(lucet.Trap, match="out of bounds table access"):
            instance.run("fill", *arguments)
    assert instance.run("grow", 2) == 2
    instance.run("fill", 0, 4)
    assert instance.run("null", 0) == 1
