"""Exceptions: throw, throw_ref, try_table.

Inside a try_table calls are LLVM invokes, whose landing pad leads to the dispatch below: the exception's tag is
compared with those of the clauses, innermost try_table first; what no clause of the function wants is thrown again. So
the runtime looks for the nearest landing pad only, and a try_table in which nobody throws costs nothing. Handlers read
the values out of the exception, which stays the runtime's: it is used again for the next one, unless a clause with a
reference says that it must live.
"""

from __future__ import annotations

from typing import Final

from lucet.abi.tables import STRUCTS
from lucet.compile.emit_control import label_types, push_frame, skip, store_slots
from lucet.compile.handler import Handler
from lucet.compile.ir import EXCEPTION, LLVM_TYPES, SLOT_SIZE, FunctionWriter, slot_offsets
from lucet.wasm.module import Catch
from lucet.wasm.types import FuncType

_EXCEPTION: Final = {name: field.offset for name, field in STRUCTS["exception"].fields.items()}
_PAYLOAD: Final = STRUCTS["exception"].size
_LANDING: Final = "landingpad { ptr, i32 } cleanup"


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
    f.next += 1
    number = f.next
    f.alloca(EXCEPTION, "ptr")
    f.out.append(f"  br label %body{number}\npad{number}:")
    pad = f.emit(_LANDING)
    f.out.append(f"  store ptr {f.emit(f'extractvalue {{ ptr, i32 }} {pad}, 0')}, ptr {EXCEPTION}")
    f.return_from()
    f.out.append(f"  br label %dispatch{number}\ndispatch{number}:")
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
        f.next += 1
        number = f.next
        matches = f.emit(f"icmp eq ptr {found}, {f.word(f.plan.tags[catch.tag].offset)}")
        f.out.append(f"  br i1 {matches}, label %hit{number}, label %miss{number}\nhit{number}:")
        _catch(f, catch, exception)
        f.out.append(f"miss{number}:")
    if outer:
        f.out.append(f"  br label %dispatch{outer}")
    else:
        f.builtin("throw_ref", (f"ptr {exception}",), offset)
        f.out.append("  unreachable")


def _catch(f: FunctionWriter, catch: Catch, exception: str) -> None:
    # The try_table's own frame has been pushed, and the label does not count it.
    frame = f.frames[-2 - catch.label]
    height = len(f.stack)
    params = () if catch.tag is None else f.module.tag_params(catch.tag)
    for valtype, position in zip(params, slot_offsets(params), strict=False):
        pointer = f.emit(f"getelementptr i8, ptr {exception}, i64 {_PAYLOAD + position}")
        llvm_type = LLVM_TYPES[valtype]
        f.stack.append(f"{llvm_type} {f.emit(f'load {llvm_type}, ptr {pointer}, align {SLOT_SIZE}')}")
    if catch.with_ref:
        pointer = f.emit(f"getelementptr i8, ptr {exception}, i64 {_EXCEPTION['kept']}")
        f.out.append(f"  store i32 1, ptr {pointer}")
        f.stack.append(f"ptr {exception}")
    store_slots(f, frame, label_types(frame))
    f.reach(frame)
    f.out.append(f"  br label %{frame.label}")
    del f.stack[height:]


HANDLERS: Final[dict[str, Handler]] = {
    "throw": _throw,
    "throw_ref": _throw_ref,
    "try_table": _try_table,
}
