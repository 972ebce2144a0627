"""Calls.

Functions of a module with tail calls have bodies in LLVM's tailcc (t<function>), which `tail call` makes a jump;
never `musttail`, which LLVM 22 miscompiles when arguments are on the stack. The bodies are weak, so that LLVM assumes
nothing about what they return: it would drop a result that it knows and return that value itself, and such a call is
no tail call. All other calls are `notail`, so that LLVM does not turn recursion into a loop: a runaway guest must
exhaust its stack, not hang.

tailcc pops its arguments, so functions that tail-call each other with stack arguments of different sizes leave the
caller's stack pointer, from which unwinding finds the caller's frame, where nobody can tell. So nothing is passed on
the stack: what has no register goes through words of the instance, which the callee reads first of all.
"""

from __future__ import annotations

from typing import Final

from lucet.abi.tables import STRUCTS
from lucet.compile.emit_control import jump_out, skip
from lucet.compile.emit_table import table_entry
from lucet.compile.handler import Handler
from lucet.compile.ir import INVARIANT, LIKELY, SLOT_SIZE, FunctionWriter, signature, slot_alignment
from lucet.wasm.types import FuncType

_FUNCREF: Final = {name: field.offset for name, field in STRUCTS["funcref"].fields.items()}
_ENTRY_CODE: Final = STRUCTS["static_entry"].fields["code"].offset
_ENTRY_TYPE: Final = f"i{8 * STRUCTS['static_entry'].size}"
TAILCC: Final = "tailcc "


def _call(f: FunctionWriter, offset: int, function: int) -> None:
    functype = f.module.func_type(function)
    if function < len(f.plan.function_imports):
        code, vmctx = imported_function(f, function)
        call(f, functype, code, vmctx, offset)
    else:
        f.called.add(function)
        convention, prefix = (TAILCC, "t") if f.plan.tail_calls else ("", "f")
        call(f, functype, f"@{prefix}{function}", "%vmctx", offset, convention=convention)


def imported_function(f: FunctionWriter, function: int) -> tuple[str, str]:
    """Code and vmctx of an imported function."""
    offset = f.plan.function_imports[function]
    return f.word(offset), f.word(offset + SLOT_SIZE)


def call(f: FunctionWriter, functype: FuncType, code: str, vmctx: str, offset: int, *, convention: str = "") -> None:
    """Pop the arguments, call, push the results."""
    sig = signature(functype)
    results = ""
    if sig.by_pointer:
        count = sig.slots[-1] // SLOT_SIZE
        results = f.alloca(f"%results{count}", f"[{count} x i64], align {SLOT_SIZE}")
    arguments = _arguments(f, functype, vmctx, results, spills=bool(convention))
    f.settle()
    value = f.emit_call(f"{sig.returns} {code}({arguments})", f.location(offset), convention=convention)
    if sig.by_pointer:
        for llvm_type, position in zip(sig.results, sig.slots, strict=False):
            pointer = f.emit(f"getelementptr i8, ptr {results}, i64 {position}")
            loaded = f.emit(f"load {llvm_type}, ptr {pointer}{slot_alignment(llvm_type)}")
            f.stack.append(f"{llvm_type} {loaded}")
    elif len(sig.results) == 1:
        f.stack.append(f"{sig.returns} {value}")
    else:
        for index, llvm_type in enumerate(sig.results):
            f.stack.append(f"{llvm_type} {f.emit(f'extractvalue {sig.returns} {value}, {index}')}")
    f.return_from()


def _arguments(f: FunctionWriter, functype: FuncType, vmctx: str, results: str, *, spills: bool) -> str:
    count = len(functype.params)
    arguments = [f.opaque(argument) for argument in f.stack[len(f.stack) - count :]]
    del f.stack[len(f.stack) - count :]
    if spills:
        spilled = signature(functype).spilled
        for index, offset in spilled.items():
            f.out.append(
                f"  store {arguments[index]}, ptr {f.address(f.plan.spill_offset + offset)}, align {SLOT_SIZE}"
            )
        arguments = [argument for index, argument in enumerate(arguments) if index not in spilled]
    return ", ".join([f"ptr {vmctx}", *([f"ptr {results}"] if results else []), *arguments])


