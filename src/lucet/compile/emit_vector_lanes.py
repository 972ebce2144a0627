"""Vector instructions that load, store, or move single lanes."""

from __future__ import annotations

import struct
from typing import Any, Final

from lucet.compile.emit_vector import broadcast, widens
from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter
from lucet.compile.vector import (
    F32X4,
    F64X2,
    I8X16,
    SHAPES,
    Shape,
    floats,
    has_masks,
    held,
    integers,
    is_literal,
    lane_bits,
    literal,
    literal_bits,
    mask,
    splat_bits,
    two_integers,
    zero,
)
from lucet.wasm.opcodes import OPS, Op

Memarg = tuple[int, int, int]
MemargLane = tuple[int, int, int, int]

_SHAPE_OF_WIDTH: Final = {shape.bits: shape for shape in SHAPES.values() if not shape.is_float}


# ---- splat, extract_lane, replace_lane, shuffle ----


def _splat(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack.pop()
        if "%" not in operand:
            f.stack.append(literal(splat_bits(_scalar_bits(operand, shape), shape)))
        else:
            f.stack.append(broadcast(f, _narrowed(f, operand, shape), shape))

    return emit


def _scalar_bits(operand: str, shape: Shape) -> int:
    """The bits of a literal, as many as a lane has."""
    llvm_type, value = operand.split(" ", 1)
    if llvm_type == "double":
        return int(value, 16)
    if llvm_type != "float":
        return int(value) & ((1 << shape.bits) - 1)
    if value.startswith("bitcast"):
        return int(value.split(" ")[2])
    (number,) = struct.unpack(">d", bytes.fromhex(value[2:]))
    return int.from_bytes(struct.pack("<f", number), "little")


def _narrowed(f: FunctionWriter, operand: str, shape: Shape) -> str:
    """A scalar operand as a lane."""
    operand = f.opaque(operand)
    if shape.bits >= 32:
        return operand
    return f.step(shape.element, f"trunc {operand} to {shape.element}", operand)


def _extract_lane(op: Op, shape: Shape) -> Handler:
    extension = {"s": "sext", "u": "zext"}.get(op.name[-1]) if shape.bits < 32 else None

    def emit(f: FunctionWriter, _: int, lane: int) -> None:
        operand = f.stack.pop()
        if shape.is_float and is_literal(operand):
            f.stack.append(f.constant(shape.lane, lane_bits(literal_bits(operand), shape)[lane]))
            return
        value = (floats if shape.is_float else integers)(f, operand, shape)
        result = f.step(shape.element, f"extractelement {value}, i32 {lane}", value)
        if extension:
            result = f.step("i32", f"{extension} {result} to i32", result)
        f.stack.append(result)

    return emit


def _replace_lane(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, _: int, lane: int) -> None:
        operand = f.stack.pop()
        if "%" not in operand and is_literal(f.stack[-1]):
            shift = lane * shape.bits
            others = literal_bits(f.stack.pop()) & ~(((1 << shape.bits) - 1) << shift)
            f.stack.append(literal(others | _scalar_bits(operand, shape) << shift))
            return
        value = (floats if shape.is_float else integers)(f, f.stack.pop(), shape)
        new = _narrowed(f, operand, shape)
        f.push(shape.type, f"insertelement {value}, {new}, i32 {lane}", value, new)

    return emit


def _shuffle(f: FunctionWriter, _: int, lanes: tuple[int, ...]) -> None:
    left, right = two_integers(f, I8X16)
    if widens(lanes, 0):
        left = held(f, left)
    elif widens(lanes, 16):
        right = held(f, right)
    f.push(I8X16.type, f"shufflevector {left}, {right}, {mask(lanes)}", left, right)


# ---- loads and stores ----


def _read(f: FunctionWriter, offset: int, memarg: Memarg, llvm_type: str, width: int) -> str:
    """Load from the address on top of the stack."""
    _, static_offset, memory = memarg
    pointer = f.heap_address(memory, f.stack.pop(), static_offset, width, offset)
    operand = f"{llvm_type} {f.emit(f'load volatile {llvm_type}, ptr {pointer}, align 1{f.location(offset)}')}"
    f.loads[operand] = offset
    return operand


def _write(f: FunctionWriter, offset: int, memarg: Memarg, value: str, width: int) -> None:
    _, static_offset, memory = memarg
    pointer = f.heap_address(memory, f.stack.pop(), static_offset, width, offset)
    f.out.append(f"  store volatile {value}, ptr {pointer}, align 1{f.location(offset)}")


def _load(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
    operand = _read(f, offset, memarg, "<2 x i64>", 16)
    f.loaded_vectors.add(operand)
    f.stack.append(operand)


def _store(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
    value = f.stack.pop()
    _write(f, offset, memarg, value, 16)


def _load_extended(op: Op) -> Handler:
    """v128.load8x8_s and so on."""
    lanes, sign = op.name.removeprefix("v128.load").split("_")
    bits, count = map(int, lanes.split("x"))
    narrow, wide = f"<{count} x i{bits}>", _SHAPE_OF_WIDTH[2 * bits]
    extension = "sext" if sign == "s" else "zext"

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        # Loaded as one number: LLVM may load a short vector lane by lane.
        word = _read(f, offset, memarg, "i64", 8)
        vector = f.step(narrow, f"bitcast {word} to {narrow}", word)
        f.push(wide.type, f"{extension} {vector} to {wide.type}", vector)

    return emit


def _load_splat(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        f.stack.append(broadcast(f, _read(f, offset, memarg, shape.element, shape.bits // 8), shape))

    return emit


def _load_zero(shape: Shape, shape_of_floats: Shape) -> Handler:
    """As a float, because loading one clears the rest of the register; as integers, so that the zeros get fenced."""

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        lane = _read(f, offset, memarg, shape_of_floats.element, shape.bits // 8)
        vector = f.step(shape_of_floats.type, f"insertelement {zero(shape_of_floats)}, {lane}, i32 0", lane)
        f.stack.append(integers(f, vector, shape))

    return emit


def _load_lane(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, offset: int, immediate: MemargLane) -> None:
        value = integers(f, f.stack.pop(), shape)
        new = _read(f, offset, immediate[:3], shape.element, shape.bits // 8)
        f.push(shape.type, f"insertelement {value}, {new}, i32 {immediate[3]}", value, new)

    return emit


def _store_lane(shape: Shape) -> Handler:
    def emit(f: FunctionWriter, offset: int, immediate: MemargLane) -> None:
        value = integers(f, f.stack.pop(), shape)
        lane = f.step(shape.element, f"extractelement {value}, i32 {immediate[3]}", value)
        _write(f, offset, immediate[:3], lane, shape.bits // 8)

    return emit


def _handler(op: Op) -> Handler:
    prefix, _, name = op.name.partition(".")
    if op.family == "vector":
        return _splat(SHAPES[prefix])
    if op.family == "vector_lane":
        if name == "shuffle":
            return _shuffle
        shape = SHAPES[prefix]
        return _replace_lane(shape) if name == "replace_lane" else _extract_lane(op, shape)
    if name in ("load", "store"):
        return _load if name == "load" else _store
    if op.name[-2:] in ("_s", "_u"):
        return _load_extended(op)
    access, _, what = name.partition("_")
    shape = _SHAPE_OF_WIDTH[int(access.lstrip("loadstre"))]
    if what == "lane":
        return _load_lane(shape) if access.startswith("load") else _store_lane(shape)
    return _load_splat(shape) if what == "splat" else _load_zero(shape, F32X4 if shape.bits == 32 else F64X2)


def _loading_handler(op: Op) -> Handler:
    """Of those that load, and of splats, whose operand may be a load."""
    plain = _handler(op)
    if not op.pushes or op.name.endswith("store_lane") or (op.align is None and not op.name.endswith(".splat")):
        return plain

    def emit(f: FunctionWriter, offset: int, immediate: Any) -> None:
        plain(f, offset, immediate)
        if has_masks(f) and "%" in f.stack[-1]:
            f.stack[-1] = held(f, f.stack[-1])
            f.loaded_vectors.add(f.stack[-1])

    return emit


HANDLERS: Final[dict[str, Handler]] = {
    op.name: _loading_handler(op)
    for op in OPS.values()
    if op.family in ("vector_load", "vector_store", "vector_lane") or op.name.endswith(".splat")
}
