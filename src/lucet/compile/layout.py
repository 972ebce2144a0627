"""Makes the Plan: image or init, static or dynamic tables, and an offset for everything below vmctx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lucet.abi.tables import STRUCTS, VMCTX_FIXED_SIZE
from lucet.compile.constexpr import constant_bits, constant_item, ref_funcs
from lucet.compile.image import page_image
from lucet.compile.ir import signature
from lucet.compile.llvm import target_features
from lucet.compile.options import Options
from lucet.compile.plan import DataPlan, ElemPlan, GlobalPlan, ImageRun, MemoryPlan, Plan, TablePlan, TagPlan
from lucet.compile.scan import Facts, scan
from lucet.limits import WASM_PAGE_SIZE_LOG2
from lucet.wasm.module import Data, Elem, Module
from lucet.wasm.types import I64, V128, FuncType, GlobalType, MemoryType, TableType, TagType, is_funcref

MAX_SPARSE_TABLE: Final = 1 << 16
"""A static table may have this many entries, or as many as its segments fill: null ones take room in the artifact."""

_COPIED_SIZES: Final = {"default": 4000, "best": 10_000}
"""By level: a copy is worth the most to functions that do little else, and the vectoriser takes time."""
_WORD: Final = 8
_V128_SIZE: Final = 16


def make_plan(module: Module, options: Options) -> Plan:
    """Plan a module that validate_module accepts; its function bodies may still turn out to be invalid."""
    facts = scan(module)
    features = target_features(options)
    types, type_map = _canonical_types(module.types)
    globals_bits = _globals_bits(module)
    statics = {table: _static_entries(module, facts, table, globals_bits) for table in range(len(module.all_tables))}
    init_elems = tuple(
        index for index, elem in enumerate(module.elems) if elem.mode == "active" and statics[elem.table] is None
    )
    images, init_datas = _images_or_init(module, globals_bits)
    live_elems = {*init_elems, *(index for index in facts.elems if _is_passive(module.elems, index))}
    live_datas = {*init_datas, *(index for index in facts.datas if _is_passive(module.datas, index))}
    refs = _functions_with_records(module, facts, live_elems)
    escapes = frozenset({*refs, *(() if module.start is None else (module.start,))})
    # Hosts call them by their index in table 0: what a guest calls a function pointer.
    pointed = {function for function in statics.get(0) or () if function is not None}

    area = _Area()
    globals_ = _plan_globals(module, globals_bits, area)
    imports = _plan_imports(module, globals_, area)
    memories = _plan_memories(module, options, imports, area)
    tables = _plan_tables(module, statics, imports, area)
    tags = _plan_tags(module, types, imports, area)
    elems = _plan_elems(module, facts, live_elems, area)
    datas = _plan_datas(module, facts, live_datas, area)
    record_size = STRUCTS["funcref"].size
    ref_offsets = {function: area.take(record_size) for function in refs}
    spill_size = max((signature(one.unrolled).spilled_size for one in types), default=0) if facts.tail_calls else 0
    spill_offset = area.take(spill_size)
    function_types = tuple(type_map[index] for index in module.all_funcs)
    return Plan(
        types=types,
        type_map=type_map,
        function_types=function_types,
        entry_types=tuple(sorted({function_types[function] for function in escapes | pointed})),
        import_offsets=imports,
        function_imports=tuple(
            offset for one, offset in zip(module.imports, imports, strict=True) if isinstance(one.desc, int)
        ),
        memories=memories,
        globals=globals_,
        tables=tables,
        ref_offsets=ref_offsets,
        elems=elems,
        datas=datas,
        images=images,
        template=area.template(),
        instance_size=area.size(),
        tail_calls=facts.tail_calls,
        escapes=escapes,
        init_globals=tuple(
            index for index, one in enumerate(globals_) if not one.imported and globals_bits.get(index) is None
        ),
        init_tables=tuple(
            len(module.all_tables) - len(module.tables) + index
            for index, one in enumerate(module.tables)
            if one.init is not None and statics[len(module.all_tables) - len(module.tables) + index] is None
        ),
        init_elems=init_elems,
        init_datas=init_datas,
        tags=tags,
        exceptions=facts.exceptions or bool(tags),
        spill_offset=spill_offset,
        count_instructions=options.count_instructions,
        graded=options.opt_level in {"default", "best"},
        copied_size=0 if options.count_instructions else _COPIED_SIZES.get(options.opt_level, 0),
        hot=None if options.hot is None else frozenset(options.hot),
        # A version is a C function that another jumps to.
        multi=options.target_cpu == "multi" and not facts.tail_calls,
        inlines=options.opt_level in {"default", "best"} and not options.count_instructions,
        features=features,
        rounds="SSE4_1" in features,
    )


class _Area:
    """The instance area while it grows downwards from the fixed words."""

    def __init__(self) -> None:
        self._end = -VMCTX_FIXED_SIZE
        self._words: dict[int, tuple[int, int]] = {}

    def take(self, size: int, *, initial: int = 0) -> int:
        """The offset of `size` more bytes, aligned to a word, or to 16 if they are that."""
        self._end -= size
        if size == _V128_SIZE:
            self._end &= -_V128_SIZE
        if initial:
            self._words[self._end] = (initial, size)
        return self._end

    def size(self) -> int:
        return -(self._end & -16)

    def template(self) -> bytes:
        size = self.size()
        template = bytearray(size)
        for offset, (value, width) in self._words.items():
            template[size + offset : size + offset + width] = value.to_bytes(width, "little")
        return bytes(template)


def _canonical_types(types: Sequence[FuncType]) -> tuple[tuple[FuncType, ...], tuple[int, ...]]:
    indices: dict[FuncType, int] = {}
    type_map = tuple(indices.setdefault(functype, len(indices)) for functype in types)
    return tuple(indices), type_map


def _globals_bits(module: Module) -> dict[int, int]:
    """Initial values that are known now, of own globals."""
    bits: dict[int, int] = {}
    imported = len(module.all_globals) - len(module.globals)
    for index, one in enumerate(module.globals, start=imported):
        value = constant_bits(one.init, bits)
        if value is not None:
            bits[index] = value
    return bits


def _is_passive(segments: Sequence[Elem] | Sequence[Data], index: int) -> bool:
    # The index comes from a body that nobody has validated yet.
    return index < len(segments) and segments[index].mode == "passive"


def _exported(module: Module, kind: str) -> set[int]:
    return {export.index for export in module.exports if export.kind == kind}


def _static_entries(
    module: Module, facts: Facts, table: int, globals_bits: Mapping[int, int]
) -> tuple[int | None, ...] | None:
    """The table's entries if nobody can ever see them change, else None."""
    tabletype = module.all_tables[table]
    imported = len(module.all_tables) - len(module.tables)
    if table < imported or table in facts.dynamic_tables or table in _exported(module, "table"):
        return None
    minimum = tabletype.limits.minimum
    segments = [elem for elem in module.elems if elem.mode == "active" and elem.table == table]
    largest = max(MAX_SPARSE_TABLE, *(len(elem.items) for elem in segments), 0)
    init = module.tables[table - imported].init
    default = -1 if init is None else constant_item(init)
    if not is_funcref(tabletype.reftype) or minimum > largest or default < -1:
        return None
    entries: list[int | None] = [None if default < 0 else default] * minimum
    for elem in segments:
        start = constant_bits(elem.offset_expr or [], globals_bits)
        items = [constant_item(item) for item in elem.items]
        if start is None or start + len(items) > minimum or any(item < -1 for item in items):
            return None
        entries[start : start + len(items)] = (None if item < 0 else item for item in items)
    return tuple(entries)


