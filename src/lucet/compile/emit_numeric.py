"""Constants, tests, comparisons, unary and binary operators.

Where LLVM differs: its division is undefined where WebAssembly's traps, its shifts are poison beyond the width, its
floating-point folds assume that nobody looks at signalling NaNs (see FunctionWriter.opaque), and its minimum and
maximum return a signalling NaN as it is.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import LLVM_TYPES, FunctionWriter
from lucet.compile.predicates import FLOAT_PREDICATES, INT_PREDICATES
from lucet.compile.rounding import ROUNDINGS, round_by_hand
from lucet.wasm.opcodes import OPS, Op
from lucet.wasm.types import F32, F64, ValType


def _const(op: Op) -> Handler:
    valtype = op.pushes[0]
    if valtype in (F32, F64):

        def float_const(f: FunctionWriter, _: int, bits: int) -> None:
            f.stack.append(f.constant(valtype, bits))

        return float_const
    prefix = f"{valtype} "

    def int_const(f: FunctionWriter, _: int, value: int) -> None:
        f.stack.append(prefix + str(value))

    return int_const


def _test(_op: Op) -> Handler:
    def eqz(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack[-1]
        if operand == f.bit_of:
            f.push_bit(f"xor i1 {f.condition()}, true", operand)
        else:
            f.stack.pop()
            f.push_bit(f"icmp eq {operand}, 0", operand)

    return eqz


def _compare(op: Op) -> Handler:
    valtype, name = op.name.split(".")
    is_float = valtype[0] == "f"
    compare = f"fcmp {FLOAT_PREDICATES[name]}" if is_float else f"icmp {INT_PREDICATES[name]}"
    at = _value_start(op.pops[0])

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = f.stack.pop()
        left = f.stack.pop()
        f.push_bit(f"{compare} {left}, {right[at:]}", left, right)

    return emit


def _value_start(valtype: ValType) -> int:
    """Where the value begins in a typed operand."""
    return len(LLVM_TYPES[valtype]) + 1


_UNARY: Final = {
    "clz": "call {t} @llvm.ctlz.{t}({v}, i1 false)",
    "ctz": "call {t} @llvm.cttz.{t}({v}, i1 false)",
    "popcnt": "call {t} @llvm.ctpop.{t}({v})",
    "abs": "call {t} @llvm.fabs.{s}({v})",
    "neg": "fneg {v}",
    "ceil": "call {t} @llvm.ceil.{s}({v})",
    "floor": "call {t} @llvm.floor.{s}({v})",
    "trunc": "call {t} @llvm.trunc.{s}({v})",
    "nearest": "call {t} @llvm.roundeven.{s}({v})",
    "sqrt": "call {t} @llvm.sqrt.{s}({v})",
}


def _unary(op: Op) -> Handler:
    valtype, name = op.name.split(".")
    llvm_type = LLVM_TYPES[op.pushes[0]]
    if name.startswith("extend"):
        return _sign_extension(llvm_type, f"i{name.removeprefix('extend').removesuffix('_s')}")
    before, after = _UNARY[name].format(t=llvm_type, s=valtype, v="\0").split("\0")

    by_hand = name in ROUNDINGS

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.opaque(f.stack.pop())
        if by_hand and not f.plan.rounds:
            f.stack.append(round_by_hand(f, name, operand))
        else:
            f.push(llvm_type, f"{before}{operand}{after}", operand)

    return emit


def _sign_extension(llvm_type: str, narrow: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        operand = f.stack.pop()
        f.push(narrow, f"trunc {operand} to {narrow}", operand)
        low = f.stack.pop()
        f.push(llvm_type, f"sext {low} to {llvm_type}", low)

    return emit


_INT_BINARY: Final = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_FLOAT_BINARY: Final = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_SHIFTS: Final = {"shl": "shl", "shr_s": "ashr", "shr_u": "lshr"}
_ROTATES: Final = {"rotl": "fshl", "rotr": "fshr"}
_DIVISIONS: Final = {"div_s": "sdiv", "div_u": "udiv", "rem_s": "srem", "rem_u": "urem"}


def _binary(op: Op) -> Handler:
    valtype, name = op.name.split(".")
    llvm_type = LLVM_TYPES[op.pushes[0]]
    if name in _INT_BINARY and valtype[0] == "i":
        return _int_binary(_INT_BINARY[name], llvm_type)
    if name in _FLOAT_BINARY and valtype[0] == "f":
        return _float_binary(_FLOAT_BINARY[name], llvm_type)
    if name in _SHIFTS:
        return _shift(_SHIFTS[name], llvm_type)
    if name in _ROTATES:
        return _rotate(_ROTATES[name], llvm_type)
    if name in _DIVISIONS:
        return _division(_DIVISIONS[name], llvm_type)
    if name == "copysign":
        return _copysign(valtype, llvm_type)
    return _min_max(name, llvm_type)


def _int_binary(instruction: str, llvm_type: str) -> Handler:
    adds = (instruction, llvm_type) == ("add", "i32")

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = f.stack.pop()
        left = f.stack.pop()
        f.push(llvm_type, f"{instruction} {left}, {right[4:]}", left, right)
        if adds and right[4] != "%":
            root, displacement = f.roots.get(left, (left, 0))
            f.roots[f.stack[-1]] = root, displacement + int(right[4:])

    return emit


def _float_binary(instruction: str, llvm_type: str) -> Handler:
    at = len(llvm_type) + 1

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = _two_operands(f, at)
        f.push(llvm_type, f"{instruction} {left}, {right[at:]}", left, right)

    return emit


def _two_operands(f: FunctionWriter, at: int) -> tuple[str, str]:
    """Pop two floating-point operands, of which one at most is a literal."""
    right = f.stack.pop()
    left = f.stack.pop()
    return (f.opaque(left) if right[at] != "%" else left), right


def _shift(instruction: str, llvm_type: str) -> Handler:
    mask = int(llvm_type[1:]) - 1

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = f.stack.pop()
        left = f.stack.pop()
        if right[4] == "%":
            f.push(llvm_type, f"and {right}, {mask}", right)
            amount = f.stack.pop()
        else:
            amount = f"{llvm_type} {int(right[4:]) & mask}"
        f.push(llvm_type, f"{instruction} {left}, {amount[4:]}", left, amount)

    return emit


def _rotate(intrinsic: str, llvm_type: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = f.stack.pop()
        left = f.stack.pop()
        # A funnel shift of a value with itself; the amount counts modulo the width, as in WebAssembly.
        f.push(llvm_type, f"call {llvm_type} @llvm.{intrinsic}.{llvm_type}({left}, {left}, {right})", left, right)

    return emit


def _division(instruction: str, llvm_type: str) -> Handler:
    minimum = -1 << (int(llvm_type[1:]) - 1)
    signed = instruction[0] == "s"

    def emit(f: FunctionWriter, offset: int, _: None) -> None:
        right = f.stack.pop()
        left = f.stack.pop()
        divisor = right[4:]
        constant = int(divisor) if divisor[0] != "%" else None
        if constant in (None, 0):
            f.trap_unless(f.emit(f"icmp ne {right}, 0"), "INTEGER_DIVIDE_BY_ZERO", offset)
        if signed and constant in (None, -1):
            if instruction == "srem":
                # Every remainder of -1 is 0, as every remainder of 1 is; but minimum / -1 overflows.
                minus_one = f.emit(f"icmp eq {right}, -1")
                divisor = f.emit(f"select i1 {minus_one}, {llvm_type} 1, {right}")
            else:
                minus_one = f.emit(f"icmp ne {right}, -1")
                not_minimum = f.emit(f"icmp ne {left}, {minimum}")
                f.trap_unless(f.emit(f"or i1 {minus_one}, {not_minimum}"), "INTEGER_OVERFLOW", offset)
        f.push(llvm_type, f"{instruction} {left}, {divisor}", left, right)

    return emit


def _copysign(suffix: str, llvm_type: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = _two_operands(f, len(llvm_type) + 1)
        f.push(llvm_type, f"call {llvm_type} @llvm.copysign.{suffix}({left}, {right})", left, right)

    return emit


def _min_max(name: str, llvm_type: str) -> Handler:
    at = len(llvm_type) + 1
    bits_type = "i32" if llvm_type == "float" else "i64"
    predicate, combine = {"min": ("olt", "or"), "max": ("ogt", "and")}[name]

    def emit(f: FunctionWriter, _: int, __: None) -> None:
        left, right = _two_operands(f, at)
        ordered = f.emit(f"fcmp {predicate} {left}, {right[at:]}")
        one = f.emit(f"select i1 {ordered}, {left}, {right}")
        # Equal operands differ in the sign of zero at most: its bits decide.
        left_bits = f.emit(f"bitcast {left} to {bits_type}")
        right_bits = f.emit(f"bitcast {right} to {bits_type}")
        bits = f.emit(f"{combine} {bits_type} {left_bits}, {right_bits}")
        equal = f.emit(f"bitcast {bits_type} {bits} to {llvm_type}")
        # The sum with a NaN is a quiet NaN.
        nan = f.emit(f"fadd {left}, {right[at:]}")
        unordered = f.emit(f"fcmp uno {left}, {right[at:]}")
        different = f.emit(f"fcmp one {left}, {right[at:]}")
        rest = f.emit(f"select i1 {unordered}, {llvm_type} {nan}, {llvm_type} {equal}")
        result = f.emit(f"select i1 {different}, {llvm_type} {one}, {llvm_type} {rest}")
        f.stack.append(f"{llvm_type} {result}")

    return emit


_FAMILIES: Final = {"const": _const, "test": _test, "compare": _compare, "unary": _unary, "binary": _binary}

HANDLERS: Final[dict[str, Handler]] = {
    op.name: _FAMILIES[op.family](op) for op in OPS.values() if op.family in _FAMILIES
}
