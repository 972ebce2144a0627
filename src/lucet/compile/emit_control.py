"""Control instructions. Branches leave their values in the target frame's slots, which SROA turns into phis.

Code that cannot be reached is not translated: after a branch, `skip` runs ahead to the `else` or `end` from where
code is reachable again.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.handlers import begin_clause, finish
from lucet.compile.ir import LLVM_TYPES, Frame, FunctionWriter, signature, slot_alignment
from lucet.wasm.module import Code
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.types import FuncType, ValType

_OPENING: Final = frozenset(BY_NAME[name].code for name in ("block", "loop", "if", "try", "try_table"))
_CATCHES: Final = frozenset(BY_NAME[name].code for name in ("catch", "catch_all"))
_DELEGATE: Final = BY_NAME["delegate"].code
_ELSE: Final = BY_NAME["else"].code
_END: Final = BY_NAME["end"].code


def begin_function(f: FunctionWriter, code: Code) -> None:
    f.instrs = iter(code.instrs)
    f.enter_frame(Frame("function", "return", f.functype, 0, 0))


def _block(f: FunctionWriter, _: int, functype: FuncType) -> None:
    push_frame(f, "block", "b", functype)


def _loop(f: FunctionWriter, offset: int, functype: FuncType) -> None:
    frame = push_frame(f, "loop", "l", functype)
    store_slots(f, frame, frame.params)
    f.out.append(f"  br label %{frame.label}")
    f.label(frame.label)
    f.begin_loop(offset)
    _load_slots(f, frame, frame.params)


def _if(f: FunctionWriter, _: int, functype: FuncType) -> None:
    condition = f.condition()
    frame = push_frame(f, "if", "b", functype)
    number = frame.label[1:]
    frame.alternative = f"e{number}", f.stack[frame.height :]
    f.out.append(f"  br i1 {condition}, label %i{number}, label %e{number}\ni{number}:")
    f.begin_arm(frame)


def _else(f: FunctionWriter, _: int, __: None) -> None:
    frame = f.frames[-1]
    jump(f, frame)
    _begin_else(f, frame)


def _begin_else(f: FunctionWriter, frame: Frame) -> None:
    assert frame.alternative is not None
    label, params = frame.alternative
    frame.alternative = None
    f.label(label)
    f.begin_arm(frame)
    f.stack[frame.height :] = params


def _end(f: FunctionWriter, offset: int, _: None) -> None:
    frame = f.frames[-1]
    if frame.alternative is not None:
        jump(f, frame)
        _begin_else(f, frame)
    if frame.clause:
        jump(f, frame)
        finish(f, frame, f.frames[-2].handler, offset)
        _begin_continuation(f, frame)
    elif frame.kind != "loop" and frame.reached:
        jump(f, frame)
        _begin_continuation(f, frame)
    f.leave_frame()
    if frame.behind:
        f.out.append(f"  br label %{frame.behind}")
        f.label(frame.behind)
    if not f.frames:
        _return_values(f)


def _end_unreachable(f: FunctionWriter, offset: int) -> bool:
    """The end of the innermost frame, which cannot be reached by falling through. Is what follows reachable?"""
    frame = f.frames[-1]
    if frame.alternative is not None:
        _begin_else(f, frame)
        jump(f, frame)
    if frame.clause:
        finish(f, frame, f.frames[-2].handler, offset)
    live = frame.kind != "loop" and frame.reached
    if live:
        _begin_continuation(f, frame)
    f.leave_frame()
    if live and not f.frames:
        _return_values(f)
    return live


def end_delegate(f: FunctionWriter, offset: int, label: int) -> bool:
    """Behind the body of a `try` that ends with `delegate`. Is what follows reachable?"""
    frame = f.frames[-1]
    # As if it were thrown in that frame; the label does not count the one that ends here.
    finish(f, frame, f.frames[-2 - label].handler, offset)
    if frame.reached:
        _begin_continuation(f, frame)
    f.leave_frame()
    return frame.reached


def _begin_continuation(f: FunctionWriter, frame: Frame) -> None:
    f.label(frame.label)
    f.begin_continuation(frame)
    del f.stack[frame.height :]
    _load_slots(f, frame, frame.results)


def skip(f: FunctionWriter) -> None:
    """Run ahead to where code is reachable again."""
    nested = 0
    for opcode, offset, immediate in f.instrs:
        if opcode in _OPENING:
            nested += 1
        elif opcode in _CATCHES and not nested:
            begin_clause(f, immediate)
            return
        elif opcode == _DELEGATE:
            if nested:
                nested -= 1
            elif end_delegate(f, offset, immediate):
                return
        elif opcode == _ELSE and not nested:
            _begin_else(f, f.frames[-1])
            return
        elif opcode == _END:
            if nested:
                nested -= 1
            elif _end_unreachable(f, offset):
                return


def jump_out(f: FunctionWriter) -> None:
    """Return the values on the stack's top from the function."""
    jump(f, f.frames[0])
    skip(f)


