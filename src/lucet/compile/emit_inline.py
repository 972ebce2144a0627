"""Translates a call of a small function without branches as the function's instructions.

Producers have inlined what is worth it, but not their helpers for what WebAssembly has no instruction for, above all
__multi3 (multi3.py). LLVM cannot inline such functions itself: it would count the line table's offsets from the wrong
function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import LLVM_TYPES, FunctionWriter
from lucet.compile.lines import MAX_INLINED, inlined_line
from lucet.compile.multi3 import STORE, emit_multi3, is_multi3
from lucet.errors import CompileError
from lucet.wasm.code import decode_code
from lucet.wasm.module import Code, Module
from lucet.wasm.opcodes import BY_NAME, OPS
from lucet.wasm.valid_code import validate_code

MAX_BODY: Final = 160
"""Bytes of an inlined function's body."""
MAX_TOTAL: Final = 16_000
"""Bytes of all that are inlined into one function."""

assert MAX_BODY <= MAX_INLINED

_END: Final = BY_NAME["end"].code
_LOCALS: Final = frozenset(BY_NAME[name].code for name in ("local.get", "local.set", "local.tee"))
_FAMILIES: Final = frozenset(("const", "test", "compare", "unary", "binary", "convert", "load", "store", "parametric"))
_ALLOWED: Final = _LOCALS | {
    op.code for op in OPS.values() if op.family in _FAMILIES or op.name in {"global.get", "global.set"}
}


class Inliner:
    """Knows which functions of a module may be inlined."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._codes: dict[int, Code | None] = {}

    def code_of(self, function: int) -> Code | None:
        """The code of a function if it may be inlined."""
        if function not in self._codes:
            self._codes[function] = self._decide(function)
        return self._codes[function]

    def _decide(self, function: int) -> Code | None:
        if function < self._module.imported_func_count:
            return None
        if len(self._module.bodies[function - self._module.imported_func_count].body) > MAX_BODY:
            return None
        try:
            code = decode_code(self._module, function)
            validate_code(self._module, function, code)
        except CompileError:
            return None  # whoever compiles the function itself reports it
        return code if all(opcode in _ALLOWED for opcode, _, _ in code.instrs[:-1]) else None

    def product_memory(self, function: int) -> int | None:
        """The memory that a call stores a product of 128 bits in; None if it does something else."""
        code = self.code_of(function)
        if code is None or not is_multi3(self._module.func_type(function), code):
            return None
        memories = {immediate[2] for opcode, _, immediate in code.instrs if opcode == STORE}
        return memories.pop() if len(memories) == 1 else None


def emit_inlined(
    f: FunctionWriter, function: int, code: Code, handlers: Mapping[int, Handler], call_offset: int
) -> None:
    """Pop the arguments, do what the function does, push its results."""
    functype = f.module.func_type(function)
    body = f.module.bodies[function - f.module.imported_func_count]
    # What becomes the line; not the distance of the two functions, because objects are kept while that changes.
    shift = f.line_base + inlined_line(function) - body.offset
    instrs = [(opcode, offset + shift, immediate) for opcode, offset, immediate in code.instrs]
    if is_multi3(functype, code):
        if call_offset in f.plain_pointers:
            # The two stores have places of their own in this copy of a loop; the offsets of all calls' are the same.
            pointer, distance = f.plain_pointers[call_offset]
            f.plain_pointers |= {
                offset: (pointer, distance + immediate[1]) for opcode, offset, immediate in instrs if opcode == STORE
            }
        emit_multi3(f, replace(code, instrs=instrs), handlers[STORE])
        return
    first = len(f.local_types)
    count = len(functype.params)
    values = f.stack[len(f.stack) - count :]
    del f.stack[len(f.stack) - count :]
    values += [f.constant(valtype, 0) for valtype in code.locals]
    for index, (valtype, value) in enumerate(zip((*functype.params, *code.locals), values, strict=True), start=first):
        llvm_type = LLVM_TYPES[valtype]
        f.local_types.append(llvm_type)
        f.alloca(f"%v{index}", llvm_type)
        f.values[index] = f.opaque(value)
        f.out.append(f"  store {f.values[index]}, ptr %v{index}")
    for opcode, offset, immediate in instrs[:-1]:
        handlers[opcode](f, offset, immediate + first if opcode in _LOCALS else immediate)
