"""Source lines of a module that carries DWARF: its .debug_line sections, versions 2 to 5 of the format.

The sections are those of LLVM's WebAssembly targets ("DWARF for WebAssembly"): addresses count from the start of the
code section's contents. They come with the module, and may hold anything: whatever is wrong with them ends their
reading, and nothing else.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lucet.wasm.reader import Reader

# The line number program's opcodes (DW_LNS_...) and extended ones (DW_LNE_...), as DWARF numbers them.
_EXTENDED, _COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE = range(5)
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2

_SECTIONS: Final = (".debug_line", ".debug_line_str", ".debug_str")
_CODE_SECTION: Final = 10
_MAX_PACKED: Final = 1 << 28
_MAX_ROWS: Final = 1 << 21
"""Of all line programs together; what is beyond is not read."""
_MAX_PATH: Final = 4096
_MAX_PATHS: Final = 1 << 26
"""Bytes of all paths together: any number of entries may refer to one long string."""
_TOMBSTONES: Final = range(0xFFFFFFF0, 1 << 32)
"""Where linkers put code that they dropped; and at 0."""
_PATH, _DIRECTORY = 1, 2
_STRING, _LINE_STRP, _STRP, _UDATA, _BLOCK = 0x08, 0x1F, 0x0E, 0x0F, 0x09
_FIXED: Final = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}


def pack(customs: Sequence[tuple[str, bytes]], wasm: bytes) -> bytes:
    """What an artifact keeps of a module's custom sections (name, contents) for `Sources`; nothing without lines."""
    found = dict(customs)
    if not found.get(".debug_line"):
        return b""
    parts = [found.get(name, b"") for name in _SECTIONS]
    header = struct.pack("<4I", _code_offset(wasm), *map(len, parts))
    return zlib.compress(header + b"".join(parts), 1)


def _code_offset(wasm: bytes) -> int:
    """Where the contents of the code section begin in the file; 0 if there is none."""
    reader = Reader(wasm)
    reader.take(8)
    while reader.remaining:
        section, size = reader.byte(), reader.u32()
        if section == _CODE_SECTION:
            return reader.offset
        reader.take(size)
    return 0


@dataclass(kw_only=True)
class _Unit:
    """One line program."""

    files: list[str] = field(default_factory=list)
    first_file: int = 1


