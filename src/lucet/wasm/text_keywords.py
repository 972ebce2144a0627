"""The text format's words: which exist, and which belong to a feature that is not implemented.

A word that is in none of these tables nor an instruction's name is an "unknown operator"; a known one in the wrong
place is an "unexpected token"; an instruction or type of a missing feature, where one could stand, is Unsupported.
"""

from __future__ import annotations

from typing import Final

from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.types import CODES_BY_VALTYPE

HEAPTYPES: Final[dict[str, bytes]] = {
    "func": b"\x70",
    "extern": b"\x6f",
    "any": b"\x6e",
    "eq": b"\x6d",
    "i31": b"\x6c",
    "struct": b"\x6b",
    "array": b"\x6a",
    "exn": b"\x69",
    "none": b"\x71",
    "noextern": b"\x72",
    "nofunc": b"\x73",
    "noexn": b"\x74",
}
"""Abstract heap types and their encoding, which is also the encoding of the nullable references to them."""

REFTYPES: Final[dict[str, bytes]] = {
    **{f"{heaptype}ref": code for heaptype, code in HEAPTYPES.items() if not heaptype.startswith("no")},
    "nullref": HEAPTYPES["none"],
    "nullexternref": HEAPTYPES["noextern"],
    "nullfuncref": HEAPTYPES["nofunc"],
    "nullexnref": HEAPTYPES["noexn"],
}

VALTYPES: Final[dict[str, bytes]] = {
    **REFTYPES,
    **{valtype: bytes([code]) for valtype, code in CODES_BY_VALTYPE.items()},
}

REF_NULL: Final = b"\x63"
REF: Final = b"\x64"
"""First bytes of `(ref null ht)` and `(ref ht)`."""

BLOCKS: Final = frozenset({"block", "loop", "if", "try", "try_table"})

CATCHES: Final = ("catch", "catch_ref", "catch_all", "catch_all_ref")
"""Clauses of try_table, in the order of their codes."""

_STRUCTURE: Final = """
    array binary catch catch_all catch_all_ref catch_ref data declare definition elem export extern field final
    func global i16 i8 import instance item local memory module mut nan:arithmetic nan:canonical null offset pagesize
    param quote rec ref result script shared start struct sub table tag then type
    assert_exception assert_exhaustion assert_invalid assert_malformed assert_return assert_trap assert_unlinkable
    do either f32x4 f64x2 get i16x8 i32x4 i64x2 i8x16 input invoke output ref.array ref.extern ref.host ref.struct
    register
"""


def _prefixed(prefix: str, names: str | tuple[str, ...]) -> list[str]:
    return [prefix + name for name in (names.split() if isinstance(names, str) else names)]


_GC: Final = (
    *("any.convert_extern", "br_on_cast", "br_on_cast_fail", "extern.convert_any"),
    *_prefixed("array.", "copy fill get get_s get_u init_data init_elem len set"),
    *_prefixed("array.new", ("", "_data", "_default", "_elem", "_fixed")),
    *("i31.get_s", "i31.get_u", "ref.cast", "ref.eq", "ref.i31", "ref.test"),
    *_prefixed("struct.", "get get_s get_u new new_default set"),
)

_FEATURES: Final = {
    "garbage collection": _GC,
}

UNSUPPORTED_INSTRS: Final[dict[str, str]] = {
    word: feature for feature, words in _FEATURES.items() for word in words if word not in BY_NAME
}
"""Instructions that exist, but not here: name to feature."""

UNSUPPORTED_FORMS: Final[dict[str, str]] = {
    "array": "garbage collection",
    "rec": "garbage collection",
    "struct": "garbage collection",
    "sub": "garbage collection",
}
"""Words that introduce a missing feature outside function bodies."""

INSTRS: Final = frozenset(BY_NAME) - {"select_t"}
"""The text format writes `select` for both instructions of that name."""

KNOWN: Final = frozenset((*INSTRS, *UNSUPPORTED_INSTRS, *VALTYPES, *HEAPTYPES, *_STRUCTURE.split()))
