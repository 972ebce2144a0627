"""v128 values across the Python boundary: 16 bytes, in both directions and at every place where a value can cross."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

import lucet
from lucet.abi.artifact_reader import read_artifact
from lucet.abi.tables import STRUCTS
from lucet.runtime import Func, Global, Table

Load = Callable[[str], lucet.Module]

A = bytes(range(16))
B = bytes(range(100, 116))
C = bytes(range(200, 216))

MODULE = """(module
  (global $g (export "g") (mut v128) (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
  (global (export "constant") v128 (v128.const i32x4 1 2 3 4))
  (global (mut i32) (i32.const 0))
  (global $odd (export "odd") (mut v128) (v128.const i64x2 -1 0))
  (func (export "same") (param v128) (result v128) (local.get 0))
  (func (export "global") (result v128) (global.get $g))
  (func (export "mixed") (param i32 v128 f32 v128 i64) (result i64 v128 f32 v128 i32)
    (local.get 4) (local.get 3) (local.get 2) (local.get 1) (local.get 0))
  (func (export "two") (param v128 v128) (result v128 v128) (local.get 1) (local.get 0))
  (func $many (export "many") (param i32 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 i32 v128)
    (result v128 i32 v128)
    (i8x16.add (local.get 1) (local.get 12)) (i32.add (local.get 0) (local.get 11)) (local.get 9))
  (func (export "many indirectly") (param v128 v128) (result v128 i32 v128) (local v128)
    (call $many (i32.const 1) (local.get 0) (local.get 2) (local.get 2) (local.get 2) (local.get 2) (local.get 2)
      (local.get 2) (local.get 2) (local.get 1) (local.get 2) (i32.const 2) (local.get 0))))"""


def func(instance: lucet.Instance, name: str) -> Func:
    exported = instance.exports[name]
    assert isinstance(exported, Func)
    return exported


def glob(instance: lucet.Instance, name: str) -> Global:
    exported = instance.exports[name]
    assert isinstance(exported, Global)
    return exported


def test_arguments_and_results(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(MODULE))
    assert instance.run("same", A) == A
    assert instance.run("two", A, B) == (B, A)
    assert instance.run("mixed", -1, A, 0.5, B, 1 << 40) == (1 << 40, B, 0.5, A, -1)
    double = bytes(2 * byte & 0xFF for byte in B)
    assert instance.run("many", 3, B, A, A, A, A, A, A, A, C, A, 4, B) == (double, 7, C)
    assert instance.run("many indirectly", B, C) == (double, 3, C)
    assert str(func(instance, "mixed").type) == "[i32 v128 f32 v128 i64] -> [i64 v128 f32 v128 i32]"


def test_lane_0_comes_first(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(MODULE))
    assert glob(instance, "constant").value == struct.pack("<4i", 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (A[:15], ValueError, "a v128 is 16 bytes, not 15"),
        (A + b"\0", ValueError, "a v128 is 16 bytes, not 17"),
        (b"", ValueError, "a v128 is 16 bytes, not 0"),
        (1, TypeError, "v128 expected, got int"),
        (None, TypeError, "v128 expected, got NoneType"),
        (bytearray(A), TypeError, "v128 expected, got bytearray"),
    ],
)
def test_what_is_no_v128_is_refused(
    load: Load, region: lucet.Region, value: object, error: type[Exception], message: str
) -> None:
    instance = region.new_instance(load(MODULE))
    with pytest.raises(error, match=message):
        instance.run("same", value)
    with pytest.raises(error, match=message):
        instance.run("two", A, value)
    with pytest.raises(error, match=message):
        glob(instance, "g").value = value
    assert glob(instance, "g").value == A


def test_globals(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(MODULE))
    g, odd = glob(instance, "g"), glob(instance, "odd")
    assert g.value == instance.run("global") == A
    g.value = B
    assert g.value == instance.run("global") == B
    assert odd.value == b"\xff" * 8 + bytes(8)
    assert odd.get_raw() == (1 << 64) - 1
    odd.value = A
    assert odd.get_raw() == int.from_bytes(A, "little")
    assert g.value == B
    instance.reset()
    assert g.value == A


def test_imported_globals(load: Load, region: lucet.Region) -> None:
    exporter = region.new_instance(load(MODULE))
    importer = load(
        """(module (import "m" "g" (global $g (mut v128))) (import "m" "constant" (global $c v128))
          (import "h" "value" (global $v v128)) (import "h" "one" (global i32))
          (global (export "copy") v128 (global.get $v))
          (func (export "set") (param v128) (global.set $g (local.get 0)))
          (func (export "sum") (result v128) (i8x16.add (global.get $c) (global.get $v))))"""
    )
    instance = region.new_instance(importer, {"m": dict(exporter.exports), "h": {"value": B, "one": 1}})
    instance.run("set", C)
    assert glob(exporter, "g").value == C
    assert glob(instance, "copy").value == B
    ones = struct.pack("<4i", 1, 2, 3, 4)
    assert instance.run("sum") == bytes(x + y for x, y in zip(B, ones, strict=True))
    with pytest.raises(ValueError, match="16 bytes"):
        region.new_instance(importer, {"m": dict(exporter.exports), "h": {"value": b"", "one": 1}})
    with pytest.raises(TypeError, match="i32 expected, got bytes"):
        region.new_instance(importer, {"m": dict(exporter.exports), "h": {"value": B, "one": B}})


def test_bit_patterns(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(MODULE))
    a, b = (int.from_bytes(value, "little") for value in (A, B))
    assert func(instance, "two").call_raw([a, b]) == [b, a]
    assert func(instance, "mixed").call_raw([7, a, 8, b, 9]) == [9, b, 8, a, 7]
    assert func(instance, "same").call_raw([-1]) == [(1 << 128) - 1]
    with pytest.raises(TypeError):
        func(instance, "same").call_raw(["0"])  # type: ignore[list-item]


CALLER = """(module
  (import "host" "f" (func $f (param i32 v128 v128) (result v128 i32)))
  (import "host" "g" (func $g (param v128) (result v128)))
  (func (export "f") (param v128 i32) (result i32 v128) (local $v v128)
    (call $f (local.get 1) (local.get 0) (v128.const i8x16 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1))
    (local.set 1) (local.set $v) (local.get 1) (local.get $v))
  (func (export "g") (param v128 v128) (result v128) (i8x16.add (call $g (local.get 0)) (local.get 1))))"""


@lucet.host_function
def swapped(number: lucet.i32, left: lucet.v128, right: lucet.v128) -> tuple[lucet.v128, lucet.i32]:
    assert right == b"\1" * 16
    return left[::-1], number + 1


def test_host_functions(load: Load, region: lucet.Region) -> None:
    @lucet.host_function
    def g(value: lucet.v128) -> lucet.v128:
        return value[::-1]

    instance = region.new_instance(load(CALLER), {"host": {"f": swapped, "g": g}})
    assert instance.run("f", A, 41) == (42, A[::-1])
    assert instance.run("g", A, A) == b"\x0f" * 16


@pytest.mark.parametrize(("result", "error"), [(b"short", ValueError), (17, TypeError), (None, TypeError)])
def test_a_host_function_must_return_16_bytes(
    load: Load, region: lucet.Region, result: bytes, error: type[Exception]
) -> None:
    @lucet.host_function
    def g(value: lucet.v128) -> lucet.v128:
        return result

    instance = region.new_instance(load(CALLER), {"host": {"f": swapped, "g": g}})
    with pytest.raises(error, match=r"v128"):
        instance.run("g", A, A)


def test_other_annotations_do_not_fit(load: Load, region: lucet.Region) -> None:
    @lucet.host_function
    def g(value: lucet.i64) -> lucet.i64:
        return value

    with pytest.raises(lucet.LinkError, match="incompatible import type"):
        region.new_instance(load(CALLER), {"host": {"f": swapped, "g": g}})


def test_vectors_survive_a_suspension(load: Load, region: lucet.Region) -> None:
    @lucet.host_function
    def g(value: lucet.v128) -> lucet.v128 | lucet.Suspend:
        return lucet.Suspend(value)

    instance = region.new_instance(load(CALLER), {"host": {"f": swapped, "g": g}})
    suspended = instance.run("g", A, B)
    assert isinstance(suspended, lucet.Suspended)
    assert suspended.value == A
    with pytest.raises(ValueError, match="16 bytes"):
        suspended.resume(b"")
    assert suspended.resume(C) == bytes((x + y) & 0xFF for x, y in zip(B, C, strict=True))


def test_guests_take_references_to_functions_of_vectors(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(
        load(
            """(module (type $t (func (param v128 v128) (result v128 v128))) (table (export "t") 1 funcref)
              (func $f (export "f") (type $t) (local.get 1) (local.get 0)) (elem (i32.const 0) $f)
              (func (export "call") (param v128 v128) (result v128 v128)
                (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0))))"""
        )
    )
    assert instance.run("call", A, B) == (B, A)
    table = instance.exports["t"]
    assert isinstance(table, Table)
    assert table.get(0)(A, B) == (B, A)


def test_tail_calls_with_more_vectors_than_registers(load: Load, region: lucet.Region) -> None:
    params = " ".join(["v128"] * 12)
    rotated = " ".join(f"(local.get {1 + (index + 1) % 12})" for index in range(12))
    instance = region.new_instance(
        load(
            f"""(module (func $f (export "f") (param i32 {params}) (result {params})
              (if (i32.eqz (local.get 0)) (then {" ".join(f"(local.get {index + 1})" for index in range(12))} (return)))
              (return_call $f (i32.sub (local.get 0) (i32.const 1)) {rotated})))"""
        )
    )
    values = [bytes([index] * 16) for index in range(12)]
    assert instance.run("f", 5, *values) == (*values[5:], *values[:5])


def test_exceptions_carry_vectors(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(
        load(
            """(module (tag $e (export "e") (param v128 i32 v128))
              (func $throw (export "throw") (param v128 v128) (throw $e (local.get 0) (i32.const 5) (local.get 1)))
              (func (export "catch") (param v128 v128) (result v128 i32 v128)
                (block $caught (result v128 i32 v128)
                  (try_table (catch $e $caught) (call $throw (local.get 0) (local.get 1)))
                  (unreachable))))"""
        )
    )
    assert instance.run("catch", A, B) == (A, 5, B)
    with pytest.raises(lucet.WasmException) as caught:
        instance.run("throw", B, C)
    assert caught.value.values == (B, 5, C)


@pytest.mark.parametrize(("moved", "loads"), [(-32, True), (-24, False), (-28, False)])
def test_the_loader_wants_vector_globals_aligned(moved: int, loads: bool) -> None:
    """Generated code accesses them with instructions that want it."""
    globals_ = '(global (export "g") (mut v128) (v128.const i64x2 1 2)) (global (mut v128) (v128.const i64x2 0 0))'
    data = bytearray(lucet.compile(f"(module {globals_} (global (mut v128) (v128.const i64x2 0 0)))", workers=1))
    header, fields = read_artifact(bytes(data)).header, STRUCTS["artifact_header"].fields
    at = header["globals_rva"] + STRUCTS["global"].fields["offset"].offset  # offsets in the file are addresses
    offset = int.from_bytes(data[at : at + 4], "little", signed=True) + moved
    last = at + 2 * STRUCTS["global"].size
    data[last : last + 4] = data[at : at + 4]
    data[at : at + 4] = offset.to_bytes(4, "little", signed=True)
    checksum = header["self_rva"] + fields["checksum"].offset
    data[checksum : checksum + 4] = bytes(4)
    data[checksum : checksum + 4] = zlib.crc32(data).to_bytes(4, "little")
    if loads:
        lucet.Module.from_bytes(data)
    else:
        with pytest.raises(lucet.ArtifactError, match="bad global"):
            lucet.Module.from_bytes(data)
