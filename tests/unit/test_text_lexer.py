"""Tokens of the text format."""

from __future__ import annotations

import time

import pytest

from lucet.wasm.text_lexer import Kind, StringError, tokenize, unescape, unescape_name
from lucet.wasm.text_place import line_and_column


def tokens(source: str) -> list[tuple[str, str]]:
    found = tokenize(source)
    return [(kind.name, text) for kind, text in zip(found.kinds, found.texts, strict=True)]


def test_every_kind_of_token() -> None:
    assert tokens('(func $f "s" 1_0 -0x1F 1.5e-3 nan:0x1 offset=8 ;)') == [
        ("OPEN", "("),
        ("KEYWORD", "func"),
        ("ID", "f"),
        ("STRING", '"s"'),
        ("NAT", "1_0"),
        ("INT", "-0x1F"),
        ("FLOAT", "1.5e-3"),
        ("FLOAT", "nan:0x1"),
        ("KEYWORD", "offset=8"),
        ("RESERVED", ";"),
        ("CLOSE", ")"),
        ("END", ""),
    ]


@pytest.mark.parametrize("word", ["0x", "1x", "0xg", "_1", "1__0", "1_", ".5", "0e", "1e+", "0x1p", "1._0", "+", "@a"])
def test_words_that_are_no_number(word: str) -> None:
    assert tokens(word) == [("RESERVED", word), ("END", "")]


@pytest.mark.parametrize("word", ['0$"l"', '$"l"0', '"a""b"', 'a"b"', '$l"a"', "A"])
def test_words_need_space_between_them(word: str) -> None:
    assert tokens(word) == [("RESERVED", word), ("END", "")]


def test_comments_and_annotations_are_white_space() -> None:
    source = 'a;;b (;\nc(;(; ;);)d(@x (y "(" ;; )\n (@) , ; ]) (; ) ;) )e;;f'
    assert tokens(source) == [("KEYWORD", "a"), ("KEYWORD", "c"), ("KEYWORD", "d"), ("KEYWORD", "e"), ("END", "")]


def test_line_comments_end_at_every_newline() -> None:
    assert tokens(";;x\ra;;x\nb;;x\r\nc") == [*(("KEYWORD", word) for word in "abc"), ("END", "")]


def test_identifiers_in_quotes() -> None:
    assert tokens(r'$"a" $"\61" $"\u{6_1}" $"a b"') == [*3 * [("ID", "a")], ("ID", "a b"), ("END", "")]


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        ('a "b', "unclosed string literal", "1:3"),
        ('"b\n"', "unclosed string literal", "1:1"),
        ('"b\tc"', "illegal control character in string literal", "1:3"),
        ('\n "\\z"', "illegal escape", "2:3"),
        ('"\\u{}"', "illegal escape", "1:2"),
        ("$", "empty identifier", "1:1"),
        ('$""', "empty identifier", "1:1"),
        (r'$"\ff"', "malformed UTF-8 encoding", "1:1"),
        ("(; (; ;)", "unclosed comment", "1:1"),
        ("(@a (b)", "unclosed annotation", "1:1"),
        ('(@a "', "unclosed string literal", "1:5"),
        ("(@)", "empty annotation id", "1:1"),
        ('(@"")', "empty annotation id", "1:1"),
        (r'(@"\ff")', "malformed UTF-8 encoding", "1:1"),
        ("(@a \x01)", "illegal character U+0001", "1:5"),
        ("\r\n\r\rä", "illegal character U+00E4", "4:1"),
    ],
)
def test_errors_end_the_tokens(source: str, message: str, place: str) -> None:
    found = tokenize(source)
    last = len(found.kinds) - 1
    line, column = line_and_column(source, found.starts[last])
    assert (found.kinds[last], found.texts[last], f"{line}:{column}") == (Kind.ERROR, message, place)


def test_parentheses_are_paired() -> None:
    # ( 1 ( 3 ) ) ) ( 8 (
    found = tokenize("( a ( b ) ) ) ( c (")
    assert found.closes == {0: 5, 2: 4, 7: 10, 9: 10}


def test_strings() -> None:
    assert unescape(r'"\00\ff\t\n\r\"\'\\\u{1F600}ä"') == b"\0\xff\t\n\r\"'\\" + "\U0001f600ä".encode()
    with pytest.raises(StringError, match="illegal escape"):
        unescape(r'"\u{d800}"')
    with pytest.raises(StringError, match="illegal escape"):
        unescape(r'"\u{110000}"')
    with pytest.raises(StringError, match="malformed UTF-8 encoding"):
        unescape_name(r'"\c3"')


@pytest.mark.parametrize(
    "unit",
    ["(", ")", "(;", "(@a ", "\\", '"', 'a"', '"a', "1_", "1.", "\\00", '"\\00', "$", "(;;)", "0x1p", ";;", "(@a)"],
)
def test_time_is_linear(unit: str) -> None:
    started = time.process_time()
    tokenize(unit * 300_000)
    tokenize('"' + unit * 300_000)
    assert time.process_time() - started < 5.0
