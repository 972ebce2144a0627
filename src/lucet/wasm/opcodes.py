"""THE table of instructions: every fact about an instruction that is data, one row each.

The order is that of the specification's "Binary Format / Instructions". Decoder,
validator, translator, disassembler and text format all read it; no other file names an opcode by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lucet.wasm.types import CODES_BY_VALTYPE, ValType


@dataclass(frozen=True, kw_only=True)
class Op:
    """One instruction."""

    code: int
    """The byte, or prefix << 8 | number for prefixed ones, as in module.Instr."""
    name: str
    """The text format's name. 0x1C, `select` with types, is "select_t" here."""
    immediates: str
    """What follows the opcode in the binary format: "" for nothing, else one of IMMEDIATES."""
    pops: tuple[ValType, ...]
    """With the address types of 32-bit memories and tables; in others, addresses and sizes are i64."""
    pushes: tuple[ValType, ...]
    family: str
    """One of FAMILIES; translation is one function per family."""
    irregular: bool = False
    """The types depend on more than the opcode: the validator has a rule for it; pops and pushes are empty."""
    align: int | None = None
    """Loads and stores: the natural alignment's exponent, so 1 << align is the width of the access in bytes."""
    feature: str = "mvp"
    """One of FEATURES: what brought the instruction."""


FAMILIES: Final = (
    "control",
    "call",
    "variable",
    "parametric",
    "reference",
    "table",
    "memory",
    "load",
    "store",
    "const",
    "test",
    "compare",
    "unary",
    "binary",
    "convert",
)

FEATURES: Final = (
    "mvp",
    "sign_extension",
    "saturating",
    "multi_value",
    "bulk_memory",
    "reference_types",
    "tail_call",
    "function_references",
    "exceptions",
)

IMMEDIATES: Final = (
    "blocktype",
    "label",
    "br_table",
    "func",
    "type",
    "type_table",
    "local",
    "global",
    "table",
    "memarg",
    "memory",
    "memory_memory",
    "data_memory",
    "data",
    "elem_table",
    "elem",
    "table_table",
    "i32",
    "i64",
    "f32",
    "f64",
    "reftype",
    "valtypes",
    "tag",
    "try_table",
)
"""Kinds of immediates, in the order of their bytes ("type_table" is a type index, then a table index). "try_table" is a
block type, then a vector of catch clauses."""


def _op(
    code: int,
    name: str,
    family: str,
    signature: str | None,
    immediates: str = "",
    *,
    align: int | None = None,
    feature: str = "mvp",
) -> Op:
    """signature: "i32 i32 -> i32", or None for an irregular instruction."""
    pops, _, pushes = (signature or "").partition("->")
    return Op(
        code=code,
        name=name,
        immediates=immediates,
        pops=_valtypes(pops),
        pushes=_valtypes(pushes),
        family=family,
        irregular=signature is None,
        align=align,
        feature=feature,
    )


def _valtypes(text: str) -> tuple[ValType, ...]:
    valtypes = tuple(ValType(word) for word in text.split())
    assert all(valtype in CODES_BY_VALTYPE for valtype in valtypes), text
    return valtypes


