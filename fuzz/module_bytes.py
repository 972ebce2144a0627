"""Modules as their sections and instructions, to be put together again with some of them changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.leb128 import read_unsigned_leb128, unsigned_leb128
from lucet.wasm.module import Code, Module
from lucet.wasm.text_encode import sized

CODE_SECTION: Final = 10
EXPORT_SECTION: Final = 7
_HEADER: Final = 8


def sections(wasm: bytes) -> list[tuple[int, bytes]]:
    """(number, contents) of a module that is well-formed."""
    found, at = [], _HEADER
    while at < len(wasm):
        number = wasm[at]
        size, at = read_unsigned_leb128(wasm, at + 1)
        found.append((number, wasm[at : at + size]))
        at += size
    return found


def joined(parts: Sequence[tuple[int, bytes]]) -> bytes:
    return b"\0asm\1\0\0\0" + b"".join(bytes([number]) + sized(contents) for number, contents in parts)


@dataclass(frozen=True, kw_only=True)
class Body:
    """A function's declared locals as they stand in the file, and its instructions, each as its bytes."""

    locals: bytes
    code: Code
    instrs: tuple[bytes, ...]

    def encoded(self, instrs: Sequence[bytes] | None = None) -> bytes:
        return self.locals + b"".join(self.instrs if instrs is None else instrs)


def bodies(module: Module) -> list[Body]:
    """Of a valid module."""
    found = []
    for index, body in enumerate(module.bodies):
        code = decode_code(module, module.imported_func_count + index)
        starts = [instr[1] - body.offset for instr in code.instrs]
        ends = [*starts[1:], len(body.body)]
        instrs = tuple(body.body[start:end] for start, end in zip(starts, ends, strict=True))
        found.append(Body(locals=body.body[: starts[0]], code=code, instrs=instrs))
    return found


def with_bodies(wasm: bytes, encoded: Sequence[bytes]) -> bytes:
    """The module with other functions' bodies; names and other custom sections go."""
    code = unsigned_leb128(len(encoded)) + b"".join(map(sized, encoded))
    return joined(
        [(number, code if number == CODE_SECTION else contents) for number, contents in sections(wasm) if number != 0]
    )


def with_everything_exported(wasm: bytes) -> bytes:
    """Functions, memories and globals get names of their own as exports: "function 0", "memory 0", "global 0"."""
    module = decode_module(wasm)
    entries = []
    for kind, what, count in (
        (0, "function", len(module.all_funcs)),
        (2, "memory", len(module.all_memories)),
        (3, "global", len(module.all_globals)),
    ):
        first = module.imported_func_count if kind == 0 else 0
        for index in range(first, count):
            name = f"{what} {index}".encode()
            entries.append(sized(name) + bytes([kind]) + unsigned_leb128(index))
    parts = sections(wasm)
    old = next((contents for number, contents in parts if number == EXPORT_SECTION), b"\0")
    count, at = read_unsigned_leb128(old, 0)
    contents = unsigned_leb128(count + len(entries)) + old[at:] + b"".join(entries)
    parts = [one for one in parts if one[0] != EXPORT_SECTION]
    # Behind all that come before it in the specification's order; 13, tags, stands between memories and globals.
    before = [index for index, (number, _) in enumerate(parts) if number in (1, 2, 3, 4, 5, 6, 13)]
    parts.insert(before[-1] + 1 if before else 0, (EXPORT_SECTION, contents))
    return joined(parts)
