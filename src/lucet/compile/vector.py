"""v128 operands: the LLVM types that they have on the writer's stack, literals, and the casts between them.

An operand keeps the type that its instruction gave it, so that a chain of instructions of one shape needs no casts.
Only what leaves the stack has the type of LLVM_TYPES: FunctionWriter.opaque sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from lucet.compile.ir import FENCED_BITS, LLVM_TYPES, FunctionWriter, f32_literal, f64_literal
from lucet.wasm.types import F32, F64, I32, I64, V128, ValType


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the specification calls a shape: lanes, and how many."""

    name: str
    lane: ValType
    """The type of a lane as an operand: an i32 for the narrow ones."""
    bits: int
    count: int
    type: str
    """The LLVM type."""
    element: str
    """That of a lane."""
    suffix: str
    """In the names of LLVM's intrinsics."""

    @property
    def is_float(self) -> bool:
        return self.name[0] == "f"


def _shape(name: str, lane: ValType) -> Shape:
    kind, count = name.split("x")
    element = LLVM_TYPES[lane] if lane in (F32, F64) else kind
    bits = int(kind[1:])
    type_ = f"<{count} x {element}>"
    return Shape(
        name=name, lane=lane, bits=bits, count=int(count), type=type_, element=element, suffix=f"v{count}{kind}"
    )


SHAPES: Final = {
    name: _shape(name, lane)
    for name, lane in (
        *(("i8x16", I32), ("i16x8", I32), ("i32x4", I32), ("i64x2", I64)),
        *(("f32x4", F32), ("f64x2", F64)),
    )
}
I8X16, I16X8, I32X4, I64X2, F32X4, F64X2 = SHAPES.values()

VALUE: Final = len("<2 x i64> ")
"""Where the value begins in a typed operand, of every type of integer lanes."""

_CANONICAL: Final = LLVM_TYPES[V128]
assert all(len(shape.type) == VALUE - 1 for shape in SHAPES.values() if not shape.is_float)


def is_literal(operand: str) -> bool:
    """Whether it is one as it stands on the stack; one that has been cast is an operand like others."""
    return operand.startswith("<2 x i64> <")


def literal(bits: int) -> str:
    """A v128 literal: the only form that one has on the stack."""
    return f"{_CANONICAL} <i64 {bits & 0xFFFFFFFFFFFFFFFF}, i64 {bits >> 64}>"


def literal_bits(operand: str) -> int:
    low, high = operand[VALUE + 1 : -1].split(", ")
    return int(low[4:]) | int(high[4:]) << 64


def lane_bits(bits: int, shape: Shape) -> list[int]:
    """The lanes of a v128, each as an unsigned int."""
    mask = (1 << shape.bits) - 1
    return [bits >> shift & mask for shift in range(0, 128, shape.bits)]


def splat_bits(lane: int, shape: Shape) -> int:
    return sum(lane << shift for shift in range(0, 128, shape.bits))


@cache
def splat(lane: int, shape: Shape) -> str:
    """A constant with the same bits in all lanes, typed."""
    return f"{shape.type} splat ({_element(lane, shape)})"


@lru_cache(maxsize=4096)
def mask(lanes: tuple[int, ...]) -> str:
    """Of a shufflevector: which lanes it takes."""
    return f"<{len(lanes)} x i32> <{', '.join([f'i32 {lane}' for lane in lanes])}>"


def zero(shape: Shape) -> str:
    return f"{shape.type} zeroinitializer"


def _element(bits: int, shape: Shape) -> str:
    if shape.lane == F32 and shape.is_float:
        return f32_literal(bits)
    return f64_literal(bits) if shape.is_float else f"{shape.element} {bits}"


def _cast_literal(operand: str, shape: Shape) -> str:
    lanes = lane_bits(literal_bits(operand), shape)
    if lanes.count(lanes[0]) == shape.count:
        return splat(lanes[0], shape) if lanes[0] else zero(shape)
    return f"{shape.type} <{', '.join(_element(lane, shape) for lane in lanes)}>"


def integers(f: FunctionWriter, operand: str, shape: Shape) -> str:
    """The operand with the shape's type, whose lanes are integers (or floats that nobody calculates with)."""
    if operand.startswith(shape.type):
        return operand
    if is_literal(operand):
        return _cast_literal(operand, shape)
    return f.step(shape.type, f"bitcast {operand} to {shape.type}", operand)


def floats(f: FunctionWriter, operand: str, shape: Shape, *, fence_all: bool = True) -> str:
    """The operand with the shape's type, fenced if it is or may become a constant: see FunctionWriter.opaque.

    fence_all: a literal without 0, -0, 1 or -1, too. What was loaded from a memory is no constant for sure (but what is
    made of it may be: x & 0); results of the shape's own instructions are none because their operands were fenced.
    """
    if operand.startswith(shape.type):
        return operand
    if is_literal(operand):
        value = _cast_literal(operand, shape)
        special = FENCED_BITS[shape.lane]
        if fence_all or not special.isdisjoint(lane_bits(literal_bits(operand), shape)):
            return fence(f, value, shape)
        return value
    value = f.step(shape.type, f"bitcast {operand} to {shape.type}", operand)
    return value if operand in f.loaded_vectors else fence(f, value, shape)


def fence(f: FunctionWriter, operand: str, shape: Shape) -> str:
    """The same value, of which LLVM's folds know nothing. No instruction comes of it."""
    return f.step(shape.type, f"call {shape.type} @llvm.arithmetic.fence.{shape.suffix}({operand})", operand)


def held(f: FunctionWriter, operand: str) -> str:
    """The same value, in a register, if it was just loaded: no instruction does the load that uses a part of it only,
    or only where a mask says so. Either would not trap where the load must."""
    if "%" not in operand:
        return operand
    llvm_type = operand[: operand.index(">") + 1]
    shape = F64X2 if llvm_type == F64X2.type else F32X4
    if llvm_type == shape.type:
        return fence(f, operand, shape)
    fenced = fence(f, f.step(shape.type, f"bitcast {operand} to {shape.type}", operand), shape)
    return f.step(llvm_type, f"bitcast {fenced} to {llvm_type}", operand)


def has_masks(f: FunctionWriter) -> bool:
    """Whether instructions may be told by a mask which lanes of an operand in memory to load."""
    return "AVX512" in f.plan.features or f.plan.multi


def two_integers(f: FunctionWriter, shape: Shape) -> tuple[str, str]:
    """Pop two operands."""
    right = integers(f, f.stack.pop(), shape)
    return integers(f, f.stack.pop(), shape), right


def two_floats(f: FunctionWriter, shape: Shape) -> tuple[str, str]:
    """Pop two operands, of which one at most is a literal then."""
    right = f.stack.pop()
    left = f.stack.pop()
    both = is_literal(left) and is_literal(right)
    return floats(f, left, shape, fence_all=both), floats(f, right, shape, fence_all=False)
