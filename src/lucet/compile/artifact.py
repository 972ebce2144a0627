"""The artifact: a planned module and its object files become the shared object that the runtime loads.

What stands where is described in docs/artifact.md, the structures in abi/artifact.def.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from lucet.abi.tables import STRUCTS
from lucet.compile import elf, link, unwind
from lucet.compile.debug import sections
from lucet.compile.metadata import LinkedCode, Metadata, Provenance, function_names
from lucet.compile.plan import Plan
from lucet.errors import LimitExceeded
from lucet.limits import HOST_PAGE_SIZE
from lucet.wasm.dwarf import Sources
from lucet.wasm.module import Module

EXPORTED_SYMBOL: Final = "lucet_module"
MAX_SIZE: Final = 1 << 31
"""Bytes of an artifact: what the 32-bit references of the code can span."""


def build(module: Module, plan: Plan, objects: Sequence[bytes], provenance: Provenance) -> bytes:
    """Link the object files and write the artifact. The result depends on the arguments alone."""
    merged = link.merge([elf.read_relocatable(data) for data in objects])
    out = elf.SharedObject(EXPORTED_SYMBOL)
    code, eh_frame_hdr = _place_code(out, merged, plan)
    images = _place_images(out, plan)
    metadata = Metadata(module, plan, code, images, eh_frame_hdr)
    header = metadata.place(out, provenance)
    debug: Mapping[str, bytes] = {}
    if provenance.debug_info:
        text_section = code.sections[link.TEXT]
        text = text_section.offset, len(text_section.data)
        debug = sections(list(metadata.bodies()), Sources(provenance.sources), text=text, producer=provenance.producer)
    return _finish(out, header, eh_frame_hdr, _symbols(code, function_names(module)), debug)


def _place_code(out: elf.SharedObject, merged: link.Merged, plan: Plan) -> tuple[LinkedCode, elf.OutputSection]:
    text, rodata, eh_frame = (merged.areas[name] for name in (link.TEXT, link.RODATA, link.EH_FRAME))
    eh_frame.data += unwind.TERMINATOR
    if sum(len(area.data) for area in merged.areas.values()) >= MAX_SIZE:
        raise LimitExceeded(f"the code is larger than {MAX_SIZE} bytes")
    out.begin_segment(elf.PF_R | elf.PF_X)
    sections = {link.TEXT: out.add(".text", text.data, alignment=text.alignment)}
    out.begin_segment(elf.PF_R)
    sections[link.RODATA] = out.add(".rodata", rodata.data, alignment=rodata.alignment)
    sections[link.EH_FRAME] = out.add(".eh_frame", eh_frame.data, alignment=8)
    spans = _table_spans(plan)
    tables = out.add(".lucet.tables", bytearray(sum(size for _, size in spans.values())), alignment=8)
    code = LinkedCode(merged=merged, sections=sections, tables=tables, table_spans=spans)
    link.relocate(
        merged,
        {area: section.offset for area, section in sections.items()},
        {f"table{index}": tables.offset + offset for index, (offset, _) in spans.items()},
    )
    _fill_tables(code, plan)
    hdr_address = out.position(4)
    hdr = unwind.eh_frame_hdr(eh_frame.data, sections[link.EH_FRAME].offset, hdr_address)
    return code, out.add(".eh_frame_hdr", hdr, alignment=4)


def _table_spans(plan: Plan) -> dict[int, tuple[int, int]]:
    """Static table -> offset and size in .lucet.tables."""
    spans = {}
    end = 0
    for index, table in enumerate(plan.tables):
        if table.entries is not None:
            spans[index] = end, len(table.entries) * STRUCTS["static_entry"].size
            end += spans[index][1]
    return spans


def _fill_tables(code: LinkedCode, plan: Plan) -> None:
    codec = STRUCTS["static_entry"].codec
    known: dict[int, tuple[int, int]] = {}
    for index, (offset, size) in code.table_spans.items():
        start = code.tables.offset + offset
        entries = []
        for function in plan.tables[index].entries or ():
            if function is None:
                entries.append(bytes(codec.size))
                continue
            if function not in known:
                known[function] = plan.function_types[function] + 1, code.rva(plan.static_symbol(function))
            type_number, rva = known[function]
            entries.append(codec.pack(type_number, rva - start))
        code.tables.data[offset : offset + size] = b"".join(entries)


def _place_images(out: elf.SharedObject, plan: Plan) -> elf.OutputSection:
    for run in plan.images:
        if run.heap_offset % HOST_PAGE_SIZE or len(run.bytes) % HOST_PAGE_SIZE:
            raise ValueError(f"image run at {run.heap_offset:#x} of {len(run.bytes)} bytes is not made of pages")
    data = b"".join(run.bytes for run in plan.images)
    return out.add(".lucet.image", data, alignment=HOST_PAGE_SIZE if data else 1)


_SYMBOL: Final = re.compile(r"(?P<what>[ftje])(?P<index>[0-9]+)(?P<rest>\..*)?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _symbols(code: LinkedCode, names: Mapping[int, str]) -> list[elf.OutputSymbol]:
    """What perf and gdb show, in the order of the addresses."""
    found = [
        elf.OutputSymbol(f"table{index}", code.tables, offset, size, elf.STT_OBJECT)
        for index, (offset, size) in code.table_spans.items()
    ]
    for symbol, definition in (*code.merged.symbols.items(), *code.merged.local_functions):
        name = _CONTROL.sub("?", _people_name(symbol, names, f"t{symbol[1:]}" in code.merged.symbols))
        section = code.sections[definition.area]
        found.append(elf.OutputSymbol(name, section, definition.offset, definition.size, definition.type))
    return sorted(found, key=lambda one: (one.section.index, one.offset, one.name))


def _people_name(symbol: str, names: Mapping[int, str], has_tail_body: bool) -> str:
    """The name of a symbol for people; .rest is what LLVM appends to the names of copies and parts."""
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        return f"lucet_{symbol}"
    index, rest = int(match["index"]), match["rest"] or ""
    if match["what"] == "e":
        return f"lucet_entry_{index}{rest}"
    name = names.get(index) or f"wasm_function_{index}"
    wrapper = match["what"] == "j" or (match["what"] == "f" and has_tail_body)
    return f"{name}.wrapper{rest}" if wrapper else name + rest


def _finish(
    out: elf.SharedObject,
    header: elf.OutputSection,
    eh_frame_hdr: elf.OutputSection,
    symbols: Sequence[elf.OutputSymbol],
    debug: Mapping[str, bytes],
) -> bytes:
    struct = STRUCTS["artifact_header"]
    exported = (header, 0, struct.size)
    file, loaded = out.finish(exported=exported, symbols=symbols, eh_frame_hdr=eh_frame_hdr, debug=debug)
    if len(file) >= MAX_SIZE:
        raise LimitExceeded(f"the artifact is larger than {MAX_SIZE} bytes")

    # Offsets in the file are addresses, so the header can be completed in place.
    def complete(name: str, value: bytes) -> None:
        at = header.offset + struct.fields[name].offset
        file[at : at + len(value)] = value

    complete("load_size", loaded.to_bytes(8, "little"))
    complete("file_size", len(file).to_bytes(8, "little"))
    complete("digest", hashlib.sha256(file).digest())
    complete("checksum", zlib.crc32(file).to_bytes(4, "little"))
    return bytes(file)
