"""Reading artifacts without running them: for tests, tools and people. The loader in the C core has its own eyes.

The bytes may be hostile: whatever is wrong with them is an ArtifactError.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from lucet.abi.tables import CONSTANTS, STRUCTS
from lucet.errors import ArtifactError

NONE: Final = CONSTANTS["LUCET_NONE"]

_ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_GNU_HASH: Final = struct.Struct("<IIII")
_ET_DYN, _EM_X86_64, _PT_LOAD, _PT_DYNAMIC = 3, 62, 1, 2
_DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 5, 6, 0x6FFFFEF5
_PAGE: Final = 4096
_SYMBOL_NAME: Final = b"lucet_module"

_ARRAYS: Final = {
    "types": "type",
    "functions": "function",
    "imports": "import",
    "exports": "export",
    "memories": "memory",
    "globals": "global",
    "tables": "table",
    "tags": "tag",
    "refs": "ref",
    "elems": "elem",
    "datas": "data",
    "images": "image",
}
"""Header fields <key>_rva, <key>_count -> the structure."""

Row = dict[str, Any]
"""A structure's fields by name, as artifact.def has them; "string" fields are str, or None for LUCET_NONE."""

_STRING_FIELDS: Final = {
    "function": ("name",),
    "import": ("module", "field"),
    "export": ("name",),
    "artifact_header": ("producer", "cpu_name"),
}


@dataclass(frozen=True, kw_only=True)
class Location:
    """A place in the WebAssembly module."""

    function: int
    offset: int | None
    """Of the instruction in the .wasm; None if the code belongs to no instruction."""


@dataclass(frozen=True, kw_only=True)
class ArtifactInfo:
    """Everything that an artifact says about its module."""

    header: Row
    types: tuple[Row, ...]
    functions: tuple[Row, ...]
    imports: tuple[Row, ...]
    exports: tuple[Row, ...]
    memories: tuple[Row, ...]
    globals: tuple[Row, ...]
    tables: tuple[Row, ...]
    tags: tuple[Row, ...]
    refs: tuple[Row, ...]
    elems: tuple[Row, ...]
    datas: tuple[Row, ...]
    images: tuple[Row, ...]
    loaded: memoryview = field(repr=False)
    """What the dynamic loader maps: an rva is an index into it."""

    def span(self, rva: int, size: int) -> memoryview:
        """Loaded bytes."""
        return _span(self.loaded, rva, size)

    def valtypes(self, type_index: int) -> tuple[bytes, bytes]:
        """Parameters and results of a type, as in the binary format."""
        row = self.types[type_index]
        params, results = row["params_count"], row["results_count"]
        both = bytes(self.span(row["valtypes_rva"], params + results))
        return both[:params], both[params:]

    def type_ids(self, type_index: int) -> tuple[int, ...]:
        """Of parameters and results: which type's functions they refer to, 0 for those that do not."""
        row = self.types[type_index]
        count: int = row["params_count"] + row["results_count"]
        if not row["type_ids_rva"]:
            return (0,) * count
        return struct.unpack(f"<{count}Q", self.span(row["type_ids_rva"], 8 * count))

    def elem_items(self, elem: int) -> tuple[int, ...]:
        row = self.elems[elem]
        return struct.unpack(f"<{row['items_count']}i", self.span(row["items_rva"], 4 * row["items_count"]))

    def static_entries(self, table: int) -> list[tuple[int, int] | None]:
        """(type, rva of the code) of each entry of a static table, None for null ones."""
        row, codec = self.tables[table], STRUCTS["static_entry"].codec
        if not row["static_rva"]:
            raise ValueError(f"table {table} is not static")
        entries = codec.iter_unpack(self.span(row["static_rva"], row["minimum"] * codec.size))
        return [(kind - 1, row["static_rva"] + code) if kind else None for kind, code in entries]

    def body(self, function: int) -> tuple[int, int]:
        """Start and end of a function's code."""
        row = self.functions[function]
        start = row["tail_rva"] or row["code_rva"]
        return start, start + row["code_size"]

    def lines(self, function: int) -> list[tuple[int, int | None]]:
        """(code offset in the body, offset in the .wasm or None for code of no instruction), ascending."""
        row = self.functions[function]
        if row["lines"] == NONE:
            return []
        blob = self.span(self.header["lines_rva"], self.header["lines_size"])[row["lines"] :]
        try:
            return [(code, None if offset < 0 else row["wasm_offset"] + offset) for code, offset in decode_lines(blob)]
        except IndexError:
            raise ArtifactError(f"the lines of function {function} are truncated") from None

    def locate(self, rva: int) -> Location | None:
        """Where the machine code at rva comes from; None if it is in no function's body."""
        starts = self._bodies
        position = bisect_right(starts, (rva, NONE)) - 1
        if position < 0:
            return None
        start, function = starts[position]
        if rva >= self.body(function)[1]:
            return None
        offset = None
        for code, wasm_offset in self.lines(function):
            if code > rva - start:
                break
            offset = wasm_offset
        return Location(function=function, offset=offset)

    @cached_property
    def _bodies(self) -> list[tuple[int, int]]:
        return sorted((self.body(function)[0], function) for function in range(len(self.functions)))


