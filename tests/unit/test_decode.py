"""The decoder on hand-written bytes: what it makes of modules, and where and how it refuses what is none."""

from __future__ import annotations

import pickle
import time

import pytest

from lucet import limits
from lucet.errors import CompileError, Invalid, LimitExceeded, Malformed, Unsupported
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Instr, Module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.reader import Reader
from lucet.wasm.types import FuncType, GlobalType, Limits, MemoryType, TableType, ValType, non_null
from tests.unit.wasm_bytes import (
    CODE,
    CUSTOM,
    DATA,
    DATA_COUNT,
    ELEM,
    EXPORT,
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    FUNCTION,
    GLOBAL,
    HEADER,
    I32,
    I64,
    IMPORT,
    MEMORY,
    MEMORY_1,
    START,
    TABLE,
    TAG,
    TYPE,
    body,
    functype,
    module,
    name,
    one_function,
    section,
    u32,
    vector,
)

i32, i64, f32, funcref, externref = map(ValType, ("i32", "i64", "f32", "funcref", "externref"))


def refusal(data: bytes) -> CompileError:
    """The error of decoding the module, or else its function bodies."""
    with pytest.raises(CompileError) as caught:
        decoded = decode_module(data)
        for index in range(decoded.imported_func_count, len(decoded.all_funcs)):
            decode_code(decoded, index)
    return caught.value


def assert_refused(
    data: bytes, kind: type[CompileError], message: str, offset: int, function: int | None = None
) -> None:
    error = refusal(data)
    assert type(error) is kind
    assert isinstance(error, Malformed | Invalid | Unsupported | LimitExceeded)
    assert error.message.startswith(message)
    assert (error.offset, error.function) == (offset, function)


def named(instrs: list[Instr] | tuple[Instr, ...]) -> list[tuple[str, object]]:
    names = {op.code: op.name for op in BY_NAME.values()}
    return [(names[code], immediate) for code, _, immediate in instrs]


def instructions(expression: bytes, **keywords: object) -> list[tuple[str, object]]:
    decoded = decode_module(one_function(expression, **keywords))  # type: ignore[arg-type]
    return named(list(decode_code(decoded, 0).instrs))


class TestIntegers:
    @pytest.mark.parametrize(
        ("encoded", "value"),
        [
            (b"\0", 0),
            (b"\x7f", 127),
            (b"\x80\x01", 128),
            (b"\x80\x80\x80\x80\x00", 0),
            (b"\xff\xff\xff\xff\x0f", 0xFFFFFFFF),
        ],
    )
    def test_u32(self, encoded: bytes, value: int) -> None:
        reader = Reader(encoded)
        assert reader.u32() == value
        assert reader.remaining == 0

    @pytest.mark.parametrize(
        ("encoded", "value"),
        [
            (b"\x3f", 63),
            (b"\x40", -64),
            (b"\x7f", -1),
            (b"\xff\x00", 127),
            (b"\x80\x7f", -128),
            (b"\xff\xff\xff\xff\x07", 0x7FFFFFFF),
            (b"\x80\x80\x80\x80\x78", -0x80000000),
            (b"\xff\xff\xff\xff\x7f", -1),
        ],
    )
    def test_s32(self, encoded: bytes, value: int) -> None:
        assert Reader(encoded).s32() == value

    def test_s33_and_s64_extremes(self) -> None:
        assert Reader(b"\xff\xff\xff\xff\x0f").s33() == 0xFFFFFFFF
        assert Reader(b"\x80\x80\x80\x80\x70").s33() == -(1 << 32)
        assert Reader(b"\xff" * 9 + b"\0").s64() == (1 << 63) - 1
        assert Reader(b"\x80" * 9 + b"\x7f").s64() == -(1 << 63)
        assert Reader(b"\xff" * 9 + b"\1").u64() == (1 << 64) - 1

    @pytest.mark.parametrize(
        ("method", "encoded", "message"),
        [
            ("u32", b"\x80\x80\x80\x80\x80\x00", "integer representation too long"),
            ("u32", b"\xff\xff\xff\xff\x1f", "integer too large"),
            ("u32", b"\x80\x80", "unexpected end"),
            ("s32", b"\x80\x80\x80\x80\x80\x00", "integer representation too long"),
            ("s32", b"\xff\xff\xff\xff\x0f", "integer too large"),
            ("s32", b"\x80\x80\x80\x80\x70", "integer too large"),
            ("s33", b"\xff\xff\xff\xff\x1f", "integer too large"),
            ("u64", b"\x80" * 10 + b"\0", "integer representation too long"),
            ("u64", b"\xff" * 9 + b"\2", "integer too large"),
            ("s64", b"\xff" * 9 + b"\1", "integer too large"),
            ("s64", b"\x80" * 9 + b"\x7e", "integer too large"),
            ("s64", b"", "unexpected end"),
        ],
    )
    def test_bad(self, method: str, encoded: bytes, message: str) -> None:
        with pytest.raises(Malformed, match=message):
            getattr(Reader(encoded), method)()


