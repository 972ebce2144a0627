"""Values of type exnref while they are converted: meanwhile the guest may collect its exceptions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lucet

Load = Callable[[str], lucet.Module]

CONVERSIONS = """(module
  (import "host" "pass" (func $pass (param exnref) (result exnref)))
  (tag $e (export "e") (param i32))
  (tag $pair (export "pair") (param exnref i32))
  (global $kept (export "kept") (mut exnref) (ref.null exn))
  (func $make (export "make") (param i32) (result exnref)
    (block $h (result exnref)
      (try_table (result exnref) (catch_all_ref $h) (throw $e (local.get 0)))))
  (func $value (param exnref) (result i32)
    (block $h (result i32) (try_table (catch $e $h) (throw_ref (local.get 0))) (unreachable)))
  (func (export "sum") (param exnref i32 exnref) (result i32)
    (i32.add (local.get 1) (i32.add (call $value (local.get 0)) (call $value (local.get 2)))))
  (func (export "first") (param exnref) (result i32)
    (block $h (result exnref i32) (try_table (catch $pair $h) (throw_ref (local.get 0))) (unreachable))
    (drop) (return_call $value))
  (func (export "two") (param i32) (result exnref exnref)
    (call $make (local.get 0)) (call $make (i32.add (local.get 0) (i32.const 1))))
  (func (export "pass") (result i32) (call $value (call $pass (ref.null exn))))
  (func (export "garbage") (param i32)
    (loop $again
      (global.set $kept (call $make (local.get 0)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""


class Churning:
    """A number whose conversion runs the guest, which collects its exceptions."""

    def __init__(self, instance: lucet.Instance) -> None:
        self.instance = instance

    def __index__(self) -> int:
        self.instance.run("garbage", 100_000)
        return 1


@lucet.host_function
def same(exception: lucet.exnref) -> lucet.exnref:
    return exception


def test_exceptions_outlive_the_conversion_of_other_arguments(load: Load, region: lucet.Region) -> None:
    @lucet.host_function
    def suspend(exception: lucet.exnref) -> lucet.exnref:
        return lucet.Suspend(None)  # type: ignore[return-value]

    instance = region.new_instance(load(CONVERSIONS), {"host": {"pass": suspend}})
    tag, pair = instance.export("e"), instance.export("pair")
    assert isinstance(pair, lucet.Tag)
    one, two = lucet.WasmException(tag, (10,)), lucet.WasmException(tag, (20,))
    churning: Any = Churning(instance)
    assert instance.run("sum", one, churning, two) == 31
    assert instance.run("first", lucet.WasmException(pair, (one, churning))) == 10
    kept: Any = instance.exports["kept"]
    kept.value = lucet.WasmException(pair, (two, churning))
    assert kept.value.values[0].values == (20,)
    run = instance.run("pass")
    assert run.resume(one) == 10


def test_results_of_guests_that_others_run(load: Load, region: lucet.Region) -> None:
    """Between a call and the look at its result, another thread may have made the guest collect its exceptions."""
    instance = region.new_instance(load(CONVERSIONS), {"host": {"pass": same}})

    def call(name: str, *arguments: Any) -> Any:
        while True:
            try:
                return instance.run(name, *arguments)
            except lucet.InstanceError as error:
                assert "running on another thread" in str(error)

    def look(start: int) -> None:
        for n in range(start, start + 100):
            values = call("two", n)
            assert [value.values for value in values] == [(n,), (n + 1,)]
            assert call("sum", values[0], 0, values[1]) == 2 * n + 1
            call("garbage", 5000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(look, (0, 1000)))


def test_globals_of_guests_that_run(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(CONVERSIONS), {"host": {"pass": same}})
    kept: Any = instance.exports["kept"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(instance.run, "garbage", 2**32 - 1)
        while instance.state != "running":
            pass
        try:
            with pytest.raises(lucet.InstanceError, match="running on another thread"):
                print(kept.value)
        finally:
            instance.interrupt()
        with pytest.raises(lucet.Trap, match="interrupted"):
            running.result()
    assert kept.value.tag == instance.export("e")