_TABLE: Final = (
    # Control instructions
    _op(0x00, "unreachable", "control", None),
    _op(0x01, "nop", "control", "->"),
    _op(0x02, "block", "control", None, "blocktype"),
    _op(0x03, "loop", "control", None, "blocktype"),
    _op(0x04, "if", "control", None, "blocktype"),
    _op(0x05, "else", "control", None),
    _op(0x08, "throw", "control", None, "tag", feature="exceptions"),
    _op(0x0A, "throw_ref", "control", None, feature="exceptions"),
    _op(0x0B, "end", "control", None),
    _op(0x0C, "br", "control", None, "label"),
    _op(0x0D, "br_if", "control", None, "label"),
    _op(0x0E, "br_table", "control", None, "br_table"),
    _op(0x0F, "return", "control", None),
    _op(0x10, "call", "call", None, "func"),
    _op(0x11, "call_indirect", "call", None, "type_table"),
    _op(0x12, "return_call", "call", None, "func", feature="tail_call"),
    _op(0x13, "return_call_indirect", "call", None, "type_table", feature="tail_call"),
    _op(0x14, "call_ref", "call", None, "type", feature="function_references"),
    _op(0x15, "return_call_ref", "call", None, "type", feature="function_references"),
    _op(0xD5, "br_on_null", "control", None, "label", feature="function_references"),
    _op(0xD6, "br_on_non_null", "control", None, "label", feature="function_references"),
    _op(0x1F, "try_table", "control", None, "try_table", feature="exceptions"),
    # Parametric instructions
    _op(0x1A, "drop", "parametric", None),
    _op(0x1B, "select", "parametric", None),
    _op(0x1C, "select_t", "parametric", None, "valtypes", feature="reference_types"),
    # Variable instructions
    _op(0x20, "local.get", "variable", None, "local"),
    _op(0x21, "local.set", "variable", None, "local"),
    _op(0x22, "local.tee", "variable", None, "local"),
    _op(0x23, "global.get", "variable", None, "global"),
    _op(0x24, "global.set", "variable", None, "global"),
    # Table instructions
    _op(0x25, "table.get", "table", None, "table", feature="reference_types"),
    _op(0x26, "table.set", "table", None, "table", feature="reference_types"),
    _op(0xFC0C, "table.init", "table", "i32 i32 i32 ->", "elem_table", feature="bulk_memory"),
    _op(0xFC0D, "elem.drop", "table", "->", "elem", feature="bulk_memory"),
    _op(0xFC0E, "table.copy", "table", "i32 i32 i32 ->", "table_table", feature="bulk_memory"),
    _op(0xFC0F, "table.grow", "table", None, "table", feature="reference_types"),
    _op(0xFC10, "table.size", "table", "-> i32", "table", feature="reference_types"),
    _op(0xFC11, "table.fill", "table", None, "table", feature="reference_types"),
    # Memory instructions
    _op(0x28, "i32.load", "load", "i32 -> i32", "memarg", align=2),
    _op(0x29, "i64.load", "load", "i32 -> i64", "memarg", align=3),
    _op(0x2A, "f32.load", "load", "i32 -> f32", "memarg", align=2),
    _op(0x2B, "f64.load", "load", "i32 -> f64", "memarg", align=3),
    _op(0x2C, "i32.load8_s", "load", "i32 -> i32", "memarg", align=0),
    _op(0x2D, "i32.load8_u", "load", "i32 -> i32", "memarg", align=0),
    _op(0x2E, "i32.load16_s", "load", "i32 -> i32", "memarg", align=1),
    _op(0x2F, "i32.load16_u", "load", "i32 -> i32", "memarg", align=1),
    _op(0x30, "i64.load8_s", "load", "i32 -> i64", "memarg", align=0),
    _op(0x31, "i64.load8_u", "load", "i32 -> i64", "memarg", align=0),
    _op(0x32, "i64.load16_s", "load", "i32 -> i64", "memarg", align=1),
    _op(0x33, "i64.load16_u", "load", "i32 -> i64", "memarg", align=1),
    _op(0x34, "i64.load32_s", "load", "i32 -> i64", "memarg", align=2),
    _op(0x35, "i64.load32_u", "load", "i32 -> i64", "memarg", align=2),
    _op(0x36, "i32.store", "store", "i32 i32 ->", "memarg", align=2),
    _op(0x37, "i64.store", "store", "i32 i64 ->", "memarg", align=3),
    _op(0x38, "f32.store", "store", "i32 f32 ->", "memarg", align=2),
    _op(0x39, "f64.store", "store", "i32 f64 ->", "memarg", align=3),
    _op(0x3A, "i32.store8", "store", "i32 i32 ->", "memarg", align=0),
    _op(0x3B, "i32.store16", "store", "i32 i32 ->", "memarg", align=1),
    _op(0x3C, "i64.store8", "store", "i32 i64 ->", "memarg", align=0),
    _op(0x3D, "i64.store16", "store", "i32 i64 ->", "memarg", align=1),
    _op(0x3E, "i64.store32", "store", "i32 i64 ->", "memarg", align=2),
    _op(0x3F, "memory.size", "memory", "-> i32", "memory"),
    _op(0x40, "memory.grow", "memory", "i32 -> i32", "memory"),
    _op(0xFC08, "memory.init", "memory", "i32 i32 i32 ->", "data_memory", feature="bulk_memory"),
    _op(0xFC09, "data.drop", "memory", "->", "data", feature="bulk_memory"),
    _op(0xFC0A, "memory.copy", "memory", "i32 i32 i32 ->", "memory_memory", feature="bulk_memory"),
    _op(0xFC0B, "memory.fill", "memory", "i32 i32 i32 ->", "memory", feature="bulk_memory"),
    # Reference instructions
    _op(0xD0, "ref.null", "reference", None, "reftype", feature="reference_types"),
    _op(0xD1, "ref.is_null", "reference", None, feature="reference_types"),
    _op(0xD2, "ref.func", "reference", None, "func", feature="reference_types"),
    _op(0xD4, "ref.as_non_null", "reference", None, feature="function_references"),
    # Numeric instructions
    _op(0x41, "i32.const", "const", "-> i32", "i32"),
    _op(0x42, "i64.const", "const", "-> i64", "i64"),
    _op(0x43, "f32.const", "const", "-> f32", "f32"),
    _op(0x44, "f64.const", "const", "-> f64", "f64"),
    _op(0x45, "i32.eqz", "test", "i32 -> i32"),
    _op(0x46, "i32.eq", "compare", "i32 i32 -> i32"),
    _op(0x47, "i32.ne", "compare", "i32 i32 -> i32"),
    _op(0x48, "i32.lt_s", "compare", "i32 i32 -> i32"),
    _op(0x49, "i32.lt_u", "compare", "i32 i32 -> i32"),
    _op(0x4A, "i32.gt_s", "compare", "i32 i32 -> i32"),
    _op(0x4B, "i32.gt_u", "compare", "i32 i32 -> i32"),
    _op(0x4C, "i32.le_s", "compare", "i32 i32 -> i32"),
    _op(0x4D, "i32.le_u", "compare", "i32 i32 -> i32"),
    _op(0x4E, "i32.ge_s", "compare", "i32 i32 -> i32"),
    _op(0x4F, "i32.ge_u", "compare", "i32 i32 -> i32"),
    _op(0x50, "i64.eqz", "test", "i64 -> i32"),
    _op(0x51, "i64.eq", "compare", "i64 i64 -> i32"),
    _op(0x52, "i64.ne", "compare", "i64 i64 -> i32"),
    _op(0x53, "i64.lt_s", "compare", "i64 i64 -> i32"),
    _op(0x54, "i64.lt_u", "compare", "i64 i64 -> i32"),
    _op(0x55, "i64.gt_s", "compare", "i64 i64 -> i32"),
    _op(0x56, "i64.gt_u", "compare", "i64 i64 -> i32"),
    _op(0x57, "i64.le_s", "compare", "i64 i64 -> i32"),
    _op(0x58, "i64.le_u", "compare", "i64 i64 -> i32"),
    _op(0x59, "i64.ge_s", "compare", "i64 i64 -> i32"),
    _op(0x5A, "i64.ge_u", "compare", "i64 i64 -> i32"),
    _op(0x5B, "f32.eq", "compare", "f32 f32 -> i32"),
    _op(0x5C, "f32.ne", "compare", "f32 f32 -> i32"),
    _op(0x5D, "f32.lt", "compare", "f32 f32 -> i32"),
    _op(0x5E, "f32.gt", "compare", "f32 f32 -> i32"),
    _op(0x5F, "f32.le", "compare", "f32 f32 -> i32"),
    _op(0x60, "f32.ge", "compare", "f32 f32 -> i32"),
    _op(0x61, "f64.eq", "compare", "f64 f64 -> i32"),
    _op(0x62, "f64.ne", "compare", "f64 f64 -> i32"),
    _op(0x63, "f64.lt", "compare", "f64 f64 -> i32"),
    _op(0x64, "f64.gt", "compare", "f64 f64 -> i32"),
    _op(0x65, "f64.le", "compare", "f64 f64 -> i32"),
    _op(0x66, "f64.ge", "compare", "f64 f64 -> i32"),
    _op(0x67, "i32.clz", "unary", "i32 -> i32"),
    _op(0x68, "i32.ctz", "unary", "i32 -> i32"),
    _op(0x69, "i32.popcnt", "unary", "i32 -> i32"),
    _op(0x6A, "i32.add", "binary", "i32 i32 -> i32"),
    _op(0x6B, "i32.sub", "binary", "i32 i32 -> i32"),
    _op(0x6C, "i32.mul", "binary", "i32 i32 -> i32"),
    _op(0x6D, "i32.div_s", "binary", "i32 i32 -> i32"),
    _op(0x6E, "i32.div_u", "binary", "i32 i32 -> i32"),
    _op(0x6F, "i32.rem_s", "binary", "i32 i32 -> i32"),
    _op(0x70, "i32.rem_u", "binary", "i32 i32 -> i32"),
    _op(0x71, "i32.and", "binary", "i32 i32 -> i32"),
    _op(0x72, "i32.or", "binary", "i32 i32 -> i32"),
    _op(0x73, "i32.xor", "binary", "i32 i32 -> i32"),
    _op(0x74, "i32.shl", "binary", "i32 i32 -> i32"),
    _op(0x75, "i32.shr_s", "binary", "i32 i32 -> i32"),
    _op(0x76, "i32.shr_u", "binary", "i32 i32 -> i32"),
    _op(0x77, "i32.rotl", "binary", "i32 i32 -> i32"),
    _op(0x78, "i32.rotr", "binary", "i32 i32 -> i32"),
    _op(0x79, "i64.clz", "unary", "i64 -> i64"),
    _op(0x7A, "i64.ctz", "unary", "i64 -> i64"),
    _op(0x7B, "i64.popcnt", "unary", "i64 -> i64"),
    _op(0x7C, "i64.add", "binary", "i64 i64 -> i64"),
    _op(0x7D, "i64.sub", "binary", "i64 i64 -> i64"),
    _op(0x7E, "i64.mul", "binary", "i64 i64 -> i64"),
    _op(0x7F, "i64.div_s", "binary", "i64 i64 -> i64"),
    _op(0x80, "i64.div_u", "binary", "i64 i64 -> i64"),
    _op(0x81, "i64.rem_s", "binary", "i64 i64 -> i64"),
    _op(0x82, "i64.rem_u", "binary", "i64 i64 -> i64"),
    _op(0x83, "i64.and", "binary", "i64 i64 -> i64"),
    _op(0x84, "i64.or", "binary", "i64 i64 -> i64"),
    _op(0x85, "i64.xor", "binary", "i64 i64 -> i64"),
    _op(0x86, "i64.shl", "binary", "i64 i64 -> i64"),
    _op(0x87, "i64.shr_s", "binary", "i64 i64 -> i64"),
    _op(0x88, "i64.shr_u", "binary", "i64 i64 -> i64"),
    _op(0x89, "i64.rotl", "binary", "i64 i64 -> i64"),
    _op(0x8A, "i64.rotr", "binary", "i64 i64 -> i64"),
    _op(0x8B, "f32.abs", "unary", "f32 -> f32"),
    _op(0x8C, "f32.neg", "unary", "f32 -> f32"),
    _op(0x8D, "f32.ceil", "unary", "f32 -> f32"),
    _op(0x8E, "f32.floor", "unary", "f32 -> f32"),
    _op(0x8F, "f32.trunc", "unary", "f32 -> f32"),
    _op(0x90, "f32.nearest", "unary", "f32 -> f32"),
    _op(0x91, "f32.sqrt", "unary", "f32 -> f32"),
    _op(0x92, "f32.add", "binary", "f32 f32 -> f32"),
    _op(0x93, "f32.sub", "binary", "f32 f32 -> f32"),
    _op(0x94, "f32.mul", "binary", "f32 f32 -> f32"),
    _op(0x95, "f32.div", "binary", "f32 f32 -> f32"),
    _op(0x96, "f32.min", "binary", "f32 f32 -> f32"),
    _op(0x97, "f32.max", "binary", "f32 f32 -> f32"),
    _op(0x98, "f32.copysign", "binary", "f32 f32 -> f32"),
    _op(0x99, "f64.abs", "unary", "f64 -> f64"),
    _op(0x9A, "f64.neg", "unary", "f64 -> f64"),
    _op(0x9B, "f64.ceil", "unary", "f64 -> f64"),
    _op(0x9C, "f64.floor", "unary", "f64 -> f64"),
    _op(0x9D, "f64.trunc", "unary", "f64 -> f64"),
    _op(0x9E, "f64.nearest", "unary", "f64 -> f64"),
    _op(0x9F, "f64.sqrt", "unary", "f64 -> f64"),
    _op(0xA0, "f64.add", "binary", "f64 f64 -> f64"),
    _op(0xA1, "f64.sub", "binary", "f64 f64 -> f64"),
    _op(0xA2, "f64.mul", "binary", "f64 f64 -> f64"),
    _op(0xA3, "f64.div", "binary", "f64 f64 -> f64"),
    _op(0xA4, "f64.min", "binary", "f64 f64 -> f64"),
    _op(0xA5, "f64.max", "binary", "f64 f64 -> f64"),
    _op(0xA6, "f64.copysign", "binary", "f64 f64 -> f64"),
    _op(0xA7, "i32.wrap_i64", "convert", "i64 -> i32"),
    _op(0xA8, "i32.trunc_f32_s", "convert", "f32 -> i32"),
    _op(0xA9, "i32.trunc_f32_u", "convert", "f32 -> i32"),
    _op(0xAA, "i32.trunc_f64_s", "convert", "f64 -> i32"),
    _op(0xAB, "i32.trunc_f64_u", "convert", "f64 -> i32"),
    _op(0xAC, "i64.extend_i32_s", "convert", "i32 -> i64"),
    _op(0xAD, "i64.extend_i32_u", "convert", "i32 -> i64"),
    _op(0xAE, "i64.trunc_f32_s", "convert", "f32 -> i64"),
    _op(0xAF, "i64.trunc_f32_u", "convert", "f32 -> i64"),
    _op(0xB0, "i64.trunc_f64_s", "convert", "f64 -> i64"),
    _op(0xB1, "i64.trunc_f64_u", "convert", "f64 -> i64"),
    _op(0xB2, "f32.convert_i32_s", "convert", "i32 -> f32"),
    _op(0xB3, "f32.convert_i32_u", "convert", "i32 -> f32"),
    _op(0xB4, "f32.convert_i64_s", "convert", "i64 -> f32"),
    _op(0xB5, "f32.convert_i64_u", "convert", "i64 -> f32"),
    _op(0xB6, "f32.demote_f64", "convert", "f64 -> f32"),
    _op(0xB7, "f64.convert_i32_s", "convert", "i32 -> f64"),
    _op(0xB8, "f64.convert_i32_u", "convert", "i32 -> f64"),
    _op(0xB9, "f64.convert_i64_s", "convert", "i64 -> f64"),
    _op(0xBA, "f64.convert_i64_u", "convert", "i64 -> f64"),
    _op(0xBB, "f64.promote_f32", "convert", "f32 -> f64"),
    _op(0xBC, "i32.reinterpret_f32", "convert", "f32 -> i32"),
    _op(0xBD, "i64.reinterpret_f64", "convert", "f64 -> i64"),
    _op(0xBE, "f32.reinterpret_i32", "convert", "i32 -> f32"),
    _op(0xBF, "f64.reinterpret_i64", "convert", "i64 -> f64"),
    _op(0xC0, "i32.extend8_s", "unary", "i32 -> i32", feature="sign_extension"),
    _op(0xC1, "i32.extend16_s", "unary", "i32 -> i32", feature="sign_extension"),
    _op(0xC2, "i64.extend8_s", "unary", "i64 -> i64", feature="sign_extension"),
    _op(0xC3, "i64.extend16_s", "unary", "i64 -> i64", feature="sign_extension"),
    _op(0xC4, "i64.extend32_s", "unary", "i64 -> i64", feature="sign_extension"),
    _op(0xFC00, "i32.trunc_sat_f32_s", "convert", "f32 -> i32", feature="saturating"),
    _op(0xFC01, "i32.trunc_sat_f32_u", "convert", "f32 -> i32", feature="saturating"),
    _op(0xFC02, "i32.trunc_sat_f64_s", "convert", "f64 -> i32", feature="saturating"),
    _op(0xFC03, "i32.trunc_sat_f64_u", "convert", "f64 -> i32", feature="saturating"),
    _op(0xFC04, "i64.trunc_sat_f32_s", "convert", "f32 -> i64", feature="saturating"),
    _op(0xFC05, "i64.trunc_sat_f32_u", "convert", "f32 -> i64", feature="saturating"),
    _op(0xFC06, "i64.trunc_sat_f64_s", "convert", "f64 -> i64", feature="saturating"),
    _op(0xFC07, "i64.trunc_sat_f64_u", "convert", "f64 -> i64", feature="saturating"),
)

