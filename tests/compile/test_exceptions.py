"""Exceptions in generated code, at every optimisation level: what reaches which handler, and with what values."""

from __future__ import annotations

import pytest

import lucet
from tests.compile.conftest import Instantiate

NUMBERS = """(module
  (tag $all (param i32 i64 f32 f64 v128 funcref externref i32))
  (func $f (export "f"))
  (elem declare func $f)
  (func $throw (param i32 i64 f32 f64 externref)
    (throw $all (local.get 0) (local.get 1) (local.get 2) (local.get 3)
      (i32x4.add (v128.const i32x4 1 2 3 4) (i32x4.splat (local.get 0))) (ref.func $f) (local.get 4) (i32.const -1)))
  (func (export "carry") (param i32 i64 f32 f64 externref)
      (result i32 i64 f32 f64 v128 funcref externref i32)
    (block $caught (result i32 i64 f32 f64 v128 funcref externref i32)
      (try_table (catch $all $caught)
        (call $throw (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))
      (unreachable))))"""


def test_values_of_all_types_arrive(instantiate: Instantiate) -> None:
    instance = instantiate(NUMBERS)
    thing = object()
    first = instance.run("carry", -5, 2**40, 1.5, -0.0, thing)
    assert first[:3] == (-5, 2**40, 1.5)
    assert str(first[3]) == "-0.0"
    assert first[4] == b"".join((n - 5).to_bytes(4, "little", signed=True) for n in (1, 2, 3, 4))
    assert first[5] is not None
    assert first[6:] == (thing, -1)


DEEP = """(module
  (tag $e (param i32))
  (tag $other)
  (func $dive (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 7))))
    ;; More than the preserved registers hold, before and behind the call.
    (i32.add (call $dive (i32.sub (local.get 0) (i32.const 1))) (local.get 0)))
  (func $shielded (param i32) (result i32)
    (block $h
      (try_table (catch $other $h) (return (call $dive (local.get 0)))))
    (i32.const -1))
  (func (export "dive") (param i32) (result i32)
    (block $h (result i32)
      (try_table (catch $e $h) (drop (call $shielded (local.get 0))))
      (i32.const 0))))"""


def test_through_ten_thousand_frames(instantiate: Instantiate) -> None:
    instance = instantiate(DEEP)
    for depth in (0, 1, 10_000):
        assert instance.run("dive", depth) == 7


def live_text(count: int) -> str:
    """A function with `count` values that live across a call that throws, and in the handler."""
    params = "(param i32) (result i32)"
    locals_ = "".join(f"(local $a{i} i64) (local $d{i} f64)" for i in range(count))
    sets = "".join(
        f"(local.set $a{i} (i64.mul (i64.extend_i32_s (local.get 0)) (i64.const {i + 3})))"
        f"(local.set $d{i} (f64.mul (f64.convert_i32_s (local.get 0)) (f64.const {i + 5})))"
        for i in range(count)
    )
    total = "".join(
        f"(local.set $a0 (i64.add (local.get $a0) (i64.add (local.get $a{i}) (i64.trunc_f64_s (local.get $d{i})))))"
        for i in range(1, count)
    )
    clobber = "".join(f"(local.set $c{i} (i32.mul (local.get 0) (i32.const {i + 11})))" for i in range(12))
    return f"""(module
      (tag $e (param i32))
      (func $clobber {params} {"".join(f"(local $c{i} i32)" for i in range(12))}
        {clobber}
        (call $leaf (local.get 0))
        {"".join(f"(local.set 0 (i32.xor (local.get 0) (local.get $c{i})))" for i in range(12))}
        (local.get 0))
      (func $leaf (param i32) (if (local.get 0) (then (throw $e (local.get 0)))))
      (func (export "live") {params} {locals_}
        {sets}
        (block $h (result i32)
          (try_table (catch $e $h) (drop (call $clobber (local.get 0))))
          (i32.const 0))
        (drop) {total} (i32.wrap_i64 (local.get $a0))))"""


