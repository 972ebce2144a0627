"""Tables with initialisers, and tables that are not exported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lucet

Load = Callable[[str], lucet.Module]


def test_a_table_initialiser_fills_the_table(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(
        load("""(module
          (func $seven (result i32) i32.const 7) (func $eight (result i32) i32.const 8)
          (table 3 funcref (ref.func $seven)) (elem (i32.const 1) $eight)
          (func (export "call") (param i32) (result i32) local.get 0 call_indirect (result i32)))""")
    )
    assert [instance.run("call", i) for i in range(3)] == [7, 8, 7]
    instance.reset()
    assert [instance.run("call", i) for i in range(3)] == [7, 8, 7]


def test_a_function_pointer_of_the_guest(load: Load, region: lucet.Region) -> None:
    """The host calls it by its index in table 0, which nobody exports; nor has any exported function its type."""
    instance = region.new_instance(
        load("""(module (table 3 funcref) (elem (i32.const 1) $twice)
          (func $twice (param i64) (result i64) (i64.mul (local.get 0) (i64.const 2))))""")
    )
    assert instance._element(0) is None
    assert instance._element(1)(21) == 42
    for index in (3, -1, 2**32, 2**64):
        with pytest.raises(IndexError):
            instance._element(index)
    with pytest.raises(IndexError):
        region.new_instance(load("(module)"))._element(0)
    instance.close()
    with pytest.raises(lucet.InstanceError):
        instance._element(1)


def test_reading_with_numbers_of_the_guest(load: Load, region: lucet.Region) -> None:
    """Instance._read: memory 0, exported or not, by numbers of 32 bits with and without a sign."""
    instance = region.new_instance(load('(module (memory 1) (data (i32.const 65530) "end"))'))
    assert instance._read(65530, 3) == b"end"
    assert instance._read(65536, 0) == b""
    assert instance._memory_used == 65536
    for pointer, size in ((65534, 3), (-1, 1), (0, -1), (0xFFFFFFFF, 1), (1, 0xFFFFFFFF)):
        with pytest.raises(lucet.MemoryAccessError):
            instance._read(pointer, size)
    with pytest.raises(TypeError):
        instance._read("0", 1)  # type: ignore[arg-type]
    bare = region.new_instance(load("(module)"))
    with pytest.raises(lucet.InstanceError, match="no memory"):
        bare._read(0, 0)
    instance.close()
    with pytest.raises(lucet.InstanceError):
        instance._read(0, 1)
