"""Vector instructions on floating-point lanes, and conversions.

The same care as for scalars: constants that LLVM might fold away although a NaN may be signalling are fenced, minimum
and maximum are spelled out, and so are conversions that saturate, where LLVM's sequences are several times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter
from lucet.compile.predicates import FLOAT_PREDICATES
from lucet.compile.rounding import ROUNDINGS, round_by_hand
from lucet.compile.vector import (
    F32X4,
    F64X2,
    I32X4,
    I64X2,
    SHAPES,
    VALUE,
    Shape,
    fence,
    floats,
    held,
    integers,
    is_literal,
    lane_bits,
    literal,
    literal_bits,
    two_floats,
    zero,
)
from lucet.wasm.opcodes import OPS, Op

_BINARY: Final = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_UNARY: Final = {
    "abs": "call {t} @llvm.fabs.{s}({v})",
    "neg": "fneg {v}",
    "sqrt": "call {t} @llvm.sqrt.{s}({v})",
    "ceil": "call {t} @llvm.ceil.{s}({v})",
    "floor": "call {t} @llvm.floor.{s}({v})",
    "trunc": "call {t} @llvm.trunc.{s}({v})",
    "nearest": "call {t} @llvm.roundeven.{s}({v})",
}


def _value(operand: str, shape: Shape) -> str:
    return operand[len(shape.type) + 1 :]


def _as_integers(shape: Shape) -> Shape:
    return I32X4 if shape is F32X4 else I64X2


def _binary(instruction: str, shape: Shape) -> Handler:
    at = len(shape.type) + 1

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_floats(f, shape)
        f.push(shape.type, f"{instruction} {left}, {right[at:]}", left, right)

    return emit


def _unary(template: str, shape: Shape, name: str) -> Handler:
    before, after = template.format(t=shape.type, s=shape.suffix, v="\0").split("\0")
    by_hand = name in ROUNDINGS

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = floats(f, f.stack.pop(), shape)
        if by_hand and not f.plan.rounds:
            f.stack.append(round_by_hand(f, name, value))
        else:
            f.push(shape.type, f"{before}{value}{after}", value)

    return emit


def _compare(predicate: str, shape: Shape) -> Handler:
    bits, result = f"<{shape.count} x i1>", _as_integers(shape).type

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_floats(f, shape)
        mask = f.step(bits, f"fcmp {predicate} {left}, {_value(right, shape)}", left, right)
        f.push(result, f"sext {mask} to {result}", mask)

    return emit


def _choose(f: FunctionWriter, shape: Shape, predicate: str, left: str, right: str) -> str:
    """left if the comparison holds, else right: with olt that is minps, with ogt maxps."""
    condition = f.step(f"<{shape.count} x i1>", f"fcmp {predicate} {left}, {_value(right, shape)}", left, right)
    return f.step(shape.type, f"select {condition}, {left}, {right}", condition)


def _min_max(predicate: str, combine: str) -> Callable[[Shape], Handler]:
    def make(shape: Shape) -> Handler:
        bits_shape = _as_integers(shape)

        def emit(f: FunctionWriter, _: int, __: None) -> None:
            if is_literal(f.stack[-1]) != is_literal(f.stack[-2]) and _min_max_of_constant(f, shape, predicate):
                return
            left, right = two_floats(f, shape)
            # One operand or the other if they are equal, so that the bits of both decide about the sign of zero.
            one = integers(f, _choose(f, shape, predicate, left, right), bits_shape)
            other = integers(f, _choose(f, shape, predicate, right, left), bits_shape)
            bits = f.step(bits_shape.type, f"{combine} {one}, {other[VALUE:]}", one, other)
            number = f.step(shape.type, f"bitcast {bits} to {shape.type}", bits)
            # The sum with a NaN is a quiet NaN.
            nan = _sum(f, shape, left, right)
            unordered = f.step(f"<{shape.count} x i1>", f"fcmp uno {left}, {_value(right, shape)}", left, right)
            f.push(shape.type, f"select {unordered}, {nan}, {number}", unordered)

        return emit

    return make


def _min_max_of_constant(f: FunctionWriter, shape: Shape, predicate: str) -> bool:
    """If no lane of the constant is special, which is what programs clamp with: two instructions instead of six."""
    right = f.stack[-1]
    constant, other = (right, f.stack[-2]) if is_literal(right) else (f.stack[-2], right)
    lanes = lane_bits(literal_bits(constant), shape)
    sign = 1 << (shape.bits - 1)
    infinity = 0x7F800000 if shape is F32X4 else 0x7FF << 52
    if any(lane & ~sign > infinity or (lane == sign and predicate == "olt") for lane in lanes):
        return False
    del f.stack[-2:]
    value = floats(f, other, shape)
    chosen = _choose(f, shape, predicate, floats(f, constant, shape), value)
    # That is the value where both are equal, or it is a NaN. Adding -0 makes a NaN quiet and changes nothing else; but
    # the greater of 0 and -0 is 0, and so is their sum.
    addends = (0 if lane == 0 and predicate == "ogt" else sign for lane in lanes)
    bits = sum(addend << shape.bits * index for index, addend in enumerate(addends))
    f.stack.append(_sum(f, shape, chosen, floats(f, literal(bits), shape)))
    return True


def _sum(f: FunctionWriter, shape: Shape, left: str, right: str) -> str:
    return f.step(shape.type, f"fadd {left}, {_value(right, shape)}", left, right)


def _pseudo_min_max(predicate: str) -> Callable[[Shape], Handler]:
    """The first operand unless the second is really less, or greater."""

    def make(shape: Shape) -> Handler:
        def emit(f: FunctionWriter, _: int, __: None) -> None:
            left, right = two_floats(f, shape)
            f.stack.append(_choose(f, shape, predicate, right, left))

        return emit

    return make


def _relaxed_min_max(predicate: str) -> Callable[[Shape], Handler]:
    """What minps and maxps do: the second operand if one is a NaN, or both are zero."""

    def make(shape: Shape) -> Handler:
        def emit(f: FunctionWriter, _: int, __: None) -> None:
            left, right = two_floats(f, shape)
            f.stack.append(_choose(f, shape, predicate, left, right))

        return emit

    return make


def _madd(*, negated: bool) -> Callable[[Shape], Handler]:
    """Rounded once where the target CPU can, else twice."""

    def make(shape: Shape) -> Handler:
        def emit(f: FunctionWriter, _: int, __: None) -> None:
            addend = f.stack.pop()
            left, right = two_floats(f, shape)
            addend = floats(f, addend, shape)
            if negated:
                left = f.step(shape.type, f"fneg {left}", left)
            if "FMA" in f.plan.features:
                text = f"call {shape.type} @llvm.fma.{shape.suffix}({left}, {right}, {addend})"
                f.stack.append(f.step(shape.type, text, left, right, addend))
            else:
                product = f.step(shape.type, f"fmul {left}, {_value(right, shape)}", left, right)
                f.push(shape.type, f"fadd {product}, {_value(addend, shape)}", product, addend)

        return emit

    return make


# ---- conversions ----

_LOW: Final = "<2 x i32> <i32 0, i32 1>"
_LOW_AND_ZEROS: Final = "<4 x i32> <i32 0, i32 1, i32 2, i32 3>"


def _low(f: FunctionWriter, value: str, shape: Shape) -> str:
    narrow = f"<2 x {shape.element}>"
    return f.step(narrow, f"shufflevector {value}, {shape.type} poison, {_LOW}", value)


def _convert(instruction: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), I32X4)
        result = f.step(F32X4.type, f"{instruction} {value} to {F32X4.type}", value)
        f.stack.append(fence(f, result, F32X4))

    return emit


def _convert_low(instruction: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        low = _low(f, held(f, integers(f, f.stack.pop(), I32X4)), I32X4)
        result = f.step(F64X2.type, f"{instruction} {low} to {F64X2.type}", low)
        f.stack.append(fence(f, result, F64X2))

    return emit


def _promote_low(f: FunctionWriter, _: int, __: None) -> None:
    # Fenced, because LLVM takes a demotion of the promotion for the value itself; but it has quieted a NaN.
    low = _low(f, floats(f, f.stack.pop(), F32X4), F32X4)
    result = f.step(F64X2.type, f"fpext {low} to {F64X2.type}", low)
    f.stack.append(fence(f, result, F64X2))


def _demote_zero(f: FunctionWriter, _: int, __: None) -> None:
    value = floats(f, f.stack.pop(), F64X2)
    low = f.step("<2 x float>", f"fptrunc {value} to <2 x float>", value)
    result = f.step(F32X4.type, f"shufflevector {low}, <2 x float> zeroinitializer, {_LOW_AND_ZEROS}", low)
    f.stack.append(integers(f, result, I32X4))  # so that the zeros get fenced


def _cvttps2dq(f: FunctionWriter, value: str) -> str:
    """Truncated; what is out of range is 0x80000000."""
    return f.step(I32X4.type, f"call <4 x i32> @llvm.x86.sse2.cvttps2dq({value})", value)


def _cvttpd2dq(f: FunctionWriter, value: str) -> str:
    """Likewise, and the upper lanes are 0."""
    return f.step(I32X4.type, f"call <4 x i32> @llvm.x86.sse2.cvttpd2dq({value})", value)


def _relaxed_trunc_s(f: FunctionWriter, _: int, __: None) -> None:
    f.stack.append(_cvttps2dq(f, floats(f, f.stack.pop(), F32X4)))


def _relaxed_trunc_s_zero(f: FunctionWriter, _: int, __: None) -> None:
    f.stack.append(_cvttpd2dq(f, floats(f, f.stack.pop(), F64X2)))


def _mask(f: FunctionWriter, comparison: str, shape: Shape) -> str:
    bits = f.step(f"<{shape.count} x i1>", comparison)
    result = _as_integers(shape).type
    return f.step(result, f"sext {bits} to {result}")


def _trunc_sat_s(f: FunctionWriter, _: int, __: None) -> None:
    value = floats(f, f.stack.pop(), F32X4)
    truncated = _cvttps2dq(f, value)
    # 0x80000000 is right for what is too low, its complement for what is too high, and 0 for a NaN.
    high = _mask(f, f"fcmp oge {value}, splat (float 0x41E0000000000000)", F32X4)
    clamped = f.step(I32X4.type, f"xor {truncated}, {high[VALUE:]}")
    number = _mask(f, f"fcmp ord {value}, zeroinitializer", F32X4)
    f.push(I32X4.type, f"and {clamped}, {number[VALUE:]}", "")


def _trunc_sat_u(f: FunctionWriter, _: int, __: None) -> None:
    value = _choose(f, F32X4, "ogt", floats(f, f.stack.pop(), F32X4), zero(F32X4))
    if "AVX512" in f.plan.features:
        # What is out of range is all ones.
        name = "llvm.x86.avx512.mask.cvttps2udq.128"
        f.push(I32X4.type, f"call <4 x i32> @{name}({value}, <4 x i32> poison, i8 -1)", value)
        return
    low = _cvttps2dq(f, value)
    # The part from 2**31 on is converted apart, saturated, and added; it is not negative.
    above = f.step(F32X4.type, f"fsub {value}, splat (float 0x41E0000000000000)")
    too_high = _mask(f, f"fcmp oge {above}, splat (float 0x41E0000000000000)", F32X4)
    truncated = _cvttps2dq(f, above)
    saturated = f.step(I32X4.type, f"xor {truncated}, {too_high[VALUE:]}")
    rest = f.step(I32X4.type, f"call <4 x i32> @llvm.smax.v4i32({saturated}, {zero(I32X4)})")
    f.push(I32X4.type, f"add {low}, {rest[VALUE:]}", "")


def _trunc_sat_s_zero(f: FunctionWriter, _: int, __: None) -> None:
    value = floats(f, f.stack.pop(), F64X2)
    # The greatest i32, but 0 where the value is a NaN: the minimum then is that.
    number = f.step("<2 x i1>", f"fcmp ord {value}, zeroinitializer")
    bound = f.step(F64X2.type, f"select {number}, <2 x double> splat (double 0x41DFFFFFFFC00000), {zero(F64X2)}")
    f.stack.append(_cvttpd2dq(f, _choose(f, F64X2, "olt", value, bound)))


def _trunc_sat_u_zero(f: FunctionWriter, _: int, __: None) -> None:
    value = floats(f, f.stack.pop(), F64X2)
    at_least_0 = _choose(f, F64X2, "ogt", value, zero(F64X2))
    bounded = _choose(f, F64X2, "olt", at_least_0, "<2 x double> splat (double 0x41EFFFFFFFE00000)")
    if f.plan.rounds:
        whole = f.step(F64X2.type, f"call <2 x double> @llvm.trunc.v2f64({bounded})")
        # Behind 2**52 the integer stands in the low bits.
        shifted = f.step(F64X2.type, f"fadd {whole}, splat (double 0x4330000000000000)")
        lanes = integers(f, shifted, I32X4)
    else:
        wide = f.step(I64X2.type, f"fptoui {bounded} to <2 x i64>")
        lanes = integers(f, wide, I32X4)
    f.push(I32X4.type, f"shufflevector {lanes}, {zero(I32X4)}, <4 x i32> <i32 0, i32 2, i32 4, i32 4>", "")


def _handler(op: Op) -> Handler | None:
    """For instructions whose name begins with a shape of floats."""
    prefix, _, name = op.name.partition(".")
    if prefix not in SHAPES or prefix[0] != "f":
        return None
    shape = SHAPES[prefix]
    if name in _BINARY:
        return _binary(_BINARY[name], shape)
    if name in FLOAT_PREDICATES:
        return _compare(FLOAT_PREDICATES[name], shape)
    if name in _UNARY:
        return _unary(_UNARY[name], shape, name)
    return _BY_SHAPE[name](shape) if name in _BY_SHAPE else None


_BY_SHAPE: Final[dict[str, Callable[[Shape], Handler]]] = {
    "min": _min_max("olt", "or"),
    "max": _min_max("ogt", "and"),
    "pmin": _pseudo_min_max("olt"),
    "pmax": _pseudo_min_max("ogt"),
    "relaxed_min": _relaxed_min_max("olt"),
    "relaxed_max": _relaxed_min_max("ogt"),
    "relaxed_madd": _madd(negated=False),
    "relaxed_nmadd": _madd(negated=True),
}

HANDLERS: Final[dict[str, Handler]] = {
    **{op.name: handler for op in OPS.values() if op.family == "vector" and (handler := _handler(op))},
    "f32x4.convert_i32x4_s": _convert("sitofp"),
    "f32x4.convert_i32x4_u": _convert("uitofp"),
    "f64x2.convert_low_i32x4_s": _convert_low("sitofp"),
    "f64x2.convert_low_i32x4_u": _convert_low("uitofp"),
    "f64x2.promote_low_f32x4": _promote_low,
    "f32x4.demote_f64x2_zero": _demote_zero,
    "i32x4.trunc_sat_f32x4_s": _trunc_sat_s,
    "i32x4.trunc_sat_f32x4_u": _trunc_sat_u,
    "i32x4.trunc_sat_f64x2_s_zero": _trunc_sat_s_zero,
    "i32x4.trunc_sat_f64x2_u_zero": _trunc_sat_u_zero,
    "i32x4.relaxed_trunc_f32x4_s": _relaxed_trunc_s,
    "i32x4.relaxed_trunc_f32x4_u": _trunc_sat_u,
    "i32x4.relaxed_trunc_f64x2_s_zero": _relaxed_trunc_s_zero,
    "i32x4.relaxed_trunc_f64x2_u_zero": _trunc_sat_u_zero,
}
