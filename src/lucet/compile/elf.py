"""ELF for x86-64, as much as the linker step needs: reading relocatable objects, writing a shared object.

The reader takes what LLVM emits and refuses the rest. The writer lays sections out so that the offset in the file is
the virtual address of everything that is loaded, and writes no relocations. Numbers are those of the System V gABI and
of its x86-64 supplement.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lucet.errors import CompilerFailed
from lucet.limits import HOST_PAGE_SIZE

ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
SECTION_HEADER: Final = struct.Struct("<IIQQQQIIQQ")
SYMBOL: Final = struct.Struct("<IBBHQQ")
RELA: Final = struct.Struct("<QQq")
DYNAMIC: Final = struct.Struct("<QQ")

IDENT: Final = b"\x7fELF\x02\x01\x01" + bytes(9)
ET_REL, ET_DYN = 1, 3
EM_X86_64: Final = 62
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_DYNAMIC, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 4, 6, 7, 8
SHT_DYNSYM, SHT_GROUP, SHT_GNU_HASH, SHT_X86_64_UNWIND = 11, 17, 0x6FFFFFF6, 0x70000001
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_TLS = 1, 2, 4, 0x40, 0x400
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2
STB_LOCAL, STB_GLOBAL = 0, 1
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
PT_LOAD, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 0x6474E550, 0x6474E551, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_GNU_HASH = 0, 5, 6, 10, 11, 0x6FFFFEF5


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a relocatable object."""

    name: str
    type: int
    flags: int
    alignment: int
    size: int
    data: memoryview
    """Empty if the file has no bytes for it (SHT_NOBITS)."""
    relocations: memoryview
    """Of struct RELA."""


class Symbol(NamedTuple):
    name: bytes
    """Empty for local symbols that are no functions: nobody asks for those by name."""
    type: int
    binding: int
    section: int
    """Index, or SHN_*"""
    value: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Relocatable:
    """A relocatable object: sections and symbols by their indices in the file."""

    sections: Sequence[Section]
    symbols: Sequence[Symbol]


def read_relocatable(data: bytes) -> Relocatable:
    """Read an object file. Raises CompilerFailed: objects come from compiler processes, so bad ones are their fault."""
    try:
        return _read_relocatable(memoryview(data))
    except (struct.error, IndexError, ValueError) as error:
        raise CompilerFailed(f"malformed object file: {error}") from error


def _read_relocatable(data: memoryview) -> Relocatable:
    header = ELF_HEADER.unpack_from(data)
    ident, file_type, machine, section_offset, count, names_index = (header[i] for i in (0, 1, 2, 6, 12, 13))
    if ident[:7] != IDENT[:7] or file_type != ET_REL or machine != EM_X86_64:
        raise CompilerFailed("not a relocatable x86-64 object file")
    if count == 0:
        raise CompilerFailed("object file with more sections than the linker step knows")
    headers = list(SECTION_HEADER.iter_unpack(_cut(data, section_offset, count * SECTION_HEADER.size)))
    contents = [_cut(data, header[4], 0 if header[1] in {SHT_NOBITS, 0} else header[5]) for header in headers]
    names = bytes(contents[names_index])
    relocations = [memoryview(b"")] * count
    symbols: list[Symbol] = []
    for index, (_, kind, _, _, _, _, link, info, _, _) in enumerate(headers):
        if kind == SHT_RELA:
            relocations[info] = contents[index]
        elif kind == SHT_SYMTAB:
            symbols = _read_symbols(contents[index], bytes(contents[link]))
    sections = [
        Section(
            name=_name(names, header[0]).decode(),
            type=header[1],
            flags=header[2],
            alignment=max(header[8], 1),
            size=header[5],
            data=content,
            relocations=relas,
        )
        for header, content, relas in zip(headers, contents, relocations, strict=True)
    ]
    return Relocatable(sections=sections, symbols=symbols)


def _read_symbols(table: memoryview, names: bytes) -> list[Symbol]:
    symbols = []
    for name, info, _, section, value, size in SYMBOL.iter_unpack(table):
        kind, binding = info & 15, info >> 4
        text = _name(names, name) if binding != STB_LOCAL or kind == STT_FUNC else b""
        symbols.append(Symbol(text, kind, binding, section, value, size))
    return symbols


def _cut(data: memoryview, offset: int, size: int) -> memoryview:
    if offset + size > len(data):
        raise ValueError(f"{size} bytes at {offset:#x} are beyond the end")
    return data[offset : offset + size]


def _name(names: bytes, offset: int) -> bytes:
    return names[offset : names.index(0, offset)]


