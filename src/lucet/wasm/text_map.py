"""Where in a text something in its binary came from. Made when there is something to say, by parsing the text again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lucet.errors import LocatedError
from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.reader import Reader
from lucet.wasm.text import Parsed, parse
from lucet.wasm.text_place import line_and_column, point_at

_SECTION_LISTS: Final = {
    1: "types",
    2: "imports",
    3: "funcs",
    4: "tables",
    5: "memories",
    6: "globals",
    7: "exports",
    9: "elems",
    10: "codes",
    11: "datas",
    13: "tags",
}
"""Section -> the list of its entries in text_encode.Sections."""
_CODE_SECTION: Final = 10
_HEADER_SIZE: Final = 8


class TextMap:
    """From offsets in a text's binary to places in the text: of an instruction in a body, of a field elsewhere."""

    def __init__(self, text: str) -> None:
        """The text must parse."""
        self._parsed = parse(text, trace=True)
        rows = sorted(_rows(self._parsed))
        self._offsets = [offset for offset, _ in rows]
        self._tokens = [token for _, token in rows]
        self._funcs = self._parsed.trace.fields.get("codes", [])

    def place(self, offset: int) -> tuple[int, int] | None:
        """Line and column, from 1, of what is at an offset of the binary."""
        token = self._token(offset)
        tokens = self._parsed.tokens
        return None if token is None else line_and_column(tokens.source, tokens.starts[token])

    def locate(self, error: LocatedError) -> None:
        """Give an error about the binary its place in the text, if it has one."""
        token = None
        if error.offset is not None:
            token = self._token(error.offset)
        elif error.function is not None:
            defined = error.function - self._parsed.imported_funcs
            token = self._funcs[defined] if 0 <= defined < len(self._funcs) else None
        if token is not None:
            point_at(error, self._parsed.tokens, token)

    def _token(self, offset: int) -> int | None:
        row = bisect_right(self._offsets, offset)
        return self._tokens[row - 1] if row else None


@contextmanager
def located_in(text: str | None) -> Iterator[None]:
    """Errors about the binary that `text` gave are given their places in it; None: they are left as they are."""
    try:
        yield
    except LocatedError as error:
        if text is not None and error.line is None:
            TextMap(text).locate(error)
        raise


def _rows(parsed: Parsed) -> Iterator[tuple[int, int]]:
    """(offset in the binary, token) of every entry of a section and every instruction of a body."""
    reader = Reader(parsed.binary)
    reader.take(_HEADER_SIZE)
    while reader.remaining:
        section = reader.byte()
        size = reader.u32()
        start = reader.offset
        reader.take(size)
        name = _SECTION_LISTS.get(section, "")
        entries: list[bytes] = getattr(parsed.sections, name, [])
        offset = start + len(unsigned_leb128(len(entries)))
        for index, (entry, token) in enumerate(zip(entries, parsed.trace.fields.get(name, []), strict=False)):
            yield offset, token
            if section == _CODE_SECTION:
                body, instrs = parsed.trace.bodies[index]
                code = offset + len(entry) - body
                yield from ((code + position, one) for position, one in instrs)
            offset += len(entry)
