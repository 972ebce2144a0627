"""The instruction table against what the names alone say."""

from __future__ import annotations

import re

import pytest

from lucet.wasm import opcodes
from lucet.wasm.opcodes import BY_NAME, FAMILIES, FEATURES, IMMEDIATES, OPS, Op

ALL = pytest.mark.parametrize("op", OPS.values(), ids=[op.name for op in OPS.values()])

NUMBERS = ("i32", "i64", "f32", "f64")


def test_complete_and_unique() -> None:
    assert len(OPS) == len(BY_NAME) == len(opcodes._TABLE) == 211
    assert {op.family for op in OPS.values()} == set(FAMILIES)
    assert {op.immediates for op in OPS.values()} == {"", *IMMEDIATES}
    # multi_value changed block types and function types, and brought no instruction.
    assert {op.feature for op in OPS.values()} == set(FEATURES) - {"multi_value"}


def test_ranges_without_gaps() -> None:
    assert [code for code in OPS if 0x28 <= code <= 0xC4] == list(range(0x28, 0xC5))
    assert sorted(code for code in OPS if code > 0xFF) == list(range(0xFC00, 0xFC12))


def test_unsupported_ones_are_others() -> None:
    assert not opcodes.UNSUPPORTED_OPS.keys() & OPS.keys()
    prefixed = {prefix << 8 | number for prefix, number in opcodes.UNSUPPORTED_PREFIXED if number < 0x100}
    assert not prefixed & OPS.keys()
    assert not opcodes.PREFIXES & (OPS.keys() | opcodes.UNSUPPORTED_OPS.keys())
    assert {prefix for prefix, _ in opcodes.UNSUPPORTED_PREFIXED} == opcodes.PREFIXES


def test_vector_instructions_are_those_of_the_specification() -> None:
    assert sum(feature == "simd" for feature in opcodes.UNSUPPORTED_PREFIXED.values()) == 236
    assert sum(feature == "relaxed simd" for feature in opcodes.UNSUPPORTED_PREFIXED.values()) == 20


@ALL
def test_irregular_ones_have_no_signature(op: Op) -> None:
    if op.irregular:
        assert op.pops == op.pushes == ()


@ALL
def test_loads_and_stores(op: Op) -> None:
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
        assert op.name.split(".")[0] not in NUMBERS or op.family in ("load", "store")


@ALL
def test_features(op: Op) -> None:
    assert (op.feature == "saturating") == ("trunc_sat" in op.name)
    assert (op.feature == "sign_extension") == bool(re.fullmatch(r"i\d\d\.extend\d+_s", op.name))
    assert (op.feature == "tail_call") == (op.name in ("return_call", "return_call_indirect"))
    assert (op.feature == "reference_types") == (
        op.name in ("ref.null", "ref.is_null", "ref.func", "select_t")
        or op.name in [f"table.{x}" for x in ("get", "set", "size", "grow", "fill")]
    )
