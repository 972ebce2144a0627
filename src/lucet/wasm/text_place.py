"""Places in a text for people: line and column, and the line itself with a caret under the place."""

from __future__ import annotations

import re
from typing import Final

from lucet.errors import LocatedError
from lucet.wasm.text_lexer import Tokens

NEWLINE: Final = re.compile(r"\r\n|\n|\r")
_LONGEST_LINE: Final = 100
"""Characters of a line that are shown; of a longer one the part around the place."""
_LEAD: Final = 40
"""Characters of such a line before the place."""


def point_at(error: LocatedError, tokens: Tokens, index: int) -> None:
    """Give the error the place of a token, and an excerpt."""
    start = tokens.starts[index]
    error.line, error.column = line_and_column(tokens.source, start)
    error.excerpt = excerpt(tokens.source, start, tokens.width(index))


def line_and_column(source: str, start: int) -> tuple[int, int]:
    """Both from 1; columns count characters."""
    begin = _line_start(source, start)
    return sum(1 for _ in NEWLINE.finditer(source, 0, begin)) + 1, start - begin + 1


def excerpt(source: str, start: int, width: int) -> str:
    """The line of a place under its number, and carets under `width` characters of it. Two short lines, whatever the
    text is; characters that a terminal would obey are replaced."""
    begin = _line_start(source, start)
    newline = NEWLINE.search(source, begin)
    end = len(source) if newline is None else newline.start()
    shown_from = begin if end - begin <= _LONGEST_LINE else max(begin, start - _LEAD)
    shown_to = min(end, shown_from + _LONGEST_LINE)
    before = "..." if shown_from > begin else ""
    after = "..." if shown_to < end else ""
    line = "".join(one if one.isprintable() else " " for one in source[shown_from:shown_to])
    number = str(line_and_column(source, start)[0])
    carets = "^" * max(1, min(width, shown_to - start))
    blank = " " * (len(before) + start - shown_from)
    return f" {number} | {before}{line}{after}\n {' ' * len(number)} | {blank}{carets}"


def _line_start(source: str, start: int) -> int:
    # A CR LF is one line end: a place between the two is still on the line.
    return max(source.rfind("\n", 0, start), source.rfind("\r", 0, start)) + 1
