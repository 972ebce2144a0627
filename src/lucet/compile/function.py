"""Translates one function body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lucet.compile import (
    emit_atomic,
    emit_call,
    emit_control,
    emit_convert,
    emit_exception,
    emit_inline,
    emit_loop,
    emit_memory,
    emit_numeric,
    emit_table,
    emit_variable,
    emit_vector,
    emit_vector_float,
    emit_vector_lanes,
    emit_wide,
)
from lucet.compile.effort import Effort
from lucet.compile.emit_inline import Inliner
from lucet.compile.fuel import CountingWriter
from lucet.compile.handler import Handler
from lucet.compile.ir import (
    FIRST_SUBPROGRAM,
    LLVM_TYPES,
    FunctionText,
    FunctionWriter,
    subprogram_text,
)
from lucet.compile.loops import CheckedLoop, find_loops
from lucet.compile.plan import Plan
from lucet.compile.reroll import is_serial
from lucet.compile.versions import versions
from lucet.wasm.module import Code, Module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.types import FuncType

_MODULES: Final = (
    emit_control,
    emit_call,
    emit_exception,
    emit_variable,
    emit_table,
    emit_memory,
    emit_atomic,
    emit_numeric,
    emit_convert,
    emit_wide,
    emit_vector,
    emit_vector_float,
    emit_vector_lanes,
)

HANDLERS: Final[dict[int, Handler]] = {
    BY_NAME[name].code: handler for module in _MODULES for name, handler in module.HANDLERS.items()
}
_CALL, _LOOP = BY_NAME["call"].code, BY_NAME["loop"].code
_BLOCK_LINES: Final = 500


def translate(
    module: Module,
    plan: Plan,
    function: int,
    code: Code,
    inliner: Inliner | None = None,
    *,
    effort: Effort = Effort.USUAL,
) -> FunctionText:
    """LLVM IR for a defined function whose code is valid. effort: what is known of it; it may be found to be HARD."""
    symbol = f"t{function}" if plan.tail_calls else f"f{function}"
    scope = FIRST_SUBPROGRAM + function
    body = module.bodies[function - module.imported_func_count]
    f = _writer(module, plan, function, wasm_offset=body.offset, scope=scope)
    _declare_locals(f, code)
    # A profile knows better than the size what is worth it.
    hot = len(body.body) <= plan.copied_size if plan.hot is None else function in plan.hot and plan.copied_size > 0
    products = inliner.product_memory if inliner is not None else (lambda _: None)
    usual = effort is Effort.USUAL
    loops = find_loops(module, f.functype, code, products) if hot and usual else {}
    # A copy that cannot be vectorised would gain nothing.
    loops = {offset: loop for offset, loop in loops.items() if not is_serial(loop, f.local_types)}
    if isinstance(f, CountingWriter):
        _translate_counting(f, code, function in plan.escapes)
    elif effort is Effort.NONE:
        _translate_plainly(f, code)
    else:
        _translate(f, code, _special_handlers(loops, inliner if usual else None))
    if usual and (loops if plan.hot is None else hot):
        effort = Effort.HARD
    text = FunctionText(
        definition=f.definition(symbol, convention=emit_call.TAILCC if plan.tail_calls else ""),
        symbol=symbol,
        subprogram=subprogram_text(scope, symbol),
        called=frozenset(f.called),
        tables=frozenset(f.tables),
        effort=effort,
    )
    return versions(f, text, scope) if plan.multi and effort is Effort.HARD else text


def _writer(module: Module, plan: Plan, function: int, *, wasm_offset: int, scope: int) -> FunctionWriter:
    writer = CountingWriter if plan.count_instructions else FunctionWriter
    return writer(module, plan, module.func_type(function), wasm_offset=wasm_offset, scope=scope)


def _special_handlers(loops: Mapping[int, CheckedLoop], inliner: Inliner | None) -> dict[int, Handler]:
    """Those that are others in this function."""
    handlers: dict[int, Handler] = {}
    if loops:

        def loop_and_copy(f: FunctionWriter, offset: int, functype: FuncType) -> None:
            found = loops.get(offset)
            if found is None:
                HANDLERS[_LOOP](f, offset, functype)
                return
            f.next += 1
            behind = f"h{f.next}"
            emit_loop.emit_checked(f, found, {**HANDLERS, **handlers}, behind)
            HANDLERS[_LOOP](f, offset, functype)
            f.frames[-1].behind = behind

        handlers[_LOOP] = loop_and_copy
    if inliner is not None:
        room = emit_inline.MAX_TOTAL

        def call_or_inline(f: FunctionWriter, offset: int, function: int) -> None:
            nonlocal room
            # In the copy of a loop there must be no call.
            inlined = inliner.code_of(function) if room > 0 or offset in f.plain_pointers else None
            if inlined is None:
                HANDLERS[_CALL](f, offset, function)
                return
            room -= emit_inline.MAX_BODY
            emit_inline.emit_inlined(f, function, inlined, HANDLERS, offset)

        handlers[_CALL] = call_or_inline
    return handlers


def _translate(f: FunctionWriter, code: Code, special: dict[int, Handler]) -> None:
    emit_control.begin_function(f, code)
    handlers = {**HANDLERS, **special} if special else HANDLERS
    for opcode, offset, immediate in f.instrs:
        handlers[opcode](f, offset, immediate)


def _translate_plainly(f: FunctionWriter, code: Code) -> None:
    """In blocks of bounded length, which stay as they are because no pass joins them."""
    emit_control.begin_function(f, code)
    handlers = HANDLERS
    limit = _BLOCK_LINES
    for opcode, offset, immediate in f.instrs:
        handlers[opcode](f, offset, immediate)
        if len(f.out) > limit and f.frames:
            limit = len(f.out) + _BLOCK_LINES
            f.next += 1
            f.out.append(f"  br label %c{f.next}")
            f.label(f"c{f.next}")


def _translate_counting(f: CountingWriter, code: Code, escapes: bool) -> None:
    f.begin(code, escapes)
    emit_control.begin_function(f, code)
    handlers = HANDLERS
    for opcode, offset, immediate in f.instrs:
        f.count(opcode)
        handlers[opcode](f, offset, immediate)


def _declare_locals(f: FunctionWriter, code: Code) -> None:
    """Every local has a stack slot, which LLVM turns into values again, and starts as its parameter or zero."""
    params = f.functype.params
    f.local_types = [LLVM_TYPES[valtype] for valtype in (*params, *code.locals)]
    for index, llvm_type in enumerate(f.local_types):
        f.alloca(f"%v{index}", llvm_type)
        f.values[index] = f"{llvm_type} %p{index}"
    zeros = {valtype: f.constant(valtype, 0) for valtype in dict.fromkeys(code.locals)}
    for index, valtype in enumerate(code.locals, start=len(params)):
        f.values[index] = zeros[valtype]
    f.out += [f"  store {value}, ptr %v{index}" for index, value in f.values.items()]
