"""lucet.abi.artifact_reader on bytes that are not an artifact, or not any more: ArtifactError and nothing else."""

from __future__ import annotations

import random
import struct
import time

import pytest

from lucet.abi.artifact_reader import read_artifact
from lucet.abi.tables import STRUCTS
from lucet.compile.artifact import build
from lucet.compile.plan import DataPlan, ElemPlan, ImageRun, TablePlan
from lucet.errors import ArtifactError
from lucet.wasm.types import FUNCREF
from tests.unit.objects import PROVENANCE, UNARY, a_module, a_plan, compile_ir, function, with_lines


def artifact() -> bytes:
    module = a_module([UNARY, UNARY], exports={"run": 0, "other": 1}, names={1: "named"})
    text = "".join(
        function(index, f"%r = xor i32 %x, 5, !dbg LINE({index}:7)\nret i32 %r, !dbg LINE({index}:9)")
        for index in range(2)
    )
    entries = (1, None, 0)
    plan = a_plan(
        module,
        tables=(TablePlan(reftype=FUNCREF, minimum=3, maximum=3, imported=False, offset=0, entries=entries),),
        elems=(ElemPlan(reftype=FUNCREF, items=(1, -1), offset=-72),),
        datas=(DataPlan(bytes=b"data", offset=-80),),
        images=(ImageRun(heap_offset=0, bytes=b"i" * 4096),),
        ref_offsets={0: -120},
        template=bytes(128),
        instance_size=128,
    )
    return build(module, plan, [compile_ir(with_lines(text, [0, 1]))], PROVENANCE)


WHOLE = artifact()
HEADER = read_artifact(WHOLE).header["self_rva"]


def read_everything(data: bytes) -> None:
    info = read_artifact(data)
    for index in range(len(info.types)):
        info.valtypes(index)
    for index in range(len(info.functions)):
        info.lines(index)
    for index in range(len(info.elems)):
        info.elem_items(index)
    for index, row in enumerate(info.tables):
        if row["static_rva"]:
            info.static_entries(index)
    info.locate(info.header["text_rva"])
    for row in info.images:
        info.span(row["rva"], row["size"])


def with_header(**changes: int | bytes) -> bytes:
    of = STRUCTS["artifact_header"]
    values = of.unpack(WHOLE[HEADER : HEADER + of.size]) | changes
    return WHOLE[:HEADER] + of.pack(**values) + WHOLE[HEADER + of.size :]


def test_the_artifact_of_these_tests_is_good() -> None:
    read_everything(WHOLE)
    assert with_header() == WHOLE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a 64-bit ELF file"),
        (b"\0asm\1\0\0\0", "not a 64-bit ELF file"),
        (b"\x7fELF\x02\x01\x01", "malformed artifact"),
        (WHOLE[:16] + b"\x02" + WHOLE[17:], "not a shared object for x86-64"),
        (WHOLE[:18] + b"\xb7" + WHOLE[19:], "not a shared object for x86-64"),
        (WHOLE[:-1], "is truncated or extended to"),
        (WHOLE + b"\0", "is truncated or extended to"),
        (WHOLE.replace(b"lucet_module\0", b"lucet_mod\0\0\0\0"), "does not export lucet_module"),
        (with_header(magic=1), "wrong magic number"),
        (with_header(abi_version=99), "ABI version 99, this is version 2"),
        (with_header(header_size=128), "the header is not where it says"),
        (with_header(self_rva=0), "the header is not where it says"),
        (with_header(load_size=4096), "load_size is not"),
        (with_header(functions_count=0xFFFFFFFF), "beyond the end"),
        (with_header(types_count=0), "function 0 has type 0, which does not exist"),
        (with_header(text_size=1), "is outside the code"),
        (with_header(start_function=2), "the start function 2 does not exist"),
        (with_header(functions_count=1), "has an index that does not exist"),
        (with_header(lines_size=0), "function 0 has no lines"),
        (with_header(template_rva=0xFFFFFFFF), "beyond the end"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_artifact(data)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_artifacts(seed: int) -> None:
    """Bytes of the ELF headers, the metadata and anywhere: a result or an ArtifactError."""
    rng = random.Random(seed)
    places = [range(0x260), range(HEADER, HEADER + 0x400), range(len(WHOLE))]
    refused = 0
    for _ in range(150):
        data = bytearray(WHOLE)
        for _ in range(rng.randrange(1, 4)):
            data[rng.choice(rng.choice(places))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        try:
            read_everything(bytes(data))
        except ArtifactError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("size", [*range(0, 0x300, 37), HEADER, HEADER + 100, len(WHOLE) // 2])
def test_truncated_artifacts(size: int) -> None:
    with pytest.raises(ArtifactError):
        read_artifact(WHOLE[:size])


def test_overlapping_strings_do_not_multiply() -> None:
    """A thousand names that share one megabyte would be a gigabyte."""
    module = a_module([UNARY] * 2, names={0: "n" * 1_000_000})
    text = "".join(function(index, "ret i32 %x", lines=False) for index in range(2))
    data = bytearray(build(module, a_plan(module), [compile_ir(text)], PROVENANCE))
    info = read_artifact(bytes(data))
    functions = info.header["functions_rva"]
    name = STRUCTS["function"].fields["name"].offset
    first = struct.unpack_from("<I", data, functions + name)[0]
    strings = info.header["strings_rva"]
    struct.pack_into("<I", data, strings + first + 8, 0x000E4141)
    struct.pack_into("<I", data, functions + STRUCTS["function"].size + name, first + 8)
    start = time.process_time()
    with pytest.raises(ArtifactError, match="overlaps others"):
        read_artifact(bytes(data))
    assert time.process_time() - start < 1
