"""Loads, stores and the memory instructions.

Every access of the heap is volatile: a load whose result nobody needs traps all the same, and no store moves across a
trap that comes first. Only those in the copy of a loop (emit_loop.py) are not, because it cannot trap. Alignment is a
promise in LLVM, but a hint in WebAssembly, so it is 1.
"""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import LLVM_TYPES, FunctionWriter
from lucet.compile.vector import has_masks
from lucet.wasm.opcodes import OPS, Op

Memarg = tuple[int, int, int]


def _load(op: Op) -> Handler:
    assert op.align is not None
    width = 1 << op.align
    llvm_type = LLVM_TYPES[op.pushes[0]]
    is_float = llvm_type in ("float", "double")
    narrow = f"i{width * 8}" if op.name.endswith(("_s", "_u")) else llvm_type
    extension = "" if narrow == llvm_type else "sext" if op.name.endswith("_s") else "zext"

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        _, static_offset, memory = memarg
        address = operand = f.stack.pop()
        if offset in f.plain_pointers:
            if f.plain_pointers[offset] in f.scratch:
                f.stack.append(f.scratch[f.plain_pointers[offset]])
                return
            value = f.emit(f"load {narrow}, ptr {_plain_pointer(f, offset)}, align 1")
            if extension:
                value = f.emit(f"{extension} {narrow} {value} to {llvm_type}")
            f.stack.append(f"{llvm_type} {value}")
            return
        contents = f.contents
        root, displacement = f.place(operand, static_offset)
        known = contents.get((memory, root, displacement, narrow))
        if known is not None and known[1:] == (operand, static_offset):
            f.stack.append(_extended(f, known[0], extension, llvm_type))
            return
        pointer = f.heap_address(memory, operand, static_offset, width, offset)
        f.contents = contents
        location = f.location(offset)
        value = f.emit(f"load volatile {narrow}, ptr {pointer}, align 1{location}")
        if extension:
            value = f.emit(f"{extension} {narrow} {value} to {llvm_type}{location}")
        if known is not None:
            # By another way to the same place: it may trap, but what it loads is known.
            f.stack.append(_extended(f, known[0], extension, llvm_type))
            return
        operand = f"{llvm_type} {value}"
        if is_float and has_masks(f):
            operand = f.fence(operand)  # or a select of it becomes a load under a condition
        f.loads[operand] = offset
        f.last_load = offset, memory, address, static_offset, width
        f.stack.append(operand)

    return emit


def _extended(f: FunctionWriter, value: str, extension: str, llvm_type: str) -> str:
    return f"{llvm_type} {f.emit(f'{extension} {value} to {llvm_type}')}" if extension else value


def _plain_pointer(f: FunctionWriter, offset: int) -> str:
    pointer, distance = f.plain_pointers[offset]
    return f.emit(f"getelementptr inbounds i8, ptr {pointer}, i64 {distance}") if distance else pointer


def _store(op: Op) -> Handler:
    assert op.align is not None
    width = 1 << op.align
    llvm_type = LLVM_TYPES[op.pops[1]]
    narrow = f"i{width * 8}" if op.name[-1].isdigit() else llvm_type

    def emit(f: FunctionWriter, offset: int, memarg: Memarg) -> None:
        _, static_offset, memory = memarg
        value = f.stack.pop()
        operand = f.stack.pop()
        plain = offset in f.plain_pointers
        if plain and f.plain_pointers[offset][0][0] != "%":
            f.scratch[f.plain_pointers[offset]] = value
            return
        contents = f.contents
        pointer = _plain_pointer(f, offset) if plain else f.heap_address(memory, operand, static_offset, width, offset)
        loaded = f.loads.get(value, 0)
        if narrow != llvm_type:
            # LLVM may do what comes before in the narrower type, too, and then takes this location for it.
            value = f"{narrow} {f.emit(f'trunc {value} to {narrow}{f.location(loaded) if loaded else str()}')}"
        if plain:
            f.out.append(f"  store {value}, ptr {pointer}, align 1")
            return
        if f.last_load == (loaded, memory, operand, static_offset, width):
            # One instruction may load, change and store it: if that traps, the load has. Behind it, no store there can.
            offset = loaded
        f.out.append(f"  store volatile {value}, ptr {pointer}, align 1{f.location(offset)}")
        root, displacement = f.place(operand, static_offset)
        f.contents = {
            place: known
            for place, known in contents.items()
            if place[:2] == (memory, root) and _apart(place[2], known[0], displacement, width)
        }
        plan = f.plan.memories[memory]
        if not plan.shared and not plan.is_64:
            f.contents[memory, root, displacement, narrow] = value, operand, static_offset

    return emit


_WIDTHS: Final = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}


def _apart(displacement: int, value: str, other: int, width: int) -> bool:
    """Bytes at one displacement, as many as the value has, are not among `width` bytes at the other."""
    distance = (other - displacement) & 0xFFFFFFFF
    return _WIDTHS[value[: value.index(" ")]] <= distance <= (1 << 32) - width


def _memory_size(f: FunctionWriter, _: int, memory: int) -> None:
    plan, pages = f.plan.memories[memory], f.memory_size(memory)
    if plan.page_size_log2:
        pages = f.emit(f"lshr i64 {pages}, {plan.page_size_log2}")
    f.push_index(pages, plan.is_64)


def _memory_grow(f: FunctionWriter, offset: int, memory: int) -> None:
    pages = f.builtin("memory_grow", (f"i32 {memory}", f.extend(f.stack.pop())), offset)
    f.push_index(pages, f.plan.memories[memory].is_64)


def _memory_copy(f: FunctionWriter, offset: int, memories: tuple[int, int]) -> None:
    target, source = memories
    operands = f.pop_extended(3)
    f.charge("memory.copy", operands[2], offset)
    f.builtin("memory_copy", (f"i32 {target}", f"i32 {source}", *operands), offset)


def _memory_fill(f: FunctionWriter, offset: int, memory: int) -> None:
    size = f.extend(f.stack.pop())
    value = f.stack.pop()
    f.charge("memory.fill", size, offset)
    f.builtin("memory_fill", (f"i32 {memory}", f.extend(f.stack.pop()), value, size), offset)


def _memory_init(f: FunctionWriter, offset: int, immediate: tuple[int, int]) -> None:
    data, memory = immediate
    operands = f.pop_extended(3)
    f.charge("memory.init", operands[2], offset)
    f.builtin("memory_init", (f"i32 {memory}", f"i32 {data}", *operands), offset)


def _data_drop(f: FunctionWriter, _: int, data: int) -> None:
    f.out.append(f"  store i64 0, ptr {f.address(f.plan.datas[data].offset)}")


_FAMILIES: Final = {"load": _load, "store": _store}

HANDLERS: Final[dict[str, Handler]] = {
    "memory.size": _memory_size,
    "memory.grow": _memory_grow,
    "memory.copy": _memory_copy,
    "memory.fill": _memory_fill,
    "memory.init": _memory_init,
    "data.drop": _data_drop,
    **{op.name: _FAMILIES[op.family](op) for op in OPS.values() if op.family in _FAMILIES},
}
