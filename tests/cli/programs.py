"""Small WASI commands for the tests of the command line, assembled by hand so that they depend on nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Outcome = subprocess.CompletedProcess[bytes]
Lucet = Callable[..., Outcome]
"""What the fixture `lucet` gives."""

HELLO = Path(__file__).parents[2] / "examples" / "hello.wasm"
WASI = "wasi_snapshot_preview1"

# Instructions, as bytes.
UNREACHABLE = b"\x00"
DROP = b"\x1a"
END = b"\x0b"
FOREVER = b"\x03\x40\x0c\x00\x0b"  # loop; br 0; end


def i32_const(value: int) -> bytes:
    return b"\x41" + signed_leb(value)


def call(function: int) -> bytes:
    return b"\x10" + leb(function)


def loop(body: bytes) -> bytes:
    return b"\x03\x40" + body + b"\x0c\x00" + END


def command(
    body: bytes,
    *,
    imports: tuple[tuple[str, str, int], ...] = (),
    data: bytes = b"",
    export: str = "_start",
    name: str = "",
) -> bytes:
    """A module whose export is one function with this body.

    imports: (module, field, number of i32 parameters); those with one parameter return nothing, the others an i32, as
    proc_exit and fd_write do."""
    types = [b"\x60\x00\x00"] + [_type(params) for _, _, params in imports]
    imported = [_name(module) + _name(field) + b"\x00" + leb(1 + i) for i, (module, field, _) in enumerate(imports)]
    code = b"\x00" + body + END
    exports = [_name("memory") + b"\x02\x00", _name(export) + b"\x00" + leb(len(imports))]
    sections = [
        _section(1, _vector(types)),
        _section(2, _vector(imported)),
        _section(3, _vector([b"\x00"])),
        _section(5, _vector([b"\x00\x01"])),
        _section(7, _vector(exports)),
        _section(10, _vector([leb(len(code)) + code])),
    ]
    if data:
        sections.append(_section(11, _vector([b"\x00" + i32_const(0) + END + leb(len(data)) + data])))
    if name:
        sections.append(_section(0, _name("name") + _section(1, _vector([leb(len(imports)) + _name(name)]))))
    return b"\0asm\x01\0\0\0" + b"".join(sections)


def exits_with(status: int) -> bytes:
    return command(i32_const(status) + call(0), imports=((WASI, "proc_exit", 1),))


def traps() -> bytes:
    return command(UNREACHABLE, name="the_culprit")


def runs_forever() -> bytes:
    return command(FOREVER)


def needs(module: str, field: str) -> bytes:
    return command(i32_const(1) + call(0), imports=((module, field, 1),))


def prints_forever() -> bytes:
    # An iovec at 0 (address 8, length 2), the text at 8, the count written at 16.
    data = b"\x08\0\0\0\x02\0\0\0y\n"
    write = i32_const(1) + i32_const(0) + i32_const(1) + i32_const(16) + call(0) + DROP
    return command(loop(write), imports=((WASI, "fd_write", 4),), data=data)


def leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed_leb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])


def _vector(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def _section(number: int, contents: bytes) -> bytes:
    return bytes([number]) + leb(len(contents)) + contents


def _name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def _type(params: int) -> bytes:
    results = b"\x00" if params == 1 else b"\x01\x7f"
    return b"\x60" + leb(params) + b"\x7f" * params + results
