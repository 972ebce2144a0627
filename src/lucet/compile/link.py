"""Linking: many relocatable objects to one text, one rodata, one eh_frame with every reference resolved.

merge() decides where each input section goes; the caller then chooses addresses; relocate() fills the references in.
Nothing is left for the dynamic loader, so whatever would need it (absolute addresses, writable data, undefined symbols,
initialisers) is refused with CompilerFailed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lucet.compile import elf
from lucet.compile.unwind import PERSONALITY_POINTER
from lucet.errors import CompilerFailed

TEXT, RODATA, EH_FRAME = ".text", ".rodata", ".eh_frame"

_CODE_PADDING: Final = b"\xcc"  # int3: nothing runs from one function into the next unnoticed
_R_NONE, _R_PC32, _R_PLT32, _R_PC64, _R_GOTPCRELX, _R_REX_GOTPCRELX = 0, 2, 4, 24, 41, 42
_NAMES: Final = {1: "R_X86_64_64", 3: "R_X86_64_GOT32", 9: "R_X86_64_GOTPCREL", 10: "R_X86_64_32", 11: "R_X86_64_32S"}
_UNDEFINED: Final = 1 << 80
"""An address that no field of a relocation can hold."""


class Definition(NamedTuple):
    """Where a symbol is in the merged sections."""

    area: str
    offset: int
    size: int
    type: int
    object: int
    """Position of its object among those merged."""
    section: int
    """In that object; the symbol's value there is `value`."""
    value: int


class _Placement(NamedTuple):
    section: int
    area: str
    offset: int


@dataclass(kw_only=True)
class Area:
    """One merged section."""

    data: bytearray = field(default_factory=bytearray)
    alignment: int = 1


@dataclass(kw_only=True)
class Merged:
    """The merged sections, and what relocate() needs to know."""

    areas: dict[str, Area]
    symbols: dict[str, Definition]
    """Global ones."""
    local_functions: list[tuple[str, Definition]]
    """Functions that LLVM made and kept to itself."""
    objects: Sequence[elf.Relocatable]
    placements: list[list[_Placement]]
    """Parallel to objects."""


def merge(objects: Sequence[elf.Relocatable]) -> Merged:
    """Concatenate the sections of the objects, in order."""
    areas = {TEXT: Area(alignment=16), RODATA: Area(), EH_FRAME: Area()}
    merged = Merged(areas=areas, symbols={}, local_functions=[], objects=objects, placements=[])
    for number, one in enumerate(objects):
        # LLVM puts the pointer into a group of its own; there is no other group then.
        has_handlers = any(symbol.name == PERSONALITY_POINTER for symbol in one.symbols)
        placements = [
            _place(merged.areas[area], area, index, section)
            for index, section in enumerate(one.sections)
            if (area := _area_of(section, has_handlers=has_handlers)) is not None
        ]
        merged.placements.append(placements)
        _define_symbols(merged, number, one, placements)
    return merged


def relocate(merged: Merged, addresses: Mapping[str, int], externals: Mapping[str, int]) -> None:
    """Resolve every reference, given the areas' addresses and those of the symbols that the caller defines."""
    for one, placements in zip(merged.objects, merged.placements, strict=True):
        targets = _targets(merged, one, placements, addresses, externals)
        for index, area, offset in placements:
            section = one.sections[index]
            if section.relocations:
                data = memoryview(merged.areas[area].data)[offset : offset + section.size]
                try:
                    _relocate_section(data, addresses[area] + offset, section, targets)
                except (struct.error, IndexError) as error:
                    raise CompilerFailed(_culprit(one, section, targets)) from error


def _area_of(section: elf.Section, *, has_handlers: bool) -> str | None:
    """Which merged section takes it, None for those that are not loaded. Refuses what an artifact cannot have."""
    if section.name == f".data.{PERSONALITY_POINTER.decode()}":
        return None
    if section.type == elf.SHT_GROUP and not has_handlers:
        raise CompilerFailed("an object file has section groups")
    if not section.flags & elf.SHF_ALLOC or section.type == elf.SHT_NOTE:
        return None
    if section.flags & (elf.SHF_WRITE | elf.SHF_TLS):
        if section.size:
            raise CompilerFailed(f"an object file has writable data: section {section.name}, {section.size} bytes")
        return None
    if section.name == EH_FRAME and section.type in {elf.SHT_X86_64_UNWIND, elf.SHT_PROGBITS}:
        return EH_FRAME
    if section.type != elf.SHT_PROGBITS:
        raise CompilerFailed(f"an object file has section {section.name} of the unknown type {section.type:#x}")
    return TEXT if section.flags & elf.SHF_EXECINSTR else RODATA


