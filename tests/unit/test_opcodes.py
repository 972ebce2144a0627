"""The instruction table against what the names alone say."""

from __future__ import annotations

import re

import pytest

from lucet.wasm import opcodes
from lucet.wasm.opcodes import BY_NAME, FAMILIES, FEATURES, IMMEDIATES, OPS, Op

ALL = pytest.mark.parametrize("op", OPS.values(), ids=[op.name for op in OPS.values()])

NUMBERS = ("i32", "i64", "f32", "f64")
FIRST_FEATURES = {"mvp", "sign_extension", "saturating", "bulk_memory", "reference_types", "tail_call"}


def test_complete_and_unique() -> None:
    assert len(OPS) == len(BY_NAME) == len(opcodes._TABLE)
    assert sum(op.feature in FIRST_FEATURES for op in OPS.values()) == 203
    assert {op.family for op in OPS.values()} == set(FAMILIES)
    assert {op.immediates for op in OPS.values()} == {"", *IMMEDIATES}
    # multi_value changed block types and function types, and brought no instruction.
    assert {op.feature for op in OPS.values()} == set(FEATURES) - {"multi_value"}


def test_ranges_without_gaps() -> None:
    assert [code for code in OPS if 0x28 <= code <= 0xC4] == list(range(0x28, 0xC5))
    assert sorted(code for code in OPS if code >> 8 == 0xFC) == [*range(0xFC00, 0xFC12), *range(0xFC13, 0xFC17)]


def test_unsupported_ones_are_others() -> None:
    assert not opcodes.UNSUPPORTED_OPS.keys() & OPS.keys()
    prefixed = {opcodes.prefixed_code(*pair) for pair in opcodes.UNSUPPORTED_PREFIXED}
    assert not prefixed & OPS.keys()
    assert not opcodes.PREFIXES & (OPS.keys() | opcodes.UNSUPPORTED_OPS.keys())
    here = {opcodes.split_code(code)[0] for code in OPS if code > 0xFF}
    assert {prefix for prefix, _ in opcodes.UNSUPPORTED_PREFIXED} | here == opcodes.PREFIXES


@pytest.mark.parametrize(("prefix", "number"), [(0xFC, 0), (0xFD, 0xFF), (0xFD, 0x100), (0xFD, 0x113), (0xFE, 0x4E)])
def test_codes_of_prefixed_ones_can_be_taken_apart(prefix: int, number: int) -> None:
    assert opcodes.split_code(opcodes.prefixed_code(prefix, number)) == (prefix, number)


def test_vector_instructions_are_those_of_the_specification() -> None:
    assert sum(op.feature == "simd" for op in OPS.values()) == 236
    assert [op.code for op in OPS.values() if op.feature == "relaxed_simd"] == list(range(0xFD100, 0xFD114))


@ALL
def test_lanes(op: Op) -> None:
    assert (op.lanes is not None) == (op.immediates in ("lane", "lanes", "memarg_lane"))
    if op.immediates == "memarg_lane":
        assert op.align is not None
        assert op.lanes == 16 >> op.align
    elif op.immediates == "lane":
        assert op.lanes == int(op.name.split(".")[0].split("x")[1])


@ALL
def test_vector_signatures(op: Op) -> None:
    shape, _, name = op.name.partition(".")
    if op.family == "vector" and name.startswith(("relaxed_madd", "relaxed_nmadd", "relaxed_laneselect")):
        assert op.pops == ("v128",) * 3
    if op.family.startswith("vector") and "x" in shape and op.pushes != ("v128",):
        assert name in ("all_true", "bitmask") or name.startswith("extract_lane")
    if name.startswith(("extract_lane", "splat", "replace_lane")):
        lane = "i32" if shape in ("i8x16", "i16x8") else shape.split("x")[0]
        signatures = {"e": (("v128",), (lane,)), "s": ((lane,), ("v128",)), "r": (("v128", lane), ("v128",))}
        assert (op.pops, op.pushes) == signatures[name[0]]


