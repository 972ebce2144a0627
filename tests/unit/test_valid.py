"""The validator on hand-written modules: its verdicts, its words, and where it says the mistake is."""

from __future__ import annotations

import time

import pytest

from lucet.errors import Invalid
from lucet.wasm.check import check_module
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from lucet.wasm.valid import validate_module
from tests.unit.wasm_bytes import (
    CODE,
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
    I32,
    I64,
    IMPORT,
    MEMORY,
    MEMORY_1,
    START,
    TABLE,
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

ONE_MEMORY = section(MEMORY, MEMORY_1)
TWO_TABLES = section(TABLE, vector(b"\x70\0\1", b"\x6f\0\1"))
"""Table 0 of funcref, table 1 of externref."""
TWO_GLOBALS = section(GLOBAL, vector(b"\x7f\0\x41\0\x0b", b"\x7e\1\x42\0\x0b"))
"""Global 0: immutable i32; global 1: mutable i64."""
ELEM_SEGMENT = section(ELEM, b"\1\1\0\1\0")
"""Passive, of function 0, which is so declared."""
DATA_SEGMENTS = section(DATA_COUNT, b"\1")
DATA_CONTENTS = section(DATA, b"\1\1\1!")

ZERO = b"\x41\0"
ZERO64 = b"\x42\0"
FLOAT = b"\x43\0\0\0\0"
NULL_FUNC, NULL_EXTERN = b"\xd0\x70", b"\xd0\x6f"


def assert_invalid(data: bytes, message: str, offset: int | None = None, function: int | None = None) -> None:
    with pytest.raises(Invalid) as caught:
        check_module(data)
    assert caught.value.message.startswith(message)
    assert (caught.value.offset, caught.value.function) == (offset, function)


class TestModule:
    @pytest.mark.parametrize(
        ("data", "message", "offset"),
        [
            (module(section(IMPORT, b"\1\0\0\0\1")), "unknown type 1", 11),
            (module(section(MEMORY, b"\1\1\2\1")), "size minimum must not be greater than maximum", None),
            (module(section(MEMORY, b"\1\0\x81\x80\4")), "memory size must be at most 65536 pages", None),
            (module(section(MEMORY, b"\1\1\0\x81\x80\4")), "memory size must be at most 65536 pages", None),
            (module(section(TABLE, b"\1\x70\1\2\1")), "size minimum must not be greater than maximum", 11),
            (module(section(TABLE, b"\1\x70\0\x80\x80\x80\x80\x10")), "table size must be at most 2^32-1", 11),
            (module(section(IMPORT, b"\1\0\0\2\1\2\1")), "size minimum must not be greater than maximum", 11),
            (module(section(IMPORT, b"\1\0\0\1\x70\1\2\1")), "size minimum must not be greater than maximum", 11),
            (module(section(EXPORT, b"\1\0\0\0")), "unknown function 0", 11),
            (module(section(EXPORT, b"\1\0\1\1")), "unknown table 1", 11),
            (module(section(EXPORT, b"\1\0\2\0")), "unknown memory 0", 11),
            (module(section(EXPORT, b"\1\0\3\0")), "unknown global 0", 11),
            (module(ONE_MEMORY, section(EXPORT, b"\2\1a\2\0\1a\2\0")), "duplicate export name 'a'", 20),
            (module(section(START, b"\0")), "unknown function 0", None),
            (module(section(DATA, b"\1\0\x41\0\x0b\0")), "unknown memory 0", 11),
            (module(ONE_MEMORY, section(DATA, b"\1\2\1\x41\0\x0b\0")), "unknown memory 1", 16),
            (module(section(ELEM, b"\1\0\x41\0\x0b\0")), "unknown table 0", 11),
            (module(section(ELEM, b"\1\1\0\1\0")), "unknown function 0", 11),
            (module(TWO_TABLES, section(ELEM, b"\1\2\1\x41\0\x0b\0\0")), "type mismatch", 20),
            (module(TWO_TABLES, section(ELEM, b"\1\6\0\x41\0\x0b\x6f\0")), "type mismatch", 20),
        ],
    )
    def test_invalid(self, data: bytes, message: str, offset: int | None) -> None:
        assert_invalid(data, message, offset)

    def test_type_of_a_function(self) -> None:
        data = module(section(FUNCTION, b"\1\0"), section(CODE, vector(body(b""))))
        assert_invalid(data, "unknown type 0", None, 0)

    @pytest.mark.parametrize(("params", "results"), [([I32], []), ([], [I32])])
    def test_start(self, params: list[int], results: list[int]) -> None:
        data = module(
            section(TYPE, vector(functype(params, results))),
            section(FUNCTION, b"\1\0"),
            section(START, b"\0"),
            section(CODE, vector(body(b"\0"))),
        )
        assert_invalid(data, "start function must not have parameters or results", None, 0)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("(table 0xffffffff funcref) (table i64 0xffffffffffffffff funcref)", None),
            ("(table 0x100000000 funcref)", "table size must be at most 2^32-1"),
            ("(memory 65536) (memory i64 0x1000000000000) (memory 0xffffffff (pagesize 1))", None),
            ("(memory i64 0xffffffffffffffff (pagesize 1))", None),
            ("(memory 0 65537)", "memory size must be at most 65536 pages (4GiB)"),
            ("(memory i64 0x1000000000001)", "memory size must be at most 281474976710656 pages (16EiB)"),
            ("(memory 0x100000000 (pagesize 1))", "memory size must be at most 4294967295 pages (4GiB)"),
            ("(memory 1 2 shared) (memory i64 1 2 shared) (memory 1 2 shared (pagesize 1))", None),
            ("(memory 1 shared)", "shared memory must have maximum"),
            ("(memory i64 2 1)", "size minimum must not be greater than maximum"),
            ("(memory 1 (pagesize 2))", "invalid custom page size 2**1"),
        ],
    )
    def test_limits(self, text: str, expected: str | None) -> None:
        decoded = decode_module(text_to_binary(text))
        if expected is None:
            validate_module(decoded)
            return
        with pytest.raises(Invalid) as caught:
            validate_module(decoded)
        assert caught.value.message == expected


