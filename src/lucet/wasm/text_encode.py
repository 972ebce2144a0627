"""Writing the binary format: vectors, sections. Always the shortest encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lucet.wasm.leb128 import unsigned_leb128

_MAGIC_AND_VERSION: Final = b"\0asm\1\0\0\0"


def vector(items: Sequence[bytes]) -> bytes:
    return unsigned_leb128(len(items)) + b"".join(items)


def sized(content: bytes) -> bytes:
    return unsigned_leb128(len(content)) + content


def name(text: str) -> bytes:
    return sized(text.encode())


@dataclass(kw_only=True)
class Sections:
    """A module's sections as encoded entries, filled in by the parser."""

    types: list[bytes] = field(default_factory=list)
    imports: list[bytes] = field(default_factory=list)
    funcs: list[bytes] = field(default_factory=list)
    tables: list[bytes] = field(default_factory=list)
    memories: list[bytes] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    tags: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    start: bytes | None = None
    elems: list[bytes] = field(default_factory=list)
    needs_data_count: bool = False
    """Some function body names a data segment, so its validation needs their number."""
    codes: list[bytes] = field(default_factory=list)
    datas: list[bytes] = field(default_factory=list)
    module_name: str | None = None
    func_names: dict[int, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        data_count = unsigned_leb128(len(self.datas)) if self.needs_data_count else None
        return _MAGIC_AND_VERSION + b"".join(
            (
                _section(1, _entries(self.types)),
                _section(2, _entries(self.imports)),
                _section(3, _entries(self.funcs)),
                _section(4, _entries(self.tables)),
                _section(5, _entries(self.memories)),
                _section(13, _entries(self.tags)),
                _section(6, _entries(self.globals)),
                _section(7, _entries(self.exports)),
                _section(8, self.start),
                _section(9, _entries(self.elems)),
                _section(12, data_count),
                _section(10, _entries(self.codes)),
                _section(11, _entries(self.datas)),
                self.name_section(),
            )
        )

    def name_section(self) -> bytes:
        """Specification, "Custom Sections / Name Section": the module's and the functions' identifiers."""
        subsections = b""
        if self.module_name is not None:
            subsections += _section(0, name(self.module_name))
        if self.func_names:
            names = [unsigned_leb128(index) + name(text) for index, text in sorted(self.func_names.items())]
            subsections += _section(1, vector(names))
        return _section(0, name("name") + subsections) if subsections else b""


def _entries(entries: list[bytes]) -> bytes | None:
    return vector(entries) if entries else None


def _section(number: int, content: bytes | None) -> bytes:
    """A section, or subsection, or nothing at all."""
    return b"" if content is None else bytes([number]) + sized(content)


def run_lengths(items: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Equal neighbours, counted."""
    runs: list[tuple[int, bytes]] = []
    for item in items:
        if runs and runs[-1][1] == item:
            runs[-1] = (runs[-1][0] + 1, item)
        else:
            runs.append((1, item))
    return runs
