"""Instance.time_slice: guests that compute are suspended, and go on as if nothing had happened."""

from __future__ import annotations

import random
import threading

import pytest

import lucet
from tests.runtime.conftest import Load

GUEST = """(module
  (import "h" "f" (func $f (param i32) (result i32))) (memory 1)
  (func $work (export "work") (param i32) (result i64 f64) (local i64 f64)
    (loop $again
      (local.set 1 (i64.xor (i64.rotl (local.get 1) (i64.const 5)) (i64.extend_i32_u (local.get 0))))
      (local.set 2 (f64.add (f64.mul (local.get 2) (f64.const 0.999)) (f64.convert_i32_u (local.get 0))))
      (i32.store (i32.and (local.get 0) (i32.const 0xfffc)) (local.get 0))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1) (local.get 2))
  (func (export "call") (param i32) (result i64 f64) (call $work (call $f (local.get 0))))
  (func (export "spin") (loop $again (br $again))))"""
TURNS = 20_000_000
SLICE = 0.001


def instance_with(region: lucet.Region, load: Load, function: object = None) -> lucet.Instance:
    @lucet.host_function
    def same(n: lucet.i32) -> lucet.i32:
        return n

    return region.new_instance(load(GUEST), {"h": {"f": function or same}})


def test_guests_take_turns(region: lucet.Region, load: Load) -> None:
    expected = instance_with(region, load).run("work", TURNS)
    guests = [instance_with(region, load) for _ in range(4)]
    for guest in guests:
        guest.time_slice = SLICE
        assert guest.time_slice == pytest.approx(SLICE)
    runs: list[object] = [guest.run("work", TURNS) for guest in guests]
    assert any(isinstance(run, lucet.Suspended) for run in runs)
    results = []
    while runs:
        run = runs.pop(random.randrange(len(runs)))
        if isinstance(run, lucet.Suspended):
            assert (run.reason, run.value, run.waiting, run.instance.state) == ("time", None, run.instance, "suspended")
            runs.append(run.resume())
        else:
            results.append(run)
    assert results == [expected] * len(guests)


def test_another_thread_goes_on(region: lucet.Region, load: Load) -> None:
    guest = instance_with(region, load)
    guest.time_slice = SLICE
    run = guest.run("spin")
    stopped: list[object] = []

    def go_on() -> None:
        again = run.resume()
        assert isinstance(again, lucet.Suspended)
        again.close()
        stopped.append(guest.state)

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    assert stopped == ["ready"]


def test_with_a_timeout_and_a_host_function(region: lucet.Region, load: Load) -> None:
    @lucet.host_function
    def work(caller: lucet.Instance, n: lucet.i32) -> lucet.i32:
        # Is not suspended: nothing else could go on before this function returns.
        assert isinstance(caller.run("work", TURNS), tuple)
        return n

    guest = instance_with(region, load, work)
    expected = instance_with(region, load).run("work", 3)
    guest.time_slice = SLICE
    run = guest.run("call", 3)
    while isinstance(run, lucet.Suspended):
        run = run.resume()
    assert run == expected
    guest.timeout = 0.05
    run = guest.run("spin")
    with pytest.raises(lucet.TimedOut):
        while isinstance(run, lucet.Suspended):
            run = run.resume()
    assert guest.state == "ready"
    guest.time_slice = None
    assert guest.time_slice is None


def test_a_start_function_is_not_suspended(region: lucet.Region, load: Load) -> None:
    text = """(module (func $start (local i32) (local.set 0 (i32.const 100000000))
      (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))) (start $start))"""
    guest = region.new_instance(load(text))
    guest.time_slice = SLICE
    guest.reset()
    assert guest.state == "ready"


@pytest.mark.parametrize("value", [0, -1, float("nan"), 1e10])
def test_no_time(region: lucet.Region, load: Load, value: float) -> None:
    guest = instance_with(region, load)
    with pytest.raises(ValueError, match="positive number of seconds"):
        guest.time_slice = value
    with pytest.raises(ValueError, match="positive number of seconds"):
        guest.timeout = value


INNER = """(module
  (import "h" "f" (func $f (param i32) (result i32)))
  (func (export "call") (param i32) (result i32) (i32.mul (call $f (local.get 0)) (i32.const 3)))
  (func (export "work") (param i32) (result i32) (local i64)
    (loop $again
      (local.set 1 (i64.xor (i64.rotl (local.get 1) (i64.const 5)) (i64.extend_i32_u (local.get 0))))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i32.wrap_i64 (local.get 1)))
  (func (export "spin") (param i32) (result i32) (loop $again (br $again)) (i32.const 0)))"""


