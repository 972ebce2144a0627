"""lucet.abi.tables: the .def files as Python sees them, and every mistake in one that must be loud."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lucet.abi
from lucet.abi.tables import (
    BUILTINS,
    CONSTANTS,
    STRUCTS,
    TRAPS,
    TRAPS_BY_CODE,
    VMCTX,
    VMCTX_FIXED_SIZE,
    read_definitions,
)
from lucet.wasm.types import VALTYPE_CODES

ABI = Path(lucet.abi.__file__).parent


def test_constants() -> None:
    assert CONSTANTS["LUCET_MAGIC"].to_bytes(8, "little") == b"LUCETSO\0"
    assert CONSTANTS["LUCET_NONE"] == 0xFFFFFFFF
    assert [CONSTANTS[f"LUCET_KIND_{kind}"] for kind in ("FUNC", "TABLE", "MEMORY", "GLOBAL")] == [0, 1, 2, 3]


def test_valtype_constants_are_those_of_the_language() -> None:
    constants = {
        name.removeprefix("LUCET_VALTYPE_").lower(): value
        for name, value in CONSTANTS.items()
        if name.startswith("LUCET_VALTYPE_")
    }
    assert constants == {str(valtype): code for code, valtype in VALTYPE_CODES.items()}


def test_every_statement_is_read() -> None:
    text = "".join((ABI / name).read_text() for name in ("traps.def", "builtins.def", "instance.def", "artifact.def"))
    assert len(TRAPS) == len(TRAPS_BY_CODE) == len(re.findall(r"^TRAP\(", text, re.M))
    assert len(BUILTINS) == len(re.findall(r"^BUILTIN\(", text, re.M))
    assert len(VMCTX) == len(re.findall(r"^VMCTX\(", text, re.M))
    assert len(CONSTANTS) == len(re.findall(r"^#define", text, re.M))
    assert sum(len(one.fields) for one in STRUCTS.values()) == len(re.findall(r"^FIELD\(", text, re.M))


def test_traps() -> None:
    assert TRAPS["UNREACHABLE"].code == 1
    assert TRAPS_BY_CODE[5].text == "out of bounds memory access"


def test_builtins() -> None:
    hostcall = BUILTINS["hostcall"]
    assert (hostcall.index, hostcall.result, hostcall.params) == (0, "void", ("ptr", "i32", "ptr"))
    assert [one.index for one in BUILTINS.values()] == list(range(len(BUILTINS)))


def test_instance_words() -> None:
    assert VMCTX["MEMORY_SIZE"] == -8
    assert min(VMCTX.values()) == -VMCTX_FIXED_SIZE


def test_pack_and_unpack() -> None:
    ref = STRUCTS["ref"]
    assert ref.pack(function=7, offset=-112) == b"\7\0\0\0\x90\xff\xff\xff"
    assert ref.unpack(b"\7\0\0\0\x90\xff\xff\xff") == {"function": 7, "offset": -112}


def test_header_round_trip() -> None:
    header = STRUCTS["artifact_header"]
    values: dict[str, object] = {name: index for index, name in enumerate(header.fields)}
    values["source_digest"], values["digest"] = b"d" * 32, b"r" * 32
    data = header.pack(**values)
    assert len(data) == header.size == 288
    assert data[192:224] == b"d" * 32
    assert header.unpack(data) == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"function": 1}, "struct ref: missing offset"),
        ({"function": 1, "offset": 2, "extra": 3}, "struct ref: unknown extra"),
        ({"fonction": 1, "offset": 2}, "struct ref: missing function; unknown fonction"),
    ],
)
def test_pack_wants_every_field(values: dict[str, int], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        STRUCTS["ref"].pack(**values)


def test_pack_wants_values_in_range() -> None:
    with pytest.raises(ValueError, match="struct ref"):
        STRUCTS["ref"].pack(function=-1, offset=0)


def test_pack_wants_a_whole_hash() -> None:
    values: dict[str, object] = dict.fromkeys(STRUCTS["artifact_header"].fields, 0)
    values["source_digest"], values["digest"] = b"short", b"r" * 32
    with pytest.raises(ValueError, match="source_digest needs 32 bytes, not 5"):
        STRUCTS["artifact_header"].pack(**values)


def test_unpack_wants_the_size() -> None:
    with pytest.raises(ValueError, match="7 bytes given, it has 8"):
        STRUCTS["ref"].unpack(b"1234567")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STRUCT(a, 8) FIELD(a, u32, x, 0) FIELD(a, u32, y, 2) END(a)", "y is at 2, the field before it ends at 4"),
        ("STRUCT(a, 12) FIELD(a, u32, x, 0) FIELD(a, u32, y, 8) END(a)", "y is at 8, the field before it ends at 4"),
        ("STRUCT(a, 12) FIELD(a, u32, x, 0) FIELD(a, u64, y, 4) END(a)", "y is not aligned"),
        ("STRUCT(a, 8) FIELD(a, u32, x, 0) END(a)", "the fields end at 4, the size is 8"),
        ("STRUCT(a, 8) FIELD(a, u32, x, 0) FIELD(a, u32, x, 4) END(a)", "x is defined twice"),
        ("STRUCT(a, 2) FIELD(a, u17, x, 0) END(a)", "unknown type u17"),
        ("STRUCT(a, 4) FIELD(b, u32, x, 0) END(a)", r"cannot read FIELD\(b"),
        ("STRUCT(a, 4) FIELD(a, u32, x, 0)", "struct a has no END"),
        ("STRUCT(a, 4) FIELD(a, u32, x, 0) END(a) FIELD(a, u32, y, 4)", r"cannot read FIELD\(a"),
        ('TRAP(A, 0, "a")', "code 0 does not fit"),
        ('TRAP(A, 256, "a")', "code 256 does not fit"),
        ('TRAP(A, 1, "a") TRAP(B, 1, "b")', "code 1 is that of A"),
        ("TRAP(A, 1, a)", "not a string"),
        ("TRAP(A, one, a)", "not an integer"),
        ('BUILTIN(1, f, "void", "ptr")', "index 1, expected 0"),
        ('BUILTIN(0, f, "void", "i32")', "first parameter is not vmctx"),
        ("VMCTX(A, -16)\n#define VMCTX_FIXED_SIZE 8\n", "offset -16, expected -8"),
        ("VMCTX(A, -8)\n#define VMCTX_FIXED_SIZE 16\n", "VMCTX_FIXED_SIZE is 16"),
        ("#define A 1\n#define A 2\n", "A is defined twice"),
        ("#define A one\n", "not an integer"),
        ("int x;", "cannot read 'int x;'"),
        ("STRANGE(1)", r"cannot read STRANGE\(1\)"),
    ],
)
def test_mistakes_are_loud(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_definitions(text)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_c_reads_the_same_numbers(tmp_path: Path) -> None:
    """The C core includes the same files; its macros must see the numbers that Python sees."""
    program = tmp_path / "print.c"
    program.write_text(
        "#include <stdio.h>\n"
        '#define STRUCT(name, size) printf("%s %d\\n", #name, size);\n'
        '#define FIELD(owner, type, name, offset) printf("%s.%s %s %d\\n", #owner, #name, #type, offset);\n'
        "#define END(name)\n"
        f'int main(void) {{\n#include "{ABI}/artifact.def"\n return 0; }}\n'
    )
    subprocess.run(["cc", "-o", tmp_path / "print", program], check=True, timeout=60)
    output = subprocess.run([tmp_path / "print"], check=True, capture_output=True, text=True, timeout=10).stdout
    expected = []
    for one in STRUCTS.values():
        expected.append(f"{one.name} {one.size}")
        expected += [f"{one.name}.{part.name} {part.type} {part.offset}" for part in one.fields.values()]
    assert output.splitlines() == expected
