"""Reading what is to be deployed from files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lucet.errors import LucetError

ASSETS: Final = "assets/"
"""The folder whose files are served in front of the guest."""
_SUFFIXES: Final = {".wasm": "wasm", ".wat": "text", ".c": "c", ".rs": "rust", ".ts": "assemblyscript"}


def read_sources(path: Path) -> tuple[str, dict[str, bytes]]:
    """The kind and the files of a module, a source file, or a directory with one and assets/. LucetError, OSError."""
    if path.is_file():
        kind = _SUFFIXES.get(path.suffix)
        if kind is None:
            raise LucetError(f"{path}: is none of {', '.join(_SUFFIXES)}")
        return kind, {path.name: path.read_bytes()}
    files = {}
    for one in sorted(path.rglob("*")):
        relative = one.relative_to(path)
        if one.is_file() and not any(part.startswith(".") or part == "node_modules" for part in relative.parts):
            files[relative.as_posix()] = one.read_bytes()
    code = [name for name in files if not name.startswith(ASSETS)]
    kinds = [kind for name in code if (kind := _SUFFIXES.get(Path(name).suffix)) is not None]
    if not kinds:
        raise LucetError(f"{path}: has no file that is one of {', '.join(_SUFFIXES)}")
    return kinds[0], files