class TestModule:
    def test_empty(self) -> None:
        assert decode_module(HEADER) == Module()

    @pytest.mark.parametrize(
        ("data", "message", "offset"),
        [
            (b"", "unexpected end", 0),
            (b"\0as", "unexpected end", 3),
            (b"\0ASM\1\0\0\0", "magic header not detected", 0),
            (b"\0asm\2\0\0\0", "unknown binary version", 4),
            (HEADER + b"\x0e\0", "malformed section id", 8),
            (HEADER + b"\1", "unexpected end", 9),
            (HEADER + b"\1\5\0", "length out of bounds", 9),
            (module(section(TYPE, b"\0"), section(TYPE, b"\0")), "unexpected content after last section", 11),
            (module(section(EXPORT, b"\0"), section(GLOBAL, b"\0")), "unexpected content after last section", 11),
            (module(section(CODE, b"\0"), section(DATA_COUNT, b"\0")), "unexpected content after last section", 11),
            (module(section(MEMORY, MEMORY_1 + b"\0")), "section size mismatch", 13),
            (module(section(MEMORY, b"\1")), "unexpected end", 11),
            (module(section(CUSTOM, b"\1\xff")), "malformed UTF-8 encoding", 11),
            (module(section(CUSTOM, b"\3\xed\xa0\x80")), "malformed UTF-8 encoding", 11),
            (module(section(FUNCTION, b"\1\0")), "function and code section have inconsistent lengths", 12),
            (module(section(DATA_COUNT, b"\1")), "data count and data section have inconsistent lengths", 11),
            (module(section(IMPORT, b"\1\0\0\5")), "malformed import kind", 13),
            (module(section(EXPORT, b"\1\0\x80")), "malformed export kind", 12),
            (module(section(GLOBAL, b"\1\x7f\2")), "malformed mutability", 12),
            (module(section(TABLE, b"\1\x70\x08")), "malformed limits flags", 12),
            (module(section(TABLE, b"\1\x70\x02\0")), "malformed limits flags", 12),
            (module(section(TABLE, b"\1\x7f\0\0")), "malformed reference type", 11),
            (module(section(TABLE, b"\1\x40\1\x70\0\0")), "zero byte expected", 12),
            (module(section(TYPE, b"\1\x61")), "malformed definition type", 11),
            (module(section(TYPE, b"\1\xe0\x7f")), "integer representation too long", 11),
            (module(section(TYPE, b"\1\x60\1\x40")), "malformed value type", 13),
            (module(section(ELEM, b"\1\x08")), "malformed elements segment kind", 11),
            (module(section(ELEM, b"\1\1\1")), "malformed element kind", 12),
            (module(section(DATA, b"\1\3")), "malformed data segment kind", 11),
        ],
    )
    def test_malformed(self, data: bytes, message: str, offset: int) -> None:
        assert_refused(data, Malformed, message, offset)

    def test_contents(self) -> None:
        decoded = decode_module(
            module(
                section(TYPE, vector(functype([I32, I64], [F32]), functype([], []))),
                section(
                    IMPORT,
                    vector(
                        name("m") + name("f") + b"\0\1",
                        name("m") + name("t") + b"\1\x6f\1\2\3",
                        name("m") + name("g") + b"\3\x7f\1",
                    ),
                ),
                section(FUNCTION, vector(b"\1")),
                section(TABLE, vector(b"\x70\0\5", b"\x40\0\x70\0\7\xd2\0\x0b")),
                section(MEMORY, b"\1\1\1\2"),
                section(TAG, b"\0"),
                section(GLOBAL, vector(b"\x7e\0\x42\x7f\x0b")),
                section(EXPORT, vector(name("e") + b"\0\1", name("") + b"\2\0")),
                section(START, b"\1"),
                section(ELEM, vector(b"\0\x41\1\x0b\2\0\1")),
                section(DATA_COUNT, b"\2"),
                section(CODE, vector(body(b""))),
                section(DATA, vector(b"\0\x41\4\x0b\2hi", b"\1\1!")),
            )
        )
        assert decoded.types == (FuncType((i32, i64), (f32,)), FuncType())
        assert [(entry.module, entry.field) for entry in decoded.imports] == [("m", "f"), ("m", "t"), ("m", "g")]
        assert (decoded.all_funcs, decoded.funcs, decoded.imported_func_count) == ((1, 1), (1,), 1)
        assert decoded.all_tables == (
            TableType(reftype=externref, limits=Limits(minimum=2, maximum=3)),
            TableType(reftype=funcref, limits=Limits(minimum=5)),
            TableType(reftype=funcref, limits=Limits(minimum=7)),
        )
        assert decoded.tables[0].init is None
        assert named(list(decoded.tables[1].init or ())) == [("ref.func", 0), ("end", None)]
        assert decoded.all_memories == (MemoryType(limits=Limits(minimum=1, maximum=2)),)
        assert decoded.all_globals == (
            GlobalType(valtype=i32, mutable=True),
            GlobalType(valtype=i64, mutable=False),
        )
        assert named(list(decoded.globals[0].init)) == [("i64.const", -1), ("end", None)]
        assert [(export.name, export.kind, export.index) for export in decoded.exports] == [
            ("e", "func", 1),
            ("", "memory", 0),
        ]
        assert decoded.start == 1
        assert decoded.data_count == 2
        assert [(data.mode, data.bytes, data.offset_expr is None) for data in decoded.datas] == [
            ("active", b"hi", False),
            ("passive", b"!", True),
        ]
        assert decoded.declared_refs == {0, 1}
        assert pickle.loads(pickle.dumps(decoded)) == decoded

    def test_memories_and_tables_of_all_kinds(self) -> None:
        imported = section(IMPORT, vector(name("m") + name("m") + b"\2\0\1"))
        memories = section(
            MEMORY, vector(b"\4\1", b"\5\1\x80\x80\x80\x80\x80\x80\x40", b"\x08\3\0", b"\x0d\1\2\x10", b"\3\1\2")
        )
        decoded = decode_module(module(imported, section(TABLE, vector(b"\x70\5\1\2")), memories))
        assert decoded.all_memories == (
            MemoryType(limits=Limits(minimum=1)),
            MemoryType(limits=Limits(minimum=1, index_type=i64)),
            MemoryType(limits=Limits(minimum=1, maximum=1 << 48, index_type=i64)),
            MemoryType(limits=Limits(minimum=3), page_size_log2=0),
            MemoryType(limits=Limits(minimum=1, maximum=2, index_type=i64)),
            MemoryType(limits=Limits(minimum=1, maximum=2), shared=True),
        )
        assert decoded.tables[0].type.limits == Limits(minimum=1, maximum=2, index_type=i64)

    def test_malformed_limits(self) -> None:
        for flags in (0x08, 0x10, 0x80):
            assert_refused(module(section(MEMORY, bytes([1, flags]))), Malformed, "malformed limits flags", 11)
        assert_refused(module(section(MEMORY, b"\1\x08\0\x40")), Malformed, "invalid custom page size 2**64", 13)
        assert_refused(module(section(TABLE, b"\1\x70\x08\0\0")), Malformed, "malformed limits flags", 12)

    @pytest.mark.parametrize(
        ("data", "feature", "offset"),
        [
            (module(section(TYPE, b"\1\x5f\0")), "garbage collection", 11),
            (module(section(TYPE, b"\1\x5e\x78\1")), "garbage collection", 11),
            (module(section(TYPE, b"\1\x60\1\x6e\0")), "garbage collection", 13),
            (module(section(TYPE, b"\1\x4e\2\x60\0\0\x60\0\0")), "garbage collection", 11),
            (module(section(TYPE, b"\1\x4f\1\0\x60\0\0")), "garbage collection", 11),
            (module(section(TYPE, b"\1\x50\0\x60\0\0")), "garbage collection", 11),
        ],
    )
    def test_unsupported(self, data: bytes, feature: str, offset: int) -> None:
        assert_refused(data, Unsupported, f"unsupported feature: {feature}", offset)

    def test_long_form_of_reference_types(self) -> None:
        decoded = decode_module(module(section(TYPE, vector(b"\x60\2\x63\x70\x63\x6f\0"))))
        assert decoded.types == (FuncType((funcref, externref)),)

    @pytest.mark.parametrize(
        ("flags", "head", "expected"),
        [
            (0, b"\x41\0\x0b", ("active", 0, non_null(funcref))),
            (1, b"\0", ("passive", 0, non_null(funcref))),
            (2, b"\3\x41\0\x0b\0", ("active", 3, non_null(funcref))),
            (3, b"\0", ("declarative", 0, non_null(funcref))),
            (4, b"\x41\0\x0b", ("active", 0, funcref)),
            (5, b"\x6f", ("passive", 0, externref)),
            (6, b"\3\x41\0\x0b\x6f", ("active", 3, externref)),
            (7, b"\x70", ("declarative", 0, funcref)),
        ],
    )
    def test_element_segments(self, flags: int, head: bytes, expected: tuple[str, int, ValType]) -> None:
        items = b"\2\5\6" if flags < 4 else b"\2\xd2\5\x0b\xd2\6\x0b"
        (elem,) = decode_module(module(section(ELEM, b"\1" + bytes([flags]) + head + items))).elems
        assert (elem.mode, elem.table, elem.reftype) == expected
        assert [named(tuple(item)) for item in elem.items] == [[("ref.func", x), ("end", None)] for x in (5, 6)]
        assert (elem.offset_expr is None) == (elem.mode != "active")
        assert elem.offset == 11
        first = elem.offset + 1 + len(head) + 1
        assert [item[0][1] for item in elem.items] == [first, first + (1 if flags < 4 else 3)]

    def test_many_function_indices_stay_small(self) -> None:
        count = 100_000
        (elem,) = decode_module(module(section(ELEM, b"\1\1\0" + u32(count) + b"\7" * count))).elems
        assert len(elem.items) == count
        assert named(tuple(elem.items[count - 1])) == [("ref.func", 7), ("end", None)]
        assert [named(tuple(item)) for item in elem.items[:2]] == [[("ref.func", 7), ("end", None)]] * 2
        assert len(pickle.dumps(elem)) < 10 * count

    def test_names(self) -> None:
        names = b"\0" + section(9, name("mod"))[1:] + section(1, vector(b"\2" + name("f"), b"\5" + name("é")))
        decoded = decode_module(module(section(CUSTOM, name("other")), section(CUSTOM, name("name") + names)))
        assert decoded.module_name == "mod"
        assert decoded.func_names == {2: "f", 5: "é"}
        assert [(custom, offset) for custom, _, offset in decoded.customs] == [("other", 16), ("name", 23)]

    @pytest.mark.parametrize("names", [b"\1", b"\1\1\5", b"\1\3\1\0\5", b"\0\4\3\xff\xff\xff", b"\1\2\xff\xff"])
    def test_malformed_names_are_ignored(self, names: bytes) -> None:
        decoded = decode_module(module(section(CUSTOM, name("name") + names)))
        assert (decoded.module_name, decoded.func_names) == (None, {})


