"""lucet.compile.elf, link and unwind: object files from LLVM become one shared object that needs no dynamic linking."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lucet.compile import elf, link, unwind
from lucet.errors import CompilerFailed
from tests.unit.objects import compile_ir, function


def shared_object(objects: Sequence[bytes], exported: str = "f0") -> bytes:
    """The smallest caller of the linker step: code, constants, unwind tables, one exported symbol."""
    merged = link.merge([elf.read_relocatable(data) for data in objects])
    out = elf.SharedObject("exported")
    text, rodata, eh_frame = (merged.areas[name] for name in (link.TEXT, link.RODATA, link.EH_FRAME))
    eh_frame.data += unwind.TERMINATOR
    out.begin_segment(elf.PF_R | elf.PF_X)
    sections = {link.TEXT: out.add(".text", text.data, alignment=text.alignment)}
    out.begin_segment(elf.PF_R)
    sections[link.RODATA] = out.add(".rodata", rodata.data, alignment=rodata.alignment)
    sections[link.EH_FRAME] = out.add(".eh_frame", eh_frame.data, alignment=8)
    link.relocate(merged, {area: section.offset for area, section in sections.items()}, {})
    hdr = unwind.eh_frame_hdr(eh_frame.data, sections[link.EH_FRAME].offset, out.position(4))
    hdr_section = out.add(".eh_frame_hdr", hdr, alignment=4)
    definition = merged.symbols[exported]
    symbols = [
        elf.OutputSymbol(name, sections[one.area], one.offset, one.size, one.type)
        for name, one in merged.symbols.items()
    ]
    place = (sections[definition.area], definition.offset, definition.size)
    file, _ = out.finish(exported=place, symbols=symbols, eh_frame_hdr=hdr_section, debug={})
    return bytes(file)


def loaded(path: Path, data: bytes) -> Callable[[int], int]:
    """The exported function, of a file that must not exist: the dynamic loader knows files by their inodes."""
    with path.open("xb") as file:
        file.write(data)
    exported = ctypes.CDLL(str(path)).exported
    exported.restype = ctypes.c_int32
    exported.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    return lambda argument: int(exported(None, argument))


def readelf(path: Path, *options: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    command = ["readelf", "-W", *options, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "arning" not in result.stderr, result.stderr
    return result.stdout


ADD_ONE = function(0, "%r = add i32 %x, 1\nret i32 %r", lines=False)

CALLS_F1 = "declare hidden i32 @f1(ptr, i32)\n" + function(
    0, "%r = call i32 @f1(ptr %vm, i32 %x)\n%s = add i32 %r, 1\nret i32 %s", lines=False
)

SWITCH = function(
    0,
    "entry:\n  switch i32 %x, label %other [ "
    + " ".join(f"i32 {i}, label %case{i}" for i in range(8))
    + " ]\n"
    + "".join(f"case{i}:\n  store volatile i32 {i}, ptr %p{i}\n  ret i32 {i * i * 7 + 3}\n" for i in range(8))
    + "other:\n  ret i32 -1",
    lines=False,
).replace("entry:\n", "entry:\n" + "".join(f"  %p{i} = alloca i32\n" for i in range(8)))


def test_calls_run(tmp_path: Path) -> None:
    assert loaded(tmp_path / "a.so", shared_object([compile_ir(ADD_ONE)]))(41) == 42


def test_references_across_objects(tmp_path: Path) -> None:
    last = function(2, "%r = mul i32 %x, 10\nret i32 %r", lines=False)
    middle = "declare hidden i32 @f2(ptr, i32)\n" + function(
        1, "%r = call i32 @f2(ptr %vm, i32 %x)\n%s = sub i32 %r, 5\nret i32 %s", lines=False
    )
    objects = [compile_ir(text) for text in (CALLS_F1, last, middle)]
    assert loaded(tmp_path / "a.so", shared_object(objects))(4) == 36


@pytest.mark.parametrize("opt", [0, 1, 2])
def test_jump_tables(tmp_path: Path, opt: int) -> None:
    data = compile_ir(SWITCH, opt=opt)
    if opt:
        assert any(section.name == ".rodata" for section in elf.read_relocatable(data).sections), (
            "no jump table to test"
        )
    # An object in front moves the table and the code.
    objects = [compile_ir(function(1, "ret i32 %x", lines=False)), data]
    run = loaded(tmp_path / "a.so", shared_object(objects))
    assert [run(x) for x in range(-1, 9)] == [-1, *(i * i * 7 + 3 for i in range(8)), -1]


def test_constant_pools_of_every_alignment(tmp_path: Path) -> None:
    """.rodata.cst4, 8, 16 and 32 of several objects, each at its alignment (an unaligned aligned load faults)."""

    def body(factor: float) -> str:
        return (
            "%d = sitofp i32 %x to double\n"
            f"%e = fmul double %d, {factor}\n"
            "%f = fptrunc double %e to float\n"
            "%g = fadd float %f, 0x3FB99999A0000000\n"
            "%v = insertelement <4 x i32> undef, i32 %x, i32 0\n"
            "%w = shufflevector <4 x i32> %v, <4 x i32> undef, <4 x i32> zeroinitializer\n"
            "%y = mul <4 x i32> %w, <i32 3, i32 5, i32 7, i32 11>\n"
            "%z = call i32 @llvm.vector.reduce.add.v4i32(<4 x i32> %y)\n"
            "%h = fptosi float %g to i32\n"
            "%r = add i32 %h, %z\n"
        )

    declaration = "declare i32 @llvm.vector.reduce.add.v4i32(<4 x i32>)\ndeclare hidden i32 @f1(ptr, i32)\n"
    first = declaration + function(
        0, body(2.5) + "%s = call i32 @f1(ptr %vm, i32 %x)\n%t = sub i32 %s, %r\nret i32 %t", lines=False
    )
    second = declaration.replace("declare hidden i32 @f1(ptr, i32)\n", "") + function(
        1, body(7.5) + "ret i32 %r", lines=False
    )
    objects = [compile_ir(first), compile_ir(second)]
    names = {section.name for data in objects for section in elf.read_relocatable(data).sections}
    assert {".rodata.cst4", ".rodata.cst8", ".rodata.cst16"} <= names
    assert loaded(tmp_path / "a.so", shared_object(objects))(100) == 500


def test_addresses_of_functions(tmp_path: Path) -> None:
    """lea of a symbol of another object."""
    text = "declare hidden i32 @f1(ptr, i32)\n" + function(
        0,
        "%p = alloca ptr\nstore volatile ptr @f1, ptr %p\n%q = load volatile ptr, ptr %p\n"
        "%r = call i32 %q(ptr %vm, i32 %x)\nret i32 %r",
        lines=False,
    )
    other = function(1, "%r = xor i32 %x, -1\nret i32 %r", lines=False)
    assert loaded(tmp_path / "a.so", shared_object([compile_ir(text), compile_ir(other)]))(5) == -6


GOT_ACCESSES = {
    "mov": "%p = alloca ptr\nstore volatile ptr @f1, ptr %p\n%q = load volatile ptr, ptr %p\n"
    "%r = call i32 %q(ptr %vm, i32 %x)\nret i32 %r",
    "call": "%r = call i32 @f1(ptr %vm, i32 %x)\n%s = sub i32 %r, 0\nret i32 %s",
    "jmp": "%r = tail call i32 @f1(ptr %vm, i32 %x)\nret i32 %r",
}


@pytest.mark.parametrize("access", GOT_ACCESSES)
def test_accesses_through_the_got_become_direct(tmp_path: Path, access: str) -> None:
    """A symbol that is not hidden and nonlazybind is reached through the GOT, which an artifact has not."""
    text = "declare i32 @f1(ptr, i32) nonlazybind\n" + function(0, GOT_ACCESSES[access], lines=False)
    if access == "call":
        text = text.replace("%s = sub i32 %r, 0\nret i32 %s", "%s = add i32 %r, %x\n%t = sub i32 %s, %x\nret i32 %t")
    if access == "call":
        text = text.replace("%s = add", 'call void asm sideeffect "", ""()\n%s = add')
    data = compile_ir(text)
    kinds = {
        info & 0xFFFFFFFF
        for section in elf.read_relocatable(data).sections
        for _, info, _ in elf.RELA.iter_unpack(section.relocations)
    }
    assert kinds & {41, 42}, "no access through the GOT to test"
    other = function(1, "%r = xor i32 %x, -1\nret i32 %r", lines=False)
    assert loaded(tmp_path / "a.so", shared_object([data, compile_ir(other)]))(5) == -6


def test_other_accesses_through_the_got_are_refused() -> None:
    data = bytearray(b"\x48\x3b\x05\0\0\0\0")  # cmp foo@GOTPCREL(%rip), %rax
    with pytest.raises(CompilerFailed, match="instruction 3b05"):
        link._relax(memoryview(data), 3)


def test_nothing_is_left_for_the_dynamic_loader(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(shared_object([compile_ir(SWITCH), compile_ir(function(1, "ret i32 %x", lines=False))]))
    assert "There are no relocations in this file." in readelf(path, "-r")
    dynamic = readelf(path, "-d")
    assert set(re.findall(r"\(([A-Z_]+)\)", dynamic)) == {"GNU_HASH", "STRTAB", "SYMTAB", "STRSZ", "SYMENT", "NULL"}
    segments = readelf(path, "-l")
    loads = re.findall(r"^ +LOAD .*? (R[ W][ E]) 0x1000$", segments, re.M)
    assert loads == ["R  ", "R E", "R  ", "RW "]
    relro, writable = (re.search(rf"^ +{kind} +(\S+) .*", segments, re.M) for kind in ("GNU_RELRO", "DYNAMIC"))
    assert relro is not None and writable is not None and relro[1] == writable[1], "writable data is not made read-only"
    assert re.search(r"^ +GNU_STACK .* RW ", segments, re.M)


def test_section_headers_are_sane(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(shared_object([compile_ir(SWITCH)]))
    headers = readelf(path, "-S")
    rows = re.findall(r"^ +\[ *\d+\] (\.\S+) +\S+ +([0-9a-f]+) ([0-9a-f]+) ", headers, re.M)
    assert [name for name, _, _ in rows[:5]] == [".dynsym", ".gnu.hash", ".dynstr", ".text", ".rodata"]
    assert all(address == "0" * 16 or int(address, 16) == int(offset, 16) for _, address, offset in rows)
    for options in (["-s"], ["--dyn-syms"], ["-I"], ["--debug-dump=frames"]):
        readelf(path, *options)


def test_unwind_table_is_sorted_and_complete() -> None:
    objects = [compile_ir(function(index, "ret i32 %x", lines=False)) for index in range(5)]
    merged = link.merge([elf.read_relocatable(data) for data in objects])
    frames = merged.areas[link.EH_FRAME].data
    frames += unwind.TERMINATOR
    text_address, frames_address, hdr_address = 0x1000, 0x8000, 0x9000
    link.relocate(merged, {link.TEXT: text_address, link.RODATA: 0x4000, link.EH_FRAME: frames_address}, {})
    hdr = unwind.eh_frame_hdr(frames, frames_address, hdr_address)
    assert hdr[:4] == bytes([1, 0x1B, 0x03, 0x3B])
    pointer, count = struct.unpack_from("<iI", hdr, 4)
    assert (hdr_address + 4 + pointer, count) == (frames_address, 5)
    codes = [hdr_address + code for code, _ in struct.iter_unpack("<ii", hdr[12:])]
    assert codes == [text_address + merged.symbols[f"f{index}"].offset for index in range(5)]


def test_output_depends_on_the_input_only() -> None:
    objects = [compile_ir(CALLS_F1), compile_ir(function(1, "ret i32 %x", lines=False))]
    assert shared_object(objects) == shared_object([bytes(bytearray(data)) for data in objects])
    assert shared_object(objects) != shared_object(objects[::-1])


def test_an_undefined_symbol_is_named() -> None:
    with pytest.raises(CompilerFailed, match=r"undefined symbol f1, referenced from \.text"):
        shared_object([compile_ir(CALLS_F1)])


def test_a_library_call_is_named() -> None:
    text = "declare double @llvm.sin.f64(double)\n" + function(
        0,
        "%d = sitofp i32 %x to double\n%s = call double @llvm.sin.f64(double %d)\n"
        "%r = fptosi double %s to i32\nret i32 %r",
        lines=False,
    )
    with pytest.raises(CompilerFailed, match="undefined symbol sin"):
        shared_object([compile_ir(text)])


def test_a_symbol_defined_twice_is_named() -> None:
    with pytest.raises(CompilerFailed, match="symbol f0 is defined twice"):
        link.merge([elf.read_relocatable(compile_ir(ADD_ONE))] * 2)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("@g = hidden global i32 5", r"writable data: section \.data, 4 bytes"),
        ("@g = hidden global i32 0", r"writable data: section \.bss, 4 bytes"),
        ("@g = hidden thread_local global i32 5", r"writable data: section \.tdata"),
        ("@g = hidden constant ptr @f0", r"writable data: section \.data\.rel\.ro"),
        (
            "@llvm.global_ctors = appending global [1 x {i32, ptr, ptr}] [{i32, ptr, ptr} {i32 1, ptr @f0, ptr null}]",
            r"writable data: section \.ctors",
        ),
        ("$c = comdat any\ndefine void @c() comdat { ret void }", "section groups"),
        (
            "define ptr @r() { ret ptr @f0 }\n@i = ifunc i32 (ptr, i32), ptr @r",
            "symbol i is not a function or a constant",
        ),
    ],
)
def test_what_an_artifact_cannot_have(declaration: str, message: str) -> None:
    with pytest.raises(CompilerFailed, match=message):
        link.merge([elf.read_relocatable(compile_ir(declaration + "\n" + ADD_ONE))])


def test_absolute_addresses_are_refused() -> None:
    data = compile_ir(SWITCH, reloc="static")
    with pytest.raises(CompilerFailed, match=r"section \.(text|rodata) needs relocation R_X86_64_(32S|64)"):
        shared_object([data])


@pytest.mark.parametrize("size", [0, 10, 63, 64, 300, 700])
def test_a_truncated_object_is_the_compilers_fault(size: int) -> None:
    with pytest.raises(CompilerFailed):
        elf.read_relocatable(compile_ir(ADD_ONE)[:size])


def test_a_shared_object_is_not_an_object_file() -> None:
    with pytest.raises(CompilerFailed, match="not a relocatable"):
        elf.read_relocatable(shared_object([compile_ir(ADD_ONE)]))


def test_a_reference_outside_its_section_is_refused() -> None:
    one = elf.read_relocatable(compile_ir(CALLS_F1))
    symbol = [one.name for one in one.symbols].index(b"f1")
    sections = [
        dataclasses.replace(section, relocations=memoryview(elf.RELA.pack(section.size - 3, symbol << 32 | 2, 0)))
        if section.name == ".text"
        else section
        for section in one.sections
    ]
    merged = link.merge([dataclasses.replace(one, sections=sections)])
    with pytest.raises(CompilerFailed, match=r"a reference in \.text is out of range"):
        link.relocate(merged, {link.TEXT: 0, link.RODATA: 0, link.EH_FRAME: 0}, {"f1": 0})


def test_gaps_in_the_code_trap() -> None:
    objects = [compile_ir(function(index, "ret i32 %x", lines=False)) for index in range(2)]
    merged = link.merge([elf.read_relocatable(data) for data in objects])
    first, second = merged.symbols["f0"], merged.symbols["f1"]
    gap = merged.areas[link.TEXT].data[first.offset + first.size : second.offset]
    assert gap and set(gap) == {0xCC}