class Sources:
    """Finds the file and the line of an instruction."""

    def __init__(self, packed: bytes) -> None:
        self._rows: list[tuple[int, int, str]] = []
        """(address, line or 0 behind the end of a sequence, file), in the order of the addresses."""
        self._code_offset = 0
        self._paths_left = _MAX_PATHS
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(packed, _MAX_PACKED)
            self._code_offset, *sizes = struct.unpack_from("<4I", data)
            parts, at = [], 16
            for size in sizes:
                parts.append(data[at : at + size])
                at += size
            self._line, self._line_str, self._str = parts
            self._read()
        except (zlib.error, struct.error, IndexError, ValueError, OverflowError):
            pass  # what has been read until here counts
        self._rows.sort(key=lambda row: row[0])
        self._addresses = [row[0] for row in self._rows]

    def find(self, offset: int) -> tuple[str, int] | None:
        """(file, line) of what is at an offset of the .wasm."""
        at = bisect_right(self._addresses, offset - self._code_offset) - 1
        if at < 0 or not self._rows[at][1]:
            return None
        _, line, file = self._rows[at]
        return file, line

    def _read(self) -> None:
        at = 0
        while at + 4 < len(self._line) and len(self._rows) < _MAX_ROWS:
            (length,) = struct.unpack_from("<I", self._line, at)
            at += 4
            if length >= 0xFFFFFFF0:
                return  # the 64-bit format, which nobody writes for wasm
            self._program(_Bytes(self._line[at : at + length]))
            at += length

    def _program(self, r: _Bytes) -> None:
        version = r.fixed(2)
        if not 2 <= version <= 5:
            return
        if version == 5:
            r.fixed(2)
        header_length = r.fixed(4)
        start = r.at + header_length
        step = r.fixed(1)
        if version >= 4:
            r.fixed(1)
        r.fixed(1)
        line_base = r.fixed(1)
        line_base -= 256 if line_base > 127 else 0
        line_range, opcode_base = r.fixed(1), r.fixed(1)
        if not line_range or not opcode_base:
            return
        operands = [r.fixed(1) for _ in range(opcode_base - 1)]
        unit = self._tables_5(r) if version == 5 else self._tables(r)
        r.at = start
        self._run(r, unit, step, line_base, line_range, operands)

    def _tables(self, r: _Bytes) -> _Unit:
        """Of versions up to 4: directories from 1, files from 1."""
        directories = [""]
        while directory := r.string():
            directories.append(self._path(directory))
        files = []
        while path := r.string():
            index = r.uleb()
            r.uleb()
            r.uleb()
            files.append(self._joined(self._path(path), directories, index))
        return _Unit(files=files)

    def _path(self, text: bytes) -> str:
        self._paths_left -= len(text)
        if len(text) > _MAX_PATH or self._paths_left < 0:
            raise ValueError("paths too long")
        return text.decode("utf-8", "replace")

    def _joined(self, path: str, directories: Sequence[str], index: int) -> str:
        directory = directories[index] if 0 <= index < len(directories) else ""
        if path.startswith("/") or not directory:
            return path
        self._paths_left -= len(directory)
        if self._paths_left < 0:
            raise ValueError("paths too long")
        return f"{directory}/{path}"

    def _tables_5(self, r: _Bytes) -> _Unit:
        directories = [path for path, _ in self._entries(r)]
        files = self._entries(r)
        return _Unit(files=[self._joined(path, directories, index) for path, index in files], first_file=0)

    def _entries(self, r: _Bytes) -> list[tuple[str, int]]:
        formats = [(r.uleb(), r.uleb()) for _ in range(r.fixed(1))]
        entries = []
        for _ in range(min(r.uleb(), len(r.data)) if formats else 0):
            path, directory = "", 0
            for content, form in formats:
                value = self._value(r, form)
                if content == _PATH and isinstance(value, bytes):
                    path = self._path(value)
                elif content == _DIRECTORY and isinstance(value, int):
                    directory = value
            entries.append((path, directory))
        return entries

    def _value(self, r: _Bytes, form: int) -> bytes | int:
        if form == _STRING:
            return r.string()
        if form in (_LINE_STRP, _STRP):
            strings, at = (self._line_str if form == _LINE_STRP else self._str), r.fixed(4)
            return strings[at : strings.index(b"\0", at, at + _MAX_PATH)]
        if form == _UDATA:
            return r.uleb()
        if form == _BLOCK:
            return r.take(r.uleb())
        return r.fixed(_FIXED[form]) if form in _FIXED else r.unknown()

    def _run(self, r: _Bytes, unit: _Unit, step: int, line_base: int, line_range: int, operands: Sequence[int]) -> None:
        opcode_base = len(operands) + 1
        sequence: list[tuple[int, int, str]] = []
        address, file, line = 0, 1, 1

        def row(end: bool = False) -> None:
            index = file - unit.first_file
            name = unit.files[index] if 0 <= index < len(unit.files) else "?"
            sequence.append((address, 0 if end else max(line, 0), name))
            if len(self._rows) + len(sequence) > _MAX_ROWS:
                raise ValueError("too many rows")

        while r.at < len(r.data):
            opcode = r.fixed(1)
            if opcode >= opcode_base:
                adjusted = opcode - opcode_base
                address += adjusted // line_range * step
                line += line_base + adjusted % line_range
                row()
            elif opcode == _EXTENDED:
                length = r.uleb()
                after = r.at + length
                kind = r.fixed(1) if length else 0
                if kind == _END_SEQUENCE:
                    row(end=True)
                    if sequence[0][0] and sequence[0][0] not in _TOMBSTONES:
                        self._rows += sequence
                    sequence = []
                    address, file, line = 0, 1, 1
                elif kind == _SET_ADDRESS:
                    address = r.fixed(min(length - 1, 8))
                r.at = after
            elif opcode == _COPY:
                row()
            elif opcode == _ADVANCE_PC:
                address += r.uleb() * step
            elif opcode == _ADVANCE_LINE:
                line += r.sleb()
            elif opcode == _SET_FILE:
                file = r.uleb()
            elif opcode == _CONST_ADD_PC:
                address += (255 - opcode_base) // line_range * step
            elif opcode == _FIXED_ADVANCE_PC:
                address += r.fixed(2)
            else:
                for _ in range(operands[opcode - 1]):
                    r.uleb()


class _Bytes:
    """Reads numbers; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise IndexError("end of data")
        self.at += size
        return self.data[self.at - size : self.at]

    def fixed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def uleb(self) -> int:
        result = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result
            if shift > 63:
                raise ValueError("number too long")

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def string(self) -> bytes:
        end = self.data.index(b"\0", self.at)
        value = self.data[self.at : end]
        self.at = end + 1
        return value

    def unknown(self) -> int:
        raise ValueError("unknown form")
