"""The printed form of decoded code."""

from __future__ import annotations

import pytest

from lucet.wasm.decode import decode_module
from lucet.wasm.disasm import describe_module, format_instr
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import EXTERNREF, F32, I32, NULLFUNCREF, FuncType
from tests.unit.wasm_bytes import EXPORT, MEMORY, MEMORY_1, name, one_function, section, vector
from tests.unit.wasm_bytes import I32 as I32_CODE
from tests.unit.wasm_bytes import I64 as I64_CODE


@pytest.mark.parametrize(
    ("op", "immediate", "text"),
    [
        ("nop", None, "nop"),
        ("block", FuncType(), "block"),
        ("if", FuncType((F32,), (I32, I32)), "if (param f32) (result i32 i32)"),
        ("br_table", ((1, 2), 0), "br_table 1 2 0"),
        ("call_indirect", (3, 1), "call_indirect 1 (type 3)"),
        ("i32.load", (2, 0, 0), "i32.load"),
        ("i32.load", (2, 8, 0), "i32.load offset=8"),
        ("i32.load", (0, 8, 0), "i32.load offset=8 align=1"),
        ("i64.store8", (0, 0, 0), "i64.store8"),
        ("i64.store8", (0, 1 << 40, 3), "i64.store8 3 offset=1099511627776"),
        ("f64.store", (0, 0, 0), "f64.store align=1"),
        ("i32.const", -1, "i32.const -1"),
        ("f32.const", 0x3FC00000, "f32.const 0x1.8000000000000p+0"),
        ("f32.const", 0xFF800000, "f32.const -inf"),
        ("f32.const", 0xFFC00000, "f32.const -nan:0x400000"),
        ("f64.const", 0x7FF4000000000000, "f64.const nan:0x4000000000000"),
        ("v128.const", 1 | 0xFFFFFFFF << 96, "v128.const i32x4 0x00000001 0x00000000 0x00000000 0xffffffff"),
        ("i8x16.shuffle", tuple(range(16)), "i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"),
        ("i16x8.extract_lane_s", 7, "i16x8.extract_lane_s 7"),
        ("v128.load8_lane", (0, 0, 0, 3), "v128.load8_lane 3"),
        ("v128.store64_lane", (0, 8, 2, 1), "v128.store64_lane 2 offset=8 align=1 1"),
        ("v128.load32x2_s", (3, 0, 0), "v128.load32x2_s"),
        ("select_t", (I32,), "select (result i32)"),
        ("ref.null", EXTERNREF, "ref.null extern"),
        ("ref.null", NULLFUNCREF, "ref.null nofunc"),
        ("ref.null", FuncType().ref(nullable=True), f"ref.null #{FuncType().type_id():016x}"),
        ("call_ref", 3, "call_ref 3"),
        ("table.init", (5, 1), "table.init 1 5"),
        ("memory.init", (5, 0), "memory.init 0 5"),
        ("table.copy", (0, 1), "table.copy 0 1"),
    ],
)
def test_instructions(op: str, immediate: object, text: str) -> None:
    assert format_instr(BY_NAME[op].code, immediate) == text


def test_module() -> None:
    data = one_function(
        b"\x02\x40\x03\x40\x0b\x0b\x20\0",
        (1, I32_CODE),
        (1, I32_CODE),
        (1, I64_CODE),
        params=[I32_CODE],
        results=[I32_CODE],
        between=section(MEMORY, MEMORY_1) + section(EXPORT, vector(name("go\n") + b"\0\0")),
    )
    start = decode_module(data).bodies[0].offset
    assert list(describe_module(decode_module(data))) == [
        "type 0: [i32] -> [i32]",
        "memory 1",
        f"{start - 10:#08x}: export 'go\\n': func 0",
        f"{start:#08x}: func 0: [i32] -> [i32]",
        "          locals i32 x 2, i64 x 1",
        f"{start + 7:#08x}:   block",
        f"{start + 9:#08x}:     loop",
        f"{start + 11:#08x}:     end",
        f"{start + 12:#08x}:   end",
        f"{start + 13:#08x}:   local.get 0",
        f"{start + 15:#08x}: end",
    ]


def test_kinds_of_memories_and_tables() -> None:
    text = "(table i64 1 2 funcref) (memory 1) (memory i64 1 2) (memory 7 (pagesize 1))"
    assert list(describe_module(decode_module(text_to_binary(text)))) == [
        "0x00000b: table i64 1 2 funcref",
        "memory 1",
        "memory i64 1 2",
        "memory 7 (pagesize 1)",
    ]


def test_nesting_does_not_widen_lines_without_bound() -> None:
    lines = list(describe_module(decode_module(one_function(b"\x02\x40" * 1000 + b"\x0b" * 1000))))
    assert max(map(len, lines)) < 120
