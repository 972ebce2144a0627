"""Calls: every way to call, results in registers and in memory, and tail calls that leave no frame."""

from __future__ import annotations

import pytest

import lucet
from tests.compile.conftest import Instantiate

MANY = """(module
  (type $many (func (param i32) (result i32 i64 f32 f64 i32)))
  (type $two (func (param i64) (result f64 i32)))
  (func $many (type $many)
    (i32.add (local.get 0) (i32.const 1)) (i64.const -2) (f32.const 3.5) (f64.const -4.5)
    (i32.mul (local.get 0) (i32.const 5)))
  (func $two (type $two) (f64.convert_i64_s (local.get 0)) (i32.wrap_i64 (local.get 0)))
  (table $s 2 2 funcref) (elem (table $s) (i32.const 0) func $many $two)
  (table $d (export "d") 2 2 funcref) (elem (table $d) (i32.const 0) func $many $two)
  (func (export "many") (type $many) (call $many (local.get 0)))
  (func (export "many static") (type $many) (call_indirect $s (type $many) (local.get 0) (i32.const 0)))
  (func (export "many dynamic") (type $many) (call_indirect $d (type $many) (local.get 0) (i32.const 0)))
  (func (export "two") (type $two) (call $two (local.get 0)))
  (func (export "two static") (type $two) (call_indirect $s (type $two) (local.get 0) (i32.const 1)))
  (func (export "two dynamic") (type $two) (call_indirect $d (type $two) (local.get 0) (i32.const 1)))
  (func (export "nested") (param i32) (result i32) (local i32)
    (call $many (local.get 0)) (local.set 1) (drop) (drop) (drop)
    (call $many) (local.set 0) (drop) (drop) (drop) (drop)
    (i32.sub (local.get 0) (local.get 1))))"""


def test_results(instantiate: Instantiate) -> None:
    instance = instantiate(MANY)
    for how in ("", " static", " dynamic"):
        assert instance.run(f"many{how}", 10) == (11, -2, 3.5, -4.5, 50)
        assert instance.run(f"two{how}", -9) == (-9.0, -9)
    assert instance.run("nested", 3) == 4 * 5 - 3 * 5


INDIRECT = """(module
  (type $f (func (param i32) (result i32))) (type $same (func (param i32) (result i32))) (type $g (func))
  (func $a (type $same) (i32.add (local.get 0) (i32.const 100)))
  (func $b (type $g))
  (table $s 4 4 funcref) (elem (table $s) (i32.const 1) func $a $b)
  (table $d (export "d") 4 4 funcref) (elem (table $d) (i32.const 1) func $a $b)
  (func (export "static") (param i32) (result i32) (call_indirect $s (type $f) (i32.const 1) (local.get 0)))
  (func (export "dynamic") (param i32) (result i32) (call_indirect $d (type $f) (i32.const 1) (local.get 0))))"""


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_call_indirect(instantiate: Instantiate, how: str) -> None:
    instance = instantiate(INDIRECT)
    assert instance.run(how, 1) == 101
    for index, message in (
        (0, "uninitialized element"),
        (2, "indirect call type mismatch"),
        (3, "uninitialized element"),
        (4, "undefined element"),
        (-1, "undefined element"),
    ):
        with pytest.raises(lucet.Trap, match=message):
            instance.run(how, index)


IMPORTED = """(module
  (import "host" "f" (func $f (param i32 i64 f32 f64) (result i64)))
  (import "host" "nothing" (func $nothing))
  (type $f (func (param i32 i64 f32 f64) (result i64)))
  (table $s 2 2 funcref) (elem (table $s) (i32.const 0) func $f $nothing)
  (table $d (export "d") 2 2 funcref) (elem (table $d) (i32.const 0) func $f $nothing)
  (func (export "direct") (result i64)
    (call $nothing) (call $f (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25)))
  (func (export "static") (result i64)
    (call_indirect $s (type $f) (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25) (i32.const 0)))
  (func (export "dynamic") (result i64)
    (call_indirect $d (type $f) (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25) (i32.const 0)))
  (func (export "tail") (result i64)
    (TAIL $f (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25))))"""


@pytest.mark.parametrize("tail", ["call", "return_call"])
def test_imported_functions(instantiate: Instantiate, tail: str) -> None:
    seen: list[tuple[float, ...]] = []

    @lucet.host_function
    def f(a: lucet.i32, b: lucet.i64, c: lucet.f32, d: lucet.f64) -> lucet.i64:
        seen.append((a, b, c, d))
        return len(seen)

    @lucet.host_function
    def nothing() -> None:
        seen.append(())

    instance = instantiate(IMPORTED.replace("TAIL", tail), {"host": {"f": f, "nothing": nothing}})
    assert [instance.run(how) for how in ("direct", "static", "dynamic", "tail")] == [2, 3, 4, 5]
    assert seen == [(), *[(-1, -2, 0.5, -0.25)] * 4]


