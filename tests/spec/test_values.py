"""The runner's patterns for values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.spec.values import ExternRef, NotInLanguage, Value, constant, matches


def number(valtype: str, bits: int) -> Value:
    return Value(valtype=valtype, bits=bits)


@pytest.mark.parametrize(
    ("json", "value"),
    [
        ({"type": "i32", "value": "-1"}, number("i32", 0xFFFFFFFF)),
        ({"type": "i64", "value": "-2"}, number("i64", 0xFFFFFFFFFFFFFFFE)),
        ({"type": "f32", "value": "2141192192"}, number("f32", 0x7FA00000)),
        ({"type": "externref", "value": "null"}, Value(valtype="externref")),
        ({"type": "externref", "value": "7"}, Value(valtype="externref", ref=ExternRef(7))),
        ({"type": "funcref", "value": "null"}, Value(valtype="funcref")),
    ],
)
def test_constants(json: Any, value: Value) -> None:
    assert constant(json) == value


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ({"type": "i32", "value": "-1"}, number("i32", 0xFFFFFFFF), True),
        ({"type": "i32", "value": "-1"}, number("i32", 0xFFFFFFFE), False),
        ({"type": "i32", "value": "1"}, number("i64", 1), False),
        ({"type": "f64", "value": "9223372036854775808"}, number("f64", 1 << 63), True),
        ({"type": "f64", "value": "9223372036854775808"}, number("f64", 0), False),
        ({"type": "f32", "value": "nan:canonical"}, number("f32", 0xFFC00000), True),
        ({"type": "f32", "value": "nan:canonical"}, number("f32", 0x7FC00001), False),
        ({"type": "f32", "value": "nan:arithmetic"}, number("f32", 0xFFC00001), True),
        ({"type": "f32", "value": "nan:arithmetic"}, number("f32", 0x7FA00000), False),
        ({"type": "f32", "value": "nan:arithmetic"}, number("f32", 0x7F800000), False),
        ({"type": "f64", "value": "nan:canonical"}, number("f64", 0x7FF8 << 48), True),
        ({"type": "f64", "value": "nan:canonical"}, number("f64", 0x7FF8 << 48 | 1), False),
        ({"type": "f64", "value": "nan:arithmetic"}, number("f64", 0xFFFC << 48), True),
        ({"type": "f64", "value": "nan:arithmetic"}, number("f64", 0x7FF4 << 48), False),
        ({"type": "externref", "value": "3"}, Value(valtype="externref", ref=ExternRef(3)), True),
        ({"type": "externref", "value": "3"}, Value(valtype="externref", ref=ExternRef(4)), False),
        ({"type": "externref", "value": "null"}, Value(valtype="externref", ref=ExternRef(0)), False),
        ({"type": "externref"}, Value(valtype="externref", ref=ExternRef(0)), True),
        ({"type": "externref"}, Value(valtype="externref"), False),
        ({"type": "funcref"}, Value(valtype="funcref", ref=object()), True),
        ({"type": "funcref"}, Value(valtype="funcref"), False),
        ({"type": "funcref", "value": "null"}, Value(valtype="externref"), False),
        ({"type": "refnull"}, Value(valtype="externref"), True),
        ({"type": "refnull"}, Value(valtype="funcref", ref=object()), False),
        ({"type": "refnull"}, number("i32", 0), False),
        ({"type": "nullfuncref"}, Value(valtype="externref"), False),
        (
            {"type": "either", "values": [{"type": "i32", "value": "1"}, {"type": "i32", "value": "2"}]},
            number("i32", 2),
            True,
        ),
    ],
)
def test_patterns(pattern: Any, value: Value, expected: bool) -> None:
    assert matches(pattern, value) is expected


def test_types_of_missing_features_are_no_failure() -> None:
    with pytest.raises(NotInLanguage, match="anyref"):
        constant({"type": "anyref", "value": "1"})
    with pytest.raises(NotInLanguage, match="anyref"):
        matches({"type": "anyref"}, number("i32", 0))