class TestCode:
    def test_offsets_and_immediates(self) -> None:
        decoded = decode_module(one_function(b"\x41\x80\x7f\x1a\x10\0"))
        start = decoded.bodies[0].offset + 1
        assert list(decode_code(decoded, 0).instrs) == [
            (BY_NAME["i32.const"].code, start, -128),
            (BY_NAME["drop"].code, start + 3, None),
            (BY_NAME["call"].code, start + 4, 0),
            (BY_NAME["end"].code, start + 6, None),
        ]

    @pytest.mark.parametrize(
        ("expression", "instr"),
        [
            (b"\x41\x40", ("i32.const", -64)),
            (b"\xfd\x23", ("i8x16.eq", None)),
            (b"\xfd\xa3\0", ("i8x16.eq", None)),
            (b"\xfd\xa3\x80\0", ("i8x16.eq", None)),
            (b"\xfd\xb5\x01", ("i32x4.mul", None)),
            (b"\xfd\x93\x02", ("i32x4.relaxed_dot_i8x16_i7x16_add_s", None)),
            (b"\xfd\x0c" + bytes(range(16)), ("v128.const", int.from_bytes(bytes(range(16)), "little"))),
            (b"\xfd\x0d" + bytes(range(16)), ("i8x16.shuffle", tuple(range(16)))),
            (b"\xfd\x18\x07", ("i16x8.extract_lane_s", 7)),
            (b"\xfd\x55\x41\x03\x80\x01\x05", ("v128.load16_lane", (1, 128, 3, 5))),
            (b"\xfc\x13", ("i64.add128", None)),
            (b"\x41\xff\xff\xff\xff\x07", ("i32.const", 0x7FFFFFFF)),
            (b"\x42\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", ("i64.const", -(1 << 63))),
            (b"\x43\1\0\xa0\x7f", ("f32.const", 0x7FA00001)),
            (b"\x44\1\0\0\0\0\0\xf4\x7f", ("f64.const", 0x7FF4000000000001)),
            (b"\x20\x80\x02", ("local.get", 256)),
            (b"\x28\2\x10", ("i32.load", (2, 16, 0))),
            (b"\x28\2\x80\x80\x80\x80\x10", ("i32.load", (2, 1 << 32, 0))),
            (b"\x28\x42\1\x10", ("i32.load", (2, 16, 1))),
            (b"\x0e\2\0\1\2", ("br_table", ((0, 1), 2))),
            (b"\x11\1\2", ("call_indirect", (1, 2))),
            (b"\x13\1\2", ("return_call_indirect", (1, 2))),
            (b"\x1c\2\x7f\x70", ("select_t", (i32, funcref))),
            (b"\xd0\x6f", ("ref.null", externref)),
            (b"\x3f\0", ("memory.size", 0)),
            (b"\xfc\x00", ("i32.trunc_sat_f32_s", None)),
            (b"\xfc\x8a\x80\x00\0\0", ("memory.copy", (0, 0))),
            (b"\xfc\x0c\1\2", ("table.init", (1, 2))),
            (b"\xfc\x0e\1\2", ("table.copy", (1, 2))),
        ],
    )
    def test_immediates(self, expression: bytes, instr: tuple[str, object]) -> None:
        assert instructions(expression) == [instr, ("end", None)]

    @pytest.mark.parametrize(
        ("encoded", "block_type"),
        [
            (b"\x40", FuncType()),
            (b"\x7e", FuncType(results=(i64,))),
            (b"\x63\x6f", FuncType(results=(externref,))),
            (b"\1", FuncType((f32,), (i32,))),
            (b"\x81\x00", FuncType((f32,), (i32,))),
        ],
    )
    def test_block_types(self, encoded: bytes, block_type: FuncType) -> None:
        decoded = instructions(b"\x02" + encoded + b"\x0b", types=[functype([F32], [I32])])
        assert decoded == [("block", block_type), ("end", None), ("end", None)]

    @pytest.mark.parametrize(
        ("expression", "kind", "message", "position"),
        [
            (b"\x27", Malformed, "illegal opcode 27", 0),
            (b"\xff", Malformed, "illegal opcode ff", 0),
            (b"\x01\xfc\x17", Malformed, "illegal opcode fc 17", 1),
            (b"\xfc\x80\x02", Malformed, "illegal opcode fc 100", 0),
            (b"\xfd\x9a\x01", Malformed, "illegal opcode fd 9a", 0),
            (b"\xfc\x87\x80\x80\x80\x80\0", Malformed, "integer representation too long", 1),
            (b"\x05", Malformed, "END opcode expected", 0),
            (b"\x02\x40\x05\x0b", Malformed, "END opcode expected", 2),
            (b"\x04\x40\x05\x05\x0b", Malformed, "END opcode expected", 3),
            (b"\x02\x40", Malformed, "unexpected end of section or function", 3),
            (b"\x0b", Malformed, "section size mismatch", 1),
            (b"\x28\x80\x01\0", Malformed, "malformed memop flags", 1),
            (b"\x0e\x80\x80\x80\x80\x0f\0", Malformed, "length out of bounds", 1),
            (b"\xfc\x08\0\0", Malformed, "data count section required", 0),
            (b"\xfc\x09\0", Malformed, "data count section required", 0),
            (b"\xd0\x7f", Malformed, "malformed heap type", 1),
            (b"\x02\xff\x7f\x0b", Malformed, "integer representation too long", 1),
            (b"\x02\x5c\x0b", Malformed, "malformed value type", 1),
            (b"\x02\2\x0b", Invalid, "unknown type 2", 1),
            (b"\xfd\x9a\x01", Malformed, "illegal opcode fd 9a", 0),
            (b"\xfd\x94\x02", Malformed, "illegal opcode fd 114", 0),
            (b"\xfd\x80\x20", Malformed, "illegal opcode fd 1000", 0),
            (b"\xfd\x0c" + bytes(14), Malformed, "unexpected end of section or function", 17),
            (b"\xfd\x15", Malformed, "unexpected end of section or function", 3),
            (b"\xfe\x03\1", Malformed, "zero byte expected", 2),
            (b"\xfe\x04", Malformed, "illegal opcode fe 04", 0),
            (b"\xfb\0\0", Unsupported, "unsupported feature: garbage collection", 0),
            (b"\xfc\x12", Malformed, "illegal opcode fc 12", 0),
            (b"\xd0\2", Invalid, "unknown type 2", 1),
        ],
    )
    def test_refused(self, expression: bytes, kind: type[CompileError], message: str, position: int) -> None:
        data = one_function(expression)
        assert_refused(data, kind, message, decode_module(data).bodies[0].offset + 1 + position, 0)

    def test_body_without_end(self) -> None:
        head = module(section(TYPE, vector(functype([], []))), section(FUNCTION, b"\1\0"))
        at_the_end = head + section(CODE, b"\1\2\0\1")
        assert_refused(at_the_end, Malformed, "unexpected end of section or function", len(at_the_end), 0)
        assert_refused(at_the_end + b"\x0b\1\0", Malformed, "section size mismatch", len(at_the_end), 0)
        assert_refused(at_the_end + b"\x05", Malformed, "END opcode expected", len(at_the_end), 0)

    def test_locals(self) -> None:
        decoded = decode_module(one_function(b"", (2, I32), (0, F64), (1, EXTERNREF)))
        assert decode_code(decoded, 0).locals == (i32, i32, externref)

    def test_too_many_locals(self) -> None:
        allowed = limits.MAX_LOCALS
        data = one_function(b"", (allowed - 1, I32), params=[I32])
        assert len(decode_code(decode_module(data), 0).locals) == allowed - 1
        start = decode_module(data).bodies[0].offset
        assert_refused(
            one_function(b"", (allowed, I32), params=[I32]), LimitExceeded, "too many locals: 50001", start, 0
        )
        many = [(0xFFFFFFFF, I32), (1, I64)]
        assert_refused(one_function(b"", *many), Malformed, "too many locals", start - 1, 0)


