"""What is in an artifact, as plain data for people and tools. Nothing of the artifact is run.

The result of `report` can be written as JSON; docs/artifact.md says what the words mean.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

from lucet.abi.artifact_reader import NONE, ArtifactInfo, Row, is_intact, read_artifact
from lucet.abi.tables import CONSTANTS, TRAPS_BY_CODE
from lucet.errors import ArtifactError

_NO_MAXIMUM: Final = (1 << 64) - 1
_ELF_SECTIONS: Final = struct.Struct("<40xQ10xHHH")
"""Where the section headers begin, their size and number, and which one has the names."""
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_MAX_SECTIONS: Final = 1000
_SHF_ALLOC, _SHF_EXECINSTR, _SHT_NOBITS = 2, 4, 8

_KINDS: Final = {CONSTANTS[f"LUCET_KIND_{kind.upper()}"]: kind for kind in ("func", "table", "memory", "global", "tag")}
_VALTYPES: Final = {
    code: name.removeprefix("LUCET_VALTYPE_").lower()
    for name, code in CONSTANTS.items()
    if name.startswith("LUCET_VALTYPE_")
}
_CPU_FEATURES: Final = {
    bit: name.removeprefix("LUCET_CPU_").lower() for name, bit in CONSTANTS.items() if name.startswith("LUCET_CPU_")
}
_TRAP_NAMES: Final = {code: trap.name for code, trap in TRAPS_BY_CODE.items()}
_UD1: Final = b"\x67\x0f\xb9"
"""`ud1 imm8(%eax), %reg`: the trap code is the immediate."""


def report(data: bytes) -> dict[str, Any]:
    """Everything that `lucet inspect` shows. Raises ArtifactError."""
    info = read_artifact(data)
    header = info.header
    return {
        "size": len(data),
        "format_version": header["abi_version"],
        "intact": is_intact(data, info),
        "digest": header["digest"].hex(),
        "checksum": f"{header['checksum']:08x}",
        "source_digest": header["source_digest"].hex(),
        "producer": header["producer"],
        "cpu": {
            "name": header["cpu_name"],
            "features": [name for bit, name in _CPU_FEATURES.items() if header["cpu_features"] & bit],
        },
        "counts_instructions": bool(header["flags"] & CONSTANTS["LUCET_FLAG_COUNTS_INSTRUCTIONS"]),
        "instance_size": header["instance_size"],
        "sections": list(_sections(data)),
        "memories": [_memory(row) for row in info.memories],
        "tables": [_table(row) for row in info.tables],
        "globals": [_global(row) for row in info.globals],
        "imports": [_import(info, row) for row in info.imports],
        "exports": [
            {"name": row["name"], **_item(info, _KINDS.get(row["kind"], "?"), row["index"])} for row in info.exports
        ],
        "start": None if header["start_function"] == NONE else header["start_function"],
        "images": [{"memory_offset": row["heap_offset"], "size": row["size"]} for row in info.images],
        "functions": [_function(info, index) for index in range(len(info.functions))],
        "traps": list(_traps(info)),
    }


def _sections(data: bytes) -> Iterator[dict[str, Any]]:
    """Of the ELF file, but for those that are nothing."""
    try:
        start, size, count, names_index = _ELF_SECTIONS.unpack_from(data)
        if size != _SECTION.size or count > _MAX_SECTIONS:
            raise ArtifactError("malformed artifact: bad section headers")
        headers = [_SECTION.unpack_from(data, start + index * size) for index in range(count)]
        names = headers[names_index][4]
        for name, kind, flags, address, offset, length, *_ in headers[1:]:
            end = data.index(b"\0", names + name)
            yield {
                "name": data[names + name : end].decode("utf-8", "replace"),
                "address": address if flags & _SHF_ALLOC else None,
                "offset": offset,
                "size": 0 if kind == _SHT_NOBITS else length,
                "executable": bool(flags & _SHF_EXECINSTR),
            }
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ArtifactError(f"malformed artifact: bad section headers: {error}") from error


def _limits(row: Row) -> dict[str, int | None]:
    return {"minimum": row["minimum"], "maximum": None if row["maximum"] == _NO_MAXIMUM else row["maximum"]}


def _flag(row: Row, name: str) -> bool:
    return bool(row["flags"] & CONSTANTS[f"LUCET_FLAG_{name}"])


def _memory(row: Row) -> dict[str, Any]:
    return {
        **_limits(row),
        "page_size": 1 << min(row["page_size_log2"], 63),
        "index_type": "i64" if _flag(row, "64") else "i32",
        "imported": _flag(row, "IMPORTED"),
        "shared": _flag(row, "SHARED"),
        "bounds": "explicit" if _flag(row, "CHECKED") else "guard",
        "reserved": row["reserved"],
        "guard": row["guard"],
    }


def _table(row: Row) -> dict[str, Any]:
    return {
        **_limits(row),
        "type": _valtype(row["reftype"], row["type_id"]),
        "index_type": "i64" if _flag(row, "64") else "i32",
        "imported": _flag(row, "IMPORTED"),
        "static": _flag(row, "STATIC"),
    }


def _global(row: Row) -> dict[str, Any]:
    return {
        "type": _valtype(row["valtype"], row["type_id"]),
        "mutable": _flag(row, "MUTABLE"),
        "imported": _flag(row, "IMPORTED"),
    }


def _import(info: ArtifactInfo, row: Row) -> dict[str, Any]:
    return {
        "module": row["module"],
        "name": row["field"],
        **_item(info, _KINDS.get(row["kind"], "?"), row["index"]),
    }


def _item(info: ArtifactInfo, kind: str, index: int) -> dict[str, Any]:
    item: dict[str, Any] = {"kind": kind, "index": index}
    if kind == "func":
        item["type"] = _type(info, info.functions[index]["type"])
    elif kind == "global":
        item["type"] = _global(info.globals[index])["type"]
    elif kind == "table":
        item["type"] = _table(info.tables[index])["type"]
    return item


def _type(info: ArtifactInfo, index: int) -> str:
    """As messages have it: [i32 i64] -> [i32]."""
    params, results = info.valtypes(index)
    names = [_valtype(code, one) for code, one in zip(params + results, info.type_ids(index), strict=True)]
    return f"[{' '.join(names[: len(params)])}] -> [{' '.join(names[len(params) :])}]"


def _valtype(code: int, type_id: int) -> str:
    non_null = CONSTANTS["LUCET_REF_NON_NULL"]
    nullable = not code & non_null or code in _VALTYPES
    plain = code if code in _VALTYPES else code & ~non_null
    if plain == CONSTANTS["LUCET_REF_CONCRETE"]:
        return f"(ref {'null ' if nullable else ''}#{type_id:016x})"
    name = _VALTYPES.get(plain, f"{code:#x}")
    return name if nullable else f"(ref {name.removesuffix('ref')})"


def _function(info: ArtifactInfo, index: int) -> dict[str, Any]:
    row = info.functions[index]
    start, end = info.body(index)
    return {
        "index": index,
        "name": row["name"],
        "type": _type(info, row["type"]),
        "imported": not row["wasm_offset"],
        "address": start,
        "size": end - start,
        "wasm_offset": row["wasm_offset"] or None,
    }


def _traps(info: ArtifactInfo) -> Iterator[dict[str, Any]]:
    """The instructions that do nothing but trap, by address. Accesses to memory trap, too, where the hardware does."""
    text_start = info.header["text_rva"]
    text = bytes(info.span(text_start, info.header["text_size"]))
    bodies = sorted((*info.body(index), index) for index in range(len(info.functions)))
    starts = [start for start, _, _ in bodies]
    rows_left = info.header["lines_size"] // 2
    known = -1
    lines: list[tuple[int, int | None]] = []
    codes: list[int] = []
    at = text.find(_UD1)
    while at >= 0:
        address, code = text_start + at, text[at + 4 : at + 5]
        position = bisect_right(starts, address) - 1
        name = _TRAP_NAMES.get(code[0]) if code and text[at + 3] & 0xC0 == 0x40 else None
        if name is not None and position >= 0 and address < bodies[position][1]:
            start, _, function = bodies[position]
            if function != known:
                known, lines = function, info.lines(function)
                codes = [code for code, _ in lines]
                rows_left -= len(lines)
                if rows_left < 0:
                    raise ArtifactError("malformed artifact: its line tables overlap")
            row = bisect_right(codes, address - start) - 1
            yield {
                "address": address,
                "trap": name,
                "function": function,
                "wasm_offset": lines[row][1] if row >= 0 else None,
            }
        at = text.find(_UD1, at + 1)
