"""Translates one function body."""

from __future__ import annotations

from typing import Final

from lucet.compile import emit_call, emit_control, emit_convert, emit_memory, emit_numeric, emit_table, emit_variable
from lucet.compile.handler import Handler
from lucet.compile.ir import (
    FIRST_SUBPROGRAM,
    LLVM_TYPES,
    ZEROS,
    FunctionText,
    FunctionWriter,
    subprogram_text,
)
from lucet.compile.plan import Plan
from lucet.wasm.module import Code, Module
from lucet.wasm.opcodes import BY_NAME

_MODULES: Final = (
    emit_control,
    emit_call,
    emit_variable,
    emit_table,
    emit_memory,
    emit_numeric,
    emit_convert,
)

HANDLERS: Final[dict[int, Handler]] = {
    BY_NAME[name].code: handler for module in _MODULES for name, handler in module.HANDLERS.items()
}


def translate(module: Module, plan: Plan, function: int, code: Code) -> FunctionText:
    """LLVM IR for a defined function whose code is valid."""
    symbol = f"t{function}" if plan.tail_calls else f"f{function}"
    scope = FIRST_SUBPROGRAM + function
    body = module.bodies[function - module.imported_func_count]
    f = FunctionWriter(module, plan, module.func_type(function), wasm_offset=body.offset, scope=scope)
    _declare_locals(f, code)
    emit_control.begin_function(f, code)
    handlers = HANDLERS
    for opcode, offset, immediate in f.instrs:
        handlers[opcode](f, offset, immediate)
    return FunctionText(
        definition=f.definition(symbol, convention=emit_call.TAILCC if plan.tail_calls else ""),
        symbol=symbol,
        subprogram=subprogram_text(scope, symbol),
        called=frozenset(f.called),
        tables=frozenset(f.tables),
    )


def _declare_locals(f: FunctionWriter, code: Code) -> None:
    params = f.functype.params
    f.locals = (*params, *code.locals)
    for index, valtype in enumerate(f.locals):
        f.alloca(f"%v{index}", LLVM_TYPES[valtype])
    for index, valtype in enumerate(params):
        f.out.append(f"  store {LLVM_TYPES[valtype]} %p{index}, ptr %v{index}")
    for index, valtype in enumerate(code.locals, start=len(params)):
        f.out.append(f"  store {ZEROS[valtype]}, ptr %v{index}")