def inner_instance(region: lucet.Region, load: Load, function: str) -> tuple[lucet.Instance, list[lucet.Suspended]]:
    """A host function of it calls the guest's own function, and suspends it if that is suspended."""
    inner = []

    @lucet.host_function
    def f(caller: lucet.Instance, n: lucet.i32) -> lucet.i32 | lucet.Suspend:
        run = caller.run(function, n)
        if isinstance(run, lucet.Suspended):
            inner.append(run)
            return lucet.Suspend("inner")
        return int(run)

    guest = region.new_instance(load(INNER), {"h": {"f": f}})
    guest.time_slice = SLICE
    return guest, inner


def test_a_run_in_a_host_function_has_slices_if_the_host_says_so(region: lucet.Region, load: Load) -> None:
    guest, inner = inner_instance(region, load, "work")
    expected = guest.run("call", TURNS)  # goes on until the inner run is over, and perhaps until its own slice is
    while isinstance(expected, lucet.Suspended):
        expected = expected.resume()
    assert len(inner) == 0
    guest._inner_runs_wait = True
    run = guest.run("call", TURNS)
    while run.reason == "time":  # its own slice was over before the inner run began
        run = run.resume()
    assert (run.value, inner[0].reason) == ("inner", "time")
    with pytest.raises(lucet.InstanceError, match="must go on first"):
        run.resume(1)
    last: object = inner[0]
    turns = 0
    while isinstance(last, lucet.Suspended):
        turns += 1
        last = last.resume()
    assert turns > 5
    result = run.resume(last)
    while isinstance(result, lucet.Suspended):
        result = result.resume()
    assert result == expected


@pytest.mark.parametrize("how", ["both", "forgotten", "closed"])
def test_an_inner_run_is_given_up(region: lucet.Region, load: Load, how: str) -> None:
    guest, inner = inner_instance(region, load, "spin")
    guest._inner_runs_wait = True
    run = guest.run("call", 1)
    while run.reason == "time":
        run = run.resume()
    inner[0] = inner[0].resume()
    match how:
        case "both":
            inner.pop().close()
            run.close()
            assert guest.state == "ready"
            assert isinstance(guest.run("work", TURNS), lucet.Suspended)
        case "forgotten":
            inner.clear()
            run.close()
            assert guest.state == "ready"
        case _:
            guest.close()
    assert region.used == (0 if how == "closed" else 1)


def test_a_run_begins_while_a_host_function_waits(region: lucet.Region, load: Load) -> None:
    """Never while the guest is somewhere in its own code."""

    @lucet.host_function
    def f(n: lucet.i32) -> lucet.i32 | lucet.Suspend:
        return lucet.Suspend(n)

    guest = region.new_instance(load(INNER), {"h": {"f": f}})
    run = guest.run("call", 1000)
    with pytest.raises(lucet.InstanceError, match="suspended"):
        guest.run("work", 5)
    guest._inner_runs_wait = True
    expected = guest.run("work", 1000)
    assert run.resume(expected) == (3 * expected + 2**31) % 2**32 - 2**31
    guest.time_slice = SLICE
    run = guest.run("spin", 1)
    assert run.reason == "time"
    with pytest.raises(lucet.InstanceError, match="suspended"):
        guest.run("work", 5)


def test_a_start_function_has_slices_if_the_host_starts_it(region: lucet.Region, load: Load) -> None:
    text = """(module (import "h" "f" (func $f (param i32) (result i32)))
      (global $done (export "done") (mut i32) (i32.const 0))
      (func $start (local i32)
        (local.set 0 (i32.const 20000000))
        (loop $again (br_if $again (local.tee 0 (i32.sub (call $same (local.get 0)) (i32.const 1)))))
        (global.set $done (call $f (i32.const 5))))
      (func $same (param i32) (result i32) (i32.rotl (i32.rotr (local.get 0) (i32.const 3)) (i32.const 3)))
      (start $start) (func (export "run") (result i32) (global.get $done)))"""

    @lucet.host_function
    def f(n: lucet.i32) -> lucet.i32 | lucet.Suspend:
        return lucet.Suspend(n)

    module = load(text)
    assert module._starts and not load(INNER)._starts
    guest = region.new_instance(module, {"h": {"f": f}}, start=False)
    with pytest.raises(lucet.InstanceError, match="not started"):
        guest.run("run")
    guest.time_slice = SLICE / 10
    run: object = guest._start()
    turns = 0
    while isinstance(run, lucet.Suspended):
        turns += 1
        run = run.resume(7) if run.reason == "host" else run.resume()
    assert run is None
    assert turns > 1
    assert guest.run("run") == 7
    with pytest.raises(lucet.InstanceError):
        guest._start()
    with region.new_instance(module, {"h": {"f": f}}, start=False) as given_up:
        given_up.time_slice = SLICE / 10
        given_up._start()
    assert region.used == 1
