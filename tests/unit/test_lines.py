"""lucet.compile.lines: LLVM's line tables become line blobs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lucet.abi.artifact_reader import decode_lines
from lucet.compile import elf
from lucet.compile.lines import Rows, encode_lines, read_lines
from lucet.errors import CompilerFailed
from tests.unit.objects import compile_ir, function, with_lines

STORES = "".join(f"store volatile i32 %x, ptr %vm, !dbg LINE(0:{line})\n" for line in (2, 300, 7, 7, 100_000, 0, 9))
TWO_FUNCTIONS = with_lines(
    function(0, STORES + "ret i32 %x, !dbg LINE(0:10)")
    + function(1, "%a = load volatile i32, ptr %vm, !dbg LINE(1:10)\nret i32 %a, !dbg LINE(1:40)"),
    [0, 1],
)


def rows_of(data: bytes) -> tuple[elf.Relocatable, Rows]:
    one = elf.read_relocatable(data)
    starts = {(symbol.section, symbol.value) for symbol in one.symbols if symbol.type == elf.STT_FUNC}
    (rows,) = read_lines(one, starts).values()
    return one, rows


def span(one: elf.Relocatable, name: bytes) -> tuple[int, int]:
    symbol = next(symbol for symbol in one.symbols if symbol.name == name)
    return symbol.value, symbol.value + symbol.size


def blob(one: elf.Relocatable, rows: Rows, name: bytes) -> list[tuple[int, int]]:
    encoded = encode_lines(rows, *span(one, name))
    assert encoded is not None
    return list(decode_lines(encoded))


def test_offsets_arrive_in_order() -> None:
    one, rows = rows_of(compile_ir(TWO_FUNCTIONS))
    offsets = [offset for _, offset in blob(one, rows, b"f0")]
    wanted = [line - 1 for line in (2, 300, 7, 100_000, 0, 9, 10)]
    # LLVM puts the function's own line in front.
    assert offsets[-len(wanted) :] == wanted
    assert offsets[: -len(wanted)] in ([], [0], [-1])


def test_rows_stand_at_the_instructions() -> None:
    """Each store has its own machine instruction, `mov %esi, (%rdi)`: 89 37."""
    one, rows = rows_of(compile_ir(TWO_FUNCTIONS))
    start, end = span(one, b"f0")
    text = next(section for section in one.sections if section.name == ".text")
    code = bytes(text.data[start:end])
    stores = [match.start() for match in re.finditer(rb"\x89\x37", code)]
    assert len(stores) == 7
    decoded = blob(one, rows, b"f0")
    found = [[offset for code_offset, offset in decoded if code_offset <= at][-1] for at in stores]
    assert found == [1, 299, 6, 6, 99_999, -1, 8]


def test_a_function_that_begins_on_the_line_where_the_one_before_ended() -> None:
    text = with_lines(
        function(0, "%a = load volatile i32, ptr %vm, !dbg LINE(0:1)\nret i32 %a, !dbg LINE(0:1)")
        + function(1, "%a = load volatile i32, ptr %vm, !dbg LINE(1:1)\nret i32 %a, !dbg LINE(1:1)"),
        [0, 1],
    )
    one, rows = rows_of(compile_ir(text))
    assert blob(one, rows, b"f0") == blob(one, rows, b"f1") == [(0, 0)]


def test_a_function_without_locations_has_no_blob() -> None:
    text = with_lines(function(0, "ret i32 %x, !dbg LINE(0:5)") + function(1, "ret i32 %x", lines=False), [0])
    one, rows = rows_of(compile_ir(text))
    assert encode_lines(rows, *span(one, b"f1")) is None
    assert encode_lines(rows, *span(one, b"f0")) is not None


def test_an_object_without_line_table() -> None:
    assert read_lines(elf.read_relocatable(compile_ir(function(0, "ret i32 %x", lines=False))), ()) == {}


@pytest.mark.parametrize("opt", [0, 1, 2])
def test_the_same_rows_as_readelf(tmp_path: Path, opt: int) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    data = compile_ir(TWO_FUNCTIONS, opt=opt)
    path = tmp_path / "a.o"
    path.write_bytes(data)
    command = ["readelf", "--debug-dump=rawline", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    expected: dict[int, int] = {}
    address, line = 0, 1
    for text in output.splitlines():
        if moved := re.search(r"[Aa]dvance (?:Address|PC)\b.*? to (0x[0-9a-f]+|0)(?: and|$)", text):
            address = int(moved[1], 0)
        if moved := re.search(r"Line by -?\d+ to (\d+)", text):
            line = int(moved[1])
        if "Special opcode" in text or text.rstrip().endswith("Copy"):
            expected[address] = line
    _, rows = rows_of(data)
    actual = dict(zip(rows.addresses, rows.lines, strict=True))
    assert len(actual) > 8
    assert {address: expected[address] for address in actual} == actual
    kept = 0
    for address in sorted(expected):
        kept = actual.get(address, kept)
        assert kept == expected[address], "a row was left out that does not repeat the one before"


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1)],
        [(0, 0)],
        [(0, 0), (1, 1), (2, 0)],
        [(0, 64), (127, 128), (255, 1), (20_000, 1 << 20), (3_000_000, 2)],
        [(5, 65), (6, 1), (7, 8193), (8, 1)],
    ],
)
def test_blobs_decode_to_what_was_encoded(rows: list[tuple[int, int]]) -> None:
    start = 0x500
    given = Rows(addresses=[start + code for code, _ in rows], lines=[line for _, line in rows])
    encoded = encode_lines(given, start, start + 4_000_000)
    assert encoded is not None
    assert list(decode_lines(encoded)) == [(code, line - 1) for code, line in rows]


def test_blob_bytes() -> None:
    """The example of docs/artifact.md."""
    rows = Rows(addresses=[0, 4, 300], lines=[1, 0, 71])
    encoded = encode_lines(rows, 0, 400)
    assert encoded is not None
    assert encoded.hex(" ") == "03 00 00 04 7f a8 02 c7 00"


def line_section(program: bytes, version: int = 5, minimum_length: int = 1) -> elf.Relocatable:
    """An object whose .debug_line is this program; the operand of DW_LNE_set_address at its start is relocated."""
    header = bytes([minimum_length, 1, 1, 0xFB, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
    sizes = b"\x08\x00" if version >= 5 else b""
    unit = version.to_bytes(2, "little") + sizes + len(header).to_bytes(4, "little") + header + program
    data = len(unit).to_bytes(4, "little") + unit
    at = len(data) - len(program) + 3
    section = elf.Section(
        name=".debug_line",
        type=1,
        flags=0,
        alignment=1,
        size=len(data),
        data=memoryview(data),
        relocations=memoryview(elf.RELA.pack(at, 1 << 32 | 1, 0x40)),
    )
    symbols = [elf.Symbol(b"", 0, 0, 0, 0, 0), elf.Symbol(b"", 3, 0, 7, 0x10, 0)]
    return elf.Relocatable(sections=[section], symbols=symbols)


SET_ADDRESS = b"\0\x09\x02" + bytes(8)
END = b"\0\x01\x01"


@pytest.mark.parametrize("version", [4, 5])
def test_every_operation(version: int) -> None:
    program = (
        SET_ADDRESS
        + b"\x01"  # copy: 0x50, line 1
        + b"\x02\x81\x01"  # advance address by 129
        + b"\x03\xc0\x00\x01"  # advance line by 64, copy
        + b"\x03\x7f\x01"  # advance line by -1 at the same address: this row holds
        + b"\x04\x02\x05\x81\x01\x06\x07\x0a\x0b\x0c\x05"  # file, column, statement, block, prologue, epilogue, isa
        + b"\x08\x01"  # advance by what special operation 255 does, the line unchanged: no row
        + b"\x09\x00\x01\x03\x02\x01"  # advance address by 256, line by 2, copy
        + b"\0\x02\x04\x07"  # extended: discriminator
        + bytes([13 + 5 + 1 + 14 * 3])  # special: address + 3, line + 1
        + END
    )
    rows = read_lines(line_section(program, version), ())
    assert rows.keys() == {7}
    found = list(zip(rows[7].addresses, rows[7].lines, strict=True))
    assert found == [(0x50, 1), (0xD1, 64), (0xD1 + 17 + 256, 66), (0xD1 + 17 + 256 + 3, 67)]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (line_section(SET_ADDRESS + END, version=3), "version 3"),
        (line_section(SET_ADDRESS + END, minimum_length=4), "instructions that LLVM does not emit"),
        (line_section(SET_ADDRESS + b"\x03"), "malformed line table"),
        (line_section(SET_ADDRESS + b"\x01" + SET_ADDRESS), "malformed line table"),
    ],
)
def test_bad_line_tables(one: elf.Relocatable, message: str) -> None:
    with pytest.raises(CompilerFailed, match=message):
        read_lines(one, ())


def test_100_000_rows_are_fast() -> None:
    one = line_section(SET_ADDRESS + b"\x03\x14\x4b\x03\x70\x21" * 50_000 + END)
    start = time.process_time()
    rows = read_lines(one, ())[7]
    encoded = encode_lines(rows, rows.addresses[0], rows.addresses[-1] + 1)
    elapsed = time.process_time() - start
    assert len(rows.addresses) == 100_000
    assert encoded is not None and len(encoded) < 300_000
    assert elapsed < 0.3
