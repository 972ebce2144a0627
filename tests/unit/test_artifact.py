"""lucet.compile.artifact: from modules, plans and object files to shared objects, read back and run."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import lucet
from lucet.abi.artifact_reader import NONE, ArtifactInfo, Location, is_intact, read_artifact
from lucet.abi.tables import CONSTANTS, STRUCTS
from lucet.compile.artifact import build
from lucet.compile.plan import DataPlan, ElemPlan, GlobalPlan, ImageRun, MemoryPlan, TablePlan
from lucet.errors import CompilerFailed
from lucet.wasm.module import Export, FuncIdx, FunctionBody, Import, Module, TypeIdx
from lucet.wasm.types import (
    EXTERNREF,
    F64,
    FUNCREF,
    I32,
    I64,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    ValType,
)
from tests.unit.objects import BINARY64, PROVENANCE, UNARY, a_module, a_plan, compile_ir, function, with_lines

FLAG_IMPORTED, FLAG_STATIC, FLAG_MUTABLE = (
    CONSTANTS[f"LUCET_FLAG_{name}"] for name in ("IMPORTED", "STATIC", "MUTABLE")
)
PAGE = 4096

F0 = function(0, "%r = add i32 %x, 100, !dbg LINE(0:7)\nret i32 %r, !dbg LINE(0:9)")
F1 = function(
    1,
    "%a = load volatile i64, ptr %vm, !dbg LINE(1:3)\n%r = mul i64 %p, %q, !dbg LINE(1:5)\n"
    "%s = add i64 %r, %a, !dbg LINE(1:5)\nret i64 %s, !dbg LINE(1:6)",
    result="i64",
    params="ptr %vm, i64 %p, i64 %q",
)
OBJECTS = [compile_ir(with_lines(F0, [0])), compile_ir(with_lines(F1, [1]))]
MODULE = a_module([UNARY, BINARY64], exports={"run": 0, "other": 1, "again": 0}, names={1: "multiply add"})


class Loaded:
    """An artifact in this process."""

    def __init__(self, path: Path, data: bytes) -> None:
        with path.open("xb") as file:
            file.write(data)
        self.path = path
        self.info = read_artifact(data)
        library = ctypes.CDLL(str(path))
        header = ctypes.addressof(ctypes.c_char.in_dll(library, "lucet_module"))
        self._library = library
        self.base = header - self.info.header["self_rva"]

    def call(self, rva: int, result: type, *arguments: tuple[type, object]) -> object:
        prototype = ctypes.CFUNCTYPE(result, *[kind for kind, _ in arguments])
        return prototype(self.base + rva)(*[value for _, value in arguments])

    def bytes_at(self, rva: int, size: int) -> bytes:
        return ctypes.string_at(self.base + rva, size)


def test_functions_run(tmp_path: Path) -> None:
    loaded = Loaded(tmp_path / "a.so", build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE))
    first, second = loaded.info.functions
    assert loaded.call(first["code_rva"], ctypes.c_int32, (ctypes.c_void_p, None), (ctypes.c_int32, 5)) == 105
    memory = ctypes.c_int64(1000)
    arguments = [(ctypes.c_void_p, ctypes.addressof(memory)), (ctypes.c_int64, 6), (ctypes.c_int64, 7)]
    assert loaded.call(second["code_rva"], ctypes.c_int64, *arguments) == 1042


def test_the_loaded_header_is_the_one_in_the_file(tmp_path: Path) -> None:
    loaded = Loaded(tmp_path / "a.so", build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE))
    rva = loaded.info.header["self_rva"]
    assert loaded.bytes_at(rva, 256) == bytes(loaded.info.span(rva, 256))


def test_header() -> None:
    data = build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE)
    header = read_artifact(data).header
    assert header["magic"].to_bytes(8, "little") == b"LUCETSO\0"
    assert (header["producer"], header["cpu_name"]) == ("a test", "x86-64")
    assert header["source_digest"] == bytes(range(32))
    assert header["file_size"] == len(data)
    assert header["load_size"] % PAGE == 0 and header["load_size"] < len(data)
    assert header["text_rva"] % PAGE == 0
    assert header["init_rva"] == 0
    assert header["start_function"] == NONE


def test_functions_and_exports() -> None:
    info = read_artifact(build(MODULE, a_plan(MODULE, ref_offsets={1: -104}), OBJECTS, PROVENANCE))
    assert [row["name"] for row in info.functions] == ["run", "multiply add"]
    assert [row["wasm_offset"] for row in info.functions] == [1000, 2000]
    assert [row["ref_offset"] for row in info.functions] == [0, -104]
    assert [row["tail_rva"] for row in info.functions] == [0, 0]
    assert [(row["name"], row["kind"], row["index"]) for row in info.exports] == [
        ("run", 0, 0),
        ("other", 0, 1),
        ("again", 0, 0),
    ]
    assert info.refs == ({"function": 1, "offset": -104},)


def test_types_are_canonical() -> None:
    module = a_module([UNARY, BINARY64])
    info = read_artifact(build(module, a_plan(module), OBJECTS, PROVENANCE))
    assert [info.valtypes(index) for index in range(2)] == [(b"\x7f", b"\x7f"), (b"\x7e\x7e", b"\x7e")]
    assert [row["id"] for row in info.types] == [UNARY.type_id(), BINARY64.type_id()]
    assert [row["type"] for row in info.functions] == [0, 1]
    assert [row["entry_rva"] for row in info.types] == [0, 0]
    assert [row["name"] for row in info.functions] == [None, None]


def test_types_that_refer_to_types() -> None:
    itself = FuncType((ValType("(ref null #rec.0)"), I32), (FUNCREF,))
    other = FuncType((), (itself.ref(), FUNCREF))
    module = a_module([itself, other])
    info = read_artifact(build(module, a_plan(module), OBJECTS, PROVENANCE))
    assert [info.valtypes(index) for index in (0, 1)] == [(b"\x63\x7f", b"\x70"), (b"", b"\xe3\x70")]
    assert info.type_ids(0) == (itself.type_id(), 0, 0)
    assert info.type_ids(1) == (itself.type_id(), 0)


def test_entry_trampolines(tmp_path: Path) -> None:
    entry = (
        "define hidden void @e0(ptr %vm, ptr %code, ptr %slots) nounwind uwtable {\n"
        "%x = load i32, ptr %slots\n%r = call i32 %code(ptr %vm, i32 %x)\nstore i32 %r, ptr %slots\nret void\n}\n"
    )
    plan = a_plan(MODULE, entry_types=(0,))
    loaded = Loaded(tmp_path / "a.so", build(MODULE, plan, [*OBJECTS, compile_ir(entry)], PROVENANCE))
    slots = (ctypes.c_uint64 * 1)(41)
    code = loaded.base + loaded.info.functions[0]["code_rva"]
    arguments = [(ctypes.c_void_p, None), (ctypes.c_void_p, code), (ctypes.c_void_p, ctypes.addressof(slots))]
    loaded.call(loaded.info.types[0]["entry_rva"], ctypes.c_int32, *arguments)
    assert slots[0] == 141
    assert loaded.info.types[1]["entry_rva"] == 0


def test_imports() -> None:
    module = Module(
        types=(UNARY, UNARY, BINARY64),
        imports=(
            Import(module="env", field="memory", desc=MemoryType(limits=Limits(minimum=1)), offset=0),
            Import(module="env", field="f", desc=TypeIdx(2), offset=0),
            Import(module="env", field="g", desc=GlobalType(valtype=I64, mutable=False), offset=0),
            Import(module="other", field="f", desc=TypeIdx(1), offset=0),
            Import(module="env", field="t", desc=TableType(reftype=FUNCREF, limits=Limits(minimum=0)), offset=0),
        ),
        funcs=(TypeIdx(0),),
        all_funcs=(TypeIdx(2), TypeIdx(1), TypeIdx(0)),
        bodies=(FunctionBody(offset=77, body=b"\0\x0b"),),
        func_names={1: "named"},
        start=FuncIdx(2),
    )
    memory = MemoryPlan(minimum=1, maximum=1, imported=True, checked=False, offset=-72, reserved=1 << 32, guard=1 << 25)
    plan = a_plan(
        module,
        import_offsets=(-72, -96, -104, -120, -128),
        function_imports=(-96, -120),
        memories=(memory,),
        globals=(
            GlobalPlan(
                valtype=I64, imported=True, mutable=False, indirect=False, observable=False, offset=-104, constant=None
            ),
        ),
        tables=(TablePlan(reftype=FUNCREF, minimum=0, maximum=None, imported=True, offset=-128, entries=None),),
    )
    objects = [
        compile_ir("".join(function(index, "ret i32 %x", lines=False) for index in range(2))),
        compile_ir(with_lines(function(2, "ret i32 %x, !dbg LINE(2:4)"), [2])),
    ]
    info = read_artifact(build(module, plan, objects, PROVENANCE))
    assert [tuple(row.values()) for row in info.imports[1:4]] == [
        ("env", "f", CONSTANTS["LUCET_KIND_FUNC"], 0, 1, -96),
        ("env", "g", CONSTANTS["LUCET_KIND_GLOBAL"], 0, NONE, -104),
        ("other", "f", CONSTANTS["LUCET_KIND_FUNC"], 1, 0, -120),
    ]
    assert [row["kind"] for row in info.imports] == [2, 0, 3, 0, 1]
    assert [row["name"] for row in info.functions] == ["env.f", "named", None]
    assert [row["wasm_offset"] for row in info.functions] == [0, 0, 77]
    assert [row["lines"] == NONE for row in info.functions] == [True, True, False]
    assert info.header["start_function"] == 2


def test_memories_globals_tables() -> None:
    plan = a_plan(
        MODULE,
        memories=(
            MemoryPlan(
                minimum=2, maximum=None, imported=True, checked=False, offset=-72, reserved=1 << 32, guard=1 << 25
            ),
            MemoryPlan(minimum=0, maximum=5, imported=False, checked=True, offset=0, reserved=0, guard=0),
        ),
        globals=(
            GlobalPlan(
                valtype=F64, imported=True, mutable=True, indirect=True, observable=True, offset=-80, constant=None
            ),
            GlobalPlan(
                valtype=I32, imported=False, mutable=False, indirect=False, observable=False, offset=-88, constant=7
            ),
            GlobalPlan(
                valtype=UNARY.ref(nullable=True),
                imported=False,
                mutable=False,
                indirect=False,
                observable=False,
                offset=-112,
                constant=0,
            ),
        ),
        tables=(
            TablePlan(reftype=EXTERNREF, minimum=3, maximum=None, imported=True, offset=-96, entries=None),
            TablePlan(reftype=UNARY.ref(), minimum=0, maximum=0, imported=False, offset=-104, entries=None),
        ),
    )
    info = read_artifact(build(MODULE, plan, OBJECTS, PROVENANCE))
    most = 2**64 - 1
    assert [list(row.values()) for row in info.memories] == [
        [2, most, 1 << 32, 1 << 25, FLAG_IMPORTED, -72, 16, 0],
        [0, 5, 0, 0, CONSTANTS["LUCET_FLAG_CHECKED"], 0, 16, 0],
    ]
    assert [list(row.values()) for row in info.globals] == [
        [0x7C, FLAG_IMPORTED | FLAG_MUTABLE | CONSTANTS["LUCET_FLAG_INDIRECT"], -80, 0, 0],
        [0x7F, 0, -88, 0, 0],
        [0x63, 0, -112, 0, UNARY.type_id()],
    ]
    assert [list(row.values()) for row in info.tables] == [
        [3, most, 0x6F, FLAG_IMPORTED, -96, 0, 0],
        [0, 0, 0xE3, 0, -104, 0, UNARY.type_id()],
    ]


def static_table(*entries: int | None) -> TablePlan:
    return TablePlan(
        reftype=FUNCREF, minimum=len(entries), maximum=len(entries), imported=False, offset=0, entries=entries
    )


def test_static_tables(tmp_path: Path) -> None:
    """Code finds its table, and from there the functions, by 32-bit differences only."""
    caller = (
        "@table1 = external hidden constant [0 x { i32, i32 }]\n"
        "define hidden i32 @f0(ptr %vm, i32 %x) nounwind uwtable {\n"
        "%e = getelementptr { i32, i32 }, ptr @table1, i32 %x\n"
        "%t = load i32, ptr %e\n"
        "%n = icmp eq i32 %t, 0\n"
        "br i1 %n, label %null, label %call\n"
        "null:\nret i32 -1\n"
        "call:\n"
        "%c = getelementptr i8, ptr %e, i64 4\n"
        "%d = load i32, ptr %c\n"
        "%w = sext i32 %d to i64\n"
        "%code = getelementptr i8, ptr @table1, i64 %w\n"
        "%r = call i32 %code(ptr %vm, i32 %x)\n"
        "ret i32 %r\n}\n"
    )
    module = a_module([UNARY] * 3)
    other = "".join(function(index, f"ret i32 {index * 11}", lines=False) for index in (1, 2))
    plan = a_plan(module, tables=(static_table(0), static_table(2, None, 1, 2)))
    data = build(module, plan, [compile_ir(caller), compile_ir(other)], PROVENANCE)
    loaded = Loaded(tmp_path / "a.so", data)
    info = loaded.info
    results = [
        loaded.call(info.functions[0]["code_rva"], ctypes.c_int32, (ctypes.c_void_p, None), (ctypes.c_int32, index))
        for index in range(4)
    ]
    assert results == [22, -1, 11, 22]
    codes = [row["code_rva"] for row in info.functions]
    assert info.static_entries(0) == [(0, codes[0])]
    assert info.static_entries(1) == [(0, codes[2]), None, (0, codes[1]), (0, codes[2])]
    assert [row["flags"] for row in info.tables] == [FLAG_STATIC] * 2
    assert STRUCTS["static_entry"].unpack(info.span(info.tables[1]["static_rva"] + 8, 8)) == {"type": 0, "code": 0}


def test_segments() -> None:
    plan = a_plan(
        MODULE,
        elems=(
            ElemPlan(reftype=FUNCREF, items=(1, -1, -2, 0), offset=-72),
            ElemPlan(reftype=EXTERNREF, items=(), offset=-80),
        ),
        datas=(
            DataPlan(bytes=b"first", offset=-88),
            DataPlan(bytes=b"", offset=-96),
            DataPlan(bytes=b"second", offset=-104),
        ),
        template=bytes(range(128)),
        instance_size=128,
    )
    info = read_artifact(build(MODULE, plan, OBJECTS, PROVENANCE))
    assert [info.elem_items(index) for index in range(2)] == [(1, -1, -2, 0), ()]
    assert [(row["reftype"], row["offset"]) for row in info.elems] == [(0x70, -72), (0x6F, -80)]
    datas = [(bytes(info.span(row["bytes_rva"], row["bytes_count"])), row["offset"]) for row in info.datas]
    assert datas == [(b"first", -88), (b"", -96), (b"second", -104)]
    header = info.header
    assert bytes(info.span(header["template_rva"], header["instance_size"])) == bytes(range(128))


def test_images_can_be_mapped(tmp_path: Path) -> None:
    runs = (
        ImageRun(heap_offset=0, bytes=b"a" * PAGE),
        ImageRun(heap_offset=5 * PAGE, bytes=b"b" * (2 * PAGE)),
    )
    data = build(MODULE, a_plan(MODULE, images=runs), OBJECTS, PROVENANCE)
    loaded = Loaded(tmp_path / "a.so", data)
    for run, row in zip(runs, loaded.info.images, strict=True):
        assert (row["heap_offset"], row["size"], row["rva"] % PAGE) == (run.heap_offset, len(run.bytes), 0)
        # The offset in the file is the rva.
        assert data[row["rva"] : row["rva"] + row["size"]] == run.bytes
        assert loaded.bytes_at(row["rva"], row["size"]) == run.bytes


def test_images_are_made_of_pages() -> None:
    with pytest.raises(ValueError, match="image run at 0x1000 of 10 bytes"):
        build(MODULE, a_plan(MODULE, images=(ImageRun(heap_offset=PAGE, bytes=b"a" * 10),)), OBJECTS, PROVENANCE)


def test_init() -> None:
    plan = a_plan(MODULE, init_globals=(0,))
    with pytest.raises(CompilerFailed, match="no object file defines init"):
        build(MODULE, plan, OBJECTS, PROVENANCE)
    init = compile_ir("define hidden void @init(ptr %vm) nounwind uwtable { ret void }\n")
    info = read_artifact(build(MODULE, plan, [*OBJECTS, init], PROVENANCE))
    assert bytes(info.span(info.header["init_rva"], 1)) == b"\xc3"


def test_a_missing_function_is_named() -> None:
    with pytest.raises(CompilerFailed, match="no object file defines f1"):
        build(MODULE, a_plan(MODULE), OBJECTS[:1], PROVENANCE)


def test_tail_calls() -> None:
    """The body is t<index>; f<index> is there for functions that someone outside can call."""
    text = (
        with_lines(F0.replace("@f0", "@t0").replace("nounwind", "nounwind"), [0]),
        with_lines(F1.replace("@f1", "@t1"), [1]),
        function(0, "ret i32 %x", lines=False),
    )
    objects = [compile_ir(one) for one in text]
    plan = a_plan(MODULE, tail_calls=True, escapes=frozenset({0}), tables=(static_table(1, 0),))
    info = read_artifact(build(MODULE, plan, objects, PROVENANCE))
    assert [bool(row["code_rva"]) for row in info.functions] == [True, False]
    bodies = [row["tail_rva"] for row in info.functions]
    assert [info.body(index)[0] for index in range(2)] == bodies
    assert info.static_entries(0) == [(1, bodies[1]), (0, bodies[0])]
    assert info.locate(bodies[1]) is not None
    assert info.locate(info.functions[0]["code_rva"]) is None


def test_locate() -> None:
    info = read_artifact(build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE))
    start, end = info.body(1)
    code = bytes(info.span(start, end - start))
    multiply = start + code.index(b"\x0f\xaf")
    assert info.locate(multiply) == Location(function=1, offset=2004)
    assert info.locate(end - 1) == Location(function=1, offset=2005)
    assert info.locate(info.header["text_rva"] - 1) is None
    assert info.locate(end) is None or end < info.header["text_rva"] + info.header["text_size"]
    assert info.locate(info.header["text_rva"] + info.header["text_size"]) is None


def test_a_module_with_nothing_in_it() -> None:
    module = Module()
    info = read_artifact(build(module, a_plan(module), [], PROVENANCE))
    assert (info.functions, info.types, info.exports) == ((), (), ())


def test_an_empty_module_loads(tmp_path: Path) -> None:
    module = Module()
    loaded = Loaded(tmp_path / "a.so", build(module, a_plan(module), [], PROVENANCE))
    assert loaded.info.header["functions_count"] == 0


def test_the_result_depends_on_the_arguments_only() -> None:
    assert build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE) == build(
        a_module([UNARY, BINARY64], exports={"run": 0, "other": 1, "again": 0}, names={1: "multiply add"}),
        a_plan(MODULE),
        [bytes(bytearray(one)) for one in OBJECTS],
        PROVENANCE,
    )


def names_in_symtab(path: Path) -> list[str]:
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    command = ["readelf", "-W", "-s", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not output.stderr
    table = output.stdout.split("'.symtab'")[1]
    return re.findall(r"(?:FUNC|OBJECT) +(?:LOCAL|GLOBAL) +DEFAULT +\d+ (.*)", table)


def test_symbols_have_peoples_names(tmp_path: Path) -> None:
    module = a_module([UNARY, BINARY64, UNARY, UNARY], exports={"run": 3}, names={0: "add\nhundred"})
    objects = [
        *OBJECTS,
        compile_ir("".join(function(index, "ret i32 %x", lines=False) for index in (2, 3))),
        compile_ir("define hidden void @e0(ptr %vm, ptr %code, ptr %slots) nounwind uwtable { ret void }\n"),
        compile_ir("define internal i32 @f2.part.0(i32 %x) noinline nounwind uwtable { ret i32 %x }\n"
                   "@keep = hidden constant i32 1\n"
                   "define hidden i32 @helper(i32 %x) nounwind uwtable "
                   "{ %r = call i32 @f2.part.0(i32 %x) ret i32 %r }\n"),
    ]  # fmt: skip
    plan = a_plan(module, entry_types=(0,), tables=(static_table(0),))
    path = tmp_path / "a.so"
    path.write_bytes(build(module, plan, objects, PROVENANCE))
    assert names_in_symtab(path) == [
        "add?hundred",
        "wasm_function_1",
        "wasm_function_2",
        "run",
        "lucet_entry_0",
        "wasm_function_2.part.0",
        "lucet_helper",
        "lucet_keep",
        "table0",
        "lucet_module",
    ]


def test_only_the_header_is_exported(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE))
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    output = subprocess.run(["nm", "-D", str(path)], capture_output=True, text=True, timeout=30, check=True).stdout
    assert output.split()[1:] == ["R", "lucet_module"]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
def test_gdb_shows_names_and_unwinds(tmp_path: Path) -> None:
    """A backtrace through two guest functions with frames of their own, by .eh_frame alone."""
    module = a_module([UNARY, UNARY, UNARY], names={0: "outer one", 1: "inner one"})
    outer = "declare hidden i32 @f1(ptr, i32)\n" + function(
        0, "%r = call i32 @f1(ptr %vm, i32 %x)\n%s = add i32 %r, 1\nret i32 %s", lines=False
    )
    inner = (
        "declare void @llvm.ubsantrap(i8)\n"
        + function(1, "%p = alloca [9 x i64]\nstore volatile i32 1, ptr %p\n"
                      "call void @llvm.ubsantrap(i8 1)\nunreachable", lines=False)
        + function(2, "ret i32 %x", lines=False)
    )  # fmt: skip
    data = build(module, a_plan(module), [compile_ir(outer), compile_ir(inner)], PROVENANCE)
    path = tmp_path / "a.so"
    path.write_bytes(data)
    info = read_artifact(data)
    program = tmp_path / "call.py"
    program.write_text(
        "import ctypes\n"
        f"header = ctypes.c_char.in_dll(ctypes.CDLL({str(path)!r}), 'lucet_module')\n"
        f"address = ctypes.addressof(header) - {info.header['self_rva']} + {info.functions[0]['code_rva']}\n"
        "ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)(address)(None, 1)\n"
    )
    command = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "run", "-ex", "backtrace 4"]
    command += ["--args", sys.executable, str(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    output = result.stdout + result.stderr
    if "SIGILL" not in output:
        pytest.skip("gdb cannot run programs here")
    frames = re.findall(r"^#(\d) +0x[0-9a-f]+ in (.*?) \(\)", output, re.M)
    assert frames[:2] == [("0", "inner one"), ("1", "outer one")], output
    assert "ffi_call" in output or "#3" in output, output


@pytest.fixture(scope="module")
def whole() -> ArtifactInfo:
    return read_artifact(build(MODULE, a_plan(MODULE), OBJECTS, PROVENANCE))


def test_everything_is_inside_the_loaded_part(whole: ArtifactInfo) -> None:
    assert len(whole.loaded) == whole.header["load_size"]
    for name, value in whole.header.items():
        if name.endswith("_rva"):
            assert value < whole.header["load_size"]


def test_exports_other_than_functions_do_not_name_functions() -> None:
    exports = (Export(name="memory", kind="memory", index=0, offset=0),)
    module = Module(
        types=(UNARY,), funcs=(TypeIdx(0),), all_funcs=(TypeIdx(0),), bodies=MODULE.bodies[:1], exports=exports
    )
    memory = MemoryPlan(minimum=1, maximum=1, imported=False, checked=False, offset=0, reserved=0, guard=0)
    info = read_artifact(build(module, a_plan(module, memories=(memory,)), OBJECTS[:1], PROVENANCE))
    assert info.functions[0]["name"] is None
    assert info.exports[0]["kind"] == CONSTANTS["LUCET_KIND_MEMORY"]


def test_the_sums_of_the_whole_file() -> None:
    data = lucet.compile('(module (memory 1) (data (i32.const 0) "x") (func nop))', workers=1)
    info = read_artifact(data)
    header = info.header["self_rva"]
    fields = STRUCTS["artifact_header"].fields
    checksum, digest = header + fields["checksum"].offset, header + fields["digest"].offset
    blank = bytearray(data)
    blank[checksum : checksum + 4] = bytes(4)
    assert zlib.crc32(blank) == int.from_bytes(data[checksum : checksum + 4], "little")
    blank[digest : digest + 32] = bytes(32)
    assert hashlib.sha256(blank).digest() == data[digest : digest + 32]
    assert is_intact(data, info)
    for at in (info.header["text_rva"], checksum, digest, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert not is_intact(bytes(damaged), read_artifact(bytes(damaged)))
        with pytest.raises(lucet.ArtifactError, match="damaged: its checksum is"):
            lucet.Module.from_bytes(damaged)