def _unreachable(f: FunctionWriter, offset: int, _: None) -> None:
    f.out.append(f.trap_text("UNREACHABLE", offset))
    skip(f)


def _nop(_f: FunctionWriter, _: int, __: None) -> None:
    pass


def _br(f: FunctionWriter, _: int, label: int) -> None:
    jump(f, f.frames[-1 - label])
    skip(f)


def _br_if(f: FunctionWriter, _: int, label: int) -> None:
    _branch_if(f, f.condition(), label)


def _branch_if(f: FunctionWriter, condition: str, label: int) -> None:
    frame = f.frames[-1 - label]
    store_slots(f, frame, label_types(frame))
    f.reach(frame)
    f.next += 1
    f.out.append(f"  br i1 {condition}, label %{frame.label}, label %c{f.next}\nc{f.next}:")
    f.begin_arm(None)


def _br_on_null(f: FunctionWriter, _: int, label: int) -> None:
    reference = f.stack.pop()
    _branch_if(f, f.emit(f"icmp eq {reference}, null"), label)
    f.stack.append(reference)


def _br_on_non_null(f: FunctionWriter, _: int, label: int) -> None:
    _branch_if(f, f.emit(f"icmp ne {f.stack[-1]}, null"), label)
    f.stack.pop()


def _br_table(f: FunctionWriter, _: int, immediate: tuple[tuple[int, ...], int]) -> None:
    labels, default = immediate
    operand = f.stack.pop()
    frames = f.frames
    for label in dict.fromkeys((*labels, default)):
        frame = frames[-1 - label]
        store_slots(f, frame, label_types(frame))
        f.reach(frame)
    cases = " ".join(f"i32 {index}, label %{frames[-1 - label].label}" for index, label in enumerate(labels))
    f.out.append(f"  switch {operand}, label %{frames[-1 - default].label} [ {cases} ]")
    skip(f)


def _return(f: FunctionWriter, _: int, __: None) -> None:
    jump_out(f)


def _return_values(f: FunctionWriter) -> None:
    f.settle()
    f.out.extend(return_text(f, f.functype, f.stack))


def return_text(f: FunctionWriter, functype: FuncType, values: list[str]) -> list[str]:
    """Instructions that return the values, in the form that the function type's signature has."""
    sig = signature(functype)
    values = [f.opaque(value) for value in values]
    if not values:
        return ["  ret void"]
    if sig.by_pointer:
        for value, position in zip(values, sig.slots, strict=False):
            pointer = f.emit(f"getelementptr i8, ptr %results, i64 {position}")
            f.out.append(f"  store {value}, ptr {pointer}{slot_alignment(value)}")
        return ["  ret void"]
    if len(values) == 1:
        return [f"  ret {values[0]}"]
    aggregate = "poison"
    for index, value in enumerate(values):
        aggregate = f.emit(f"insertvalue {sig.returns} {aggregate}, {value}, {index}")
    return [f"  ret {sig.returns} {aggregate}"]


def push_frame(f: FunctionWriter, kind: str, prefix: str, functype: FuncType) -> Frame:
    f.next += 1
    height = len(f.stack) - len(functype.params)
    frame = Frame(kind, f"{prefix}{f.next}", functype, height, len(f.frames))
    f.enter_frame(frame)
    return frame


def label_types(frame: Frame) -> tuple[ValType, ...]:
    return frame.params if frame.kind == "loop" else frame.results


def jump(f: FunctionWriter, frame: Frame) -> None:
    store_slots(f, frame, label_types(frame))
    f.reach(frame, only=True)
    f.out.append(f"  br label %{frame.label}")


def store_slots(f: FunctionWriter, frame: Frame, types: tuple[ValType, ...]) -> None:
    if types:
        for index, value in enumerate(f.stack[-len(types) :]):
            f.out.append(f"  store {f.opaque(value)}, ptr {f.slot(frame, index, types[index])}")


def _load_slots(f: FunctionWriter, frame: Frame, types: tuple[ValType, ...]) -> None:
    """Replace the values of a frame's label by those that the branches left."""
    del f.stack[frame.height :]
    for index, valtype in enumerate(types):
        llvm_type = LLVM_TYPES[valtype]
        f.stack.append(f"{llvm_type} {f.emit(f'load {llvm_type}, ptr {f.slot(frame, index, valtype)}')}")


HANDLERS: Final[dict[str, Handler]] = {
    "unreachable": _unreachable,
    "nop": _nop,
    "block": _block,
    "loop": _loop,
    "if": _if,
    "else": _else,
    "end": _end,
    "br": _br,
    "br_if": _br_if,
    "br_table": _br_table,
    "br_on_null": _br_on_null,
    "br_on_non_null": _br_on_non_null,
    "return": _return,
}