def _place(area: Area, name: str, index: int, section: elf.Section) -> _Placement:
    # Records of eh_frame follow one another: padding between them would be read as the end.
    alignment = 1 if name == EH_FRAME else section.alignment
    padding = -len(area.data) % alignment
    area.data += (_CODE_PADDING if name == TEXT else b"\0") * padding
    area.alignment = max(area.alignment, section.alignment)
    placement = _Placement(section=index, area=name, offset=len(area.data))
    area.data += section.data
    return placement


def _define_symbols(merged: Merged, number: int, one: elf.Relocatable, placements: Iterable[_Placement]) -> None:
    placed = {placement.section: placement for placement in placements}
    for symbol in one.symbols:
        if not symbol.name or symbol.section == elf.SHN_UNDEF or symbol.name == PERSONALITY_POINTER:
            continue
        name = symbol.name.decode("utf-8", "replace")
        placement = placed.get(symbol.section)
        if placement is None or symbol.type not in {elf.STT_FUNC, elf.STT_OBJECT, elf.STT_NOTYPE}:
            raise CompilerFailed(f"symbol {name} is not a function or a constant")
        definition = Definition(
            area=placement.area,
            offset=placement.offset + symbol.value,
            size=symbol.size,
            type=symbol.type,
            object=number,
            section=symbol.section,
            value=symbol.value,
        )
        if symbol.binding == elf.STB_LOCAL:
            merged.local_functions.append((name, definition))
        elif merged.symbols.setdefault(name, definition) is not definition:
            raise CompilerFailed(f"symbol {name} is defined twice")


def _targets(
    merged: Merged,
    one: elf.Relocatable,
    placements: Iterable[_Placement],
    addresses: Mapping[str, int],
    externals: Mapping[str, int],
) -> list[int]:
    """The address of every symbol of the object; _UNDEFINED for one that has none in the artifact."""
    bases = {placement.section: addresses[placement.area] + placement.offset for placement in placements}
    targets: list[int] = []
    for symbol in one.symbols:
        if symbol.name == PERSONALITY_POINTER:
            targets.append(addresses[EH_FRAME])  # any address will do: see unwind.py
        elif symbol.section == elf.SHN_UNDEF and symbol.name:
            name = symbol.name.decode("utf-8", "replace")
            definition = merged.symbols.get(name)
            if definition is None:
                targets.append(externals.get(name, _UNDEFINED))
            else:
                targets.append(addresses[definition.area] + definition.offset)
        else:
            targets.append(bases.get(symbol.section, _UNDEFINED) + symbol.value)
    return targets


def _relocate_section(data: memoryview, address: int, section: elf.Section, targets: Sequence[int]) -> None:
    pack = struct.Struct("<i").pack_into
    for offset, info, addend in elf.RELA.iter_unpack(section.relocations):
        kind = info & 0xFFFFFFFF
        if kind in {_R_PC32, _R_PLT32}:
            pack(data, offset, targets[info >> 32] + addend - address - offset)
        elif kind == _R_PC64:
            struct.pack_into("<q", data, offset, targets[info >> 32] + addend - address - offset)
        elif kind in {_R_GOTPCRELX, _R_REX_GOTPCRELX}:
            offset = _relax(data, offset)  # noqa: PLW2901 - the reference may move with its instruction
            pack(data, offset, targets[info >> 32] + addend - address - offset)
        elif kind != _R_NONE:
            name = _NAMES.get(kind, f"type {kind}")
            raise CompilerFailed(f"section {section.name} needs relocation {name}, which an artifact cannot have")


def _relax(data: memoryview, offset: int) -> int:
    """Turn an access through the global offset table into a direct one, as the x86-64 psABI (B.2) allows.

    Returns where the 32-bit displacement is now.
    """
    match list(data[offset - 2 : offset]):
        case [0x8B, _]:  # mov foo@GOTPCREL(%rip), %reg -> lea foo(%rip), %reg
            data[offset - 2] = 0x8D
            return offset
        case [0xFF, 0x15]:  # call *foo@GOTPCREL(%rip) -> addr32 call foo
            data[offset - 2 : offset] = b"\x67\xe8"
            return offset
        case [0xFF, 0x25]:  # jmp *foo@GOTPCREL(%rip) -> jmp foo; nop
            data[offset - 2] = 0xE9
            data[offset + 3] = 0x90
            return offset - 1
        case instruction:
            raise CompilerFailed(f"cannot make the reference of instruction {bytes(instruction).hex()} direct")


def _culprit(one: elf.Relocatable, section: elf.Section, targets: Sequence[int]) -> str:
    """Why a reference in the section could not be encoded."""
    for _, info, _ in elf.RELA.iter_unpack(section.relocations):
        if info >> 32 < len(targets) and targets[info >> 32] >= _UNDEFINED:
            symbol = one.symbols[info >> 32]
            name = symbol.name.decode("utf-8", "replace") or f"in section {symbol.section}"
            return f"undefined symbol {name}, referenced from {section.name}"
    return f"a reference in {section.name} is out of range"
