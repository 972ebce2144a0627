"""WebAssembly types, named as in the specification's "Structure / Types"."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NewType

from lucet.abi.tables import CONSTANTS

ValType = NewType("ValType", str)
"""A value type in the text format's notation.

Numbers and vectors are "i32", "i64", "f32", "f64" and "v128". Nullable references to abstract heap types have their
short names: "funcref", "externref", "exnref", "nullfuncref", "nullexternref", "nullexnref"; those that cannot be null
are "(ref func)" and so on. References to functions of one type are "(ref #D)" and "(ref null #D)", where D is the
type's type_id in 16 hexadecimal digits, so that they are equal in every module, however deep the types are nested.
Within its own definition, a type refers to itself as "#rec.0", as the specification does.
"""

I32: Final = ValType("i32")
I64: Final = ValType("i64")
F32: Final = ValType("f32")
F64: Final = ValType("f64")
V128: Final = ValType("v128")
FUNCREF: Final = ValType("funcref")
EXTERNREF: Final = ValType("externref")
EXNREF: Final = ValType("exnref")
NULLFUNCREF: Final = ValType("nullfuncref")
NULLEXTERNREF: Final = ValType("nullexternref")
NULLEXNREF: Final = ValType("nullexnref")

VALTYPE_CODES: Final[dict[int, ValType]] = {
    0x7F: I32,
    0x7E: I64,
    0x7D: F32,
    0x7C: F64,
    0x7B: V128,
    0x70: FUNCREF,
    0x6F: EXTERNREF,
    0x69: EXNREF,
    0x73: NULLFUNCREF,
    0x72: NULLEXTERNREF,
    0x74: NULLEXNREF,
}
"""Encoding in the binary format, which the artifact shares."""

CODES_BY_VALTYPE: Final[dict[ValType, int]] = {valtype: code for code, valtype in VALTYPE_CODES.items()}

NUMTYPES: Final = frozenset({I32, I64, F32, F64, V128})
"""Number and vector types: what is no reference."""

_HEAP_TYPES: Final[dict[ValType, str]] = {
    FUNCREF: "func",
    EXTERNREF: "extern",
    EXNREF: "exn",
    NULLFUNCREF: "nofunc",
    NULLEXTERNREF: "noextern",
    NULLEXNREF: "noexn",
}
"""Of the short names."""
_SHORT_NAMES: Final = {heap: valtype for valtype, heap in _HEAP_TYPES.items()}
_BOTTOMS: Final = {"func": "nofunc", "extern": "noextern", "exn": "noexn"}
_BOTTOM_HEAP: Final = "bot"
"""Below every heap type: only the validator has such references, in unreachable code."""
_SELF: Final = "#rec.0"
_LONG: Final = re.compile(r"\(ref (null )?(#[0-9a-f]{16}|#rec\.0|func|extern|exn|nofunc|noextern|noexn|bot)\)")

BOTTOM_REF: Final = ValType(f"(ref {_BOTTOM_HEAP})")
"""Matches every reference type."""
_BELOW_ANY_FUNCTION: Final = frozenset({NULLFUNCREF, ValType("(ref nofunc)"), BOTTOM_REF})
"""What matches `(ref null $t)` for every $t."""


def is_ref(valtype: ValType) -> bool:
    return valtype not in NUMTYPES


def is_valtype(text: str) -> bool:
    """Whether a ValType may be made of it."""
    return text in CODES_BY_VALTYPE or (_LONG.fullmatch(text) is not None and text != BOTTOM_REF)


def ref_type(heap: str, *, nullable: bool) -> ValType:
    """heap: "func", "nofunc", ... or "#D"."""
    if nullable:
        return _SHORT_NAMES[heap] if heap in _SHORT_NAMES else ValType(f"(ref null {heap})")
    return ValType(f"(ref {heap})")


def heap_type(reftype: ValType) -> str:
    """The reverse of ref_type, but for whether it is nullable. ValueError if it is no reference type."""
    return _parts(reftype)[0]


def is_nullable(reftype: ValType) -> bool:
    return _parts(reftype)[1]


def _parts(reftype: ValType) -> tuple[str, bool]:
    # Not by the regular expression: a hostile module may have a million types, each of which is looked at once.
    if reftype.startswith("(ref "):
        return (reftype[10:-1], True) if reftype.startswith("null ", 5) else (reftype[5:-1], False)
    if reftype in _HEAP_TYPES:
        return _HEAP_TYPES[reftype], True
    raise ValueError(f"not a reference type: {reftype!r}")


def is_concrete(valtype: ValType) -> bool:
    """Whether it is a reference to functions of one type."""
    return valtype.startswith(("(ref #", "(ref null #"))


def is_funcref(valtype: ValType) -> bool:
    """Whether its values are functions, or null."""
    return is_ref(valtype) and (heap_type(valtype) in ("func", "nofunc") or is_concrete(valtype))


def defaultable(valtype: ValType) -> bool:
    """Whether a local or a table of this type may be left without an initial value."""
    return valtype in CODES_BY_VALTYPE or is_nullable(valtype)


def non_null(reftype: ValType) -> ValType:
    return ref_type(heap_type(reftype), nullable=False)


def nullable(reftype: ValType) -> ValType:
    return ref_type(heap_type(reftype), nullable=True)


def matches(sub: ValType, sup: ValType) -> bool:
    """Whether `sub` is `sup` or a subtype of it: specification, "Validation / Matching"."""
    if sub == sup:
        return True
    # What a hostile module can have any number of is not for a cache.
    if sup.startswith("(ref null #"):
        return sub in _BELOW_ANY_FUNCTION or (sub.startswith("(ref #") and sub[5:] == sup[10:])
    return _others_match(sub, sup)


@lru_cache(maxsize=4096)
def _others_match(sub: ValType, sup: ValType) -> bool:
    if not is_ref(sub) or not is_ref(sup):
        return False
    (sub_heap, sub_nullable), (sup_heap, sup_nullable) = _parts(sub), _parts(sup)
    return (sup_nullable or not sub_nullable) and _heap_matches(sub_heap, sup_heap)


def _heap_matches(sub: str, sup: str) -> bool:
    if sub in (sup, _BOTTOM_HEAP):
        return True
    if sup.startswith("#"):
        return sub == _BOTTOMS["func"]
    return sub == _BOTTOMS.get(sup) or (sup == "func" and sub.startswith("#"))


@dataclass(frozen=True)
class FuncType:
    """[params] -> [results]. Equal types have equal FuncTypes: a type that refers to itself does so as "#rec.0"."""

    params: tuple[ValType, ...] = ()
    results: tuple[ValType, ...] = ()

    def __str__(self) -> str:
        return f"[{' '.join(self.params)}] -> [{' '.join(self.results)}]"

    def type_id(self) -> int:
        """The type's structural identity: 64 bits that are equal for equal types in every module.

        Generated code compares these in indirect calls. They are the first 8 bytes of a SHA-256 over an encoding that
        is the binary format's but for counts and references; the decoder and the loader refuse a module in which an id
        stands for two types (a forged collision).
        """
        return self._type_id

    @cached_property
    def _type_id(self) -> int:
        encoding = b"".join(
            (
                b"\x60",
                len(self.params).to_bytes(4, "little"),
                *map(_encoding, self.params),
                len(self.results).to_bytes(4, "little"),
                *map(_encoding, self.results),
            )
        )
        return int.from_bytes(hashlib.sha256(encoding).digest()[:8], "little")

    def ref(self, *, nullable: bool = False) -> ValType:
        """The type of references to functions of this type."""
        return ref_type(f"#{self.type_id():016x}", nullable=nullable)

    @cached_property
    def unrolled(self) -> FuncType:
        """With its own type_id for "#rec.0", as values see it. Not to compare: other types may unroll to the same."""
        if not any(_SELF in valtype for valtype in (*self.params, *self.results)):
            return self
        heap = f"#{self.type_id():016x}"
        params = (ValType(valtype.replace(_SELF, heap)) for valtype in self.params)
        return FuncType(tuple(params), tuple(ValType(valtype.replace(_SELF, heap)) for valtype in self.results))


def _encoding(valtype: ValType) -> bytes:
    code = CODES_BY_VALTYPE.get(valtype)
    if code is not None:
        return bytes([code])
    heap, is_null = _parts(valtype)
    flag = 0 if is_null else CONSTANTS["LUCET_REF_NON_NULL"]
    if heap == _SELF:
        return bytes([_SELF_CODE | flag])
    if heap.startswith("#"):
        return bytes([CONSTANTS["LUCET_REF_CONCRETE"] | flag]) + int(heap[1:], 16).to_bytes(8, "little")
    return bytes([CODES_BY_VALTYPE[_SHORT_NAMES[heap]] | flag])


_SELF_CODE: Final = 0x62
"""A reference to the type itself, of which its id does not depend."""


def valtype_code(valtype: ValType) -> tuple[int, int]:
    """(code, type id) as the artifact has them; the id is 0 if the type is not concrete."""
    encoding = _encoding(valtype)
    return encoding[0], int.from_bytes(encoding[1:], "little")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """minimum and maximum in pages (memories) or elements (tables); index_type is that of addresses or indices."""

    minimum: int
    maximum: int | None = None
    index_type: ValType = I32


@dataclass(frozen=True, kw_only=True)
class TableType:
    reftype: ValType
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class MemoryType:
    limits: Limits
    shared: bool = False
    page_size_log2: int = 16
    """0 or 16 in a valid module: pages of 1 byte or 64 KiB."""

    @property
    def minimum_size(self) -> int:
        """Bytes."""
        return self.limits.minimum << self.page_size_log2


@dataclass(frozen=True, kw_only=True)
class GlobalType:
    valtype: ValType
    mutable: bool


@dataclass(frozen=True, kw_only=True)
class TagType:
    """What an exception with the tag carries: the parameters of a function type without results."""

    functype: FuncType
