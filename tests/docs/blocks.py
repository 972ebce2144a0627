"""The fenced blocks of documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands after the opening fence, the text, the line of its first line, the heading above."""

    language: str
    text: str
    line: int
    section: str


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    found: list[Block] = []
    section, language, start = "", None, 0
    lines = document.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"```(.*)\n", line)
        if fence and language is None:
            language, start = fence[1], number + 1
        elif fence:
            found.append(Block(str(language), "".join(lines[start:number]), start + 1, section))
            language = None
        elif language is None and line.startswith("#"):
            section = line.lstrip("#").strip()
    assert language is None, f"{document}: a block is not closed"
    return found


def only(document: Path, language: str) -> str:
    """The text of the only block in the language."""
    (block,) = [block for block in blocks(document) if block.language == language]
    return block.text
