"""Guests that exhaust the binding, and embedders that let go of things that guests still use."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import lucet
from lucet.wasi import WasiContext
from tests.runtime.conftest import Load

EXCEPTIONS = """(module (tag $one (export "one") (param exnref)) (tag $two (param exnref exnref))
  (func $wrap1 (param exnref) (result exnref)
    (block $caught (result exnref exnref)
      (try_table (result exnref exnref) (catch_ref $one $caught) (throw $one (local.get 0))))
    (local.set 0) (drop) (local.get 0))
  (func $wrap2 (param exnref) (result exnref)
    (block $caught (result exnref exnref exnref)
      (try_table (result exnref exnref exnref) (catch_ref $two $caught) (throw $two (local.get 0) (local.get 0))))
    (local.set 0) (drop) (drop) (local.get 0))
  (func (export "chain") (param i32) (result exnref) (local exnref)
    (loop $next
      (local.set 1 (call $wrap1 (local.get 1)))
      (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "tree") (param i32) (result exnref) (local exnref)
    (loop $next
      (local.set 1 (call $wrap2 (local.get 1)))
      (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "throw chain") (param i32) (local exnref)
    (loop $next
      (local.set 1 (call $wrap1 (local.get 1)))
      (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (throw_ref (local.get 1)))
  (func (export "take") (param exnref)))"""


def test_exceptions_that_refer_to_many_others(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(EXCEPTIONS))
    value: Any = instance.run("chain", 40)
    for _ in range(40):
        (value,) = value.values
    assert value is None
    for depth in (100, 100_000):  # each was a frame of the host's stack
        with pytest.raises(lucet.LimitsExceeded, match="deeper than 50"):
            instance.run("chain", depth)
        with pytest.raises(lucet.LimitsExceeded, match="deeper than 50"):
            instance.run("throw chain", depth)
    assert instance.run("tree", 8).values[0].values[1].values != ()
    with pytest.raises(lucet.LimitsExceeded, match="more often than 1000"):
        instance.run("tree", 40)  # 2**40 conversions
    # Likewise the other way.
    cycle = lucet.WasmException(instance.export("one"), (None,))
    cycle.values = (cycle,)
    with pytest.raises(lucet.LimitsExceeded, match="deeper than 50"):
        instance.run("take", cycle)
    assert instance.run("take", lucet.WasmException(instance.export("one"), (None,))) is None


OWNER = """(module (type $f (func (result i32))) (table (export "table") 1 funcref) (memory (export "memory") 1)
  (func (export "run") (result i32) (call_indirect (type $f) (i32.const 0))))"""
CALLER = """(module (import "owner" "table" (table 1 funcref)) (import "owner" "memory" (memory 1))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (elem (i32.const 0) $f)
  (func $f (result i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (i32.load (i32.const 4))))"""


def test_a_call_of_the_cores_wasi_through_an_instance_that_is_gone(load: Load, region: lucet.Region) -> None:
    owner = region.new_instance(load(OWNER))
    context = WasiContext(args=["x" * 100])
    caller = region.new_instance(load(CALLER), {"owner": owner.exports, **context.imports()})
    assert owner.run("run") == 101
    context.close()
    del caller, context
    gc.collect()
    imports = [WasiContext(args=["y"] * 3).imports() for _ in range(20)]
    others = [region.link(load(CALLER), {"owner": owner.exports, **functions}) for functions in imports]
    assert owner.run("run") == 101
    del owner, others, imports
    gc.collect()
    assert [region.new_instance(load(OWNER)) for _ in range(8)]  # nothing keeps its slot
