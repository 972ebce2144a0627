"""The artifact's metadata: the header and all that it points to, from the module, its plan and the linked code."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lucet.abi.artifact_reader import decode_lines
from lucet.abi.tables import CONSTANTS, STRUCTS
from lucet.compile import elf, lines, link
from lucet.compile.debug import Body
from lucet.compile.plan import Plan
from lucet.compile.versions import LEVELS
from lucet.errors import CompilerFailed
from lucet.wasm.module import Import, Module
from lucet.wasm.types import GlobalType, MemoryType, TableType, TagType, valtype_code

_MAX_GAP: Final = 64
"""Bytes between two functions: no alignment is larger."""
_NONE: Final = CONSTANTS["LUCET_NONE"]
_NO_MAXIMUM: Final = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the artifact records beside the module itself."""

    source_digest: bytes
    """SHA-256 of the .wasm."""
    producer: str
    cpu_name: str
    cpu_features: int
    """LUCET_CPU_* of what the machine must have."""
    flags: int = 0
    """LUCET_FLAG_* of the header."""
    sources: bytes = b""
    """The module's DWARF lines: wasm.dwarf.pack."""
    debug_info: bool = False
    """The same for native debuggers, too."""


@dataclass(frozen=True, kw_only=True)
class LinkedCode:
    """The linked code with its addresses."""

    merged: link.Merged
    sections: Mapping[str, elf.OutputSection]
    """By area of the linker step."""
    tables: elf.OutputSection
    table_spans: Mapping[int, tuple[int, int]]
    """Static table -> offset and size in tables."""

    def rva(self, symbol: str) -> int:
        definition = self.definition(symbol)
        return self.sections[definition.area].offset + definition.offset

    def definition(self, symbol: str) -> link.Definition:
        definition = self.merged.symbols.get(symbol)
        if definition is None:
            raise CompilerFailed(f"no object file defines {symbol}")
        return definition


