"""Prints decoded code, one instruction a line with its offset in the file."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from lucet.limits import WASM_PAGE_SIZE_LOG2
from lucet.wasm.code import decode_code
from lucet.wasm.module import Catch, Instr, Module
from lucet.wasm.opcodes import BY_NAME, OPS
from lucet.wasm.text_keywords import CATCHES
from lucet.wasm.types import I64, FuncType, GlobalType, Limits, MemoryType, TableType, TagType, heap_type

_OPENING: Final = frozenset(BY_NAME[name].code for name in ("block", "loop", "if", "try", "try_table"))
_CLAUSES: Final = frozenset(BY_NAME[name].code for name in ("else", "catch", "catch_all"))
_END: Final = BY_NAME["end"].code
_DELEGATE: Final = BY_NAME["delegate"].code

_DEEPEST_INDENT: Final = 40
"""Blocks nest as deep as a module likes, and a line should not be as long as that."""


def describe_module(module: Module) -> Iterator[str]:
    """What the module declares, then every function body."""
    for index, func_type in enumerate(module.types):
        yield f"type {index}: {func_type}"
    for import_ in module.imports:
        yield f"{import_.offset:#08x}: import {import_.module!r} {import_.field!r}: {_describe(import_.desc)}"
    for table in module.tables:
        yield f"{table.offset:#08x}: {_describe(table.type)}"
    for memory in module.memories:
        yield _describe(memory)
    for tag in module.tags:
        yield _describe(tag)
    for global_ in module.globals:
        yield f"{global_.offset:#08x}: {_describe(global_.type)}"
    for export in module.exports:
        yield f"{export.offset:#08x}: export {export.name!r}: {export.kind} {export.index}"
    if module.start is not None:
        yield f"start: func {module.start}"
    for elem in module.elems:
        yield f"{elem.offset:#08x}: elem: {elem.mode}, {len(elem.items)} of {elem.reftype}"
    for data in module.datas:
        yield f"{data.offset:#08x}: data: {data.mode}, {len(data.bytes)} bytes"
    for name, payload, offset in module.customs:
        yield f"{offset:#08x}: custom section {name!r}: {len(payload)} bytes"
    for index in range(module.imported_func_count, len(module.all_funcs)):
        yield from describe_function(module, index)


def describe_function(module: Module, func_index: int) -> Iterator[str]:
    """The function's type and locals, and its instructions."""
    code = decode_code(module, func_index)
    body = module.bodies[func_index - module.imported_func_count]
    name = f" {module.func_names[func_index]!r}" if func_index in module.func_names else ""
    yield f"{body.offset:#08x}: func {func_index}{name}: {module.func_type(func_index)}"
    if code.locals:
        # In runs, as in the file: fifty thousand locals can take seven bytes there.
        runs = ((valtype, sum(1 for _ in run)) for valtype, run in groupby(code.locals))
        yield f"          locals {', '.join(f'{valtype} x {count}' for valtype, count in runs)}"
    yield from disassemble(code.instrs)


def disassemble(instrs: Sequence[Instr]) -> Iterator[str]:
    depth = 1
    for code, offset, immediate in instrs:
        if code in (_END, _DELEGATE) or code in _CLAUSES:
            depth -= 1
        yield f"{offset:#08x}: {'  ' * min(depth, _DEEPEST_INDENT)}{format_instr(code, immediate)}"
        if code in _OPENING or code in _CLAUSES:
            depth += 1


def format_instr(code: int, immediate: Any) -> str:
    """In the text format's notation, with indices for names."""
    op = OPS[code]
    name = "select" if op.name == "select_t" else op.name
    return f"{name} {_immediate(op.immediates, op.align, immediate)}".rstrip()


def _immediate(kind: str, natural_align: int | None, immediate: Any) -> str:
    if kind in ("", "zero"):
        return ""
    if kind == "blocktype":
        return _block_type(immediate)
    if kind == "try_table":
        block_type, catches = immediate
        return " ".join([_block_type(block_type), *map(_catch, catches)]).lstrip()
    if kind == "br_table":
        labels, default = immediate
        return " ".join(map(str, (*labels, default)))
    if kind == "type_table":
        return f"{immediate[1]} (type {immediate[0]})"
    if kind in ("elem_table", "data_memory"):
        segment, space = immediate
        return f"{space} {segment}"
    if kind == "memarg":
        align, offset, memory = immediate
        words = [str(memory)] if memory else []
        words += [f"offset={offset}"] if offset else []
        return " ".join(words if align == natural_align else [*words, f"align={1 << align}"])
    if kind in ("f32", "f64"):
        return _float(kind, immediate)
    if kind == "memarg_lane":
        *memarg, lane = immediate
        return f"{_immediate('memarg', natural_align, memarg)} {lane}".lstrip()
    if kind == "v128":
        return f"i32x4 {' '.join(f'{immediate >> shift & 0xFFFFFFFF:#010x}' for shift in range(0, 128, 32))}"
    if kind == "valtypes":
        return f"(result {' '.join(immediate)})"
    if kind == "reftype":
        return heap_type(immediate)
    return " ".join(map(str, immediate)) if isinstance(immediate, tuple) else str(immediate)


def _block_type(block_type: FuncType) -> str:
    params = f"(param {' '.join(block_type.params)})" if block_type.params else ""
    results = f"(result {' '.join(block_type.results)})" if block_type.results else ""
    return f"{params} {results}".strip()


def _catch(catch: Catch) -> str:
    word = CATCHES[(2 if catch.tag is None else 0) + catch.with_ref]
    return f"({word} {catch.label})" if catch.tag is None else f"({word} {catch.tag} {catch.label})"


def _float(kind: str, bits: int) -> str:
    size, mantissa = (4, 23) if kind == "f32" else (8, 52)
    value = struct.unpack("<f" if kind == "f32" else "<d", bits.to_bytes(size, "little"))[0]
    if math.isnan(value):
        sign = "-" if bits >> (8 * size - 1) else ""
        return f"{sign}nan:{bits & ((1 << mantissa) - 1):#x}"
    return str(value.hex()) if math.isfinite(value) else str(value)


def _describe(entity: int | TableType | MemoryType | GlobalType | TagType) -> str:
    if isinstance(entity, int):
        return f"func of type {entity}"
    if isinstance(entity, GlobalType):
        return f"global (mut {entity.valtype})" if entity.mutable else f"global {entity.valtype}"
    if isinstance(entity, TagType):
        return f"tag {entity.functype}"
    if isinstance(entity, TableType):
        return f"table {_limits(entity.limits)} {entity.reftype}"
    shared = " shared" if entity.shared else ""
    page_size = "" if entity.page_size_log2 == WASM_PAGE_SIZE_LOG2 else f" (pagesize {1 << entity.page_size_log2})"
    return f"memory {_limits(entity.limits)}{shared}{page_size}"


def _limits(limits: Limits) -> str:
    text = str(limits.minimum) if limits.maximum is None else f"{limits.minimum} {limits.maximum}"
    return f"i64 {text}" if limits.index_type == I64 else text
