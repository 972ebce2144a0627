"""Exceptions: throw, throw_ref, try_table; and those of the first proposal: try, catch, catch_all, delegate, rethrow.

Inside a try_table calls are LLVM invokes, whose landing pad leads to the dispatch below: the exception's tag is
compared with those of the clauses, innermost try_table first; what no clause of the function wants is thrown again. So
the runtime looks for the nearest landing pad only, and a try_table in which nobody throws costs nothing. Handlers read
the values out of the exception, which stays the runtime's: it is used again for the next one, unless a clause with a
reference says that it must live.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.emit_control import end_delegate, jump, label_types, push_frame, skip, store_slots
from lucet.compile.handler import Handler
from lucet.compile.handlers import begin_clause, branch_unless_matches, caught_slot, keep, landing, pass_on, push_values
from lucet.compile.ir import EXCEPTION, SLOT_SIZE, FunctionWriter, slot_offsets
from lucet.wasm.module import Catch
from lucet.wasm.types import FuncType


def _throw(f: FunctionWriter, offset: int, tag: int) -> None:
    params = f.module.tag_params(tag)
    values = f.stack[len(f.stack) - len(params) :]
    slots = "null"
    positions = slot_offsets(params)
    if params:
        slots = f.alloca(f"%thrown{positions[-1]}", f"[{positions[-1] // SLOT_SIZE} x i64], align {SLOT_SIZE}")
    for position, value in zip(positions, values, strict=False):
        _store_value(f, slots, position, value)
    f.builtin("throw", (f"i32 {tag}", f"ptr {slots}"), offset)
    _end_path(f)


def _throw_ref(f: FunctionWriter, offset: int, _: None) -> None:
    f.builtin("throw_ref", (f.stack.pop(),), offset)
    _end_path(f)


def _end_path(f: FunctionWriter) -> None:
    f.out.append("  unreachable")
    f.leave_function()
    skip(f)


def _store_value(f: FunctionWriter, slots: str, position: int, value: str) -> None:
    """The whole slot, the upper half of narrow values zero."""
    value = f.opaque(value)
    if value.startswith("float "):
        value = f"i32 {f.emit(f'bitcast {value} to i32')}"
    if value.startswith("i32 "):
        value = f.extend(value)
    pointer = f.emit(f"getelementptr i8, ptr {slots}, i64 {position}")
    f.out.append(f"  store {value}, ptr {pointer}, align {SLOT_SIZE}")


def _try_table(f: FunctionWriter, offset: int, immediate: tuple[FuncType, tuple[Catch, ...]]) -> None:
    functype, catches = immediate
    frame = push_frame(f, "block", "b", functype)
    if not catches:
        return
    outer = f.handler
    number = landing(f)
    f.out.append(f"dispatch{number}:")
    f.begin_handler()
    f.handler = 0
    _dispatch(f, offset, catches, outer)
    f.end_handler()
    f.out.append(f"body{number}:")
    frame.handler = f.handler = number


def _dispatch(f: FunctionWriter, offset: int, catches: tuple[Catch, ...], outer: int) -> None:
    """Branch to where the first matching clause leads, else to the dispatch of the outer try_table, or out."""
    exception = f.emit(f"load ptr, ptr {EXCEPTION}")
    found = f.emit(f"load ptr, ptr {exception}")
    seen: set[int | None] = set()
    for catch in catches:
        if catch.tag in seen:
            continue  # an earlier clause takes it
        seen.add(catch.tag)
        if catch.tag is None:
            _catch(f, catch, exception)
            return
        miss = branch_unless_matches(f, found, catch.tag)
        _catch(f, catch, exception)
        f.out.append(f"{miss}:")
    pass_on(f, outer, offset)


def _catch(f: FunctionWriter, catch: Catch, exception: str) -> None:
    # The try_table's own frame has been pushed, and the label does not count it.
    frame = f.frames[-2 - catch.label]
    height = len(f.stack)
    if catch.tag is not None:
        push_values(f, catch.tag, exception)
    if catch.with_ref:
        keep(f, exception)
        f.stack.append(f"ptr {exception}")
    store_slots(f, frame, label_types(frame))
    f.reach(frame)
    f.out.append(f"  br label %{frame.label}")
    del f.stack[height:]


def _try(f: FunctionWriter, _: int, functype: FuncType) -> None:
    frame = push_frame(f, "try", "b", functype)
    number = landing(f)
    f.out.append(f"body{number}:")
    frame.handler = f.handler = number
    frame.clause = f"dispatch{number}"


def _clause(f: FunctionWriter, _: int, tag: int | None) -> None:
    jump(f, f.frames[-1])
    begin_clause(f, tag)


def _delegate(f: FunctionWriter, offset: int, label: int) -> None:
    jump(f, f.frames[-1])
    end_delegate(f, offset, label)


def _rethrow(f: FunctionWriter, offset: int, label: int) -> None:
    exception = f.emit(f"load ptr, ptr {caught_slot(f.frames[-1 - label])}")
    f.builtin("throw_ref", (f"ptr {exception}",), offset)
    _end_path(f)


HANDLERS: Final[dict[str, Handler]] = {
    "throw": _throw,
    "throw_ref": _throw_ref,
    "try_table": _try_table,
    "try": _try,
    "catch": _clause,
    "catch_all": _clause,
    "delegate": _delegate,
    "rethrow": _rethrow,
}
