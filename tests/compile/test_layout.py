"""The plan: what is static or dynamic, image or init, where things stand, and what the scan of the bodies finds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lucet.abi.tables import VMCTX_FIXED_SIZE
from lucet.compile.image import page_image
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.compile.plan import ImageRun, Plan
from lucet.compile.scan import Facts, scan
from lucet.limits import HOST_PAGE_SIZE, MEMORY_GUARD_SIZE
from lucet.wasm.decode import decode_module
from lucet.wasm.module import FunctionBody, Module
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import FuncType


def plan_of(text: str, **options: str) -> Plan:
    return make_plan(decode_module(text_to_binary(text)), Options(**options))  # type: ignore[arg-type]


def word(plan: Plan, offset: int, size: int = 8) -> int:
    start = plan.instance_size + offset
    return int.from_bytes(plan.template[start : start + size], "little")


# ---- tables


TABLE = """(module (type $t (func)) (import "m" "g" (global $g i32)) (func $f) (table TABLE) (elem (i32.const 1) $f)
  REST (func (export "call") (call_indirect (type $t) (i32.const 1))))"""


@pytest.mark.parametrize(
    ("table", "rest", "is_static"),
    [
        ("3 funcref", "", True),
        ("3 9 funcref", "(func (drop (table.size 0)))", True),
        ('(export "t") 3 funcref', "", False),
        ("3 funcref", "(func (drop (table.get 0 (i32.const 0))))", False),
        ("3 funcref", "(func (table.set 0 (i32.const 0) (ref.null func)))", False),
        ("3 funcref", "(func (drop (table.grow 0 (ref.null func) (i32.const 0))))", False),
        ("3 funcref", "(func (table.fill 0 (i32.const 0) (ref.null func) (i32.const 0)))", False),
        ("3 funcref", "(func (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))", False),
        ("3 funcref", "(elem $e func $f) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 0)))", False),
        ("3 funcref", "(elem (global.get $g) $f)", False),
        ("3 funcref", "(elem (i32.const 3) $f)", False),
        ("3 funcref", "(elem (i32.const 3) func)", True),
        ("3 funcref", "(elem $e func $f) (func (elem.drop $e))", True),
        ("100000 funcref", "", False),
    ],
)
def test_static_tables(table: str, rest: str, is_static: bool) -> None:
    plan = plan_of(TABLE.replace("TABLE", table).replace("REST", rest))
    (one,) = plan.tables
    assert (one.entries is not None) == is_static
    assert (one.offset == 0) == is_static
    assert (0 in plan.init_elems) == plan.has_init == (not is_static)


def test_entries_of_a_static_table() -> None:
    plan = plan_of(
        """(module (func $a) (func $b) (table 6 funcref)
          (elem (i32.const 1) $a $a $a) (elem (i32.const 3) funcref (ref.func $b) (ref.null func)))"""
    )
    assert plan.tables[0].entries == (None, 0, 0, 1, None, None)
    assert not plan.ref_offsets, "a static table needs no funcref records"


def test_imported_tables_are_dynamic() -> None:
    plan = plan_of('(module (import "m" "t" (table 1 funcref)) (func $f) (elem (i32.const 0) $f))')
    assert plan.tables[0].entries is None
    assert plan.tables[0].offset == plan.import_offsets[0] < 0
    assert plan.init_elems == (0,)
    assert list(plan.ref_offsets) == [0]


# ---- memory


def test_image() -> None:
    plan = plan_of('(module (memory 1) (data (i32.const 10) "abc") (data (i32.const 11) "X") (data (i32.const 65536)))')
    (run,) = plan.images
    assert run.heap_offset == 0
    assert run.bytes == bytes(10) + b"aXc" + bytes(HOST_PAGE_SIZE - 13)
    assert not plan.has_init
    assert not plan.datas


@pytest.mark.parametrize(
    "fields",
    [
        '(memory 1) (data (i32.const 0) "a") (data (i32.const 65536) "b")',
        "(memory 0) (data (i32.const 1))",
        '(memory 1) (import "m" "g" (global i32)) (data (i32.const 0) "a") (data (global.get 0) "b")',
        '(import "m" "m" (memory 1)) (data (i32.const 0) "a") (data (i32.const 1) "b")',
    ],
)
def test_segments_that_init_must_copy(fields: str) -> None:
    fields = " ".join(sorted(fields.replace(") (", ")|(").split("|"), key=lambda field: "import" not in field))
    plan = plan_of(f"(module {fields})")
    assert not plan.images
    assert plan.init_datas == tuple(range(len(plan.datas)))
    for data in plan.datas:
        assert word(plan, data.offset) == len(data.bytes)


def test_passive_segments_exist_only_where_code_uses_them() -> None:
    plan = plan_of(
        """(module (memory 1) (data $unused "unused") (data $used "used") (data (i32.const 0) "active")
          (func (memory.init $used (i32.const 0) (i32.const 0) (i32.const 0)) (data.drop 2)))"""
    )
    assert [data.bytes for data in plan.datas] == [b"", b"used", b""]
    assert [word(plan, data.offset) for data in plan.datas] == [0, 4, 0]
    assert plan.datas[0].offset == plan.datas[2].offset != plan.datas[1].offset
    assert len(plan.images) == 1


def test_bounds() -> None:
    (guarded,) = plan_of("(module (memory 1))").memories
    assert (guarded.checked, guarded.reserved, guarded.guard) == (False, 1 << 32, MEMORY_GUARD_SIZE)
    (checked,) = plan_of("(module (memory 1))", bounds="explicit").memories
    assert (checked.checked, checked.reserved, checked.guard) == (True, 0, 0)


def test_page_image_runs() -> None:
    page = HOST_PAGE_SIZE
    runs = page_image([(page - 1, b"ab"), (5 * page, bytes(page)), (7 * page, b"c"), (3, b"")])
    assert runs == (
        ImageRun(heap_offset=0, bytes=bytes(page - 1) + b"ab" + bytes(page - 1)),
        ImageRun(heap_offset=7 * page, bytes=b"c" + bytes(page - 1)),
    )
    assert page_image([]) == ()


def test_page_image_gives_up_on_scattered_bytes() -> None:
    assert page_image((n * 65536, b"x") for n in range(1000)) is None
    assert page_image((n * 65536, b"x") for n in range(100)) is not None


# ---- globals and the area


def test_globals() -> None:
    plan = plan_of(
        """(module (import "m" "a" (global $a i32)) (import "m" "b" (global $b (mut i64)))
          (func $f)
          (global $c (mut i32) (i32.const -1))
          (global $d i64 (i64.add (i64.const -3) (i64.mul (i64.const 2) (i64.const 4))))
          (global $e i32 (i32.sub (global.get $a) (i32.const 1)))
          (global $f funcref (ref.func $f))
          (global $g f32 (f32.const nan:0x200000))
          (global $h externref (ref.null extern))
          (export "c" (global $c)))"""
    )
    a, b, c, d, e, f, g, h = plan.globals
    assert [one.offset for one in (c, d, e, f, g, h)] == [-72, -80, -88, -96, -104, -112]
    assert (a.imported, a.indirect, b.indirect, c.indirect) == (True, False, True, False)
    assert [one.observable for one in plan.globals] == [False, True, True, False, False, False, False, False]
    assert [one.constant for one in (a, e, f, h)] == [None, None, None, 0]
    assert (word(plan, c.offset), word(plan, d.offset), word(plan, g.offset)) == (0xFFFFFFFF, 5, 0x7FA00000)
    assert plan.init_globals == (4, 5)
    assert list(plan.ref_offsets) == [0]
    assert plan.import_offsets == (a.offset, b.offset)


def test_nothing_in_the_area_overlaps() -> None:
    plan = plan_of(
        """(module (import "m" "f" (func)) (import "m" "g" (global (mut i32))) (import "m" "t" (table 1 funcref))
          (import "m" "m" (memory 1)) (import "m" "h" (func)) (table (export "t") 1 funcref)
          (global i32 (i32.const 1)) (func $f (export "f")) (elem $e func $f) (data $d "abc")
          (func (table.init 1 $e (i32.const 0) (i32.const 0) (i32.const 0))
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))))"""
    )
    spans = [(-VMCTX_FIXED_SIZE, 0)]
    spans += [(offset, offset + 16) for offset in plan.function_imports]
    words = [one.offset for one in plan.globals] + [one.offset for one in plan.tables]
    words += [one.offset for one in plan.elems] + [one.offset for one in plan.datas]
    words += [one.offset for one in plan.memories]
    spans += [(offset, offset + 8) for offset in words]
    spans += [(offset, offset + 40) for offset in plan.ref_offsets.values()]
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), spans
    assert -plan.instance_size <= spans[0][0]
    assert plan.instance_size % 16 == 0 and len(plan.template) == plan.instance_size
    assert all(start % 8 == 0 for start, _ in spans)


def test_types_are_canonical() -> None:
    plan = plan_of(
        """(module (type $a (func)) (type $b (func (param i32))) (type $c (func)) (type $d (func (param i32)))
          (func (type $d)) (func (export "f") (type $c)))"""
    )
    assert plan.types == (FuncType(), FuncType(params=plan.types[1].params))
    assert plan.type_map == (0, 1, 0, 1)
    assert plan.function_types == (1, 0)
    assert plan.entry_types == (0,)


# ---- the scan


def facts_of(text: str) -> Facts:
    return scan(decode_module(text_to_binary(text)))


def test_scan_finds_instructions_behind_all_kinds_of_immediates() -> None:
    facts = facts_of(
        """(module (memory 1) (table 1 funcref) (table $t 1 externref) (data $d "")
          (func $f (param i32)) (elem $e func $f) (elem declare func $g)
          (func $g (local i32 i64 i32) (local f32)
            (f32.const 0x1.d2fcfap-1) (drop) (f64.const -0x1.d2d0d0d0d0d0dp+2) (drop)
            (i64.const -0x7fffffffffffffff) (drop) (i32.load8_u offset=0xfffffff0 align=1 (i32.const 0x25252525)) (drop)
            (block (block (block (br_table 0 1 2 1 0 (i32.const 38)))))
            (memory.copy (i32.const 0) (i32.const 0) (i32.const 0))
            (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))
            (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))
            (drop (i32.trunc_sat_f64_u (f64.const 1))) (call $f (i32.const 1)) (call_indirect (param i32) (i32.const 1)
            (i32.const 0)) (drop (ref.func $g)) (drop (ref.is_null (ref.null func)))
            (drop (table.get $t (i32.const 0))) (data.drop $d) (elem.drop $e)))"""
    )
    assert facts == Facts(
        tail_calls=False,
        ref_funcs=frozenset({1}),
        dynamic_tables=frozenset({1}),
        elems=frozenset({0}),
        datas=frozenset({0}),
    )
    assert facts_of("(module (func $f (return_call $f)))").tail_calls
    indirect = "(module (table 1 funcref) (type $t (func)) (func (return_call_indirect (type $t) (i32.const 0))))"
    assert facts_of(indirect) == Facts(tail_calls=True)


@pytest.mark.parametrize(
    "instructions",
    [
        "(drop (i32.load 14 (i32.const 0)))",
        "(drop (i32.load 14 offset=0x0e0e (i32.const 0)))",
        "(drop (i32.load offset=14 (i32.const 0)))",
        "(drop (v128.load8_lane 14 offset=14 14 (i32.const 0) (v128.const i64x2 0x0e0e0e0e0e0e0e0e 0)))",
        "(v128.store8_lane 14 (i32.const 0) (i8x16.shuffle 14 14 14 14 14 14 14 14 14 14 14 14 14 14 14 14"
        " (v128.const i64x2 0x0e0e0e0e0e0e0e0e 0x0e0e0e0e0e0e0e0e) (v128.const i64x2 0 0)))",
        "(drop (i8x16.extract_lane_s 14 (f32x4.relaxed_min (v128.const i64x2 0 0) (i8x16.splat (i32.const 14)))))",
        "(drop (f64x2.max (v128.const i64x2 0 0) (v128.const i64x2 0 0)))",
    ],
)
def test_scan_steps_over_prefixed_instructions(instructions: str) -> None:
    """14 is br_table, which would be taken for one if the immediates before it were not stepped over."""
    memories = "(memory 1) " * 15
    assert facts_of(f"(module {memories} (func) (func {instructions} (drop (ref.func 0))))").ref_funcs == {0}


@pytest.mark.parametrize("number", [b"\x8c\x00", b"\x8c\x80\x00"], ids=["two", "three"])
def test_scan_knows_numbers_that_are_longer_than_they_need_to_be(number: bytes) -> None:
    body = b"\0\xfd" + number + bytes([0x0E] * 16) + b"\x1a\xd2\x05\x1a\x0b"
    assert scan(Module(bodies=(FunctionBody(offset=0, body=body),))).ref_funcs == {5}


@pytest.mark.parametrize(
    "before",
    [
        "(local (ref null $t) i32 (ref func) (ref $t))",
        "(block (result (ref null $t)) (ref.null $t)) (drop)",
        "(block (result (ref $t)) (loop (result (ref null $t)) (ref.func 0)) (br_on_non_null 0) (unreachable)) (drop)",
        "(drop (select (result (ref null $t)) (ref.null $t) (ref.null $t) (i32.const 0)))",
        "(block (br_on_null 0 (ref.as_non_null (ref.func 0))) (call_ref $t))",
    ],
)
def test_scan_steps_over_typed_references(before: str) -> None:
    many = "".join(f"(type (func (param {'i32 ' * count})))" for count in range(100))
    text = f"(module {many} (type $t (func (param externref))) (table 1 funcref) (func (type $t) {before} TAIL))"
    assert facts_of(text.replace("TAIL", "(drop (table.get 0 (i32.const 0)))")).dynamic_tables == {0}
    assert facts_of(text.replace("TAIL", "")).dynamic_tables == set()
    assert facts_of(text.replace("TAIL", "(return_call_ref $t (ref.null $t))")).tail_calls


def test_scan_survives_anything() -> None:
    """Bodies have not been validated yet."""
    body = text_to_binary("(module (func (block (br_table 0 0 0 (i32.const 1))) (drop (f64.const 1)) (unreachable)))")
    good = decode_module(body).bodies[0].body
    bodies = [good[:size] for size in range(len(good))]
    bodies += [good[:size] + bytes([byte]) * 3 for size in range(len(good)) for byte in (0, 0x0E, 0x1C, 0xFC, 0xFF)]
    bodies += [b"\xff\xff\xff\xff\x0f\x01\x7f", b"\x00\x0e\xff\xff\xff\xff\x0f\x00", b"\x00\xfc\xff\xff\xff\xff\x0f"]
    module = Module(bodies=tuple(FunctionBody(offset=0, body=body) for body in bodies))
    scan(module)
