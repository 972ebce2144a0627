"""Validates a module, function bodies apart ("Validation / Modules"). valid_code.py validates those one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lucet.errors import Invalid
from lucet.limits import WASM_PAGE_SIZE_LOG2
from lucet.wasm.decode import FuncItems
from lucet.wasm.module import Elem, Import, Instr, Module
from lucet.wasm.opcodes import BY_NAME, OPS
from lucet.wasm.types import (
    I64,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
    defaultable,
    matches,
)

_END_CODE: Final = BY_NAME["end"].code
_GLOBAL_GET_CODE: Final = BY_NAME["global.get"].code
_REF_FUNC_CODE: Final = BY_NAME["ref.func"].code
_REF_NULL_CODE: Final = BY_NAME["ref.null"].code

_CONSTANT_CODES: Final = frozenset(
    BY_NAME[name].code
    for name in (
        *("i32.const", "i64.const", "f32.const", "f64.const", "v128.const", "ref.null", "ref.func"),
        *("global.get", "end"),
        *("i32.add", "i32.sub", "i32.mul", "i64.add", "i64.sub", "i64.mul"),
    )
)

_PAGE_SIZES_LOG2: Final = (0, WASM_PAGE_SIZE_LOG2)


def validate_module(module: Module) -> None:
    """Raises Invalid. How large a table may be is the region's to say, when the module is instantiated."""
    for import_ in module.imports:
        _check_import(module, import_)
    for index, type_index in enumerate(module.funcs):
        if type_index >= len(module.types):
            raise Invalid(f"unknown type {type_index}", function=module.imported_func_count + index)
    _check_tables(module)
    for memory in module.memories:
        _check_memory_type(memory, None)
    for tag in module.tags:
        _check_tag(tag, None)
    _check_globals(module)
    for elem in module.elems:
        _check_elem(module, elem)
    for data in module.datas:
        if data.offset_expr is not None:
            _check_index("memory", data.memory, module.all_memories, data.offset)
            index_type = module.all_memories[data.memory].limits.index_type
            _check_constant(module, data.offset_expr, index_type, module.all_globals)
    _check_start(module)
    _check_exports(module)


def _check_import(module: Module, import_: Import) -> None:
    if isinstance(import_.desc, int):
        _check_index("type", import_.desc, module.types, import_.offset)
    elif isinstance(import_.desc, TableType):
        _check_table_type(import_.desc, import_.offset)
    elif isinstance(import_.desc, MemoryType):
        _check_memory_type(import_.desc, import_.offset)
    elif isinstance(import_.desc, TagType):
        _check_tag(import_.desc, import_.offset)


def _check_tag(tag: TagType, offset: int | None) -> None:
    if tag.functype.results:
        raise Invalid("non-empty tag result type", offset=offset)


def _check_tables(module: Module) -> None:
    # A table's initial value may use the imported globals only: the module's own come after its tables.
    imported_globals = module.all_globals[: len(module.all_globals) - len(module.globals)]
    for table in module.tables:
        _check_table_type(table.type, table.offset)
        if table.init is None:
            if not defaultable(table.type.reftype):
                message = f"type mismatch: a table of {table.type.reftype} needs an initial value"
                raise Invalid(message, offset=table.offset)
        else:
            _check_constant(module, table.init, table.type.reftype, imported_globals)


def _check_table_type(table: TableType, offset: int) -> None:
    bits = _index_bits(table.limits)
    _check_limits(table.limits, (1 << bits) - 1, f"table size must be at most 2^{bits}-1", offset)


def _check_memory_type(memory: MemoryType, offset: int | None) -> None:
    if memory.page_size_log2 not in _PAGE_SIZES_LOG2:
        raise Invalid(f"invalid custom page size 2**{memory.page_size_log2}", offset=offset)
    bits = _index_bits(memory.limits)
    # All bytes have an address, and memory.size has room for the size.
    bound = min(1 << (bits - memory.page_size_log2), (1 << bits) - 1)
    size = "4GiB" if bits == 32 else "16EiB"
    _check_limits(memory.limits, bound, f"memory size must be at most {bound} pages ({size})", offset)
    if memory.shared and memory.limits.maximum is None:
        raise Invalid("shared memory must have maximum", offset=offset)


