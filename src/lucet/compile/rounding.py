"""ceil, floor, trunc and nearest for CPUs without SSE4.1, where LLVM would call libm."""

from __future__ import annotations

from typing import Final

from lucet.compile.ir import FunctionWriter
from lucet.wasm.types import F32, F64

ROUNDINGS: Final = frozenset(("ceil", "floor", "trunc", "nearest"))

_CORRECTIONS: Final = {"ceil": ("olt", "fadd"), "floor": ("ogt", "fsub"), "trunc": ("ogt", "fsub")}
"""When nearest went to the wrong side of the value, and how to get to the other one."""


def round_by_hand(f: FunctionWriter, name: str, operand: str) -> str:
    """The operand rounded to an integral value, typed: a float, a double or a vector of them."""
    at = operand.index("%") if "%" in operand else operand.index(" ") + 1
    llvm_type, value = operand[: at - 1], operand[at:]
    valtype, mantissa = (F32, 23) if "float" in llvm_type else (F64, 52)
    if llvm_type[0] == "<":
        count = llvm_type[1]
        element = llvm_type.split(" ")[2][:-1]
        suffix, bits = f"v{count}{valtype}", f"<{count} x i1>"

    else:
        element, suffix, bits = "", str(valtype), "i1"

    def constant(number: str) -> str:
        return f"splat ({element} {number})" if element else number

    def emit(instruction: str) -> str:
        return f"{llvm_type} {f.emit(instruction)}"

    magnitude = emit(f"call {llvm_type} @llvm.fabs.{suffix}({operand})")
    # Adding this leaves no bit for a fraction; the addition rounds to nearest, ties to even.
    big = constant(f"{float(1 << mantissa)}")
    shifted = emit(f"fadd {magnitude}, {big}")
    nearest = emit(f"fsub {shifted}, {big}")
    start = operand
    if name == "trunc":
        start = magnitude
    elif name != "nearest":
        nearest = emit(f"call {llvm_type} @llvm.copysign.{suffix}({nearest}, {operand})")
    if name in _CORRECTIONS:
        predicate, instruction = _CORRECTIONS[name]
        beyond = f.emit(f"fcmp {predicate} {nearest}, {start[at:]}")
        other = emit(f"{instruction} {nearest}, {constant('1.0')}")
        nearest = emit(f"select {bits} {beyond}, {other}, {nearest}")
    rounded = emit(f"call {llvm_type} @llvm.copysign.{suffix}({nearest}, {operand})")
    # What is larger is integral. A NaN comes here, too, and adding -0 makes it quiet.
    minus_0 = f"{llvm_type} {constant('0x8000000000000000')}"
    fenced = emit(f"call {llvm_type} @llvm.arithmetic.fence.{suffix}({minus_0})")
    unchanged = emit(f"fadd {fenced}, {value}")
    is_small = f.emit(f"fcmp olt {magnitude}, {big}")
    return emit(f"select {bits} {is_small}, {rounded}, {unchanged}")