@ALL
def test_atomic_signatures(op: Op) -> None:
    access = re.fullmatch(r"(i32|i64)\.atomic\.(load|store|rmw)(\d*)(?:\.(\w+?))?(_u)?", op.name)
    assert (access is not None) == (op.family == "atomic" and op.code >= 0xFE10)
    if access is None or op.align is None:
        return
    valtype, kind, bits, operation, unsigned = access.groups()
    assert 8 << op.align == int(bits or valtype[1:])
    assert (unsigned is not None) == (kind != "store" and bool(bits))
    operands = {"load": 0, "store": 1, "rmw": 2 if operation == "cmpxchg" else 1}[kind]
    assert (op.pops, op.pushes) == (("i32", *[valtype] * operands), () if kind == "store" else (valtype,))


def test_atomic_codes() -> None:
    codes = sorted(op.code for op in OPS.values() if op.feature == "threads")
    assert codes == [*range(0xFE00, 0xFE04), *range(0xFE10, 0xFE4F)]


@ALL
def test_irregular_ones_have_no_signature(op: Op) -> None:
    if op.irregular:
        assert op.pops == op.pushes == ()


@ALL
def test_loads_and_stores(op: Op) -> None:
    if op.family.startswith("vector") or op.family == "atomic":
        return
    access = re.fullmatch(r"([if])(32|64)\.(load|store)(\d*)(_[su])?", op.name)
    assert (access is not None) == (op.align is not None) == (op.immediates == "memarg")
    assert (op.family in ("load", "store")) == (access is not None)
    if access is None or op.align is None:
        return
    valtype = op.name[:3]
    assert 8 << op.align == int(access[4] or access[2])
    assert op.family == access[3]
    assert (op.pops, op.pushes) == ((("i32",), (valtype,)) if op.family == "load" else (("i32", valtype), ()))


@ALL
def test_vector_loads_and_stores(op: Op) -> None:
    access = re.fullmatch(r"v128\.(load|store)(?:(\d+)(?:x(\d))?_(s|u|splat|zero|lane))?", op.name)
    assert (access is not None) == (op.family in ("vector_load", "vector_store"))
    if access is None or op.align is None:
        return
    assert 8 << op.align == int(access[2] or 128) * int(access[3] or 1)
    assert op.family == f"vector_{access[1]}"
    assert op.pops == (("i32", "v128") if access[1] == "store" or access[4] == "lane" else ("i32",))
    assert op.pushes == (("v128",) if access[1] == "load" else ())


@ALL
def test_numeric_signatures(op: Op) -> None:
    valtype = op.name[:3]
    if op.family == "const":
        assert (op.pops, op.pushes, op.immediates) == ((), (valtype,), valtype)
    elif op.family == "test":
        assert (op.pops, op.pushes) == ((valtype,), ("i32",))
    elif op.family == "compare":
        assert (op.pops, op.pushes) == ((valtype, valtype), ("i32",))
    elif op.family == "unary":
        assert (op.pops, op.pushes) == ((valtype,), (valtype,))
    elif op.family == "binary":
        assert (op.pops, op.pushes) == ((valtype, valtype), (valtype,))
    elif op.family == "convert":
        source = next(word for word in op.name.split("_") if word in NUMBERS)
        assert (op.pops, op.pushes) == ((source,), (valtype,))
    else:
        assert op.name.split(".")[0] not in NUMBERS or op.family in ("load", "store", "wide", "atomic")


@ALL
def test_features(op: Op) -> None:
    assert (op.feature == "saturating") == (".trunc_sat" in op.name and op.family == "convert")
    assert (op.feature == "sign_extension") == bool(re.fullmatch(r"i\d\d\.extend\d+_s", op.name))
    assert (op.feature == "tail_call") == (op.name in ("return_call", "return_call_indirect"))
    assert (op.feature == "reference_types") == (
        op.name in ("ref.null", "ref.is_null", "ref.func", "select_t")
        or op.name in [f"table.{x}" for x in ("get", "set", "size", "grow", "fill")]
    )
