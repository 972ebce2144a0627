"""Native DWARF for debuggers (`lucetc -g`): the guest's functions and the source lines that its module's DWARF states.

Version 4 of the format, one unit, no types and no variables: what a debugger shows is where it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lucet.wasm.dwarf import Sources
from lucet.wasm.leb128 import signed_leb128, unsigned_leb128

_LANGUAGE_C99: Final = 0x0C
_ABBREVIATIONS: Final = bytes(
    [
        *(1, 0x11, 1, 0x25, 0x08, 0x13, 0x05, 0x03, 0x08, 0x10, 0x17, 0x11, 0x01, 0x12, 0x07, 0, 0),
        *(2, 0x2E, 0, 0x03, 0x08, 0x11, 0x01, 0x12, 0x07, 0, 0),
        0,
    ]
)
"""1: unit with producer, language, name, line table, first address and size; 2: function with name, address, size."""
_OPERANDS: Final = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])


@dataclass(frozen=True, kw_only=True)
class Body:
    """The code of a function."""

    name: str
    address: int
    size: int
    rows: Sequence[tuple[int, int | None]]
    """(offset in the code, offset in the .wasm or None), ascending."""


def sections(bodies: Sequence[Body], sources: Sources, *, text: tuple[int, int], producer: str) -> Mapping[str, bytes]:
    """Section -> contents. text: address and size of all code."""
    return {
        ".debug_abbrev": _ABBREVIATIONS,
        ".debug_info": _info(bodies, text, producer),
        ".debug_line": _lines(bodies, sources),
    }


def _info(bodies: Sequence[Body], text: tuple[int, int], producer: str) -> bytes:
    unit = struct.pack("<HIB", 4, 0, 8) + b"\x01" + _string(producer) + struct.pack("<H", _LANGUAGE_C99)
    unit += _string("WebAssembly") + struct.pack("<IQQ", 0, *text)
    functions = (b"\x02" + _string(one.name) + struct.pack("<QQ", one.address, one.size) for one in bodies)
    return _sized(unit + b"".join(functions) + b"\0")


def _lines(bodies: Sequence[Body], sources: Sources) -> bytes:
    files: dict[str, int] = {}
    program = b"".join(_sequence(one, sources, files) for one in bodies)
    names = b"".join(_string(file) + bytes(3) for file in files)
    header = struct.pack("<BBBbBB", 1, 1, 1, 0, 1, len(_OPERANDS) + 1) + _OPERANDS + b"\0" + names + b"\0"
    return _sized(struct.pack("<HI", 4, len(header)) + header + program)


def _sequence(body: Body, sources: Sources, files: dict[str, int]) -> bytes:
    out = bytearray(b"\0\x09\x02" + struct.pack("<Q", body.address))
    code, line, file = 0, 1, 1
    places = [(at, sources.find(offset)) for at, offset in body.rows if offset is not None]
    known = [(at, place) for at, place in places if place is not None]
    # Code of no line belongs to the line before it: a debugger would not stop in a function that begins with none.
    for number, (start, place) in enumerate(known):
        at = start if number else 0
        new_file, new_line = files.setdefault(place[0], len(files) + 1), place[1]
        if number and (new_file, new_line) == (file, line):
            continue
        if new_file != file:
            out += b"\x04" + unsigned_leb128(new_file)
        out += b"\x03" + signed_leb128(new_line - line) + b"\x02" + unsigned_leb128(at - code) + b"\x01"
        code, line, file = at, new_line, new_file
    return bytes(out) + b"\x02" + unsigned_leb128(body.size - code) + b"\0\x01\x01"


def _string(text: str) -> bytes:
    return text.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"


def _sized(contents: bytes) -> bytes:
    return struct.pack("<I", len(contents)) + contents
