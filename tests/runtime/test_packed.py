"""Packed regions, whose slots nothing protects and which share pages: what a guest did is gone before the next one.

Nor does it touch a neighbour.
"""

from __future__ import annotations

import itertools
from functools import cache

import pytest

import lucet
from lucet.wasm.text import text_to_binary

PAGE = 65536
FUNCTIONS = """
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "poke") (param i32) (i64.store (local.get 0) (i64.const -1)))"""
GUESTS = {
    "no memory": '(module (global (export "g") (mut i32) (i32.const 1)))',
    "zero pages": f"(module (memory 0 4) {FUNCTIONS})",
    "bare": f"(module (memory 1 4) {FUNCTIONS})",
    "small image": f"""(module (memory 1 4) {FUNCTIONS}
      (data (i32.const 5) "five") (data (i32.const 65530) "at the"))""",
    "large image": f"""(module (memory 3 4) {FUNCTIONS}
      (data (i32.const 1) "{"x" * 70000}") (data (i32.const 190000) "end"))""",
}
DIRT = ["nothing", "one byte", "everything", "grown and everything"]


@cache
def module(name: str) -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(GUESTS[name]), opt_level="none", bounds="explicit"))


@cache
def expected(name: str) -> bytes:
    """The memory of an instance in an ordinary region that nobody has used."""
    return contents(lucet.Region(slots=1).new_instance(module(name)))


def contents(instance: lucet.Instance) -> bytes:
    return instance.memory.read(0, instance.memory.size) if "fill" in instance.exports else b""


def make_dirty(instance: lucet.Instance, dirt: str) -> None:
    if dirt == "nothing" or "fill" not in instance.exports:
        return
    if dirt == "grown and everything":
        instance.run("grow", 4 - instance.memory.pages)
    size = instance.memory.size
    if size:
        instance.run("fill", 0 if dirt != "one byte" else size - 1, 0xDD, 1 if dirt == "one byte" else size)
    for address in (size - 7, size, 2**32 - 8):
        with pytest.raises(lucet.Trap, match="out of bounds memory access"):
            instance.run("poke", address)


def packed(slots: int, area: int) -> lucet.Region:
    return lucet.Region(slots, memory_reserved=4 * PAGE, memory_guard=0, track_writes=False, instance_area=area)


@pytest.mark.parametrize("area", [192, 256, 4096, 4160])
@pytest.mark.parametrize("dirt", DIRT)
def test_nothing_is_left_for_the_next_guest_or_seen_by_the_neighbours(dirt: str, area: int) -> None:
    region = packed(3, area)
    below, middle, above = (region.new_instance(module("small image")) for _ in range(3))
    for neighbour in (below, above):
        make_dirty(neighbour, "grown and everything")
    for first, second in itertools.product(GUESTS, repeat=2):
        middle.close()
        middle = region.new_instance(module(first))
        assert contents(middle) == expected(first)
        make_dirty(middle, dirt)
        middle.close()
        middle = region.new_instance(module(second))
        assert contents(middle) == expected(second), f"{second} after {first}"
        if "grow" in middle.exports:
            before = middle.memory.size
            middle.run("grow", 4 - middle.memory.pages)
            assert not any(middle.memory.read(before, middle.memory.size - before)), "grown memory is zero"
    for neighbour in (below, above):
        assert contents(neighbour) == b"\xdd" * 4 * PAGE


@pytest.mark.parametrize("name", [name for name in GUESTS if "memory" not in name])
def test_reset_in_place(name: str) -> None:
    instance = packed(2, 192).new_instance(module(name))
    for dirt in DIRT:
        make_dirty(instance, dirt)
        instance.reset()
        assert contents(instance) == expected(name)
