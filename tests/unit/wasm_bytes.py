"""Builds small modules byte by byte, for tests that must know where every byte is.

Deliberately not the text parser or any encoder of the project: those are tested against the decoder too.
"""

from __future__ import annotations

HEADER = b"\0asm\1\0\0\0"

I32, I64, F32, F64, V128, FUNCREF, EXTERNREF = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F
CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEM, CODE, DATA, DATA_COUNT, TAG = range(14)

MEMORY_1 = bytes([1, 0, 1])
"""The contents of a memory section: one memory of one page."""


def u32(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def section(section_id: int, contents: bytes) -> bytes:
    return bytes([section_id]) + u32(len(contents)) + contents


def module(*sections: bytes) -> bytes:
    return HEADER + b"".join(sections)


def vector(*elements: bytes) -> bytes:
    return u32(len(elements)) + b"".join(elements)


def name(text: str) -> bytes:
    return u32(len(text.encode())) + text.encode()


def functype(params: list[int], results: list[int]) -> bytes:
    return b"\x60" + u32(len(params)) + bytes(params) + u32(len(results)) + bytes(results)


def body(expression: bytes, *locals_: tuple[int, int]) -> bytes:
    """An entry of the code section: expression without its last end, locals as (count, type)."""
    contents = vector(*(u32(count) + bytes([valtype]) for count, valtype in locals_)) + expression + b"\x0b"
    return u32(len(contents)) + contents


def one_function(
    expression: bytes,
    *locals_: tuple[int, int],
    params: list[int] | None = None,
    results: list[int] | None = None,
    types: list[bytes] | None = None,
    between: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A module whose only function is function 0 of type 0. between: sections before the code; after: behind it."""
    return module(
        section(TYPE, vector(functype(params or [], results or []), *(types or []))),
        section(FUNCTION, vector(b"\0")),
        between,
        section(CODE, vector(body(expression, *locals_))),
        after,
    )