class TestConstantExpressions:
    """As the initial value of global 3; imported: global 0 (immutable i32) and 1 (mutable i32); own: 2 (immutable)."""

    @staticmethod
    def with_global(valtype: int, expression: bytes) -> bytes:
        return module(
            section(TYPE, vector(functype([], []))),
            section(IMPORT, vector(b"\0\0\3\x7f\0", b"\0\0\3\x7f\1")),
            section(FUNCTION, b"\1\0"),
            section(GLOBAL, vector(b"\x7e\0\x42\0\x0b", bytes([valtype, 0]) + expression + b"\x0b")),
            section(CODE, vector(body(b""))),
        )

    @pytest.mark.parametrize(
        ("valtype", "expression"),
        [
            (I32, ZERO),
            (F32, FLOAT),
            (F64, b"\x44" + bytes(8)),
            (I32, b"\x23\0"),
            (I64, b"\x23\2"),
            (I32, b"\x23\0\x41\1\x6a\x41\2\x6b\x23\0\x6c"),
            (I64, b"\x23\2\x42\1\x7c\x42\2\x7d\x23\2\x7e"),
            (FUNCREF, NULL_FUNC),
            (EXTERNREF, NULL_EXTERN),
            (FUNCREF, b"\xd2\0"),
        ],
    )
    def test_valid(self, valtype: int, expression: bytes) -> None:
        check_module(self.with_global(valtype, expression))

    @pytest.mark.parametrize(
        ("valtype", "expression", "message", "position"),
        [
            (I32, b"", "type mismatch", 0),
            (I32, ZERO64, "type mismatch", 2),
            (I32, ZERO + ZERO, "type mismatch", 4),
            (I32, ZERO + b"\x6a", "type mismatch", 2),
            (I32, ZERO + ZERO64 + b"\x6a", "type mismatch", 4),
            (I64, b"\x23\0", "type mismatch", 2),
            (FUNCREF, NULL_EXTERN, "type mismatch", 2),
            (FUNCREF, b"\xd2\1", "unknown function 1", 0),
            (I32, b"\x23\1", "constant expression required", 0),
            (I32, b"\x23\3", "unknown global 3", 0),
            (I32, b"\x23\4", "unknown global 4", 0),
            (I32, ZERO + b"\x45", "constant expression required, not i32.eqz", 2),
            (I32, ZERO + ZERO + b"\x6d", "constant expression required, not i32.div_s", 4),
            (I32, b"\x01", "constant expression required", 0),
            (I32, b"\x02\x7f\x41\0\x0b", "constant expression required", 0),
            (F32, FLOAT + FLOAT + b"\x92", "constant expression required", 10),
        ],
    )
    def test_invalid(self, valtype: int, expression: bytes, message: str, position: int) -> None:
        data = self.with_global(valtype, expression)
        start = data.index(bytes([valtype, 0]) + expression + b"\x0b" + bytes([CODE])) + 2
        assert_invalid(data, message, start + position)

    def test_offsets_of_segments(self) -> None:
        check_module(module(TWO_TABLES, TWO_GLOBALS, section(ELEM, b"\1\0\x23\0\x0b\0")))
        assert_invalid(module(TWO_TABLES, TWO_GLOBALS, section(ELEM, b"\1\0\x42\0\x0b\0")), "type mismatch", 36)
        assert_invalid(module(ONE_MEMORY, section(DATA, b"\1\0\x42\0\x0b\0")), "type mismatch", 19)

    def test_initial_value_of_a_table(self) -> None:
        table = section(TABLE, b"\1\x40\0\x70\0\1" + b"\x23\0\x0b")
        null_funcref = section(GLOBAL, b"\1\x70\0\xd0\x70\x0b")
        imported = section(IMPORT, b"\1\0\0\3\x70\0")
        check_module(module(imported, table))
        assert_invalid(module(table, null_funcref), "unknown global 0", 16)


