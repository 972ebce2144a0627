"""Variable, parametric and reference instructions."""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import INVARIANT, LLVM_TYPES, FunctionWriter
from lucet.compile.plan import GlobalPlan
from lucet.wasm.types import ValType


def _local_get(f: FunctionWriter, _: int, index: int) -> None:
    value = f.values.get(index)
    if value is None:
        llvm_type = f.local_types[index]
        f.values[index] = value = f"{llvm_type} {f.emit(f'load {llvm_type}, ptr %v{index}')}"
    f.stack.append(value)


def _local_set(f: FunctionWriter, _: int, index: int) -> None:
    value = f.stack.pop()
    if value[0] in "fd":
        value = f.opaque(value)
    f.out.append(f"  store {value}, ptr %v{index}")
    f.values[index] = value


def _local_tee(f: FunctionWriter, offset: int, index: int) -> None:
    _local_set(f, offset, index)
    f.stack.append(f.values[index])


def _global_get(f: FunctionWriter, _: int, index: int) -> None:
    one = f.plan.globals[index]
    if one.constant is not None and not one.mutable:
        f.stack.append(f.constant(one.valtype, one.constant))
        return
    llvm_type = LLVM_TYPES[one.valtype]
    # Init may yet compute those that are our own.
    invariant = INVARIANT if one.imported and not one.mutable else ""
    f.stack.append(f"{llvm_type} {f.emit(f'load {llvm_type}, ptr {_cell(f, one)}{invariant}')}")


def _global_set(f: FunctionWriter, _: int, index: int) -> None:
    one = f.plan.globals[index]
    # Volatile: a trap that follows must not find an older value.
    volatile = "volatile " if one.observable else ""
    value = f.opaque(f.stack.pop())
    f.out.append(f"  store {volatile}{value}, ptr {_cell(f, one)}")


def _cell(f: FunctionWriter, one: GlobalPlan) -> str:
    return f.word(one.offset) if one.indirect else f.address(one.offset)


def _drop(f: FunctionWriter, _: int, __: None) -> None:
    f.stack.pop()


def _select(f: FunctionWriter, _: int, __: object) -> None:
    condition = f.condition()
    right = f.opaque(f.stack.pop())
    left = f.opaque(f.stack.pop())
    llvm_type = "<2 x i64>" if left[0] == "<" else left[: left.index(" ")]
    f.push(llvm_type, f"select i1 {condition}, {left}, {right}", left, right)


def _ref_null(f: FunctionWriter, _: int, __: ValType) -> None:
    f.stack.append("ptr null")


def _ref_is_null(f: FunctionWriter, _: int, __: None) -> None:
    reference = f.stack.pop()
    f.push_bit(f"icmp eq {reference}, null", reference)


def _ref_func(f: FunctionWriter, _: int, function: int) -> None:
    f.stack.append(f"ptr {f.address(f.plan.ref_offsets[function])}")


def _ref_as_non_null(f: FunctionWriter, offset: int, _: None) -> None:
    f.trap_unless(f.emit(f"icmp ne {f.stack[-1]}, null"), "NULL_REFERENCE", offset)


HANDLERS: Final[dict[str, Handler]] = {
    "local.get": _local_get,
    "local.set": _local_set,
    "local.tee": _local_tee,
    "global.get": _global_get,
    "global.set": _global_set,
    "drop": _drop,
    "select": _select,
    "select_t": _select,
    "ref.null": _ref_null,
    "ref.is_null": _ref_is_null,
    "ref.func": _ref_func,
    "ref.as_non_null": _ref_as_non_null,
}
