"""Tables with initialisers."""

from __future__ import annotations

from collections.abc import Callable

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
