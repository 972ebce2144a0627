"""Instance.fuel: what Python sees of counted instructions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

import lucet
from lucet.runtime import Func
from lucet.wasm.text import text_to_binary
from tests.runtime.conftest import Load

SUM_FUNCTION = """
  (func (export "sum") (param i32) (result i32) (local i32)
    (block $done (loop $again
      (br_if $done (i32.eqz (local.get 0)))
      (local.set 1 (i32.add (local.get 1) (local.get 0)))
      (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
      (br $again)))
    (local.get 1))"""
SUM = f"(module {SUM_FUNCTION})"
GUEST = f"""(module
  (import "host" "call" (func $call (param i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "call") (param i32) (result i32) (call $call (local.get 0)))
  (func (export "call_and_loop") (param i32) (drop (call $call (local.get 0))) (loop $again (br $again)))
  (func $loop (export "loop") (loop $again (br $again))) {SUM_FUNCTION})"""

ADD = 3
CALL = 2


@cache
def _module() -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(GUEST), opt_level="none", count_instructions=True))


@lucet.host_function
def same(value: lucet.i32) -> lucet.i32:
    return value


def instance_with(region: lucet.Region, function: object = same, *, fuel: int | None = None) -> lucet.Instance:
    return region.new_instance(_module(), {"host": {"call": function}}, fuel=fuel)


def test_counts(region: lucet.Region) -> None:
    instance = instance_with(region)
    assert (instance.fuel, instance.fuel_used) == (None, 0)
    assert instance.run("add", 1, 2) == 3
    assert (instance.fuel, instance.fuel_used) == (None, ADD)
    instance.fuel = 10
    assert instance.run("add", 1, 2) == 3
    assert (instance.fuel, instance.fuel_used) == (10 - ADD, 2 * ADD)
    instance.fuel = None
    instance.run("add", 1, 2)
    assert (instance.fuel, instance.fuel_used) == (None, 3 * ADD)
    instance.reset()
    assert instance.fuel_used == 0


def test_out_of_fuel(region: lucet.Region) -> None:
    instance = instance_with(region, fuel=1000)
    with pytest.raises(lucet.OutOfFuel, match=r"out of fuel in loop at offset 0x") as caught:
        instance.run("loop")
    assert isinstance(caught.value, lucet.Trap)
    assert (caught.value.code, caught.value.function) == ("OUT_OF_FUEL", "loop")
    assert (instance.fuel, instance.fuel_used, instance.state) == (0, 1001, "ready")
    with pytest.raises(lucet.OutOfFuel):
        instance.run("add", 1, 2)
    instance.fuel = ADD
    assert instance.run("add", 1, 2) == 3


def test_no_fuel_at_all(region: lucet.Region) -> None:
    instance = instance_with(region, fuel=0)
    assert instance.fuel == 0
    with pytest.raises(lucet.OutOfFuel):
        instance.run("add", 1, 2)
    instance.fuel = 0
    with pytest.raises(lucet.OutOfFuel):
        instance.run("add", 1, 2)


def test_start_function(region: lucet.Region) -> None:
    text = "(module (func $endless (loop $again (br $again))) (start $endless))"
    module = lucet.Module.from_bytes(lucet.compile(text_to_binary(text), count_instructions=True))
    used = region.used
    with pytest.raises(lucet.OutOfFuel):
        region.new_instance(module, fuel=100)
    assert region.used == used


def test_in_host_functions(region: lucet.Region) -> None:
    @lucet.host_function
    def give(caller: lucet.Instance, fuel: lucet.i32) -> lucet.i32:
        caller.fuel = fuel
        return caller.fuel_used

    @lucet.host_function
    def loop(caller: lucet.Instance, _: lucet.i32) -> lucet.i32:
        return int(caller.run("loop"))

    instance = instance_with(region, give, fuel=CALL)
    assert instance.run("call", 50) == CALL
    assert instance.fuel == 50
    with pytest.raises(lucet.OutOfFuel):
        instance.run("call_and_loop", 30)
    assert (instance.fuel, instance.fuel_used) == (0, CALL + CALL + 31)
    inner = instance_with(region, loop, fuel=100)
    with pytest.raises(lucet.OutOfFuel):
        inner.run("call", 0)
    assert inner.state == "ready"


def test_after_suspension(region: lucet.Region) -> None:
    @lucet.host_function
    def wait(value: lucet.i32) -> lucet.i32:
        return lucet.Suspend(value)  # type: ignore[return-value]

    instance = instance_with(region, wait, fuel=1000)
    suspended = instance.run("call_and_loop", 7)
    assert suspended.value == 7
    assert instance.fuel_used == CALL
    with pytest.raises(lucet.OutOfFuel):
        suspended.resume(1)
    assert (instance.state, instance.fuel) == ("ready", 0)


@pytest.mark.parametrize("value", [-1, 2**63 - 1, 2**64])
def test_not_a_number_of_instructions(region: lucet.Region, value: int) -> None:
    instance = instance_with(region)
    with pytest.raises((ValueError, OverflowError)):
        instance.fuel = value
    with pytest.raises((ValueError, OverflowError)):
        instance_with(region, fuel=value)
    with pytest.raises(TypeError):
        instance.fuel = "1"  # type: ignore[assignment]
    assert instance.fuel is None


def test_modules_that_do_not_count(region: lucet.Region, load: Load) -> None:
    module = load('(module (func (export "f")))')
    instance = region.new_instance(module)
    assert instance.fuel is None
    for use in (lambda: instance.fuel_used, lambda: setattr(instance, "fuel", 1)):
        with pytest.raises(lucet.InstanceError, match="compiled without count_instructions"):
            use()
    with pytest.raises(lucet.InstanceError, match="compiled without count_instructions"):
        region.new_instance(module, fuel=1)
    instance.close()
    for use in (lambda: instance.fuel, lambda: instance.fuel_used, lambda: setattr(instance, "fuel", 1)):
        with pytest.raises(lucet.InstanceError, match="closed"):
            use()


def suspending(region: lucet.Region, function: object = same, *, fuel: int) -> lucet.Instance:
    instance = instance_with(region, function, fuel=fuel)
    instance.suspend_out_of_fuel = True
    return instance


def refuelled(run: Any, fuel: int) -> Any:
    while isinstance(run, lucet.Suspended):
        assert isinstance(run.value, lucet.OutOfFuel)
        assert run.waiting is not None
        run.waiting.fuel = fuel
        run = run.resume()
    return run


def test_goes_on_with_more_fuel(region: lucet.Region) -> None:
    plain, instance = instance_with(region, fuel=100_000), suspending(region, fuel=0)
    assert refuelled(instance.run("sum", 1000), 7) == plain.run("sum", 1000) == 500_500
    assert instance.fuel_used == plain.fuel_used
    exported = instance.export("sum")
    assert isinstance(exported, Func)
    instance.fuel = 100
    assert exported.call_raw([0]) == [0]


def test_goes_on_in_another_thread(region: lucet.Region) -> None:
    instance = suspending(region, fuel=100)
    run = instance.run("sum", 1000)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(refuelled, run, 100).result() == 500_500


def test_suspended_without_fuel(region: lucet.Region) -> None:
    instance = suspending(region, fuel=10)
    run = instance.run("loop")
    assert isinstance(run, lucet.Suspended)
    assert (run.value.code, run.value.function, instance.state) == ("OUT_OF_FUEL", "loop", "suspended")
    assert run.instance is run.waiting is instance
    with pytest.raises(lucet.InstanceError, match="suspended"):
        instance.run("add", 1, 2)
    with pytest.raises(TypeError, match="fuel"):
        run.resume(1)
    again = run.resume()  # without fuel, nothing is executed
    assert isinstance(again, lucet.Suspended)
    assert instance.fuel_used == 11
    with pytest.raises(lucet.InstanceError, match="over"):
        run.resume()
    again.close()
    assert instance.state == "ready"
    run = instance.run("loop")
    del run  # forgotten
    assert instance.state == "ready"
    instance.suspend_out_of_fuel = False
    with pytest.raises(lucet.OutOfFuel):
        instance.run("loop")


def test_closed_while_out_of_fuel(region: lucet.Region) -> None:
    instance = suspending(region, fuel=10)
    run = instance.run("loop")
    instance.close()
    with pytest.raises(lucet.InstanceError):
        run.resume()
    run.close()


def test_choice_changed_meanwhile(region: lucet.Region) -> None:
    class Argument:
        def __init__(self, instance: lucet.Instance, suspend: bool) -> None:
            self.instance, self.suspend = instance, suspend

        def __index__(self) -> int:
            self.instance.suspend_out_of_fuel = self.suspend
            return 1000

    module = lucet.Module.from_bytes(lucet.compile(text_to_binary(SUM), count_instructions=True))
    instance = region.new_instance(module, fuel=10)
    with pytest.raises(lucet.OutOfFuel):
        instance.run("sum", Argument(instance, True))
    with pytest.raises(lucet.OutOfFuel):
        instance.run("sum", Argument(instance, False))
    assert instance.state == "ready"


def test_out_of_fuel_below_a_host_function(region: lucet.Region) -> None:
    @lucet.host_function
    def nested(caller: lucet.Instance, _: lucet.i32) -> lucet.i32:
        return refuelled(caller.run("sum", 1000), 50)  # type: ignore[no-any-return]

    instance = suspending(region, nested, fuel=10)
    assert instance.run("call", 0) == 500_500


def test_suspending_needs_a_count(region: lucet.Region) -> None:
    module = lucet.Module.from_bytes(lucet.compile(text_to_binary(SUM)))
    instance = region.new_instance(module)
    with pytest.raises(lucet.InstanceError, match="count_instructions"):
        instance.suspend_out_of_fuel = True
    assert not instance.suspend_out_of_fuel


HUGE_SIZES = """(module
  (memory i64 1 1) (table $t i64 2 externref)
  (func (export "memory.fill") (param i64) (memory.fill (i64.const 0) (i32.const 1) (local.get 0)))
  (func (export "memory.copy") (param i64) (memory.copy (i64.const 0) (i64.const 0) (local.get 0)))
  (func (export "table.fill") (param i64) (table.fill $t (i64.const 0) (ref.null extern) (local.get 0)))
  (func (export "table.copy") (param i64) (table.copy $t $t (i64.const 0) (i64.const 0) (local.get 0))))"""


@pytest.mark.parametrize("name", ["memory.fill", "memory.copy", "table.fill", "table.copy"])
@pytest.mark.parametrize("size", [-1, -1000, 1 << 62, -(1 << 63)])
def test_sizes_beyond_all_limits(region: lucet.Region, name: str, size: int) -> None:
    """They neither use up fuel that is without bound, nor give any back."""
    module = lucet.Module.from_bytes(lucet.compile(HUGE_SIZES, opt_level="none", count_instructions=True))
    with region.new_instance(module) as instance:
        for _ in range(20):
            with pytest.raises(lucet.Trap, match="out of bounds"):
                instance.run(name, size)
        used = instance.fuel_used
        assert used > 0
        instance.fuel = 1000
        with pytest.raises(lucet.OutOfFuel):
            instance.run(name, size)
        assert instance.fuel == 0
        assert instance.fuel_used > used
