"""Vector instructions on integer lanes, and those that know no lanes.

Where x86 has an instruction that LLVM does not find by itself, an intrinsic names it; `_without` has what takes its
place on CPUs without SSSE3 or SSE4.1. Constants that `splat` makes may be folded: integers have no NaNs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter
from lucet.compile.predicates import INT_PREDICATES
from lucet.compile.vector import (
    I8X16,
    I16X8,
    I32X4,
    I64X2,
    SHAPES,
    VALUE,
    Shape,
    held,
    integers,
    is_literal,
    literal,
    literal_bits,
    mask,
    splat,
    two_integers,
    zero,
)
from lucet.wasm.opcodes import OPS, Op

_INSTRUCTIONS: Final = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_INTRINSICS: Final = {
    "add_sat_s": "sadd.sat",
    "add_sat_u": "uadd.sat",
    "sub_sat_s": "ssub.sat",
    "sub_sat_u": "usub.sat",
    "min_s": "smin",
    "min_u": "umin",
    "max_s": "smax",
    "max_u": "umax",
}
_SHIFTS: Final = {"shl": "shl", "shr_s": "ashr", "shr_u": "lshr"}
_SHIFTS_BY_ONE_AMOUNT: Final = {"shl": "psll", "ashr": "psra", "lshr": "psrl"}


def _instruction(instruction: str, shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_integers(f, shape)
        f.push(shape.type, f"{instruction} {left}, {right[VALUE:]}", left, right)

    return emit


def _intrinsic(name: str, shape: Shape) -> Handler:
    before = f"call {shape.type} @llvm.{name}.{shape.suffix}("

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_integers(f, shape)
        f.push(shape.type, f"{before}{left}, {right})", left, right)

    return emit


def _compare(predicate: str, shape: Shape) -> Handler:
    bits = f"<{shape.count} x i1>"

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_integers(f, shape)
        holds = f.step(bits, f"icmp {predicate} {left}, {right[VALUE:]}", left, right)
        f.push(shape.type, f"sext {holds} to {shape.type}", holds)

    return emit


def _shift(instruction: str, shape: Shape) -> Handler:
    last = shape.bits - 1
    letter = {16: "w", 32: "d", 64: "q"}.get(shape.bits)
    # By name, because fast instruction selection does not see that all lanes are shifted by the same amount.
    intrinsic = f"llvm.x86.sse2.{_SHIFTS_BY_ONE_AMOUNT[instruction]}.{letter}" if letter else ""
    if intrinsic.endswith("psra.q"):
        intrinsic = ""  # which is in AVX-512 only

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        amount = f.stack.pop()
        value = integers(f, f.stack.pop(), shape)
        if amount[4] != "%":
            f.push(shape.type, f"{instruction} {value}, {splat(int(amount[4:]) & last, shape)[VALUE:]}", value)
            return
        lane = f.step("i32", f"and {amount}, {last}", amount)
        if intrinsic:
            first = f.step(I32X4.type, f"insertelement {zero(I32X4)}, {lane}, i32 0", lane)
            amounts = integers(f, first, shape)
            f.push(shape.type, f"call {shape.type} @{intrinsic}({value}, {amounts})", value, amounts)
            return
        lane = f.step(shape.element, f"{'zext' if shape.bits > 32 else 'trunc'} {lane} to {shape.element}", lane)
        amounts = broadcast(f, lane, shape)
        f.push(shape.type, f"{instruction} {value}, {amounts[VALUE:]}", value, amounts)

    return emit


def broadcast(f: FunctionWriter, lane: str, shape: Shape) -> str:
    """A vector whose lanes all are the typed operand."""
    first = f.step(shape.type, f"insertelement {shape.type} poison, {lane}, i32 0", lane)
    zeros = f"<{shape.count} x i32> zeroinitializer"
    return f.step(shape.type, f"shufflevector {first}, {shape.type} poison, {zeros}", first)


def _abs(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), shape)
        f.push(shape.type, f"call {shape.type} @llvm.abs.{shape.suffix}({value}, i1 false)", value)

    return emit


def _neg(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), shape)
        f.push(shape.type, f"sub {zero(shape)}, {value[VALUE:]}", value)

    return emit


def _popcnt(f: FunctionWriter, _: int, __: None) -> None:
    value = integers(f, f.stack.pop(), I8X16)
    f.push(I8X16.type, f"call <16 x i8> @llvm.ctpop.v16i8({value})", value)


def _all_true(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), shape)
        zeros = f.step(f"<{shape.count} x i1>", f"icmp eq {value}, zeroinitializer", value)
        bits = f.step(f"i{shape.count}", f"bitcast {zeros} to i{shape.count}", zeros)
        f.push_bit(f"icmp eq {bits}, 0", bits)

    return emit


def _any_true(f: FunctionWriter, _: int, __: None) -> None:
    value = f.stack.pop()
    bits = f.step("i128", f"bitcast {value} to i128", value)
    f.push_bit(f"icmp ne {bits}, 0", bits)


def _bitmask(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), shape)
        signs = f.step(f"<{shape.count} x i1>", f"icmp slt {value}, zeroinitializer", value)
        bits = f.step(f"i{shape.count}", f"bitcast {signs} to i{shape.count}", signs)
        f.push("i32", f"zext {bits} to i32", bits)

    return emit


def _not(f: FunctionWriter, _: int, __: None) -> None:
    value = integers(f, f.stack.pop(), I64X2)
    f.push(I64X2.type, f"xor {value}, splat (i64 -1)", value)


def _andnot(f: FunctionWriter, _: int, __: None) -> None:
    left, right = two_integers(f, I64X2)
    inverse = f.step(I64X2.type, f"xor {right}, splat (i64 -1)", right)
    f.push(I64X2.type, f"and {left}, {inverse[VALUE:]}", left, inverse)


def _bitselect(f: FunctionWriter, _: int, __: None) -> None:
    chosen_by = integers(f, f.stack.pop(), I64X2)
    left, right = two_integers(f, I64X2)
    chosen = f.step(I64X2.type, f"and {left}, {chosen_by[VALUE:]}", left, chosen_by)
    inverse = f.step(I64X2.type, f"xor {chosen_by}, splat (i64 -1)", chosen_by)
    others = f.step(I64X2.type, f"and {right}, {inverse[VALUE:]}", right, inverse)
    f.push(I64X2.type, f"or {chosen}, {others[VALUE:]}", chosen, others)


def _laneselect(shape: Shape) -> Handler:
    """The sign of the lane of the third operand decides, which is what blendv looks at."""

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        chosen_by = integers(f, f.stack.pop(), shape)
        left, right = two_integers(f, shape)
        signs = f.step(f"<{shape.count} x i1>", f"icmp slt {chosen_by}, zeroinitializer", chosen_by)
        f.push(shape.type, f"select {signs}, {left}, {right}", left, right)

    return emit


def _avgr(shape: Shape) -> Handler:
    wide = f"<{shape.count} x i{2 * shape.bits}>"
    one = f"splat (i{2 * shape.bits} 1)"
    at = len(wide) + 1

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_integers(f, shape)
        left, right = (f.step(wide, f"zext {value} to {wide}", value) for value in (left, right))
        total = f.step(wide, f"add {left}, {right[at:]}", left, right)
        rounded = f.step(wide, f"add {total}, {one}", total)
        half = f.step(wide, f"lshr {rounded}, {one}", rounded)
        f.push(shape.type, f"trunc {half} to {shape.type}", half)

    return emit


# ---- lanes of twice or half the width ----


def half_type(shape: Shape) -> str:
    return f"<{shape.count // 2} x {shape.element}>"


def half_of(f: FunctionWriter, value: str, shape: Shape, *, high: bool) -> str:
    """The lower or upper lanes, of half_type."""
    start = shape.count // 2 if high else 0
    lanes = mask(tuple(range(start, start + shape.count // 2)))
    return f.step(half_type(shape), f"shufflevector {value}, {shape.type} poison, {lanes}", value)


def _widened(f: FunctionWriter, value: str, narrow: Shape, wide: Shape, *, high: bool, signed: bool) -> str:
    if not high:
        value = held(
            f, value
        )  # LLVM makes a load of 8 bytes of it and the load of 16 bytes before, even a volatile one
    half = half_of(f, value, narrow, high=high)
    return f.step(wide.type, f"{'sext' if signed else 'zext'} {half} to {wide.type}", half)


def widens(lanes: Sequence[int], first: int) -> bool:
    """Whether a shuffle puts bytes of the other operand, which may be zeros, between elements from the beginning of
    this one: an extension to LLVM. first: 0 or 16, the operand's bytes."""
    for width in (1, 2, 4):
        for wide in (2 * width, 4 * width, 8 * width):
            if wide <= 8 and all(
                lane == first + at // wide * width + at % wide if at % wide < width else lane & 16 != first
                for at, lane in enumerate(lanes)
            ):
                return True
    return False


