"""Value types: their notation, their subtyping, and the identities of function types."""

from __future__ import annotations

import itertools

import pytest

from lucet.wasm import types
from lucet.wasm.types import (
    BOTTOM_REF,
    EXNREF,
    EXTERNREF,
    FUNCREF,
    I32,
    NULLFUNCREF,
    V128,
    FuncType,
    ValType,
    defaultable,
    heap_type,
    is_funcref,
    is_nullable,
    is_ref,
    is_valtype,
    matches,
    non_null,
    nullable,
    ref_type,
    valtype_code,
)

UNARY = FuncType((I32,), (I32,))
ITSELF = FuncType((ValType("(ref null #rec.0)"),))
FUNCS = [*(ref_type(heap, nullable=null) for heap in ("func", "nofunc") for null in (False, True))]
CONCRETE = [one.ref(nullable=null) for one in (UNARY, ITSELF) for null in (False, True)]
EXTERNS = [ref_type(heap, nullable=null) for heap in ("extern", "noextern") for null in (False, True)]
EXNS = [ref_type(heap, nullable=null) for heap in ("exn", "noexn") for null in (False, True)]
REFS = [*FUNCS, *CONCRETE, *EXTERNS, *EXNS]


@pytest.mark.parametrize("reftype", REFS)
def test_notation(reftype: ValType) -> None:
    assert is_ref(reftype) and is_valtype(reftype)
    assert ref_type(heap_type(reftype), nullable=is_nullable(reftype)) == reftype
    assert {non_null(reftype), nullable(reftype)} >= {reftype}
    assert defaultable(reftype) == is_nullable(reftype) == (not reftype.startswith("(ref ") or "null" in reftype)


def test_what_is_no_value_type() -> None:
    for text in ("", "i33", "ref", "(ref)", "(ref i32)", "(ref null func)x", "(ref #12)", "(ref #rec.1)", BOTTOM_REF):
        assert not is_valtype(text)
    with pytest.raises(ValueError, match="not a reference type"):
        heap_type(I32)


def _expected(sub: ValType, sup: ValType) -> bool:
    """Told in another way than matches does: what values there are of each."""

    def values(reftype: ValType) -> set[str]:
        heap = heap_type(reftype)
        below = {"func": {"#1", "#2", "any"}, "extern": {"object"}, "exn": {"exception"}}
        concrete = {heap_type(UNARY.ref()): {"#1"}, heap_type(ITSELF.ref()): {"#2"}}
        kind = {"nofunc": "func", "noextern": "extern", "noexn": "exn"}.get(heap, heap if heap in below else "func")
        return below.get(heap, concrete.get(heap, set())) | ({f"null {kind}"} if is_nullable(reftype) else set())

    return values(sub) <= values(sup)


def test_matching() -> None:
    for sub, sup in itertools.product(REFS, REFS):
        # A type without values is below all of its own kind only.
        if values_exist := not (not is_nullable(sub) and heap_type(sub).startswith("no")):
            assert matches(sub, sup) == _expected(sub, sup), (sub, sup)
        assert values_exist or matches(sub, sub)
    assert matches(non_null(NULLFUNCREF), UNARY.ref())
    assert not matches(non_null(NULLFUNCREF), EXTERNREF)
    for number in (I32, V128):
        assert matches(number, number)
        assert not any(matches(number, reftype) or matches(reftype, number) for reftype in REFS)
    assert all(matches(BOTTOM_REF, reftype) for reftype in REFS)
    assert not matches(BOTTOM_REF, I32)


def test_kinds() -> None:
    assert all(map(is_funcref, [*FUNCS, *CONCRETE]))
    assert not any(map(is_funcref, [*EXTERNS, *EXNS, I32]))
    assert defaultable(I32) and defaultable(V128)


def test_identities() -> None:
    known = [
        FuncType(),
        UNARY,
        FuncType((I32, I32)),
        FuncType((), (I32, I32)),
        FuncType((FUNCREF,)),
        FuncType((non_null(FUNCREF),)),
        FuncType((UNARY.ref(),)),
        FuncType((UNARY.ref(nullable=True),)),
        FuncType((FuncType().ref(),)),
        ITSELF,
        # Unrolls to the same as ITSELF, and is another type.
        FuncType((ITSELF.ref(nullable=True),)),
        FuncType((ValType("(ref #rec.0)"),)),
    ]
    assert len({one.type_id() for one in known}) == len(known)
    # Artifacts of other versions know these by them.
    assert UNARY.type_id() == 0x1933FDEA649309E3
    assert UNARY.ref() == "(ref #1933fdea649309e3)"


def test_unrolling() -> None:
    assert UNARY.unrolled is UNARY
    assert ITSELF.unrolled == FuncType((ITSELF.ref(nullable=True),))
    both = FuncType((ValType("(ref #rec.0)"), I32), (ValType("(ref null #rec.0)"), EXNREF))
    assert both.unrolled == FuncType((both.ref(), I32), (both.ref(nullable=True), EXNREF))


def test_deep_nesting_costs_nothing() -> None:
    one = UNARY
    for _ in range(10_000):
        one = FuncType((one.ref(), one.ref(nullable=True)), (one.ref(),))
    assert len(str(one)) < 200


def test_codes_of_the_artifact() -> None:
    codes = [valtype_code(valtype) for valtype in (I32, *REFS)]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 0x100 for code, _ in codes)
    assert valtype_code(UNARY.ref()) == (0xE3, UNARY.type_id())
    assert valtype_code(UNARY.ref(nullable=True)) == (0x63, UNARY.type_id())
    assert valtype_code(non_null(FUNCREF)) == (0xF0, 0)
    assert types.CODES_BY_VALTYPE[FUNCREF] == 0x70
