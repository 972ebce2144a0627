"""An interpreter that does nothing but count: for functions on i32, with one memory and one global, and their calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module
from lucet.wasm.opcodes import OPS

FREE: Final = frozenset({"block", "loop", "else", "end", "nop", "drop", "unreachable", "return"})
_MASK: Final = 0xFFFFFFFF
_PAGE: Final = 1 << 16


class Trapped(Exception):
    """The guest trapped."""


class TooLong(Exception):
    """More instructions than a test has time for."""


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _divide(a: int, b: int) -> int:
    if not b:
        raise Trapped
    return a // b


_BINARY: Final[dict[str, Callable[[int, int], int]]] = {
    "i32.add": lambda a, b: a + b,
    "i32.sub": lambda a, b: a - b,
    "i32.mul": lambda a, b: a * b,
    "i32.and": lambda a, b: a & b,
    "i32.xor": lambda a, b: a ^ b,
    "i32.div_u": _divide,
    "i32.lt_s": lambda a, b: int(_signed(a) < _signed(b)),
    "i32.eq": lambda a, b: int(a == b),
}


class Counter:
    """Calls functions of one module, and counts the instructions that are executed."""

    def __init__(self, wasm: bytes, *, limit: int) -> None:
        self.module: Module = decode_module(wasm)
        self.memory = bytearray(_PAGE)
        self.globals = [0]
        self.count = 0
        self._limit = limit
        self._codes: dict[int, tuple[list[Any], int, dict[int, int], dict[int, int]]] = {}

    def call(self, function: int, arguments: list[int]) -> list[int]:
        instrs, locals_count, ends, elses = self._code(function)
        functype = self.module.func_type(function)
        local = [*arguments, *([0] * locals_count)]
        stack: list[int] = []
        labels: list[tuple[int, int, int]] = []
        """(where a branch goes, height of the stack, values that it takes along)"""
        labels.append((len(instrs), 0, len(functype.results)))
        at = 0
        while at < len(instrs):
            opcode, _, immediate = instrs[at]
            name = OPS[opcode].name
            self.count += name not in FREE
            if self.count > self._limit:
                raise TooLong
            at += 1
            target: int | None = None
            if name in ("block", "loop", "if"):
                height = len(stack) - len(immediate.params) - (name == "if")
                if name == "loop":
                    labels.append((at - 1, height, len(immediate.params)))
                else:
                    labels.append((ends[at - 1] + 1, height, len(immediate.results)))
                if name == "if" and not stack.pop():
                    at = elses.get(at - 1, ends[at - 1] - 1) + 1
            elif name == "else":
                at = ends[at - 1]
            elif name == "end":
                labels.pop()
            elif name == "br":
                target = immediate
            elif name == "br_if":
                target = immediate if stack.pop() else None
            elif name == "br_table":
                chosen, index = immediate, stack.pop()
                target = chosen[0][index] if index < len(chosen[0]) else chosen[1]
            elif name == "return":
                target = len(labels) - 1
            elif name == "unreachable":
                raise Trapped
            elif name == "call":
                count = len(self.module.func_type(immediate).params)
                passed = stack[len(stack) - count :]
                del stack[len(stack) - count :]
                stack += self.call(immediate, passed)
            elif name in _BINARY:
                right = stack.pop()
                stack.append(_BINARY[name](stack.pop(), right) & _MASK)
            else:
                self._plain(name, immediate, local, stack)
            if target is not None:
                at, height, arity = labels[-1 - target]
                stack[height : len(stack) - arity] = []
                del labels[len(labels) - 1 - target :]
                if not labels:
                    break
        return stack

    def _plain(self, name: str, immediate: Any, local: list[int], stack: list[int]) -> None:
        match name:
            case "i32.const":
                stack.append(immediate & _MASK)
            case "local.get":
                stack.append(local[immediate])
            case "local.set":
                local[immediate] = stack.pop()
            case "local.tee":
                local[immediate] = stack[-1]
            case "global.get":
                stack.append(self.globals[immediate])
            case "global.set":
                self.globals[immediate] = stack.pop()
            case "drop":
                stack.pop()
            case "nop":
                pass
            case "i32.eqz":
                stack.append(int(not stack.pop()))
            case "select":
                condition, right = stack.pop(), stack.pop()
                stack[-1] = stack[-1] if condition else right
            case "i32.load8_u":
                stack.append(self.memory[self._address(stack.pop())])
            case "i32.store8":
                value = stack.pop()
                self.memory[self._address(stack.pop())] = value & 0xFF
            case _:
                raise NotImplementedError(name)

    def _address(self, address: int) -> int:
        if address >= len(self.memory):
            raise Trapped
        return address

    def _code(self, function: int) -> tuple[list[Any], int, dict[int, int], dict[int, int]]:
        if function not in self._codes:
            code = decode_code(self.module, function)
            ends: dict[int, int] = {}
            elses: dict[int, int] = {}
            opened: list[int] = []
            for at, (opcode, _, _) in enumerate(code.instrs):
                name = OPS[opcode].name
                if name in ("block", "loop", "if"):
                    opened.append(at)
                elif name == "else":
                    elses[opened[-1]] = at
                    opened.append(at)
                elif name == "end" and opened:
                    start = opened.pop()
                    ends[start] = at
                    if OPS[code.instrs[start][0]].name == "else":
                        ends[opened.pop()] = at
            self._codes[function] = list(code.instrs), len(code.locals), ends, elses
        return self._codes[function]
