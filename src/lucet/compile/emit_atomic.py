"""Atomic instructions: sequentially consistent accesses, wait, notify and the fence.

Volatile like all accesses of the heap, so that one whose result nobody needs still traps. The address must be a
multiple of the width, which is looked at first.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import LLVM_TYPES, FunctionWriter
from lucet.wasm.opcodes import OPS, Op

Memarg = tuple[int, int, int]


def _width(op: Op) -> int:
    assert op.align is not None
    return 1 << op.align


def _address(f: FunctionWriter, operand: str, memarg: Memarg, width: int, offset: int) -> str:
    _, static_offset, memory = memarg
    if width > 1:
        low = f.emit(f"add {operand}, {static_offset % width}")
        misaligned = f.emit(f"and {operand[:3]} {low}, {width - 1}")
        f.trap_unless(f.emit(f"icmp eq {operand[:3]} {misaligned}, 0"), "UNALIGNED_ATOMIC", offset)
    return f.heap_address(memory, operand, static_offset, width, offset)


def _narrowed(f: FunctionWriter, operand: str, narrow: str) -> str:
    return operand if operand.startswith(narrow + " ") else f"{narrow} {f.emit(f'trunc {operand} to {narrow}')}"


def _push(f: FunctionWriter, narrow: str, value: str, llvm_type: str) -> None:
    if narrow != llvm_type:
        value = f.emit(f"zext {narrow} {value} to {llvm_type}")
    f.stack.append(f"{llvm_type} {value}")


def _load(op: Op) -> Handler:
    width, llvm_type = _width(op), LLVM_TYPES[op.pushes[0]]
    narrow = f"i{width * 8}"

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        pointer = _address(f, f.stack.pop(), memarg, width, offset)
        load = f"load atomic volatile {narrow}, ptr {pointer} seq_cst, align {width}"
        _push(f, narrow, f.emit(f"{load}{f.location(offset)}"), llvm_type)

    return emit


def _store(op: Op) -> Handler:
    width = _width(op)

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        value = f.stack.pop()
        pointer = _address(f, f.stack.pop(), memarg, width, offset)
        value = _narrowed(f, value, f"i{width * 8}")
        f.out.append(f"  store atomic volatile {value}, ptr {pointer} seq_cst, align {width}{f.location(offset)}")

    return emit


def _read_modify_write(op: Op, operation: str) -> Handler:
    width, llvm_type = _width(op), LLVM_TYPES[op.pushes[0]]
    narrow = f"i{width * 8}"

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        value = f.stack.pop()
        pointer = _address(f, f.stack.pop(), memarg, width, offset)
        value = _narrowed(f, value, narrow)
        change = f"atomicrmw volatile {operation} ptr {pointer}, {value} seq_cst, align {width}"
        _push(f, narrow, f.emit(f"{change}{f.location(offset)}"), llvm_type)

    return emit


def _compare_exchange(op: Op) -> Handler:
    width, llvm_type = _width(op), LLVM_TYPES[op.pushes[0]]
    narrow = f"i{width * 8}"

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        replacement, expected = f.stack.pop(), f.stack.pop()
        pointer = _address(f, f.stack.pop(), memarg, width, offset)
        values = f"{_narrowed(f, expected, narrow)}, {_narrowed(f, replacement, narrow)}"
        exchange = f"cmpxchg volatile ptr {pointer}, {values} seq_cst seq_cst, align {width}"
        both = f.emit(f"{exchange}{f.location(offset)}")
        _push(f, narrow, f.emit(f"extractvalue {{ {narrow}, i1 }} {both}, 0"), llvm_type)

    return emit


def _wait(op: Op) -> Handler:
    builtin = op.name.replace(".atomic.", "_")

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        _, static_offset, memory = memarg
        timeout, expected, address = f.stack.pop(), f.stack.pop(), f.extend(f.stack.pop())
        arguments = (f"i32 {memory}", address, f"i64 {static_offset}", expected, timeout)
        f.stack.append(f"i32 {f.builtin(builtin, arguments, offset)}")

    return emit


def _notify(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
    _, static_offset, memory = memarg
    count, address = f.stack.pop(), f.extend(f.stack.pop())
    arguments = (f"i32 {memory}", address, f"i64 {static_offset}", count)
    f.stack.append(f"i32 {f.builtin('memory_notify', arguments, offset)}")


def _fence(f: FunctionWriter, _: int, __: None) -> None:
    f.out.append("  fence seq_cst")


def _handler(op: Op) -> Handler:
    if op.name == "atomic.fence":
        return _fence
    if op.name == "memory.atomic.notify":
        return _notify
    if op.name.startswith("memory.atomic.wait"):
        return _wait(op)
    if ".rmw" not in op.name:
        return _load(op) if op.pushes else _store(op)
    operation = op.name.rsplit(".", 1)[1].removesuffix("_u")
    return _compare_exchange(op) if operation == "cmpxchg" else _read_modify_write(op, operation)


HANDLERS: Final[dict[str, Handler]] = {op.name: _handler(op) for op in OPS.values() if op.family == "atomic"}
