"""Suspending guests from host functions, and going on with a value, also on another thread."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

import lucet
from lucet.runtime import HostFunction

Load = Callable[[str], lucet.Module]

SUM = """(module
  (import "host" "next" (func $next (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "sum") (param i32) (result i32) (local i32)
    (loop
      (local.set 1 (i32.add (local.get 1) (call $next (local.get 0))))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "one") (result i32) i32.const 1))"""


def next_(n: int) -> lucet.Suspend:
    return lucet.Suspend(n)


IMPORTS = {"host": {"next": HostFunction(next_, ("i32",), ("i32",), wants_caller=False)}}


@pytest.fixture
def guest(load: Load, region: lucet.Region) -> lucet.Instance:
    return region.new_instance(load(SUM), IMPORTS)


def test_a_run_is_suspended_and_goes_on_with_values(guest: lucet.Instance) -> None:
    run = guest.run("sum", 3)
    given = []
    while isinstance(run, lucet.Suspended):
        assert guest.state == "suspended"
        given.append(run.value)
        run = run.resume(10 * run.value)
    assert given == [3, 2, 1]
    assert run == 60
    assert guest.state == "ready"


def test_it_goes_on_on_another_thread(guest: lucet.Instance) -> None:
    run = guest.run("sum", 2)
    results: list[object] = []
    for value in (5, 6):
        thread = threading.Thread(target=lambda run=run, value=value: results.append(run.resume(value)))
        thread.start()
        thread.join()
        run = results[-1]
    assert run == 11


def test_a_suspended_instance_refuses_other_runs(guest: lucet.Instance) -> None:
    run = guest.run("sum", 1)
    for use in (lambda: guest.run("one"), guest.reset):
        with pytest.raises(lucet.InstanceError, match="suspended"):
            use()
    assert run.resume(4) == 4
    with pytest.raises(lucet.InstanceError, match="over"):
        run.resume(4)
    assert guest.run("one") == 1


@pytest.mark.parametrize("how", ["close", "drop", "close the instance"])
def test_a_suspended_run_can_be_given_up(guest: lucet.Instance, how: str) -> None:
    for _ in range(100):
        run = guest.run("sum", 5)
        if how == "close":
            run.close()
            run.close()
        elif how == "drop":
            del run
            gc.collect()
        else:
            guest.close()
            with pytest.raises(lucet.InstanceError):
                run.resume(1)
            return
        assert guest.run("one") == 1


def test_a_wrong_value_does_not_end_the_run(guest: lucet.Instance) -> None:
    run = guest.run("sum", 1)
    for wrong in ("x", None, 2**40):
        with pytest.raises((TypeError, OverflowError)):
            run.resume(wrong)
    assert run.resume(7) == 7


def test_converting_the_value_may_end_the_run(guest: lucet.Instance) -> None:
    run = guest.run("sum", 1)

    class Meddler:
        def __index__(self) -> int:
            run.close()
            return 7

    with pytest.raises(lucet.InstanceError):
        run.resume(Meddler())
    assert guest.run("one") == 1


def test_thousands_wait_in_one_thread(load: Load) -> None:
    region = lucet.Region(slots=2000, stack_size=16384)
    runs = [region.new_instance(load(SUM), IMPORTS).run("sum", 1) for _ in range(2000)]
    assert [run.resume(i) for i, run in enumerate(runs)] == list(range(2000))


def test_a_run_inside_a_host_function_ends_with_it(load: Load, region: lucet.Region) -> None:
    kept: list[lucet.Suspended] = []

    def nested(caller: lucet.Instance, n: int) -> object:
        if n == 100:
            kept.append(caller.run("sum", 1))
            return 5
        return lucet.Suspend(n)

    imports = {"host": {"next": HostFunction(nested, ("i32",), ("i32",))}}
    guest = region.new_instance(load(SUM), imports)
    run = guest.run("sum", 100)
    assert isinstance(run, lucet.Suspended)
    assert run.value == 99
    with pytest.raises(lucet.InstanceError, match="over"):
        kept[0].resume(1)
    run.close()


def test_an_instance_has_a_context(guest: lucet.Instance) -> None:
    assert guest.context is None
    guest.context = {"user": 1}
    assert guest.context == {"user": 1}


def test_the_start_function_finds_the_context(region: lucet.Region, load: Load) -> None:
    seen = []

    @lucet.host_function
    def look(caller: lucet.Instance) -> None:
        seen.append(caller.context)

    module = load('(module (import "h" "look" (func $look)) (start $look))')
    linkage = region.link(module, {"h": {"look": look}})
    assert region.new_instance(linkage, context="mine").context == "mine"
    region.new_instance(linkage)
    assert seen == ["mine", None]


def test_throwing_into_a_suspended_run(region: lucet.Region, load: Load) -> None:
    text = """(module (import "h" "f" (func $f (result i32))) (tag $mine (export "mine") (param i32))
      (func (export "catch") (param i64 i64) (result i64) (local i64)
        (local.set 2 (i64.mul (local.get 0) (local.get 1)))
        (block $caught (result i32)
          (try_table (result i32) (catch $mine $caught) (call $f)))
        (i64.add (i64.extend_i32_s) (i64.add (local.get 2) (local.get 1)))))"""

    @lucet.host_function
    def wait() -> lucet.i32 | lucet.Suspend:
        return lucet.Suspend("waiting")

    instance = region.new_instance(load(text), {"h": {"f": wait}})
    mine = instance.export("mine")
    assert isinstance(mine, lucet.Tag)
    assert instance.run("catch", 6, 7).throw(lucet.WasmException(mine, (100,))) == 100 + 42 + 7
    assert instance.run("catch", 6, 7).resume(1) == 1 + 42 + 7
    run = instance.run("catch", 6, 7)
    with pytest.raises(TypeError, match="an exception is expected"):
        run.throw("nonsense")
    with pytest.raises(KeyError, match="mine"):
        run.throw(KeyError("mine"))
    assert instance.state == "ready"
    with pytest.raises(lucet.InstanceError, match="over"):
        run.throw(lucet.WasmException(mine, (1,)))
