"""Recognises __multi3, by what it computes: the product of two 128-bit integers, stored where its first parameter says.

Compilers' run-time libraries put the product together from four of 32-bit halves. LLVM does not see what that is, but
x86-64 has one instruction for most of it. A function is taken for __multi3 if the two values that it stores, followed
through its locals, are expressions that are known to be the halves of the product; sums and products are compared
without regard to order. No name is looked at, and whatever differs is compiled as it stands.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter
from lucet.wasm.module import Code
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.types import I32, I64, FuncType

MULTI3: Final = FuncType(params=(I32, I64, I64, I64, I64))
"""(where, low half of one, its high half, low half of the other, its high half)"""

Term = tuple[object, ...]

_OPERATIONS: Final = {BY_NAME[f"i64.{name}"].code: name for name in ("add", "mul", "and", "or", "shl", "shr_u", "lt_u")}
_EXTEND: Final = BY_NAME["i64.extend_i32_u"].code
_LOCAL_GET, _LOCAL_SET, _LOCAL_TEE, _CONST, STORE = (
    BY_NAME[name].code for name in ("local.get", "local.set", "local.tee", "i64.const", "i64.store")
)


def _term(name: str, *operands: Term) -> Term:
    """An operation, in the one form that all equal ones have."""
    if name not in {"add", "mul", "and", "or"}:
        return (name, *operands)
    flat = [one for operand in operands for one in (operand[1:] if operand[0] == name else (operand,))]
    return (name, *sorted(flat, key=repr))


def _halves(a_low: Term, a_high: Term, b_low: Term, b_high: Term) -> tuple[Term, Term]:
    """The product's halves, as libraries compute them."""
    mask, bits = ("const", 0xFFFFFFFF), ("const", 32)

    def low(value: Term) -> Term:
        return _term("and", value, mask)

    def high(value: Term) -> Term:
        return _term("shr_u", value, bits)

    first = _term("mul", low(a_low), low(b_low))
    second = _term("add", high(first), _term("mul", low(a_low), high(b_low)))
    third = _term("add", low(second), _term("mul", high(a_low), low(b_low)))
    product_low = _term("or", _term("shl", third, bits), low(first))
    cross = (_term("mul", a_low, b_high), _term("mul", a_high, b_low))
    product_high = _term("add", _term("mul", high(a_low), high(b_low)), high(second), high(third), *cross)
    return product_low, product_high


def _halves_by_carries(a_low: Term, a_high: Term, b_low: Term, b_high: Term) -> tuple[Term, Term]:
    """The same as LLVM expands a product where there is no library."""
    mask, bits = ("const", 0xFFFFFFFF), ("const", 32)
    a_upper, b_upper = _term("shr_u", a_low, bits), _term("shr_u", b_low, bits)
    a_lower, b_lower = _term("and", a_low, mask), _term("and", b_low, mask)
    first, one = _term("mul", a_lower, b_lower), _term("mul", a_upper, b_lower)
    middle = _term("add", one, _term("mul", a_lower, b_upper))
    low = _term("add", first, _term("shl", middle, bits))
    carry = _term("shl", _term("extend", _term("lt_u", middle, one)), bits)
    upper = _term("or", carry, _term("shr_u", middle, bits))
    cross = (_term("mul", a_low, b_high), _term("mul", a_high, b_low))
    return low, _term("add", _term("mul", a_upper, b_upper), upper, _term("extend", _term("lt_u", low, first)), *cross)


_PARAMS: Final = [("param", index) for index in range(5)]
_KNOWN: Final = [
    halves(*operands)
    for halves in (_halves, _halves_by_carries)
    for operands in (_PARAMS[1:], _PARAMS[3:] + _PARAMS[1:3])
]


def is_multi3(functype: FuncType, code: Code) -> bool:
    if functype != MULTI3:
        return False
    locals_: dict[int, Term] = dict(enumerate(_PARAMS))
    stack: list[Term] = []
    stored: dict[int, Term] = {}
    for opcode, _, immediate in code.instrs[:-1]:
        if opcode == _LOCAL_GET and immediate in locals_:
            stack.append(locals_[immediate])
        elif opcode in (_LOCAL_SET, _LOCAL_TEE):
            locals_[immediate] = stack[-1]
            if opcode == _LOCAL_SET:
                stack.pop()
        elif opcode == _CONST:
            stack.append(("const", immediate))
        elif opcode in _OPERATIONS:
            right, left = stack.pop(), stack.pop()
            stack.append(_term(_OPERATIONS[opcode], left, right))
        elif opcode == _EXTEND:
            stack.append(_term("extend", stack.pop()))
        elif opcode == STORE and stack[-2] == _PARAMS[0] and immediate[2] == 0:
            stored[immediate[1]] = stack.pop()
            stack.pop()
        else:
            return False
    return sorted(stored) == [0, 8] and (stored[0], stored[8]) in _KNOWN


def emit_multi3(f: FunctionWriter, code: Code, store: Handler) -> None:
    """Pop the arguments and store the product."""
    where, *halves = f.stack[-5:]
    del f.stack[-5:]
    a_low, a_high, b_low, b_high = halves
    a, b = (f.emit(f"zext {half} to i128") for half in (a_low, b_low))
    product = f.emit(f"mul nuw i128 {a}, {b}")
    low = f.emit(f"trunc i128 {product} to i64")
    upper = f.emit(f"lshr i128 {product}, 64")
    high = f.emit(f"trunc i128 {upper} to i64")
    for one, other in ((a_low, b_high), (b_low, a_high)):
        high = f.emit(f"add i64 {high}, {f.emit(f'mul {one}, {other[4:]}')}")
    for opcode, offset, memarg in code.instrs:
        if opcode == STORE:
            f.stack += [where, f"i64 {high if memarg[1] else low}"]
            store(f, offset, memarg)