def _call_indirect(f: FunctionWriter, offset: int, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    functype = f.module.types[type_index]
    if f.plan.tables[table].entries is None:
        reference = _dynamic_entry(f, table, functype, offset)
        code, vmctx = _field(f, reference, "code", offset), _field(f, reference, "vmctx", offset)
        call(f, functype, code, vmctx, offset)
    else:
        code = _static_entry(f, table, type_index, offset)
        call(f, functype, code, "%vmctx", offset, convention=TAILCC if f.plan.tail_calls else "")


def _static_entry(f: FunctionWriter, table: int, type_index: int, offset: int) -> str:
    """The code of the entry at the popped index, which takes our own vmctx, or a trap."""
    f.tables.add(table)
    operand = f.stack.pop()
    in_table = f.emit(f"icmp ult {operand}, {f.plan.tables[table].minimum}")
    f.trap_unless(in_table, "UNDEFINED_ELEMENT", offset)
    entry = f.emit(f"getelementptr {_ENTRY_TYPE}, ptr @table{table}, {f.extend(operand)}")
    found = f.emit(f"load i32, ptr {entry}{INVARIANT}")
    wanted = 1 + f.plan.type_map[type_index]
    _check_type(f, f.emit(f"icmp eq i32 {found}, {wanted}"), f"icmp eq i32 {found}, 0", offset)
    field = f.emit(f"getelementptr i8, ptr {entry}, i64 {_ENTRY_CODE}")
    delta = f.emit(f"load i32, ptr {field}{INVARIANT}")
    distance = f.emit(f"sext i32 {delta} to i64")
    return f.emit(f"getelementptr i8, ptr @table{table}, i64 {distance}")


def _dynamic_entry(f: FunctionWriter, table: int, functype: FuncType, offset: int) -> str:
    """The funcref at the popped index, or a trap."""
    entry = table_entry(f, table, f.stack.pop(), "UNDEFINED_ELEMENT", offset)
    reference = f.emit(f"load ptr, ptr {entry}")
    f.trap_unless(f.emit(f"icmp ne ptr {reference}, null"), "UNINITIALIZED_ELEMENT", offset)
    found = _field(f, reference, "type_id", offset, llvm_type="i64")
    f.trap_unless(f.emit(f"icmp eq i64 {found}, {functype.type_id()}"), "INDIRECT_CALL_TYPE_MISMATCH", offset)
    return reference


def _field(f: FunctionWriter, reference: str, name: str, offset: int, *, llvm_type: str = "ptr") -> str:
    # Located, since the load may change places with one of _checked_field, and be the one that faults.
    pointer = f.emit(f"getelementptr i8, ptr {reference}, i64 {_FUNCREF[name]}")
    return f.emit(f"load {llvm_type}, ptr {pointer}{f.location(offset)}")


def _checked_field(f: FunctionWriter, reference: str, name: str, offset: int) -> str:
    """The same, of a reference that may be null: such a load faults, and the fault handler makes the trap of it.

    Volatile, because LLVM may assume of any other load that its address is not null.
    """
    pointer = f.emit(f"getelementptr i8, {reference}, i64 {_FUNCREF[name]}")
    return f.emit(f"load volatile ptr, ptr {pointer}{f.location(offset)}")


def _check_type(f: FunctionWriter, condition: str, is_null: str, offset: int) -> None:
    f.next += 1
    number = f.next
    f.out.append(f"  br i1 {condition}, label %c{number}, label %m{number}{LIKELY}\nc{number}:")
    f.cold.append(
        f"m{number}:\n  %z{number} = {is_null}\n  br i1 %z{number}, label %u{number}, label %t{number}\n"
        f"u{number}:\n{f.trap_text('UNINITIALIZED_ELEMENT', offset)}\n"
        f"t{number}:\n{f.trap_text('INDIRECT_CALL_TYPE_MISMATCH', offset)}"
    )


def _call_ref(f: FunctionWriter, offset: int, type_index: int) -> None:
    reference = f.stack.pop()
    code, vmctx = (_checked_field(f, reference, name, offset) for name in ("code", "vmctx"))
    call(f, f.module.types[type_index], code, vmctx, offset)


def _return_call(f: FunctionWriter, offset: int, function: int) -> None:
    if function < len(f.plan.function_imports):
        # The callee is another instance's or the host's: its frame cannot replace ours.
        handler, f.handler = f.handler, 0  # what it throws must not come back here
        _call(f, offset, function)
        f.handler = handler
        jump_out(f)
        return
    f.called.add(function)
    _tail_call(f, f.module.func_type(function), f"@t{function}", offset)
    skip(f)


def _return_call_indirect(f: FunctionWriter, offset: int, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    functype = f.module.types[type_index]
    if f.plan.tables[table].entries is not None:
        _tail_call(f, functype, _static_entry(f, table, type_index, offset), offset)
        skip(f)
        return
    reference = _dynamic_entry(f, table, functype, offset)
    _tail_call_reference(f, functype, reference, _field(f, reference, "vmctx", offset), offset)


def _tail_call_reference(f: FunctionWriter, functype: FuncType, reference: str, vmctx: str, offset: int) -> None:
    """A tail call of any funcref but null: a jump, if it is a function of this instance."""
    tail_code = _field(f, reference, "tail_code", offset)
    own = f.emit(f"icmp eq ptr {vmctx}, %vmctx")
    has_tail_code = f.emit(f"icmp ne ptr {tail_code}, null")
    can_jump = f.emit(f"and i1 {own}, {has_tail_code}")
    f.settle()  # for both ways
    f.next += 1
    number = f.next
    f.out.append(f"  br i1 {can_jump}, label %j{number}, label %o{number}\nj{number}:")
    height = len(f.stack)
    arguments = f.stack[height - len(functype.params) :]
    _tail_call(f, functype, tail_code, offset)
    f.stack += arguments
    f.out.append(f"o{number}:")
    handler, f.handler = f.handler, 0
    call(f, functype, _field(f, reference, "code", offset), vmctx, offset)
    f.handler = handler
    jump_out(f)


def _return_call_ref(f: FunctionWriter, offset: int, type_index: int) -> None:
    reference = f.stack.pop()
    vmctx = _checked_field(f, reference, "vmctx", offset)
    _tail_call_reference(f, f.module.types[type_index], reference.removeprefix("ptr "), vmctx, offset)


def _tail_call(f: FunctionWriter, functype: FuncType, code: str, offset: int) -> None:
    sig = signature(functype)
    results = "%results" if sig.by_pointer else ""
    arguments = _arguments(f, functype, "%vmctx", results, spills=True)
    f.settle()
    f.leave_function()
    text = f"tail call {TAILCC}{sig.returns} {code}({arguments}){f.location(offset)}"
    if sig.returns == "void":
        f.out.append(f"  {text}\n  ret void")
    else:
        f.out.append(f"  ret {sig.returns} {f.emit(text)}")


HANDLERS: Final[dict[str, Handler]] = {
    "call": _call,
    "call_indirect": _call_indirect,
    "return_call": _return_call,
    "return_call_indirect": _return_call_indirect,
    "call_ref": _call_ref,
    "return_call_ref": _return_call_ref,
}
