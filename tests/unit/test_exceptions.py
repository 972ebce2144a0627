"""Exceptions before they run: decoding, validation, text, disassembly, and what is made of the tables of LLVM."""

from __future__ import annotations

import re

import pytest

from lucet.compile import elf, link, unwind
from lucet.compile.scan import scan
from lucet.errors import CompilerFailed, Invalid, Malformed
from lucet.wasm.check import check_module
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.disasm import describe_module
from lucet.wasm.module import Catch
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import FuncType, TagType, ValType
from tests.unit.objects import compile_ir
from tests.unit.wasm_bytes import module, section

I32_I64 = FuncType((ValType("i32"), ValType("i64")))

TEXT = """(module
  (import "m" "t" (tag $imported (param i32 i64)))
  (tag $own (export "own") (export "again"))
  (export "other" (tag $imported))
  (func
    (block $a (result i32 i64) (block $b (result exnref) (block $c (result i32 i64 exnref)
      (try_table $t (catch $imported $a) (catch_all_ref $b) (catch_ref 0 $c)
        (br $t) (throw $imported (i32.const 1) (i64.const 2)))
      (try_table (catch $own 3) (catch_all 3) nop)
      (return)) (return)) (throw_ref))
    (drop) (drop)))"""


def test_text_to_module() -> None:
    decoded = decode_module(text_to_binary(TEXT))
    assert decoded.all_tags == (TagType(functype=I32_I64), TagType(functype=FuncType()))
    assert decoded.tags == (TagType(functype=FuncType()),)
    assert decoded.imports[0].desc == TagType(functype=I32_I64)
    assert [(one.name, one.kind, one.index) for one in decoded.exports] == [
        ("own", "tag", 1),
        ("again", "tag", 1),
        ("other", "tag", 0),
    ]
    try_table = BY_NAME["try_table"].code
    catches = [immediate for code, _, immediate in decode_code(decoded, 0).instrs if code == try_table]
    # Labels are those outside: $t does not count.
    assert catches == [
        (FuncType(), (Catch(0, False, 2), Catch(None, True, 1), Catch(0, True, 0))),
        (FuncType(), (Catch(1, False, 3), Catch(None, False, 3))),
    ]
    check_module(text_to_binary(TEXT))
    assert scan(decoded).exceptions
    assert not scan(decode_module(text_to_binary("(module (tag) (func nop))"))).exceptions


def test_what_is_behind_a_try_table_is_scanned() -> None:
    text = """(module (tag $e) (table 1 (ref null func)) (type $f (func))
      (func (try_table (result (ref null $f)) (catch $e 0) (ref.null $f)) (drop) (drop (table.get 0 (i32.const 0)))))"""
    assert scan(decode_module(text_to_binary(text))).dynamic_tables == {0}


def test_disassembly() -> None:
    text = "\n".join(describe_module(decode_module(text_to_binary(TEXT))))
    assert "try_table (catch 0 2) (catch_all_ref 1) (catch_ref 0 0)" in text
    assert "try_table (catch 1 3) (catch_all 3)" in text
    assert "throw 0" in text
    assert "throw_ref" in text
    assert "tag [] -> []" in text
    assert "import 'm' 't': tag [i32 i64] -> []" in text


