"""A decoded WebAssembly module, named as in the specification's "Structure / Modules".

Function bodies stay undecoded bytes here (FunctionBody), so that a large module can be decoded, validated and
translated function by function in worker processes. Offsets are byte offsets in the .wasm file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NewType

from lucet.wasm.types import FuncType, GlobalType, MemoryType, TableType, TagType, ValType

TypeIdx = NewType("TypeIdx", int)
FuncIdx = NewType("FuncIdx", int)
TableIdx = NewType("TableIdx", int)
MemIdx = NewType("MemIdx", int)
GlobalIdx = NewType("GlobalIdx", int)
ElemIdx = NewType("ElemIdx", int)
DataIdx = NewType("DataIdx", int)
LocalIdx = NewType("LocalIdx", int)

Instr = tuple[int, int, Any]
"""One decoded instruction: (opcode, file offset, immediate).

opcode: the byte, or opcodes.prefixed_code for prefixed ones (memory.copy is 0xFC0A).
immediate, by instruction:
    block, loop, if              FuncType of the block
    try_table                    (FuncType of the block, tuple of Catch)
    try                          FuncType of the block
    throw, catch                 tag index
    rethrow, delegate            label
    br, br_if                    label
    br_table                     (tuple of labels, default label)
    call, return_call, ref.func  function index
    call_ref, return_call_ref    type index
    br_on_null, br_on_non_null   label
    call_indirect, return_call_indirect   (type index, table index)
    local.*, global.*            index
    table.get/set/size/grow/fill table index
    loads, stores and atomics    (align exponent, offset, memory index)
    memory.size/grow/fill        memory index
    memory.copy                  (destination memory, source memory)
    memory.init                  (data index, memory index)
    table.copy                   (destination table, source table)
    table.init                   (element index, table index)
    data.drop, elem.drop         index
    i32.const, i64.const         signed int
    f32.const, f64.const         the bits as an unsigned int
    v128.const                   likewise, lane 0 lowest
    *.extract_lane, *.replace_lane  lane
    i8x16.shuffle                tuple of 16 lanes
    v128.load*_lane, store*_lane (align exponent, offset, memory index, lane)
    ref.null                     ValType
    select with types            tuple of ValTypes
    all others                   None
The list ends with the function's (or expression's) final `end`.
"""


class Catch(NamedTuple):
    """A clause of try_table."""

    tag: int | None
    """None: whatever the tag, and without its values."""
    with_ref: bool
    """The label takes the exception itself, too, as its last value."""
    label: int
    """As outside the try_table."""


@dataclass(frozen=True, kw_only=True)
class Import:
    module: str
    field: str
    desc: TypeIdx | TableType | MemoryType | GlobalType | TagType
    """A plain int is the type index of an imported function."""
    offset: int


@dataclass(frozen=True, kw_only=True)
class Export:
    name: str
    kind: str
    """"func", "table", "memory", "global" or "tag"."""
    index: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class FunctionBody:
    """One entry of the code section: body is locals and expression, at offset in the file."""

    offset: int
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Code:
    """A decoded function body."""

    locals: tuple[ValType, ...]
    """Declared locals, without the parameters."""
    all_defaultable: bool = True
    """Whether all of them have a default value: others must be set before they are read."""
    instrs: Sequence[Instr]


@dataclass(frozen=True, kw_only=True)
class Global:
    type: GlobalType
    init: Sequence[Instr]
    offset: int


@dataclass(frozen=True, kw_only=True)
class Table:
    type: TableType
    init: Sequence[Instr] | None
    """Initial value of every element (function-references proposal), None for null."""
    offset: int


@dataclass(frozen=True, kw_only=True)
class Elem:
    reftype: ValType
    items: Sequence[Sequence[Instr]]
    """One constant expression each; a plain function index in the file is decoded as `ref.func x; end`."""
    mode: str
    """"active", "passive" or "declarative"."""
    table: TableIdx
    offset_expr: Sequence[Instr] | None
    """Where, in the table: active segments only."""
    offset: int


@dataclass(frozen=True, kw_only=True)
class Data:
    bytes: bytes
    mode: str
    """"active" or "passive"."""
    memory: MemIdx
    offset_expr: Sequence[Instr] | None
    offset: int


@dataclass(frozen=True, kw_only=True)
class Module:
    """A decoded module. The index spaces (all_*) hold imports first, as the specification has it."""

    types: tuple[FuncType, ...] = ()
    imports: tuple[Import, ...] = ()
    funcs: tuple[TypeIdx, ...] = ()
    """Type index of each defined function; bodies is parallel."""
    bodies: tuple[FunctionBody, ...] = ()
    tables: tuple[Table, ...] = ()
    memories: tuple[MemoryType, ...] = ()
    tags: tuple[TagType, ...] = ()
    globals: tuple[Global, ...] = ()
    exports: tuple[Export, ...] = ()
    start: FuncIdx | None = None
    elems: tuple[Elem, ...] = ()
    datas: tuple[Data, ...] = ()
    data_count: int | None = None
    customs: tuple[tuple[str, bytes, int], ...] = ()
    """(name, payload, file offset of the payload), in order, for all custom sections."""
    func_names: dict[int, str] = field(default_factory=dict)
    """From the name section; a malformed one is ignored."""
    module_name: str | None = None

    # Filled by the decoder: the whole index spaces.
    all_funcs: tuple[TypeIdx, ...] = ()
    all_tables: tuple[TableType, ...] = ()
    all_memories: tuple[MemoryType, ...] = ()
    all_globals: tuple[GlobalType, ...] = ()
    all_tags: tuple[TagType, ...] = ()
    declared_refs: frozenset[FuncIdx] = frozenset()
    """Functions that occur in the module outside function bodies (C.refs): what ref.func may name."""

    @property
    def imported_func_count(self) -> int:
        return len(self.all_funcs) - len(self.funcs)

    def tag_params(self, index: int) -> tuple[ValType, ...]:
        """What an exception with the tag carries."""
        return self.all_tags[index].functype.unrolled.params

    def func_type(self, index: int) -> FuncType:
        return self.types[self.all_funcs[index]]