def _extend(op: Op, wide: Shape) -> Handler:
    _, half, source, sign = op.name.split(".")[1].split("_")
    narrow, high, signed = SHAPES[source], half == "high", sign == "s"

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), narrow)
        f.stack.append(_widened(f, value, narrow, wide, high=high, signed=signed))

    return emit


def _extmul(op: Op, wide: Shape) -> Handler:
    _, half, source, sign = op.name.split(".")[1].split("_")
    narrow, high, signed = SHAPES[source], half == "high", sign == "s"

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = (_widened(f, value, narrow, wide, high=high, signed=signed) for value in two_integers(f, narrow))
        f.push(wide.type, f"mul {left}, {right[VALUE:]}", left, right)

    return emit


def _extadd(op: Op, wide: Shape) -> Handler:
    _, _, source, sign = op.name.split(".")[1].split("_")
    narrow, signed = SHAPES[source], sign == "s"

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        value = integers(f, f.stack.pop(), narrow)
        ones = splat(1, narrow)
        if narrow is I16X8 and signed:
            f.stack.append(_pmaddwd(f, value, ones))
        elif narrow is I8X16 and "SSSE3" in f.plan.features:
            f.stack.append(_pmaddubsw(f, *((ones, value) if signed else (value, ones))))
        else:
            even, odd = _even_and_odd(f, value, wide, signed=signed)
            f.push(wide.type, f"add {even}, {odd[VALUE:]}", even, odd)

    return emit