def full(expression: bytes, *locals_: tuple[int, int], results: list[int] | None = None) -> bytes:
    """A function with one of everything around it. Type 1 is [i32 i64] -> [f32], type 2 [] -> [i32 i32]."""
    return one_function(
        expression,
        *locals_,
        results=results,
        types=[functype([I32, I64], [F32]), functype([], [I32, I32]), functype([I32], [I32])],
        between=TWO_TABLES + ONE_MEMORY + TWO_GLOBALS + ELEM_SEGMENT + DATA_SEGMENTS,
        after=DATA_CONTENTS,
    )


class TestCode:
    @pytest.mark.parametrize(
        "expression",
        [
            b"",
            ZERO + b"\x1a",
            ZERO + b"\x28\2\0\x1a",
            ZERO + ZERO64 + b"\x37\3\0",
            ZERO + b"\x40\0\x1a",
            b"\x3f\0\x1a",
            ZERO * 3 + b"\xfc\x08\0\0" + b"\xfc\x09\0",
            ZERO * 3 + b"\xfc\x0a\0\0" + ZERO * 3 + b"\xfc\x0b\0",
            ZERO * 3 + b"\xfc\x0c\0\0" + b"\xfc\x0d\0",
            ZERO * 3 + b"\xfc\x0e\1\1",
            NULL_EXTERN + ZERO + b"\xfc\x0f\1\x1a",
            b"\xfc\x10\1\x1a",
            ZERO + NULL_FUNC + ZERO + b"\xfc\x11\0",
            ZERO + b"\x25\1\xd1\x1a",
            ZERO + b"\xd2\0\x26\0",
            b"\x23\0\x1a" + ZERO64 + b"\x24\1",
            b"\x02\2\x41\1\x41\2\x0b\x1a\x1a",
            b"\x41\1\x02\3\x0b\x1a",
            b"\x41\1\x03\3\x41\0\x0d\0\x0b\x1a",
            ZERO + b"\x04\x7f\x41\1\x05\x41\2\x0b\x1a",
            ZERO + ZERO + b"\x04\3\x0b\x1a",
            ZERO + b"\x04\x40\x0f\x0b",
            b"\x02\x40\x02\x40\x41\0\x0e\2\0\1\1\x0b\x0b",
            ZERO + ZERO64 + ZERO + b"\x11\1\0\x1a",
            ZERO + b"\x13\0\0",
            b"\x12\0",
            FLOAT + FLOAT + ZERO + b"\x1b\x1a",
            NULL_FUNC + NULL_FUNC + ZERO + b"\x1c\1\x70\x1a",
            # Unreachable code makes up what it lacks, and only that.
            b"\0",
            b"\0\x6a\x1a",
            b"\0\x1b\x92\x1a",
            b"\0\x1b\xd1\x1a",
            b"\0\x41\0\x1b\x1b\x1a",
            b"\x0c\0\x10\0\x6a\x1a",
            b"\0\x11\1\0\x1a",
            b"\0" + ZERO64 + ZERO + b"\x11\1\0\x1a",
            b"\x02\x7c\x02\x7d\0\x41\1\x0e\2\0\1\1\x0b\x1a\x44" + bytes(8) + b"\x0b\x1a",
            b"\0\x02\2\0\x0b\x1a\x1a",
            b"\0\x04\3\x0b\x1a",
        ],
    )
    def test_valid(self, expression: bytes) -> None:
        check_module(full(expression))

    @pytest.mark.parametrize(
        ("expression", "message", "position"),
        [
            (ZERO, "type mismatch: end leaves a value on the stack, found i32", 2),
            (b"\x1a", "type mismatch: drop expects a value, found nothing", 0),
            (ZERO + b"\x6a\x1a", "type mismatch: i32.add expects i32, found nothing", 2),
            (FLOAT + ZERO + b"\x6a\x1a", "type mismatch: i32.add expects i32, found f32", 7),
            (ZERO + FLOAT + b"\x6a\x1a", "type mismatch: i32.add expects i32, found f32", 7),
            (FLOAT + b"\x45\x1a", "type mismatch: i32.eqz expects i32", 5),
            (ZERO + b"\x02\x40\x45\x1a\x0b\x1a", "type mismatch: i32.eqz expects i32, found nothing", 4),
            (b"\0" + FLOAT + b"\x45\x1a", "type mismatch", 6),
            (b"\0" + FLOAT + ZERO + b"\x6a\x1a", "type mismatch", 8),
            (b"\0" + ZERO, "type mismatch: end leaves a value", 3),
            (b"\x20\0", "unknown local 0", 0),
            (ZERO + b"\x21\1", "unknown local 1", 2),
            (b"\0\x22\7", "unknown local 7", 1),
            (b"\x23\2", "unknown global 2", 0),
            (ZERO + b"\x24\0", "immutable global 0", 2),
            (ZERO + b"\x24\1", "type mismatch", 2),
            (ZERO + b"\x24\2", "unknown global 2", 2),
            (b"\x10\1", "unknown function 1", 0),
            (b"\x0c\1", "unknown label 1", 0),
            (ZERO + b"\x0d\1", "unknown label 1", 2),
            (ZERO + b"\x0e\1\5\0", "unknown label 5", 2),
            (ZERO + b"\x0e\0\5", "unknown label 5", 2),
            (FLOAT + b"\x0e\0\0", "type mismatch", 5),
            (b"\x02\x7f\x41\0\x41\0\x0e\1\0\1\x0b\x1a", "type mismatch: label 0 takes 1 values, the default 0", 6),
            (ZERO + b"\x11\0\2", "unknown table 2", 2),
            (ZERO + b"\x11\0\1", "type mismatch", 2),
            (ZERO + b"\x11\x09\0", "unknown type 9", 2),
            (ZERO + ZERO + b"\x11\1\0\x1a", "type mismatch: call_indirect expects i64, found i32", 4),
            (ZERO + b"\x13\2\0", "type mismatch: a tail call of [] -> [i32 i32] in a function of type [] -> []", 2),
            (b"\x12\4", "unknown function 4", 0),
            (NULL_FUNC + NULL_FUNC + ZERO + b"\x1b\x1a", "type mismatch: select without a type", 6),
            (ZERO + FLOAT + ZERO + b"\x1b\x1a", "type mismatch: select expects i32 twice", 9),
            (ZERO + ZERO + ZERO + b"\x1c\2\x7f\x7f\x1a", "invalid result arity", 6),
            (ZERO + ZERO + ZERO + b"\x1c\0\x1a", "invalid result arity", 6),
            (ZERO + ZERO + ZERO + b"\x1c\1\x7e\x1a", "type mismatch", 6),
            (ZERO + b"\xd1\x1a", "type mismatch: ref.is_null expects a reference, found i32", 2),
            (b"\xd2\1\x1a", "unknown function 1", 0),
            (ZERO + b"\x28\3\0\x1a", "alignment must not be larger than natural", 2),
            (ZERO + b"\x28\2\x80\x80\x80\x80\x10\x1a", "offset out of range", 2),
            (ZERO + b"\x28\x42\1\0\x1a", "unknown memory 1", 2),
            (b"\x3f\1\x1a", "unknown memory 1", 0),
            (ZERO * 3 + b"\xfc\x0a\0\1", "unknown memory 1", 6),
            (ZERO * 3 + b"\xfc\x08\1\0", "unknown data segment 1", 6),
            (b"\xfc\x09\1", "unknown data segment 1", 0),
            (ZERO * 3 + b"\xfc\x0c\1\0", "unknown elem segment 1", 6),
            (ZERO * 3 + b"\xfc\x0c\0\1", "type mismatch: table.init from (ref func) to externref", 6),
            (ZERO * 3 + b"\xfc\x0e\0\1", "type mismatch: table.copy from externref to funcref", 6),
            (b"\xfc\x0d\1", "unknown elem segment 1", 0),
            (ZERO + NULL_FUNC + b"\x26\1", "type mismatch: table.set expects externref, found funcref", 4),
            (NULL_FUNC + ZERO + b"\xfc\x0f\1\x1a", "type mismatch", 4),
            (b"\x02\x7f\x0b\x1a", "type mismatch: end expects i32, found nothing", 2),
            (b"\x02\x40\x41\0\x0b", "type mismatch: end leaves a value", 4),
            (b"\x03\3\x0b\x1a", "type mismatch: loop expects i32", 0),
            (ZERO + b"\x04\x7f\x41\1\x0b\x1a", "type mismatch: if without else is of type [] -> [i32]", 6),
            (ZERO + b"\x04\x7f\x41\1\x05\x0b\x1a", "type mismatch: end expects i32", 7),
            (ZERO + b"\x04\x7f\x05\x41\1\x0b\x1a", "type mismatch: else expects i32", 4),
            (ZERO + ZERO + b"\x0d\0", "type mismatch: end leaves", 6),
        ],
    )
    def test_invalid(self, expression: bytes, message: str, position: int) -> None:
        data = full(expression)
        assert_invalid(data, message, decode_module(data).bodies[0].offset + 1 + position, 0)

    def test_results(self) -> None:
        check_module(full(ZERO, results=[I32]))
        check_module(full(ZERO + b"\x0f" + FLOAT + b"\x1a\0", results=[I32]))
        check_module(full(ZERO + ZERO + b"\x0d\0", results=[I32]))
        check_module(full(ZERO + ZERO + b"\x13\3\0", results=[I32]))
        start = decode_module(full(FLOAT, results=[I32])).bodies[0].offset + 1
        assert_invalid(full(FLOAT, results=[I32]), "type mismatch: end expects i32, found f32", start + 5, 0)
        assert_invalid(full(b"\x0f", results=[I32]), "type mismatch: return expects i32", start, 0)

    def test_parameters_and_locals(self) -> None:
        data = one_function(b"\x20\0\x21\2\x20\1\x22\3\x1a", (1, I32), (1, F64), params=[I32, F64])
        check_module(data)
        wrong = one_function(b"\x20\0\x21\3", (1, I32), (1, F64), params=[I32, F64])
        offset = decode_module(wrong).bodies[0].offset + 5
        assert_invalid(wrong, "type mismatch: local.set expects f64, found i32", offset + 2, 0)
        assert_invalid(wrong.replace(b"\x21\3", b"\x22\3"), "type mismatch: local.tee expects f64", offset + 2, 0)

    def test_undeclared_function_reference(self) -> None:
        data = one_function(b"\xd2\0\x1a")
        offset = decode_module(data).bodies[0].offset + 1
        assert_invalid(data, "undeclared function reference", offset, 0)
        check_module(one_function(b"\xd2\0\x1a", between=section(EXPORT, vector(name("f") + b"\0\0"))))

    def test_no_memory(self) -> None:
        data = one_function(ZERO + b"\x28\2\0\x1a")
        assert_invalid(data, "unknown memory 0", decode_module(data).bodies[0].offset + 3, 0)