class Metadata:
    """Collects the header, the arrays that it points to and what those refer to."""

    def __init__(
        self, module: Module, plan: Plan, code: LinkedCode, images: elf.OutputSection, eh_frame_hdr: elf.OutputSection
    ) -> None:
        self._module = module
        self._plan = plan
        self._code = code
        self._images = images
        self._eh_frame_hdr = eh_frame_hdr
        self._imported = module.imported_func_count
        self._base = 0
        self._data = bytearray()
        self._strings = bytearray()
        self._known_strings: dict[str, int] = {}
        self._blobs: dict[int, bytes] = {}

    def place(self, out: elf.SharedObject, provenance: Provenance) -> elf.OutputSection:
        """Add the sections. Returns that of the header; what it says of the whole file is still 0."""
        plan, text = self._plan, self._code.sections[link.TEXT]
        line_offsets, line_blobs = self._lines()
        datas = out.add(".lucet.data", b"".join(data.bytes for data in plan.datas))
        self._base = out.position(16)
        self._data = bytearray(STRUCTS["artifact_header"].size)
        values: dict[str, Any] = {
            "magic": CONSTANTS["LUCET_MAGIC"],
            "abi_version": CONSTANTS["LUCET_ABI_VERSION"],
            "header_size": STRUCTS["artifact_header"].size,
            "self_rva": self._base,
            "flags": provenance.flags,
            "cpu_features": provenance.cpu_features,
            "load_size": 0,
            "file_size": 0,
            "text_rva": text.offset,
            "text_size": len(text.data),
            **self._array("types", "type", self._types()),
            **self._array("functions", "function", self._functions(line_offsets)),
            **self._array("imports", "import", self._imports()),
            **self._array("exports", "export", self._exports()),
            **self._array("memories", "memory", self._memories()),
            **self._array("globals", "global", self._globals()),
            **self._array("tables", "table", self._tables()),
            **self._array("tags", "tag", self._tags()),
            **self._array("refs", "ref", plan.ref_offsets.items()),
            **self._array("elems", "elem", self._elems()),
            **self._array("datas", "data", self._datas(datas.offset)),
            **self._array("images", "image", self._image_runs()),
            "init_rva": self._code.rva("init") if plan.has_init else 0,
            "start_function": _NONE if self._module.start is None else self._module.start,
            "producer": self._string(provenance.producer),
            "cpu_name": self._string(provenance.cpu_name),
            "eh_frame_hdr_rva": self._eh_frame_hdr.offset,
            "eh_frame_hdr_size": len(self._eh_frame_hdr.data),
            "source_digest": provenance.source_digest,
            "checksum": 0,
            "reserved2": 0,
            "reserved4": 0,
            "digest": bytes(32),
        }
        header = out.add(".lucet.module", self._data, alignment=16)
        strings = out.add(".lucet.strings", self._strings, alignment=4)
        line_section = out.add(".lucet.lines", line_blobs)
        sources = out.add(".lucet.sources", provenance.sources)
        template = out.add(".lucet.template", plan.template, alignment=16)
        values |= {
            "template_rva": template.offset,
            "instance_size": plan.instance_size,
            "strings_rva": strings.offset,
            "strings_size": len(self._strings),
            "lines_rva": line_section.offset,
            "lines_size": len(line_blobs),
            "sources_rva": sources.offset if provenance.sources else 0,
            "sources_size": len(provenance.sources),
        }
        self._data[: STRUCTS["artifact_header"].size] = STRUCTS["artifact_header"].pack(**values)
        return header

    def _array(self, name: str, struct_name: str, rows: Iterable[tuple[Any, ...]]) -> dict[str, int]:
        """Append an array of structures, given by their fields in order, and return its two header fields."""
        parts = [STRUCTS[struct_name].codec.pack(*row) for row in rows]
        return {f"{name}_rva": self._append(b"".join(parts), 8), f"{name}_count": len(parts)}

    def _append(self, data: bytes, alignment: int) -> int:
        """Append bytes that the header or an array refers to, and return their rva: 0 if there are none."""
        if not data:
            return 0
        self._data += bytes(-len(self._data) % alignment)
        rva = self._base + len(self._data)
        self._data += data
        return rva

    def _string(self, text: str) -> int:
        offset = self._known_strings.get(text)
        if offset is None:
            encoded = text.encode("utf-8", "replace")
            offset = self._known_strings[text] = len(self._strings)
            self._strings += len(encoded).to_bytes(4, "little") + encoded + bytes(-len(encoded) % 4)
        return offset

    def _lines(self) -> tuple[dict[int, int], bytes]:
        """Function index -> offset of its blob in the lines span, and the span."""
        bodies: dict[int, list[tuple[int, link.Definition]]] = {}
        for function in range(self._imported, len(self._plan.function_types)):
            definition = self._code.definition(self._body_symbol(function))
            bodies.setdefault(definition.object, []).append((function, definition))
        offsets: dict[int, int] = {}
        span = bytearray()
        for number, functions in bodies.items():
            starts = {(definition.section, definition.value) for _, definition in functions}
            rows_of = lines.read_lines(self._code.merged.objects[number], starts)
            for function, definition in functions:
                rows = rows_of.get(definition.section)
                end = definition.value + self._size(self._body_symbol(function))
                blob = rows and lines.encode_lines(rows, definition.value, end, self._distances(function))
                if blob:
                    self._blobs[function] = blob
                    offsets[function] = len(span)
                    span += blob
        return offsets, bytes(span)

    def bodies(self) -> Iterator[Body]:
        """The functions' code and its places in the .wasm, after place()."""
        names = function_names(self._module)
        for function in range(self._imported, len(self._plan.function_types)):
            symbol = self._body_symbol(function)
            start = self._module.bodies[function - self._imported].offset
            rows = decode_lines(self._blobs.get(function, b"\0"))
            yield Body(
                name=names.get(function, f"wasm_function_{function}"),
                address=self._code.rva(symbol),
                size=self._size(symbol),
                rows=[(code, None if offset < 0 else start + offset) for code, offset in rows],
            )

    def _distances(self, function: int) -> Callable[[int], int]:
        bodies, imported = self._module.bodies, self._imported
        start = bodies[function - imported].offset
        return lambda other: bodies[other - imported].offset - start

    def _size(self, symbol: str) -> int:
        """Bytes of a function's code, with its versions, which stand behind it."""
        definition = self._code.definition(symbol)
        end = definition.offset + definition.size
        if self._plan.multi:
            found = [self._code.merged.symbols.get(symbol + suffix) for suffix in LEVELS]
            for version in (one for one in found if one is not None):
                if not end <= version.offset < end + _MAX_GAP:
                    raise CompilerFailed(f"the versions of {symbol} do not follow one another")
                end = version.offset + version.size
        return end - definition.offset

    def _body_symbol(self, function: int) -> str:
        tail = self._plan.tail_calls and function >= self._imported
        return f"t{function}" if tail else f"f{function}"

    def _types(self) -> Iterator[tuple[Any, ...]]:
        entries = set(self._plan.entry_types)
        for index, one in enumerate(self._plan.types):
            codes = [valtype_code(valtype) for valtype in (*one.unrolled.params, *one.unrolled.results)]
            valtypes = self._append(bytes(code for code, _ in codes), 1)
            entry = self._code.rva(f"e{index}") if index in entries else 0
            ids = [type_id for _, type_id in codes]
            type_ids = self._append(struct.pack(f"<{len(ids)}Q", *ids), 8) if any(ids) else 0
            yield one.type_id(), len(one.params), len(one.results), valtypes, entry, type_ids, 0

    def _functions(self, line_offsets: Mapping[int, int]) -> Iterator[tuple[Any, ...]]:
        plan, code = self._plan, self._code
        names = function_names(self._module)
        for index, canonical in enumerate(plan.function_types):
            imported = index < self._imported
            body = self._body_symbol(index)
            callable_from_c = imported or not plan.tail_calls or index in plan.escapes
            yield (
                code.rva(f"f{index}") if callable_from_c else 0,
                self._size(body),
                canonical,
                self._string(names[index]) if index in names else _NONE,
                0 if imported else self._module.bodies[index - self._imported].offset,
                plan.ref_offsets.get(index, 0),
                line_offsets.get(index, _NONE),
                code.rva(body) if body.startswith("t") else 0,
            )

    def _imports(self) -> Iterator[tuple[Any, ...]]:
        counts = dict.fromkeys(_KINDS.values(), 0)
        for one, offset in zip(self._module.imports, self._plan.import_offsets, strict=True):
            kind = _import_kind(one)
            canonical = self._plan.type_map[one.desc] if isinstance(one.desc, int) else _NONE
            if isinstance(one.desc, TagType):
                canonical = self._plan.tags[counts[kind]].type
            yield self._string(one.module), self._string(one.field), kind, counts[kind], canonical, offset
            counts[kind] += 1

    def _exports(self) -> Iterator[tuple[Any, ...]]:
        for one in self._module.exports:
            yield self._string(one.name), _KINDS[one.kind], one.index, 0

    def _memories(self) -> Iterator[tuple[Any, ...]]:
        for one in self._plan.memories:
            flags = _flags({"IMPORTED": one.imported, "CHECKED": one.checked, "64": one.is_64, "SHARED": one.shared})
            maximum = _NO_MAXIMUM if one.maximum is None else one.maximum
            yield one.minimum, maximum, one.reserved, one.guard, flags, one.offset, one.page_size_log2, 0

    def _globals(self) -> Iterator[tuple[Any, ...]]:
        for one in self._plan.globals:
            flags = _flags({"IMPORTED": one.imported, "MUTABLE": one.mutable, "INDIRECT": one.indirect})
            valtype, type_id = valtype_code(one.valtype)
            yield valtype, flags, one.offset, 0, type_id

    def _tables(self) -> Iterator[tuple[Any, ...]]:
        for index, one in enumerate(self._plan.tables):
            static = one.entries is not None
            maximum = _NO_MAXIMUM if one.maximum is None else one.maximum
            rva = self._code.tables.offset + self._code.table_spans[index][0] if static else 0
            flags = _flags({"IMPORTED": one.imported, "STATIC": static, "64": one.is_64})
            reftype, type_id = valtype_code(one.reftype)
            yield one.minimum, maximum, reftype, flags, one.offset, rva, type_id

    def _tags(self) -> Iterator[tuple[Any, ...]]:
        for one in self._plan.tags:
            yield one.type, _flags({"IMPORTED": one.imported}), one.offset, 0

    def _elems(self) -> Iterator[tuple[Any, ...]]:
        for one in self._plan.elems:
            items = self._append(struct.pack(f"<{len(one.items)}i", *one.items), 4)
            yield items, len(one.items), valtype_code(one.reftype)[0], one.offset

    def _datas(self, rva: int) -> Iterator[tuple[Any, ...]]:
        for one in self._plan.datas:
            yield rva if one.bytes else 0, len(one.bytes), one.offset, 0
            rva += len(one.bytes)

    def _image_runs(self) -> Iterator[tuple[Any, ...]]:
        rva = self._images.offset
        for run in self._plan.images:
            yield run.heap_offset, rva, len(run.bytes)
            rva += len(run.bytes)


_KINDS: Final = {kind: CONSTANTS[f"LUCET_KIND_{kind.upper()}"] for kind in ("func", "table", "memory", "global", "tag")}


def _import_kind(one: Import) -> int:
    match one.desc:
        case TableType():
            return _KINDS["table"]
        case MemoryType():
            return _KINDS["memory"]
        case GlobalType():
            return _KINDS["global"]
        case TagType():
            return _KINDS["tag"]
    return _KINDS["func"]


def _flags(given: Mapping[str, bool]) -> int:
    return sum(CONSTANTS[f"LUCET_FLAG_{name}"] for name, value in given.items() if value)


def function_names(module: Module) -> dict[int, str]:
    """People's names of functions: from the name section, else module.field of an import, else the first export's."""
    names = {one.index: one.name for one in reversed(module.exports) if one.kind == "func"}
    imported = [one for one in module.imports if isinstance(one.desc, int)]
    names |= {index: f"{one.module}.{one.field}" for index, one in enumerate(imported)}
    return names | {index: name for index, name in module.func_names.items() if index < len(module.all_funcs)}
