"""Guests that exhaust the binding, and embedders that let go of things that guests still use."""

from __future__ import annotations

import gc
import threading
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


TABLES = """(module (type $f (func (param i32) (result i32)))
  (import "h" "f" (func $host))
  (table (export "table") 4 1000 funcref) (memory (export "memory") 1 10) (elem (i32.const 0) $next $next $next $next)
  (func $next (type $f) (i32.add (local.get 0) (i32.const 1)))
  (func (export "spin") (param i32) (result i32) (local i32)
    (loop $again
      (local.set 1 (call_indirect (type $f) (local.get 1) (i32.and (local.get 0) (i32.const 3))))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "call") (call $host)))"""


def test_a_table_does_not_move_under_code_that_is_suspended_anywhere(load: Load, region: lucet.Region) -> None:
    tables: list[Any] = []

    @lucet.host_function
    def grow() -> None:
        tables[0].grow(1, None)

    instance = region.new_instance(load(TABLES), {"h": {"f": grow}})
    table: Any = instance.exports["table"]
    memory: Any = instance.exports["memory"]
    tables.append(table)
    turns = 50_000_000
    instance.time_slice = 0.001
    run: Any = instance.run("spin", turns)
    assert isinstance(run, lucet.Suspended)
    with pytest.raises(lucet.InstanceError, match="cannot grow while a run is suspended"):
        table.grow(500, None)
    assert table.get(0).name == "next"
    table.set(0, table.get(1))
    memory.grow(1)
    while isinstance(run, lucet.Suspended):
        run = run.resume()
    assert run == turns
    instance.time_slice = None
    assert (table.grow(500, None), len(table)) == (4, 504)
    instance.run("call")  # where the guest waits for the host, it may
    assert len(table) == 505


def test_what_another_thread_runs_is_left_alone(load: Load, region: lucet.Region) -> None:
    entered, leave = threading.Event(), threading.Event()

    @lucet.host_function
    def wait() -> None:
        entered.set()
        assert leave.wait(60)

    instance = region.new_instance(load(TABLES), {"h": {"f": wait}})
    table: Any = instance.exports["table"]
    memory: Any = instance.exports["memory"]
    thread = threading.Thread(target=instance.run, args=("call",))
    thread.start()
    assert entered.wait(60)
    function = instance.exports["spin"]
    for use, arguments in ((table.get, (0,)), (table.set, (0, None)), (table.grow, (1, None)), (memory.grow, (1,))):
        with pytest.raises(lucet.InstanceError, match="running on another thread"):
            use(*arguments)
    assert memory.read(0, 4) == bytes(4)
    leave.set()
    thread.join()
    assert (table.grow(1, function), memory.grow(1), table.get(4)) == (4, 1, function)


def test_an_instance_stays_while_what_it_gave_is_converted(
    load: Load, region: lucet.Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """(module (tag $e (export "e") (param i32)) (tag $two (export "two") (param exnref exnref))
      (func $make (param i32) (result exnref) (local exnref)
        (block $caught (result i32 exnref)
          (try_table (result i32 exnref) (catch_ref $e $caught) (throw $e (local.get 0))))
        (local.set 1) (drop) (local.get 1))
      (func (export "results") (result exnref exnref) (call $make (i32.const 1)) (call $make (i32.const 2)))
      (func (export "throw") (throw $two (call $make (i32.const 1)) (call $make (i32.const 2)))))"""
    instance = region.new_instance(load(text))
    refused: list[str] = []
    init = lucet.WasmException.__init__

    def hooked(self: Any, *args: Any, **keywords: Any) -> None:
        for end in (instance.reset, instance.close):
            try:
                end()
            except lucet.InstanceError as error:
                refused.append(str(error))
        init(self, *args, **keywords)

    monkeypatch.setattr(lucet.WasmException, "__init__", hooked)
    first, second = instance.run("results")
    assert (first.values, second.values) == ((1,), (2,))
    assert refused == [f"the instance is running: it cannot be {end}" for end in ("reset", "closed")] * 2
    refused.clear()
    with pytest.raises(lucet.WasmException) as caught:
        instance.run("throw")
    assert [value.values for value in caught.value.values] == [(1,), (2,)]  # type: ignore[attr-defined]
    assert len(refused) == 4
    monkeypatch.undo()
    assert instance.state == "closed"  # with the last one, nothing was left to convert
