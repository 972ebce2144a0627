"""Typed function references: calls through them, branches on null, and where the traps are said to be."""

from __future__ import annotations

import pytest

import lucet
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.wasm.check import check_module
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

CALLS = """(module
  (type $many (func (param i32) (result i32 i64 f32 f64 i32)))
  (type $two (func (param i64) (result f64 i32)))
  (type $none (func))
  (global $g (export "g") (mut i32) (i32.const 0))
  (elem declare func $many $two $none)
  (func $many (type $many)
    (i32.add (local.get 0) (i32.const 1)) (i64.const -2) (f32.const 3.5) (f64.const -4.5)
    (i32.mul (local.get 0) (i32.const 5)))
  (func $two (type $two) (f64.convert_i64_s (local.get 0)) (i32.wrap_i64 (local.get 0)))
  (func $none (type $none) (global.set $g (i32.add (global.get $g) (i32.const 1))))
  (func (export "many") (type $many) (call_ref $many (local.get 0) (ref.func $many)))
  (func (export "two") (type $two) (call_ref $two (local.get 0) (ref.func $two)))
  (func (export "none") (type $none) (call_ref $none (ref.func $none)))
  (func (export "null") (global.set $g (i32.const 7)) (call_ref $none (ref.null $none)) (global.set $g (i32.const 8)))
  (func (export "unused") (param (ref null $two)) (call_ref $two (i64.const 1) (local.get 0)) (drop) (drop))
  (func (export "two null") (param (ref null $two)) (result f64 i32)
    (global.set $g (i32.const 9)) (call_ref $two (i64.const 1) (local.get 0))))"""


def test_call_ref(instantiate: Instantiate) -> None:
    instance = instantiate(CALLS)
    assert instance.run("many", 10) == (11, -2, 3.5, -4.5, 50)
    assert instance.run("two", -9) == (-9.0, -9)
    instance.run("none")
    assert instance.globals["g"].value == 1


@pytest.mark.parametrize(
    ("name", "arguments", "g"), [("null", (), 7), ("two null", (None,), 9), ("unused", (None,), 0)]
)
def test_a_null_reference_traps_when_it_is_called(
    instantiate: Instantiate, name: str, arguments: tuple[None, ...], g: int
) -> None:
    instance = instantiate(CALLS)
    with pytest.raises(lucet.Trap, match="null function reference") as caught:
        instance.run(name, *arguments)
    assert caught.value.code == "NULL_FUNCTION_REFERENCE"
    assert text_to_binary(CALLS)[caught.value.offset or 0] == 0x14
    # What came before has happened, what comes after has not.
    assert instance.globals["g"].value == g
    assert instance.run("two", 3) == (3.0, 3)


TAILS = """(module
  (type $down (func (param i32 i64 i64 i64 i64 i64 i64 (ref null $down)) (result i32)))
  (type $get (func (result i32)))
  (import "host" "seven" (func $seven (result i32)))
  (elem declare func $down $seven $trap)
  (func $down (export "down") (type $down)
    (if (i32.eqz (local.get 0)) (then (return (i32.wrap_i64 (local.get 6)))))
    (return_call_ref $down (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (local.get 2) (local.get 3)
      (local.get 4) (local.get 5) (i64.add (local.get 6) (i64.const 1)) (local.get 7) (local.get 7)))
  (func (export "go") (param i32) (result i32)
    (call $down (local.get 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
      (ref.func $down)))
  (func (export "host") (result i32) (return_call_ref $get (ref.func $seven)))
  (func $trap (export "null") (result i32) (return_call_ref $get (ref.null $get))))"""


@lucet.host_function
def seven() -> lucet.i32:
    return 7


def test_return_call_ref_leaves_no_frame(instantiate: Instantiate) -> None:
    instance = instantiate(TAILS, {"host": {"seven": seven}})
    assert instance.run("go", 1_000_000) == 1_000_000
    assert instance.run("host") == 7
    with pytest.raises(lucet.Trap, match="null function reference") as caught:
        instance.run("null")
    assert text_to_binary(TAILS)[caught.value.offset or 0] == 0x15