@pytest.mark.parametrize("count", [3, 8, 24])
def test_values_that_live_across_the_call_are_restored(instantiate: Instantiate, count: int) -> None:
    instance = instantiate(live_text(count))
    for n in (1, 17):
        expected = n * 3 + sum(n * (i + 3) + n * (i + 5) for i in range(1, count))
        assert instance.run("live", n) == expected


NESTED = """(module
  (tag $a (param i32)) (tag $b (param i32)) (tag $c)
  (func $throw (param i32)
    (block (block (block (br_table 0 1 2 (local.get 0)))
      (throw $a (i32.const 1))) (throw $b (i32.const 2)))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $c)))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (unreachable))))
  ;; Says which handler got it: inner or outer, and the value.
  (func (export "nested") (param i32) (result i32)
    (block $outer_all
      (block $outer_b (result i32)
        (block $inner_a (result i32)
          (try_table (catch $b $outer_b) (catch_all $outer_all)
            (try_table (catch $a $inner_a) (call $throw (local.get 0))))
          (return (i32.const 0)))
        (return (i32.add (i32.const 10))))
      (return (i32.add (i32.const 20))))
    (i32.const 30))
  ;; A loop's label, and a handler that throws again, at the same place.
  (func (export "again") (param i32) (result i32) (local $n i32)
    (loop $again (param) (result i32)
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (block $done
        (try_table (catch_all $again)
          (if (i32.eq (local.get $n) (local.get 0)) (then (br $done)))
          (throw $c)))
      (local.get $n)))
  (func (export "rethrow") (param i32) (result i32) (local $n i32)
    (block $h (result i32 exnref)
      (try_table (catch_ref $a $h)
        (block $inner (result exnref)
          (try_table (catch_all_ref $inner) (call $throw (local.get 0)))
          (return (i32.const -1)))
        (local.set $n (i32.const 100))
        (throw_ref))
      (unreachable))
    (drop) (i32.add (local.get $n)))
  (func (export "null") (throw_ref (ref.null exn)))
  ;; A clause that comes twice, and what is behind a catch_all.
  (func (export "twice") (result i32)
    (block $second (result i32) (block $first (result i32)
      (try_table (catch $a $first) (catch $a $second) (throw $a (i32.const 5))) (unreachable))
      (return (i32.add (i32.const 1000))))
    (drop) (i32.const 1))
  (func (export "all first") (result i32)
    (block $second (result i32) (block $first
      (try_table (catch_all $first) (catch $a $second) (throw $a (i32.const 5))) (unreachable))
      (return (i32.const 9)))
    (drop) (i32.const 1))
  (func (export "empty") (result i32)
    (block $h (result i32) (try_table (catch $a $h) (try_table (call $throw (i32.const 0)))) (i32.const 0))))"""


def test_which_handler(instantiate: Instantiate) -> None:
    instance = instantiate(NESTED)
    assert [instance.run("nested", n) for n in (0, 1, 2, 4)] == [11, 22, 30, 0]
    with pytest.raises(lucet.Trap, match="unreachable"):  # which no catch_all takes
        instance.run("nested", 3)
    assert [instance.run("again", n) for n in (1, 2, 50)] == [1, 2, 50]
    assert instance.run("rethrow", 0) == 101
    with pytest.raises(lucet.WasmException):
        instance.run("rethrow", 1)
    with pytest.raises(lucet.Trap, match="null exception reference"):
        instance.run("null")
    assert instance.run("twice") == 1005
    assert instance.run("all first") == 9
    assert instance.run("empty") == 1


