"""A place in a text's tokens, and the index spaces that its identifiers name: what the rest of the text parser uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lucet.errors import Malformed, Unsupported
from lucet.wasm import text_numbers
from lucet.wasm.text_keywords import KNOWN
from lucet.wasm.text_lexer import Kind, StringError, Tokens, unescape, unescape_name
from lucet.wasm.text_place import point_at

_MEMARG_WORD: Final = re.compile(r"(?:offset|align)=(?:0x[0-9a-fA-F]++(?:_[0-9a-fA-F]++)*|[0-9]++(?:_[0-9]++)*)")
_LONGEST_SHOWN: Final = 60
"""Of a token in a message, in characters."""


class Space:
    """An index space: the names of its first indices, and how many there are."""

    def __init__(self, what: str) -> None:
        self.what = what
        """As in the suite's "unknown function" and "duplicate function"."""
        self.names: dict[str, int] = {}
        self.count = 0


class Cursor:
    """Reads tokens one after the other. take_* and expect_* step over what they return, at_* only look."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.kinds = tokens.kinds
        self.texts = tokens.texts
        self.index = 0

    @property
    def kind(self) -> Kind:
        return self.kinds[self.index]

    @property
    def text(self) -> str:
        return self.texts[self.index]

    def at_keyword(self, word: str) -> bool:
        return self.kinds[self.index] is Kind.KEYWORD and self.texts[self.index] == word

    def at_form(self, word: str) -> bool:
        """At `(word`."""
        after = self.index + 1
        return self.kind is Kind.OPEN and self.kinds[after] is Kind.KEYWORD and self.texts[after] == word

    def at_index(self) -> bool:
        return self.kinds[self.index] in (Kind.NAT, Kind.ID)

    def take_keyword(self, word: str) -> bool:
        found = self.at_keyword(word)
        self.index += found
        return found

    def take_form(self, word: str) -> bool:
        found = self.at_form(word)
        self.index += 2 * found
        return found

    def take_id(self) -> str | None:
        if self.kind is not Kind.ID:
            return None
        self.index += 1
        return self.texts[self.index - 1]

    def take_close(self) -> bool:
        found = self.kind is Kind.CLOSE
        self.index += found
        return found

    def expect_open(self) -> None:
        if self.kind is not Kind.OPEN:
            raise self.unexpected()
        self.index += 1

    def expect_form(self, word: str) -> None:
        self.expect_open()
        if not self.take_keyword(word):
            raise self.unexpected()

    def expect_close(self) -> None:
        if not self.take_close():
            raise self.unexpected()

    def expect_string(self) -> bytes:
        if self.kind is not Kind.STRING:
            raise self.unexpected()
        try:
            value = unescape(self.text)
        except StringError as error:
            raise self.malformed(str(error)) from error
        self.index += 1
        return value

    def expect_name(self) -> str:
        """A string that is UTF-8."""
        if self.kind is not Kind.STRING:
            raise self.unexpected()
        try:
            value = unescape_name(self.text)
        except StringError as error:
            raise self.malformed(str(error)) from error
        self.index += 1
        return value

    def expect_index(self, space: Space) -> int:
        """A number as it is, or the index that an identifier names."""
        if self.kind is not Kind.ID:
            return self.expect_unsigned(32)
        index = space.names.get(self.text)
        if index is None:
            raise self.malformed(f"unknown {space.what}", f"${self.text}")
        self.index += 1
        return index

    def expect_unsigned(self, bits: int) -> int:
        if self.kind is not Kind.NAT:
            raise self.unexpected()
        try:
            value = text_numbers.unsigned(self.text, bits)
        except text_numbers.OutOfRange as error:
            raise self.malformed(f"i{bits} constant out of range") from error
        self.index += 1
        return value

    def expect_signed(self, bits: int) -> int:
        if self.kind not in (Kind.NAT, Kind.INT):
            raise self.unexpected()
        try:
            value = text_numbers.signed(self.text, bits)
        except text_numbers.OutOfRange as error:
            raise self.malformed("constant out of range", self.text) from error
        self.index += 1
        return value

    def expect_float_bits(self, bits: int) -> int:
        if self.kind not in (Kind.NAT, Kind.INT, Kind.FLOAT):
            raise self.unexpected()
        try:
            value = text_numbers.float_bits(self.text, bits)
        except text_numbers.OutOfRange as error:
            raise self.malformed("constant out of range", self.text) from error
        self.index += 1
        return value

    def take_memarg_word(self, word: str) -> int | None:
        """The number in `word=number`, which is one token."""
        if self.kind is not Kind.KEYWORD or not self.text.startswith(f"{word}="):
            return None
        if not _MEMARG_WORD.fullmatch(self.text):
            raise self.unexpected()
        try:
            value = text_numbers.unsigned(self.text.partition("=")[2], 64)
        except text_numbers.OutOfRange as error:
            raise self.malformed("i64 constant out of range") from error
        self.index += 1
        return value

    def declare(self, space: Space, index: int) -> None:
        """The next index of the space; the token at `index` is its name if it is an identifier."""
        if self.kinds[index] is Kind.ID:
            name = self.texts[index]
            if name in space.names:
                raise self.malformed(f"duplicate {space.what}", f"${name}", index=index)
            space.names[name] = space.count
        space.count += 1

    def unexpected(self, unsupported: Mapping[str, str] | None = None) -> Malformed | Unsupported:
        """The error for the token at the cursor. unsupported: words of missing features that could stand here."""
        text = self.text
        match self.kind:
            case Kind.ERROR:
                return self.malformed(text)
            case Kind.END:
                return self.malformed("unexpected token", "(end of text)")
            case Kind.RESERVED:
                return self.malformed("unknown operator", text)
            case Kind.ID:
                return self.malformed("unexpected token", f"${text}")
            case Kind.KEYWORD if unsupported is not None and text in unsupported:
                return self.unsupported(unsupported[text])
            case Kind.KEYWORD if text not in KNOWN and not _MEMARG_WORD.fullmatch(text):
                return self.malformed("unknown operator", text)
        return self.malformed("unexpected token", text)

    def malformed(self, words: str, detail: str = "", *, index: int | None = None) -> Malformed:
        shown = detail if len(detail) <= _LONGEST_SHOWN else detail[:_LONGEST_SHOWN] + "..."
        error = Malformed(f"{words} {shown}" if shown else words)
        point_at(error, self.tokens, self.index if index is None else index)
        return error

    def unsupported(self, feature: str) -> Unsupported:
        error = Unsupported(f"unsupported feature: {feature} ({self.text})")
        point_at(error, self.tokens, self.index)
        return error
