"""Landing pads, and the clauses of the first exceptions proposal's `try`: what emit_control and emit_exception share.

A clause stands behind the body, so the dispatch is made step by step: each clause begins at the label where what the
ones before it have not taken goes on. Its exception is kept in a stack slot while it may be thrown again.
"""

from __future__ import annotations

from typing import Final

from lucet.abi.tables import STRUCTS
from lucet.compile.ir import EXCEPTION, LLVM_TYPES, SLOT_SIZE, Frame, FunctionWriter, slot_offsets

_KEPT: Final = STRUCTS["exception"].fields["kept"].offset
_PAYLOAD: Final = STRUCTS["exception"].size
_LANDING: Final = "landingpad { ptr, i32 } cleanup"


def landing(f: FunctionWriter) -> int:
    """A landing pad, which leads to the label dispatch<number>; what follows is to be in front of body<number>."""
    f.next += 1
    number = f.next
    f.alloca(EXCEPTION, "ptr")
    f.out.append(f"  br label %body{number}\npad{number}:")
    pad = f.emit(_LANDING)
    f.out.append(f"  store ptr {f.emit(f'extractvalue {{ ptr, i32 }} {pad}, 0')}, ptr {EXCEPTION}")
    f.return_from()
    f.out.append(f"  br label %dispatch{number}")
    return number


def branch_unless_matches(f: FunctionWriter, found: str, tag: int) -> str:
    """Go on here if the tag found is this one, else at the label that is returned."""
    f.next += 1
    number = f.next
    matches = f.emit(f"icmp eq ptr {found}, {f.word(f.plan.tags[tag].offset)}")
    f.out.append(f"  br i1 {matches}, label %hit{number}, label %miss{number}\nhit{number}:")
    return f"miss{number}"


def push_values(f: FunctionWriter, tag: int, exception: str) -> None:
    params = f.module.tag_params(tag)
    for valtype, position in zip(params, slot_offsets(params), strict=False):
        pointer = f.emit(f"getelementptr i8, ptr {exception}, i64 {_PAYLOAD + position}")
        llvm_type = LLVM_TYPES[valtype]
        f.stack.append(f"{llvm_type} {f.emit(f'load {llvm_type}, ptr {pointer}, align {SLOT_SIZE}')}")


def keep(f: FunctionWriter, exception: str) -> None:
    """The guest has a reference to it from now on."""
    pointer = f.emit(f"getelementptr i8, ptr {exception}, i64 {_KEPT}")
    f.out.append(f"  store i32 1, ptr {pointer}")


def pass_on(f: FunctionWriter, handler: int, offset: int) -> None:
    """What is in the slot EXCEPTION goes to this try or try_table of the function; 0: out of the function."""
    if handler:
        f.out.append(f"  br label %dispatch{handler}")
        return
    exception = f.emit(f"load ptr, ptr {EXCEPTION}")
    f.handler = 0
    f.builtin("throw_ref", (f"ptr {exception}",), offset)
    f.out.append("  unreachable")


def begin_clause(f: FunctionWriter, tag: int | None) -> None:
    """Behind the body, or another clause, of the innermost frame, a `try`: its next clause, for a tag or for all."""
    frame = f.frames[-1]
    f.label(frame.clause)
    frame.handler = f.handler = f.frames[-2].handler
    f.begin_clause()
    exception = f.emit(f"load ptr, ptr {EXCEPTION}")
    frame.clause = ""
    if tag is not None:
        found = f.emit(f"load ptr, ptr {exception}")
        frame.clause = branch_unless_matches(f, found, tag)
    keep(f, exception)
    f.out.append(f"  store ptr {exception}, ptr {f.alloca(caught_slot(frame), 'ptr')}")
    del f.stack[frame.height :]
    if tag is not None:
        push_values(f, tag, exception)


def caught_slot(frame: Frame) -> str:
    return f"%caught{frame.depth}"


def finish(f: FunctionWriter, frame: Frame, handler: int, offset: int) -> None:
    """What no clause of the `try` has taken."""
    f.out.append(f"{frame.clause}:")
    pass_on(f, handler, offset)
    frame.clause = ""
