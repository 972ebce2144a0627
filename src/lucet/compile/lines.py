"""Line tables: from the .debug_line of an object file to the artifact's line blobs (docs/artifact.md).

The translator gives every WebAssembly instruction a "source line" of 1 plus its offset from the start of its function,
so that LLVM carries the offset to the machine code. Only line programs as LLVM emits them (DWARF 4 and 5, 32-bit) are
read, and of each row only the address and the line.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from lucet.compile import elf
from lucet.errors import CompilerFailed
from lucet.wasm.leb128 import read_signed_leb128, read_unsigned_leb128, signed_leb128, unsigned_leb128

_R_64: Final = 1
_INLINED: Final = 1 << 30
"""Lines from here on say a function and an offset in its body. No function is as long."""
_INLINED_BITS: Final = 8
MAX_INLINED: Final = (1 << _INLINED_BITS) - 1
"""Bytes of the body of a function that is inlined."""


def inlined_line(function: int) -> int:
    """The line of the start of the function's body where it is inlined into another."""
    return _INLINED + (function << _INLINED_BITS)


@dataclass(kw_only=True)
class Rows:
    """The rows of one section of code, in ascending order of their addresses in that section."""

    addresses: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_lines(one: elf.Relocatable, function_starts: Collection[tuple[int, int]]) -> dict[int, Rows]:
    """The rows of all line programs of an object, by section.

    Rows that repeat the line before are left out, except at a function's start (section, address).
    """
    found: dict[int, Rows] = {}
    for section in one.sections:
        if section.name == ".debug_line" and section.size:
            try:
                _read_section(bytes(section.data), _address_references(one, section), function_starts, found)
            except (struct.error, IndexError, KeyError) as error:
                raise CompilerFailed(f"malformed line table: {error!r}") from error
    return found


def encode_lines(rows: Rows, start: int, end: int, distance: Callable[[int], int] | None = None) -> bytes | None:
    """The blob of the function whose code is from start to end. None if it has no rows.

    distance(function): how far behind this function's body in the file that of another starts, which may be inlined.
    """
    first, last = bisect_left(rows.addresses, start), bisect_left(rows.addresses, end)
    if first == last:
        return None
    blob = bytearray()
    blob += unsigned_leb128(last - first)
    code, line = start, 1
    append = blob.append
    for next_code, next_line in zip(rows.addresses[first:last], rows.lines[first:last], strict=True):
        delta = next_code - code
        if delta < 0x80:
            append(delta)
        else:
            blob += unsigned_leb128(delta)
        if next_line >= _INLINED and distance is not None:
            function, offset = divmod(next_line - _INLINED, 1 << _INLINED_BITS)
            next_line = 1 + distance(function) + offset & 0xFFFFFFFF  # noqa: PLW2901 - modulo: it may be in front
        delta = next_line - line
        if -0x40 <= delta < 0x40:
            append(delta & 0x7F)
        elif -0x2000 <= delta < 0x2000:
            append(delta & 0x7F | 0x80)
            append(delta >> 7 & 0x7F)
        else:
            blob += signed_leb128(delta)
        code, line = next_code, next_line
    return bytes(blob)


def _address_references(one: elf.Relocatable, section: elf.Section) -> dict[int, tuple[int, int]]:
    """Position in .debug_line -> the (section, address) that DW_LNE_set_address has there."""
    references = {}
    for offset, info, addend in elf.RELA.iter_unpack(section.relocations):
        if info & 0xFFFFFFFF == _R_64:
            symbol = one.symbols[info >> 32]
            references[offset] = (symbol.section, symbol.value + addend)
    return references


def _read_section(
    data: bytes,
    references: dict[int, tuple[int, int]],
    function_starts: Collection[tuple[int, int]],
    found: dict[int, Rows],
) -> None:
    position = 0
    while position < len(data):
        length, version = struct.unpack_from("<IH", data, position)
        end = position + 4 + length
        if version not in {4, 5} or end > len(data):
            raise CompilerFailed(f"line table of version {version} and {length} bytes at {position:#x}")
        # Version 5 has two more bytes here: the sizes of an address and of a segment selector.
        at = position + (6 if version == 4 else 8)
        header_length, minimum_length = struct.unpack_from("<IB", data, at)
        line_base, line_range, operation_base = struct.unpack_from("<bBB", data, at + 7)
        if minimum_length != 1 or not line_range or data[at + 10 : at + 9 + operation_base] != _ARGUMENT_COUNTS:
            raise CompilerFailed("line table with instructions that LLVM does not emit")
        advances = [divmod(operation - operation_base, line_range) for operation in range(256)]
        advances = [(address, line + line_base) for address, line in advances]
        _run(data, at + 4 + header_length, end, advances, references, function_starts, found)
        position = end


_ARGUMENT_COUNTS: Final = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
"""Of the standard opcodes 1 to 12."""
_FIRST_SPECIAL: Final = 13
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE_STATEMENT = 1, 2, 3, 4, 5, 6
_CONST_ADD_PC, _FIXED_ADVANCE_PC, _SET_ISA = 8, 9, 12
_END_SEQUENCE, _SET_ADDRESS = 1, 2


def _run(
    data: bytes,
    position: int,
    end: int,
    advances: Sequence[tuple[int, int]],
    references: dict[int, tuple[int, int]],
    function_starts: Collection[tuple[int, int]],
    found: dict[int, Rows],
) -> None:
    """Run one line program. This loop sees every row of the module, so it is written for speed."""
    section, address, line = elf.SHN_UNDEF, 0, 1
    rows = Rows()
    addresses, lines = rows.addresses, rows.lines
    last_address, last_line = -1, -1
    constant_advance = advances[255][0]
    while position < end:
        operation = data[position]
        position += 1
        if operation >= _FIRST_SPECIAL:
            address_advance, line_advance = advances[operation]
            address += address_advance
            line += line_advance
        elif operation == _ADVANCE_LINE:
            byte, second = data[position], data[position + 1]
            if byte < 0x80:
                line += byte - ((byte & 0x40) << 1)
                position += 1
            elif second < 0x80:
                line += byte - 0x80 + (second << 7) - ((second & 0x40) << 8)
                position += 2
            else:
                value, position = read_signed_leb128(data, position)
                line += value
            continue
        elif operation == _NEGATE_STATEMENT:
            continue
        elif operation == _COPY:
            pass
        elif operation in {_ADVANCE_PC, _SET_FILE, _SET_COLUMN, _SET_ISA}:
            value, position = read_unsigned_leb128(data, position)
            if operation == _ADVANCE_PC:
                address += value
            continue
        elif operation == _CONST_ADD_PC:
            address += constant_advance
            continue
        elif operation == _FIXED_ADVANCE_PC:
            address += data[position] | data[position + 1] << 8
            position += 2
            continue
        elif operation == 0:
            length, position = read_unsigned_leb128(data, position)
            if data[position] == _SET_ADDRESS:
                section, address = references[position + 1]
                rows = found.setdefault(section, Rows())
                addresses, lines = rows.addresses, rows.lines
                last_address, last_line = -1, -1
                if addresses and addresses[-1] > address:
                    raise CompilerFailed("line table whose sequences are not in order")
            elif data[position] == _END_SEQUENCE:
                section, address, line = elf.SHN_UNDEF, 0, 1
            position += length
            continue
        else:
            continue
        # A row. Several at one address: the last one holds.
        if address == last_address:
            lines[-1] = last_line = line
        elif line != last_line or (section, address) in function_starts:
            addresses.append(address)
            lines.append(line)
            last_address, last_line = address, line
