"""The functions that no WebAssembly function is the source of: import thunks, entry trampolines, wrappers, init."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lucet.compile.emit_call import TAILCC, call, imported_function
from lucet.compile.emit_control import return_text
from lucet.compile.function import HANDLERS
from lucet.compile.ir import (
    BODY_ATTRIBUTES,
    LLVM_TYPES,
    SLOT_SIZE,
    FunctionText,
    FunctionWriter,
    signature,
    slot_alignment,
    slot_offsets,
)
from lucet.compile.plan import Plan
from lucet.wasm.module import Instr, Module
from lucet.wasm.types import F32, I32, FuncType, ValType


def runtime_functions(module: Module, plan: Plan) -> Iterator[FunctionText]:
    """All of them, in a fixed order."""
    imported = range(len(plan.function_imports))
    for function in imported:
        yield _hostcall_thunk(module, plan, function)
    in_tables = {item for table in plan.tables for item in table.entries or () if item is not None}
    for function in sorted(in_tables.intersection(imported)):
        yield _jump_thunk(module, plan, function)
    if plan.tail_calls:
        for function in sorted(plan.escapes.difference(imported)):
            yield _wrapper(module, plan, function)
    for index in plan.entry_types:
        yield _trampoline(plan.types[index], index)
    if plan.has_init:
        yield _init(module, plan)


def _hostcall_thunk(module: Module, plan: Plan, function: int) -> FunctionText:
    """An imported function that the host has: hand over the arguments in memory."""
    f = FunctionWriter(module, plan, module.func_type(function))
    sig = signature(f.functype)
    arguments = slot_offsets(f.functype.params)
    count = max(arguments[-1], sig.slots[-1], SLOT_SIZE) // SLOT_SIZE
    slots = f.alloca("%slots", f"[{count} x i64], align {SLOT_SIZE}")
    for index, valtype in enumerate(f.functype.params):
        store_slot(f, slots, arguments[index], valtype, f"%p{index}")
    f.builtin("hostcall", (f"i32 {function}", f"ptr {slots}"), 0)
    f.out += return_text(
        f, f.functype, [load_slot(f, slots, *item) for item in zip(sig.slots, f.functype.results, strict=False)]
    )
    return FunctionText(definition=f.definition(f"f{function}"), symbol=f"f{function}")


def _jump_thunk(module: Module, plan: Plan, function: int) -> FunctionText:
    """An imported function as a static table has it: called with our vmctx, wherever it is."""
    f = FunctionWriter(module, plan, module.func_type(function))
    f.stack = [f"{llvm_type} %p{index}" for index, llvm_type in enumerate(signature(f.functype).params)]
    code, vmctx = imported_function(f, function)
    call(f, f.functype, code, vmctx, 0)
    f.out += return_text(f, f.functype, f.stack)
    convention = TAILCC if plan.tail_calls else ""
    return FunctionText(definition=f.definition(f"j{function}", convention=convention), symbol=f"j{function}")


def _wrapper(module: Module, plan: Plan, function: int) -> FunctionText:
    """A function in tail-calling convention, for callers that use the C one."""
    f = FunctionWriter(module, plan, module.func_type(function))
    f.stack = [f"{llvm_type} %p{index}" for index, llvm_type in enumerate(signature(f.functype).params)]
    call(f, f.functype, f"@t{function}", "%vmctx", 0, convention=TAILCC)
    f.out += return_text(f, f.functype, f.stack)
    return FunctionText(definition=f.definition(f"f{function}"), symbol=f"f{function}", called=frozenset({function}))


def _trampoline(functype: FuncType, index: int) -> FunctionText:
    """Calls a function of one type with arguments from memory: void (vmctx, code, slots)."""
    f = FunctionWriter(Module(), _NO_PLAN, functype)
    arguments = slot_offsets(functype.params)
    f.stack = [load_slot(f, "%slots", *item) for item in zip(arguments, functype.params, strict=False)]
    call(f, functype, "%code", "%vmctx", 0)
    positions = slot_offsets(functype.results)
    for position, valtype, value in zip(positions, functype.results, f.stack, strict=False):
        store_slot(f, "%slots", position, valtype, value[len(LLVM_TYPES[valtype]) + 1 :])
    head = f"define hidden void @e{index}(ptr %vmctx, ptr %code, ptr %slots) {BODY_ATTRIBUTES} {{"
    lines = [head, *f.allocas.values(), *f.out, "  ret void\n}\n"]
    return FunctionText(definition="\n".join(lines), symbol=f"e{index}")


_NO_PLAN = Plan(
    types=(),
    type_map=(),
    function_types=(),
    entry_types=(),
    import_offsets=(),
    function_imports=(),
    memories=(),
    globals=(),
    tables=(),
    ref_offsets={},
    elems=(),
    datas=(),
    images=(),
    template=b"",
    instance_size=0,
    tail_calls=False,
    escapes=frozenset(),
    init_globals=(),
    init_tables=(),
    init_elems=(),
    init_datas=(),
)
"""A trampoline needs to know nothing of the module."""


def store_slot(f: FunctionWriter, slots: str, position: int, valtype: ValType, value: str) -> None:
    """Store a value as the whole slot, the upper half of narrow ones zero."""
    llvm_type = LLVM_TYPES[valtype]
    if valtype == F32:
        value = f.emit(f"bitcast float {value} to i32")
    if valtype in (I32, F32):
        value = f.emit(f"zext i32 {value} to i64")
        llvm_type = "i64"
    pointer = f.emit(f"getelementptr i8, ptr {slots}, i64 {position}")
    f.out.append(f"  store {llvm_type} {value}, ptr {pointer}{slot_alignment(llvm_type)}")


def load_slot(f: FunctionWriter, slots: str, position: int, valtype: ValType) -> str:
    llvm_type = LLVM_TYPES[valtype]
    pointer = f.emit(f"getelementptr i8, ptr {slots}, i64 {position}")
    return f"{llvm_type} {f.emit(f'load {llvm_type}, ptr {pointer}{slot_alignment(llvm_type)}')}"


def _init(module: Module, plan: Plan) -> FunctionText:
    """What instantiation must compute, in the specification's order: globals, tables, element and data segments."""
    f = FunctionWriter(module, plan, FuncType())
    imported = len(module.all_globals) - len(module.globals)
    for index in plan.init_globals:
        value = _expression(f, module.globals[index - imported].init)
        f.out.append(f"  store {value}, ptr {f.address(plan.globals[index].offset)}")
    for index in plan.init_tables:
        value = _expression(f, module.tables[index - len(module.all_tables) + len(module.tables)].init or [])
        f.builtin("table_fill", (f"i32 {index}", "i64 0", value, f"i64 {plan.tables[index].minimum}"), 0)
    for index in plan.init_elems:
        elem = module.elems[index]
        start = f.extend(_expression(f, elem.offset_expr or []))
        f.builtin("table_init", (f"i32 {elem.table}", f"i32 {index}", start, "i64 0", f"i64 {len(elem.items)}"), 0)
        f.out.append(f"  store i64 0, ptr {f.address(plan.elems[index].offset)}")
    for index in plan.init_datas:
        data = module.datas[index]
        start = f.extend(_expression(f, data.offset_expr or []))
        f.builtin("memory_init", (f"i32 {data.memory}", f"i32 {index}", start, "i64 0", f"i64 {len(data.bytes)}"), 0)
        f.out.append(f"  store i64 0, ptr {f.address(plan.datas[index].offset)}")
    f.out.append("  ret void")
    return FunctionText(definition=f.definition("init"), symbol="init")


def _expression(f: FunctionWriter, expr: Sequence[Instr]) -> str:
    for opcode, offset, immediate in expr[:-1]:
        HANDLERS[opcode](f, offset, immediate)
    return f.stack.pop()
