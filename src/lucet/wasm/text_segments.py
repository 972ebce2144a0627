"""Element and data segments of the text format, with their many abbreviations, inline in a table or memory too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text_cursor import Cursor
from lucet.wasm.text_encode import Sections, sized, vector
from lucet.wasm.text_instr import Expressions
from lucet.wasm.text_keywords import REFTYPES
from lucet.wasm.text_lexer import Kind
from lucet.wasm.text_types import Spaces, TypeParser

_FUNCREF: Final = REFTYPES["funcref"]
_ELEMKIND_FUNC: Final = b"\x00"

_PASSIVE_OR_DECLARATIVE: Final = 1
_EXPLICIT_INDEX_OR_DECLARATIVE: Final = 2
_EXPRESSIONS: Final = 4
"""The bits of an element segment's flags; a data segment's are the number in the first two."""

_ZERO_OFFSETS: Final = {
    address_64: bytes([BY_NAME[word].code, 0, BY_NAME["end"].code])
    for address_64, word in ((False, "i32.const"), (True, "i64.const"))
}


@dataclass(frozen=True, kw_only=True)
class _Items:
    """An element list: function indices, or expressions of a reference type."""

    reftype: bytes
    expressions: bool
    items: list[bytes]


class Segments:
    """Parses segments at the cursor into the sections."""

    def __init__(
        self, cursor: Cursor, spaces: Spaces, types: TypeParser, expressions: Expressions, sections: Sections
    ) -> None:
        self.cursor = cursor
        self.spaces = spaces
        self.types = types
        self.expressions = expressions
        self.sections = sections

    def define_elem(self) -> None:
        cursor = self.cursor
        cursor.take_id()
        if cursor.take_keyword("declare"):
            flags = _PASSIVE_OR_DECLARATIVE | _EXPLICIT_INDEX_OR_DECLARATIVE
            self.sections.elems.append(_encode_elem(flags, b"", self.elem_list()))
            return
        number_alone = cursor.kind is Kind.NAT
        table = self.use("table")
        offset = self.offset() if table is not None or not self.at_elem_list() else None
        if offset is None:
            self.sections.elems.append(_encode_elem(_PASSIVE_OR_DECLARATIVE, b"", self.elem_list()))
            return
        bare = (table is None or number_alone) and (cursor.at_index() or cursor.kind is Kind.CLOSE)
        self.add_active_elem(table or 0, offset, self.func_indices() if bare else self.elem_list())

    def define_data(self) -> None:
        cursor = self.cursor
        cursor.take_id()
        memory = self.use("memory")
        if memory is None and cursor.kind in (Kind.STRING, Kind.CLOSE):
            self.sections.datas.append(unsigned_leb128(_PASSIVE_OR_DECLARATIVE) + sized(self.strings()))
        else:
            offset = self.offset()
            self.add_active_data(memory or 0, offset, self.strings())

    def inline_elem(self, table: int, reftype: bytes, address_64: bool) -> int:
        """`(elem ...)` within a table; the number of elements."""
        cursor = self.cursor
        cursor.expect_form("elem")
        if cursor.kind is Kind.OPEN:
            items = _Items(reftype=reftype, expressions=True, items=self.item_expressions())
        elif reftype == _FUNCREF:
            items = self.func_indices()
        else:
            # A table of another type takes functions too, but only as expressions.
            indices = self.func_indices().items
            expressions = [_REF_FUNC + index + _END for index in indices]
            items = _Items(reftype=reftype, expressions=True, items=expressions)
        cursor.expect_close()
        self.add_active_elem(table, _ZERO_OFFSETS[address_64], items)
        return len(items.items)

    def inline_data(self, memory: int, address_64: bool) -> int:
        """`(data ...)` within a memory; the number of bytes."""
        self.cursor.expect_form("data")
        content = self.strings()
        self.cursor.expect_close()
        self.add_active_data(memory, _ZERO_OFFSETS[address_64], content)
        return len(content)

    # Parts of segments

    def use(self, word: str) -> int | None:
        """`(table x)` or `(memory x)`; or a number alone, as the first version of the language had it."""
        if self.cursor.kind is Kind.NAT:
            return self.cursor.expect_index(self.spaces.by_word[word])
        if not self.cursor.take_form(word):
            return None
        index = self.cursor.expect_index(self.spaces.by_word[word])
        self.cursor.expect_close()
        return index

    def offset(self) -> bytes:
        return self.wrapped_expression("offset")

    def wrapped_expression(self, word: str) -> bytes:
        """`(word instr*)`, or one folded instruction."""
        if not self.cursor.take_form(word):
            return self.expressions.folded()
        expression = self.expressions.sequence()
        self.cursor.expect_close()
        return expression

    def at_elem_list(self) -> bool:
        return self.cursor.at_keyword("func") or self.types.at_reftype()

    def elem_list(self) -> _Items:
        if self.cursor.take_keyword("func"):
            return self.func_indices()
        reftype = self.types.reftype()
        return _Items(reftype=reftype, expressions=True, items=self.item_expressions())

    def func_indices(self) -> _Items:
        items: list[bytes] = []
        while self.cursor.kind is not Kind.CLOSE:
            items.append(unsigned_leb128(self.cursor.expect_index(self.spaces.funcs)))
        return _Items(reftype=_FUNCREF, expressions=False, items=items)

    def item_expressions(self) -> list[bytes]:
        items: list[bytes] = []
        while self.cursor.kind is not Kind.CLOSE:
            items.append(self.wrapped_expression("item"))
        return items

    def strings(self) -> bytes:
        strings: list[bytes] = []
        while self.cursor.kind is not Kind.CLOSE:
            strings.append(self.cursor.expect_string())
        return b"".join(strings)

    def add_active_elem(self, table: int, offset: bytes, items: _Items) -> None:
        # Without an explicit table, no type is written: it is funcref.
        explicit = table != 0 or items.reftype != _FUNCREF
        flags = _EXPLICIT_INDEX_OR_DECLARATIVE if explicit else 0
        place = unsigned_leb128(table) + offset if explicit else offset
        self.sections.elems.append(_encode_elem(flags, place, items))

    def add_active_data(self, memory: int, offset: bytes, content: bytes) -> None:
        flags = _EXPLICIT_INDEX_OR_DECLARATIVE if memory else 0
        place = unsigned_leb128(memory) + offset if memory else offset
        self.sections.datas.append(unsigned_leb128(flags) + place + sized(content))


_REF_FUNC: Final = bytes([BY_NAME["ref.func"].code])
_END: Final = bytes([BY_NAME["end"].code])


def _encode_elem(flags: int, place: bytes, items: _Items) -> bytes:
    if items.expressions:
        kind = items.reftype if flags else b""
        return unsigned_leb128(flags | _EXPRESSIONS) + place + kind + vector(items.items)
    kind = _ELEMKIND_FUNC if flags else b""
    return unsigned_leb128(flags) + place + kind + vector(items.items)
