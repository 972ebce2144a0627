"""The first pass over a module's text: which indices there are and what they are called.

It only looks where the grammar has the names, steps over everything else, and leaves syntax errors to the second pass.
"""

from __future__ import annotations

from lucet.wasm.text_cursor import Cursor, Space
from lucet.wasm.text_lexer import Kind
from lucet.wasm.text_types import Spaces


def declare(cursor: Cursor, spaces: Spaces) -> None:
    """Declares the fields from the cursor to the end of the module; the cursor stays."""
    _Declarations(cursor, spaces).fields(cursor.index)


class _Declarations:
    def __init__(self, cursor: Cursor, spaces: Spaces) -> None:
        self.cursor = cursor
        self.spaces = spaces
        self.defined: Space | None = None
        """The first space with a definition that is not an import: imports come before all of these."""

    def fields(self, index: int) -> None:
        cursor = self.cursor
        while cursor.kinds[index] is Kind.OPEN:
            self.field(index)
            index = cursor.tokens.closes[index] + 1
            if index >= len(cursor.kinds):
                return

    def field(self, index: int) -> None:
        """The field whose parenthesis is at index."""
        word = self.word(index)
        if word == "import":
            # (import "module" "name" (kind $id
            self.imported(index, self.word(index + 4), index + 6)
        elif word in ("type", "elem", "data"):
            self.cursor.declare(self.spaces.by_word[word], index + 2)
        elif word in self.spaces.by_word:
            self.definition(index, self.spaces.by_word[word])

    def imported(self, index: int, word: str, id_index: int) -> None:
        if self.defined is not None:
            raise self.cursor.malformed(f"import after {self.defined.what} definition", index=index)
        if word in self.spaces.by_word:
            self.cursor.declare(self.spaces.by_word[word], id_index)

    def definition(self, index: int, space: Space) -> None:
        """A function, table, memory or global, which its inline abbreviations may make an import or give a segment."""
        cursor = self.cursor
        children = self.children(index + 2 + (cursor.kinds[index + 2] is Kind.ID), cursor.tokens.closes[index], space)
        if "import" in children:
            self.imported(index, self.word(index), index + 2)
            return
        cursor.declare(space, index + 2)
        self.defined = self.defined or space
        if space is self.spaces.tables and "elem" in children:
            self.spaces.elems.count += 1
        if space is self.spaces.memories and "data" in children:
            self.spaces.datas.count += 1

    def children(self, index: int, close: int, space: Space) -> set[str]:
        """The words of a definition's parenthesised children, as far as they may matter."""
        cursor = self.cursor
        words: set[str] = set()
        while index < close:
            if cursor.kinds[index] is Kind.OPEN:
                word = self.word(index)
                if word != "export" and space in (self.spaces.funcs, self.spaces.globals):
                    return words | {word}
                words.add(word)
                index = cursor.tokens.closes[index]
            index += 1
        return words

    def word(self, index: int) -> str:
        """The keyword after the parenthesis at index, if that is what is there."""
        cursor = self.cursor
        if index + 1 >= len(cursor.kinds) or cursor.kinds[index] is not Kind.OPEN:
            return ""
        return cursor.texts[index + 1] if cursor.kinds[index + 1] is Kind.KEYWORD else ""