class TestHostileInput:
    def seconds(self, data: bytes) -> float:
        start = time.process_time()
        check_module(data)
        return time.process_time() - start

    def test_wide_branch_tables(self) -> None:
        """Labels times results must not be looked at one by one."""
        wide = functype([], [I32] * 1000)
        table = b"\0\x0e" + u32(500_000) + b"\0" * 500_001
        assert self.seconds(one_function(b"\x02\1" + table + b"\x0b\0", types=[wide])) < 3

    def test_wide_calls(self) -> None:
        wide = functype([I32] * 1000, [I32] * 1000)
        calls = b"\0" + (ZERO + b"\x11\1\0") * 3_000 + b"\0"
        table = section(TABLE, b"\1\x70\0\0")
        assert self.seconds(one_function(calls, types=[wide], between=table)) < 3

    def test_deep_nesting(self) -> None:
        depth = 100_000
        blocks = b"\x02\x40" * depth + b"\x0c" + u32(depth) + b"\x0b" * depth
        assert self.seconds(one_function(blocks)) < 5

    def test_high_stack(self) -> None:
        count = 300_000
        assert self.seconds(one_function(ZERO * count + b"\x1a" * count)) < 5


ADDRESSED = """(memory $a 1) (memory $b i64 1) (table $s 1 funcref) (table $t i64 1 funcref) (data $d "") (elem $e func)
  (func (param $i i32) (param $j i64) (param $f funcref) {})"""