def _images_or_init(module: Module, globals_bits: Mapping[int, int]) -> tuple[tuple[ImageRun, ...], tuple[int, ...]]:
    """The image of memory 0, and the active data segments that init must copy.

    There is an image only if no segment can trap: what comes after one that does must not be seen in the memory.
    """
    active = tuple(index for index, data in enumerate(module.datas) if data.mode == "active")
    in_image: dict[int, tuple[int, bytes]] = {}
    for index in active:
        data = module.datas[index]
        address = constant_bits(data.offset_expr or [], globals_bits)
        own = data.memory >= len(module.all_memories) - len(module.memories)
        if not own or address is None or address + len(data.bytes) > module.all_memories[data.memory].minimum_size:
            return (), active
        if data.memory == 0 and _is_in_slot(module, 0):
            in_image[index] = address, data.bytes
    images = page_image(in_image.values())
    return ((), active) if images is None else (images, tuple(index for index in active if index not in in_image))


def _is_in_slot(module: Module, memory: int) -> bool:
    memtype = module.all_memories[memory]
    imported = len(module.all_memories) - len(module.memories)
    return memory == imported == 0 and not memtype.shared and memtype.page_size_log2 == WASM_PAGE_SIZE_LOG2


def _functions_with_records(module: Module, facts: Facts, live_elems: set[int]) -> list[int]:
    """Functions that can become a funcref value, in guest code or by the host's hand, ascending."""
    functions = {index for index in facts.ref_funcs if index < len(module.all_funcs)} | _exported(module, "func")
    for one in module.globals:
        functions |= ref_funcs(one.init)
    for table in module.tables:
        functions |= ref_funcs(table.init or ())
    for index in live_elems:
        for item in module.elems[index].items:
            functions |= ref_funcs(item)
    return sorted(functions)