NOT_CAUGHT = """(module
  (tag $e)
  (memory 1)
  (func $overflow (call $overflow))
  (func (export "trap") (param i32) (result i32)
    (block $h
      (try_table (catch_all $h)
        (if (i32.eq (local.get 0) (i32.const 0)) (then (drop (i32.div_s (i32.const 1) (i32.const 0)))))
        (if (i32.eq (local.get 0) (i32.const 1)) (then (drop (i32.load (i32.const -1)))))
        (if (i32.eq (local.get 0) (i32.const 2)) (then (call $overflow)))
        (if (i32.eq (local.get 0) (i32.const 3)) (then (throw_ref (ref.null exn)))))
      (return (i32.const 0)))
    (i32.const 1)))"""


def test_traps_are_not_caught(instantiate: Instantiate) -> None:
    instance = instantiate(NOT_CAUGHT)
    for n, message in enumerate(
        ("integer divide by zero", "out of bounds memory access", "call stack exhausted", "null exception reference")
    ):
        with pytest.raises(lucet.Trap, match=message):
            instance.run("trap", n)
    assert instance.run("trap", 4) == 0


def tail_text(few: int, many: int) -> str:
    """A handler above a chain of tail calls between functions with few and with many parameters."""

    def params(count: int) -> str:
        return f"(param i32 {'i64 ' * count})"

    def arguments(count: int) -> str:
        return "".join(f"(i64.add (local.get 1) (i64.const {i}))" for i in range(count))

    def function(name: str, own: int, callee: str, other: int) -> str:
        return f"""(func ${name} {params(own)} (result i64)
            (if (i32.eqz (local.get 0)) (then (throw $e (i64.add (local.get {own}) (local.get 1)))))
            (return_call ${callee} (i32.sub (local.get 0) (i32.const 1)) {arguments(other)}))"""

    return f"""(module
      (tag $e (param i64))
      {function("few", few, "many", many)} {function("many", many, "few", few)}
      (func $keep (export "keep") (param i32 i64) (result i64) (local i64 i64 i64 i64 i64 i64)
        (local.set 2 (i64.mul (local.get 1) (i64.const 3))) (local.set 3 (i64.mul (local.get 1) (i64.const 5)))
        (local.set 4 (i64.mul (local.get 1) (i64.const 7))) (local.set 5 (i64.mul (local.get 1) (i64.const 11)))
        (local.set 6 (i64.mul (local.get 1) (i64.const 13))) (local.set 7 (i64.mul (local.get 1) (i64.const 17)))
        (block $h (result i64)
          (try_table (catch $e $h)
            (return (call $few (local.get 0) {"(local.get 1)" * few})))
          (unreachable))
        (drop)
        (i64.add (i64.add (i64.add (local.get 2) (local.get 3)) (i64.add (local.get 4) (local.get 5)))
                 (i64.add (local.get 6) (local.get 7))))
      (func (export "between") (param i32 i64) (result i64)
        (i64.add (call $keep (local.get 0) (local.get 1)) (call $keep (local.get 0) (i64.const 1)))))"""


@pytest.mark.parametrize(("few", "many"), [(1, 2), (1, 9), (9, 20), (20, 3), (5, 6), (6, 7)])
def test_out_of_tail_calls(instantiate: Instantiate, few: int, many: int) -> None:
    instance = instantiate(tail_text(few, many))
    for n in (0, 1, 2, 100_001):
        assert instance.run("between", n, 2) == 56 * 3


RETURN_CALL = """(module
  (import "host" "f" (func $imported))
  (tag $e (export "e"))
  (func $throw (throw $e))
  (table funcref (elem $throw))
  (table $d (export "d") funcref (elem $imported))
  (func (export "direct") (result i32)
    (block $h (try_table (catch_all $h) (return_call $gives)) (unreachable)) (i32.const 1))
  (func $gives (result i32) (throw $e))
  (func (export "imported")
    (block $h (try_table (catch_all $h) (return_call $imported))))
  (func (export "indirect")
    (block $h (try_table (catch_all $h) (return_call_indirect (i32.const 0)))))
  (func (export "dynamic")
    (block $h (try_table (catch_all $h) (return_call_indirect $d (i32.const 0)))))
  (func (export "call")
    (block $h (try_table (catch_all $h) (call $imported)))))"""