OPS: Final[dict[int, Op]] = {op.code: op for op in _TABLE}
BY_NAME: Final[dict[str, Op]] = {op.name: op for op in _TABLE}

PREFIXES: Final = frozenset({0xFB, 0xFC, 0xFD, 0xFE})
"""First bytes that an unsigned LEB128 number follows, which together are the opcode."""

UNSUPPORTED_OPS: Final[dict[int, str]] = {
    # The first exception handling proposal: try, catch, rethrow, delegate, catch_all
    **dict.fromkeys((0x06, 0x07, 0x09, 0x18, 0x19), "legacy exceptions"),
    # ref.eq
    0xD3: "garbage collection",
}
"""Instructions that exist, but not here: code to feature."""

_VECTOR_GAPS: Final = frozenset(
    (
        *(0x9A, 0xA2, 0xA5, 0xA6, 0xAF, 0xB0, 0xB2, 0xB3, 0xB4, 0xBB),
        *(0xC2, 0xC5, 0xC6, 0xCF, 0xD0, 0xD2, 0xD3, 0xD4, 0xE2, 0xEE),
    )
)

UNSUPPORTED_PREFIXED: Final[dict[tuple[int, int], str]] = {
    # struct.*, array.*, ref.test, ref.cast, br_on_cast*, any.convert_extern, extern.convert_any, ref.i31, i31.get_*
    **{(0xFB, number): "garbage collection" for number in range(0x1F)},
    # i64.add128, i64.sub128, i64.mul_wide_s, i64.mul_wide_u
    **{(0xFC, number): "wide arithmetic" for number in range(0x13, 0x17)},
    **{(0xFD, number): "simd" for number in range(0x100) if number not in _VECTOR_GAPS},
    **{(0xFD, number): "relaxed simd" for number in range(0x100, 0x114)},
    # memory.atomic.notify and wait, atomic.fence, then the atomic loads, stores and read-modify-writes
    **{(0xFE, number): "threads" for number in (*range(0x04), *range(0x10, 0x4F))},
}
"""The same for prefixed ones: (prefix, number) to feature. What is in none of the tables is an illegal opcode."""
