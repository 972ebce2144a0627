"""Errors about a text's binary point into the text; every instruction is found where it was written."""

from __future__ import annotations

import pickle

import pytest

import lucet
from lucet.errors import Invalid, LocatedError, Malformed
from lucet.wasm.check import check_module
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.opcodes import OPS
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_map import TextMap, located_in
from lucet.wasm.text_place import excerpt

FOLDED = """(module $names
  (import "a" "b" (func))
  (memory (export "memory") 1)
  (table 3 funcref)
  (func $first (param i32) (result i32) (local $x i64) (local f32 f32)
    (block $out
      (if (i32.eqz (local.get 0))
        (then (br $out))
        (else nop)))
    (loop
      local.get $x
      drop)
    if (result i32)
      i32.const 1000000
    else
      i32.const 2
    end)
  (func $second unreachable))
"""


def located(text: str) -> LocatedError:
    with pytest.raises(LocatedError) as caught, located_in(text):
        check_module(text_to_binary(text))
    return caught.value


def test_every_instruction_is_found_where_it_was_written() -> None:
    module = decode_module(text_to_binary(FOLDED))
    places = TextMap(FOLDED)
    lines = FOLDED.splitlines()
    seen = 0
    for index in (1, 2):
        for code, offset, _ in decode_code(module, index).instrs:
            place = places.place(offset)
            assert place is not None
            written = lines[place[0] - 1][place[1] - 1 :]
            name = OPS[code].name
            # The end of a folded construct is its parenthesis, its else the word in `(else`.
            assert written.startswith(name) or (name == "end" and written.startswith(")")), (name, place)
            seen += 1
    assert seen == 21


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(func (result i32)\n)", "type mismatch: end expects i32, found nothing in function 0 at 2:1"),
        ("(func)\n (func (drop))", "type mismatch: drop expects a value, found nothing in function 1 at 2:9"),
        ("(func) (func\n (call 7))", "unknown function 7 in function 1 at 2:3"),
        ("(func)\n(global i32 (i64.const 0))", "type mismatch: the expression yields [i64], not [i32] at 2:1"),
        ("(table 1 funcref)\n(elem (i32.const 0) 7)", "unknown function 7 at 2:1"),
        ("\n (memory 70000)", "memory size must be at most 65536 pages (4GiB)"),
        ('(func)\n(export "a" (func 0))\n(export "a" (func 0))', "duplicate export name 'a' at 3:1"),
        ('(func $f (import "a" "b")) (func (unknown))', "unknown operator unknown at 1:35"),
    ],
)
def test_errors_say_line_and_column(text: str, expected: str) -> None:
    assert str(located(text)) == expected


def test_an_error_has_its_place_and_an_excerpt_of_it() -> None:
    with pytest.raises(Invalid) as caught:
        lucet.compile("(module\n  (func (f32.neg (i32.const 1))))", workers=1)
    error = caught.value
    assert (error.line, error.column) == (2, 10)
    assert error.excerpt == " 2 |   (func (f32.neg (i32.const 1))))\n   |          ^^^^^^^"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.excerpt) == (str(error), error.excerpt)


def test_bytes_are_a_binary_even_if_they_hold_a_text() -> None:
    with pytest.raises(Malformed, match="magic header not detected"):
        lucet.compile(b"(module)")
    assert lucet.compile("(module)", workers=1)[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        ("abc", 1, (" 2 | abc", "   |  ^")),
        ("", 0, (" 2 | ", "   | ^")),
        ("a\tb\x1b\u202ec", 5, (" 2 | a b  c", "   |      ^")),
        ("x" * 90 + "!" + "y" * 90, 90, (" 2 | ..." + "x" * 40 + "!" + "y" * 59 + "...", "   | " + " " * 43 + "^")),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_excerpts_are_short_and_printable(line: str, start: int, expected: tuple[str, str], newline: str) -> None:
    source = f"one{newline}{line}{newline}three"
    assert excerpt(source, len(f"one{newline}") + start, 1) == "\n".join(expected)


def test_an_excerpt_underlines_no_more_than_it_shows() -> None:
    first, second = excerpt("(func " + "a" * 100_000, 6, 100_000).splitlines()
    assert len(second) <= len(first) <= 120
