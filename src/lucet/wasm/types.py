"""WebAssembly types, named as in the specification's "Structure / Types"."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NewType

ValType = NewType("ValType", str)
"""A value type in the text format's notation: "i32", "i64", "f32", "f64", "v128", "funcref", "externref"."""

I32: Final = ValType("i32")
I64: Final = ValType("i64")
F32: Final = ValType("f32")
F64: Final = ValType("f64")
V128: Final = ValType("v128")
FUNCREF: Final = ValType("funcref")
EXTERNREF: Final = ValType("externref")

VALTYPE_CODES: Final[dict[int, ValType]] = {
    0x7F: I32,
    0x7E: I64,
    0x7D: F32,
    0x7C: F64,
    0x7B: V128,
    0x70: FUNCREF,
    0x6F: EXTERNREF,
}
"""Encoding in the binary format, which the artifact shares."""

CODES_BY_VALTYPE: Final[dict[ValType, int]] = {valtype: code for code, valtype in VALTYPE_CODES.items()}

REFTYPES: Final = frozenset({FUNCREF, EXTERNREF})


@dataclass(frozen=True)
class FuncType:
    """[params] -> [results]"""

    params: tuple[ValType, ...] = ()
    results: tuple[ValType, ...] = ()

    def __str__(self) -> str:
        return f"[{' '.join(self.params)}] -> [{' '.join(self.results)}]"

    def type_id(self) -> int:
        """The type's structural identity: 64 bits that are equal for equal types in every module.

        Generated code compares these in indirect calls. They are the first 8 bytes of a SHA-256 over the binary
        encoding; the loader refuses a module whose id stands for another type already (a forged collision).
        """
        encoding = bytes(
            [
                0x60,
                *len(self.params).to_bytes(4, "little"),
                *(CODES_BY_VALTYPE[valtype] for valtype in self.params),
                *len(self.results).to_bytes(4, "little"),
                *(CODES_BY_VALTYPE[valtype] for valtype in self.results),
            ]
        )
        return int.from_bytes(hashlib.sha256(encoding).digest()[:8], "little")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """minimum and maximum in pages (memories) or elements (tables)."""

    minimum: int
    maximum: int | None = None


@dataclass(frozen=True, kw_only=True)
class TableType:
    reftype: ValType
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class MemoryType:
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class GlobalType:
    valtype: ValType
    mutable: bool
