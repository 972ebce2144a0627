"""Exceptions between guests and Python: tags, WasmException, host functions that throw, values of type exnref."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lucet
from lucet.runtime import ExportType, ImportType
from lucet.wasm.types import FuncType, TagType, ValType
from tests.runtime.conftest import load_text

Load = Callable[[str], lucet.Module]

THROWER = """(module
  (tag $e (export "e") (param i32 i64 f32 f64))
  (tag $empty (export "empty"))
  (func $deep (param i32)
    (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))) (return)))
    (throw $e (i32.const -1) (i64.const 4294967296) (f32.const 0.5) (f64.const -2)))
  (func (export "throw") (param i32) (call $deep (local.get 0)))
  (func (export "empty throw") (throw $empty)))"""


def test_an_exception_that_nobody_catches(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(THROWER))
    for depth in (0, 3, 1000):
        with pytest.raises(lucet.WasmException) as caught:
            instance.run("throw", depth)
        assert caught.value.tag == instance.export("e")
        assert caught.value.values == (-1, 2**32, 0.5, -2.0)
        assert caught.value.function == "deep"
        assert isinstance(caught.value.offset, int)
        assert "(-1, 4294967296, 0.5, -2.0)" in str(caught.value)
        assert [name for name, _ in caught.value.frames] == (["deep"] * (depth + 1) + ["throw"])[:64]
        assert "#0 deep at offset 0x" in caught.value.__notes__[0]
    with pytest.raises(lucet.WasmException) as other:
        instance.run("empty throw")
    assert other.value.values == ()
    assert other.value.tag == instance.export("empty") != instance.export("e")
    assert instance.state == "ready"


def test_the_frames_of_an_exception_that_was_thrown_again(load: Load, region: lucet.Region) -> None:
    text = """(module (tag $e) (tag $other)
      (func $origin (throw $e))
      (func $between (call $origin))
      (func $again (block $h (try_table (catch $other $h) (call $between))))
      (func (export "run") (call $again)))"""
    with pytest.raises(lucet.WasmException) as caught:
        region.new_instance(load(text)).run("run")
    assert caught.value.function == "origin"
    assert [name for name, _ in caught.value.frames] == ["again", "run"]


def test_tags(load: Load, region: lucet.Region) -> None:
    one, other = region.new_instance(load(THROWER)), region.new_instance(load(THROWER))
    tag: Any = one.exports["e"]
    assert isinstance(tag, lucet.Tag)
    assert tag == one.exports["e"]
    assert hash(tag) == hash(one.exports["e"])
    assert tag != one.exports["empty"]
    assert tag != other.exports["e"]  # every instance has its own
    assert tag.params == ("i32", "i64", "f32", "f64")
    assert lucet.Tag(["f64"]).params == ("f64",)
    assert lucet.Tag() != lucet.Tag()
    assert repr(lucet.Tag(["i32"])) == "<Tag ('i32',)>"
    with pytest.raises(ValueError, match="not a reference type: 'i33'"):
        lucet.Tag(["i33"])
    with pytest.raises(ValueError, match="too many parameters"):
        lucet.Tag(["i32"] * 1001)
    one.close()
    assert tag.params == ("i32", "i64", "f32", "f64")  # longer than the instance lives


def test_an_instance_in_the_same_slot_has_other_tags(load: Load) -> None:
    region = lucet.Region(slots=1)
    seen = set()
    for _ in range(5):
        with region.new_instance(load(THROWER)) as instance:
            seen.add(instance.export("e"))
            instance.reset()
            seen.add(instance.export("e"))
    assert len(seen) == 10


def test_the_types_of_a_module(load: Load) -> None:
    module = load('(module (import "m" "t" (tag (param i32))) (tag (export "e") (param f64)))')
    assert module.imports == (ImportType("m", "t", TagType(functype=FuncType((ValType("i32"),)))),)
    assert module.exports == (ExportType("e", TagType(functype=FuncType((ValType("f64"),)))),)


CATCHER = """(module
  (import "host" "tag" (tag $e (param i32)))
  (import "host" "other" (tag $other (param i32)))
  (import "host" "call" (func $call (param i32) (result i32)))
  (export "same" (tag $e))
  (func $wrapped (param i32) (result i32) (call $call (local.get 0)))
  (func (export "run") (param i32) (result i32)
    (block $o (result i32)
      (block $h (result i32)
        (try_table (catch $e $h) (catch $other $o)
          (return (call $wrapped (local.get 0))))
        (unreachable))
      (return (i32.add (i32.const 1000))))
    (i32.add (i32.const 2000)))
  (func (export "throw") (param i32) (throw $e (local.get 0)))
  (func (export "throw other") (param i32) (throw $other (local.get 0)))
  (func (export "not caught") (param i32) (result i32) (call $call (local.get 0))))"""


def catcher(region: lucet.Region, call: Any) -> tuple[lucet.Instance, lucet.Tag, lucet.Tag]:
    tag, other = lucet.Tag(["i32"]), lucet.Tag(["i32"])
    host = {"tag": tag, "other": other, "call": call}
    return region.new_instance(load_text(CATCHER), {"host": host}), tag, other


def test_a_host_function_throws_into_the_guest(region: lucet.Region) -> None:
    @lucet.host_function
    def call(n: lucet.i32) -> lucet.i32:
        if n == 0:
            return 5
        raise lucet.WasmException(tag if n < 10 else other if n < 20 else third, [n])

    third = lucet.Tag(["i32"])
    instance, tag, other = catcher(region, call)
    assert [instance.run("run", n) for n in (0, 1, 9, 11)] == [5, 1001, 1009, 2011]
    for n, thrown in ((3, tag), (20, third)):
        with pytest.raises(lucet.WasmException) as caught:
            instance.run("not caught", n)
        assert (caught.value.tag, caught.value.values) == (thrown, (n,))
    assert instance.export("same") == tag


def test_an_exception_crosses_both_ways(region: lucet.Region) -> None:
    """From a guest through a host function, which calls the guest again, and back."""
    seen = []

    @lucet.host_function
    def call(caller: lucet.Instance, n: lucet.i32) -> lucet.i32:
        try:
            caller.run("throw other" if n & 1 else "throw", n)
        except lucet.WasmException as error:
            seen.append(error.values)
            if n > 1:
                raise  # the same object
            raise lucet.WasmException(error.tag, [n + 100]) from error
        return 0

    instance, _, _ = catcher(region, call)
    assert [instance.run("run", n) for n in (0, 1, 2, 3)] == [1100, 2101, 1002, 2003]
    assert seen == [(0,), (1,), (2,), (3,)]


def test_nested_runs_and_handlers(region: lucet.Region) -> None:
    @lucet.host_function
    def call(caller: lucet.Instance, n: lucet.i32) -> lucet.i32:
        if n == 0:
            raise lucet.WasmException(caller.export("same"), [1])
        result: int = caller.run("run", n - 1)
        return result + 1

    instance, _, _ = catcher(region, call)
    assert instance.run("run", 20) == 1001 + 20


def test_other_exceptions_are_not_for_the_guest(region: lucet.Region) -> None:
    @lucet.host_function
    def call(n: lucet.i32) -> lucet.i32:
        raise KeyError(n)

    instance, _, _ = catcher(region, call)
    with pytest.raises(KeyError):
        instance.run("run", 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tag: lucet.WasmException(tag, []), "carries 1 values, not 0"),
        (lambda tag: lucet.WasmException(tag, ["x"]), "i32 expected, got str"),
        (lambda tag: lucet.WasmException("tag", [1]), "the tag of a WasmException is a lucet.Tag, not 'tag'"),
    ],
)
def test_a_wrong_exception_ends_the_run(region: lucet.Region, make: Callable[[lucet.Tag], Any], message: str) -> None:
    @lucet.host_function
    def call(n: lucet.i32) -> lucet.i32:
        raise make(tag)

    instance, tag, _ = catcher(region, call)
    with pytest.raises(TypeError, match=message):
        instance.run("run", 1)
    assert instance.state == "ready"


def test_an_import_of_another_type_is_refused(load: Load, region: lucet.Region) -> None:
    module = load('(module (import "m" "t" (tag (param i32))))')
    for wrong in (lucet.Tag(), lucet.Tag(["i64"]), 7, region.new_instance(load(THROWER)).export("throw")):
        with pytest.raises(lucet.LinkError, match="incompatible import type"):
            region.new_instance(module, {"m": {"t": wrong}})
    with pytest.raises(lucet.LinkError, match="unknown import"):
        region.new_instance(module, {"m": {}})


MIDDLE = """(module
  (import "m" "f" (func $f (param i32)))
  (func (export "f") (param i32) (call $f (local.get 0))))"""
OUTER = """(module
  (import "m" "f" (func $f (param i32)))
  (import "m" "e" (tag $e (param i32)))
  (func (export "run") (param i32) (result i32)
    (block $h (result i32) (try_table (catch $e $h) (call $f (local.get 0))) (i32.const -1))))"""
INNER = '(module (tag $e (export "e") (param i32)) (func (export "f") (param i32) (throw $e (local.get 0))))'


def test_through_an_instance_that_knows_nothing_of_exceptions(load: Load, region: lucet.Region) -> None:
    inner = region.new_instance(load(INNER))
    middle = region.new_instance(load(MIDDLE), {"m": inner.exports})
    outer = region.new_instance(load(OUTER), {"m": {"f": middle.export("f"), "e": inner.export("e")}})
    assert outer.run("run", 42) == 42
    stranger = region.new_instance(load(OUTER), {"m": {"f": middle.export("f"), "e": lucet.Tag(["i32"])}})
    with pytest.raises(lucet.WasmException):
        stranger.run("run", 42)


REFERENCES = """(module
  (import "host" "pass" (func $pass (param exnref) (result exnref)))
  (tag $e (export "e") (param i32))
  (global $kept (export "kept") (mut exnref) (ref.null exn))
  (table $t (export "t") 4 exnref)
  (func $make (export "make") (param i32) (result exnref)
    (block $h (result exnref)
      (try_table (result exnref) (catch_all_ref $h) (throw $e (local.get 0)))))
  (func (export "keep") (param i32) (global.set $kept (call $make (local.get 0))))
  (func (export "put") (param i32 i32) (table.set $t (local.get 0) (call $make (local.get 1))))
  (func $throw (export "throw") (param exnref) (throw_ref (local.get 0)))
  (func (export "throw kept") (throw_ref (global.get $kept)))
  (func (export "value") (param exnref) (result i32)
    (block $h (result i32) (try_table (catch $e $h) (throw_ref (local.get 0))) (unreachable)))
  (func (export "pass") (param i32) (result i32)
    (block $h (result i32)
      (try_table (catch $e $h) (throw_ref (call $pass (call $make (local.get 0))))) (unreachable)))
  (func (export "garbage") (param i32)
    (loop $again
      (drop (call $make (local.get 0)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""


def with_references(region: lucet.Region, function: Any = None) -> lucet.Instance:
    @lucet.host_function
    def same(exception: lucet.exnref) -> lucet.exnref:
        return exception

    return region.new_instance(load_text(REFERENCES), {"host": {"pass": function or same}})


def test_exnref_values(region: lucet.Region) -> None:
    instance = with_references(region)
    exception = instance.run("make", 7)
    assert isinstance(exception, lucet.WasmException)
    assert (exception.tag, exception.values) == (instance.export("e"), (7,))
    with pytest.raises(lucet.WasmException) as caught:
        instance.run("throw", exception)
    assert caught.value.values == (7,)
    assert instance.run("value", lucet.WasmException(instance.export("e"), [8])) == 8
    assert instance.run("pass", 9) == 9
    with pytest.raises(lucet.Trap, match="null exception reference"):
        instance.run("throw", None)
    with pytest.raises(TypeError, match="exnref expected, got 7"):
        instance.run("throw", 7)
    kept: Any = instance.exports["kept"]
    assert not kept.value
    instance.run("keep", 11)
    assert kept.value.values == (11,)
    kept.value = lucet.WasmException(instance.export("e"), [12])
    with pytest.raises(lucet.WasmException) as caught:
        instance.run("throw kept")
    assert caught.value.values == (12,)


def test_what_a_guest_refers_to_lives_and_the_rest_does_not(region: lucet.Region) -> None:
    instance = with_references(region)
    instance.run("keep", 1)
    for i in range(4):
        instance.run("put", i, 10 + i)
    instance.run("garbage", 3_000_000)  # as much as several pools
    table: Any = instance.exports["t"]
    assert [table.get(i).values for i in range(4)] == [(10,), (11,), (12,), (13,)]
    with pytest.raises(lucet.WasmException) as caught:
        instance.run("throw kept")
    assert caught.value.values == (1,)
    instance.reset()
    kept: Any = instance.exports["kept"]
    assert kept.value is None


def test_a_reference_that_only_the_host_function_has(region: lucet.Region) -> None:
    """The guest that waits for the host function holds it on its stack, or nowhere any more."""

    @lucet.host_function
    def churn(caller: lucet.Instance, exception: lucet.exnref) -> lucet.exnref:
        caller.run("garbage", 200_000)
        return exception

    instance = with_references(region, churn)
    assert [instance.run("pass", n) for n in range(5)] == list(range(5))


HOARDER = """(module
  (tag $e (param exnref))
  (global $last (mut exnref) (ref.null exn))
  (func (export "hoard")
    (loop $again
      (global.set $last
        (block $h (result exnref)
          (try_table (result exnref) (catch_all_ref $h) (throw $e (global.get $last)))))
      (br $again)))
  (func (export "forget") (global.set $last (ref.null exn)))
  (func (export "count") (result i32) (local $n i32)
    (loop $again
      (if (ref.is_null (global.get $last)) (then (return (local.get $n))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (global.set $last
        (block $h (result exnref)
          (try_table (catch $e $h) (throw_ref (global.get $last))) (unreachable)))
      (br $again))
    (unreachable)))"""


def test_exceptions_count_for_the_budget(load: Load) -> None:
    budget = lucet.Budget(1 << 20)
    region = lucet.Region(2, budget=budget)
    instance, other = region.new_instance(load(HOARDER)), region.new_instance(load(HOARDER))
    for _ in range(2):
        with pytest.raises(lucet.Trap, match="exceptions exhausted"):
            instance.run("hoard")
        assert budget.used > budget.limit - 65536
        assert 10_000 < instance.run("count") < 50_000
        with pytest.raises(lucet.Trap, match="exceptions exhausted"):
            other.run("hoard")
        instance.reset()
        assert budget.used == 0
        instance, other = other, instance
    instance.close()
    with_references(lucet.Region(1, budget=lucet.Budget(65536))).run("garbage", 1_000_000)  # of which none lives


def test_who_hoards_exceptions_traps(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(HOARDER))
    with pytest.raises(lucet.Trap, match="exceptions exhausted") as caught:
        instance.run("hoard")
    assert caught.value.code == "EXCEPTIONS_EXHAUSTED"
    assert instance.run("count") > 100_000  # and all of them are there
    instance.run("forget")
    with pytest.raises(lucet.Trap, match="exceptions exhausted"):
        instance.run("hoard")
    instance.reset()
    assert instance.run("count") == 0


FOREVER = """(module
  (tag $e (param i32))
  (func $thrower (param i32)
    (if (local.get 0) (then (call $thrower (i32.sub (local.get 0) (i32.const 1))) (return)))
    (throw $e (i32.const 1)))
  (func (export "forever") (param i32)
    (loop $again
      (block $h (result i32) (try_table (catch $e $h) (call $thrower (local.get 0))) (unreachable))
      (drop) (br $again)))
  (func (export "some") (param i32 i32) (result i32) (local $sum i32)
    (loop $again
      (block $h (result i32) (try_table (catch $e $h) (call $thrower (local.get 0))) (unreachable))
      (local.set $sum (i32.add (local.get $sum)))
      (br_if $again (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get $sum)))"""


@pytest.mark.parametrize("depth", [0, 200])
def test_a_run_can_be_ended_while_it_throws(load: Load, region: lucet.Region, depth: int) -> None:
    instance = region.new_instance(load(FOREVER))

    def interrupt() -> None:
        while not instance.interrupt():  # it has not begun yet
            time.sleep(0.001)

    for _ in range(10):
        timer = threading.Timer(0.01, interrupt)
        timer.start()
        with pytest.raises(lucet.Trap, match="interrupted"):
            instance.run("forever", depth)
        timer.join()
        assert instance.run("some", depth, 100) == 100
    instance.timeout = 0.02
    with pytest.raises(lucet.TimedOut):
        instance.run("forever", depth)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_hundred_thousand_throws_leave_nothing_behind(load: Load) -> None:
    region = lucet.Region(slots=2)

    @lucet.host_function
    def call(n: lucet.i32) -> lucet.i32:
        raise lucet.WasmException(tag, [n])

    def churn(rounds: int) -> None:
        for n in range(rounds):
            assert instance.run("run", n) == 1000 + n
            with pytest.raises(lucet.WasmException):
                instance.run("throw", n)
        with region.new_instance(load(FOREVER)) as other:
            assert other.run("some", 5, rounds) == rounds

    instance, tag, _ = catcher(region, call)
    churn(2_000)
    gc.collect()
    before = resident()
    churn(50_000)
    gc.collect()
    assert resident() - before < 2 << 20


def test_time_is_in_proportion_to_what_is_left(load: Load, region: lucet.Region) -> None:
    """A throw from the bottom of a full stack takes milliseconds, not more."""
    instance = region.new_instance(load(FOREVER))
    begin = time.perf_counter()
    assert instance.run("some", 20_000, 100) == 100
    assert time.perf_counter() - begin < 2


def test_counted_instructions(region: lucet.Region) -> None:
    """What is counted behind a handler goes on from what was counted before the throw."""
    artifact = lucet.compile(FOREVER, opt_level="none", count_instructions=True)
    instance = region.new_instance(lucet.Module.from_bytes(artifact))
    used = []
    for rounds in (1, 2, 12):
        before = instance.fuel_used
        assert instance.run("some", 3, rounds) == rounds
        used.append(instance.fuel_used - before)
    assert used[2] - used[1] == 10 * (used[1] - used[0])
    assert used[1] - used[0] > 3 * 5
    instance.fuel = 1000
    with pytest.raises(lucet.OutOfFuel):
        instance.run("forever", 3)


SIZES = """(module
  (tag $small (param i32)) (tag $large (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64))
  (table $t 500000 exnref)
  (func $small (result exnref)
    (block $h (result exnref) (try_table (result exnref) (catch_all_ref $h) (throw $small (i32.const 1)))))
  (func $large (result exnref)
    (block $h (result exnref)
      (try_table (result exnref) (catch_all_ref $h)
        (throw $large (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
          (i64.const 7) (i64.const 8) (i64.const 9) (i64.const 10) (i64.const 11) (i64.const 12) (i64.const 13)
          (i64.const 14) (i64.const 15) (i64.const 16)))))
  (func (export "small") (param i32)
    (loop $again
      (table.set $t (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (call $small)) (br_if $again (local.get 0))))
  (func (export "large") (param i32)
    (loop $again
      (table.set $t (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (call $large)) (br_if $again (local.get 0))))
  (func (export "clear") (table.fill $t (i32.const 0) (ref.null exn) (i32.const 500000))))"""


def test_exceptions_of_one_size_make_room_for_those_of_another(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(SIZES))
    for _ in range(3):
        instance.run("small", 500_000)  # nearly all that there is room for
        with pytest.raises(lucet.Trap, match="exceptions exhausted"):
            instance.run("large", 20_000)
        instance.run("clear")
        instance.run("large", 20_000)
        instance.run("clear")