TYPE, IMPORT, TAG, FUNCTION, CODE = 1, 2, 13, 3, 10


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (module(section(TYPE, b"\1\x60\0\0"), section(TAG, b"\1\1\0")), Malformed, "malformed tag attribute"),
        (module(section(TYPE, b"\1\x60\0\0"), section(TAG, b"\1\0\1")), Invalid, "unknown type 1"),
        (module(section(TYPE, b"\1\x60\0\1\x7f"), section(TAG, b"\1\0\0")), Invalid, "non-empty tag result type"),
        (
            module(section(TYPE, b"\1\x60\0\1\x7f"), section(IMPORT, b"\1\0\0\4\0\0")),
            Invalid,
            "non-empty tag result type",
        ),
        # try_table, no block type, one clause of kind 4
        (
            module(
                section(TYPE, b"\1\x60\0\0"),
                section(FUNCTION, b"\1\0"),
                section(CODE, b"\1\x08\0\x1f\x40\1\4\0\x0b\x0b"),
            ),
            Malformed,
            "malformed catch clause",
        ),
    ],
)
def test_wrong_bytes(data: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_module(data)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(throw 2)", "unknown tag 2"),
        ("(try_table (catch 2 0))", "unknown tag 2"),
        ("(try_table (catch 0 0))", "a catch clause brings [i32] to a label that takes []"),
        (
            "(block (result i32) (try_table (catch_all 0)) (i32.const 0)) (drop)",
            "brings [] to a label that takes [i32]",
        ),
        ("(try_table (catch_all_ref 0))", "brings [(ref exn)] to a label that takes []"),
        ("(try_table (catch_all 9))", "unknown label 9"),
        ("(throw_ref (ref.null func))", "throw_ref expects exnref, found funcref"),
        ("(throw 0)", "type mismatch: instruction requires [i32] but stack has []"),
        ("(throw 0 (f32.const 0))", "type mismatch: instruction requires [i32] but stack has [f32]"),
        ("(try_table (result i32))", "type mismatch"),
    ],
)
def test_invalid(body: str, message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        check_module(text_to_binary(f"(module (tag (param i32)) (tag) (func {body}))"))


def test_a_label_may_take_a_supertype() -> None:
    body = "(drop (block (result exnref) (try_table (result exnref) (catch_all_ref 0) (ref.null exn))))"
    check_module(text_to_binary(f"(module (func {body}))"))


def test_the_order_of_clauses_and_code_is_the_grammars() -> None:
    for text in ("(func (try_table nop (catch_all 0)))", "(func (catch_all 0))", "(func try_table catch_all 0 end)"):
        with pytest.raises(Malformed, match=r"unexpected token|unknown operator"):
            text_to_binary(text)


# ---- the first proposal

LEGACY = """(module (tag $e (param i32))
  (func (result i32)
    try $t (result i32)
      try $u (result i32) (br $t (i32.const 1)) delegate $t
    catch $e
    catch_all
      try rethrow $t catch $e drop end
      i32.const 2
    end $t)
  (func (result i32)
    (try (result i32) (do (try (result i32) (do (i32.const 1)) (delegate 0)))
      (catch $e) (catch_all (rethrow 0)))))"""


def test_legacy_text() -> None:
    decoded = decode_module(text_to_binary(LEGACY))
    names = {op.code: op.name for op in BY_NAME.values()}
    listed = [(names[code], immediate) for code, _, immediate in decode_code(decoded, 0).instrs]
    assert [one for one in listed if one[0] in ("catch", "catch_all", "delegate", "rethrow", "br")] == [
        ("br", 1),
        ("delegate", 0),
        ("catch", 0),
        ("catch_all", None),
        ("rethrow", 1),
        ("catch", 0),
    ]
    check_module(text_to_binary(LEGACY))
    assert scan(decoded).exceptions
    text = "\n".join(describe_module(decoded))
    assert "delegate 0" in text
    assert "catch_all" in text


@pytest.mark.parametrize(
    "code",
    [
        b"\x07\0\x0b",  # catch
        b"\x19\x0b",  # catch_all
        b"\x18\0\x0b",  # delegate
        b"\x02\x40\x07\0\x0b\x0b",  # block catch
        b"\x06\x40\x19\x07\0\x0b\x0b",  # try catch_all catch
        b"\x06\x40\x07\0\x1a\x18\0\x0b",  # try catch delegate
    ],
)
def test_legacy_clauses_stand_where_they_belong(code: bytes) -> None:
    body = b"\0" + code
    data = module(
        section(TYPE, b"\2\x60\0\0\x60\1\x7f\0"),
        section(FUNCTION, b"\1\0"),
        section(TAG, b"\1\0\1"),
        section(CODE, b"\1" + bytes([len(body)]) + body),
    )
    with pytest.raises(Malformed, match="END opcode expected, not"):
        check_module(data)


# ---- unwinding information

HANDLER = """
declare i32 @lucet_personality(...)
declare void @f1(ptr)
define hidden void @f0(ptr %vm) uwtable personality ptr @lucet_personality {
  invoke void @f1(ptr %vm) to label %ok unwind label %pad
ok:
  ret void
pad:
  %x = landingpad { ptr, i32 } cleanup
  %e = extractvalue { ptr, i32 } %x, 0
  call void @f1(ptr %e)
  ret void
}
"""
OTHER = "define hidden void @f1(ptr %vm) nounwind uwtable { ret void }"


def merged_frames() -> tuple[link.Merged, bytearray]:
    merged = link.merge([elf.read_relocatable(compile_ir(text)) for text in (HANDLER, OTHER)])
    link.relocate(merged, {link.TEXT: 0x1000, link.RODATA: 0x2000, link.EH_FRAME: 0x3000}, {})
    frames = merged.areas[link.EH_FRAME].data
    frames += unwind.TERMINATOR
    return merged, frames


def test_the_personality_is_taken_out() -> None:
    merged, frames = merged_frames()
    assert b"zPLR" in frames
    hdr = unwind.eh_frame_hdr(frames, 0x3000, 0x4000)
    assert b"zPLR" not in frames
    assert b"\1zLR\0\x81\0\x78\x10\x07\x1b\x1b" in frames
    assert int.from_bytes(hdr[8:12], "little") == 2
    assert not any("lucet_personality" in name for name in merged.symbols)
    # The function's record leads to its table, which begins with: no base, no types.
    at = frames.index(b"\1zLR")
    record = at - 8 + 4 + int.from_bytes(frames[at - 8 : at - 4], "little")
    assert frames[record + 16] == 4
    table = 0x3000 + record + 17 + int.from_bytes(frames[record + 17 : record + 21], "little", signed=True)
    assert merged.areas[link.RODATA].data[table - 0x2000 :][:2] == b"\xff\xff"


def test_an_unknown_instruction_is_refused() -> None:
    _, frames = merged_frames()
    frames[-len(unwind.TERMINATOR) - 1] = 0x16  # val_expression, in the padding of the last record
    with pytest.raises(CompilerFailed, match="unwind information with an unknown instruction"):
        unwind.eh_frame_hdr(frames, 0x3000, 0x4000)
