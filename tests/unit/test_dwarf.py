"""Source lines from .debug_line, made by hand in all versions, and by clang where it is installed."""

from __future__ import annotations

import importlib.util
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

import lucet
from lucet.wasm.dwarf import Sources, pack
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_encode import name, sized

EMPTY = text_to_binary("(func nop)")
CODE = EMPTY.index(b"\x0a\x05\x01\x03") + 2
"""Where the contents of the code section begin."""

LINE_BASE, LINE_RANGE, OPCODE_BASE = -5, 14, 13
OPERANDS = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])


def special(address: int, line: int) -> bytes:
    return bytes([(line - LINE_BASE) + LINE_RANGE * address + OPCODE_BASE])


def program(address: int) -> bytes:
    """Rows: address 10:a.c, +2 12:a.c, +300 11:b.c, +301 the end."""
    return (
        b"\0\x05\x02"
        + struct.pack("<I", address)
        + b"\x03\x09"
        + b"\x01"
        + special(2, 2)
        + b"\x04\x02\x03\x7f\x02"
        + bytes([0xAA, 0x02])
        + b"\x01"
        + b"\x02\x01"
        + b"\0\x01\x01"
    )


def unit(version: int, *programs: bytes) -> bytes:
    middle = bytes([1]) + (b"\x01" if version >= 4 else b"")
    middle += struct.pack("<BbBB", 1, LINE_BASE, LINE_RANGE, OPCODE_BASE) + OPERANDS
    if version == 5:
        middle += bytes([1, 1, 0x1F, 2]) + struct.pack("<II", 0, 4)
        files = struct.pack("<IB", 8, 0) + struct.pack("<IB", 8, 0) + struct.pack("<IB", 12, 1)
        middle += bytes([2, 1, 0x1F, 2, 0x0B, 3]) + files
    else:
        middle += b"sub\0\0" + b"a.c\0\0\0\0" + b"b.c\0\x01\0\0" + b"\0"
    head = struct.pack("<H", version) + (b"\x04\0" if version == 5 else b"")
    body = head + struct.pack("<I", len(middle)) + middle + b"".join(programs)
    return struct.pack("<I", len(body)) + body


LINE_STR = b"/w\0\0sub\0a.c\0b.c\0"


def sources(*units: bytes) -> Sources:
    return Sources(pack([(".debug_line", b"".join(units)), (".debug_line_str", LINE_STR)], EMPTY))


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_lines_of_every_version(version: int) -> None:
    found = sources(unit(version, program(0x40)))
    a, b = ("/w/a.c", "sub/b.c") if version == 5 else ("a.c", "sub/b.c")
    places = {0x3F: None, 0x40: (a, 10), 0x41: (a, 10), 0x42: (a, 12), 0x40 + 299: (a, 12), 0x40 + 300: (b, 11)}
    for address, expected in {**places, 0x40 + 301: None, 0x10000: None}.items():
        assert found.find(CODE + address) == expected, hex(address)


def test_several_units_and_dropped_code() -> None:
    found = sources(unit(4, program(0x1000), program(0)), unit(5, program(0x40), program(0xFFFFFFFF)))
    assert found.find(CODE + 0x40) == ("/w/a.c", 10)
    assert found.find(CODE + 0x1000) == ("a.c", 10)
    assert found.find(CODE) is None


def test_modules_without_lines_keep_nothing() -> None:
    assert pack([("name", b"x"), (".debug_line", b"")], EMPTY) == b""


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_in_the_sections(seed: int) -> None:
    """A place or none, in little time."""
    rng = random.Random(seed)
    whole = unit(4, program(0x40)) + unit(5, program(0x1000))
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        found = sources(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
        for address in (0, 0x40, 0x1000, 0x7FFFFFFF):
            place = found.find(CODE + address)
            assert place is None or place[1] > 0


@pytest.mark.parametrize("packed", [b"", b"x", zlib.compress(b"abc"), zlib.compress(struct.pack("<4I", 1, 9, 9, 9))])
def test_what_is_not_packed(packed: bytes) -> None:
    assert Sources(packed).find(1) is None


def test_a_trap_shows_file_and_line() -> None:
    wasm = text_to_binary('(func $f (export "f") unreachable)')
    code = wasm.index(b"\x0a\x05\x01\x03\x00") + 2
    custom = name(".debug_line") + unit(4, program(2))
    module = lucet.Module.from_bytes(lucet.compile(wasm + b"\0" + sized(custom), workers=1))
    with pytest.raises(lucet.Trap) as caught:
        lucet.Region(slots=1).new_instance(module).run("f")
    assert caught.value.offset == code + 3
    assert caught.value.sources == (("a.c", 10),)
    assert f"#0 f at offset {code + 3:#x} (a.c:10)" in caught.value.__notes__[0]


C = """int *volatile p;
__attribute__((noinline)) int deep(int x) {
    if (x == 1)
        __builtin_trap();
    return x + *p;
}
int main(int argc, char **argv) {
    return deep(argc) + 2;
}
"""


@pytest.mark.parametrize("version", [4, 5])
def test_clang(tmp_path: Path, version: int) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    (tmp_path / "trap.c").write_text(C)
    command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-O1", "-g", f"-gdwarf-{version}"]
    subprocess.run([*command, "trap.c", "-o", "trap.wasm"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "lucet", "run", "--no-cache", "trap.wasm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert lines[2].startswith("  #0 deep at offset 0x")
    assert lines[2].endswith("trap.c:4)")
    assert lines[3].endswith("trap.c:8)")


def test_many_entries_that_refer_to_long_strings() -> None:
    """Some bytes each, for paths of a megabyte: 100 GB, or quadratic time."""

    def referring(entries: int) -> bytes:
        count = bytes([entries & 0x7F | 0x80, entries >> 7 & 0x7F | 0x80, entries >> 14])
        middle = bytes([1, 1, 1]) + struct.pack("<bBB", LINE_BASE, LINE_RANGE, OPCODE_BASE) + OPERANDS
        middle += bytes([1, 1, 0x0E, 1]) + bytes(4) + bytes([1, 1, 0x0E]) + count + bytes(4) * entries
        body = struct.pack("<HHI", 5, 4, len(middle)) + middle + program(0x10)
        return struct.pack("<I", len(body)) + body

    for size, line in ((4000, referring(100_000)), (1_000_000, referring(100_000)), (100_000, referring(1) * 100_000)):
        sections = [(".debug_line", unit(5, program(0x20)) + line), (".debug_str", b"a" * size + b"\0")]
        sections.append((".debug_line_str", b"dir\0sub\0a.c\0b.c\0"))
        before = time.process_time()
        tracemalloc.start()
        sources = Sources(pack(sections, EMPTY))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sources.find(CODE + 0x20) is not None  # what is before counts
        assert peak < 2e8
        assert time.process_time() - before < 10