def read_artifact(data: bytes | memoryview) -> ArtifactInfo:
    """Read and check an artifact's metadata. Raises ArtifactError."""
    try:
        return _read_artifact(memoryview(data))
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ArtifactError(f"malformed artifact: {error}") from error


def is_intact(data: bytes | memoryview, info: ArtifactInfo) -> bool:
    """Whether the file is as the compiler wrote it: its digest and its checksum are those in its header."""
    fields = STRUCTS["artifact_header"].fields
    at = info.header["self_rva"]  # offsets in the file are addresses
    blank = bytearray(data)
    for name, size in (("checksum", 4), ("digest", 32)):
        start = at + fields[name].offset
        blank[start : start + size] = bytes(size)
    if hashlib.sha256(blank).digest() != info.header["digest"]:
        return False
    start = at + fields["digest"].offset
    blank[start : start + 32] = info.header["digest"]
    return zlib.crc32(blank) == int(info.header["checksum"])


def decode_lines(blob: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """The rows of a line blob: (code offset, offset in the .wasm relative to the function, negative for none)."""
    count, position = _uleb128(blob, 0)
    code = offset = 0
    for _ in range(count):
        delta, position = _uleb128(blob, position)
        code += delta
        start = position
        delta, position = _uleb128(blob, position)
        sign = 1 << 7 * (position - start) - 1
        offset += (delta ^ sign) - sign
        yield code, offset


def _uleb128(blob: bytes | memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = blob[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return result, position


def _read_artifact(data: memoryview) -> ArtifactInfo:
    rva, loaded = _find_header(data)
    struct_of_header = STRUCTS["artifact_header"]
    header = struct_of_header.unpack(_span(loaded, rva, struct_of_header.size))
    if header["magic"] != CONSTANTS["LUCET_MAGIC"]:
        raise ArtifactError("not an artifact: wrong magic number")
    if header["abi_version"] != CONSTANTS["LUCET_ABI_VERSION"]:
        raise ArtifactError(
            f"artifact of ABI version {header['abi_version']}, this is version {CONSTANTS['LUCET_ABI_VERSION']}"
        )
    if header["file_size"] != len(data):
        raise ArtifactError(f"artifact of {header['file_size']} bytes is truncated or extended to {len(data)}")
    if header["header_size"] != struct_of_header.size or header["self_rva"] != rva:
        raise ArtifactError("malformed artifact: the header is not where it says")
    if header["load_size"] != len(loaded):
        raise ArtifactError("malformed artifact: load_size is not what the segments take")
    strings = _Strings(_span(loaded, header["strings_rva"], header["strings_size"]))
    arrays = {name: tuple(_read_array(loaded, header, name, strings)) for name in _ARRAYS}
    strings.resolve(header, _STRING_FIELDS["artifact_header"])
    info = ArtifactInfo(header=header, loaded=loaded, **arrays)
    _check(info)
    return info


def _read_array(loaded: memoryview, header: Row, name: str, strings: _Strings) -> Iterator[Row]:
    struct_name = _ARRAYS[name]
    of, string_fields = STRUCTS[struct_name], _STRING_FIELDS.get(struct_name, ())
    span = _span(loaded, header[f"{name}_rva"], header[f"{name}_count"] * of.size)
    for values in of.codec.iter_unpack(span):
        row = dict(zip(of.fields, values, strict=True))
        if string_fields:
            strings.resolve(row, string_fields)
        yield row


class _Strings:
    """The strings span. Strings do not overlap, so that a small file cannot say a lot."""

    def __init__(self, span: memoryview) -> None:
        self._span = span
        self._known: dict[int, str] = {}
        self._left = len(span)

    def resolve(self, row: Row, names: tuple[str, ...]) -> None:
        for name in names:
            row[name] = None if row[name] == NONE else self._string(row[name])

    def _string(self, offset: int) -> str:
        if offset not in self._known:
            (size,) = struct.unpack_from("<I", self._span, offset)
            self._left -= 4 + size
            if self._left < 0:
                raise ValueError(f"the string at {offset} overlaps others")
            self._known[offset] = str(_span(self._span, offset + 4, size), "utf-8")
        return self._known[offset]


def _span(data: memoryview, start: int, size: int) -> memoryview:
    if start + size > len(data):
        raise ValueError(f"{size} bytes at {start:#x} are beyond the end ({len(data):#x})")
    return data[start : start + size]


def _find_header(data: memoryview) -> tuple[int, memoryview]:
    """The rva of lucet_module, and the loaded part of the file."""
    if bytes(data[:7]) != b"\x7fELF\x02\x01\x01":
        raise ArtifactError("not an artifact: not a 64-bit ELF file")
    _, kind, machine, _, _, table, _, _, _, entry_size, count, _, _, _ = _ELF_HEADER.unpack_from(data)
    if kind != _ET_DYN or machine != _EM_X86_64 or entry_size != _PROGRAM_HEADER.size:
        raise ArtifactError("not an artifact: not a shared object for x86-64")
    programs = list(_PROGRAM_HEADER.iter_unpack(_span(data, table, count * entry_size)))
    end = 0
    dynamic: dict[int, int] = {}
    for kind, _, offset, address, _, file_size, memory_size, _ in programs:
        if kind == _PT_LOAD:
            if offset != address or file_size != memory_size:
                raise ArtifactError("not an artifact: file offsets differ from addresses")
            end = max(end, address + memory_size)
        elif kind == _PT_DYNAMIC:
            dynamic = dict(struct.iter_unpack("<QQ", _span(data, offset, file_size)))
    loaded = _span(data, 0, end)
    missing = {_DT_GNU_HASH, _DT_SYMTAB, _DT_STRTAB} - dynamic.keys()
    if missing:
        raise ArtifactError("not an artifact: it exports nothing")
    value = _look_up(loaded, _SYMBOL_NAME, dynamic[_DT_GNU_HASH], dynamic[_DT_SYMTAB], dynamic[_DT_STRTAB])
    if value is None:
        raise ArtifactError("not an artifact: it does not export lucet_module")
    return value, loaded


def _look_up(loaded: memoryview, name: bytes, hash_table: int, symbols: int, names: int) -> int | None:
    """Find an exported symbol as the dynamic loader does, but for the Bloom filter."""
    hashed = 5381
    for byte in name:
        hashed = (hashed * 33 + byte) & 0xFFFFFFFF
    buckets, first, bloom_words, _ = _GNU_HASH.unpack_from(loaded, hash_table)
    if not buckets:
        return None
    bucket_table = hash_table + _GNU_HASH.size + 8 * bloom_words
    (index,) = struct.unpack_from("<I", loaded, bucket_table + 4 * (hashed % buckets))
    while index >= first:
        (found,) = struct.unpack_from("<I", loaded, bucket_table + 4 * (buckets + index - first))
        name_offset, _, _, section, value, _ = _SYMBOL.unpack_from(loaded, symbols + index * _SYMBOL.size)
        if found | 1 == hashed | 1 and section and _span(loaded, names + name_offset, len(name) + 1) == name + b"\0":
            return int(value)
        if found & 1:
            return None
        index += 1
    return None


def _check(info: ArtifactInfo) -> None:
    """What every user of the rows relies on: indices exist, spans are inside."""
    header = info.header
    text_end = header["text_rva"] + header["text_size"]
    info.span(header["text_rva"], header["text_size"])
    info.span(header["lines_rva"], header["lines_size"])
    info.span(header["template_rva"], header["instance_size"])
    for index, row in enumerate(info.types):
        info.valtypes(index)
        info.type_ids(index)
        _require(row["entry_rva"] <= text_end, f"type {index} has its entry outside the code")
    for index, row in enumerate(info.functions):
        start, end = info.body(index)
        _require(header["text_rva"] <= start <= end <= text_end, f"function {index} is outside the code")
        _require(row["type"] < len(info.types), f"function {index} has type {row['type']}, which does not exist")
        _require(row["lines"] == NONE or row["lines"] < header["lines_size"], f"function {index} has no lines")
    counts = _index_space_sizes(info)
    for name, rows in (("import", info.imports), ("export", info.exports)):
        for index, row in enumerate(rows):
            _require(row["index"] < counts.get(row["kind"], 0), f"{name} {index} has an index that does not exist")
            _require(None not in {row.get("name", ""), row.get("module", "")}, f"{name} {index} has no name")
    for row in info.tables:
        if row["static_rva"]:
            info.span(row["static_rva"], row["minimum"] * STRUCTS["static_entry"].size)
    for row in info.elems:
        info.span(row["items_rva"], 4 * row["items_count"])
    for row in info.datas:
        info.span(row["bytes_rva"], row["bytes_count"])
    for index, row in enumerate(info.images):
        info.span(row["rva"], row["size"])
        pages = not (row["rva"] % _PAGE or row["size"] % _PAGE or row["heap_offset"] % _PAGE)
        _require(pages, f"image {index} is not made of pages")
    for row in info.refs:
        _require(row["function"] < len(info.functions), f"a reference names function {row['function']}")
    start = header["start_function"]
    _require(start == NONE or start < len(info.functions), f"the start function {start} does not exist")


def _index_space_sizes(info: ArtifactInfo) -> Mapping[int, int]:
    spaces = {
        "FUNC": info.functions,
        "TABLE": info.tables,
        "MEMORY": info.memories,
        "GLOBAL": info.globals,
        "TAG": info.tags,
    }
    return {CONSTANTS[f"LUCET_KIND_{kind}"]: len(rows) for kind, rows in spaces.items()}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ArtifactError(f"malformed artifact: {message}")