@dataclass(kw_only=True)
class OutputSection:
    """A section of the shared object. Its data may be changed, but not resized, until finish()."""

    name: str
    index: int
    type: int
    flags: int
    offset: int
    """In the file; of a loaded section the address, too."""
    data: bytearray
    alignment: int
    link: int = 0
    info: int = 0
    entry_size: int = 0


_MAX_PROGRAM_HEADERS: Final = 8


class OutputSymbol(NamedTuple):
    """A local symbol for debuggers and profilers."""

    name: str
    section: OutputSection
    offset: int
    size: int
    type: int


@dataclass(kw_only=True)
class _Segment:
    flags: int
    offset: int
    size: int = 0


class SharedObject:
    """A shared object that grows at its end: segments begin on a page, sections follow one another inside.

    Its one exported symbol is found through a GNU hash table. .dynamic has a page to itself that stays writable until
    the dynamic loader comes to PT_GNU_RELRO, because glibc before 2.35 writes addresses into it.
    """

    def __init__(self, export_name: str) -> None:
        self._sections: list[OutputSection] = []
        self._segments: list[_Segment] = []
        self._end = 0
        self._append("", b"", alignment=1, kind=0, flags=0)
        self.begin_segment(PF_R)
        self._end = self._segments[0].size = ELF_HEADER.size + _MAX_PROGRAM_HEADERS * PROGRAM_HEADER.size
        self._dynsym = self.add(".dynsym", bytes(2 * SYMBOL.size), alignment=8, kind=SHT_DYNSYM)
        self._dynsym.info, self._dynsym.entry_size = 1, SYMBOL.size
        self._hash = self.add(".gnu.hash", _gnu_hash_table(export_name), alignment=8, kind=SHT_GNU_HASH)
        self._dynstr = self.add(".dynstr", b"\0" + export_name.encode() + b"\0", kind=SHT_STRTAB)
        self._dynsym.link, self._hash.link = self._dynstr.index, self._dynsym.index

    def begin_segment(self, flags: int) -> None:
        """The sections added next are mapped with these PF_ flags."""
        self._end = _aligned(self._end, HOST_PAGE_SIZE)
        self._segments.append(_Segment(flags=flags, offset=self._end))

    def add(self, name: str, data: bytes | bytearray, *, alignment: int = 1, kind: int = SHT_PROGBITS) -> OutputSection:
        """Append a section to the current segment; this settles its address."""
        segment = self._segments[-1]
        flags = SHF_ALLOC
        flags |= SHF_EXECINSTR if segment.flags & PF_X else 0
        flags |= SHF_WRITE if segment.flags & PF_W else 0
        section = self._append(name, data, alignment=alignment, kind=kind, flags=flags)
        segment.size = self._end - segment.offset
        return section

    def position(self, alignment: int) -> int:
        """The address that a section added next would have."""
        return _aligned(self._end, alignment)

    def finish(
        self,
        *,
        exported: tuple[OutputSection, int, int],
        symbols: Iterable[OutputSymbol],
        eh_frame_hdr: OutputSection,
        debug: Mapping[str, bytes],
    ) -> tuple[bytearray, int]:
        """The whole file, and how many bytes from its start are loaded.

        exported: section, offset in it, size; debug: sections that are not loaded.
        """
        loaded = self._add_dynamic()
        for name, data in debug.items():
            self._append(name, data, alignment=1, kind=SHT_PROGBITS, flags=0)
        section, offset, size = exported
        info = STB_GLOBAL << 4 | STT_OBJECT
        entry = SYMBOL.pack(1, info, 0, section.index, section.offset + offset, size)
        self._dynsym.data[SYMBOL.size :] = entry
        self._add_symtab(symbols, entry)
        headers_offset = self._add_section_names()
        file = bytearray(headers_offset + len(self._sections) * SECTION_HEADER.size)
        self._write_headers(file, headers_offset, eh_frame_hdr)
        for one in self._sections:
            file[one.offset : one.offset + len(one.data)] = one.data
        return file, loaded

    def _append(self, name: str, data: bytes | bytearray, *, alignment: int, kind: int, flags: int) -> OutputSection:
        offset = _aligned(self._end, alignment)
        section = OutputSection(
            name=name,
            index=len(self._sections),
            type=kind,
            flags=flags,
            offset=offset,
            data=data if isinstance(data, bytearray) else bytearray(data),
            alignment=alignment,
        )
        self._sections.append(section)
        self._end = offset + len(data)
        return section

    def _add_dynamic(self) -> int:
        """The last loaded section, on a page of its own. Returns the end of what is loaded."""
        entries = (
            (DT_GNU_HASH, self._hash.offset),
            (DT_STRTAB, self._dynstr.offset),
            (DT_SYMTAB, self._dynsym.offset),
            (DT_STRSZ, len(self._dynstr.data)),
            (DT_SYMENT, SYMBOL.size),
            (DT_NULL, 0),
        )
        self.begin_segment(PF_R | PF_W)
        data = b"".join(DYNAMIC.pack(*entry) for entry in entries)
        self._dynamic = self.add(".dynamic", data, alignment=8, kind=SHT_DYNAMIC)
        self._dynamic.link, self._dynamic.entry_size = self._dynstr.index, DYNAMIC.size
        # A whole page: the dynamic loader rounds the end of PT_GNU_RELRO down.
        self._segments[-1].size = HOST_PAGE_SIZE
        self._end = _aligned(self._end, HOST_PAGE_SIZE)
        return self._end

    def _add_symtab(self, symbols: Iterable[OutputSymbol], exported: bytes) -> None:
        names = bytearray(self._dynstr.data)
        table = bytearray(SYMBOL.size)
        for name, section, offset, size, kind in symbols:
            table += SYMBOL.pack(len(names), kind, 0, section.index, section.offset + offset, size)
            names += name.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"
        symtab = self._append(".symtab", table + exported, alignment=8, kind=SHT_SYMTAB, flags=0)
        strtab = self._append(".strtab", names, alignment=1, kind=SHT_STRTAB, flags=0)
        # info is the index of the first symbol that is not local.
        symtab.link, symtab.info, symtab.entry_size = strtab.index, len(table) // SYMBOL.size, SYMBOL.size

    def _add_section_names(self) -> int:
        """The last section. Returns where the section headers come."""
        section = self._append(".shstrtab", b"", alignment=1, kind=SHT_STRTAB, flags=0)
        section.data += b"".join(one.name.encode() + b"\0" for one in self._sections)
        return _aligned(self._end + len(section.data), 8)

    def _write_headers(self, file: bytearray, headers_offset: int, eh_frame_hdr: OutputSection) -> None:
        programs = [(PT_LOAD, one.flags, one.offset, one.size, HOST_PAGE_SIZE) for one in self._segments if one.size]
        relro = self._segments[-1]
        programs += [
            (PT_DYNAMIC, PF_R | PF_W, self._dynamic.offset, len(self._dynamic.data), 8),
            (PT_GNU_RELRO, PF_R, relro.offset, relro.size, 1),
            (PT_GNU_EH_FRAME, PF_R, eh_frame_hdr.offset, len(eh_frame_hdr.data), 4),
            (PT_GNU_STACK, PF_R | PF_W, 0, 0, 16),
        ]
        if len(programs) > _MAX_PROGRAM_HEADERS:
            raise ValueError(f"{len(programs)} program headers, there is room for {_MAX_PROGRAM_HEADERS}")
        ELF_HEADER.pack_into(
            file, 0, IDENT, ET_DYN, EM_X86_64, 1, 0, ELF_HEADER.size, headers_offset, 0, ELF_HEADER.size,
            PROGRAM_HEADER.size, len(programs), SECTION_HEADER.size, len(self._sections), len(self._sections) - 1,
        )  # fmt: skip
        for index, (kind, flags, offset, size, alignment) in enumerate(programs):
            at = ELF_HEADER.size + index * PROGRAM_HEADER.size
            PROGRAM_HEADER.pack_into(file, at, kind, flags, offset, offset, offset, size, size, alignment)
        name = 0
        for one in self._sections[1:]:
            name += len(self._sections[one.index - 1].name.encode()) + 1
            address = one.offset if one.flags & SHF_ALLOC else 0
            SECTION_HEADER.pack_into(
                file, headers_offset + one.index * SECTION_HEADER.size, name, one.type, one.flags, address, one.offset,
                len(one.data), one.link, one.info, one.alignment, one.entry_size,
            )  # fmt: skip


def _gnu_hash_table(name: str) -> bytes:
    """The hash table of a .dynsym whose one symbol, at index 1, is exported."""
    hashed = 5381
    for byte in name.encode():
        hashed = (hashed * 33 + byte) & 0xFFFFFFFF
    bloom_shift = 6
    bloom = 1 << hashed % 64 | 1 << (hashed >> bloom_shift) % 64
    # 1 bucket, first symbol in the table, 1 Bloom word; the words, the bucket and the chain, whose end has bit 0 set.
    return struct.pack("<IIIIQII", 1, 1, 1, bloom_shift, bloom, 1, hashed | 1)


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
