"""ceil, floor, trunc and nearest for CPUs without SSE4.1, where LLVM would call libm."""

from __future__ import annotations

from typing import Final

from lucet.compile.ir import FunctionWriter
from lucet.wasm.types import F32, F64

ROUNDINGS: Final = frozenset(("ceil", "floor", "trunc", "nearest"))

_CORRECTIONS: Final = {"ceil": ("olt", "fadd"), "floor": ("ogt", "fsub"), "trunc": ("ogt", "fsub")}
"""When nearest went to the wrong side of the value, and how to get to the other one."""


def round_by_hand(f: FunctionWriter, name: str, operand: str) -> str:
    """The operand rounded to an integral value, typed."""
    llvm_type, value = operand.split(" ")
    valtype, mantissa = (F32, 23) if llvm_type == "float" else (F64, 52)

    def emit(instruction: str) -> str:
        return f"{llvm_type} {f.emit(instruction)}"

    magnitude = emit(f"call {llvm_type} @llvm.fabs.{valtype}({operand})")
    # Adding this leaves no bit for a fraction; the addition rounds to nearest, ties to even.
    big = f"{float(1 << mantissa)}"
    shifted = emit(f"fadd {magnitude}, {big}")
    nearest = emit(f"fsub {shifted}, {big}")
    start = operand
    if name == "trunc":
        start = magnitude
    elif name != "nearest":
        nearest = emit(f"call {llvm_type} @llvm.copysign.{valtype}({nearest}, {operand})")
    if name in _CORRECTIONS:
        predicate, instruction = _CORRECTIONS[name]
        beyond = f.emit(f"fcmp {predicate} {nearest}, {start.split(' ')[1]}")
        other = emit(f"{instruction} {nearest}, 1.0")
        nearest = emit(f"select i1 {beyond}, {other}, {nearest}")
    rounded = emit(f"call {llvm_type} @llvm.copysign.{valtype}({nearest}, {operand})")
    # What is larger is integral. A NaN comes here, too, and adding -0 makes it quiet.
    unchanged = emit(f"fadd {f.constant(valtype, 1 << (31 if valtype == F32 else 63))}, {value}")
    is_small = f.emit(f"fcmp olt {magnitude}, {big}")
    return emit(f"select i1 {is_small}, {rounded}, {unchanged}")
