"""Conversions between number types."""

from __future__ import annotations

import struct
from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import LIKELY, LLVM_TYPES, FunctionWriter, f32_literal, f64_literal
from lucet.wasm.opcodes import OPS, Op
from lucet.wasm.types import F32, F64

_CASTS: Final = {
    "i32.wrap_i64": "trunc",
    "i64.extend_i32_s": "sext",
    "i64.extend_i32_u": "zext",
    "f32.demote_f64": "fptrunc",
    "i32.reinterpret_f32": "bitcast",
    "i64.reinterpret_f64": "bitcast",
    "f32.reinterpret_i32": "bitcast",
    "f64.reinterpret_i64": "bitcast",
}


def _convert(op: Op) -> Handler:
    _, name = op.name.split(".")
    if name.startswith("trunc_sat"):
        return _trunc_sat(op)
    if name.startswith("trunc"):
        return _trunc(op)
    if name.startswith("promote"):
        return _promote
    if name.startswith("convert"):
        return _cast("sitofp" if name.endswith("_s") else "uitofp", op)
    return _cast(_CASTS[op.name], op)


def _cast(instruction: str, op: Op) -> Handler:
    llvm_type = LLVM_TYPES[op.pushes[0]]
    if op.pushes[0] in (F32, F64):

        def to_float(f: FunctionWriter, _: int, __: None) -> None:
            # Fenced, because the operand may turn out to be a constant: see FunctionWriter.opaque.
            operand = f.stack.pop()
            f.push(llvm_type, f"{instruction} {operand} to {llvm_type}", operand)
            f.stack.append(f.fence(f.stack.pop()))

        return to_float

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack.pop()
        f.push(llvm_type, f"{instruction} {operand} to {llvm_type}", operand)

    return emit


def _promote(f: FunctionWriter, _: int, __: None) -> None:
    # Fenced, because LLVM takes a demotion of the promotion for the value itself; but it has quieted a NaN.
    operand = f.stack.pop()
    f.push("double", f"fpext {operand} to double", operand)
    f.stack.append(f.fence(f.stack.pop()))


def _trunc_sat(op: Op) -> Handler:
    source, target = LLVM_TYPES[op.pops[0]], LLVM_TYPES[op.pushes[0]]
    intrinsic = f"llvm.fpto{_sign(op)}i.sat.{target}.{op.pops[0]}"
    assert source in ("float", "double")

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack.pop()
        f.push(target, f"call {target} @{intrinsic}({operand})", operand)

    return emit


def _trunc(op: Op) -> Handler:
    target = LLVM_TYPES[op.pushes[0]]
    instruction = f"fpto{_sign(op)}i"
    at_least, above, below = (text and text.split(" ", 1)[1] for text in _bounds(op))

    def emit(f: FunctionWriter, offset: int, _: None) -> None:
        operand = f.stack.pop()
        not_low = f.emit(f"fcmp oge {operand}, {at_least}" if at_least else f"fcmp ogt {operand}, {above}")
        not_high = f.emit(f"fcmp olt {operand}, {below}")
        _trap_unless_in_range(f, f.emit(f"and i1 {not_low}, {not_high}"), operand, offset)
        f.push(target, f"{instruction} {operand} to {target}", operand)

    return emit


def _sign(op: Op) -> str:
    return "s" if op.name.endswith("_s") else "u"


def _bounds(op: Op) -> tuple[str, str, str]:
    """(at least, above, below): literals of the operand's type that bound what can be truncated; one of the first two
    is ""."""
    bits = int(op.pushes[0][1:])
    literal, mantissa = (f32_literal, 24) if op.pops[0] == F32 else (f64_literal, 53)
    lowest, highest = (-(1 << (bits - 1)), 1 << (bits - 1)) if _sign(op) == "s" else (0, 1 << bits)
    # Everything above lowest - 1 truncates to lowest or more; where that has no exact literal, lowest itself is the
    # smallest value that does.
    exact = (lowest - 1).bit_length() <= mantissa
    above = literal(_float_bits(lowest - 1, op)) if exact else ""
    at_least = "" if exact else literal(_float_bits(lowest, op))
    return at_least, above, literal(_float_bits(highest, op))


def _float_bits(value: int, op: Op) -> int:
    code = "f" if op.pops[0] == F32 else "d"
    return int.from_bytes(struct.pack(f"<{code}", value), "little")


def _trap_unless_in_range(f: FunctionWriter, condition: str, operand: str, offset: int) -> None:
    """Continue if condition holds; else NaN and numbers out of range have traps of their own."""
    f.next += 1
    number = f.next
    f.out.append(f"  br i1 {condition}, label %c{number}, label %r{number}{LIKELY}\nc{number}:")
    f.cold.append(
        f"r{number}:\n  %u{number} = fcmp uno {operand}, {operand.split(' ', 1)[1]}\n"
        f"  br i1 %u{number}, label %n{number}, label %o{number}\n"
        f"n{number}:\n{f.trap_text('INVALID_CONVERSION_TO_INTEGER', offset)}\n"
        f"o{number}:\n{f.trap_text('INTEGER_OVERFLOW', offset)}"
    )


HANDLERS: Final[dict[str, Handler]] = {op.name: _convert(op) for op in OPS.values() if op.family == "convert"}
