"""Instance.fuel: what Python sees of counted instructions."""

from __future__ import annotations

from functools import cache

import pytest

import lucet
from lucet.wasm.text import text_to_binary
from tests.runtime.conftest import Load

GUEST = """(module
  (import "host" "call" (func $call (param i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "call") (param i32) (result i32) (call $call (local.get 0)))
  (func (export "call_and_loop") (param i32) (drop (call $call (local.get 0))) (loop $again (br $again)))
  (func $loop (export "loop") (loop $again (br $again))))"""

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