def _plan_globals(module: Module, globals_bits: Mapping[int, int], area: _Area) -> tuple[GlobalPlan, ...]:
    """Own globals come first, near vmctx, where an instruction reaches them with a short displacement."""
    imported = len(module.all_globals) - len(module.globals)
    exported = _exported(module, "global")
    plans: dict[int, GlobalPlan] = {}
    for index in (*range(imported, len(module.all_globals)), *range(imported)):
        globaltype = module.all_globals[index]
        indirect = index < imported and globaltype.mutable
        size = _V128_SIZE if globaltype.valtype == V128 and not indirect else _WORD
        plans[index] = GlobalPlan(
            valtype=globaltype.valtype,
            imported=index < imported,
            mutable=globaltype.mutable,
            indirect=indirect,
            observable=globaltype.mutable and (index < imported or index in exported),
            offset=area.take(size, initial=globals_bits.get(index, 0)),
            constant=globals_bits.get(index),
        )
    return tuple(plans[index] for index in range(len(plans)))


def _plan_imports(module: Module, globals_: tuple[GlobalPlan, ...], area: _Area) -> tuple[int, ...]:
    offsets = []
    next_global = 0
    for one in module.imports:
        if isinstance(one.desc, int):
            area.take(_WORD)  # at +8: the vmctx to call it with
            offsets.append(area.take(_WORD))
        elif isinstance(one.desc, GlobalType):
            offsets.append(globals_[next_global].offset)
            next_global += 1
        else:
            offsets.append(area.take(_WORD))
    return tuple(offsets)


def _plan_memories(module: Module, options: Options, imports: tuple[int, ...], area: _Area) -> tuple[MemoryPlan, ...]:
    words = _imported_words(module, imports, MemoryType)
    plans = []
    for index, memory in enumerate(module.all_memories):
        imported = index < len(words)
        is_64 = memory.limits.index_type == I64
        # The hardware protects pages of 4 KiB.
        reserved, checked = 0, options.bounds == "explicit" or memory.page_size_log2 != WASM_PAGE_SIZE_LOG2
        if not is_64 and memory.page_size_log2 == WASM_PAGE_SIZE_LOG2:
            reserved, checked = options.reservation(memory.minimum_size)
        plans.append(
            MemoryPlan(
                minimum=memory.limits.minimum,
                maximum=memory.limits.maximum,
                imported=imported,
                is_64=is_64,
                shared=memory.shared,
                page_size_log2=memory.page_size_log2,
                checked=checked,
                offset=words[index] if imported else 0 if _is_in_slot(module, index) else area.take(_WORD),
                reserved=reserved,
                guard=0 if checked else options.guard_size,
            )
        )
    return tuple(plans)


def _plan_tables(
    module: Module, statics: Mapping[int, tuple[int | None, ...] | None], imports: tuple[int, ...], area: _Area
) -> tuple[TablePlan, ...]:
    words = _imported_words(module, imports, TableType)
    plans = []
    for index, table in enumerate(module.all_tables):
        imported = index < len(words)
        entries = statics[index]
        plans.append(
            TablePlan(
                reftype=table.reftype,
                minimum=table.limits.minimum,
                maximum=table.limits.maximum,
                imported=imported,
                is_64=table.limits.index_type == I64,
                offset=words[index] if imported else area.take(_WORD) if entries is None else 0,
                entries=entries,
            )
        )
    return tuple(plans)


def _plan_tags(
    module: Module, types: tuple[FuncType, ...], imports: tuple[int, ...], area: _Area
) -> tuple[TagPlan, ...]:
    canonical = {functype: index for index, functype in enumerate(types)}
    words = _imported_words(module, imports, TagType)
    return tuple(
        TagPlan(
            type=canonical[tag.functype],
            imported=index < len(words),
            offset=words[index] if index < len(words) else area.take(_WORD),
        )
        for index, tag in enumerate(module.all_tags)
    )


def _imported_words(
    module: Module, imports: tuple[int, ...], kind: type[TableType | MemoryType | TagType]
) -> list[int]:
    return [offset for one, offset in zip(module.imports, imports, strict=True) if isinstance(one.desc, kind)]


def _plan_elems(module: Module, facts: Facts, live: set[int], area: _Area) -> tuple[ElemPlan, ...]:
    if not live and not facts.elems:
        return ()
    empty = area.take(_WORD)
    plans = []
    for index, elem in enumerate(module.elems):
        items = tuple(constant_item(item) for item in elem.items) if index in live else ()
        offset = area.take(_WORD, initial=len(items)) if index in live else empty
        plans.append(ElemPlan(reftype=elem.reftype, items=items, offset=offset))
    return tuple(plans)


def _plan_datas(module: Module, facts: Facts, live: set[int], area: _Area) -> tuple[DataPlan, ...]:
    if not live and not facts.datas:
        return ()
    empty = area.take(_WORD)
    plans = []
    for index, data in enumerate(module.datas):
        contents = data.bytes if index in live else b""
        offset = area.take(_WORD, initial=len(contents)) if index in live else empty
        plans.append(DataPlan(bytes=contents, offset=offset))
    return tuple(plans)
