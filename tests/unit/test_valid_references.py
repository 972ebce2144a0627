"""Validation of typed references: matching, bottom types in unreachable code, and locals without a default value."""

from __future__ import annotations

import pytest

from lucet.errors import Invalid, Malformed
from lucet.wasm.check import check_module
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import FuncType

TYPES = """
  (type $f (func (param i32) (result i32))) (type $same (func (param i32) (result i32))) (type $g (func))
  (type $self (func (param (ref null $self)))) (type $other (func (param (ref null $self))))
  (func $f0 (type $f) (local.get 0)) (func $g0 (type $g)) (func $s0 (type $self))
  (elem declare func $f0 $g0 $s0)"""


def check(fields: str) -> None:
    check_module(text_to_binary(f"(module {TYPES} {fields})"))


@pytest.mark.parametrize(
    "fields",
    [
        # Types are what they are made of, not where they stand.
        "(func (result (ref $same)) (ref.func $f0))",
        "(func (param (ref null $same)) (result i32) (call_ref $f (i32.const 1) (local.get 0)))",
        # A type that refers to itself is not the one that refers to it, though both unroll to the same.
        "(func (param (ref $self)) (call_ref $self (local.get 0) (local.get 0)))",
        "(func (param (ref $self) (ref $other)) (call_ref $other (local.get 0) (local.get 1)))",
        # Subtypes where a supertype is expected
        "(func (result funcref) (ref.func $f0))",
        "(func (param nullfuncref) (result (ref null $f)) (local.get 0))",
        "(func (result funcref) (if (result funcref) (i32.const 0) (then (ref.func $f0)) (else (ref.null nofunc))))",
        "(func (result funcref) (block (result funcref) (br 0 (ref.func $f0))))",
        "(func (param (ref $f)) (result funcref) (if (param (ref $f)) (result funcref) (local.get 0) (i32.const 1)"
        " (then)))",
        "(func (param (ref $f)) (result funcref) (return_call $f1 (local.get 0)))"
        "(func $f1 (param funcref) (result (ref $f)) (ref.func $f0))",
        "(func (result funcref externref) (block (result funcref externref)"
        " (br_table 0 1 (ref.func $f0) (ref.null noextern) (i32.const 0))))",
        "(table 1 (ref $f) (ref.func $f0)) (table 1 funcref) (func (table.copy 1 0 (i32.const 0) (i32.const 0)"
        " (i32.const 0)))",
        "(table 1 funcref) (elem $e (ref $f) (ref.func $f0)) (func (table.init 0 $e (i32.const 0) (i32.const 0)"
        " (i32.const 0)))",
        "(table 1 (ref func) (ref.func $f0)) (elem (table 0) (i32.const 0) func $f0)",
        "(global (ref $f) (ref.func $f0)) (global funcref (global.get 0)) (table 1 (ref null $f))"
        " (func (result i32) (call_indirect (type $f) (i32.const 1) (i32.const 0)))",
        # Unreachable code
        "(func (unreachable) (call_ref $f) (drop))",
        "(func (result (ref $f)) (unreachable) (ref.as_non_null))",
        "(func (result (ref extern)) (unreachable) (ref.as_non_null))",
        "(func (result i32) (unreachable) (ref.is_null))",
        "(func (unreachable) (br_on_null 0) (drop))",
        "(func (result (ref $f)) (unreachable) (br_on_non_null 0) (unreachable))",
        "(func (result (ref $f) i32) (unreachable) (br_on_null 0) (drop) (return))",
        "(func (result i32 funcref) (unreachable) (select (i32.const 1)) (ref.func $f0) (br 0))",
        "(func (result funcref funcref) (unreachable) (select (i32.const 1)) (ref.func $f0) (br 0))",
        # Locals
        "(func (local (ref $f)) (local.set 0 (ref.func $f0)) (drop (local.get 0)))",
        "(func (local (ref $f)) (drop (local.tee 0 (ref.func $f0))) (block (drop (local.get 0))))",
        "(func (param (ref $f)) (local (ref null $f) (ref $f) i32) (drop (local.get 0)) (drop (local.get 1))"
        " (drop (local.get 3)))",
        "(func (local (ref $f)) (block (local.set 0 (ref.func $f0)) (drop (local.get 0))))",
        "(func (local (ref $f)) (unreachable) (local.set 0) (drop (local.get 0)))",
        # Twice, so that the end of the inner block must leave what the outer one knew.
        "(func (local (ref $f)) (block (local.set 0 (ref.func $f0)) (block (local.set 0 (ref.func $f0)))"
        " (drop (local.get 0))))",
    ],
)
def test_valid(fields: str) -> None:
    check(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("(func (result (ref $g)) (ref.func $f0))", "type mismatch"),
        ("(func (result (ref $f)) (ref.null $f))", "type mismatch"),
        ("(func (result (ref null $f)) (ref.null func))", "type mismatch"),
        ("(func (param (ref $self)) (result (ref $other)) (local.get 0))", "type mismatch"),
        ("(func (param funcref) (call_ref $g (local.get 0)))", "type mismatch: call_ref expects (ref null #"),
        ("(func (param (ref $f)) (call_ref $g (local.get 0)))", "type mismatch"),
        ("(func (result i32) (call_ref $f (i64.const 1) (ref.func $f0)))", "type mismatch"),
        ("(func (call_ref 99 (ref.func $f0)))", "unknown type 99"),
        (
            "(func (result (ref $f)) (return_call 4)) (func (result funcref) (ref.func $f0))",
            "type mismatch",
        ),
        ("(func (ref.as_non_null (i32.const 1)) (drop))", "type mismatch: ref.as_non_null expects a reference"),
        ("(func (br_on_null 0 (i32.const 1)) (drop))", "type mismatch: br_on_null expects a reference"),
        ("(func (br_on_non_null 0 (ref.null func)))", "type mismatch: br_on_non_null to label 0"),
        ("(func (result i32) (unreachable) (br_on_non_null 0))", "type mismatch: br_on_non_null to label 0"),
        ("(func (result (ref $f)) (br_on_non_null 0 (ref.func $g0)) (unreachable))", "type mismatch"),
        ("(func (br_on_null 5 (ref.null func)))", "unknown label 5"),
        ("(func (drop (select (ref.func $f0) (ref.func $f0) (i32.const 1))))", "type mismatch"),
        ("(func (unreachable) (ref.as_non_null) (i32.eqz) (drop))", "type mismatch"),
        ("(func (unreachable) (ref.as_non_null) (select (i32.const 1)) (drop))", "type mismatch"),
        ("(func (result i32) (unreachable) (br_on_null 0) (ref.is_null) (i64.eqz))", "type mismatch"),
        ("(table 1 (ref $f))", "type mismatch: a table of (ref #"),
        ("(table 1 (ref $f) (ref.null $f))", "type mismatch"),
        ("(table 1 (ref $f) (global.get 0)) (global (ref $f) (ref.func $f0))", "unknown global 0"),
        ("(table 1 (ref $f) (ref.func $f0)) (elem (table 0) (i32.const 0) func $f0)", "type mismatch: a segment of"),
        ("(table 1 externref) (func (call_indirect (type $g) (i32.const 0)))", "type mismatch: an indirect call"),
        (
            "(table 1 funcref) (table 1 (ref null $f)) (func (unreachable) (table.copy 1 0))",
            "type mismatch: table.copy",
        ),
        ("(global (mut (ref $f)) (ref.func $g0))", "type mismatch"),
        ("(func (local (ref $f)) (drop (local.get 0)))", "uninitialized local 0"),
        (
            "(func (local i32 (ref $f)) (block (local.set 1 (ref.func $f0))) (drop (local.get 1)))",
            "uninitialized local 1",
        ),
        (
            "(func (local (ref $f)) (if (i32.const 1) (then (local.set 0 (ref.func 0))) (else (drop (local.get 0)))))",
            "uninitialized local 0",
        ),
        ("(func (local (ref $f)) (unreachable) (drop (local.get 0)))", "uninitialized local 0"),
        ("(func (local (ref $f)) (local.get 1))", "unknown local 1"),
        ("(func (local (ref $f)) (local.set 1 (ref.func $f0)))", "unknown local 1"),
        ("(func (local (ref $f)) (local.set 0 (ref.null $f)))", "type mismatch"),
    ],
)
def test_invalid(fields: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(fields)
    assert caught.value.message.startswith(message)
    assert caught.value.function is not None or "func (" not in fields


def test_types_know_only_those_before_them() -> None:
    with pytest.raises(Invalid, match="unknown type 1"):
        check_module(text_to_binary("(module (type (func (param (ref 1)))) (type (func)))"))
    module = check_module(text_to_binary("(module (type (func)) (type (func (param (ref 0) (ref null 1)))))"))
    assert module.types[1].params == (FuncType().ref(), "(ref null #rec.0)")


def test_a_group_of_one_type_is_that_type() -> None:
    plain = decode_module(b"\0asm\1\0\0\0" + b"\1\6\1\x60\1\x64\0\0")
    for form in (b"\x4e\1\x60\1\x64\0\0", b"\x4f\0\x60\1\x64\0\0", b"\x4e\1\x4f\0\x60\1\x64\0\0"):
        assert decode_module(b"\0asm\1\0\0\0\1" + bytes([len(form) + 1, 1]) + form).types == plain.types


def test_types_of_one_identity_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FuncType, "type_id", lambda self: 5)
    decode_module(text_to_binary("(module (type (func)) (type (func)))"))
    with pytest.raises(Malformed, match="type 1 has the identity of another type"):
        decode_module(text_to_binary("(module (type (func)) (type (func (param i32))))"))