def test_a_tail_call_has_left_its_try_table(instantiate: Instantiate) -> None:
    tag = lucet.Tag()

    @lucet.host_function
    def throw() -> None:
        raise lucet.WasmException(tag)

    instance = instantiate(RETURN_CALL, {"host": {"f": throw}})
    for name in ("direct", "imported", "indirect", "dynamic"):
        with pytest.raises(lucet.WasmException):
            instance.run(name)
    assert instance.run("call") is None


LEGACY = """(module
  (import "host" "f" (func $host (param i32)))
  (tag $a (param i32)) (tag $b (param i64)) (tag $c)
  (func $throw (param i32)
    (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $a (i32.const 10))))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $b (i64.const 20))))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (throw $c)))
    (call $host (local.get 0)))
  (func (export "clauses") (param i32) (result i32) (local $n i32)
    (local.set $n (i32.const 100))
    (try (result i32)
      (do (local.set $n (i32.const 200)) (call $throw (local.get 0)) (local.set $n (i32.const 300)) (i32.const 1))
      (catch $a (i32.add (local.get $n)))
      (catch $b (i32.wrap_i64) (i32.add (local.get $n)))
      (catch_all (local.get $n))))
  ;; Thrown again, to the handler outside, after another exception came and went.
  (func (export "again") (param i32) (result i32)
    (try (result i32)
      (do
        (try (result i32)
          (do (call $throw (local.get 0)) (i32.const 0))
          (catch_all
            (try (do (throw $a (i32.const 77))) (catch $a drop))
            (rethrow 0))))
      (catch $a)
      (catch $b (i32.wrap_i64))))
  ;; Past a handler in between, to the one that the label names, or out of the function.
  (func (export "delegate") (param i32) (result i32)
    (try $outer (result i32)
      (do
        (try $skipped (result i32)
          (do (try (result i32) (do (call $throw (local.get 0)) (i32.const 0)) (delegate $outer)))
          (catch_all (i32.const -1))))
      (catch $a (i32.const 5) (i32.add))))
  (func (export "delegate out") (param i32) (result i32)
    (try $skipped (result i32)
      (do (try (result i32) (do (call $throw (local.get 0)) (i32.const 0)) (delegate 1)))
      (catch_all (i32.const -1))))
  ;; A clause is not in its own try; nor is what is behind the end. In a loop, in a try_table.
  (func (export "mixed") (param i32) (result i32) (local $n i32)
    (block $all
      (try_table (catch_all $all)
        (loop $again
          (try
            (do (call $throw (local.get 0)) (throw $c))
            (catch $c
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if $again (i32.lt_s (local.get $n) (i32.const 10)))
              (throw $c))))
        (unreachable)))
    (local.get $n))
  (func (export "no clause") (param i32) (try (do (call $throw (local.get 0))))))"""


def test_the_first_proposal(instantiate: Instantiate) -> None:
    @lucet.host_function
    def nothing(n: lucet.i32) -> None:
        if n == 9:
            raise lucet.WasmException(lucet.Tag())

    instance = instantiate(LEGACY, {"host": {"f": nothing}})
    assert [instance.run("clauses", n) for n in (0, 1, 2, 3, 9)] == [1, 210, 220, 200, 200]
    assert [instance.run("again", n) for n in (0, 1, 2)] == [0, 10, 20]
    assert [instance.run("delegate", n) for n in (0, 1)] == [0, 15]
    assert instance.run("delegate out", 0) == 0
    assert [instance.run("mixed", n) for n in (0, 3, 1)] == [10, 10, 0]
    assert instance.run("no clause", 0) is None
    for name, n in (("again", 3), ("again", 9), ("delegate", 2), ("delegate out", 1), ("no clause", 2)):
        with pytest.raises(lucet.WasmException):
            instance.run(name, n)