def test_return_call_ref_of_another_instance(instantiate: Instantiate) -> None:
    other = instantiate(
        '(module (global $n (mut i32) (i32.const 40)) (func (export "f") (param i32) (result i32)'
        " (i32.add (global.get $n) (local.get 0))))"
    )
    instance = instantiate(
        """(module (type $f (func (param i32) (result i32))) (import "m" "f" (func $f (type $f)))
          (elem declare func $f)
          (func (export "go") (param i32) (result i32) (return_call_ref $f (local.get 0) (ref.func $f))))""",
        {"m": {"f": other.exports["f"]}},
    )
    assert instance.run("go", 2) == 42


BRANCHES = """(module
  (type $f (func (result i32)))
  (elem declare func $one)
  (func $one (export "one") (type $f) (i32.const 1))
  (func (export "on_null") (param (ref null $f)) (result i32 i32)
    (block $null (result i32)
      (br_on_null $null (i32.const 20) (local.get 0)) (call_ref $f) (return)
    ) (i32.const 30))
  (func (export "on_non_null") (param (ref null $f)) (result i32 i32)
    (block $is (result i32 (ref $f))
      (br_on_non_null $is (i32.const 20) (local.get 0))
      (return (i32.const 30))
    ) (call_ref $f))
  (func (export "non_null") (param (ref null $f)) (result i32) (call_ref $f (ref.as_non_null (local.get 0)))))"""


def test_branches_on_null(instantiate: Instantiate) -> None:
    instance = instantiate(BRANCHES)
    one = instance.exports["one"]
    assert instance.run("on_null", one) == (20, 1)
    assert instance.run("on_null", None) == (20, 30)
    assert instance.run("on_non_null", one) == (20, 1)
    assert instance.run("on_non_null", None) == (20, 30)
    assert instance.run("non_null", one) == 1
    with pytest.raises(lucet.Trap, match="null reference") as caught:
        instance.run("non_null", None)
    assert caught.value.code == "NULL_REFERENCE"
    assert text_to_binary(BRANCHES)[caught.value.offset or 0] == 0xD4


TABLES = """(module
  (type $f (func (param i32) (result i32)))
  (func $inc (type $f) (i32.add (local.get 0) (i32.const 1)))
  (func $dec (type $f) (i32.sub (local.get 0) (i32.const 1)))
  (global $g (ref $f) (ref.func $dec))
  (table $s 3 (ref $f) (ref.func $inc))
  (elem (table $s) (i32.const 1) (ref $f) (ref.func $dec))
  (table $d (export "d") 3 10 (ref $f) (ref.func $inc))
  (elem (table $d) (i32.const 1) (ref $f) (global.get $g))
  (func (export "static") (param i32 i32) (result i32) (call_indirect $s (type $f) (local.get 1) (local.get 0)))
  (func (export "dynamic") (param i32 i32) (result i32) (call_indirect $d (type $f) (local.get 1) (local.get 0)))
  (func (export "get") (param i32 i32) (result i32) (call_ref $f (local.get 1) (table.get $d (local.get 0))))
  (func (export "grow") (result i32) (table.grow $d (ref.func $dec) (i32.const 2))))"""


def test_tables_of_references_that_are_never_null(instantiate: Instantiate) -> None:
    plan = make_plan(check_module(text_to_binary(TABLES)), Options())
    assert [table.entries for table in plan.tables] == [(0, 1, 0), None]
    instance = instantiate(TABLES)
    for name in ("static", "dynamic", "get"):
        assert [instance.run(name, i, 10) for i in range(3)] == [11, 9, 11]
        with pytest.raises(lucet.Trap, match="out of bounds table access" if name == "get" else "undefined element"):
            instance.run(name, 3, 10)
    assert instance.run("grow") == 3
    assert instance.run("get", 4, 10) == 9