class TestLimits:
    @pytest.mark.parametrize(
        ("name", "data", "what"),
        [
            ("MAX_PARAMS", module(section(TYPE, vector(functype([I32] * 4, [])))), "parameters"),
            ("MAX_RESULTS", module(section(TYPE, vector(functype([], [I32] * 4)))), "results"),
            ("MAX_TYPES", module(section(TYPE, vector(*[functype([], [])] * 4))), "types"),
            ("MAX_IMPORTS", module(section(IMPORT, vector(*[b"\0\0\3\x7f\0"] * 4))), "imports"),
            (
                "MAX_FUNCTIONS",
                module(section(FUNCTION, b"\4" + bytes(4)), section(CODE, vector(*[body(b"")] * 4))),
                "functions",
            ),
            ("MAX_TABLES", module(section(TABLE, vector(*[b"\x70\0\0"] * 4))), "tables"),
            ("MAX_TABLES", module(section(IMPORT, vector(*[b"\0\0\1\x70\0\0"] * 4))), "tables"),
            ("MAX_MEMORIES", module(section(MEMORY, vector(*[b"\0\0"] * 4))), "memories"),
            ("MAX_GLOBALS", module(section(GLOBAL, vector(*[b"\x7f\0\x41\0\x0b"] * 4))), "globals"),
            ("MAX_EXPORTS", module(section(EXPORT, vector(*[b"\0\0\0"] * 4))), "exports"),
            ("MAX_ELEM_SEGMENTS", module(section(ELEM, vector(*[b"\1\0\0"] * 4))), "element segments"),
            ("MAX_DATA_SEGMENTS", module(section(DATA, vector(*[b"\1\0"] * 4))), "data segments"),
            ("MAX_TABLE_SIZE", module(section(ELEM, vector(b"\1\0\4\0\0\0\0"))), "elements"),
            ("MAX_TABLE_SIZE", module(section(ELEM, vector(b"\5\x70\4" + b"\xd0\x70\x0b" * 4))), "elements"),
            ("MAX_FUNCTION_SIZE", one_function(b"\1\1"), "bytes in a function"),
        ],
    )
    def test_each(self, name: str, data: bytes, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if what != "memories":  # which are refused sooner for another reason
            decode_module(data)
        monkeypatch.setattr(f"lucet.wasm.decode.{name}", 3)
        error = refusal(data)
        assert isinstance(error, LimitExceeded)
        assert error.message == f"too many {what}: 4, the limit is 3"

    def test_module_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lucet.wasm.decode.MAX_MODULE_SIZE", 9)
        decode_module(HEADER)
        assert isinstance(refusal(module(section(TYPE, b"\0"))), LimitExceeded)

    def test_br_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lucet.wasm.code.MAX_BR_TABLE_SIZE", 3)
        assert instructions(b"\x0e\3\0\0\0\0")
        assert "br_table labels: 4" in str(refusal(one_function(b"\x0e\4\0\0\0\0\0")))


class TestHostileInput:
    @pytest.mark.parametrize("section_id", [TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, ELEM, CODE, DATA])
    def test_claimed_count(self, section_id: int) -> None:
        data = module(section(section_id, u32(0xFFFFFFFF) + b"\0\0\0"))
        start = time.process_time()
        assert_refused(data, Malformed, "length out of bounds", 10)
        assert time.process_time() - start < 0.1

    def test_deep_nesting(self) -> None:
        depth = 200_000
        start = time.process_time()
        decoded = decode_module(one_function(b"\x02\x40" * depth + b"\x0b" * depth))
        assert len(decode_code(decoded, 0).instrs) == 2 * depth + 1
        assert time.process_time() - start < 5

    def test_local_runs(self) -> None:
        runs = [(1, FUNCREF)] * limits.MAX_LOCALS
        start = time.process_time()
        assert len(decode_code(decode_module(one_function(b"", *runs)), 0).locals) == limits.MAX_LOCALS
        assert time.process_time() - start < 2