@pytest.mark.parametrize(
    ("instructions", "problem"),
    [
        ("(drop (i32.load $b offset=0xffffffffffffffff (local.get $j)))", None),
        ("(drop (i32.load $b (local.get $i)))", "type mismatch"),
        ("(drop (i32.load $a offset=0x100000000 (local.get $i)))", "offset out of range"),
        ("(i64.store $b (local.get $j) (local.get $j))", None),
        ("(i64.store $b (local.get $i) (local.get $j))", "type mismatch"),
        ("(drop (i32.atomic.load $b (local.get $j)))", None),
        ("(drop (i32.atomic.load $b (local.get $i)))", "type mismatch"),
        ("(drop (i32.atomic.load align=2 (local.get $i)))", "atomic alignment must be natural"),
        ("(drop (i32.atomic.load align=8 (local.get $i)))", "alignment must not be larger than natural"),
        ("(i64.atomic.store16 $b (local.get $j) (local.get $j))", None),
        ("(i64.atomic.store16 $b (local.get $j) (local.get $i))", "type mismatch"),
        ("(local.set $j (i64.atomic.rmw.cmpxchg $b (local.get $j) (local.get $j) (local.get $j)))", None),
        ("(local.set $j (i64.atomic.rmw.cmpxchg $a (local.get $j) (local.get $j) (local.get $j)))", "type mismatch"),
        ("(local.set $i (memory.atomic.wait64 $b (local.get $j) (local.get $j) (local.get $j)))", None),
        ("(local.set $i (memory.atomic.wait32 $b (local.get $j) (local.get $j) (local.get $j)))", "type mismatch"),
        ("(local.set $i (memory.atomic.notify $b (local.get $j) (local.get $i)))", None),
        ("(local.set $i (memory.atomic.notify $b (local.get $i) (local.get $i)))", "type mismatch"),
        ("atomic.fence", None),
        ("(local.set $j (memory.size $b))", None),
        ("(local.set $i (memory.size $b))", "type mismatch"),
        ("(local.set $j (memory.grow $b (local.get $j)))", None),
        ("(local.set $j (memory.grow $a (local.get $j)))", "type mismatch"),
        ("(memory.fill $b (local.get $j) (local.get $i) (local.get $j))", None),
        ("(memory.fill $b (local.get $j) (local.get $i) (local.get $i))", "type mismatch"),
        ("(memory.copy $b $b (local.get $j) (local.get $j) (local.get $j))", None),
        ("(memory.copy $a $b (local.get $i) (local.get $j) (local.get $i))", None),
        ("(memory.copy $b $a (local.get $j) (local.get $i) (local.get $i))", None),
        ("(memory.copy $b $a (local.get $j) (local.get $i) (local.get $j))", "type mismatch"),
        ("(memory.init $b $d (local.get $j) (local.get $i) (local.get $i))", None),
        ("(memory.init $b $d (local.get $j) (local.get $j) (local.get $i))", "type mismatch"),
        ("(drop (table.get $t (local.get $j))) (table.set $t (local.get $j) (local.get $f))", None),
        ("(drop (table.get $t (local.get $i)))", "type mismatch"),
        ("(local.set $j (table.size $t))", None),
        ("(local.set $j (table.grow $t (local.get $f) (local.get $j)))", None),
        ("(local.set $i (table.grow $t (local.get $f) (local.get $j)))", "type mismatch"),
        ("(table.fill $t (local.get $j) (local.get $f) (local.get $j))", None),
        ("(table.copy $s $t (local.get $i) (local.get $j) (local.get $i))", None),
        ("(table.copy $t $t (local.get $j) (local.get $j) (local.get $i))", "type mismatch"),
        ("(table.init $t $e (local.get $j) (local.get $i) (local.get $i))", None),
        ("(call_indirect $t (local.get $j))", None),
        ("(call_indirect $t (local.get $i))", "type mismatch"),
        ("(return_call_indirect $t (local.get $j))", None),
        ("(return_call_indirect $t (local.get $i))", "type mismatch"),
    ],
)
def test_types_of_addresses_and_indices(instructions: str, problem: str | None) -> None:
    wasm = text_to_binary(ADDRESSED.format(instructions))
    if problem is None:
        check_module(wasm)
    else:
        with pytest.raises(Invalid, match=problem):
            check_module(wasm)
