"""Constant expressions: their value, where it is known before instantiation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lucet.wasm.module import Instr
from lucet.wasm.opcodes import BY_NAME, OPS

_BINARY: Final[dict[str, tuple[Callable[[int, int], int], int]]] = {
    f"i{bits}.{name}": (operation, (1 << bits) - 1)
    for bits in (32, 64)
    for name, operation in (("add", operator.add), ("sub", operator.sub), ("mul", operator.mul))
}
_MASKS: Final = {
    "i32.const": 0xFFFFFFFF,
    "i64.const": (1 << 64) - 1,
    "f32.const": -1,
    "f64.const": -1,
    "v128.const": -1,
}
_REF_FUNC: Final = BY_NAME["ref.func"].code
_REF_NULL: Final = BY_NAME["ref.null"].code


def constant_bits(expr: Sequence[Instr], globals_bits: Mapping[int, int]) -> int | None:
    """The bits of a valid constant expression, unsigned; None if it needs the instance.

    globals_bits: those of the globals whose value is known; null is 0, no other reference is known.
    """
    stack: list[int] = []
    for opcode, _, immediate in expr:
        name = OPS[opcode].name
        if name in _MASKS:
            stack.append(immediate & _MASKS[name])
        elif name in _BINARY:
            operation, mask = _BINARY[name]
            right = stack.pop()
            stack.append(operation(stack.pop(), right) & mask)
        elif name == "global.get" and immediate in globals_bits:
            stack.append(globals_bits[immediate])
        elif name == "ref.null":
            stack.append(0)
        elif name != "end":
            return None
    return stack.pop()


def constant_item(expr: Sequence[Instr]) -> int:
    """A valid element expression as artifact.def encodes it: function index; -1 null; -2 - g the value of global g."""
    opcode, _, immediate = expr[0]
    if opcode == _REF_FUNC:
        return int(immediate)
    return -1 if opcode == _REF_NULL else -2 - int(immediate)


def ref_funcs(expr: Sequence[Instr]) -> set[int]:
    return {immediate for opcode, _, immediate in expr if opcode == _REF_FUNC}