# Countdowns between functions of different types, one with more arguments than registers.
TAIL = """(module
  (type $small (func (param i64) (result i64)))
  (type $big (func (param i32 i64 i32 i64 i32 i64 i32 i64 i32 f64 f32) (result i64)))
  (type $four (func (param i64 i32) (result i32 i64 f64 i32)))
  (type $four_big (func (param i32 i64 i64 i64 i64 i64 i64 i64 i64) (result i32 i64 f64 i32)))
  (table $s 2 2 funcref) (elem (table $s) (i32.const 0) func $small_static $big_static)
  (table $d (export "d") 2 2 funcref) (elem (table $d) (i32.const 0) func $small_dynamic $big_dynamic)
  (func $check (param i64 i32 f64 f32)
    (if (i64.ne (local.get 0) (i64.const 8)) (then unreachable))
    (if (i32.ne (local.get 1) (i32.const 9)) (then unreachable))
    (if (f64.ne (local.get 2) (f64.const 10)) (then unreachable))
    (if (f32.ne (local.get 3) (f32.const 11)) (then unreachable)))
  (func $small (export "direct") (type $small)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 42))))
    (return_call $big BIG))
  (func $big (type $big) CHECK (return_call $small (local.get 1)))
  (func $small_static (export "static") (type $small)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 42))))
    (return_call_indirect $s (type $big) BIG (i32.const 1)))
  (func $big_static (type $big) CHECK (return_call_indirect $s (type $small) (local.get 1) (i32.const 0)))
  (func $small_dynamic (export "dynamic") (type $small)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 42))))
    (return_call_indirect $d (type $big) BIG (i32.const 1)))
  (func $big_dynamic (type $big) CHECK (return_call_indirect $d (type $small) (local.get 1) (i32.const 0)))
  (func $four (export "four") (type $four)
    (if (i64.eqz (local.get 0)) (then (return (i32.const 1) (i64.const 2) (f64.const 3) (local.get 1))))
    (return_call $four_big (local.get 1) (i64.sub (local.get 0) (i64.const 1)) (i64.const 1) (i64.const 1) (i64.const 1)
      (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))
  (func $four_big (type $four_big) (return_call $four (local.get 1) (i32.add (local.get 0) (i32.const 1))))
  (func $two (export "two") (param i64 i32) (result i64 f64)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 5) (f64.const 6))))
    (if (i32.eqz (local.get 1)) (then (return_call $two_big TWO)))
    (if (i32.eq (local.get 1) (i32.const 2))
      (then (return_call $two (i64.sub (local.get 0) (i64.const 1)) (i32.const 0))))
    (return_call $two (i64.sub (local.get 0) (i64.const 1)) (i32.sub (local.get 1) (i32.const 1))))
  (func $two_big (param i64 i64 i64 i64 i64 i64 i64 f64) (result i64 f64)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 7) (local.get 7))))
    (return_call $two (i64.sub (local.get 0) (i64.const 1)) (i32.const 5)))
  (func $one (export "one") (param i64 f64) (result f64)
    (if (i64.eqz (local.get 0)) (then (return (local.get 1))))
    (if (i64.eqz (i64.and (local.get 0) (i64.const 1)))
      (then (return_call $one (i64.sub (local.get 0) (i64.const 1)) (local.get 1))))
    (return_call $one_more (local.get 0) (local.get 1)))
  (func $one_more (param i64 f64) (result f64)
    (return_call $one (i64.sub (local.get 0) (i64.const 1)) (local.get 1)))
  (func (export "ordinary") (param i64) (result i64) (local i32)
    (local.set 1 (i32.const 50))
    (loop $l
      (if (i64.ne (call $small (local.get 0)) (i64.const 42)) (then unreachable))
      (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get 0))
  (func $runaway (export "runaway") (param i32) (result i32) (call $runaway (i32.add (local.get 0) (i32.const 1)))))"""
TAIL = (
    TAIL.replace(
        "BIG",
        """(i32.const 1) (i64.sub (local.get 0) (i64.const 1)) (i32.const 3) (i64.const 4) (i32.const 5) (i64.const 6)
       (i32.const 7) (i64.const 8) (i32.const 9) (f64.const 10) (f32.const 11)""",
    )
    .replace("TWO", "(local.get 0)" + "(i64.const 1)" * 6 + "(f64.const 6)")
    .replace("CHECK", "(call $check (local.get 7) (local.get 8) (local.get 9) (local.get 10))")
)


@pytest.mark.parametrize("how", ["direct", "static", "dynamic"])
def test_tail_calls_leave_no_frame(instantiate: Instantiate, how: str) -> None:
    """A frame of 16 bytes for each of these calls would take 300 times the stack."""
    assert instantiate(TAIL).run(how, 10_000_000) == 42


def test_tail_calls_with_results_in_memory(instantiate: Instantiate) -> None:
    assert instantiate(TAIL).run("four", 10_000_000, 5) == (1, 2, 3.0, 10_000_005)


@pytest.mark.parametrize(("name", "argument", "expected"), [("two", 3, (5, 6.0)), ("one", 2.5, 2.5)])
def test_tail_calls_with_results_in_registers(
    instantiate: Instantiate, name: str, argument: float, expected: object
) -> None:
    assert instantiate(TAIL).run(name, 10_000_001, argument) == expected


def test_tail_calls_restore_the_stack_of_their_caller(instantiate: Instantiate) -> None:
    assert instantiate(TAIL).run("ordinary", 1000) == 1000


def test_other_calls_stay_calls(instantiate: Instantiate) -> None:
    with pytest.raises(lucet.Trap, match="call stack exhausted"):
        instantiate(TAIL).run("runaway", 0)


def test_tail_call_into_another_instance(instantiate: Instantiate, region: lucet.Region) -> None:
    """Its vmctx differs, so that this one is an ordinary call."""
    callee = instantiate(
        """(module (type $f (func (param i32) (result i32))) (table (export "t") 1 1 funcref) (elem (i32.const 0) $f)
          (memory 1) (data (i32.const 0) "\\2a")
          (func $f (type $f) (if (result i32) (local.get 0)
            (then (return_call $f (i32.sub (local.get 0) (i32.const 1))))
            (else (i32.load (i32.const 0))))))"""
    )
    caller = instantiate(
        """(module (type $f (func (param i32) (result i32))) (import "m" "t" (table 1 1 funcref)) (memory 1)
          (func (export "f") (type $f) (return_call_indirect (type $f) (local.get 0) (i32.const 0))))""",
        {"m": callee.exports},
    )
    assert caller.run("f", 1_000_000) == 42
