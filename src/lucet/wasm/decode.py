"""Decodes a module ("Binary Format / Modules"). Function bodies stay bytes; code.py decodes them one by one.

A feature that is not implemented is reported where it is met, so a module may be malformed further on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar, overload

from lucet.errors import CompileError, Invalid, LimitExceeded, Malformed
from lucet.limits import (
    MAX_DATA_SEGMENTS,
    MAX_ELEM_SEGMENTS,
    MAX_EXPORTS,
    MAX_FUNCTION_SIZE,
    MAX_FUNCTIONS,
    MAX_GLOBALS,
    MAX_IMPORTS,
    MAX_MEMORIES,
    MAX_MODULE_SIZE,
    MAX_PARAMS,
    MAX_RESULTS,
    MAX_TABLE_SIZE,
    MAX_TABLES,
    MAX_TAGS,
    MAX_TYPES,
    WASM_PAGE_SIZE_LOG2,
)
from lucet.wasm.code import decode_body, decode_instrs
from lucet.wasm.module import (
    Data,
    Elem,
    Export,
    FuncIdx,
    FunctionBody,
    Global,
    Import,
    Instr,
    MemIdx,
    Module,
    Table,
    TableIdx,
    TypeIdx,
)
from lucet.wasm.names import decode_names
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.reader import UNEXPECTED_END, Reader
from lucet.wasm.types import (
    FUNCREF,
    I32,
    I64,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
    non_null,
)

MAGIC: Final = b"\0asm"
VERSION: Final = b"\1\0\0\0"

_END_CODE: Final = BY_NAME["end"].code
_END_BYTE: Final = bytes([_END_CODE])
_REF_FUNC_CODE: Final = BY_NAME["ref.func"].code

_KINDS: Final = ("func", "table", "memory", "global", "tag")
"""What is imported and exported, by its code."""

_FUNC_TYPE: Final = 0x60
_STRUCT_TYPE: Final = 0x5F
_ARRAY_TYPE: Final = 0x5E
_REC_GROUP: Final = 0x4E
_SUB_FINAL: Final = 0x4F
_SUB: Final = 0x50
_PACKED_TYPES: Final = frozenset({0x77, 0x78})
"""i16, i8: only as fields of structures and arrays."""

_LIMITS_MAXIMUM: Final = 1
_LIMITS_SHARED: Final = 2
_LIMITS_64_BIT: Final = 4
_LIMITS_PAGE_SIZE: Final = 8

_TABLE_WITH_INIT: Final = 0x40

_ELEM_NOT_ACTIVE: Final = 1
_ELEM_EXPLICIT: Final = 2
_ELEM_EXPRESSIONS: Final = 4
_ELEM_FLAGS_END: Final = 8
_FUNC: Final = non_null(FUNCREF)
"""What a segment of function indices holds."""

Expr = tuple[Instr, ...]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class FuncItems(Sequence[Expr]):
    """The items of an element segment that lists function indices, each seen as `ref.func x; end`.

    There can be ten million in one segment: eight bytes each here, some three hundred as tuples.
    """

    funcs: array[int]
    offsets: array[int]

    def __len__(self) -> int:
        return len(self.funcs)

    @overload
    def __getitem__(self, key: int) -> Expr: ...
    @overload
    def __getitem__(self, key: slice) -> FuncItems: ...
    def __getitem__(self, key: int | slice) -> Expr | FuncItems:
        if isinstance(key, slice):
            return FuncItems(funcs=self.funcs[key], offsets=self.offsets[key])
        offset = self.offsets[key]
        return (_REF_FUNC_CODE, offset, self.funcs[key]), (_END_CODE, offset, None)

    def __iter__(self) -> Iterator[Expr]:
        return map(self.__getitem__, range(len(self)))


@dataclass(kw_only=True)
class _Parts:
    """A module while it is being decoded."""

    types: tuple[FuncType, ...] = ()
    imports: tuple[Import, ...] = ()
    funcs: tuple[TypeIdx, ...] = ()
    tags: tuple[TagType, ...] = ()
    tables: tuple[Table, ...] = ()
    memories: tuple[MemoryType, ...] = ()
    globals: tuple[Global, ...] = ()
    exports: tuple[Export, ...] = ()
    start: FuncIdx | None = None
    elems: tuple[Elem, ...] = ()
    data_count: int | None = None
    bodies: tuple[FunctionBody, ...] = ()
    datas: tuple[Data, ...] = ()
    customs: list[tuple[str, bytes, int]] = field(default_factory=list)


def decode_module(data: bytes) -> Module:
    """Malformed, Unsupported or LimitExceeded if it is not a module, needs more than there is, or is too large."""
    if len(data) > MAX_MODULE_SIZE:
        raise LimitExceeded(f"module too large: {len(data)} bytes, the limit is {MAX_MODULE_SIZE}")
    reader = Reader(data)
    _check_header(reader)
    parts = _Parts()
    ranks_left = list(_SECTIONS)
    while reader.remaining:
        start = reader.pos
        section_id = reader.byte()
        if section_id != _CUSTOM_SECTION and section_id not in _SECTIONS:
            raise reader.malformed("malformed section id", start)
        size = reader.length()
        section = Reader(data[reader.pos : reader.pos + size], base=reader.pos, types=parts.types)
        reader.take(size)
        if section_id == _CUSTOM_SECTION:
            _custom_section(section, parts)
            continue
        if section_id not in ranks_left:
            # Twice, or out of order: the specification's grammar has no place for it any more.
            raise reader.malformed("unexpected content after last section", start)
        del ranks_left[: ranks_left.index(section_id) + 1]
        _decode_section(data, section, _SECTIONS[section_id], parts)
        if section_id == _CODE_SECTION:
            _check_ends(data, parts)
    return _finish(reader, parts)


def _check_header(reader: Reader) -> None:
    for expected, message in (MAGIC, "magic header not detected"), (VERSION, "unknown binary version"):
        start = reader.pos
        if reader.take(len(expected)) != expected:
            raise reader.malformed(message, start)


def _decode_section(data: bytes, section: Reader, decode: Callable[[Reader, _Parts], None], parts: _Parts) -> None:
    try:
        decode(section, parts)
    except Malformed as error:
        if error.message != UNEXPECTED_END or section.base + len(section.data) == len(data):
            raise
        rest = Reader(data[section.base :], base=section.base, types=parts.types)
        _read_on(rest, lambda reader: decode(reader, parts), error)
    if section.remaining:
        raise section.malformed("section size mismatch")


def _check_ends(data: bytes, parts: _Parts) -> None:
    """Every body must end with an `end`. Only the byte is looked at: decode_code finds out whether it is one."""
    for index, body in enumerate(parts.bodies):
        if body.body[-1:] != _END_BYTE:
            function = _imported_funcs(parts) + index
            reader = Reader(data[body.offset :], base=body.offset, function=function, types=parts.types)
            end = Reader(body.body, base=body.offset, function=reader.function).unexpected_end()
            _read_on(reader, lambda reader: decode_body(reader, parts.types, 0), end)


def _read_on(reader: Reader, decode: Callable[[Reader], object], error: Malformed) -> NoReturn:
    """Something goes on after the end of its section or function. What is there decides the words of the error.

    The specification gives the size no say until the contents have been read, and the test suite's wording is made so.
    """
    try:
        decode(reader)
    except Malformed as found:
        raise found from None
    except CompileError:
        raise error from None
    raise Malformed("section size mismatch", offset=error.offset, function=error.function)


def _imported_funcs(parts: _Parts) -> int:
    return sum(isinstance(import_.desc, int) for import_ in parts.imports)


def _finish(reader: Reader, parts: _Parts) -> Module:
    """The checks across sections, and the index spaces."""
    if len(parts.funcs) != len(parts.bodies):
        raise reader.malformed("function and code section have inconsistent lengths")
    if parts.data_count is not None and parts.data_count != len(parts.datas):
        raise reader.malformed("data count and data section have inconsistent lengths")
    descs = [import_.desc for import_ in parts.imports]
    module_name, func_names = _names(parts)
    module = Module(
        types=parts.types,
        imports=parts.imports,
        funcs=parts.funcs,
        bodies=parts.bodies,
        tables=parts.tables,
        memories=parts.memories,
        tags=parts.tags,
        globals=parts.globals,
        exports=parts.exports,
        start=parts.start,
        elems=parts.elems,
        datas=parts.datas,
        data_count=parts.data_count,
        customs=tuple(parts.customs),
        func_names=func_names,
        module_name=module_name,
        all_funcs=(*(desc for desc in descs if isinstance(desc, int)), *parts.funcs),
        all_tables=(*(d for d in descs if isinstance(d, TableType)), *(table.type for table in parts.tables)),
        all_memories=(*(desc for desc in descs if isinstance(desc, MemoryType)), *parts.memories),
        all_globals=(*(d for d in descs if isinstance(d, GlobalType)), *(global_.type for global_ in parts.globals)),
        all_tags=(*(desc for desc in descs if isinstance(desc, TagType)), *parts.tags),
        declared_refs=_declared_refs(parts),
    )
    for what, count, limit in (
        ("functions", len(module.all_funcs), MAX_FUNCTIONS),
        ("tables", len(module.all_tables), MAX_TABLES),
        ("memories", len(module.all_memories), MAX_MEMORIES),
        ("globals", len(module.all_globals), MAX_GLOBALS),
        ("tags", len(module.all_tags), MAX_TAGS),
    ):
        if count > limit:
            raise LimitExceeded(f"too many {what}: {count}, the limit is {limit}")
    return module


def _names(parts: _Parts) -> tuple[str | None, dict[int, str]]:
    for name, payload, _offset in parts.customs:
        if name == "name":
            return decode_names(payload)
    return None, {}


def _declared_refs(parts: _Parts) -> frozenset[FuncIdx]:
    declared = {FuncIdx(export.index) for export in parts.exports if export.kind == "func"}
    exprs: list[Sequence[Instr]] = [global_.init for global_ in parts.globals]
    exprs += [table.init for table in parts.tables if table.init is not None]
    for elem in parts.elems:
        if isinstance(elem.items, FuncItems):
            declared.update(map(FuncIdx, elem.items.funcs))
        else:
            exprs += elem.items
    declared.update(FuncIdx(index) for expr in exprs for code, _, index in expr if code == _REF_FUNC_CODE)
    return frozenset(declared)


def _custom_section(reader: Reader, parts: _Parts) -> None:
    name = reader.name()
    parts.customs.append((name, reader.data[reader.pos :], reader.offset))


def _type_section(reader: Reader, parts: _Parts) -> None:
    types: list[FuncType] = []
    by_id: dict[int, FuncType] = {}
    reader.types = types
    reader.defines_type = True
    for _ in range(reader.count(MAX_TYPES, "types")):
        start = reader.pos
        functype = _type(reader)
        if by_id.setdefault(functype.type_id(), functype) != functype:
            # Two types would be one to generated code. Nobody gets here without having looked for such a pair.
            raise reader.malformed(f"type {len(types)} has the identity of another type", start)
        types.append(functype)
    reader.defines_type = False
    parts.types = tuple(types)


def _type(reader: Reader) -> FuncType:
    start = reader.pos
    form = reader.byte()
    if form == _REC_GROUP and reader.u32() == 1:
        # A group of one is what every type outside of a group is.
        form = reader.byte()
    if form == _SUB_FINAL and reader.u32() == 0:
        form = reader.byte()
    if form == _FUNC_TYPE:
        params = _vector(reader, MAX_PARAMS, "parameters", Reader.valtype)
        return FuncType(params, _vector(reader, MAX_RESULTS, "results", Reader.valtype))
    if form & 0x80:
        raise reader.malformed("integer representation too long", start)
    if form == _ARRAY_TYPE:
        _field_type(reader)
    if form in (_ARRAY_TYPE, _STRUCT_TYPE, _REC_GROUP, _SUB_FINAL, _SUB):
        raise reader.unsupported("garbage collection", start)
    raise reader.malformed("malformed definition type", start)


def _field_type(reader: Reader) -> None:
    if reader.data[reader.pos : reader.pos + 1] and reader.data[reader.pos] in _PACKED_TYPES:
        reader.byte()
    else:
        reader.valtype()
    _mutable(reader)


def _import_section(reader: Reader, parts: _Parts) -> None:
    parts.imports = _vector(reader, MAX_IMPORTS, "imports", lambda reader: _import(reader, parts))


def _import(reader: Reader, parts: _Parts) -> Import:
    offset = reader.offset
    module, name = reader.name(), reader.name()
    kind = _kind(reader, "malformed import kind")
    desc: TypeIdx | TableType | MemoryType | GlobalType | TagType
    if kind == "func":
        desc = TypeIdx(reader.u32())
    elif kind == "table":
        desc = _table_type(reader)
    elif kind == "memory":
        desc = _memory_type(reader)
    elif kind == "tag":
        desc = _tag_type(reader, parts)
    else:
        desc = _global_type(reader)
    return Import(module=module, field=name, desc=desc, offset=offset)


def _kind(reader: Reader, message: str) -> str:
    start = reader.pos
    code = reader.byte()
    if code >= len(_KINDS):
        raise reader.malformed(message, start)
    return _KINDS[code]


def _limits(reader: Reader, allowed: int) -> tuple[Limits, int]:
    """The limits and their flags."""
    start = reader.pos
    flags = reader.byte()
    # The suite has the flag of a page size cut off, from when it had no meaning.
    if flags & ~allowed or (flags & _LIMITS_PAGE_SIZE and reader.remaining < 2):
        raise reader.malformed("malformed limits flags", start)
    minimum = reader.u64()
    maximum = reader.u64() if flags & _LIMITS_MAXIMUM else None
    return Limits(minimum=minimum, maximum=maximum, index_type=I64 if flags & _LIMITS_64_BIT else I32), flags


def _table_type(reader: Reader) -> TableType:
    reftype = reader.reftype()
    return TableType(reftype=reftype, limits=_limits(reader, _LIMITS_MAXIMUM | _LIMITS_64_BIT)[0])


def _memory_type(reader: Reader) -> MemoryType:
    limits, flags = _limits(reader, _LIMITS_MAXIMUM | _LIMITS_SHARED | _LIMITS_64_BIT | _LIMITS_PAGE_SIZE)
    start = reader.pos
    page_size_log2 = reader.u32() if flags & _LIMITS_PAGE_SIZE else WASM_PAGE_SIZE_LOG2
    if page_size_log2 >= 64:
        raise reader.malformed(f"invalid custom page size 2**{page_size_log2}", start)
    return MemoryType(limits=limits, shared=bool(flags & _LIMITS_SHARED), page_size_log2=page_size_log2)


def _global_type(reader: Reader) -> GlobalType:
    valtype = reader.valtype()
    return GlobalType(valtype=valtype, mutable=_mutable(reader))


def _mutable(reader: Reader) -> bool:
    start = reader.pos
    flag = reader.byte()
    if flag > 1:
        raise reader.malformed("malformed mutability", start)
    return bool(flag)


def _function_section(reader: Reader, parts: _Parts) -> None:
    parts.funcs = tuple(map(TypeIdx, _vector(reader, MAX_FUNCTIONS, "functions", Reader.u32)))


def _table_section(reader: Reader, parts: _Parts) -> None:
    parts.tables = _vector(reader, MAX_TABLES, "tables", lambda reader: _table(reader, parts))


def _table(reader: Reader, parts: _Parts) -> Table:
    offset = reader.offset
    if reader.remaining and reader.data[reader.pos] == _TABLE_WITH_INIT:
        reader.byte()
        if reader.byte() != 0:
            raise reader.malformed("zero byte expected", reader.pos - 1)
        table_type = _table_type(reader)
        return Table(type=table_type, init=_expr(reader, parts), offset=offset)
    return Table(type=_table_type(reader), init=None, offset=offset)


def _memory_section(reader: Reader, parts: _Parts) -> None:
    parts.memories = _vector(reader, MAX_MEMORIES, "memories", _memory_type)


def _tag_section(reader: Reader, parts: _Parts) -> None:
    parts.tags = _vector(reader, MAX_TAGS, "tags", lambda reader: _tag_type(reader, parts))


def _tag_type(reader: Reader, parts: _Parts) -> TagType:
    start = reader.pos
    if reader.byte() != 0:
        raise reader.malformed("malformed tag attribute", start)
    index = reader.u32()
    if index >= len(parts.types):
        # An error of validation, found here because the tag carries the type itself.
        raise Invalid(f"unknown type {index}", offset=reader.base + start)
    return TagType(functype=parts.types[index])


def _global_section(reader: Reader, parts: _Parts) -> None:
    parts.globals = _vector(reader, MAX_GLOBALS, "globals", lambda reader: _global(reader, parts))


def _global(reader: Reader, parts: _Parts) -> Global:
    offset = reader.offset
    global_type = _global_type(reader)
    return Global(type=global_type, init=_expr(reader, parts), offset=offset)


def _export_section(reader: Reader, parts: _Parts) -> None:
    parts.exports = _vector(reader, MAX_EXPORTS, "exports", _export)


def _export(reader: Reader) -> Export:
    offset = reader.offset
    name = reader.name()
    kind = _kind(reader, "malformed export kind")
    return Export(name=name, kind=kind, index=reader.u32(), offset=offset)


def _start_section(reader: Reader, parts: _Parts) -> None:
    parts.start = FuncIdx(reader.u32())


def _elem_section(reader: Reader, parts: _Parts) -> None:
    parts.elems = _vector(reader, MAX_ELEM_SEGMENTS, "element segments", lambda reader: _elem(reader, parts))


def _elem(reader: Reader, parts: _Parts) -> Elem:
    start = reader.pos
    flags = reader.u32()
    if flags >= _ELEM_FLAGS_END:
        raise reader.malformed("malformed elements segment kind", start)
    active = not flags & _ELEM_NOT_ACTIVE
    explicit = bool(flags & _ELEM_EXPLICIT)
    table = TableIdx(reader.u32() if active and explicit else 0)
    offset_expr = _expr(reader, parts) if active else None
    reftype = FUNCREF if flags & _ELEM_EXPRESSIONS else _FUNC
    if explicit or not active:
        reftype = reader.reftype() if flags & _ELEM_EXPRESSIONS else _elem_kind(reader)
    return Elem(
        reftype=reftype,
        items=_elem_exprs(reader, parts) if flags & _ELEM_EXPRESSIONS else _elem_funcs(reader),
        mode="active" if active else "declarative" if explicit else "passive",
        table=table,
        offset_expr=offset_expr,
        offset=reader.base + start,
    )


def _elem_kind(reader: Reader) -> ValType:
    start = reader.pos
    if reader.byte() != 0:
        raise reader.malformed("malformed element kind", start)
    return _FUNC


def _elem_exprs(reader: Reader, parts: _Parts) -> tuple[Expr, ...]:
    return _vector(reader, MAX_TABLE_SIZE, "elements", lambda reader: _expr(reader, parts))


def _elem_funcs(reader: Reader) -> FuncItems:
    funcs, offsets = array("I"), array("I")
    for _ in range(reader.count(MAX_TABLE_SIZE, "elements")):
        offsets.append(reader.offset)
        funcs.append(reader.u32())
    return FuncItems(funcs=funcs, offsets=offsets)


def _data_count_section(reader: Reader, parts: _Parts) -> None:
    parts.data_count = reader.u32()


def _code_section(reader: Reader, parts: _Parts) -> None:
    imported = _imported_funcs(parts)
    bodies = []
    for index in range(reader.count(MAX_FUNCTIONS, "function bodies")):
        reader.function = imported + index
        size = reader.count(MAX_FUNCTION_SIZE, "bytes in a function")
        offset = reader.offset
        bodies.append(FunctionBody(offset=offset, body=reader.take(size)))
    reader.function = None
    parts.bodies = tuple(bodies)


def _data_section(reader: Reader, parts: _Parts) -> None:
    parts.datas = _vector(reader, MAX_DATA_SEGMENTS, "data segments", lambda reader: _data(reader, parts))


def _data(reader: Reader, parts: _Parts) -> Data:
    start = reader.pos
    flags = reader.u32()
    if flags > 2:
        raise reader.malformed("malformed data segment kind", start)
    active = flags != 1
    memory = MemIdx(reader.u32() if flags == 2 else 0)
    offset_expr = _expr(reader, parts) if active else None
    return Data(
        bytes=reader.take(reader.length()),
        mode="active" if active else "passive",
        memory=memory,
        offset_expr=offset_expr,
        offset=reader.base + start,
    )


def _expr(reader: Reader, parts: _Parts) -> Expr:
    return tuple(decode_instrs(reader, parts.types))


def _vector(reader: Reader, limit: int, what: str, element: Callable[[Reader], _T]) -> tuple[_T, ...]:
    return tuple([element(reader) for _ in range(reader.count(limit, what))])


_CUSTOM_SECTION: Final = 0
_CODE_SECTION: Final = 10

_SECTIONS: Final[dict[int, Callable[[Reader, _Parts], None]]] = {
    1: _type_section,
    2: _import_section,
    3: _function_section,
    4: _table_section,
    5: _memory_section,
    13: _tag_section,
    6: _global_section,
    7: _export_section,
    8: _start_section,
    9: _elem_section,
    12: _data_count_section,
    _CODE_SECTION: _code_section,
    11: _data_section,
}
"""The sections in the order in which they must come."""