def _even_and_odd(f: FunctionWriter, value: str, wide: Shape, *, signed: bool) -> tuple[str, str]:
    """The even and the odd lanes of half the width, extended."""
    both = integers(f, value, wide)
    by = f"splat ({wide.element} {wide.bits // 2})"
    odd = f.step(wide.type, f"{'ashr' if signed else 'lshr'} {both}, {by}", both)
    if not signed:
        low = (1 << wide.bits // 2) - 1
        return f.step(wide.type, f"and {both}, splat ({wide.element} {low})", both), odd
    shifted = f.step(wide.type, f"shl {both}, {by}", both)
    return f.step(wide.type, f"ashr {shifted}, {by}", shifted), odd


def _narrow(op: Op, narrow: Shape) -> Handler:
    _, source, sign = op.name.split(".")[1].split("_")
    wide = SHAPES[source]
    intrinsic = {
        ("i16x8", "s"): "sse2.packsswb.128",
        ("i16x8", "u"): "sse2.packuswb.128",
        ("i32x4", "s"): "sse2.packssdw.128",
        ("i32x4", "u"): "sse41.packusdw",
    }[source, sign]

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = two_integers(f, wide)
        if intrinsic.startswith("sse41") and "SSE4_1" not in f.plan.features:
            # What packssdw saturates to is 0x8000 less than what is wanted, if its operand is.
            left, right = (_clamp_for_packusdw(f, value) for value in (left, right))
            packed = _x86(f, narrow, "sse2.packssdw.128", left, right)
            f.push(narrow.type, f"xor {packed}, splat (i16 -32768)", packed)
        else:
            f.stack.append(_x86(f, narrow, intrinsic, left, right))

    return emit


def _clamp_for_packusdw(f: FunctionWriter, value: str) -> str:
    """max(value, 0) - 0x8000, of which only the upper end is left to saturate."""
    positive = f.step(I32X4.type, f"call <4 x i32> @llvm.smax.v4i32({value}, {zero(I32X4)})", value)
    return f.step(I32X4.type, f"sub {positive}, splat (i32 32768)", positive)


def _x86(f: FunctionWriter, shape: Shape, name: str, *operands: str) -> str:
    return f.step(shape.type, f"call {shape.type} @llvm.x86.{name}({', '.join(operands)})", *operands)


def _pmaddwd(f: FunctionWriter, left: str, right: str) -> str:
    return _x86(f, I32X4, "sse2.pmadd.wd", left, right)


def _pmaddubsw(f: FunctionWriter, unsigned: str, signed: str) -> str:
    """The sums, saturated, of each two products of an unsigned and a signed i8."""
    if "SSSE3" in f.plan.features:
        return _x86(f, I16X8, "ssse3.pmadd.ub.sw.128", unsigned, signed)
    products = []
    for left, right in zip(
        _even_and_odd(f, unsigned, I16X8, signed=False), _even_and_odd(f, signed, I16X8, signed=True), strict=True
    ):
        products.append(f.step(I16X8.type, f"mul {left}, {right[VALUE:]}", left, right))
    return f.step(I16X8.type, f"call <8 x i16> @llvm.sadd.sat.v8i16({', '.join(products)})", *products)


def _dot(f: FunctionWriter, _: int, __: None) -> None:
    left, right = two_integers(f, I16X8)
    f.stack.append(_pmaddwd(f, left, right))


def _relaxed_dot(f: FunctionWriter, _: int, __: None) -> None:
    # The second operand's lanes are not negative if the program is portable: pmaddubsw takes them as unsigned.
    left, right = two_integers(f, I8X16)
    f.stack.append(_pmaddubsw(f, right, left))


def _relaxed_dot_add(f: FunctionWriter, offset: int, _: None) -> None:
    addend = f.stack.pop()
    _relaxed_dot(f, offset, None)
    sums = _pmaddwd(f, f.stack.pop(), splat(1, I16X8))
    addend = integers(f, addend, I32X4)
    f.push(I32X4.type, f"add {sums}, {addend[VALUE:]}", sums, addend)


def _pmulhrsw(f: FunctionWriter) -> str:
    left, right = two_integers(f, I16X8)
    if "SSSE3" in f.plan.features:
        return _x86(f, I16X8, "ssse3.pmul.hr.sw.128", left, right)
    left, right = (f.step("<8 x i32>", f"sext {value} to <8 x i32>", value) for value in (left, right))
    product = f.step("<8 x i32>", f"mul {left}, {right[VALUE:]}", left, right)
    rounded = f.step("<8 x i32>", f"add {product}, splat (i32 16384)", product)
    shifted = f.step("<8 x i32>", f"lshr {rounded}, splat (i32 15)", rounded)
    return f.step(I16X8.type, f"trunc {shifted} to <8 x i16>", shifted)


def _relaxed_q15mulr(f: FunctionWriter, _: int, __: None) -> None:
    f.stack.append(_pmulhrsw(f))


def _q15mulr_sat(f: FunctionWriter, _: int, __: None) -> None:
    product = _pmulhrsw(f)
    # Only -1 * -1 is out of range, and then it is the one product that is -1.
    over = f.step("<8 x i1>", f"icmp eq {product}, splat (i16 -32768)", product)
    ones = f.step(I16X8.type, f"sext {over} to <8 x i16>", over)
    f.push(I16X8.type, f"xor {product}, {ones[VALUE:]}", product, ones)


# ---- lanes in other places ----


def _swizzle(*, relaxed: bool) -> Handler:
    """pshufb gives 0 for an index of 128 or more, else takes it modulo 16."""

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack.pop()
        value = integers(f, f.stack.pop(), I8X16)
        if is_literal(operand):
            _constant_swizzle(f, value, literal_bits(operand).to_bytes(16, "little"), relaxed=relaxed)
            return
        indices = integers(f, operand, I8X16)
        if not relaxed:
            at_least_16 = f"<16 x i8> {splat(0x70, I8X16)[VALUE:]}"
            indices = f.step(I8X16.type, f"call <16 x i8> @llvm.uadd.sat.v16i8({indices}, {at_least_16})", indices)
        if "SSSE3" in f.plan.features:
            f.stack.append(_x86(f, I8X16, "ssse3.pshuf.b.128", value, indices))
        else:
            f.stack.append(_pshufb_by_hand(f, value, indices))

    return emit


def _constant_swizzle(f: FunctionWriter, value: str, indices: bytes, *, relaxed: bool) -> None:
    end = 128 if relaxed else 16
    lanes = tuple(index % 16 if index < end else 16 for index in indices)
    if widens(lanes, 0):
        value = held(f, value)
    f.push(I8X16.type, f"shufflevector {value}, {zero(I8X16)}, {mask(lanes)}", value)


def _pshufb_by_hand(f: FunctionWriter, value: str, indices: str) -> str:
    low = f.step(I8X16.type, f"and {indices}, splat (i8 15)", indices)
    result = "<16 x i8> poison"
    for lane in range(16):
        index = f.step("i8", f"extractelement {low}, i32 {lane}", low)
        byte = f.step("i8", f"extractelement {value}, {index}", index)
        result = f.step(I8X16.type, f"insertelement {result}, {byte}, i32 {lane}", byte)
    in_range = f.step("<16 x i1>", f"icmp sgt {indices}, splat (i8 -1)", indices)
    return f.step(I8X16.type, f"select {in_range}, {result}, {zero(I8X16)}", result)


def _const(f: FunctionWriter, _: int, bits: int) -> None:
    f.stack.append(literal(bits))


def _handler(op: Op) -> Handler | None:
    """For instructions whose name begins with a shape of integers."""
    prefix, _, name = op.name.partition(".")
    if prefix not in SHAPES or prefix[0] == "f":
        return None
    shape = SHAPES[prefix]
    for table, make in _BY_NAME:
        if name in table:
            return make(table[name], shape)
    if name in _BY_SHAPE:
        return _BY_SHAPE[name](shape)
    for beginning, make_other in _BY_BEGINNING.items():
        if name.startswith(beginning):
            return make_other(op, shape)
    return None


_BY_NAME: Final = (
    (_INSTRUCTIONS, _instruction),
    (_INTRINSICS, _intrinsic),
    (INT_PREDICATES, _compare),
    (_SHIFTS, _shift),
)
_BY_SHAPE: Final[dict[str, Callable[[Shape], Handler]]] = {
    "abs": _abs,
    "neg": _neg,
    "all_true": _all_true,
    "bitmask": _bitmask,
    "avgr_u": _avgr,
    "relaxed_laneselect": _laneselect,
}
_BY_BEGINNING: Final[dict[str, Callable[[Op, Shape], Handler]]] = {
    "extend_": _extend,
    "extmul_": _extmul,
    "extadd_": _extadd,
    "narrow_": _narrow,
}

HANDLERS: Final[dict[str, Handler]] = {
    **{op.name: handler for op in OPS.values() if op.family == "vector" and (handler := _handler(op))},
    "v128.const": _const,
    "v128.not": _not,
    "v128.and": _instruction("and", I64X2),
    "v128.or": _instruction("or", I64X2),
    "v128.xor": _instruction("xor", I64X2),
    "v128.andnot": _andnot,
    "v128.bitselect": _bitselect,
    "v128.any_true": _any_true,
    "i8x16.popcnt": _popcnt,
    "i8x16.swizzle": _swizzle(relaxed=False),
    "i8x16.relaxed_swizzle": _swizzle(relaxed=True),
    "i16x8.q15mulr_sat_s": _q15mulr_sat,
    "i16x8.relaxed_q15mulr_s": _relaxed_q15mulr,
    "i16x8.relaxed_dot_i8x16_i7x16_s": _relaxed_dot,
    "i32x4.relaxed_dot_i8x16_i7x16_add_s": _relaxed_dot_add,
    "i32x4.dot_i16x8_s": _dot,
}