def _index_bits(limits: Limits) -> int:
    return 64 if limits.index_type == I64 else 32


def _check_limits(limits: Limits, bound: int, message: str, offset: int | None) -> None:
    if limits.minimum > bound or (limits.maximum is not None and limits.maximum > bound):
        raise Invalid(message, offset=offset)
    if limits.maximum is not None and limits.minimum > limits.maximum:
        raise Invalid("size minimum must not be greater than maximum", offset=offset)


def _check_globals(module: Module) -> None:
    imported = len(module.all_globals) - len(module.globals)
    for index, global_ in enumerate(module.globals):
        _check_constant(module, global_.init, global_.type.valtype, module.all_globals, imported + index)


def _check_elem(module: Module, elem: Elem) -> None:
    if elem.offset_expr is not None:
        _check_index("table", elem.table, module.all_tables, elem.offset)
        reftype = module.all_tables[elem.table].reftype
        if not matches(elem.reftype, reftype):
            raise Invalid(f"type mismatch: a segment of {elem.reftype} for a table of {reftype}", offset=elem.offset)
        index_type = module.all_tables[elem.table].limits.index_type
        _check_constant(module, elem.offset_expr, index_type, module.all_globals)
    if isinstance(elem.items, FuncItems):
        for index in elem.items.funcs:
            _check_index("function", index, module.all_funcs, elem.offset)
    else:
        for item in elem.items:
            _check_constant(module, item, elem.reftype, module.all_globals)


def _check_start(module: Module) -> None:
    if module.start is None:
        return
    _check_index("function", module.start, module.all_funcs, None)
    if module.func_type(module.start) != FuncType():
        raise Invalid("start function must not have parameters or results", function=module.start)


def _check_exports(module: Module) -> None:
    names = set()
    spaces: dict[str, tuple[str, Sequence[object]]] = {
        "func": ("function", module.all_funcs),
        "table": ("table", module.all_tables),
        "memory": ("memory", module.all_memories),
        "global": ("global", module.all_globals),
        "tag": ("tag", module.all_tags),
    }
    for export in module.exports:
        what, space = spaces[export.kind]
        _check_index(what, export.index, space, export.offset)
        if export.name in names:
            raise Invalid(f"duplicate export name {export.name[:100]!r}", offset=export.offset)
        names.add(export.name)


def _check_index(what: str, index: int, space: Sequence[object], offset: int | None) -> None:
    if index >= len(space):
        raise Invalid(f"unknown {what} {index}", offset=offset)


def _check_constant(
    module: Module,
    expr: Sequence[Instr],
    expected: ValType,
    all_globals: Sequence[GlobalType],
    visible_globals: int | None = None,
) -> None:
    """A constant expression of the expected type, which may use the first visible_globals globals (None: all)."""
    for code, offset, _ in expr:
        if code not in _CONSTANT_CODES:
            raise Invalid(f"constant expression required, not {OPS[code].name}", offset=offset)
    visible = len(all_globals) if visible_globals is None else visible_globals
    stack: list[ValType] = []
    for code, offset, immediate in expr:
        if code == _GLOBAL_GET_CODE:
            if immediate >= visible:
                raise Invalid(f"unknown global {immediate}", offset=offset)
            if all_globals[immediate].mutable:
                raise Invalid(f"constant expression required, but global {immediate} is mutable", offset=offset)
            stack.append(all_globals[immediate].valtype)
        elif code == _REF_NULL_CODE:
            stack.append(immediate)
        elif code == _REF_FUNC_CODE:
            _check_index("function", immediate, module.all_funcs, offset)
            stack.append(module.func_type(immediate).ref())
        elif code == _END_CODE:
            if len(stack) != 1 or not matches(stack[0], expected):
                message = f"type mismatch: the expression yields [{' '.join(stack[:10])}], not [{expected}]"
                raise Invalid(message, offset=offset)
        else:
            op = OPS[code]
            arity = len(op.pops)
            if arity and tuple(stack[-arity:]) != op.pops:
                raise Invalid(f"type mismatch: {op.name} finds [{' '.join(stack[-arity:])}]", offset=offset)
            del stack[len(stack) - arity :]
            stack += op.pushes
