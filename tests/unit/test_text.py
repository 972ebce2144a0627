"""The text format: what texts mean, and how the wrong ones are refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucet.errors import CompileError, Malformed, Unsupported
from lucet.wasm.check import check_module
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_keywords import INSTRS, KNOWN
from lucet.wasm.types import FuncType, GlobalType, Limits, MemoryType, TableType, ValType

HEADER = b"\0asm\1\0\0\0"


def parsed(text: str) -> Module:
    return decode_module(text_to_binary(text))


def func_type(params: str = "", results: str = "") -> FuncType:
    return FuncType(tuple(map(ValType, params.split())), tuple(map(ValType, results.split())))


def code(text: str, func: int = 0) -> list[object]:
    """(name, immediate) of each instruction of a function, just the name where there is no immediate."""
    names = {op.code: op.name for op in BY_NAME.values()}
    instrs = decode_code(parsed(text), func).instrs
    return [names[op] if immediate is None else (names[op], immediate) for op, _, immediate in instrs]


def body(text: str) -> list[object]:
    return code(f"(func {text})")


def message(text: str | bytes) -> str:
    with pytest.raises(Malformed) as caught:
        text_to_binary(text)
    return str(caught.value)


def test_empty_modules() -> None:
    assert text_to_binary("") == text_to_binary("(module)") == text_to_binary(b" (@a) ( module ) ;; end") == HEADER


def test_a_whole_module_to_the_byte() -> None:
    text = """(module (func $add (export "add") (param $a i32) (param i32) (result i32)
                (i32.add (local.get $a) (local.get 1))))"""
    assert text_to_binary(text) == HEADER + bytes.fromhex(
        "0107 01 60 02 7f7f 01 7f"  # type
        "0302 01 00"  # function
        "0707 01 03616464 00 00"  # export
        "0a09 01 07 00 2000 2001 6a 0b"  # code
        "000d 046e616d65 01 06 01 00 03616464"  # name
    )


def test_names_go_into_the_name_section() -> None:
    module = parsed('(module $"the module" (import "" "" (func $imported)) (func) (func $"a b"))')
    assert module.module_name == "the module"
    assert module.func_names == {0: "imported", 2: "a b"}


def test_types_uses_and_the_order_of_added_types() -> None:
    module = parsed(
        """(func $f (result f64) (unreachable))     ;; adds a type behind all that are written
           (func (type $t) (param $x i32))
           (func (param i32))                       ;; is $t
           (func (call_indirect (param i64 i64)) (block (param f32) (result f32)))
           (func (result f64) (unreachable))        ;; is that of $f
           (type $t (func (param $named i32)))
           (table 0 funcref)"""
    )
    assert module.types == (
        func_type("i32"),
        func_type("", "f64"),
        func_type(),
        func_type("i64 i64"),
        func_type("f32", "f32"),
    )
    assert module.funcs == (1, 0, 0, 2, 1)


def test_imports_exports_and_their_abbreviations() -> None:
    short = """(func $f (export "f") (export "g") (import "m" "f") (param i32))
               (table $t (import "m" "t") 1 2 externref)
               (memory (export "mem") (import "m" "m") 3)
               (global $g (export "glob") (import "m" "g") (mut i64))
               (export "t" (table $t))"""
    long = """(import "m" "f" (func $f (param i32)))
              (import "m" "t" (table $t 1 2 externref))
              (import "m" "m" (memory 3))
              (import "m" "g" (global $g (mut i64)))
              (export "f" (func $f)) (export "g" (func 0))
              (export "mem" (memory 0)) (export "glob" (global $g)) (export "t" (table 0))"""
    assert text_to_binary(short) == text_to_binary(long)
    module = parsed(short)
    assert module.all_tables == (TableType(reftype=ValType("externref"), limits=Limits(minimum=1, maximum=2)),)
    assert module.all_memories == (MemoryType(limits=Limits(minimum=3)),)
    assert module.all_globals == (GlobalType(valtype=ValType("i64"), mutable=True),)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("(memory (data))", "(memory 0 0) (data (i32.const 0))"),
        ('(memory (data "a" "\\62"))', '(memory 1 1) (data (memory 0) (offset i32.const 0) "ab")'),
        ("(table funcref (elem $f 0)) (func $f)", "(table 2 2 funcref) (elem (i32.const 0) 0 0) (func $f)"),
        (
            "(table externref (elem (ref.null extern)))",
            "(table 1 1 externref) (elem (table 0) (offset (i32.const 0)) externref (item ref.null extern))",
        ),
        ("(table (ref null func) (elem))", "(table 0 0 funcref) (elem (offset (i32.const 0)) func)"),
        ("(func (param i32 f32))", "(func (param i32) (param f32))"),
        ("(func (local i32 i32) (local i64))", "(func (local i32) (local i32) (local i64))"),
        ("(func (block nop))", "(func block nop end)"),
        ("(func (loop $l br $l))", "(func loop $l br 0 end $l)"),
        ("(func (if (i32.const 1) (then nop)))", "(func i32.const 1 if nop end)"),
        ("(func (if (i32.const 1) (then) (else)))", "(func i32.const 1 if else end)"),
        (
            "(func (drop (i32.add (i32.const 1) (i32.clz (i32.const 2)))))",
            "(func i32.const 1 i32.const 2 i32.clz i32.add drop)",
        ),
        ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "(global i32 i32.const 1 i32.const 2 i32.add)"),
        ("(elem $e func)", "(elem func)"),
        ("(data $d)", '(data "")'),
    ],
)
def test_abbreviations(short: str, long: str) -> None:
    assert text_to_binary(short) == text_to_binary(long)


def test_segments() -> None:
    module = parsed(
        """(table $t 9 funcref) (table $u 9 externref) (memory 1) (func $f)
           (elem $passive func $f) (elem declare func $f 0) (elem (table $u) (i32.const 1) externref)
           (elem (i32.const 2) funcref (ref.func $f) (item (ref.null func)))
           (elem (ref null extern) (ref.null extern))
           (data $d "x") (data (i32.const 4) "y")
           (func (table.init $passive (i32.const 0) (i32.const 0) (i32.const 0)) (elem.drop 1) (data.drop $d))"""
    )
    assert [(elem.mode, elem.table, elem.reftype, len(elem.items)) for elem in module.elems] == [
        ("passive", 0, "(ref func)", 1),
        ("declarative", 0, "(ref func)", 2),
        ("active", 1, "externref", 0),
        ("active", 0, "funcref", 2),
        ("passive", 0, "externref", 1),
    ]
    assert [(data.mode, data.bytes) for data in module.datas] == [("passive", b"x"), ("active", b"y")]
    assert module.data_count == 2


def test_the_data_count_is_written_only_where_it_is_needed() -> None:
    assert parsed('(memory 1) (data "x")').data_count is None


def test_immediates() -> None:
    nothing = func_type()
    assert code(
        """(func $f (local $x i32) (local $y i64)
             local.get $y  global.set $g  call $h  ref.func $f  ref.null extern
             i32.load  i64.store16 offset=0x1_0 align=1  f64.load align=4
             memory.size  memory.init 0  memory.copy  table.get  table.size $u  table.copy $u $t  table.init $u 0
             call_indirect $u (type 0)  select (result i32) (result)  i32.const 0xffffffff  f32.const -nan:0x1)
           (func $h) (global $g (mut i64) (i64.const 0)) (memory 1) (data "")
           (table $t 1 funcref) (table $u 1 funcref) (elem func)"""
    ) == [
        ("local.get", 1),
        ("global.set", 0),
        ("call", 1),
        ("ref.func", 0),
        ("ref.null", "externref"),
        ("i32.load", (2, 0, 0)),
        ("i64.store16", (0, 16, 0)),
        ("f64.load", (2, 0, 0)),
        ("memory.size", 0),
        ("memory.init", (0, 0)),
        ("memory.copy", (0, 0)),
        ("table.get", 0),
        ("table.size", 1),
        ("table.copy", (1, 0)),
        ("table.init", (0, 1)),
        ("call_indirect", (0, 1)),
        ("select_t", ("i32",)),
        ("i32.const", -1),
        ("f32.const", 0xFF800001),
        "end",
    ]
    assert nothing == parsed("(func)").types[0]


def test_labels() -> None:
    assert body("block $a block $b br $a br $b block $a br $a end $a br $a br 2 end end $a block $b end") == [
        ("block", func_type()),
        ("block", func_type()),
        ("br", 1),
        ("br", 0),
        ("block", func_type()),
        ("br", 0),
        "end",
        ("br", 1),
        ("br", 2),
        "end",
        "end",
        ("block", func_type()),
        "end",
        "end",
    ]
    assert body("(block $a (br_table $a 1 $a 7 (i32.const 0)))")[2] == ("br_table", ((0, 1, 0), 7))


def test_the_label_of_a_folded_if_begins_after_its_condition() -> None:
    text = "(block $l (if $l (i32.const 1) (then (br $l)) (else (br $l))))"
    assert [instr for instr in body(text) if instr[0] == "br"] == [("br", 0), ("br", 0)]  # type: ignore[index]
    assert "unknown label" in message("(func (if $l (br $l) (then)))")


def test_block_types() -> None:
    text = "(block (result i32) (unreachable)) (loop (param i32)) (if (result i32 i32) (then))"
    assert [instr[1] for instr in body(text) if instr[0] in ("block", "loop", "if")] == [  # type: ignore[index]
        func_type("", "i32"),
        func_type("i32"),
        func_type("", "i32 i32"),
    ]


@pytest.mark.parametrize("name", sorted(INSTRS - {"else", "end", "catch", "catch_all", "delegate"}))
def test_every_instruction_of_the_table_can_be_written(name: str) -> None:
    samples = {
        "br_table": "0 0",
        "type_table": "(type 0)",
        "reftype": "func",
        "f32": "1",
        "blocktype": "end",
        "try_table": "(catch 0 0) (catch_all_ref 0) end",
        "memarg": "offset=1",
        "memarg_lane": "offset=1 0",
        "v128": "i64x2 0 0",
        "lanes": "0 " * 16,
    }
    required = {
        "label",
        "func",
        "type",
        "local",
        "global",
        "data_memory",
        "tag",
        "data",
        "elem_table",
        "elem",
        "i32",
        "i64",
        "f64",
        "lane",
    }
    op = BY_NAME[name]
    immediate = samples.get(op.immediates, "0" if op.immediates in required else "")
    text = f'(type (func)) (data "") (elem func) (func {name} {immediate})'
    assert decode_code(parsed(text), 0).instrs[0][0] == op.code


def test_a_real_function_is_valid() -> None:
    check_module(
        text_to_binary(
            """(func $fac (export "fac") (param $n i64) (result i64)
                 (if (result i64) (i64.eqz (local.get $n))
                   (then (i64.const 1))
                   (else (i64.mul (local.get $n) (call $fac (i64.sub (local.get $n) (i64.const 1)))))))"""
        )
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(", "unexpected token (end of text) at 1:2"),
        (")", "unexpected token ) at 1:1"),
        ("(module) (module)", "unexpected token ( at 1:10"),
        ("(module\n  (funk))", "unknown operator funk at 2:4"),
        ("(module (param))", "unexpected token param at 1:10"),
        ("(func i32.foo)", "unknown operator i32.foo at 1:7"),
        ("(func align=4)", "unexpected token align=4 at 1:7"),
        ("(func align=x)", "unknown operator align=x at 1:7"),
        ("(func i32.const)", "unexpected token ) at 1:16"),
        ("(func i32.const 1.0)", "unexpected token 1.0 at 1:17"),
        ("(func i32.const 4294967296)", "constant out of range 4294967296 at 1:17"),
        ("(func f32.const 1e39)", "constant out of range 1e39 at 1:17"),
        ("(func (i32.load align=3))", "alignment must be a power of two at 1:17"),
        ("(func i32.load offset=0x1_0000_0000_0000_0000)", "i64 constant out of range at 1:16"),
        ("(func call 4294967296)", "i32 constant out of range at 1:12"),
        ("(func (block $l br $m))", "unknown label $m at 1:20"),
        ("(func block $l end $m)", "mismatching label $m at 1:20"),
        ("(func if else $m end)", "mismatching label $m at 1:15"),
        ("(func call $f)", "unknown function $f at 1:12"),
        ("(func local.get $f)", "unknown local $f at 1:17"),
        ("(func global.get $f)", "unknown global $f at 1:18"),
        ("(func table.get $f)", "unknown table $f at 1:17"),
        ("(func elem.drop $f)", "unknown elem segment $f at 1:17"),
        ("(func data.drop $f)", "unknown data segment $f at 1:17"),
        ("(func (type $f))", "unknown type $f at 1:13"),
        ("(func (type 1) (param i32))", "unknown type 1 at 1:13"),
        ("(type (func)) (func (type 0) (result i32))", "inline function type does not match explicit type at 1:27"),
        ("(func (param $x i32) (local $x i32))", "duplicate local $x at 1:29"),
        ("(func (param $x i32) (param $x i32))", "duplicate local $x at 1:29"),
        ("(func $f) (func $f)", "duplicate function $f at 1:17"),
        ("(memory $m 1) (memory $m 1)", "duplicate memory $m at 1:23"),
        ("(func) (start 0) (start 0)", "multiple start sections at 1:25"),
        ('(func) (import "" "" (func))', "import after function definition at 1:8"),
        ('(memory 1) (func (import "" ""))', "import after memory definition at 1:12"),
        ("(func (if (i32.const 0)))", "unexpected token ) at 1:24"),
        ("(func (if (then) (then)))", "unexpected token then at 1:19"),
        ("(func (if (then) (else) (else)))", "unexpected token else at 1:26"),
        ("(func block)", "unexpected token ) at 1:12"),
        ("(func end)", "unexpected token end at 1:7"),
        ("(func block else end)", "unexpected token else at 1:13"),
        ("(func (block end))", "unexpected token end at 1:14"),
        ("(func (i32.eqz i32.const 0))", "unexpected token i32.const at 1:16"),
        ("(func (block (param $x i32)))", "unexpected token $x at 1:21"),
        ("(func (result i32) (param i32))", "unexpected token param at 1:21"),
        ("(func nop (local i32))", "unexpected token local at 1:12"),
        ('(export "a" (func 0)', "unexpected token (end of text) at 1:21"),
        ('(export "\\ff" (func 0))', "malformed UTF-8 encoding at 1:9"),
        ('(memory (data "a" 1))', "unexpected token 1 at 1:19"),
        ("(func $)", "empty identifier at 1:7"),
        ("(func (;)", "unclosed comment at 1:7"),
        ("(funk) $", "unknown operator funk at 1:2"),  # the first of two errors
        (b"(func\n \xff)", "malformed UTF-8 encoding at 2:2"),
        ("\ud800", "malformed UTF-8 encoding at character 0"),
    ],
)
def test_malformed_texts(text: str | bytes, expected: str) -> None:
    assert message(text) == expected


def test_kinds_of_memories() -> None:
    module = parsed(
        """(memory i64 1 2) (memory 3 (pagesize 1)) (memory i64 3 4 (pagesize 65536)) (memory (pagesize 1) (data "abc"))
           (memory i64 (data "d"))"""
    )
    assert [(one.limits.minimum, one.limits.maximum, one.limits.index_type) for one in module.memories] == [
        (1, 2, "i64"),
        (3, None, "i32"),
        (3, 4, "i64"),
        (3, 3, "i32"),
        (1, 1, "i64"),
    ]
    assert [one.page_size_log2 for one in module.memories] == [16, 0, 16, 0, 16]
    assert parsed('(import "m" "n" (memory i64 5 (pagesize 1)))').all_memories[0].page_size_log2 == 0
    for size in (0, 3):
        assert message(f"(memory 1 (pagesize {size}))") == f"invalid custom page size {size} at 1:21"


def test_segments_with_a_number_alone() -> None:
    module = parsed(
        """(table 1 funcref) (memory 1) (memory 1) (func $f)
           (elem 0 (i32.const 0) $f) (data 1 (i32.const 2) "a") (data $d 0 (offset (i32.const 3)) "b")"""
    )
    assert [(elem.mode, elem.table, len(elem.items)) for elem in module.elems] == [("active", 0, 1)]
    assert [(data.memory, data.bytes) for data in module.datas] == [(1, b"a"), (0, b"b")]


def test_atomic_instructions() -> None:
    module = "(memory 1 1 shared) (memory $m i64 1 1 shared (pagesize 1)) (func %s)"
    fence = "atomic.fence"
    add = "(drop (i64.atomic.rmw16.add_u $m offset=4 (i64.const 8) (i64.const 1)))"
    assert code(module % f"{fence} {add}")[:4] == [
        "atomic.fence",
        ("i64.const", 8),
        ("i64.const", 1),
        ("i64.atomic.rmw16.add_u", (1, 4, 1)),
    ]
    memories = parsed(module % "").memories
    assert [(memory.shared, memory.page_size_log2) for memory in memories] == [(True, 16), (True, 0)]


def test_a_message_does_not_repeat_a_long_token() -> None:
    assert len(message("(func " + "x" * 1_000_000)) < 120


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("(func $f (call $g)) (rec (type $t (func)))", "garbage collection (rec) at 1:22"),
        ("(type (struct (field i32)))", "garbage collection (struct) at 1:8"),
    ],
)
def test_missing_features_are_named(text: str, feature: str) -> None:
    with pytest.raises(Unsupported) as caught:
        text_to_binary(text)
    assert str(caught.value) == f"unsupported feature: {feature}"


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("(func (param anyref))", "garbage collection"),
    ],
)
def test_missing_features_that_the_binary_format_shows_are_left_to_the_decoder(text: str, feature: str) -> None:
    with pytest.raises(Unsupported, match=feature):
        check_module(text_to_binary(text))


N = 100_000


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("(" * N, False),
        ("(module " * N, False),
        ("(func " + "(block " * N, False),
        ("(func " + "(block " * N + ")" * N + ")", True),
        ("(func " + "block $a " * N + "br $a " * N + "end $a " * N + ")", True),
        ("(func " + "(drop " * N + ")" * N + ")", True),
        ("(func " + "(if (i32.const 1) (then " * N + "))" * N + ")", True),
        ("(func (param (ref " * N, False),
        ("(func" + ' (export "a")' * N + ")", True),
        ("(func" + " (param i32)" * N + " (local $x i64))", True),
        ("".join(f"(func $f{index} (call $f{N - 1 - index}))" for index in range(N)), True),
    ],
    ids=range(11),
)
def test_deep_and_long_texts(text: str, accepted: bool) -> None:
    started = time.process_time()
    if accepted:
        assert text_to_binary(text).startswith(HEADER)
    else:
        assert message(text).startswith("unexpected token")
    assert time.process_time() - started < 10.0


WORDS = [*sorted(KNOWN), *'( ) ( ) (func (module $x "x" 0 -1 1.5 offset=1 align=2'.split()]


@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_tokens_give_a_module_or_a_clear_error(words: list[str]) -> None:
    try:
        binary = text_to_binary(" ".join(words))
    except (Malformed, Unsupported) as error:
        assert " at " in str(error)
    else:
        assert binary.startswith(HEADER)


@given(st.text(max_size=60))
def test_any_text_gives_a_module_or_a_clear_error(text: str) -> None:
    try:
        text_to_binary(f"(func {text})")
    except CompileError as error:
        assert " at " in str(error)
