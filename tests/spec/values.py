"""Values of the official suite's scripts: constants, and the patterns that results are compared with, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lucet.wasm import types
from lucet.wasm.types import ValType

Json = Mapping[str, Any]

WIDTHS: Final = {"i32": 32, "f32": 32, "i64": 64, "f64": 64, "v128": 128}
_LANES: Final = {"i8": 8, "i16": 16, **WIDTHS}
NULL_TYPES: Final = frozenset({"nullfuncref", "nullexternref"})
"""Of constants and patterns, which have these and the next ones; values have whatever type their function says."""
REFTYPES: Final = frozenset({"funcref", "externref"})


class NotInLanguage(Exception):
    """A command needs a feature that is not implemented; the argument names it."""


def is_reference(valtype: str) -> bool:
    return types.is_ref(ValType(valtype))


@dataclass(frozen=True)
class ExternRef:
    """What the scripts call `ref.extern number`."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number as its bits, or a reference as an object: None is null."""

    valtype: str
    bits: int = 0
    ref: object = None

    def __str__(self) -> str:
        if self.valtype in WIDTHS:
            return f"{self.valtype} {self.bits:#0{WIDTHS[self.valtype] // 4 + 2}x}"
        return f"{self.valtype} {'null' if self.ref is None else self.ref}"


def constant(json: Json) -> Value:
    """An argument of a command."""
    valtype = json["type"]
    if valtype == "v128":
        width = _LANES[json["lane_type"]]
        lanes = [int(lane) & ((1 << width) - 1) for lane in json["value"]]
        return Value(valtype=valtype, bits=sum(lane << width * index for index, lane in enumerate(lanes)))
    if valtype in WIDTHS:
        return Value(valtype=valtype, bits=int(json["value"]) & ((1 << WIDTHS[valtype]) - 1))
    if valtype in REFTYPES and json.get("value") == "null":
        return Value(valtype=valtype)
    if valtype == "externref":
        return Value(valtype=valtype, ref=ExternRef(int(json["value"])))
    raise NotInLanguage(f"argument of type {valtype}")


def matches(pattern: Json, value: Value) -> bool:
    """Whether a result is what a script expects."""
    expected = pattern["type"]
    if expected == "either":
        return any(matches(one, value) for one in pattern["values"])
    if expected == "v128":
        lane_type = pattern["lane_type"]
        width = _LANES[lane_type]
        lanes = [value.bits >> shift & ((1 << width) - 1) for shift in range(0, 128, width)]
        return value.valtype == expected and all(
            _number_matches(lane_type, lane, bits) for lane, bits in zip(pattern["value"], lanes, strict=True)
        )
    if expected in WIDTHS:
        return value.valtype == expected and _number_matches(expected, pattern["value"], value.bits)
    if expected == "refnull":
        return is_reference(value.valtype) and value.ref is None
    if expected in NULL_TYPES:
        return types.matches(ValType(expected), ValType(value.valtype)) and value.ref is None
    if expected in REFTYPES:
        is_one = types.matches(ValType(value.valtype), ValType(expected))
        return is_one and _reference_matches(pattern, value.ref)
    raise NotInLanguage(f"result of type {expected}")


def _number_matches(valtype: str, pattern: str, bits: int) -> bool:
    width = _LANES[valtype]
    sign = 1 << (width - 1)
    # The canonical NaN has only the first bit of the mantissa set; an arithmetic one has that bit and may have others.
    canonical = 0x7FC00000 if width == 32 else 0x7FF8 << 48
    if pattern == "nan:canonical":
        return bits & ~sign == canonical
    if pattern == "nan:arithmetic":
        return bits & canonical == canonical
    return bits == int(pattern) & ((1 << width) - 1)


def _reference_matches(pattern: Json, ref: object) -> bool:
    wanted = pattern.get("value")
    if wanted == "null":
        return ref is None
    if ref is None:
        return False
    return wanted is None or pattern["type"] == "funcref" or ref == ExternRef(int(wanted))
